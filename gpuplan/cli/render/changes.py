"""Changes gathered for showing: equal nodes in one group, summary counts, the words for each action.

Called by the text, Markdown and HTML views of a plan. Linear in the number of changes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from gpuplan.core.address import Address
from gpuplan.core.observed import GONE
from gpuplan.core.plan import Action, Change, Mode, Plan, Ranked, Reason
from gpuplan.core.values import Attrs

_KINDS_PER_CLUSTER = 8
"""How many different groups of one cluster a node is compared with."""

VERBS: Mapping[Action, str] = {
    Action.CREATE: "will be created",
    Action.UPDATE: "will be updated in-place",
    Action.REPLACE: "must be replaced",
    Action.DELETE: "will be destroyed",
    Action.START: "will be started",
    Action.STOP: "will be stopped",
    Action.EXTEND: "will have its lease extended",
    Action.ADOPT: "will be imported",
    Action.FORGET: "will no longer be managed by gpuplan, and keeps running",
    Action.READ: "is not ready yet, and will be waited for",
    Action.NO_OP: "stays as it is",
}

SYMBOLS: Mapping[Action, str] = {
    Action.CREATE: "  +",
    Action.UPDATE: "  ~",
    Action.REPLACE: "-/+",
    Action.DELETE: "  -",
    Action.START: "  ~",
    Action.STOP: "  ~",
    Action.EXTEND: "  ~",
    Action.ADOPT: "  +",
    Action.FORGET: "  .",
    Action.READ: " <=",
    Action.NO_OP: "   ",
}

CREATE_FIRST = "+/-"


@dataclass(slots=True)
class Group:
    """Changes that differ in nothing but the number of their node."""

    first: Change
    nodes: list[int] = field(default_factory=list)
    size: int = 1

    @property
    def name(self) -> str:
        """`clusters.train.nodes[0..3,7]`."""
        address = self.first.address
        return str(address) if self.size == 1 else f"{address.block}.nodes[{ranges(self.nodes)}]"

    @property
    def symbol(self) -> str:
        return symbol(self.first)


def symbol(change: Change) -> str:
    if change.action is Action.REPLACE and change.create_first:
        return CREATE_FIRST
    return SYMBOLS[change.action]


def ranges(numbers: Sequence[int]) -> str:
    """`0..3,7` for 0, 1, 2, 3 and 7."""
    parts: list[str] = []
    start = previous = numbers[0]
    for number in [*numbers[1:], None]:
        if number is not None and number == previous + 1:
            previous = number
            continue
        parts.append(str(start) if start == previous else f"{start}..{previous}")
        if number is not None:
            start = previous = number
    return ",".join(parts)


def shown_changes(plan: Plan) -> Iterator[Change]:
    """What a reader must see: everything that does something, and what has another name now."""
    return (c for c in plan.changes.values() if c.action is not Action.NO_OP or c.moved_from is not None)


def is_gone(change: Change) -> bool:
    """Whether the object of a change is certainly not there any more."""
    return change.prior is not None and (change.observed is None or change.observed.status in GONE)


def gather(changes: Iterable[Change]) -> list[Group]:
    """Groups of equal nodes, in the order of their first address."""
    groups: list[Group] = []
    block: Address | None = None
    open_groups: list[Group] = []
    for change in changes:
        address = change.address
        if address.node is None or change.import_id or change.moved_from is not None:
            groups.append(Group(change))
            continue
        if address.block != block:
            block, open_groups = address.block, []
        group = next((group for group in open_groups if _alike(group.first, change)), None)
        if group is None:
            group = Group(change, [address.node])
            groups.append(group)
            open_groups = [group, *open_groups][:_KINDS_PER_CLUSTER]
        else:
            group.nodes.append(address.node)
            group.size += 1
    return groups


def _alike(left: Change, right: Change) -> bool:
    return (
        left.action is right.action
        and left.create_first is right.create_first
        and left.reasons == right.reasons
        and _same_places(left.places, right.places)
        and _same_object(left, right)
    )


def _same_places(left: Sequence[Ranked], right: Sequence[Ranked]) -> bool:
    return left is right or (
        len(left) == len(right)
        and all(
            a.candidate is b.candidate and a.offer == b.offer and a.rejected == b.rejected
            for a, b in zip(left, right, strict=True)
        )
    )


def _same_object(left: Change, right: Change) -> bool:
    if left.action is Action.DELETE and left.prior is not None and right.prior is not None:
        return left.prior.provider == right.prior.provider and left.prior.attrs == right.prior.attrs
    return True


def attributes(change: Change) -> tuple[str, Attrs]:
    """The provider and the attributes of what a create makes, or of what a delete takes away."""
    if change.action is Action.DELETE and change.prior is not None:
        return change.prior.provider, change.prior.attrs
    chosen = change.chosen
    if chosen is not None:
        return chosen.candidate.provider, chosen.candidate.attrs if chosen.attrs is None else chosen.attrs
    if change.desired is not None and change.desired.candidates:
        candidate = change.desired.candidates[0]
        return candidate.provider, candidate.attrs
    return "", {}


def because(change: Change) -> list[str]:
    """The reasons that are no attribute, as sentences without a beginning: `it was deleted outside of gpuplan`."""
    return [_with_pronoun(reason.text) for reason in change.reasons if not reason.path and reason.text]


def lacks_subject(text: str) -> bool:
    """Whether a reason begins with its verb: `is tainted`, `was deleted outside of gpuplan`."""
    return text.split(" ", 1)[0] in {"is", "was", "has", "does", "did", "needs", "will", "cannot", "carries"}


def _with_pronoun(text: str) -> str:
    return f"it {text}" if lacks_subject(text) else text


def attribute_reasons(change: Change) -> list[Reason]:
    return [reason for reason in change.reasons if reason.path]


@dataclass(frozen=True, slots=True)
class Counts:
    imported: int = 0
    added: int = 0
    changed: int = 0
    destroyed: int = 0

    @classmethod
    def of(cls, plan: Plan) -> "Counts":
        """What the summary line counts: a replacement is one to add and one to destroy."""
        tally = dict.fromkeys(Action, 0)
        updated_imports = 0
        for change in plan.changes.values():
            tally[change.action] += 1
            updated_imports += change.action is Action.ADOPT and bool(change.reasons)
        return cls(
            imported=tally[Action.ADOPT],
            added=tally[Action.CREATE] + tally[Action.REPLACE],
            changed=sum(tally[a] for a in (Action.UPDATE, Action.START, Action.STOP, Action.EXTEND)) + updated_imports,
            destroyed=tally[Action.DELETE] + tally[Action.REPLACE],
        )


def summary(plan: Plan) -> str:
    """The line that tools look for."""
    if plan.mode is Mode.REFRESH_ONLY and not plan.is_empty:
        return "This is a refresh-only plan: applying it writes these changes into the state, and sends nothing."
    if plan.is_empty:
        return no_changes(plan.mode)
    counts = Counts.of(plan)
    imported = f"{counts.imported} to import, " if counts.imported else ""
    return f"Plan: {imported}{counts.added} to add, {counts.changed} to change, {counts.destroyed} to destroy."


def no_changes(mode: Mode) -> str:
    match mode:
        case Mode.NORMAL:
            return "No changes. Your infrastructure matches the configuration."
        case Mode.DESTROY:
            return "No changes. No objects need to be destroyed."
        case Mode.REFRESH_ONLY:
            return "No changes. Your infrastructure still matches the state."
