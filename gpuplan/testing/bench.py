"""One account under test, and what a conformance check does with it. Made by subclasses of `ProviderConformance`."""

from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from gpuplan.core.address import Address
from gpuplan.core.capabilities import Capabilities
from gpuplan.core.desired import Kind
from gpuplan.core.errors import Conflict
from gpuplan.core.marks import Mark
from gpuplan.core.observed import GONE, Observed, Status
from gpuplan.core.ports import CanAdvance, Clock, Links, Provider, Want
from gpuplan.core.values import Attrs, Value

SECTION = {
    Kind.NODE: "clusters",
    Kind.GROUP: "clusters",
    Kind.VOLUME: "volumes",
    Kind.SSH_KEY: "ssh_keys",
    Kind.NETWORK: "networks",
    Kind.SERVICE: "services",
    Kind.JOB: "jobs",
}
_DELETE_POLLS = 50


@dataclass(frozen=True, slots=True)
class Made:
    """One object a check has created."""

    want: Want
    mark: Mark
    seen: Observed

    @property
    def kind(self) -> Kind:
        return self.want.kind

    @property
    def remote_id(self) -> str:
        return self.seen.remote_id


@dataclass(slots=True)
class Bench:
    """A fresh account, and what may be asked of it."""

    provider: Provider
    clock: Clock
    run: Callable[[Coroutine[Any, Any, None]], None]
    """Runs a coroutine to its end, always in the event loop the provider was opened for: `asyncio.Runner.run`."""
    asks: Mapping[Kind, Attrs]
    """For every kind the provider has: attributes to create one with, as many as can be observed."""
    changes: Mapping[Kind, Attrs] = field(default_factory=dict)
    """Other values for attributes that can be changed in place; at least one of each kind that has such attributes."""
    missing_id: str = "gpuplan-conformance-missing"
    """An id of the right form that no object has."""
    links: Links = field(default_factory=dict)
    has_shell: bool = True
    """False for doubles that only write down which commands they were given."""
    made: dict[str, Made] = field(default_factory=dict)
    """Everything that was created, by token."""

    @property
    def capabilities(self) -> Capabilities:
        return self.provider.capabilities

    @property
    def main(self) -> Kind:
        """What this provider makes of a cluster: its nodes, or one group."""
        return self.capabilities.granularity

    def ask(self, kind: Kind, **more: Value) -> tuple[Want, Mark]:
        """A want nobody had before, with a mark of its own."""
        number = len(self.made)
        address = Address(SECTION[kind], "conformance", number, 0 if SECTION[kind] == "clusters" else None)
        token = self.clock.token()
        mark = Mark(token, "conformance", "default", "lineage", address)
        return Want(address, kind, {**self.asks[kind], **more}, f"conformance-{token[-12:]}"), mark

    async def send(self, want: Want, mark: Mark) -> Made:
        made = Made(want, mark, await self.provider.create(want, mark, self.links))
        self.made[mark.token] = made
        return made

    async def make(self, kind: Kind, **more: Value) -> Made:
        """One that is up."""
        return await self.until(await self.send(*self.ask(kind, **more)), Status.RUNNING)

    async def until(self, made: Made, status: Status) -> Made:
        """Watch as the engine does, taking the steps a creation has left."""
        deadline = self.clock.monotonic() + self.capabilities.ready_timeout_seconds
        seen: Observed | None = made.seen
        while seen is None or seen.status is not status:
            assert self.clock.monotonic() < deadline, f"{made.kind} is {seen and seen.status}, not {status}"
            assert seen is None or seen.status is not Status.FAILED, f"{made.kind} failed: {seen.detail}"
            await self.clock.sleep(self.capabilities.poll_interval_seconds)
            seen = await self.provider.get(made.kind, seen.remote_id if seen else made.remote_id)
            if seen is not None and isinstance(self.provider, CanAdvance):
                seen = await self.provider.advance(made.want, made.mark, seen, self.links)
        self.made[made.mark.token] = replace(made, seen=seen)
        return self.made[made.mark.token]

    async def until_gone(self, kind: Kind, remote_id: str) -> None:
        """Delete as the engine does: again and again, until it is certain."""
        for _ in range(_DELETE_POLLS):
            with suppress(Conflict):
                await self.provider.delete(kind, remote_id, self.links)
            if await self.is_gone(kind, remote_id):
                return
            await self.clock.sleep(self.capabilities.poll_interval_seconds)
        raise AssertionError(f"{kind} {remote_id} is still there")

    async def is_gone(self, kind: Kind, remote_id: str) -> bool:
        seen = await self.provider.get(kind, remote_id)
        return seen is None or seen.status in GONE

    async def listed(self, kind: Kind) -> dict[str, Observed]:
        """What a listing has, by id, once everything created has had the time to appear."""
        await self.clock.sleep(self.capabilities.visibility_delay_seconds)
        listing = await self.provider.list(kind, frozenset(made.remote_id for made in self.made.values()))
        assert not listing.unseen, listing.why
        return {seen.remote_id: seen for seen in listing.objects if seen.status not in GONE}

    async def clear(self) -> None:
        """Leave the account as it was found."""
        for made in reversed(self.made.values()):
            await self.until_gone(made.kind, made.remote_id)
        await self.provider.close()
