"""Ways onto the nodes of a world in memory: what is run there is told to the world, and nothing happens.

Used with `memory` by the engine's tests, in the place of what `workflow` wires to SSH.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gpuplan.core.errors import Failure, Unsupported
from gpuplan.core.observed import Observed
from gpuplan.core.ports import Channel, ExecResult, HasChannel, KeptLog, Provider
from gpuplan.core.state import Recorded


@dataclass(frozen=True, slots=True)
class MemoryChannel:
    """A way onto one node; there are no files on it, and no ports."""

    name: str
    perform: Callable[[str, Mapping[str, str]], Awaitable[ExecResult]]

    async def run(
        self,
        command: str,
        *,
        env: Mapping[str, str],
        stdin: bytes = b"",
        each_line: Callable[[str], None] | None = None,
    ) -> ExecResult:
        result = await self.perform(command, env)
        if each_line is not None:
            for line in result.tail.splitlines():
                each_line(line)
        return result

    async def stream(self, command: str, *, env: Mapping[str, str]) -> AsyncIterator[str]:
        for line in (await self.perform(command, env)).tail.splitlines():
            yield line

    async def put(self, source: Path, target: str) -> None:
        raise Unsupported(Failure(self.name, "take files"))

    async def get(self, source: str, target: Path) -> None:
        raise Unsupported(Failure(self.name, "give files"))

    @asynccontextmanager
    async def forward(self, port: int, local_port: int = 0) -> AsyncIterator[int]:
        raise Unsupported(Failure(self.name, "forward ports"))
        yield local_port

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class MemoryLog:
    where: str
    lines: list[str] = field(default_factory=list)

    def add(self, line: str) -> None:
        self.lines.append(line)


@dataclass(slots=True)
class MemoryChannels:
    """Implements `core.ports.Channels` for accounts whose nodes need no SSH."""

    providers: Mapping[str, Provider]
    logs: dict[str, MemoryLog] = field(default_factory=dict)
    """By the address and the topic: `clusters.a.nodes[0] setup`."""
    renewed: list[str] = field(default_factory=list)
    """The addresses of nodes whose disks gpuplan had emptied."""

    @asynccontextmanager
    async def open(self, recorded: Recorded, observed: Observed, member: int | None = None) -> AsyncIterator[Channel]:
        provider = self.providers[recorded.provider]
        if not isinstance(provider, HasChannel):
            raise Unsupported(Failure(recorded.provider, "run commands on its nodes"))
        channel = await provider.channel(observed.remote_id, member)
        try:
            yield channel
        finally:
            await channel.close()

    @contextmanager
    def log(self, recorded: Recorded, topic: str) -> Iterator[KeptLog]:
        name = f"{recorded.address} {topic}"
        self.logs[name] = MemoryLog(name)
        yield self.logs[name]

    async def emptied(self, recorded: Recorded) -> None:
        self.renewed.append(str(recorded.address))
