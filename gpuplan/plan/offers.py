"""Choose where new instances are created, and keep why every other place was not chosen.

Called by `planner` for all creates of a plan at once, since nodes of one plan compete for the same machines.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from gpuplan.core.address import Address
from gpuplan.core.capabilities import Capabilities
from gpuplan.core.desired import Candidate, Desired, Kind, Objective, Settings
from gpuplan.core.offers import FailedPlace, Offer, Pricing, place_of
from gpuplan.core.plan import Ranked
from gpuplan.core.state import Recorded
from gpuplan.plan.mounts import home, mounted
from gpuplan.plan.requirement import Requirement
from gpuplan.plan.scope import PlanScope

KEPT = 8
"""How many acceptable places a change keeps of each candidate, spot and not: apply walks them when capacity is gone."""
AVOIDED_SECONDS = 1800.0
"""How long a place is avoided where a node could not be had."""

Places = tuple[Ranked, ...]
Entry = tuple[Candidate, Offer | None]


@dataclass(slots=True)
class _Ranking:
    """The places of one kind of node, best first. `head` only moves forward: what is taken stays taken."""

    entries: Sequence[Entry]
    sound: int
    """From here on the entries are places that failed lately: the last resort."""
    shunned: Places
    """The first of those, with why."""
    rejected: Places
    units: int
    head: int = 0
    places: dict[int, Places] = field(default_factory=dict)
    spare: list[int] | None = None
    ranked: dict[int, Ranked] = field(default_factory=dict)


class Market:
    """All offers of a plan, and how many nodes each can still take."""

    def __init__(
        self,
        offers: Mapping[str, Sequence[Offer]],
        capabilities: Mapping[str, Capabilities],
        scope: PlanScope,
        closed: Mapping[str, str],
        failed: Iterable[FailedPlace],
        now: datetime,
    ) -> None:
        """`closed` says of providers why nothing can be created there."""
        self._offers = offers
        self._capabilities = capabilities
        self._scope = scope
        self._closed = closed
        recent = (one for one in failed if now - one.failed_at < timedelta(seconds=AVOIDED_SECONDS))
        self._failed = {(one.provider, one.place): one for one in sorted(recent, key=lambda one: one.failed_at)}
        self._now = now
        self._sifted: dict[tuple[str, Requirement], tuple[list[Offer], dict[str, list[Offer]]]] = {}
        self._rankings: dict[tuple[int, int], _Ranking] = {}
        self._left: dict[int, int] = {}

    def place(self, wanted: Iterable[Desired], refused: Mapping[int, str]) -> dict[Address, Places]:
        """Where each of the new instances goes; equal nodes share one tuple. `refused`: by identity, candidates whose
        provider cannot do what they ask, and why. Where nothing is left, every place is rejected."""
        taken: list[tuple[Desired, _Ranking, int]] = []
        for desired in wanted:
            ranking = self._ranking(desired, refused)
            taken.append((desired, ranking, self._take(ranking)))
        return {desired.address: self._places(ranking, head) for desired, ranking, head in taken}

    def resized(self, candidate: Candidate, record: Recorded) -> Places:
        """What an instance that stays will be at its new `instance_type`; empty where that is not on offer."""
        attrs = self._scope.attrs_of(candidate)
        region = attrs.get("region") or record.facts.get("region")
        is_spot = bool(attrs.get("spot"))
        fitting = [
            offer
            for offer in self._offers.get(candidate.provider, ())
            if offer.instance_type == attrs.get("instance_type")
            and (not region or offer.region == region)
            and (offer.pricing is Pricing.SPOT) is is_spot
        ]
        return (Ranked(candidate, min(fitting, key=_rank_of), attrs=attrs),) if fitting else ()

    def _take(self, ranking: _Ranking) -> int:
        while ranking.head < len(ranking.entries):
            offer = ranking.entries[ranking.head][1]
            if self._has_room(offer, ranking.units):
                if offer is not None and offer.max_count is not None:
                    self._left[id(offer)] = self._left.get(id(offer), offer.max_count) - ranking.units
                break
            ranking.head += 1
        return ranking.head

    def _has_room(self, offer: Offer | None, units: int) -> bool:
        if offer is None or offer.max_count is None:
            return True
        return self._left.get(id(offer), offer.max_count) >= units

    def _places(self, ranking: _Ranking, head: int) -> Places:
        """The chosen place, others that still have room once every node has its place, and the rejected ones."""
        places = ranking.places.get(head)
        if places is None:
            entries = ranking.entries
            if head == len(entries):
                accepted = [Ranked(c, o, "taken by other nodes of this plan") for c, o in entries[:KEPT]]
            else:
                indexes = (head, *(index for index in self._spare(ranking) if index != head))
                accepted = [self._accepted(ranking, index) for index in _bounded(indexes, entries)]
            shunned = ranking.shunned if head < ranking.sound else ()
            places = ranking.places[head] = (*accepted, *shunned, *ranking.rejected)
        return places

    def _accepted(self, ranking: _Ranking, index: int) -> Ranked:
        ranked = ranking.ranked.get(index)
        if ranked is None:
            candidate, offer = ranking.entries[index]
            ranked = ranking.ranked[index] = Ranked(candidate, offer, attrs=self._scope.attrs_of(candidate))
        return ranked

    def _spare(self, ranking: _Ranking) -> Sequence[int]:
        """The best places that still have room. Nothing before the last head has any."""
        if ranking.spare is None:
            end = ranking.sound if ranking.head < ranking.sound else len(ranking.entries)
            free = (i for i in range(ranking.head, end) if self._has_room(ranking.entries[i][1], ranking.units))
            ranking.spare = list(_bounded(free, ranking.entries))
        return ranking.spare

    def _ranking(self, desired: Desired, refused: Mapping[int, str]) -> _Ranking:
        # Nodes of a cluster share both objects; comparing them by identity spares a hash of every attribute.
        key = (id(desired.candidates), id(desired.settings))
        ranking = self._rankings.get(key)
        if ranking is None:
            ranking = self._rankings[key] = self._rank(desired, refused)
        return ranking

    def _rank(self, desired: Desired, refused: Mapping[int, str]) -> _Ranking:
        entries: list[Entry] = []
        rejected: list[Ranked] = []
        for candidate in desired.candidates:
            why = self._closed.get(candidate.provider) or refused.get(id(candidate), "")
            if why:
                rejected.append(Ranked(candidate, None, why))
            elif desired.kind not in (Kind.NODE, Kind.GROUP) or not self._capabilities[candidate.provider].offers:
                entries.append((candidate, None))
            else:
                accepted, objections = self._sift(candidate, desired.settings)
                entries += [(candidate, offer) for offer in accepted]
                rejected += [_example(candidate, why, offers) for why, offers in objections.items()]
                if not accepted and not objections:
                    rejected.append(Ranked(candidate, None, "offers nothing like it"))
        if len(desired.candidates) > 1 and desired.settings.objective is Objective.CHEAPEST:
            entries.sort(key=_cheapest_first)
        shunned = [(entry, why) for entry in entries if (why := self._why_not_again(entry))]
        last_resort = [entry for entry, _ in shunned]
        sound = [entry for entry in entries if entry not in last_resort] if shunned else entries
        units = 1
        if desired.kind is Kind.GROUP:
            nodes = desired.candidates[0].attrs.get("nodes")
            units = nodes if isinstance(nodes, int) else 1
        avoided = tuple(Ranked(*entry, why) for entry, why in shunned[:KEPT])
        return _Ranking([*sound, *last_resort], len(sound), avoided, tuple(rejected), units)

    def _why_not_again(self, entry: Entry) -> str:
        """How a place failed lately; empty when it did not."""
        candidate, offer = entry
        if offer is None or not self._failed:
            return ""
        failed = self._failed.get((candidate.provider, place_of(offer)))
        return "" if failed is None else f"failed {_age(failed, self._now)} ago: {failed.why}"

    def _sift(self, candidate: Candidate, settings: Settings) -> tuple[list[Offer], dict[str, list[Offer]]]:
        """The offers that will do, spot before what is only its fallback, best first; and the others by what is wrong
        with them."""
        attrs = self._scope.attrs_of(candidate)
        homes = [home(volume, "", self._scope.known(volume)) for volume in mounted(attrs)]
        requirement = Requirement.of(attrs, settings, homes)
        key = (candidate.provider, requirement)
        sifted = self._sifted.get(key)
        if sifted is None:
            accepted: list[Offer] = []
            objections: dict[str, list[Offer]] = {}
            for offer in self._offers.get(candidate.provider, ()):
                why = requirement.objection(offer, self._now)
                (objections.setdefault(why, []) if why else accepted).append(offer)
            accepted.sort(key=lambda offer: (offer.pricing is not Pricing.SPOT, _rank_of(offer)))
            sifted = self._sifted[key] = accepted, dict(sorted(objections.items()))
        return sifted


def _bounded(indexes: Iterable[int], entries: Sequence[Entry]) -> Iterator[int]:
    """The first few of each candidate, of its spot places and of the others: so a whole provider may run dry, or all of
    its spot nodes, and there still is a place to go on to."""
    kept: Counter[tuple[int, bool]] = Counter()
    for index in indexes:
        candidate, offer = entries[index]
        lane = (id(candidate), offer is not None and offer.pricing is Pricing.SPOT)
        if kept[lane] < KEPT:
            kept[lane] += 1
            yield index


def _cheapest_first(entry: Entry) -> tuple[bool, tuple[bool, Decimal, float, str, str]]:
    """Between candidates; an on-demand node in place of a spot node is the last resort of all of them."""
    candidate, offer = entry
    wants_spot = candidate.attrs.get("spot") not in (None, False)
    return (wants_spot and offer is not None and offer.pricing is not Pricing.SPOT, _rank_of(offer))


def _rank_of(offer: Offer | None) -> tuple[bool, Decimal, float, str, str]:
    """Cheapest first; then reliable, then by name. What tells no price comes last."""
    if offer is None:
        return (True, Decimal(0), 0.0, "", "")
    price = offer.price_per_hour
    return (price is None, price or Decimal(0), -(offer.reliability or 0.0), offer.region, offer.ref)


def _example(candidate: Candidate, why: str, offers: Sequence[Offer]) -> Ranked:
    """One rejected offer speaks for all that are rejected for the same reason."""
    offer = min(offers, key=_rank_of)
    return Ranked(candidate, offer, why if len(offers) == 1 else f"{why} ({len(offers)} offers)")


def _age(failed: FailedPlace, now: datetime) -> str:
    minutes = (now - failed.failed_at).total_seconds() // 60
    return "less than a minute" if minutes < 1 else "1 minute" if minutes < 2 else f"{minutes:.0f} minutes"
