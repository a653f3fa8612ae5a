"""Choose where new instances are created, and keep why every other place was not chosen.

Called by `planner` for all creates of a plan at once, since nodes of one plan compete for the same machines.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from itertools import islice

from gpuplan.core.address import Address
from gpuplan.core.capabilities import Capabilities
from gpuplan.core.desired import Candidate, Desired, Kind, Objective, Settings
from gpuplan.core.gpus import gpu_satisfies
from gpuplan.core.offers import Offer, Pricing, Stock
from gpuplan.core.plan import Ranked
from gpuplan.core.units import Constraint, parse_money
from gpuplan.core.values import Attrs
from gpuplan.plan.scope import PlanScope

KEPT = 8
"""How many acceptable places a change keeps, the chosen one included: apply walks them when capacity is gone."""

Places = tuple[Ranked, ...]


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a node asks of an offer. None: anything will do."""

    gpu: str
    gpu_count: int
    cpu: Constraint | None
    memory_gb: Constraint | None
    disk_gb: float | None
    region: str | None
    zone: str | None
    instance_type: str | None
    confidential: bool
    spot: bool
    spot_price: Decimal | None
    fallback: bool
    max_price: Decimal | None

    @classmethod
    def of(cls, attrs: Attrs, settings: Settings) -> "Requirement":
        """Attributes that are known only after apply ask for nothing yet."""
        gpu, _, count = (_text(attrs, "gpu") or "").partition(":")
        spot = attrs.get("spot")
        terms = spot if isinstance(spot, Mapping) else {}
        price = terms.get("max_price")
        disk = attrs.get("disk_gb")
        return cls(
            gpu=gpu,
            gpu_count=int(count or 1),
            cpu=_constraint(attrs, "cpu"),
            memory_gb=_constraint(attrs, "memory_gb"),
            disk_gb=disk if isinstance(disk, (int, float)) else None,
            region=_text(attrs, "region"),
            zone=_text(attrs, "zone"),
            instance_type=_text(attrs, "instance_type"),
            confidential=attrs.get("confidential") is True,
            spot=bool(spot) or isinstance(spot, Mapping),
            spot_price=parse_money(price) if isinstance(price, (int, float, str)) else None,
            fallback=terms.get("fallback") is True,
            max_price=settings.max_price,
        )

    def objection(self, offer: Offer, now: datetime) -> str:
        """Why an offer will not do; empty when it will."""
        return (
            self._wrong_machine(offer)
            or self._wrong_place(offer)
            or self._wrong_price(offer)
            or ("none left" if offer.stock is Stock.NONE or offer.max_count == 0 else "")
            or ("has expired" if offer.expires_at is not None and offer.expires_at <= now else "")
        )

    def _wrong_machine(self, offer: Offer) -> str:
        if self.gpu and not gpu_satisfies(offer.gpu, self.gpu):
            return f"not {self.gpu}"
        if self.gpu and offer.gpu_count != self.gpu_count:
            return f"not {self.gpu_count} GPUs"
        if offer.gpu and not self.gpu and not self.instance_type:
            return "has a GPU that nobody asked for"
        if self.instance_type and offer.instance_type != self.instance_type:
            return f"not {self.instance_type}"
        if self.cpu is not None and offer.cpu is not None and not self.cpu.allows(offer.cpu):
            return f"cpu is not {self.cpu}"
        if self.memory_gb is not None and offer.memory_gb is not None and not self.memory_gb.allows(offer.memory_gb):
            return f"memory_gb is not {self.memory_gb}"
        if self.disk_gb is not None and offer.disk_gb is not None and offer.disk_gb < self.disk_gb:
            return f"less than {self.disk_gb:g} GB of disk"
        return "no confidential computing" if self.confidential and not offer.confidential else ""

    def _wrong_place(self, offer: Offer) -> str:
        if self.region and offer.region != self.region:
            return f"not in {self.region}"
        return f"not in {self.zone}" if self.zone and offer.zone and offer.zone != self.zone else ""

    def _wrong_price(self, offer: Offer) -> str:
        is_spot = offer.pricing is Pricing.SPOT
        if is_spot and not self.spot:
            return "spot only"
        if self.spot and not is_spot and not self.fallback:
            return "not spot"
        limits = [limit for limit in (self.max_price, self.spot_price if is_spot else None) if limit is not None]
        if not limits:
            return ""
        if offer.price_per_hour is None:
            return "tells no price"
        return f"above {min(limits)} USD per hour" if offer.price_per_hour > min(limits) else ""


@dataclass(slots=True)
class _Ranking:
    """The places of one kind of node, best first. `head` only moves forward: what is taken stays taken."""

    entries: Sequence[tuple[Candidate, Offer | None]]
    rejected: Places
    units: int
    head: int = 0
    places: dict[int, Places] = field(default_factory=dict)
    spare: list[int] | None = None


class Market:
    """All offers of a plan, and how many nodes each can still take."""

    def __init__(
        self,
        offers: Mapping[str, Sequence[Offer]],
        capabilities: Mapping[str, Capabilities],
        scope: PlanScope,
        closed: Mapping[str, str],
        now: datetime,
    ) -> None:
        """`closed` says of providers why nothing can be created there."""
        self._offers = offers
        self._capabilities = capabilities
        self._scope = scope
        self._closed = closed
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
            kept = [] if head == len(entries) else [entries[head], *self._spare(ranking, head)]
            accepted = tuple(Ranked(c, offer, attrs=self._scope.attrs_of(c)) for c, offer in kept[:KEPT])
            full = tuple(Ranked(c, o, "taken by other nodes of this plan") for c, o in entries[:KEPT])
            places = ranking.places[head] = (accepted or full) + ranking.rejected
        return places

    def _spare(self, ranking: _Ranking, head: int) -> Iterator[tuple[Candidate, Offer | None]]:
        """The best places that still have room, but for the one at `head`. Nothing before the last head has any."""
        if ranking.spare is None:
            indexes = range(ranking.head, len(ranking.entries))
            free = (index for index in indexes if self._has_room(ranking.entries[index][1], ranking.units))
            ranking.spare = list(islice(free, KEPT))
        return (ranking.entries[index] for index in ranking.spare if index != head)

    def _ranking(self, desired: Desired, refused: Mapping[int, str]) -> _Ranking:
        # Nodes of a cluster share both objects; comparing them by identity spares a hash of every attribute.
        key = (id(desired.candidates), id(desired.settings))
        ranking = self._rankings.get(key)
        if ranking is None:
            ranking = self._rankings[key] = self._rank(desired, refused)
        return ranking

    def _rank(self, desired: Desired, refused: Mapping[int, str]) -> _Ranking:
        entries: list[tuple[Candidate, Offer | None]] = []
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
                    rejected.append(Ranked(candidate, None, "has no offers"))
        if len(desired.candidates) > 1 and desired.settings.objective is Objective.CHEAPEST:
            entries.sort(key=lambda entry: _rank_of(entry[1]))
        units = 1
        if desired.kind is Kind.GROUP:
            nodes = desired.candidates[0].attrs.get("nodes")
            units = nodes if isinstance(nodes, int) else 1
        return _Ranking(entries, tuple(rejected), units)

    def _sift(self, candidate: Candidate, settings: Settings) -> tuple[list[Offer], dict[str, list[Offer]]]:
        """The offers that will do, best first, and the others by what is wrong with them."""
        requirement = Requirement.of(self._scope.attrs_of(candidate), settings)
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


def _text(attrs: Attrs, name: str) -> str | None:
    value = attrs.get(name)
    return value if isinstance(value, str) else None


def _constraint(attrs: Attrs, name: str) -> Constraint | None:
    value = attrs.get(name)
    return Constraint.parse(value) if isinstance(value, (str, int, float)) else None
