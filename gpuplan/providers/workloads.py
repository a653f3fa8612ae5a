"""Services and jobs join a provider whose nodes can be reached: `carrying` puts them beside all it does itself.

Called by `workflow.accounts`. `workloads_units` does the work.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from gpuplan.core.capabilities import Capabilities, Idempotency, KindCapabilities, Mutability
from gpuplan.core.desired import Kind
from gpuplan.core.errors import Failure, Unsupported
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Observed
from gpuplan.core.offers import Offer, OfferQuery
from gpuplan.core.ports import (
    Account,
    CanAdvance,
    CanExtend,
    CanForesee,
    CanLog,
    CanRehearse,
    CanStop,
    CanUpdate,
    Channel,
    HasChannel,
    HasSsh,
    Links,
    Listed,
    Provider,
    SshTarget,
    Want,
)
from gpuplan.providers.workloads_units import Units, Ways

WORKLOADS = frozenset({Kind.SERVICE, Kind.JOB})
_COMMON = ("on", "image", "command", "env")
SERVICE = KindCapabilities(
    attributes=dict.fromkeys((*_COMMON, "ports", "health", "restart"), Mutability.REPLACE),
    idempotency=Idempotency.KEY,
)
JOB = KindCapabilities(
    attributes=dict.fromkeys((*_COMMON, "peers", "timeout", "retries"), Mutability.REPLACE),
    idempotency=Idempotency.KEY,
)


def can_carry(capabilities: Capabilities) -> bool:
    """Whether services and jobs run on its nodes and the provider has none of its own."""
    reached = capabilities.exec or capabilities.ssh
    return reached and Kind.NODE in capabilities.kinds and WORKLOADS.isdisjoint(capabilities.kinds)


def carried(capabilities: Capabilities) -> Capabilities:
    """The capabilities of a provider together with what its nodes carry."""
    return replace(capabilities, kinds={**capabilities.kinds, Kind.SERVICE: SERVICE, Kind.JOB: JOB})


def carrying(name: str, inner: Provider, ways: Ways) -> "Carrier":
    """A provider that is `inner`, and has services and jobs besides. It can do what `inner` can."""
    verbs = [mixin for protocol, mixin in _VERBS.items() if isinstance(inner, protocol)]
    return type("Carrier", (*verbs, Carrier), {})(name, inner, ways)  # type: ignore[no-any-return] # made of Carrier


class Carrier:
    """Implements `Provider` by asking `inner` for all but services and jobs."""

    def __init__(self, name: str, inner: Provider, ways: Ways) -> None:
        self._name = name
        self._inner = inner
        self._ways = ways
        self._units = Units(name, inner, ways)
        self._capabilities = carried(inner.capabilities)

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def health(self) -> Account:
        return await self._inner.health()

    async def offers(self, query: OfferQuery) -> Sequence[Offer]:
        return await self._inner.offers(query)

    async def list(self, kind: Kind, known: frozenset[str]) -> Listed:
        return await (self._units if kind in WORKLOADS else self._inner).list(kind, known)

    async def get(self, kind: Kind, remote_id: str) -> Observed | None:
        return await (self._units if kind in WORKLOADS else self._inner).get(kind, remote_id)

    async def create(self, want: Want, mark: Mark, links: Links) -> Observed:
        return await (self._units if want.kind in WORKLOADS else self._inner).create(want, mark, links)

    async def advance(self, want: Want, mark: Mark, observed: Observed, links: Links) -> Observed:
        if want.kind in WORKLOADS:
            return await self._units.start(observed)
        return (
            await self._inner.advance(want, mark, observed, links) if isinstance(self._inner, CanAdvance) else observed
        )

    async def delete(self, kind: Kind, remote_id: str, links: Links) -> None:
        if kind in WORKLOADS:
            await self._units.end(kind, remote_id, remove=True)
        else:
            await self._inner.delete(kind, remote_id, links)

    async def cancel(self, remote_id: str) -> None:
        """End a job and keep what is known of it."""
        await self._units.end(Kind.JOB, remote_id, remove=False)

    async def logs(self, kind: Kind, remote_id: str, *, follow: bool, tail: int | None) -> AsyncIterator[str]:
        """Of a node only where the provider has them."""
        if kind not in WORKLOADS and not (isinstance(self._inner, CanLog) and self._inner.capabilities.logs):
            raise Unsupported(Failure(self._name, f"read the log of {kind} {remote_id}"))
        if kind in WORKLOADS:
            lines = self._units.logs(remote_id, follow=follow, tail=tail)
        else:
            assert isinstance(self._inner, CanLog)
            lines = self._inner.logs(kind, remote_id, follow=follow, tail=tail)
        async for line in lines:
            yield line

    async def close(self) -> None:
        await self._ways.close()
        await self._inner.close()


class _Foreseeing(Carrier):
    def witness(self, want: Want, mark: Mark) -> str:
        assert isinstance(self._inner, CanForesee)
        return "" if want.kind in WORKLOADS else self._inner.witness(want, mark)


class _Rehearsing(Carrier):
    async def rehearse(self, want: Want, mark: Mark, remote_id: str) -> None:
        assert isinstance(self._inner, CanRehearse)
        if want.kind not in WORKLOADS:
            await self._inner.rehearse(want, mark, remote_id)


class _Updating(Carrier):
    async def update(self, want: Want, remote_id: str, links: Links) -> Observed:
        assert isinstance(self._inner, CanUpdate)
        return await self._inner.update(want, remote_id, links)


class _Stopping(Carrier):
    async def stop(self, kind: Kind, remote_id: str) -> Observed:
        assert isinstance(self._inner, CanStop)
        return await self._inner.stop(kind, remote_id)

    async def start(self, kind: Kind, remote_id: str) -> Observed:
        assert isinstance(self._inner, CanStop)
        return await self._inner.start(kind, remote_id)


class _Extending(Carrier):
    async def extend(self, kind: Kind, remote_id: str, until: datetime) -> Observed:
        assert isinstance(self._inner, CanExtend)
        return await self._inner.extend(kind, remote_id, until)


class _Channelled(Carrier):
    async def channel(self, remote_id: str, member: int | None = None) -> Channel:
        assert isinstance(self._inner, HasChannel)
        return await self._inner.channel(remote_id, member)


class _Reached(Carrier):
    def ssh_target(self, observed: Observed, member: int | None = None) -> SshTarget | None:
        assert isinstance(self._inner, HasSsh)
        return self._inner.ssh_target(observed, member)


_VERBS: Mapping[type, type[Carrier]] = {
    CanForesee: _Foreseeing,
    CanRehearse: _Rehearsing,
    CanUpdate: _Updating,
    CanStop: _Stopping,
    CanExtend: _Extending,
    HasChannel: _Channelled,
    HasSsh: _Reached,
}
