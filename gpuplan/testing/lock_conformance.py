"""What every state backend promises of its lock; part of `BackendConformance`."""

import asyncio
from dataclasses import replace

import pytest

from gpuplan.core.errors import StateError, StateLocked, StateStale
from gpuplan.core.state import Entry
from gpuplan.state.lock import LEASE
from gpuplan.testing.backend_place import BackendPlace, Place, PlaceClock
from gpuplan.testing.state_samples import asks, begun, fresh, noted


class LockConformance(BackendPlace):
    def test_second_lock_names_the_holder(self, place: Place, clock: PlaceClock) -> None:
        async def scenario() -> None:
            held = await place(clock).lock(asks(clock, "destroy"))
            with pytest.raises(StateLocked) as caught:
                await place(clock).lock(asks(clock))

            (finding,) = caught.value.diagnostics
            assert f"`destroy` of {held.who}@{held.host} holds the state" == finding.summary
            assert (f"gpuplan unlock {held.id}",) == finding.commands
            assert held == await place(clock).holder()

        clock.run(scenario())

    def test_released_lock_is_free_and_its_fence_never_comes_again(self, place: Place, clock: PlaceClock) -> None:
        async def scenario() -> None:
            fences = []
            for _ in range(3):
                backend = place(clock)
                held = await backend.lock(asks(clock))
                fences.append(held.fence)
                await backend.unlock(held)
            assert await place(clock).holder() is None
            assert fences == sorted(set(fences))

        clock.run(scenario())

    def test_one_of_many_competitors_takes_over_a_dead_lock(self, place: Place, clock: PlaceClock) -> None:
        async def attempt(number: int) -> int | None:
            try:
                return (await place(clock).lock(asks(clock, f"apply {number}"))).fence
            except StateLocked:
                return None

        async def scenario() -> None:
            dead = await place(clock).lock(asks(clock))
            clock.advance(2 * LEASE.total_seconds())
            fences = await asyncio.gather(*(attempt(number) for number in range(8)))

            assert [dead.fence + 1] == [fence for fence in fences if fence is not None]

        clock.run(scenario())

    def test_renewed_lease_is_not_taken_over(self, place: Place, clock: PlaceClock) -> None:
        async def scenario() -> None:
            backend = place(clock)
            held = await backend.lock(asks(clock))
            clock.advance(LEASE.total_seconds() / 2)
            held = await backend.renew(replace(held, expires_at=clock.now() + LEASE))
            clock.advance(LEASE.total_seconds() * 0.75)
            with pytest.raises(StateLocked):
                await place(clock).lock(asks(clock))
            await backend.unlock(held)

        clock.run(scenario())

    def test_stale_fence_is_refused_everywhere(self, place: Place, clock: PlaceClock) -> None:
        async def scenario() -> None:
            stalled = place(clock)
            held = await stalled.lock(asks(clock))
            await stalled.commit(fresh(), held=held)
            await stalled.append([noted(1)], base=fresh(), held=held)
            clock.advance(2 * LEASE.total_seconds())
            other = place(clock)
            await other.lock(asks(clock))

            with pytest.raises(StateStale):
                await stalled.append([noted(2)], base=fresh(), held=held)
            with pytest.raises(StateStale):
                await stalled.commit(fresh(1), held=held)
            with pytest.raises(StateStale):
                await stalled.discard(held=held)
            with pytest.raises(StateStale):
                await stalled.renew(held)
            with pytest.raises(StateStale):
                await stalled.unlock(held)
            assert fresh() == (await other.load()).snapshot

        clock.run(scenario())

    @pytest.mark.parametrize("before", [[begun(1)], []])
    def test_stalled_owner_does_not_touch_the_journal_of_its_successor(
        self, place: Place, clock: PlaceClock, before: list[Entry]
    ) -> None:
        async def scenario() -> None:
            stalled = place(clock)
            held = await stalled.lock(asks(clock))
            await stalled.commit(fresh(), held=held)
            await stalled.append(before, base=fresh(), held=held)
            clock.advance(2 * LEASE.total_seconds())
            successor = place(clock)
            now_held = await successor.lock(asks(clock))
            await successor.append([begun(2)], base=fresh(), held=now_held)
            with pytest.raises(StateStale):
                await stalled.append([begun(3)], base=fresh(), held=held)
            await successor.append([begun(4)], base=fresh(), held=now_held)

            assert [*before, begun(2), begun(4)] == list((await place(clock).load()).journal)

        clock.run(scenario())

    def test_lock_is_broken_by_its_id_only(self, place: Place, clock: PlaceClock) -> None:
        async def scenario() -> None:
            held = await place(clock).lock(asks(clock))
            with pytest.raises(StateError) as caught:
                await place(clock).break_lock("another")
            assert (f"gpuplan unlock {held.id}",) == caught.value.diagnostics[0].commands

            await place(clock).break_lock(held.id)
            assert await place(clock).holder() is None
            with pytest.raises(StateError, match="has no such lock"):
                await place(clock).break_lock(held.id)

        clock.run(scenario())

    def test_lock_that_was_broken_is_lost(self, place: Place, clock: PlaceClock) -> None:
        async def scenario() -> None:
            backend = place(clock)
            held = await backend.lock(asks(clock))
            await backend.commit(fresh(), held=held)
            await backend.append([begun(1)], base=fresh(), held=held)
            await place(clock).break_lock(held.id)
            other = place(clock)
            now_held = await other.lock(asks(clock))
            with pytest.raises(StateStale):
                await backend.append([begun(2)], base=fresh(), held=held)
            with pytest.raises(StateStale):
                await backend.commit(fresh(1), held=held)
            await other.unlock(now_held)

        clock.run(scenario())
