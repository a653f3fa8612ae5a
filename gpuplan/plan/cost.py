"""What a plan costs: USD per hour before and after.

Called by `planner`, and by `checks` for the budget and for what policies look at; `price_told` by whoever shows costs.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation

from gpuplan.core.capabilities import Capabilities
from gpuplan.core.desired import Kind
from gpuplan.core.observed import Status
from gpuplan.core.plan import Action, Change, Reason
from gpuplan.core.values import Facts, Value
from gpuplan.plan.compare import STOPPED

PRICE = "price_per_hour"
"""The fact under which providers tell what an instance costs as a whole, USD per hour."""

_ENDS = frozenset({Action.DELETE, Action.FORGET})
_BEGINS = frozenset({Action.CREATE, Action.REPLACE})


def hourly(
    changes: Iterable[Change], capabilities: Mapping[str, Capabilities]
) -> tuple[Decimal | None, Decimal | None]:
    """Before and after; both None when nothing has a price."""
    before: list[Decimal] = []
    after: list[Decimal] = []
    for change in changes:
        if (price := price_before(change, capabilities)) is not None:
            before.append(price)
        if (price := price_after(change, capabilities)) is not None:
            after.append(price)
    if not before and not after:
        return None, None
    return sum(before, Decimal(0)), sum(after, Decimal(0))


def price_before(change: Change, capabilities: Mapping[str, Capabilities]) -> Decimal | None:
    """What the living object costs now; None where there is none, or no price is known.

    What is forgotten is gone, or goes on at the same price: neither is a saving.
    """
    if change.action in (Action.CREATE, Action.FORGET):
        return None
    halted = change.observed is not None and change.observed.status is Status.STOPPED
    return _unless_halted(change, halted, capabilities)


def price_after(change: Change, capabilities: Mapping[str, Capabilities]) -> Decimal | None:
    """What the instance will cost; None where there will be none, or no price is known."""
    if change.action in _ENDS:
        return None
    if change.action in _BEGINS:
        return _offered(change)
    halted = change.observed is not None and change.observed.status is Status.STOPPED
    if change.desired is not None:
        halted = change.desired.candidates[0].attrs.get(STOPPED) is True
    if change.action is Action.UPDATE and changes_size(change.reasons) and not halted:
        return _offered(change)
    return _unless_halted(change, halted, capabilities)


def changes_size(reasons: Iterable[Reason]) -> bool:
    """Whether an update makes another machine of it: what it costs is then told by an offer."""
    return any(reason.path == "instance_type" for reason in reasons)


def _offered(change: Change) -> Decimal | None:
    """The price of the chosen offer, for all nodes of the instance."""
    chosen = change.chosen
    if chosen is None or chosen.offer is None or chosen.offer.price_per_hour is None:
        return None
    return chosen.offer.price_per_hour * units(change, chosen.candidate.attrs.get("nodes"))


def units(change: Change, nodes: Value) -> int:
    """How many nodes the instance is: one, or those of a group."""
    record = change.desired or change.prior
    grouped = record is not None and record.kind is Kind.GROUP
    return nodes if grouped and isinstance(nodes, int) else 1


def _unless_halted(change: Change, halted: bool, capabilities: Mapping[str, Capabilities]) -> Decimal | None:
    record = change.refreshed or change.prior
    facts = change.observed.facts if record is None and change.observed is not None else {}
    price = price_told(facts if record is None else record.facts)
    if price is None or record is None or not halted:
        return price
    known = capabilities.get(record.provider)
    return price if known is None or known.bills_when_stopped else Decimal(0)


def price_told(facts: Facts) -> Decimal | None:
    """USD per hour for the instance as a whole; None where its provider does not tell."""
    told = facts.get(PRICE)
    if told is None or isinstance(told, bool) or not isinstance(told, (str, int, float)):
        return None
    try:
        price = Decimal(str(told))
    except InvalidOperation:
        return None
    return price if price.is_finite() else None
