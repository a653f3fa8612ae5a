"""The time an instance is given by its `ttl`, and what comes after: it is deleted, and stays gone until the spec asks
for something else.

Called by `diff` and `planner`; by the engine, which writes down what has expired.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta

from gpuplan.core.address import Address
from gpuplan.core.desired import Desired
from gpuplan.core.diagnostics import At, Diagnostic, Label, Severity
from gpuplan.core.plan import Change, Reason
from gpuplan.core.state import Expired, Recorded
from gpuplan.plan.compare import STOPPED, differences
from gpuplan.plan.ignore import is_ignored
from gpuplan.plan.scope import PlanScope
from gpuplan.plan.sight import counted

EXPIRED = Reason("", text="has expired")


def has_expired(desired: Desired, prior: Recorded, now: datetime) -> bool:
    """Whether the time the spec gives an instance is over."""
    ttl = desired.settings.ttl_seconds
    return ttl is not None and prior.created_at + timedelta(seconds=ttl) < now


def tombstone(change: Change, now: datetime) -> Expired | None:
    """What to remember of an instance that goes because its time is over; None for any other change."""
    if EXPIRED not in change.reasons or change.prior is None or change.desired is None:
        return None
    ttl = change.desired.settings.ttl_seconds or 0.0
    # What it was made as, and not what somebody has made of it since: that is what the spec is compared with.
    return Expired(change.address, change.prior.provider, change.prior.attrs, ttl, now)


def rests(desired: Desired, expired: Expired | None, scope: PlanScope, key: bytes) -> bool:
    """Whether an instance that is not there has expired, and the spec still asks for the very same."""
    if expired is None or expired.ttl_seconds != desired.settings.ttl_seconds:
        return False
    ignored = desired.settings.lifecycle.ignore_changes
    for candidate in desired.candidates:
        if candidate.provider == expired.provider:
            attrs = scope.attrs_of(candidate)
            found = (item.path for item in differences(expired.attrs, attrs, key))
            alike = (expired.attrs.get(STOPPED) is True) == (attrs.get(STOPPED) is True)
            if alike and all(is_ignored(path, ignored) for path in found):
                return True
    return False


def lifted(expired: Mapping[Address, Expired], desired: Mapping[Address, Desired]) -> Iterator[Address]:
    """Those that the spec does not ask for any more: written down again, they are new."""
    return (address for address in expired if address not in desired)


def resting(instances: Iterable[Desired]) -> Iterator[Diagnostic]:
    """Say of what has expired that it stays gone, cluster by cluster."""
    blocks: dict[Address, list[Desired]] = {}
    for desired in instances:
        blocks.setdefault(desired.address.block, []).append(desired)
    for block, members in blocks.items():
        yield Diagnostic(
            id="expired",
            summary=f"`{block}` has expired, and stays gone",
            labels=(Label(At((*members[0].path, "ttl")), "its time was over"),),
            facts=(counted([member.address for member in members]),),
            hint="change what it asks for to have it again, or ask for it as it was",
            commands=(f"gpuplan apply --replace '{block}'",),
            severity=Severity.WARNING,
        )
