"""What every operation of one run works with.

Made by `executor`; operations write to the state, ask for time and for patience only through it.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import asynccontextmanager
from functools import cached_property

from gpuplan.core.address import Address
from gpuplan.core.capabilities import Capabilities
from gpuplan.core.desired import Desired, Kind
from gpuplan.core.errors import InternalError, NoCapacity, ProviderError, Retry
from gpuplan.core.events import OperationProgress
from gpuplan.core.marks import Mark
from gpuplan.core.offers import FailedPlace, place_of
from gpuplan.core.plan import Change, Operation, Plan, Ranked
from gpuplan.core.ports import CanForesee, Channels, Clock, Emit, Ledger, Provider, Want
from gpuplan.core.state import Begun, Buried, Entry, Intent, Noted, Recorded
from gpuplan.engine.outcome import Stop
from gpuplan.engine.patience import Patience
from gpuplan.engine.readiness import Watch
from gpuplan.engine.reads import in_time
from gpuplan.engine.records import objects
from gpuplan.engine.resolve import StateScope, members
from gpuplan.engine.slots import Slots
from gpuplan.plan.lifetimes import tombstone


class Run:
    """One execution of one plan."""

    def __init__(
        self,
        plan: Plan,
        ledger: Ledger,
        providers: Mapping[str, Provider],
        *,
        clock: Clock,
        emit: Emit,
        stop: Stop,
        slots: Slots,
        channels: Channels,
    ) -> None:
        self.plan = plan
        self.providers = providers
        self.channels = channels
        self.clock = clock
        self.emit = emit
        self.stop = stop
        self.begun: set[int] = set()
        """The intents of this run."""
        self.failed_places: list[FailedPlace] = []
        self.scope = StateScope(lambda: ledger.ahead, members(plan, ledger.state))
        self.key = ledger.state.key
        self.lineage = ledger.state.lineage
        self._ledger = ledger
        self._slots = slots
        self._watches: dict[str, Watch] = {}
        self._accounts: dict[str, str] = {}
        self._foresight: dict[str, CanForesee | None] = {}
        self._asking: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def record(self, address: Address) -> Recorded | None:
        """The latest record, durable or on its way: two operations on one instance must not undo each other's."""
        return self._ledger.ahead.instances.get(address)

    def claimed(self) -> Set[str]:
        """The ids of all recorded objects."""
        return {thing.remote_id for recorded in self._ledger.ahead.instances.values() for thing in objects(recorded)}

    def existing(self, address: Address) -> Recorded:
        """The record of an instance that an operation works on; the plan says that there is one."""
        recorded = self.record(address)
        if recorded is None:
            raise InternalError(f"the plan changes `{address}`, which the state does not have")
        return recorded

    def change(self, operation: Operation) -> Change:
        return self.plan.changes[operation.address]

    def wanted(self, operation: Operation) -> Desired:
        """What the spec asks of an instance that an operation makes or changes."""
        desired = self.change(operation).desired
        if desired is None:
            raise InternalError(f"the plan has nothing to make of `{operation.address}`")
        return desired

    def capabilities(self, provider: str) -> Capabilities:
        return self.providers[provider].capabilities

    async def write(self, *entries: Entry) -> None:
        """Durable when it returns. Between reading a record and writing what comes of it nothing may be awaited."""
        self.conclude(*entries)
        await self._ledger.settle()

    def conclude(self, *entries: Entry) -> None:
        """What came of an operation, as the last that it does: it need not wait, and neither need what depends on it,
        since every effect is announced behind these entries and not sent before both are durable."""
        self._ledger.submit(*self._buried(entries), *entries)
        for entry in entries:
            if isinstance(entry, Noted):
                self.scope.changed(entry.address)

    def _buried(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """The tombstones of what goes with these entries because its time is over. They come first: between the two a
        crash leaves a record, and with it the plan to remove it."""
        for entry in entries:
            if isinstance(entry, Noted) and entry.recorded is None and (change := self.plan.changes.get(entry.address)):
                expired = tombstone(change, self.clock.now())
                if expired is not None:
                    yield Buried(entry.address, expired)

    async def begin(
        self,
        operation: Operation,
        *,
        kind: Kind,
        provider: str,
        account: str,
        remote_id: str = "",
        token: str = "",
        draft: Recorded | None = None,
        witness: str = "",
        action: str = "",
    ) -> Intent:
        """Announce an effect; it may be sent once this returns."""
        intent = Intent(
            seq=self._ledger.next_seq(),
            operation=operation.id,
            action=action or operation.action,
            address=operation.address,
            kind=kind,
            provider=provider,
            account=account,
            begun_at=self.clock.now(),
            token=token,
            remote_id=remote_id,
            draft=draft,
            witness=witness,
        )
        self.begun.add(intent.seq)
        await self._ledger.write(Begun(intent))
        return intent

    def witness(self, provider: str, want: Want, mark: Mark) -> str:
        """What will tell the new object apart where listings carry no mark."""
        if provider not in self._foresight:
            known = self.providers[provider]
            self._foresight[provider] = known if isinstance(known, CanForesee) else None
        foresight = self._foresight[provider]
        return "" if foresight is None else foresight.witness(want, mark)

    async def account(self, provider: str, patience: Patience) -> str:
        """The id of the account behind a provider block, asked for once."""
        while provider not in self._accounts:
            try:
                async with self._asking[provider]:
                    if provider not in self._accounts:
                        health = self.providers[provider].health()
                        account = await in_time(health, provider=provider, doing="look at the account")
                        self._accounts[provider] = account.id
            except ProviderError as error:
                if error.retry is Retry.NEVER:
                    raise
                await patience.pause(error)
        return self._accounts[provider]

    def watch(self, provider: str) -> Watch:
        if provider not in self._watches:
            self._watches[provider] = Watch(provider, self.providers[provider], self.clock)
        return self._watches[provider]

    @asynccontextmanager
    async def resting(self, operation: Operation) -> AsyncIterator[None]:
        """Leave the place at work to others while the block lasts: it only waits."""
        async with self._slots.resting(operation.provider):
            yield

    def patience(self, provider: str, asked_seconds: float | None) -> Patience:
        """For one operation: as long as the spec says, else as long as objects of that provider take."""
        seconds = asked_seconds if asked_seconds is not None else self.capabilities(provider).ready_timeout_seconds
        return Patience(self.clock, seconds=seconds)

    def mark(self, token: str, address: Address) -> Mark:
        return Mark(token, self.plan.project, self.plan.workspace, self.lineage, address)

    def progress(self, operation: Operation, text: str) -> None:
        self.emit(OperationProgress(operation.id, operation.address, text))

    def shun(self, place: Ranked, error: ProviderError) -> None:
        """Remember that a node could not be had there."""
        if place.offer is not None:
            why = "it had no room" if isinstance(error, NoCapacity) else error.failure.message or "it did not come up"
            where = FailedPlace(place.candidate.provider, place_of(place.offer), self.clock.now(), why)
            self.failed_places.append(where)

    def nodes_beside(self, address: Address) -> Sequence[Address]:
        """All nodes of the cluster that this one is in, in their order."""
        return self._nodes[address.block]

    @cached_property
    def _nodes(self) -> Mapping[Address, list[Address]]:
        nodes: defaultdict[Address, list[Address]] = defaultdict(list)
        for address, change in self.plan.changes.items():
            if change.desired is not None:
                nodes[address.block].append(address)
        for beside in nodes.values():
            beside.sort(key=lambda address: address.node or 0)
        return nodes

    async def close(self) -> None:
        for watch in self._watches.values():
            await watch.close()
