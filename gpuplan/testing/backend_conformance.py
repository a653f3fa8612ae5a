"""What every state backend promises, as checks anyone can inherit: ours for the built-in ones, yours for your own.

    class TestRedis(BackendConformance):
        @contextmanager
        def open_place(self, folder):
            yield lambda clock: RedisBackend(url, "default", clock)

A *place* opens handles on one and the same state, as different processes would. `DurableBackendConformance` beside this
adds checks with real processes, `NetworkBackendConformance` those with a network that fails.
"""

import asyncio
from dataclasses import replace

import pytest

from gpuplan.core.errors import LineageMismatch, StateMoved, StateStale
from gpuplan.core.ports import Stored
from gpuplan.core.state import Ended, Entry, Noted, Outcome
from gpuplan.state.session import Session, push_state, read_state
from gpuplan.testing.backend_place import Place, PlaceClock
from gpuplan.testing.lock_conformance import LockConformance
from gpuplan.testing.state_samples import PROJECT, asks, begun, fresh, node, noted


class BackendConformance(LockConformance):
    """Inherit, and say how to open the place."""

    def test_nothing_stored_is_no_state(self, place: Place, clock: PlaceClock) -> None:
        assert Stored(None, ()) == clock.run(place(clock).load())
        assert clock.run(read_state(place(clock))) is None

    def test_committed_state_is_read_back_by_others(self, place: Place, clock: PlaceClock) -> None:
        async def scenario() -> None:
            backend = place(clock)
            held = await backend.lock(asks(clock))
            state = replace(fresh(), instances={node(1).address: node(1)}, outputs={"a": [1, "ü"]})
            await backend.commit(state, held=held)

            assert Stored(state, ()) == await place(clock).load()

        clock.run(scenario())

    def test_appended_entries_are_read_back_in_order(self, place: Place, clock: PlaceClock) -> None:
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

    def test_journal_of_an_earlier_run_is_continued(self, place: Place, clock: PlaceClock) -> None:
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

    def test_commit_begins_a_fresh_journal(self, place: Place, clock: PlaceClock) -> None:
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
    def test_serial_conflict_is_stale(self, place: Place, clock: PlaceClock, serial: int) -> None:
        async def scenario() -> None:
            backend = place(clock)
            held = await backend.lock(asks(clock))
            await backend.commit(fresh(), held=held)
            with pytest.raises(StateStale):
                await backend.commit(fresh(serial), held=held)

            assert Stored(fresh(), ()) == await place(clock).load()

        clock.run(scenario())

    def test_append_to_a_snapshot_that_is_not_there_is_stale(self, place: Place, clock: PlaceClock) -> None:
        async def scenario() -> None:
            backend = place(clock)
            held = await backend.lock(asks(clock))
            await backend.commit(fresh(), held=held)
            with pytest.raises(StateStale):
                await backend.append([noted(1)], base=fresh(3), held=held)

        clock.run(scenario())

    def test_state_of_another_lineage_is_refused(self, place: Place, clock: PlaceClock) -> None:
        async def scenario() -> None:
            backend = place(clock)
            held = await backend.lock(asks(clock))
            await backend.commit(fresh(), held=held)
            with pytest.raises(LineageMismatch):
                await backend.commit(fresh(1, "lineage2"), held=held)

        clock.run(scenario())

    def test_earlier_snapshots_are_kept(self, place: Place, clock: PlaceClock) -> None:
        async def scenario() -> None:
            backend = place(clock)
            held = await backend.lock(asks(clock))
            for serial in range(self.keeps + 3):
                await backend.commit(fresh(serial), held=held)

            assert list(range(self.keeps + 1, 1, -1)) == list(await place(clock).history())

        clock.run(scenario())

    def test_discarded_state_is_gone(self, place: Place, clock: PlaceClock) -> None:
        async def scenario() -> None:
            backend = place(clock)
            held = await backend.lock(asks(clock))
            await backend.commit(fresh(4), held=held)
            await backend.append([noted(1)], base=fresh(4), held=held)
            await backend.discard(held=held)
            assert Stored(None, ()) == await place(clock).load()
            assert [4][: self.keeps] == list(await place(clock).history())

            await backend.commit(fresh(9, "lineage2"), held=held)
            assert Stored(fresh(9, "lineage2"), ()) == await place(clock).load()

        clock.run(scenario())

    def test_state_that_was_migrated_away_says_where_it_is(self, place: Place, clock: PlaceClock) -> None:
        async def scenario() -> None:
            backend = place(clock)
            held = await backend.lock(asks(clock))
            moved = replace(fresh(), moved_to="redis://elsewhere/project")
            await backend.commit(moved, held=held)
            with pytest.raises(StateMoved) as caught:
                await place(clock).load()

            assert moved == caught.value.left
            assert ("gpuplan plan --state redis://elsewhere/project",) == caught.value.diagnostics[0].commands

        clock.run(scenario())

    def test_runs_that_wait_for_each_other_lose_nothing(self, place: Place, clock: PlaceClock) -> None:
        async def write(number: int) -> None:
            session = await Session.open(
                place(clock), clock, request=asks(clock), create_project=PROJECT, patience_seconds=60
            )
            await session.write(noted(number))
            await session.commit()
            await session.close()

        async def scenario() -> None:
            await asyncio.gather(*(write(number) for number in range(3)))
            state = await read_state(place(clock))
            assert state is not None
            assert {node(number).address for number in range(3)} == state.instances.keys()
            assert 3 == state.serial

        clock.run(scenario())

    def test_parallel_writes_are_all_durable_when_they_return(self, place: Place, clock: PlaceClock) -> None:
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

    def test_reading_beside_a_run_sees_a_whole_state(self, place: Place, clock: PlaceClock) -> None:
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

    def test_left_over_journal_becomes_a_snapshot_of_the_next_run(self, place: Place, clock: PlaceClock) -> None:
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

    def test_pulled_state_is_pushed_under_the_next_serial_and_only_once(self, place: Place, clock: PlaceClock) -> None:
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
