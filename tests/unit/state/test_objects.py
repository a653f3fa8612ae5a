import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gpuplan.core.errors import StateCorrupt, StateError, StateStale
from gpuplan.core.state import Ended, LockInfo, Noted, Outcome, Phase
from gpuplan.state.backends.head import Head, Version, decode_head, encode_head
from gpuplan.state.backends.objects import ObjectBackend
from gpuplan.state.lock import LEASE
from gpuplan.state.session import Session, read_state
from gpuplan.testing.backend_conformance import BackendConformance
from gpuplan.testing.backend_place import Place
from gpuplan.testing.clock import FakeClock
from gpuplan.testing.state_samples import PROJECT, asks, begun, fresh, node, noted
from tests.unit.state.memory_objects import Bucket, MemoryObjects


class TestObjects(BackendConformance):
    @contextmanager
    def open_place(self, folder: Path) -> Iterator[Place]:
        bucket = Bucket()
        yield lambda clock: ObjectBackend(MemoryObjects(bucket, clock), clock)


def opened(bucket: Bucket, clock: FakeClock) -> ObjectBackend:
    return ObjectBackend(MemoryObjects(bucket, clock), clock)


async def run_of(backend: ObjectBackend, clock: FakeClock, *, nodes: int, at_once: int = 32) -> None:
    """What an apply writes while it creates nodes: they take two seconds to be made, and twenty to come up."""
    session = await Session.open(backend, clock, request=asks(clock), create_project=PROJECT)
    places = asyncio.Semaphore(at_once)

    async def create() -> None:
        async with places:
            seq = session.next_seq()
            await session.write(begun(seq))
            await clock.sleep(1 + 2 * clock.jitter())
            await session.write(Noted(node(seq).address, replace(node(seq), phase=Phase.PENDING)))
            await clock.sleep(10 + 20 * clock.jitter())
            await session.write(noted(seq), Ended(seq, Outcome.DONE))

    await asyncio.gather(*(create() for _ in range(nodes)))
    await session.commit()
    await session.close()


@pytest.mark.parametrize("lost", ["swap", "write", "remove"])
def test_write_whose_answer_is_lost_counts_once(lost: str) -> None:
    bucket, clock = Bucket(), FakeClock()

    async def scenario() -> None:
        backend = opened(bucket, clock)
        held = await backend.lock(asks(clock))
        await backend.commit(fresh(), held=held)
        await backend.append([noted(1)], base=fresh(), held=held)
        bucket.lost_answers[lost] = 1
        if lost == "write":
            with pytest.raises(StateError, match="did not answer"):
                await backend.append([noted(2)], base=fresh(), held=held)
        else:
            await backend.commit(fresh(1), held=held)
            assert [0] == list(await backend.history())
        await backend.unlock(held)

    clock.run(scenario())


def test_lock_whose_answer_is_lost_is_ours() -> None:
    bucket, clock = Bucket(), FakeClock()
    bucket.lost_answers["swap"] = 1

    held = clock.run(opened(bucket, clock).lock(asks(clock)))

    assert 1 == held.fence
    assert held == clock.run(opened(bucket, clock).holder())


def test_append_after_a_failed_one_begins_a_journal_that_has_everything() -> None:
    bucket, clock = Bucket(), FakeClock()

    async def scenario() -> None:
        backend = opened(bucket, clock)
        held = await backend.lock(asks(clock))
        await backend.commit(fresh(), held=held)
        await backend.append([begun(1)], base=fresh(), held=held)
        bucket.lost_answers["write"] = 1
        with pytest.raises(StateError):
            await backend.append([begun(2)], base=fresh(), held=held)
        await backend.append([begun(3)], base=fresh(), held=held)

        assert [begun(1), begun(2), begun(3)] == list((await backend.load()).journal)

    clock.run(scenario())


def test_segment_of_a_stalled_run_is_read_by_nobody_and_removed() -> None:
    bucket, clock = Bucket(), FakeClock()

    async def scenario() -> None:
        stalled = opened(bucket, clock)
        held = await stalled.lock(asks(clock))
        await stalled.commit(fresh(), held=held)
        await stalled.append([begun(1)], base=fresh(), held=held)
        clock.advance(2 * LEASE.total_seconds())
        other = opened(bucket, clock)
        now_held = await other.lock(asks(clock))
        await other.append([begun(2)], base=fresh(), held=now_held)
        with pytest.raises(StateStale):
            await stalled.append([begun(3)], base=fresh(), held=held)
        with pytest.raises(StateStale):
            await stalled.commit(fresh(1), held=held)
        assert [begun(1), begun(2)] == list((await other.load()).journal)
        await other.commit(fresh(1), held=now_held)
        clock.advance(2 * LEASE.total_seconds())

        await opened(bucket, clock).lock(asks(clock))
        assert {"snapshots"} == {name.partition("/")[0] for name in bucket.contents}
        assert 2 == len(bucket.contents)

    clock.run(scenario())


def test_head_that_names_what_is_not_there_is_damage() -> None:
    bucket, clock = Bucket(), FakeClock()

    async def scenario() -> None:
        backend = opened(bucket, clock)
        held = await backend.lock(asks(clock))
        await backend.commit(fresh(), held=held)
        bucket.contents.clear()
        with pytest.raises(StateCorrupt):
            await backend.load()

    clock.run(scenario())


@pytest.mark.parametrize("content", [b"", b"[]", b'{"format": 2}', b"{" * 10**5])
def test_head_of_another_shape_is_damage(content: bytes) -> None:
    with pytest.raises(StateCorrupt):
        decode_head(content, "bucket")


def test_head_is_read_back_as_it_was_written() -> None:
    clock = FakeClock()
    holder: LockInfo = replace(asks(clock), fence=7)
    head = Head(7, holder, Version("l", 4, "snapshots/4.7.1"), "journals/4.7.2", (Version("l", 3, "snapshots/3.5.1"),))

    assert head == decode_head(encode_head(head), "bucket")
    assert Head() == decode_head(encode_head(Head()), "bucket")


def test_run_costs_what_the_documentation_says() -> None:
    bucket, clock = Bucket(), FakeClock()

    async def scenario() -> None:
        backend = opened(bucket, clock)
        await (await Session.open(backend, clock, request=asks(clock), create_project=PROJECT)).close()
        bucket.requests.clear()
        session = await Session.open(backend, clock, request=asks(clock), create_project=PROJECT)
        assert {"look": 2, "swap": 1, "read": 1} == bucket.requests
        bucket.requests.clear()
        await session.write(noted(1))
        assert {"look": 1, "swap": 1, "write": 1} == bucket.requests
        bucket.requests.clear()
        await session.write(noted(2))
        assert {"look": 1, "write": 1} == bucket.requests
        bucket.requests.clear()
        await session.commit()
        assert {"swap": 1, "write": 1, "remove": 1} == bucket.requests
        bucket.requests.clear()
        await session.close()
        assert {"swap": 1} == bucket.requests
        bucket.requests.clear()
        await read_state(opened(bucket, clock))
        assert {"look": 1, "read": 1} == bucket.requests

    clock.run(scenario())


@pytest.mark.parametrize(("nodes", "at_once", "requests"), [(100, 32, 550), (1000, 32, 6000), (1000, 1000, 800)])
def test_requests_of_a_run_stay_within_what_the_documentation_says(nodes: int, at_once: int, requests: int) -> None:
    bucket, clock = Bucket(), FakeClock()
    backend = ObjectBackend(MemoryObjects(bucket, clock, latency_seconds=0.03), clock)

    clock.run(run_of(backend, clock, nodes=nodes, at_once=at_once))

    assert bucket.requests.total() <= requests
    assert bucket.bytes_written < 2000 * nodes
