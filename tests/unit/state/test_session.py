import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from gpuplan.core.errors import StateError, StateLocked, StateStale
from gpuplan.core.state import Ended, Entry, LockInfo, Noted, Outcome, State
from gpuplan.state.backends.memory import MemoryBackend, MemoryStore
from gpuplan.state.lock import LEASE, lock_request
from gpuplan.state.session import Session, read_state
from gpuplan.testing.clock import FakeClock
from gpuplan.testing.state_samples import begun, node, noted


class SlowBackend(MemoryBackend):
    """Takes a second for every append, and fails when it is told to."""

    def __init__(self, clock: FakeClock, store: MemoryStore) -> None:
        super().__init__(clock, store)
        self.clock = clock
        self.appends: list[list[Entry]] = []
        self.commits = 0
        self.broken: BaseException | None = None

    async def append(self, entries: Sequence[Entry], *, base: State, held: LockInfo) -> None:
        await self.clock.sleep(1)
        if self.broken is not None:
            raise self.broken
        self.appends.append(list(entries))
        await super().append(entries, base=base, held=held)

    async def commit(self, state: State, *, held: LockInfo) -> None:
        self.commits += 1
        if self.broken is not None:
            raise self.broken
        await super().commit(state, held=held)

    async def renew(self, held: LockInfo) -> LockInfo:
        if self.broken is not None:
            raise self.broken
        return await super().renew(held)


Scenario = Callable[[Session, SlowBackend], Coroutine[None, None, None]]


def run(scenario: Scenario, store: MemoryStore | None = None) -> FakeClock:
    """Open a session on a slow backend, play the scenario, close."""
    clock = FakeClock()
    backend = SlowBackend(clock, store or MemoryStore())

    async def whole() -> None:
        session = await Session.open(backend, clock, request=lock_request(clock, "apply"), create_project="llama")
        try:
            await scenario(session, backend)
        finally:
            await session.close()

    clock.run(whole())
    return clock


def test_new_state_is_born_with_a_lineage_a_key_and_serial_zero() -> None:
    store = MemoryStore()

    async def scenario(session: Session, backend: SlowBackend) -> None:
        assert (0, "llama", 32) == (session.state.serial, session.state.project, len(session.state.key))
        assert session.state == await read_state(backend)

    run(scenario, store)
    first = store.snapshot
    run(scenario, store)

    assert first == store.snapshot


def test_nothing_is_visible_before_it_is_durable() -> None:
    async def scenario(session: Session, backend: SlowBackend) -> None:
        writing = asyncio.create_task(session.write(noted(1)))
        await backend.clock.sleep(0.5)
        assert {} == session.state.instances
        await writing
        assert {node(1).address: node(1)} == session.state.instances

    run(scenario)


def test_writes_that_come_during_an_append_share_the_next_one_in_order() -> None:
    async def scenario(session: Session, backend: SlowBackend) -> None:
        first = asyncio.create_task(session.write(noted(0)))
        await backend.clock.sleep(0.5)
        await asyncio.gather(first, *(session.write(begun(seq), noted(seq)) for seq in range(1, 100)))

        assert 2 == len(backend.appends)
        assert [entry for seq in range(1, 100) for entry in (begun(seq), noted(seq))] == backend.appends[1]

    clock = run(scenario)
    assert 2 == clock.monotonic()


def test_sequence_numbers_are_never_given_twice() -> None:
    store = MemoryStore()
    given: list[int] = []

    async def scenario(session: Session, backend: SlowBackend) -> None:
        given.extend(session.next_seq() for _ in range(3))
        await session.write(begun(given[-1]))

    run(scenario, store)
    run(scenario, store)

    assert [1, 2, 3, 4, 5, 6] == given


def test_write_of_nothing_costs_nothing() -> None:
    async def scenario(session: Session, backend: SlowBackend) -> None:
        await session.write()

        assert [] == backend.appends

    run(scenario)


def test_commit_raises_the_serial_only_if_something_was_written() -> None:
    async def scenario(session: Session, backend: SlowBackend) -> None:
        await session.commit()
        assert 0 == session.state.serial
        await session.write(noted(1))
        await session.commit()
        await session.commit()
        assert 1 == session.state.serial
        await session.write(noted(2))
        await session.commit()
        assert 2 == session.state.serial

    run(scenario)


def test_failed_append_fails_every_write_that_shared_it_and_all_later_ones() -> None:
    async def scenario(session: Session, backend: SlowBackend) -> None:
        backend.broken = StateError("disk full")
        failures = await asyncio.gather(*(session.write(noted(n)) for n in range(3)), return_exceptions=True)
        assert [backend.broken] * 3 == failures
        cause, backend.broken = backend.broken, None
        with pytest.raises(StateError) as caught:
            await session.write(noted(9))
        assert cause is caught.value
        with pytest.raises(StateError):
            await session.commit()
        assert {} == session.state.instances

    run(scenario)


def test_writes_that_waited_behind_a_failed_append_fail_too() -> None:
    async def scenario(session: Session, backend: SlowBackend) -> None:
        backend.broken = StateError("disk full")
        first = asyncio.create_task(session.write(noted(1)))
        await backend.clock.sleep(0.5)
        second = asyncio.create_task(session.write(noted(2)))
        results = await asyncio.gather(first, second, return_exceptions=True)

        assert [backend.broken] * 2 == list(results)
        assert [] == backend.appends

    run(scenario)


def test_failed_commit_ends_the_session_and_keeps_the_journal() -> None:
    store = MemoryStore()

    async def scenario(session: Session, backend: SlowBackend) -> None:
        await session.write(noted(1))
        backend.broken = StateError("disk full")
        with pytest.raises(StateError):
            await session.commit()
        backend.broken = None
        with pytest.raises(StateError):
            await session.write(noted(2))

    run(scenario, store)
    state = FakeClock().run(read_state(MemoryBackend(FakeClock(), store)))

    assert state is not None
    assert {node(1).address: node(1)} == state.instances


def test_cancelled_writer_does_not_take_its_entries_back() -> None:
    async def scenario(session: Session, backend: SlowBackend) -> None:
        cancelled = asyncio.create_task(session.write(noted(1)))
        other = asyncio.create_task(session.write(noted(2)))
        await backend.clock.sleep(0.5)
        cancelled.cancel()
        await other

        assert {node(1).address, node(2).address} == set(session.state.instances)

    run(scenario)


def test_lock_is_renewed_as_long_as_the_session_lives() -> None:
    store = MemoryStore()

    async def scenario(session: Session, backend: SlowBackend) -> None:
        await backend.clock.sleep(10 * LEASE.total_seconds())
        with pytest.raises(StateLocked):
            await MemoryBackend(backend.clock, store).lock(lock_request(backend.clock, "destroy"))
        await session.write(noted(1))

    run(scenario, store)
    assert store.holder is None


def test_session_that_lost_its_lock_writes_nothing_more() -> None:
    store = MemoryStore()

    async def scenario(session: Session, backend: SlowBackend) -> None:
        await MemoryBackend(backend.clock, store).break_lock(session.held.id)
        with pytest.raises(StateStale):
            await session.write(noted(1))
        with pytest.raises(StateStale):
            await session.commit()

    run(scenario, store)


def test_heartbeat_notices_a_lost_lock_before_anything_is_written() -> None:
    store = MemoryStore()

    async def scenario(session: Session, backend: SlowBackend) -> None:
        await MemoryBackend(backend.clock, store).break_lock(session.held.id)
        await backend.clock.sleep(LEASE.total_seconds())
        with pytest.raises(StateStale, match="lost the lock"):
            await session.write(noted(1))

        assert [] == backend.appends

    run(scenario, store)


def test_session_outlives_a_heartbeat_that_does_not_get_through() -> None:
    async def scenario(session: Session, backend: SlowBackend) -> None:
        backend.broken = StateError("no answer")
        await backend.clock.sleep(LEASE.total_seconds() / 2)
        backend.broken = None
        await backend.clock.sleep(LEASE.total_seconds())

        await session.write(noted(1))

    run(scenario)


def test_session_stops_writing_when_its_lease_ran_out_unrenewed() -> None:
    async def scenario(session: Session, backend: SlowBackend) -> None:
        backend.broken = StateError("no answer")
        await backend.clock.sleep(LEASE.total_seconds() + 1)
        backend.broken = None

        with pytest.raises(StateStale):
            await session.write(noted(1))

    run(scenario)


def test_session_that_cannot_be_opened_leaves_no_lock() -> None:
    clock, store = FakeClock(), MemoryStore()
    backend = SlowBackend(clock, store)
    backend.broken = StateError("disk full")

    async def scenario() -> None:
        with pytest.raises(StateError, match="disk full"):
            await Session.open(backend, clock, request=lock_request(clock, "apply"), create_project="llama")

    clock.run(scenario())
    assert store.holder is None


def test_second_session_waits_as_long_as_its_patience() -> None:
    store = MemoryStore()

    async def scenario(session: Session, backend: SlowBackend) -> None:
        clock = backend.clock
        request = replace(lock_request(clock, "apply"), expires_at=clock.now() + timedelta(minutes=9))
        second = asyncio.create_task(
            Session.open(
                MemoryBackend(clock, store), clock, request=request, create_project="llama", patience_seconds=60
            )
        )
        await session.write(noted(1), Ended(1, Outcome.DONE))
        await session.commit()
        await clock.sleep(10)
        await session.close()
        after = await second
        assert session.state == after.state
        await after.close()

    run(scenario, store)


def test_bytes_written_follow_the_changes_and_not_the_size_of_the_state() -> None:
    store = MemoryStore()

    async def fill(session: Session, backend: SlowBackend) -> None:
        await session.write(*map(noted, range(1_000)))
        await session.commit()

    async def change_one(session: Session, backend: SlowBackend) -> None:
        before = store.bytes_written
        await session.write(begun(session.next_seq()), Noted(node(1).address, None))
        assert store.bytes_written - before < 1_500

    run(fill, store)
    run(change_one, store)


def test_a_state_born_without_a_spec_learns_its_project_from_the_first_run_that_has_one() -> None:
    clock, store = FakeClock(), MemoryStore()

    async def project_after(create_project: str) -> str:
        session = await Session.open(
            MemoryBackend(clock, store), clock, request=lock_request(clock, "apply"), create_project=create_project
        )
        try:
            await session.write(noted(0))
            return (await session.commit()).project
        finally:
            await session.close()

    async def scenario() -> list[str]:
        return [await project_after(name) for name in ("", "llama", "another")]

    assert ["", "llama", "llama"] == clock.run(scenario())
