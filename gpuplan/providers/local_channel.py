"""A way onto a local node: its folder and its environment are reached without leaving this machine. Made by `local`."""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from gpuplan.core.errors import Failure, InvalidRequest, NotFound
from gpuplan.core.ports import ExecResult
from gpuplan.net.child import Child, begun
from gpuplan.net.lines import Tail
from gpuplan.net.relay import relayed
from gpuplan.providers.local_node import errand, launch
from gpuplan.providers.local_supervisor import WORKSPACE

T = TypeVar("T")


class Blocking(Protocol):
    """Runs work in a thread, and translates what can go wrong on a machine."""

    def __call__(self, operation: str, work: Callable[[], T]) -> Awaitable[T]: ...


@dataclass(frozen=True, slots=True)
class LocalChannel:
    """`core.ports.Channel` of a node that lies in `folder`; `environ` is what its supervisor begins with."""

    provider: str
    folder: Path
    environ: Mapping[str, str]
    redact: Callable[[str], str]
    blocking: Blocking

    async def run(
        self,
        command: str,
        *,
        env: Mapping[str, str],
        stdin: bytes = b"",
        each_line: Callable[[str], None] | None = None,
    ) -> ExecResult:
        tail = Tail(self.redact)
        async with self._running(command, env, stdin) as child:
            async for line in child.lines():
                tail.add(line)
                if each_line is not None:
                    each_line(line)
            assert child.status is not None
            return ExecResult(child.status, tail.text)

    async def stream(self, command: str, *, env: Mapping[str, str]) -> AsyncIterator[str]:
        async with self._running(command, env, b"") as child:
            async for line in child.lines():
                yield line

    @asynccontextmanager
    async def _running(self, command: str, env: Mapping[str, str], stdin: bytes) -> AsyncIterator[Child]:
        operation = f"run a command on node {self.folder.name}"
        argv, words = await self.blocking(operation, lambda: errand(self.folder, command, env, stdin))
        async with begun(argv, folder=self.folder, environ=self.environ, first_words=words) as child:
            yield child

    async def leave(self, command: str) -> None:
        """`workloads_units.LeavesRunning`: below nobody who ends what it leaves behind."""
        operation = f"start something on node {self.folder.name}"
        await self.blocking(operation, lambda: launch(self.folder / WORKSPACE, command, self.environ))

    async def put(self, source: Path, target: str) -> None:
        await self._copy(f"copy `{source}` onto node {self.folder.name}", source, self._place(target))

    async def get(self, source: str, target: Path) -> None:
        await self._copy(f"copy `{source}` from node {self.folder.name}", self._place(source), target)

    def _place(self, path: str) -> Path:
        return self.folder / WORKSPACE / Path(path).expanduser()

    async def _copy(self, operation: str, source: Path, target: Path) -> None:
        if not source.exists():
            raise NotFound(Failure(self.provider, operation))
        place = target / source.name if target.is_dir() else target
        if source.is_dir():
            await self.blocking(operation, lambda: shutil.copytree(source, place, symlinks=True, dirs_exist_ok=True))
        else:
            await self.blocking(operation, lambda: shutil.copy2(source, place))

    @asynccontextmanager
    async def forward(self, port: int, local_port: int = 0) -> AsyncIterator[int]:
        if local_port in (0, port):
            # The node listens on this machine already.
            yield port
            return
        try:
            relay = await relayed(port, local_port)
        except OSError as exc:
            message = f"port {local_port} of this machine: {(exc.strerror or str(exc)).lower()}"
            operation = f"forward a port to port {port} of node {self.folder.name}"
            raise InvalidRequest(Failure(self.provider, operation, message)) from exc
        async with relay:
            yield local_port

    async def close(self) -> None:
        """Nothing is held open."""
