"""Records of objects that exist and that no state has: what the applies that made them would have written. Pure.

Called by `orphans`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal

from gpuplan.core.address import Address
from gpuplan.core.desired import Configuration
from gpuplan.core.diagnostics import Diagnostic
from gpuplan.core.errors import StateError
from gpuplan.core.observed import Observed, Status
from gpuplan.core.seal import hide, seal_attrs
from gpuplan.core.state import Deposed, Entry, Phase, Recorded, State
from gpuplan.engine.records import draft
from gpuplan.engine.resolve import StateScope, closest
from gpuplan.plan.cost import PRICE
from gpuplan.state.edit import adopt

_STARTING = frozenset({Status.PENDING, Status.STARTING})
_PLACE = ("region", "instance_type")


@dataclass(frozen=True, slots=True)
class Orphan:
    """One of them. `price_per_hour` in USD; None where neither the object nor the price list tells."""

    provider: str
    account: str
    observed: Observed
    price_per_hour: Decimal | None

    @property
    def address(self) -> Address | None:
        """Where its mark says it belongs; a mark with little room does not."""
        return None if self.observed.mark is None else self.observed.mark.address

    @property
    def target(self) -> Deposed:
        token = "" if self.observed.mark is None else self.observed.mark.token
        return Deposed(self.provider, self.account, self.observed.kind, self.observed.remote_id, token)


def adoptions(
    chosen: Sequence[Orphan], orphans: Sequence[Orphan], configuration: Configuration, state: State, now: datetime
) -> tuple[Entry, ...]:
    """The records of the chosen ones, each at the address its mark names: the next plan tells what differs from the
    spec. Raises StateError where an address has an object already, or would get two.
    """
    records = [_as_seen(orphan, state, now) for orphan in chosen]
    twice = [address for address, count in Counter(recorded.address for recorded in records).items() if count > 1]
    if twice:
        raise _twins(twice[0], [each.remote_id for each in records if each.address == twice[0]])
    # Attributes of one refer to another, which may be adopted later: all are there before the first is computed.
    known = [_as_seen(orphan, state, now) for orphan in orphans if orphan.address is not None]
    grown = replace(state, instances={**{each.address: each for each in known}, **state.instances})
    members = sorted({**grown.instances, **configuration.instances}, key=lambda address: address.order)
    scope = StateScope(lambda: grown, members)
    asked = [_as_asked(recorded, configuration, scope, state.key) for recorded in records]
    return tuple(entry for recorded in asked for entry in adopt(state, recorded))


def _as_seen(orphan: Orphan, state: State, now: datetime) -> Recorded:
    """All that can be told without the spec. What a provider shows of an environment may be secret."""
    seen, address = orphan.observed, orphan.address
    assert address is not None
    attrs = {name: hide(value) if name == "env" else value for name, value in seen.attrs.items()}
    # What the chosen offer said of it, for whoever refers to it.
    place = {name: value for name in _PLACE if isinstance(value := seen.attrs.get(name), str)}
    price = {} if orphan.price_per_hour is None else {PRICE: float(orphan.price_per_hour)}
    return Recorded(
        address=address,
        kind=seen.kind,
        provider=orphan.provider,
        account=orphan.account,
        remote_id=seen.remote_id,
        token=orphan.target.token,
        attrs=seal_attrs(attrs, key=state.key, address=address),
        facts={**place, **seen.facts, **price},
        depends_on=frozenset(),
        created_at=_created_at(seen, now),
        phase=Phase.PENDING if seen.status in _STARTING else Phase.READY,
    )


def _as_asked(recorded: Recorded, configuration: Configuration, scope: StateScope, key: bytes) -> Recorded:
    """The record with what the spec asks of the instance: providers tell little of what they were asked for."""
    desired = configuration.instances.get(recorded.address)
    if desired is None or desired.kind is not recorded.kind:
        return recorded
    candidate, attrs = closest(desired, recorded, scope, key)
    if candidate.provider != recorded.provider:
        return recorded
    planned = draft(
        desired,
        candidate,
        attrs,
        account=recorded.account,
        token=recorded.token,
        offer=None,
        now=recorded.created_at,
        key=key,
        kept=(),
    )
    return replace(planned, remote_id=recorded.remote_id, facts=recorded.facts, phase=recorded.phase)


def _created_at(seen: Observed, now: datetime) -> datetime:
    """When the provider says; else now."""
    told = seen.facts.get("created_at")
    try:
        created = datetime.fromisoformat(str(told))
    except ValueError:
        return now
    return created.astimezone(UTC) if created.tzinfo else created.replace(tzinfo=UTC)


def _twins(address: Address, ids: Sequence[str]) -> StateError:
    return StateError(
        diagnostics=(
            Diagnostic(
                id="orphan-twins",
                summary=f"{len(ids)} objects carry the mark of `{address}`",
                facts=(f"they are {', '.join(ids)}", "nothing was changed"),
                hint="destroy all but one of them first",
                commands=tuple(f"gpuplan orphans destroy {id}" for id in ids[1:]),
            ),
        )
    )
