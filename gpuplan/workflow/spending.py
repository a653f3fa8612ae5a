"""What the recorded instances cost, by what the state knows of them. Called by `cost`. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from gpuplan.core.address import Address
from gpuplan.core.desired import Kind
from gpuplan.core.state import Recorded, State
from gpuplan.plan.cost import price_told

_BILLED = frozenset({Kind.NODE, Kind.GROUP, Kind.VOLUME})
"""Kinds that cost something nearly everywhere, so that a price nobody told is worth a word."""


@dataclass(frozen=True, slots=True)
class Spending:
    """USD. What has no price is in neither sum: `unpriced` counts it. None: nothing has one."""

    address: Address | None
    """A cluster, or another resource; None for all of them."""
    instances: int
    per_hour: Decimal | None
    accrued: Decimal | None
    unpriced: int
    since: datetime | None


def spending(state: State, now: datetime) -> list[Spending]:
    """A row for every cluster and for whatever else costs something, in the order of their addresses."""
    groups: dict[Address, list[Recorded]] = {}
    for recorded in sorted(state.instances.values(), key=lambda recorded: recorded.address.order):
        if recorded.kind in _BILLED or price_told(recorded.facts) is not None:
            groups.setdefault(recorded.address.block, []).append(recorded)
    return [_spent(address, records, now) for address, records in groups.items()]


def total(rows: Sequence[Spending]) -> Spending:
    return Spending(
        None,
        sum(row.instances for row in rows),
        _sum(row.per_hour for row in rows),
        _sum(row.accrued for row in rows),
        sum(row.unpriced for row in rows),
        min((row.since for row in rows if row.since is not None), default=None),
    )


def _spent(address: Address, records: Sequence[Recorded], now: datetime) -> Spending:
    priced = [(recorded, price) for recorded in records if (price := price_told(recorded.facts)) is not None]
    # An old object that is still to be deleted costs something too; its price was not kept.
    leftovers = sum(len(recorded.deposed) for recorded in records)
    return Spending(
        address,
        len(records),
        _sum(price for _, price in priced),
        _sum(price * _hours(recorded, now) for recorded, price in priced),
        len(records) - len(priced) + leftovers,
        min(recorded.created_at for recorded in records),
    )


def _hours(recorded: Recorded, now: datetime) -> Decimal:
    seconds = max(0.0, (now - recorded.created_at).total_seconds())
    return Decimal(str(seconds)) / 3600


def _sum(amounts: Iterable[Decimal | None]) -> Decimal | None:
    known = [amount for amount in amounts if amount is not None]
    return sum(known, Decimal(0)) if known else None
