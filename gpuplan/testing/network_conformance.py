"""More promises, for state backends behind a network: it breaks, hangs and is slow, at every single step of a run.

class TestRedis(NetworkBackendConformance):
    server = ("127.0.0.1", 6379)

    def through(self, folder, port): ...            # a place like `open_place`, whose handles connect to that port
    def source_through(self, folder, port): ...     # the same as `source`
"""

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from queue import Queue

import pytest

from gpuplan.core.errors import StateError
from gpuplan.core.ports import Clock, StateBackend
from gpuplan.core.state import State
from gpuplan.net.clock import SystemClock
from gpuplan.state.lock import LEASE
from gpuplan.state.session import Session, read_state
from gpuplan.testing.backend_place import Place, PlaceClock
from gpuplan.testing.durable_conformance import DurableBackendConformance
from gpuplan.testing.proxy import Fault, FaultyProxy
from gpuplan.testing.state_samples import PROJECT, asks, noted

LAST = 1_000
WRITTEN = 6
_SLOW = 3
"""Faults that take their time are tried at every third step."""

_FORKING = """
import asyncio, json, os, signal, sys
from pathlib import Path
from gpuplan.net.clock import SystemClock
from gpuplan.testing.network_conformance import write_state

async def main(job):
    names = {"clock": SystemClock()}
    exec(job["source"], names)
    acks = os.open(job["acks"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    await write_state(names["backend"], names["clock"], lambda number: os.write(acks, b"%d\\n" % number))
    await names["backend"].close()

for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        asyncio.run(main(json.loads(line)))
        os._exit(0)
    print(pid, flush=True)
    _, status = os.waitpid(pid, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


async def write_state(backend: StateBackend, clock: Clock, acknowledge: Callable[[int], object]) -> None:
    """A run with every kind of write; `acknowledge` is called with the number of each instance that is recorded."""
    session = await Session.open(backend, clock, request=asks(clock), create_project=PROJECT)

    async def write(number: int) -> None:
        await session.write(noted(number))
        acknowledge(number)

    try:
        await write(0)
        await asyncio.gather(write(1), write(2), write(3))
        await session.commit()
        await write(4)
        await session.commit()
        await write(5)
    finally:
        await session.close()


class NetworkBackendConformance(DurableBackendConformance):
    """For backends that are reached over TCP."""

    server: tuple[str, int]

    @abstractmethod
    def through(self, folder: Path, port: int) -> Place:
        """Handles on the place of this folder, which connect to a port of 127.0.0.1. They wait a quarter of a second
        for an answer."""

    @abstractmethod
    def source_through(self, folder: Path, port: int) -> str:
        """Python that binds `backend` to such a handle, from `clock`."""

    @pytest.mark.parametrize("fault", [Fault.CUT, Fault.CUT_AFTER, Fault.HANG, Fault.HANG_AFTER, Fault.DELAY])
    def test_one_fault_of_the_network_at_any_step_loses_nothing(self, tmp_path: Path, fault: Fault) -> None:
        quick = fault in (Fault.CUT, Fault.CUT_AFTER)
        for at in itertools.count(1, 1 if quick else _SLOW):
            folder, clock = tmp_path / f"{tmp_path.name}-{fault}-{at}", PlaceClock(SystemClock().now())
            acknowledged: list[int] = []
            with FaultyProxy(self.server, at=at, fault=fault) as proxy:
                backend = self.through(folder, proxy.port)(clock)
                clock.opened.append(backend)
                with suppress(StateError):
                    clock.run(write_state(backend, clock, acknowledged.append))
            self._check_next_run(folder, acknowledged, f"{fault}, step {at}")
            if proxy.steps < at:
                assert WRITTEN == len(acknowledged)
                break

    @pytest.mark.parametrize("fault", [Fault.CALL, Fault.CALL_AFTER])
    def test_kill_at_any_step_loses_nothing(self, tmp_path: Path, fault: Fault) -> None:
        with self._forker() as fork:
            for at in itertools.count(1):
                folder, acks = tmp_path / f"{tmp_path.name}-{fault}-{at}", tmp_path / f"acks-{at}"
                born: Queue[int] = Queue()
                with FaultyProxy(self.server, at=at, fault=fault, called=partial(_kill, born)) as proxy:
                    ended = fork(self.source_through(folder, proxy.port), acks, born)
                acknowledged = [int(line) for line in acks.read_text().split()] if acks.exists() else []
                self._check_next_run(folder, acknowledged, f"{fault}, step {at}")
                if proxy.steps < at:
                    assert 0 == ended
                    assert WRITTEN == len(acknowledged)
                    break

    def _check_next_run(self, folder: Path, acknowledged: list[int], where: str) -> None:
        """What was acknowledged is there, and the next run goes on from it."""
        clock = PlaceClock(SystemClock().now() + 2 * LEASE)
        with self.open_place(folder) as place:

            async def scenario() -> None:
                backend = place(clock)
                clock.opened.append(backend)
                found = _recorded(await read_state(backend))
                assert list(range(len(found))) == found, where
                assert set(acknowledged) <= set(found), where
                session = await Session.open(backend, clock, request=asks(clock), create_project=PROJECT)
                assert found == _recorded(session.state), where
                await session.write(noted(LAST))
                await session.commit()
                await session.close()
                assert [*found, LAST] == _recorded(await read_state(backend)), where

            clock.run(scenario())

    @contextmanager
    def _forker(self) -> Iterator[Callable[[str, Path, "Queue[int]"], int]]:
        """Runs `write_state` in a process of its own; gives its id to the queue, and its exit code back."""
        with subprocess.Popen(
            [sys.executable, "-c", _FORKING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as forker:
            assert forker.stdin is not None
            assert forker.stdout is not None
            to_forker, told = forker.stdin, forker.stdout

            def fork(source: str, acks: Path, born: "Queue[int]") -> int:
                to_forker.write(json.dumps({"source": source, "acks": str(acks)}).encode() + b"\n")
                to_forker.flush()
                born.put(int(told.readline()))
                return int(told.readline())

            yield fork
            to_forker.close()


def _kill(born: "Queue[int]") -> None:
    os.kill(born.get(timeout=10), signal.SIGKILL)


def _recorded(state: State | None) -> list[int]:
    return [] if state is None else sorted(address.node or 0 for address in state.instances)
