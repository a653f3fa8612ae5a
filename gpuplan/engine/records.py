"""What the state says of an instance before, while and after an operation works on it. Pure.

Called by the executor and by `recover`. An object that exists is in a record or among its deposed ones; none of these
functions drops one.
"""

from dataclasses import replace
from datetime import datetime

from gpuplan.core.desired import Candidate, Desired, Kind
from gpuplan.core.observed import Observed
from gpuplan.core.offers import Offer
from gpuplan.core.seal import seal_attrs
from gpuplan.core.state import Deposed, Phase, Recorded
from gpuplan.core.values import Attrs, Facts, JsonValue


def draft(
    desired: Desired,
    candidate: Candidate,
    attrs: Attrs,
    *,
    account: str,
    token: str,
    offer: Offer | None,
    now: datetime,
    key: bytes,
    kept: tuple[Deposed, ...],
) -> Recorded:
    """What will be recorded once the object exists: all but its id and what the provider tells. `kept` are the other
    objects of the instance, which are still to be deleted."""
    return Recorded(
        address=desired.address,
        kind=desired.kind,
        provider=candidate.provider,
        account=account,
        remote_id="",
        token=token,
        attrs=seal_attrs(attrs, key=key, address=desired.address),
        facts=_offer_facts(offer, attrs if desired.kind is Kind.GROUP else {}),
        depends_on=desired.depends_on,
        created_at=now,
        phase=Phase.PENDING,
        deposed=kept,
        create_before_destroy=desired.settings.lifecycle.create_before_destroy,
    )


def found(draft: Recorded, observed: Observed, phase: Phase) -> Recorded:
    """The draft, now that the object has been seen."""
    facts = {**draft.facts, **observed.facts} if observed.facts else draft.facts
    return replace(draft, remote_id=observed.remote_id, facts=facts, phase=phase)


def kept_beside(before: Recorded | None, *, gone_id: str) -> tuple[Deposed, ...]:
    """The other objects of an instance that gets a new one: the earlier deposed ones, and the one it has, unless that
    is `gone_id`, which certainly does not exist any more."""
    if before is None:
        return ()
    return before.deposed if before.remote_id == gone_id else (*before.deposed, deposed(before))


def deposed(recorded: Recorded) -> Deposed:
    return Deposed(recorded.provider, recorded.account, recorded.kind, recorded.remote_id, recorded.token)


def objects(recorded: Recorded | None) -> tuple[Deposed, ...]:
    """Everything that exists for an instance, its own object first."""
    return () if recorded is None else (deposed(recorded), *recorded.deposed)


def with_more(recorded: Recorded, other: Recorded) -> Recorded:
    """The record with one more object that is to be deleted."""
    return replace(recorded, deposed=(*recorded.deposed, deposed(other)))


def with_living(draft: Recorded, now: Recorded | None) -> Recorded:
    """The draft without those other objects that were deleted since it was made."""
    living = {(other.provider, other.remote_id) for other in objects(now)}
    kept = tuple(other for other in draft.deposed if (other.provider, other.remote_id) in living)
    return draft if len(kept) == len(draft.deposed) else replace(draft, deposed=kept)


def beside(before: Recorded | None, draft: Recorded, remote_id: str) -> Recorded:
    """The record with a failed attempt of `draft` added to it."""
    attempt = replace(draft, remote_id=remote_id, phase=Phase.TAINTED)
    return attempt if before is None else with_more(before, attempt)


def without(recorded: Recorded | None, provider: str, remote_id: str) -> Recorded | None:
    """The record once that object is gone. While others of the instance exist, one of them takes its place, tainted,
    so that the next apply replaces or deletes it."""
    if recorded is None:
        return None
    rest = tuple(other for other in recorded.deposed if (other.provider, other.remote_id) != (provider, remote_id))
    if (recorded.provider, recorded.remote_id) != (provider, remote_id):
        return recorded if len(rest) == len(recorded.deposed) else replace(recorded, deposed=rest)
    if not rest:
        return None
    heir, *others = rest
    return replace(
        recorded,
        provider=heir.provider,
        account=heir.account,
        kind=heir.kind,
        remote_id=heir.remote_id,
        token=heir.token,
        facts={},
        phase=Phase.TAINTED,
        deposed=tuple(others),
    )


def changed(recorded: Recorded, attrs: Attrs, names: frozenset[str], *, key: bytes) -> Recorded:
    """The record after `names` were set to what `attrs` has; what it does not have is dropped."""
    kept = {name: value for name, value in recorded.attrs.items() if name not in names}
    fresh = {name: value for name, value in attrs.items() if name in names}
    return replace(recorded, attrs={**kept, **seal_attrs(fresh, key=key, address=recorded.address)})


def resized(recorded: Recorded, offer: Offer | None) -> Recorded:
    """The record of what has become another machine: what it cost as the old one counts no more."""
    facts = {name: fact for name, fact in recorded.facts.items() if name != "price_per_hour"}
    told = _offer_facts(offer, recorded.attrs if recorded.kind is Kind.GROUP else {})
    return replace(recorded, facts={**facts, **told})


def _offer_facts(offer: Offer | None, attrs: Attrs) -> Facts:
    if offer is None:
        return {}
    nodes = attrs.get("nodes", 1)
    facts: dict[str, JsonValue] = {"region": offer.region, "instance_type": offer.instance_type, "offer": offer.ref}
    facts = {name: fact for name, fact in facts.items() if fact}
    if offer.price_per_hour is not None:
        facts["price_per_hour"] = float(offer.price_per_hour) * (nodes if isinstance(nodes, int) else 1)
    return facts
