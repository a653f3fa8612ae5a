"""A provider in memory, for the engine's tests, the world machine and benchmarks.

    world = MemoryWorld(clock, boot_seconds=30)
    provider = memory_provider(world)

Without knobs it answers at once and never fails. What goes wrong, and when, is the world's `script`.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial

from gpuplan.core.capabilities import Capabilities, Idempotency
from gpuplan.core.desired import Kind
from gpuplan.core.errors import Conflict, InvalidRequest, NoCapacity, NotFound, ProviderError
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Observed, Status
from gpuplan.core.offers import Offer, OfferQuery
from gpuplan.core.ports import Account, ExecResult, Links, Listed, Want
from gpuplan.core.units import Constraint
from gpuplan.core.values import Facts, Value
from gpuplan.testing.memory_capabilities import memory_capabilities
from gpuplan.testing.memory_channels import MemoryChannel
from gpuplan.testing.memory_world import Call, Fault, MemoryObject, MemoryWorld, failed, used_ids

__all__ = ["MemoryProvider", "MemoryWorld", "SteppedMemoryProvider", "memory_provider"]

_BOOTS = frozenset({Kind.NODE, Kind.GROUP})


def memory_provider(
    world: MemoryWorld, name: str = "memory", capabilities: Capabilities | None = None
) -> "MemoryProvider":
    """An account of this world. Its capabilities follow the world's knobs unless they are given."""
    if capabilities is None:
        capabilities = memory_capabilities(visibility_delay_seconds=world.visibility_seconds)
    return (SteppedMemoryProvider if world.steps else MemoryProvider)(world, name, capabilities)


class MemoryProvider:
    """One account of a `MemoryWorld`, behind the protocol that every adapter implements."""

    def __init__(self, world: MemoryWorld, name: str, capabilities: Capabilities) -> None:
        self.world = world
        self.name = name
        self._capabilities = capabilities

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def health(self) -> Account:
        await self._answer(Call("health", self.name))
        return Account(self.world.accounts.get(self.name, f"account-{self.name}"))

    async def offers(self, query: OfferQuery) -> Sequence[Offer]:
        self.world.queries.append(query)
        await self._answer(Call("offers", self.name))
        return [offer for offer in self.world.offers if offer.provider == self.name]

    async def list(self, kind: Kind, known: frozenset[str]) -> Listed:
        call = Call("list", self.name, kind)
        fault = await self._begin(call)
        now = self.world.clock.monotonic()
        seen = [
            thing
            for thing in self.world.shelf(self.name, kind).values()
            if now >= thing.visible_at and not thing.remote_id.startswith(self.world.unseen or "\0")
        ]
        for _ in range(self._capabilities.page_size, len(seen), self._capabilities.page_size):
            self.world.calls.append(call)
        if fault is not None and fault.hides is not None:
            seen = [thing for thing in seen if not fault.hides(thing.remote_id)]
        self._end(fault)
        return Listed([self._observe(thing, now) for thing in seen], unseen=self.world.unseen)

    async def get(self, kind: Kind, remote_id: str) -> Observed | None:
        fault = await self._begin(Call("get", self.name, kind, remote_id))
        self._end(fault)
        thing = self._find(kind, remote_id)
        if thing is None or (fault is not None and fault.hides is not None and fault.hides(remote_id)):
            return None
        return self._observe(thing, self.world.clock.monotonic())

    async def create(self, want: Want, mark: Mark, links: Links) -> Observed:
        call = Call("create", self.name, want.kind, address=want.address)
        fault = await self._begin(call)
        thing = self._repeated(want, mark) or self._created(call, want, mark)
        self._end(fault)
        return self._observe(thing, self.world.clock.monotonic())

    async def update(self, want: Want, remote_id: str, links: Links) -> Observed:
        call = Call("update", self.name, want.kind, remote_id, want.address)
        fault = await self._begin(call)
        thing = self._existing(call)
        for name in want.update:
            if name in want.attrs:
                thing.attrs[name] = want.attrs[name]
            else:
                thing.attrs.pop(name, None)
        self._end(fault)
        return self._observe(thing, self.world.clock.monotonic())

    async def delete(self, kind: Kind, remote_id: str, links: Links) -> None:
        call = Call("delete", self.name, kind, remote_id)
        fault = await self._begin(call)
        thing = self._find(kind, remote_id)
        if thing is not None and thing.gone_at is None:
            if self.world.is_used(remote_id):
                raise failed(Conflict, call, message="it is in use")
            thing.gone_at = self.world.clock.monotonic() + self.world.delete_seconds
        self._end(fault)

    async def stop(self, kind: Kind, remote_id: str) -> Observed:
        return await self._power(Call("stop", self.name, kind, remote_id), Status.STOPPED, self.world.stop_seconds)

    async def start(self, kind: Kind, remote_id: str) -> Observed:
        return await self._power(Call("start", self.name, kind, remote_id), None, self.world.boot_seconds)

    async def extend(self, kind: Kind, remote_id: str, until: datetime) -> Observed:
        call = Call("extend", self.name, kind, remote_id)
        fault = await self._begin(call)
        thing = self._existing(call)
        thing.expires_at = until
        self._end(fault)
        return self._observe(thing, self.world.clock.monotonic())

    async def channel(self, remote_id: str, member: int | None = None) -> MemoryChannel:
        return MemoryChannel(self.name, partial(self.run, remote_id))

    async def run(self, remote_id: str, command: str, env: Mapping[str, str]) -> ExecResult:
        """What the node's channel does with a command."""
        call = Call("run", self.name, Kind.NODE, remote_id)
        fault = await self._begin(call)
        self._existing(call).ran.append((command, dict(env)))
        self._end(fault)
        status = 0 if self.world.run_status is None else self.world.run_status(command)
        return ExecResult(status, f"ran: {command}")

    async def close(self) -> None: ...

    async def _begin(self, call: Call) -> Fault | None:
        """A call arrives: it is counted, takes its time, and may fail before anything happened."""
        self.world.calls.append(call)
        fault = None if self.world.script is None else self.world.script(call)
        if self.world.latency_seconds:
            await self.world.clock.sleep(self.world.latency_seconds)
        if fault is not None and fault.error is not None and not fault.after:
            raise fault.error
        return fault

    @staticmethod
    def _end(fault: Fault | None) -> None:
        """What happened has happened; the answer may still be lost."""
        if fault is not None and fault.error is not None:
            raise fault.error

    async def _answer(self, call: Call) -> None:
        self._end(await self._begin(call))

    def _repeated(self, want: Want, mark: Mark) -> MemoryObject | None:
        """The object of an earlier request with the same key."""
        if self._capabilities.kinds[want.kind].idempotency is not Idempotency.KEY:
            return None
        return self.world.by_token(mark.token)

    def _created(self, call: Call, want: Want, mark: Mark) -> MemoryObject:
        world, now = self.world, self.world.clock.monotonic()
        self._admit(call, want)
        boots = want.kind in _BOOTS
        number = len(world.objects) + 1
        thing = MemoryObject(
            provider=self.name,
            kind=want.kind,
            remote_id=f"{want.kind}-{number}" if not (boots and world.steps) else f"request-{number}",
            name=want.name,
            mark=mark,
            attrs=dict(want.attrs),
            facts={"public_ip": f"192.0.{number >> 8 & 255}.{number & 255}", **_price(want)},
            created_at=now,
            visible_at=now + world.visibility_seconds,
            ready_at=now + (world.boot_seconds if boots else 0),
            steps=world.steps if boots else 0,
        )
        trouble = world.boots(want) if boots and world.boots is not None else None
        if trouble is not None:
            thing.halted, thing.detail = Status.FAILED, str(trouble)
            thing.failure = trouble if isinstance(trouble, ProviderError) else None
        world.add(thing)
        return thing

    def _admit(self, call: Call, want: Want) -> None:
        """Refuse what this world has no room for, or what refers to something that does not exist."""
        if self.world.capacity is not None and not self.world.capacity(want):
            raise failed(NoCapacity, call)
        for used in used_ids(want.attrs):
            if used not in self.world.objects or self.world.objects[used].gone_at is not None:
                raise failed(InvalidRequest, call, message=f"there is no `{used}`")
        known = self._capabilities.kinds[want.kind]
        if known.unique_names or known.idempotency is Idempotency.NAME:
            shelf = self.world.shelf(self.name, want.kind).values()
            if any(thing.name == want.name for thing in shelf):
                raise failed(Conflict, call, message=f"the name `{want.name}` is taken")

    async def _power(self, call: Call, halted: Status | None, seconds: float) -> Observed:
        fault = await self._begin(call)
        thing, now = self._existing(call), self.world.clock.monotonic()
        if thing.halted is not halted:
            thing.halted, thing.ready_at = halted, now + seconds
        self._end(fault)
        return self._observe(thing, now)

    def _find(self, kind: Kind, remote_id: str) -> MemoryObject | None:
        thing = self.world.find(remote_id)
        if thing is None or (thing.provider, thing.kind) != (self.name, kind):
            return None
        return None if thing.status(self.world.clock.monotonic()) is Status.TERMINATED else thing

    def _existing(self, call: Call) -> MemoryObject:
        thing = self.world.find(call.remote_id)
        if thing is None or thing.gone_at is not None:
            raise failed(NotFound, call)
        return thing

    def _observe(self, thing: MemoryObject, now: float) -> Observed:
        return Observed(
            kind=thing.kind,
            remote_id=thing.remote_id,
            status=thing.status(now),
            attrs={name: _reported(value) for name, value in thing.attrs.items() if name in _REPORTED},
            facts=thing.facts,
            mark=thing.mark,
            detail=thing.detail,
            failure=thing.failure if thing.halted is Status.FAILED and now >= thing.ready_at else None,
            expires_at=thing.expires_at,
            supersedes=thing.supersedes,
        )


class SteppedMemoryProvider(MemoryProvider):
    """Creates in several steps, as auctions do: every step gives the object another id."""

    async def advance(self, want: Want, mark: Mark, observed: Observed, links: Links) -> Observed:
        call = Call("advance", self.name, want.kind, observed.remote_id, want.address)
        fault = await self._begin(call)
        thing = self.world.by_token(mark.token)
        if thing is None or thing.gone_at is not None:
            raise failed(NotFound, call)
        now = self.world.clock.monotonic()
        if thing.steps:
            thing.steps -= 1
            thing.ready_at = now + self.world.boot_seconds
            self.world.rename(thing, f"{thing.remote_id.partition('/')[0]}/step-{self.world.steps - thing.steps}")
        self._end(fault)
        return self._observe(thing, now)


_REPORTED = {"gpu", "cpu", "memory_gb", "disk_gb", "region", "zone", "instance_type", "image", "labels", "nodes"}
_REPORTED |= {"size_gb", "type", "public_key", "cidr"}
"""Attributes this provider tells; of the others it says nothing, as real ones do of environments and keys."""


def _reported(value: Value) -> Value:
    if isinstance(value, str) and value.startswith(">="):
        return Constraint.parse(value).amount
    return value


def _price(want: Want) -> Facts:
    if want.offer is None or want.offer.price_per_hour is None:
        return {}
    nodes = want.attrs.get("nodes")
    return {"price_per_hour": float(want.offer.price_per_hour) * (nodes if isinstance(nodes, int) else 1)}
