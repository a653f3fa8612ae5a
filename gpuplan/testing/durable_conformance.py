"""More promises, for state backends whose state outlives the process: real processes die and stall here.

class TestRedis(DurableBackendConformance):
    @contextmanager
    def open_place(self, folder):
        yield lambda clock: RedisBackend(url, "default", clock)

    def source(self, folder):
        return f"backend = RedisBackend({url!r}, 'default', clock)"
"""

import os
import signal
import subprocess
import sys
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from gpuplan.core.state import Ended, Outcome
from gpuplan.net.clock import SystemClock
from gpuplan.state.lock import LEASE
from gpuplan.state.session import Session, read_state
from gpuplan.testing.backend_conformance import BackendConformance
from gpuplan.testing.backend_place import Place, PlaceClock
from gpuplan.testing.state_samples import PROJECT, asks, begun, node, noted

_BEGIN_AND_DIE = """
    session = await Session.open(backend, clock, request=lock_request(clock, "apply"), create_project="conformance")
    await session.write(begun(session.next_seq()))
    os.kill(os.getpid(), signal.SIGKILL)
"""
_STALL = """
    session = await Session.open(backend, clock, request=lock_request(clock, "apply"), create_project="conformance")
    await session.write(begun(session.next_seq()))
    os.kill(os.getpid(), signal.SIGSTOP)
    try:
        await session.write(begun(session.next_seq()))
    except StateStale:
        os._exit(42)
"""


class DurableBackendConformance(BackendConformance):
    """For backends whose state outlives the process: real processes die and stall here."""

    @abstractmethod
    def source(self, folder: Path) -> str:
        """Python that binds `backend` to a handle on the place, from `clock`; imports included, one line each."""

    @pytest.fixture
    def later(self) -> PlaceClock:
        """A clock that shows when leases given now have run out."""
        return PlaceClock(SystemClock().now() + 2 * LEASE + timedelta(seconds=1))

    def test_begun_intents_survive_a_kill(self, tmp_path: Path, place: Place, later: PlaceClock) -> None:
        with self._child(tmp_path, _BEGIN_AND_DIE) as child:
            assert -signal.SIGKILL == child.wait(timeout=60)

        async def scenario() -> None:
            session = await Session.open(place(later), later, request=asks(later), create_project=PROJECT)
            assert {1: begun(1).intent} == session.state.intents
            await session.close()

        later.run(scenario())

    def test_run_that_was_stopped_past_its_lease_writes_nothing_more(
        self, tmp_path: Path, place: Place, later: PlaceClock
    ) -> None:
        async def scenario(child: "subprocess.Popen[bytes]") -> None:
            session = await Session.open(place(later), later, request=asks(later), create_project=PROJECT)
            await session.write(Ended(1, Outcome.NEVER), noted(7))
            os.kill(child.pid, signal.SIGCONT)
            assert 42 == child.wait(timeout=60)
            await session.write(noted(8))
            await session.commit()
            await session.close()

        with self._child(tmp_path, _STALL) as child:
            _, status = os.waitpid(child.pid, os.WUNTRACED)
            assert os.WIFSTOPPED(status)
            later.run(scenario(child))
        state = later.run(read_state(place(later)))
        assert state is not None
        assert [node(7), node(8)] == list(state.instances.values())
        assert {} == state.intents

    @contextmanager
    def _child(self, folder: Path, body: str) -> Iterator["subprocess.Popen[bytes]"]:
        lines = "\n    ".join(self.source(folder).splitlines())
        program = f"""
import asyncio, os, signal
from gpuplan.core.errors import StateStale
from gpuplan.net.clock import SystemClock

from gpuplan.state.lock import lock_request
from gpuplan.state.session import Session
from gpuplan.testing.state_samples import begun

async def main():
    clock = SystemClock()
    {lines}
{body}
asyncio.run(main())
"""
        with subprocess.Popen([sys.executable, "-c", program]) as child:
            try:
                yield child
            finally:
                child.kill()
