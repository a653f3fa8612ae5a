"""A `local` account for tests, and the processes of its nodes: a test must leave none behind."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from gpuplan.core.address import Address
from gpuplan.core.desired import Kind, ProviderBlock
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Observed, Status
from gpuplan.core.ports import Clock, OpenContext, Want
from gpuplan.core.secret import Redactor
from gpuplan.core.values import Value
from gpuplan.net.clock import SystemClock
from gpuplan.providers.local import Local
from gpuplan.providers.local_machine import Options
from gpuplan.providers.local_pids import Pid
from gpuplan.providers.local_supervisor import born

T = TypeVar("T")

_PATIENCE_SECONDS = 20


@dataclass
class LocalMachine:
    """A `local` account in a registry folder of its own, and shortcuts to its verbs."""

    root: Path
    runner: asyncio.Runner
    clock: SystemClock = field(default_factory=SystemClock)

    def open(self, environ: Mapping[str, str] = os.environ, **options: object) -> Local:
        checked = Options.model_validate({"root": str(self.root), "grace": 0.5, **options})
        return Local(checked, OpenContext(ProviderBlock("local", "local", {}, ()), self.clock, environ, Redactor()))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def ask(self, kind: Kind = Kind.NODE, **attrs: Value) -> tuple[Want, Mark]:
        address = Address("clusters", "train", None, 0)
        mark = Mark(self.clock.token(), "project", "default", "lineage", address)
        return Want(address, kind, attrs, f"train-0-{mark.token[:6]}"), mark

    def create(self, kind: Kind = Kind.NODE, provider: Local | None = None, **attrs: Value) -> Observed:
        return self.run((provider or self.open()).create(*self.ask(kind, **attrs), {}))

    def get(self, remote_id: str) -> Observed | None:
        return self.run(self.open().get(Kind.NODE, remote_id))

    def until(self, remote_id: str, status: Status | None) -> Observed | None:
        """Wait for a status; None waits for the node to be gone."""

        async def wait() -> Observed | None:
            deadline = self.clock.monotonic() + _PATIENCE_SECONDS
            while True:
                seen = await self.open().get(Kind.NODE, remote_id)
                if (seen and seen.status) == status:
                    return seen
                assert self.clock.monotonic() < deadline, f"it is {seen}"
                await self.clock.sleep(0.01)

        return self.run(wait())

    def delete(self, remote_id: str) -> None:
        async def again_and_again() -> None:
            local = self.open()
            while await local.get(Kind.NODE, remote_id) is not None:
                await local.delete(Kind.NODE, remote_id, {})

        self.run(again_and_again())

    def printed(self, remote_id: str, count: int) -> list[str]:
        """The first `count` lines of a node's log, once it has them."""

        async def read() -> list[str]:
            lines: list[str] = []
            async for line in self.open().logs(Kind.NODE, remote_id, follow=True, tail=None):
                lines.append(line)
                if len(lines) == count:
                    break
            return lines

        return self.run(read())

    def until_no_process(self) -> None:
        self.run(no_process_in(self.root, self.clock))

    @property
    def processes(self) -> list[int]:
        return processes_in(self.root)


def processes_in(root: Path) -> list[int]:
    """Every live process whose working directory lies, or lay, under a registry folder."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and (entry / "cwd").readlink().is_relative_to(root):
                found.append(int(entry.name))
    return found


async def no_process_in(root: Path, clock: Clock) -> None:
    """Wait for the last process to end: a supervisor outlives its node by an instant."""
    deadline = clock.monotonic() + _PATIENCE_SECONDS
    while left := processes_in(root):
        assert clock.monotonic() < deadline, f"still there: {left}"
        await clock.sleep(0.01)


def end_all_in(root: Path) -> None:
    """Kill every process of a registry folder, whatever it is."""
    while numbers := processes_in(root):
        for number in numbers:
            if number != os.getpid() and (birth := born(number)):
                victim = Pid(pid=number, born=birth)
                victim.send(signal.SIGKILL)
                victim.gone_within(1000)
