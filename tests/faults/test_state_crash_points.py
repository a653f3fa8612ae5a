"""A run that dies, or whose disk fails, at any single disk call loses nothing it acknowledged."""

import asyncio
import errno
import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from gpuplan.core.errors import StateError
from gpuplan.core.state import State
from gpuplan.net.clock import SystemClock
from gpuplan.state.backends.disk import Disk
from gpuplan.state.backends.local import LocalBackend
from gpuplan.state.lock import LEASE, lock_request
from gpuplan.state.session import Session, read_state
from gpuplan.testing.clock import FakeClock
from gpuplan.testing.disks import PowerLoss, TrippedDisk, VolatileDisk
from gpuplan.testing.state_samples import noted

SCENARIO = Path(__file__).parent / "state_crash_scenario.py"
LAST = 1_000


def recorded(state: State | None) -> list[int]:
    return [] if state is None else sorted(address.node or 0 for address in state.instances)


async def next_run(folder: Path) -> State | None:
    """What the next run finds; it then writes and ends as if nothing had been."""
    clock = SystemClock()
    backend = LocalBackend(folder, "default", clock)
    found = await read_state(backend)
    session = await Session.open(backend, clock, request=lock_request(clock, "apply"), create_project="crash")
    assert recorded(found) == recorded(session.state)
    await session.write(noted(LAST))
    await session.commit()
    await session.close()
    return found


@pytest.mark.parametrize("start", ["fresh", "left-over"])
def test_kill_at_any_disk_call_loses_no_acknowledged_write(tmp_path: Path, start: str) -> None:
    answer = subprocess.run(
        [sys.executable, SCENARIO, tmp_path, start], capture_output=True, text=True, check=True, timeout=100
    )
    calls = int(answer.stdout)

    assert calls > 60
    for at in range(1, calls + 1):
        folder = tmp_path / str(at)
        acknowledged = list(map(int, (folder / "acks").read_text().split()))
        found = recorded(asyncio.run(next_run(folder / "state")))
        assert found == list(range(len(found))), f"call {at}"
        assert set(acknowledged) <= set(found), f"call {at}"
        after = asyncio.run(read_state(LocalBackend(folder / "state", "default", SystemClock())))
        assert [*found, LAST] == recorded(after), f"call {at}"
        assert {"default.guard", "default.fence"} == {path.name for path in (folder / "state/.work").iterdir()}
        assert not (folder / "state/default.lock").exists()


def always(error: int) -> Callable[[str], None]:
    def fail(call: str) -> None:
        raise OSError(error, os.strerror(error))

    return fail


def once(error: int) -> Callable[[str], None]:
    failures = iter([OSError(error, os.strerror(error))])

    def fail(call: str) -> None:
        if (failure := next(failures, None)) is not None:
            raise failure

    return fail


async def write_on(folder: Path, disk: Disk, clock: FakeClock, acknowledged: list[int]) -> None:
    backend = LocalBackend(folder, "default", clock, disk=disk)
    session = await Session.open(backend, clock, request=lock_request(clock, "apply"), create_project="crash")
    try:
        for number in range(3):
            await session.write(noted(number))
            acknowledged.append(number)
        await session.commit()
        await session.write(noted(3))
        acknowledged.append(3)
        await session.commit()
    finally:
        await session.close()
        await backend.close()


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("failing", [once, always])
def test_disk_that_fails_at_any_call_is_told_and_loses_nothing(
    tmp_path: Path, error: int, failing: Callable[[int], Callable[[str], None]]
) -> None:
    for at in itertools.count(1):
        folder, clock = tmp_path / str(at), FakeClock()
        disk, acknowledged = TrippedDisk(failing(error), at=at), list[int]()
        try:
            clock.run(write_on(folder, disk, clock, acknowledged))
        except StateError as caught:
            assert os.strerror(error) in caught.diagnostics[0].facts[0]
        clock.advance(2 * LEASE.total_seconds())
        state = clock.run(read_state(LocalBackend(folder, "default", clock)))
        assert set(acknowledged) <= set(recorded(state)), f"call {at}"
        session = clock.run(
            Session.open(
                LocalBackend(folder, "default", clock),
                clock,
                request=lock_request(clock, "apply"),
                create_project="crash",
            )
        )
        assert recorded(state) == recorded(session.state)
        if len(disk.calls) < at:
            break


@settings(max_examples=400)
@given(st.integers(1, 100), st.data())
def test_loss_of_power_at_any_call_loses_nothing_acknowledged(at: int, data: st.DataObject) -> None:
    folder, clock, acknowledged = Path("/state"), FakeClock(), list[int]()
    disk = VolatileDisk(at=at)
    with suppress(PowerLoss):
        clock.run(write_on(folder, disk, clock, acknowledged))
    survivor = disk.after_power_loss(lambda outcomes: data.draw(st.integers(0, outcomes - 1)))
    clock.advance(2 * LEASE.total_seconds())
    backend = LocalBackend(folder, "default", clock, disk=survivor)

    found = recorded(clock.run(read_state(backend)))

    event("power went" if disk.calls >= at else "run came to its end")
    assert found == list(range(len(found)))
    assert set(acknowledged) <= set(found)
    after = clock.run(next_session(backend, clock))
    assert [*found, LAST] == recorded(after)


async def next_session(backend: LocalBackend, clock: FakeClock) -> State:
    session = await Session.open(backend, clock, request=lock_request(clock, "apply"), create_project="crash")
    await session.write(noted(LAST))
    await session.commit()
    await session.close()
    return session.state
