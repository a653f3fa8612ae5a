"""What every state backend promises, as checks anyone can inherit: ours for the built-in ones, yours for your own.

    class TestRedis(BackendConformance):
        @contextmanager
        def open_place(self, folder):
            yield lambda clock: RedisBackend(url, "default", clock)

A *place* opens handles on one and the same state, as different processes would. `DurableBackendConformance` beside this
adds checks with real processes.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import pytest

from gpuplan.core.errors import LineageMismatch, StateError, StateLocked, StateStale
from gpuplan.core.ports import Clock, StateBackend, Stored
from gpuplan.core.state import Ended, Entry, Noted, Outcome
from gpuplan.state.lock import LEASE
from gpuplan.state.session import Session, push_state, read_state
from gpuplan.testing.clock import FakeClock
from gpuplan.testing.state_samples import PROJECT, asks, begun, fresh, node, noted

Place: TypeAlias = Callable[[Clock], StateBackend]


class BackendConformance(ABC):
    """Inherit, and say how to open the place."""

    @abstractmethod
    def open_place(self, folder: Path) -> AbstractContextManager[Place]:
        """A place that holds nothing yet; `folder` is empty and private to the check."""

    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock()

    @pytest.fixture
    def place(self, tmp_path: Path) -> Iterator[Place]:
        with self.open_place(tmp_path) as place:
            yield place

    def test_nothing_stored_is_no_state(self, place: Place, clock: FakeClock) -> None:
        assert Stored(None, ()) == clock.run(place(clock).load())
        assert clock.run(read_state(place(clock))) is None

    def test_committed_state_is_read_back_by_others(self, place: Place, clock: FakeClock) -> None:
        async def scenario() -> None:
            backend = place(clock)
            held = await backend.lock(asks(clock))
            state = replace(fresh(), instances={node(1).address: node(1)}, outputs={"a": [1, "ü"]})
            await backend.commit(state, held=held)

            assert Stored(state, ()) == await place(clock).load()

        clock.run(scenario())

    def test_appended_entries_are_read_back_in_order(self, place: Place, clock: FakeClock) -> None:
        async def scenario() -> None:
            backend = place(clock)
            held = await backend.lock(asks(clock))
            await backend.commit(fresh(), held=held)
            appends: list[list[Entry]] = [
                [begun(1)],
                [noted(1), Ended(1, Outcome.DONE)],
                [Noted(node(1).address, None)],
            ]
            for entries in appends:
                await backend.append(entries, base=fresh(), held=held)

            stored = await place(clock).load()
            assert [entry for entries in appends for entry in entries] == list(stored.journal)

        clock.run(scenario())

    def test_journal_of_an_earlier_run_is_continued(self, place: Place, clock: FakeClock) -> None:
        async def scenario() -> None:
            first = place(clock)
            held = await first.lock(asks(clock))
            await first.commit(fresh(), held=held)
            await first.append([begun(1)], base=fresh(), held=held)
            await first.unlock(held)
            second = place(clock)
            held = await second.lock(asks(clock))
            await second.append([begun(2)], base=fresh(), held=held)
            await second.append([begun(3)], base=fresh(), held=held)

            assert [begun(1), begun(2), begun(3)] == list((await place(clock).load()).journal)

        clock.run(scenario())

    def test_commit_begins_a_fresh_journal(self, place: Place, clock: FakeClock) -> None:
        async def scenario() -> None:
            backend = place(clock)
            held = await backend.lock(asks(clock))
            await backend.commit(fresh(), held=held)
            await backend.append([noted(1)], base=fresh(), held=held)
            await backend.commit(fresh(1), held=held)
            assert [] == list((await place(clock).load()).journal)
            await backend.append([noted(2)], base=fresh(1), held=held)
            assert [noted(2)] == list((await place(clock).load()).journal)

        clock.run(scenario())

    @pytest.mark.parametrize("serial", [0, 2])
    def test_serial_conflict_is_stale(self, place: Place, clock: FakeClock, serial: int) -> None:
        async def scenario() -> None:
            backend = place(clock)
            held = await backend.lock(asks(clock))
            await backend.commit(fresh(), held=held)
            with pytest.raises(StateStale):
                await backend.commit(fresh(serial), held=held)

            assert Stored(fresh(), ()) == await place(clock).load()

        clock.run(scenario())

    def test_append_to_a_snapshot_that_is_not_there_is_stale(self, place: Place, clock: FakeClock) -> None:
        async def scenario() -> None:
            backend = place(clock)
            held = await backend.lock(asks(clock))
            await backend.commit(fresh(), held=held)
            with pytest.raises(StateStale):
                await backend.append([noted(1)], base=fresh(3), held=held)

        clock.run(scenario())

    def test_state_of_another_lineage_is_refused(self, place: Place, clock: FakeClock) -> None:
        async def scenario() -> None:
            backend = place(clock)
            held = await backend.lock(asks(clock))
            await backend.commit(fresh(), held=held)
            with pytest.raises(LineageMismatch):
                await backend.commit(fresh(1, "lineage2"), held=held)

        clock.run(scenario())

    def test_second_lock_names_the_holder(self, place: Place, clock: FakeClock) -> None:
        async def scenario() -> None:
            held = await place(clock).lock(asks(clock, "destroy"))
            with pytest.raises(StateLocked) as caught:
                await place(clock).lock(asks(clock))

            (finding,) = caught.value.diagnostics
            assert f"`destroy` of {held.who}@{held.host} holds the state" == finding.summary
            assert (f"gpuplan unlock {held.id}",) == finding.commands
            assert held == await place(clock).holder()

        clock.run(scenario())

    def test_released_lock_is_free_and_its_fence_never_comes_again(self, place: Place, clock: FakeClock) -> None:
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

    def test_one_of_many_competitors_takes_over_a_dead_lock(self, place: Place, clock: FakeClock) -> None:
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

    def test_renewed_lease_is_not_taken_over(self, place: Place, clock: FakeClock) -> None:
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

    def test_stale_fence_is_refused_everywhere(self, place: Place, clock: FakeClock) -> None:
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
                await stalled.renew(held)
            with pytest.raises(StateStale):
                await stalled.unlock(held)
            assert fresh() == (await other.load()).snapshot

        clock.run(scenario())

    @pytest.mark.parametrize("before", [[begun(1)], []])
    def test_stalled_owner_does_not_touch_the_journal_of_its_successor(
        self, place: Place, clock: FakeClock, before: list[Entry]
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

    def test_lock_is_broken_by_its_id_only(self, place: Place, clock: FakeClock) -> None:
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

    def test_ten_earlier_snapshots_are_kept(self, place: Place, clock: FakeClock) -> None:
        async def scenario() -> None:
            backend = place(clock)
            held = await backend.lock(asks(clock))
            for serial in range(13):
                await backend.commit(fresh(serial), held=held)

            assert list(range(11, 1, -1)) == list(await place(clock).history())

        clock.run(scenario())

    def test_parallel_writes_are_all_durable_when_they_return(self, place: Place, clock: FakeClock) -> None:
        async def scenario() -> None:
            session = await Session.open(place(clock), clock, request=asks(clock), create_project=PROJECT)

            async def create() -> None:
                seq = session.next_seq()
                await session.write(begun(seq))
                await session.write(noted(seq), Ended(seq, Outcome.DONE))
                seen = await read_state(place(clock))
                assert seen is not None
                assert node(seq) == seen.instances[node(seq).address]

            await asyncio.gather(*(create() for _ in range(20)))
            assert 20 == len(session.state.instances)
            assert {} == session.state.intents
            committed = await session.commit()
            await session.close()
            assert 1 == committed.serial
            assert committed == await read_state(place(clock))

        clock.run(scenario())

    def test_reading_beside_a_run_sees_a_whole_state(self, place: Place, clock: FakeClock) -> None:
        async def scenario() -> None:
            session = await Session.open(place(clock), clock, request=asks(clock), create_project=PROJECT)
            running = True

            async def read() -> None:
                most = 0
                while running:
                    seen = await read_state(place(clock))
                    assert seen is not None
                    assert len(seen.instances) >= most
                    most = len(seen.instances)
                    await clock.sleep(0)

            async def work() -> None:
                nonlocal running
                for number in range(15):
                    await session.write(noted(number))
                    await session.commit()
                running = False

            await asyncio.gather(work(), read())
            await session.close()

        clock.run(scenario())

    def test_left_over_journal_becomes_a_snapshot_of_the_next_run(self, place: Place, clock: FakeClock) -> None:
        async def scenario() -> None:
            crashed = await Session.open(place(clock), clock, request=asks(clock), create_project=PROJECT)
            await crashed.write(begun(crashed.next_seq()))
            await crashed.close()

            session = await Session.open(place(clock), clock, request=asks(clock), create_project=PROJECT)
            assert 1 == session.state.serial
            assert {1: begun(1).intent} == session.state.intents
            assert 2 == session.next_seq()
            await session.close()

        clock.run(scenario())

    def test_pulled_state_is_pushed_under_the_next_serial_and_only_once(self, place: Place, clock: FakeClock) -> None:
        async def scenario() -> None:
            await push_state(place(clock), clock, request=asks(clock), pushed=fresh())
            pulled = await read_state(place(clock))
            assert pulled is not None
            edited = replace(pulled, outputs={"a": 1})
            pushed = await push_state(place(clock), clock, request=asks(clock), pushed=edited)

            assert replace(edited, serial=1) == pushed == await read_state(place(clock))
            with pytest.raises(StateStale):
                await push_state(place(clock), clock, request=asks(clock), pushed=edited)
            with pytest.raises(LineageMismatch):
                await push_state(place(clock), clock, request=asks(clock), pushed=fresh(1, "lineage2"))
            assert await place(clock).holder() is None

        clock.run(scenario())
