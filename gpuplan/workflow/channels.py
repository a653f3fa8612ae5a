"""Ways onto the nodes of the configured accounts, and the logs of what happens there.

Called by `applying` for the engine, and by `visiting` for the commands that people run on nodes.
"""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO

from gpuplan.core.desired import Configuration
from gpuplan.core.errors import Conflict, Failure, Unsupported
from gpuplan.core.observed import Observed
from gpuplan.core.plan import Action, Plan
from gpuplan.core.ports import Channel, HasChannel, HasSsh, KeptLog, Provider
from gpuplan.core.secret import Redactor
from gpuplan.core.state import Recorded
from gpuplan.net.home import state_home
from gpuplan.net.lines import defused
from gpuplan.net.ssh import HostName, SshClient, node_alias
from gpuplan.workflow.project import Project

LOGS = "logs"
LONGEST_LOG = 10_000_000
"""Bytes of one log; the rest of what was printed is not kept."""
_MAKES = frozenset({Action.CREATE, Action.READ, Action.UPDATE, Action.START})


@dataclass(slots=True)
class _Shared:
    """One connection, and how many use it."""

    opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    channel: Channel | None = None
    users: int = 0


class OpenChannels:
    """Implements `core.ports.Channels`. Connections are made when they are needed and closed by who leaves last."""

    def __init__(self, providers: Mapping[str, Provider], environ: Mapping[str, str], redactor: Redactor) -> None:
        self._providers = providers
        self._environ = environ
        self._redactor = redactor
        self._shared: dict[tuple[str, str, int | None], _Shared] = {}

    @cached_property
    def _ssh(self) -> SshClient:
        return SshClient(self._environ, redact=self._redactor)

    @asynccontextmanager
    async def open(self, recorded: Recorded, observed: Observed, member: int | None = None) -> AsyncIterator[Channel]:
        key = recorded.provider, observed.remote_id, member
        shared = self._shared.setdefault(key, _Shared())
        shared.users += 1
        try:
            async with shared.opening:
                if shared.channel is None:
                    shared.channel = await self._open(recorded, observed, member)
            yield shared.channel
        finally:
            shared.users -= 1
            if shared.users == 0:
                self._shared.pop(key, None)
                if shared.channel is not None:
                    await shared.channel.close()

    async def _open(self, recorded: Recorded, observed: Observed, member: int | None) -> Channel:
        provider, name = self._providers[recorded.provider], _name(recorded, member)
        if isinstance(provider, HasChannel):
            return await provider.channel(observed.remote_id, member)
        if not isinstance(provider, HasSsh):
            raise Unsupported(Failure(recorded.provider, "run commands on its nodes"))
        target = provider.ssh_target(observed, member)
        if target is None:
            fact = "the node has no address that SSH reaches"
            raise Conflict(Failure(recorded.provider, f"reach {name}", facts=(fact,)))
        host = HostName.of_node(recorded.provider, name, recorded.account, recorded.remote_id, member)
        return await self._ssh.open(target, host, workspace=provider.capabilities.workspace_path)

    @contextmanager
    def log(self, recorded: Recorded, topic: str) -> Iterator[KeptLog]:
        folder = state_home(self._environ) / LOGS
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = "-".join(re.sub(r"[^\w.\[\]-]+", "_", part) for part in (str(recorded.address), recorded.token, topic))
        path = folder / f"{name}.log"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", buffering=1) as file:
            yield FileLog(path, file, self._redactor)

    async def emptied(self, recorded: Recorded) -> None:
        if isinstance(self._providers[recorded.provider], HasSsh):
            await self._ssh.forget(node_alias(recorded.account, recorded.remote_id))

    async def prepare(self, plan: Plan) -> None:
        """See that the nodes of a plan can be set up, before the first of them is rented. Raises GpuplanError."""
        for provider in sorted(_setting_up(plan)):
            known = self._providers.get(provider)
            if isinstance(known, HasSsh) and not isinstance(known, HasChannel):
                await self._ssh.prepare(provider=provider)

    async def close(self) -> None:
        if "_ssh" in self.__dict__:
            await self._ssh.close()


@asynccontextmanager
async def open_channels(
    providers: Mapping[str, Provider], project: Project, configuration: Configuration
) -> AsyncIterator[OpenChannels]:
    """For as long as the block lasts."""
    channels = OpenChannels(providers, project.environ, configuration.redactor)
    try:
        yield channels
    finally:
        await channels.close()


@dataclass(slots=True)
class FileLog:
    """Implements `core.ports.KeptLog`."""

    path: Path
    file: IO[str]
    redact: Callable[[str], str]
    size: int = 0

    @property
    def where(self) -> str:
        return str(self.path)

    def add(self, line: str) -> None:
        if self.size > LONGEST_LOG:
            return
        shown = defused(self.redact(line))
        self.size += len(shown) + 1
        self.file.write(f"{shown}\n" if self.size <= LONGEST_LOG else "(the rest is not kept)\n")


def _name(recorded: Recorded, member: int | None) -> str:
    return str(recorded.address) if member is None else f"{recorded.address} (node {member})"


def _setting_up(plan: Plan) -> set[str]:
    """The providers at which a node may be set up."""
    found = set()
    for operation in plan.operations:
        change = plan.changes.get(operation.address)
        if operation.action in _MAKES and change is not None and change.desired is not None:
            found |= {place.provider for place in change.desired.candidates if place.attrs.get("setup")}
    return found
