import asyncio
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta

import pytest

from gpuplan.core.errors import StateLocked
from gpuplan.core.state import LockInfo
from gpuplan.state.backends.memory import MemoryBackend, MemoryStore
from gpuplan.state.lock import LEASE, acquire, decode_lock, encode_lock, is_dead, lock_request, locked
from gpuplan.state.owner import process_start, start_by_ps
from gpuplan.testing.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def mine(clock: FakeClock) -> LockInfo:
    return lock_request(clock, "apply")


def test_request_says_who_where_and_what(clock: FakeClock, mine: LockInfo) -> None:
    assert ("apply", os.getpid(), os.uname().nodename) == (mine.operation, mine.pid, mine.host)
    assert (clock.now(), clock.now() + LEASE) == (mine.created_at, mine.expires_at)
    assert mine.who


def test_lock_reads_back_as_it_was_written(mine: LockInfo) -> None:
    assert mine == decode_lock(encode_lock(mine))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff", b"\0" * 80])
def test_damaged_lock_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode_lock(content)


def test_lock_without_a_start_time_is_refused(mine: LockInfo) -> None:
    document = json.loads(encode_lock(mine)) | {"started_at": "soon"}

    with pytest.raises(ValueError, match="`started_at` is not a number"):
        decode_lock(json.dumps(document).encode())


def test_owner_that_runs_is_alive(clock: FakeClock, mine: LockInfo) -> None:
    assert not is_dead(mine, clock.now())


def test_owner_whose_lease_ran_out_is_dead(mine: LockInfo) -> None:
    assert is_dead(mine, mine.expires_at)


def test_owner_that_exited_is_dead(clock: FakeClock, mine: LockInfo) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()

    assert is_dead(replace(mine, pid=child.pid), clock.now())


def test_owner_that_exited_and_was_not_waited_for_is_dead(clock: FakeClock, mine: LockInfo) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        started_at = process_start(child.pid)
        assert started_at is not None
        theirs = replace(mine, pid=child.pid, started_at=started_at)
        assert not is_dead(theirs, clock.now())
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

        assert is_dead(theirs, clock.now())


def test_another_process_under_the_pid_of_the_owner_is_not_the_owner(clock: FakeClock, mine: LockInfo) -> None:
    assert is_dead(replace(mine, started_at=mine.started_at - 1), clock.now())


@pytest.mark.parametrize("elsewhere", [{"host": "other"}, {"boot": "other"}])
def test_owner_elsewhere_lives_as_long_as_its_lease(
    clock: FakeClock, mine: LockInfo, elsewhere: dict[str, str]
) -> None:
    theirs = replace(mine, pid=2**22 + 1, **elsewhere)  # type: ignore[arg-type]  # both are texts

    assert not is_dead(theirs, theirs.expires_at - timedelta(seconds=1))
    assert is_dead(theirs, theirs.expires_at)


def test_start_of_a_process_is_found_without_proc() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        first = start_by_ps(child.pid)
        assert first is not None
        assert first == start_by_ps(child.pid)
        child.send_signal(signal.SIGKILL)
        child.wait()

        assert start_by_ps(child.pid) is None


def test_acquire_without_patience_fails_at_once(clock: FakeClock) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        await MemoryBackend(clock, store).lock(lock_request(clock, "destroy"))
        with pytest.raises(StateLocked):
            await acquire(MemoryBackend(clock, store), lock_request(clock, "apply"), patience_seconds=0, clock=clock)

    clock.run(scenario())
    assert 0 == clock.monotonic()


def test_acquire_gives_up_when_its_patience_ends(clock: FakeClock) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        await MemoryBackend(clock, store).lock(lock_request(clock, "destroy"))
        with pytest.raises(StateLocked):
            await acquire(MemoryBackend(clock, store), lock_request(clock, "apply"), patience_seconds=9.5, clock=clock)

    clock.run(scenario())
    assert 9.5 == clock.monotonic()


def test_acquire_gets_the_lock_soon_after_it_is_released_with_a_whole_lease(clock: FakeClock) -> None:
    async def scenario() -> LockInfo:
        store = MemoryStore()
        other = MemoryBackend(clock, store)
        theirs = await other.lock(replace(lock_request(clock, "destroy"), expires_at=clock.now() + 9 * LEASE))
        mine = acquire(MemoryBackend(clock, store), lock_request(clock, "apply"), patience_seconds=300, clock=clock)

        async def release() -> None:
            await clock.sleep(100)
            await other.unlock(theirs)

        held, _ = await asyncio.gather(mine, release())
        return held

    held = clock.run(scenario())
    assert 101 >= clock.monotonic()
    assert clock.now() + LEASE == held.expires_at


def test_holder_is_told_with_the_command_that_removes_the_lock(mine: LockInfo) -> None:
    theirs = replace(mine, id="lock7", operation="apply", who="ana", host="ci-7", pid=42, version="1.2.3")

    (finding,) = locked(theirs).diagnostics

    assert "`apply` of ana@ci-7 holds the state" == finding.summary
    assert (
        "since 2026-01-01 00:00:00 UTC, as process 42, gpuplan 1.2.3",
        "its lease ends at 2026-01-01 00:01:00 UTC unless it is renewed",
        "lock lock7",
    ) == finding.facts
    assert ("gpuplan unlock lock7",) == finding.commands
