"""Scripts on machines: one connection to each, and what comes back as a `Seen` or as an error. Used by `ssh`."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import suppress
from typing import TypeAlias

from gpuplan.core.errors import (
    Conflict,
    Failure,
    InvalidRequest,
    NoCapacity,
    NotFound,
    OutcomeUnknown,
    ProviderError,
    Unavailable,
)
from gpuplan.core.ports import Channel, OpenContext, SshTarget
from gpuplan.net.ssh import HostName, SshClient, known_hosts
from gpuplan.net.ssh_script import CUT_OFF, NO_WORKSPACE
from gpuplan.net.threads import run_blocking
from gpuplan.providers import ssh_scripts as scripts
from gpuplan.providers.ssh_inventory import Host, Login, Options
from gpuplan.providers.ssh_seen import Place, Seen
from gpuplan.providers.ssh_targets import Targets

Looks: TypeAlias = Sequence[tuple[Host, Seen | ProviderError]]
_AT_ONCE = 32
"""Machines that are looked at at the same time."""
PATIENCE_SECONDS = 90
"""How long a script may take, besides what it is told to wait for."""


class Reach:
    """The ways to the machines of one block."""

    def __init__(self, options: Options, context: OpenContext) -> None:
        self._options = options
        self._provider = context.block.name
        self._clock = context.clock
        self._environ = context.environ
        self._client = SshClient(context.environ, redact=context.redactor)
        self._targets = Targets(options, context.environ)
        self._channels: dict[str, Channel] = {}
        self._opening: dict[str, asyncio.Lock] = {}

    def target(self, host: Host, to: str) -> SshTarget:
        """Raises InvalidRequest."""
        try:
            return self._targets.of(host)
        except (ValueError, OSError) as exc:
            raise InvalidRequest(Failure(self._provider, to, facts=(str(exc),))) from exc

    def directory(self, host: Host) -> str:
        return self._targets.directory(host)

    def place(self, host: Host) -> Place:
        target = self._targets.of(host)
        return Place(target.host, target.port, target.user, target.key_file)

    def marker(self) -> str:
        """A word that no login prints."""
        return f"gpuplan-{self._clock.token()}"

    async def run(self, host: Host, script: str, marker: str, to: str, *, effect: bool, seconds: float = 0) -> Seen:
        """Raises what the machine refused with; OutcomeUnknown for an effect that got no answer."""
        lines: list[str] = []
        try:
            async with asyncio.timeout(PATIENCE_SECONDS + seconds):
                status = await self._run(host, script, lines, to)
        except TimeoutError as exc:
            await self._drop(host)
            error = OutcomeUnknown if effect else Unavailable
            raise error(Failure(self._provider, to, facts=(f"`{host.called}` does not come to an end",))) from exc
        except OutcomeUnknown as exc:
            await self._drop(host)
            if effect:
                raise
            raise Unavailable(exc.failure) from exc
        except Unavailable:
            await self._drop(host)
            raise
        if status:
            raise self._refusal(host, status, [line for line in lines if marker not in line], to)
        return Seen.read(host, marker, lines)

    async def _run(self, host: Host, script: str, lines: list[str], to: str) -> int:
        is_old = host.called in self._channels
        channel = await self._channel(host, to)
        try:
            return (await channel.run(script, env={}, each_line=lines.append)).status
        except Unavailable:
            if not is_old:
                raise
            # A connection of before that has ended meanwhile: nothing was begun over it.
            await self._drop(host)
            return (await (await self._channel(host, to)).run(script, env={}, each_line=lines.append)).status

    async def look_at(self, hosts: Iterable[Host], *, machine: bool) -> Looks:
        """At all of them; each tells something, or why it does not."""
        bound = asyncio.Semaphore(_AT_ONCE)

        async def look(host: Host) -> tuple[Host, Seen | ProviderError]:
            async with bound:
                try:
                    return host, await self.look(host, f"look at {host.called}", machine=machine)
                except ProviderError as error:
                    return host, error

        return await asyncio.gather(*map(look, hosts))

    async def look(self, host: Host, to: str, *, machine: bool = False) -> Seen:
        marker = self.marker()
        return await self.run(host, scripts.look(marker, machine=machine), marker, to, effect=False)

    async def stream(self, host: Host, script: str, to: str) -> AsyncIterator[str]:
        channel = await self._channel(host, to)
        async for line in channel.stream(script, env={}):
            yield line

    async def close(self) -> None:
        for name in list(self._channels):
            await self._channels.pop(name).close()
        await self._client.close()

    async def _channel(self, host: Host, to: str) -> Channel:
        async with self._opening.setdefault(host.called, asyncio.Lock()):
            if host.called not in self._channels:
                target = await run_blocking(self.target, host, to)
                await self._know(host, target, to)
                name = HostName(self._provider, f"host {host.called}", target.alias)
                self._channels[host.called] = await self._client.open(target, name, workspace=self.directory(host))
            return self._channels[host.called]

    async def _know(self, login: Login, target: SshTarget, to: str) -> None:
        """Before a first contact: take the key that the inventory or the user's own file has for the machine, and for
        each that is jumped over."""
        if target.jump is not None:
            await self._know(login.jump or Login(host=target.jump.host), target.jump, to)
        met = known_hosts(self._environ)
        if await run_blocking(met.keys, target.alias):
            return
        try:
            key = await run_blocking(self._targets.known_key, login, target)
        except (ValueError, OSError) as exc:
            fact = f"`{self._options.known_hosts}` cannot be read: {exc}"
            raise InvalidRequest(Failure(self._provider, to, facts=(fact,))) from exc
        if key is not None:
            await run_blocking(met.record, target.alias, key, f"{self._provider} {login.host}")
        elif self._options.host_keys == "strict":
            facts = (f"the key of {target.host} port {target.port} is not on record", "nothing was sent")
            hint = f"log in once: ssh -p {target.port} {target.user}@{target.host}"
            raise InvalidRequest(Failure(self._provider, to, facts=facts, hint=hint))

    async def _drop(self, host: Host) -> None:
        if (channel := self._channels.pop(host.called, None)) is not None:
            with suppress(ProviderError):
                await channel.close()

    def _refusal(self, host: Host, status: int, said: list[str], to: str) -> ProviderError:
        last = said[-1] if said else ""
        known = Failure(self._provider, to, message=last, facts=(f"on host `{host.called}`",))
        match status:
            case scripts.HELD:
                return NoCapacity(Failure(self._provider, to, facts=(f"somebody else has host `{host.called}`",)))
            case scripts.BUSY:
                return Conflict(Failure(self._provider, to, facts=(f"somebody is at work on `{host.called}`",)))
            case scripts.ELSEWHERE:
                facts = (f"`{self.directory(host)}` on host `{host.called}` belongs to another machine",)
                hint = "name a folder that lies on the machine itself: `directory`"
                return InvalidRequest(Failure(self._provider, to, facts=facts, hint=hint))
            case scripts.GONE:
                return NotFound(Failure(self._provider, to))
            case scripts.LEFT_OVER:
                fact = f"not all files of the node on `{host.called}` can be removed"
                return Conflict(Failure(self._provider, to, message=last, facts=(fact,)))
            case int() if status == CUT_OFF:
                return Unavailable(known)
            case int() if status == NO_WORKSPACE:
                hint = "make it there, or name another one: `directory`"
                fact = f"`{self.directory(host)}` cannot be used on host `{host.called}`"
                return InvalidRequest(Failure(self._provider, to, message=last, facts=(fact,), hint=hint))
        return NoCapacity(known) if "No space left" in last else InvalidRequest(known)


def distinct(looks: Looks) -> Sequence[Seen]:
    """Each machine that answered once, under the first of its names."""
    found: dict[str, Seen] = {}
    for host, seen in looks:
        if isinstance(seen, Seen):
            found.setdefault(seen.id or host.called, seen)
    return list(found.values())


def reason(error: ProviderError) -> str:
    """Why a machine could not be looked at, in a few words."""
    known = error.failure
    return known.message or (known.facts[-1] if known.facts else str(error))
