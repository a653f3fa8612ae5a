"""The operations of a plan in a valid order, and the rules that yield to it when they cannot all be kept.

Called by `lower`. A rule that yields is soft: it is dropped only where keeping it would make operations wait for each
other.
"""

from dataclasses import dataclass, field, replace
from enum import IntEnum

from gpuplan.core.address import Address
from gpuplan.core.diagnostics import Diagnostic, Severity
from gpuplan.core.errors import PlanError
from gpuplan.core.plan import Action, Operation
from gpuplan.plan.graph import arrange, knots


class Yields(IntEnum):
    """Which soft edges go first when operations wait for each other."""

    FIRST = 1
    """A courtesy to what is running: rolling replacement, changing a user before its dependency goes."""
    LAST = 2
    """The order of deletes by recorded dependencies, which a half-finished apply may leave circular."""


@dataclass(slots=True)
class Weave:
    """The operation graph while it is woven. A joint stands for many operations at once and does nothing itself."""

    operations: list[Operation] = field(default_factory=list)
    needs: list[list[int]] = field(default_factory=list)
    joints: set[int] = field(default_factory=set)
    soft: dict[tuple[int, int], Yields] = field(default_factory=dict)
    """Edges (operation, what it needs) that may yield."""

    def add(self, operation: Operation, *needs: int) -> int:
        self.operations.append(operation)
        self.needs.append(list(needs))
        return len(self.operations) - 1

    def joint(self, name: str, address: Address) -> int:
        number = self.add(Operation(name, Action.NO_OP, address))
        self.joints.add(number)
        return number

    def prefer(self, number: int, need: int, yields: Yields) -> None:
        """Add a need that may yield."""
        self.needs[number].append(need)
        self.soft.setdefault((number, need), yields)


@dataclass(frozen=True, slots=True)
class Woven:
    operations: tuple[Operation, ...]
    dropped: tuple[tuple[Operation, Operation], ...] = ()
    """Soft edges that had to yield: (operation, what it would have needed)."""

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """What a user asked for and does not get: clusters that cannot be replaced node by node."""
        blocks = {
            operation.address.block
            for operation, need in self.dropped
            if need.action is not Action.NO_OP and operation.address.block == need.address.block
        }
        return tuple(
            Diagnostic(
                id="no-rolling-replacement",
                summary=f"the nodes of `{block}` are replaced all at once",
                facts=("something they all depend on is deleted before it is created again",),
                hint="give what they depend on `create_before_destroy: true`",
                severity=Severity.WARNING,
            )
            for block in sorted(blocks, key=lambda block: block.order)
        )


def order(weave: Weave) -> Woven:
    """Sort the operations, drop joints that join nothing. Raises PlanError if they wait for each other."""
    sequence = arrange(weave.needs)
    dropped: list[tuple[Operation, Operation]] = []
    for rule in Yields:
        if len(sequence) == len(weave.needs):
            break
        for knot in knots(weave.needs):
            yielding = [edge for edge, yields in weave.soft.items() if yields is rule and knot.issuperset(edge)]
            for number, need in yielding:
                weave.needs[number].remove(need)
                dropped.append((weave.operations[number], weave.operations[need]))
        sequence = arrange(weave.needs)
    if len(sequence) < len(weave.needs):
        raise PlanError(diagnostics=(_stuck(weave),))
    return Woven(_named(weave, sequence), tuple(dropped))


def _named(weave: Weave, sequence: list[int]) -> tuple[Operation, ...]:
    """Operations with the ids of what they need. A joint of at most one operation is left out."""
    flat: dict[int, list[int]] = {}
    named: list[Operation] = []
    for number in sequence:
        needs: set[int] = set()
        for need in weave.needs[number]:
            if need in flat:
                needs.update(flat[need])
            else:
                needs.add(need)
        if number in weave.joints and len(needs) <= 1:
            flat[number] = list(needs)
        else:
            ids = tuple(weave.operations[need].id for need in sorted(needs))
            named.append(replace(weave.operations[number], needs=ids) if ids else weave.operations[number])
    return tuple(named)


def _stuck(weave: Weave) -> Diagnostic:
    names = sorted(weave.operations[number].id for knot in knots(weave.needs) for number in knot)
    return Diagnostic(
        id="operations-cycle",
        summary="the operations of this plan wait for each other",
        facts=tuple(f"`{name}` is part of the circle" for name in names[:10]),
        hint="apply it in two steps, the first with --target",
    )
