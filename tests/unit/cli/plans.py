"""Small plans for the tests of the views, put together by hand."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from gpuplan.core.address import Address
from gpuplan.core.desired import Candidate, Desired, Kind
from gpuplan.core.offers import Offer, Pricing
from gpuplan.core.plan import Action, Change, Mode, Operation, Plan, Ranked, Reason
from gpuplan.core.state import Phase, Recorded
from gpuplan.core.values import Attrs

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
CANDIDATE = Candidate("runpod", {"gpu": "H100-80GB:8", "image": "train:1"}, ("clusters", "train"))


def address(text: str) -> Address:
    return Address.parse(text)


def recorded(name: str, attrs: Attrs | None = None) -> Recorded:
    return Recorded(
        address=address(name),
        kind=Kind.NODE,
        provider="runpod",
        account="a",
        remote_id=f"id-{name}",
        token="t",
        attrs=CANDIDATE.attrs if attrs is None else attrs,
        facts={},
        depends_on=frozenset(),
        created_at=NOW,
        phase=Phase.READY,
    )


def change(action: Action, name: str, *reasons: Reason, candidate: Candidate = CANDIDATE) -> Change:
    place = address(name)
    wanted = Desired(place, Kind.NODE, (candidate,), frozenset(), candidate.path)
    prior = None if action is Action.CREATE else recorded(name)
    gone = action in (Action.DELETE, Action.FORGET)
    places = (Ranked(candidate, None),) if action in (Action.CREATE, Action.REPLACE) else ()
    return Change(place, action, None if gone else wanted, prior, None, reasons, places)


def nodes(action: Action, numbers: Iterable[int], *reasons: Reason) -> list[Change]:
    return [change(action, f"clusters.train.nodes[{number}]", *reasons) for number in numbers]


def plan(changes: Iterable[Change], mode: Mode = Mode.NORMAL) -> Plan:
    kept = {change.address: change for change in changes}
    operations = tuple(
        Operation(f"{change.action} {name}", change.action, name)
        for name, change in kept.items()
        if change.action is not Action.NO_OP
    )
    return Plan("llama", "default", "lineage", 3, "digest", mode, NOW, kept, operations)


def offer(region: str, price: str) -> Offer:
    return Offer("runpod", "ref", region, "H100-80GB", 8, Pricing.SPOT, Decimal(price), NOW)


def placed(found: Change, places: Sequence[Ranked]) -> Change:
    return replace(found, places=tuple(places))
