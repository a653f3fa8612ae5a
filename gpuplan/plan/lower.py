"""Turn changes into operations: one side effect each, and what must be done before it.

Called by `planner`. The rules, for an instance A that depends on B:
creates and updates of A wait for those of B; the delete of B waits for that of the old A; a replacement deletes before
it creates, or after it where `create_first` says so. Softer: B is not deleted before A was changed to do without it,
and of a cluster only so many nodes are away at once.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from gpuplan.core.address import Address
from gpuplan.core.plan import Action, Change, Operation
from gpuplan.core.state import Recorded
from gpuplan.plan.compare import STOPPED
from gpuplan.plan.dependencies import Dependencies
from gpuplan.plan.diff import Decision
from gpuplan.plan.order import Weave, Woven, Yields, order


def lower(
    changes: Mapping[Address, Change], decisions: Mapping[Address, Decision], dependencies: Dependencies
) -> Woven:
    """All operations in a valid order. `decisions` tell the steps on living objects that stay.

    Raises PlanError when they wait for each other.
    """
    weaver = _Weaver(changes, dependencies)
    for address, change in changes.items():
        weaver.add(address, change, decisions.get(address))
    weaver.connect()
    weaver.roll()
    return order(weaver.weave)


@dataclass(slots=True)
class _Chain:
    """The operations of one change, by their numbers."""

    first: int | None = None
    """Where the object's making or changing begins, and `last` where it is ready."""
    last: int | None = None
    removal: int | None = None
    removals: list[int] = field(default_factory=list)
    """With those of deposed objects."""
    away: int | None = None
    """The operation that takes a node away until `last`."""


class _Weaver:
    def __init__(self, changes: Mapping[Address, Change], dependencies: Dependencies) -> None:
        self.weave = Weave()
        self._changes = changes
        self._dependencies = dependencies
        self._chains: dict[Address, _Chain] = {}
        self._made: dict[int, int | None] = {}
        self._unfilled: list[tuple[int, int]] = []
        self._left: dict[int, tuple[int, int]] = {}

    def add(self, address: Address, change: Change, decision: Decision | None) -> None:
        """The operations of one change, joined among themselves."""
        chain = _Chain()
        record = change.refreshed or change.prior
        if record is not None and record.deposed:
            self._remove_deposed(chain, record)
        match change.action:
            case Action.CREATE:
                self._make(chain, change)
            case Action.REPLACE if change.create_first:
                self._make(chain, change)
                assert record is not None and chain.last is not None
                chain.removal = self._remove(chain, record, len(record.deposed), chain.last)
            case Action.REPLACE:
                chain.away = self._drop(chain, change, Action.DELETE)
                self._make(chain, change, chain.away)
            case Action.DELETE | Action.FORGET:
                self._drop(chain, change, change.action)
            case Action.ADOPT:
                self._step(chain, change, Action.ADOPT)
                if change.reasons:
                    self._step(chain, change, Action.UPDATE)
            case _ if decision is not None:
                for action in decision.steps:
                    self._step(chain, change, action)
                if decision.takes_away:
                    chain.away = chain.first
        if chain.first is not None or chain.removals:
            self._chains[address] = chain

    def _step(self, chain: _Chain, change: Change, action: Action, *needs: int) -> None:
        record = change.refreshed or change.prior
        remote_id = change.import_id if record is None or action is Action.CREATE else record.remote_id
        provider = record.provider if record is not None and action is not Action.CREATE else _place(change)
        operation = Operation(f"{action} {change.address}", action, change.address, provider, remote_id=remote_id)
        chain.last = self.weave.add(operation, *needs, *(() if chain.last is None else (chain.last,)))
        if chain.first is None:
            chain.first = chain.last

    def _make(self, chain: _Chain, change: Change, *needs: int) -> None:
        self._step(chain, change, Action.CREATE, *needs)
        chosen = change.chosen
        if chosen is not None and chosen.candidate.attrs.get(STOPPED) is True:
            self._step(chain, change, Action.STOP)

    def _drop(self, chain: _Chain, change: Change, action: Action) -> int:
        """Remove the object and its record; what is deposed goes first, as the record names it."""
        record = change.refreshed or change.prior
        assert record is not None
        operation = Operation(
            f"{action} {change.address}", action, change.address, record.provider, remote_id=record.remote_id
        )
        chain.removal = self.weave.add(operation, *chain.removals)
        chain.removals.append(chain.removal)
        return chain.removal

    def _remove_deposed(self, chain: _Chain, record: Recorded) -> None:
        for index, deposed in enumerate(record.deposed):
            self._remove(chain, replace(record, provider=deposed.provider, remote_id=deposed.remote_id), index)

    def _remove(self, chain: _Chain, record: Recorded, index: int, *needs: int) -> int:
        """Delete an object that is not, or will not be, the instance's own any more."""
        suffix = "(deposed)" if index == 0 else f"(deposed {index + 1})"
        operation = Operation(
            f"{Action.DELETE} {record.address} {suffix}",
            Action.DELETE,
            record.address,
            record.provider,
            remote_id=record.remote_id,
            deposed=True,
        )
        chain.removals.append(self.weave.add(operation, *needs))
        return chain.removals[-1]

    def connect(self) -> None:
        """Join the operations of different instances."""
        position = self._dependencies.position
        for address, chain in self._chains.items():
            number = position[address]
            if chain.first is not None:
                self._await_made(chain.first, self._dependencies.needs[number])
            if chain.removals and self._changes[address].action is not Action.FORGET:
                self._await_left(chain, number, self._changes[address])
        while self._unfilled:
            joint, number = self._unfilled.pop()
            self._await_made(joint, self._dependencies.needs[number])

    def _await_made(self, operation: int, needs: Iterable[int]) -> None:
        before = self.weave.needs[operation]
        for need in needs:
            made = self._when_made(need)
            if made is not None:
                before.append(made)

    def _when_made(self, number: int) -> int | None:
        """The operation after which a dependency is as the plan wants it; a joint for what only passes its own on."""
        if number in self._made:
            return self._made[number]
        address = self._dependencies.addresses[number]
        chain = self._chains.get(address)
        made = None
        if chain is not None and chain.last is not None:
            made = chain.last
        elif self._dependencies.needs[number]:
            made = self.weave.joint(f"join {address}", address)
            self._unfilled.append((made, number))
        self._made[number] = made
        return made

    def _await_left(self, chain: _Chain, number: int, change: Change) -> None:
        """Let the delete of an object wait for those who use it."""
        patient = change.action is Action.DELETE or change.create_first
        for user in self._dependencies.users[number]:
            if user < self._dependencies.count:
                removals, update = self._leaving(user)
            else:
                left, update = self._when_left(user)
                removals = [left]
            for removal in chain.removals:
                for before in removals:
                    self.weave.prefer(removal, before, Yields.LAST)
            if patient and update is not None and chain.removal is not None:
                self.weave.prefer(chain.removal, update, Yields.FIRST)

    def _leaving(self, user: int) -> tuple[list[int], int | None]:
        """How an instance lets go of what it was made with: by being deleted, or by being changed."""
        address = self._dependencies.addresses[user]
        chain = self._chains.get(address)
        if chain is None:
            return [], None
        changed = self._changes[address].action is Action.UPDATE
        return chain.removals, chain.last if changed else None

    def _when_left(self, group: int) -> tuple[int, int]:
        """Joints for the deletes and for the changes of all that use a whole resource."""
        if group not in self._left:
            address = self._dependencies.addresses[group]
            left = self.weave.joint(f"join {address} (dependents gone)", address)
            let_go = self.weave.joint(f"join {address} (dependents changed)", address)
            for user in self._dependencies.users[group]:
                removals, update = self._leaving(user)
                self.weave.needs[left].extend(removals)
                if update is not None:
                    self.weave.needs[let_go].append(update)
            self._left[group] = left, let_go
        return self._left[group]

    def roll(self) -> None:
        """Of a cluster with `max_unavailable`, take a node away only when an earlier one is back."""
        away: dict[Address, list[_Chain]] = {}
        limits: dict[Address, int] = {}
        for address, chain in self._chains.items():
            change = self._changes[address]
            limit = None if change.desired is None else change.desired.settings.max_unavailable
            if limit is None or address.node is None:
                continue
            lost = change.action is Action.CREATE and change.prior is not None
            if lost or chain.away is not None:
                limits[address.block] = limit
                away.setdefault(address.block, []).append(chain)
        for block, chains in away.items():
            # Nodes that are gone already come first: they count as away.
            chains.sort(key=lambda chain: chain.away is not None)
            for earlier, later in zip(chains, chains[limits[block] :], strict=False):
                if later.away is not None and earlier.last is not None:
                    self.weave.prefer(later.away, earlier.last, Yields.FIRST)


def _place(change: Change) -> str:
    chosen = change.chosen
    if chosen is not None:
        return chosen.candidate.provider
    return change.desired.candidates[0].provider if change.desired is not None else ""
