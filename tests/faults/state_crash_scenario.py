"""Kills a process at every disk call of a run that writes state; `test_state_crash_points` looks at what is left.

    python state_crash_scenario.py FOLDER (fresh | left-over)

For call N the state is in FOLDER/N/state, and FOLDER/N/acks says which writes had returned before the kill. The number
of the first call that the run never reaches is printed.
"""

import asyncio
import itertools
import os
import signal
import sys
from pathlib import Path

from gpuplan.net.clock import SystemClock
from gpuplan.state.backends.local import LocalBackend
from gpuplan.state.lock import lock_request
from gpuplan.state.session import Session
from gpuplan.testing.disks import TrippedDisk
from gpuplan.testing.state_samples import noted


def kill(call: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def write_state(folder: Path, at: int, first: int) -> None:
    """Record instances `first`, `first + 1`, ...; one line in `acks` for each that is acknowledged."""
    acks = os.open(folder / "acks", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    clock = SystemClock()
    backend = LocalBackend(folder / "state", "default", clock, disk=TrippedDisk(kill, at=at))

    async def write(number: int) -> None:
        await session.write(noted(first + number))
        os.write(acks, b"%d\n" % (first + number))

    session = await Session.open(backend, clock, request=lock_request(clock, "apply"), create_project="crash")
    await write(0)
    await write(1)
    await asyncio.gather(write(2), write(3), write(4))
    await session.commit()
    await write(5)
    await session.commit()
    await write(6)
    await session.close()
    await backend.close()


def run_in_child(folder: Path, at: int, first: int) -> bool:
    """Whether the run came to its end."""
    pid = os.fork()
    if pid == 0:
        asyncio.run(write_state(folder, at, first))
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) == 0


def main(root: Path, start: str) -> None:
    for at in itertools.count(1):
        folder = root / str(at)
        folder.mkdir()
        first = 0
        if start == "left-over":
            run_in_child(folder, 60, 0)
            first = len((folder / "acks").read_text().split())
        if run_in_child(folder, at, first):
            print(at)
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
