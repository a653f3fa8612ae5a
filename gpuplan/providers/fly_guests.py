"""What Fly.io rents: sizes of machines, what they cost, the GPUs it once had. Pure; `fly` makes the calls.

Neither sizes nor prices are told by the API: both are of September 2026, and the prices are estimates.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from math import ceil

from pydantic import AliasChoices, Field

from gpuplan.core.gpus import gpu_satisfies, known_gpus
from gpuplan.core.kinds import NodeAttrs
from gpuplan.core.offers import Offer, OfferQuery, Pricing, Stock
from gpuplan.core.units import Constraint
from gpuplan.net.payload import Payload

MEMORY_STEP_MB = 256
GB_HOUR = Decimal(5) / 720
"""USD for memory beyond what comes with the CPUs."""
VOLUME_GB_HOUR = Decimal("0.15") / 720
RETIRED = "Fly.io gave up GPU machines on 1 August 2026; machines without a GPU are not affected"


class Unfit(Exception):
    """Something that Fly.io cannot be asked for; the message says why."""


@dataclass(frozen=True, slots=True)
class CpuKind:
    """`least_mb` and `most_mb` are per CPU; the least comes with it. `price` is USD per CPU and hour."""

    preset: str
    counts: tuple[int, ...]
    least_mb: int
    most_mb: int
    price: Decimal


@dataclass(frozen=True, slots=True)
class Card:
    """A GPU by its names: in the API, of the preset, and ours. `price` is the last one it had."""

    kind: str
    preset: str
    gpu: str
    regions: tuple[str, ...]
    price: Decimal


CPU_KINDS: Mapping[str, CpuKind] = {
    "shared": CpuKind("shared-cpu-{}x", (1, 2, 4, 6, 8), 256, 2048, Decimal("0.0027")),
    "performance": CpuKind("performance-{}x", (1, 2, 4, 8, 16), 2048, 8192, Decimal("0.0430")),
}
CARDS = (
    Card("a10", "a10", "A10", ("ord",), Decimal("0.75")),
    Card("l40s", "l40s", "L40S", ("ord",), Decimal("0.70")),
    Card("a100-pcie-40gb", "a100-40gb", "A100-40GB-PCIE", ("ord",), Decimal("1.25")),
    Card("a100-sxm4-80gb", "a100-80gb", "A100-80GB-SXM", ("iad", "sjc", "syd", "ams"), Decimal("1.50")),
)


@dataclass(frozen=True, slots=True)
class Guest:
    """What a machine is made of. `card` is the API's name of its GPU."""

    cpu_kind: str
    cpus: int
    memory_mb: int
    card: str = ""

    @property
    def preset(self) -> str:
        """What people call it."""
        card = card_of(self.card)
        return card.preset if card else CPU_KINDS[self.cpu_kind].preset.format(self.cpus)

    @property
    def ref(self) -> str:
        return f"{self.preset}/{self.memory_mb}"

    @property
    def price_per_hour(self) -> Decimal:
        """USD, about."""
        kind, card = CPU_KINDS[self.cpu_kind], card_of(self.card)
        more_gb = Decimal(self.memory_mb - kind.least_mb * self.cpus) / 1024
        return (kind.price * self.cpus + GB_HOUR * more_gb + (card.price if card else 0)).quantize(Decimal("0.0001"))

    @classmethod
    def of_ref(cls, ref: str) -> "Guest":
        preset, _, memory = ref.partition("/")
        return replace(PRESETS[preset], memory_mb=int(memory))

    @property
    def is_sold(self) -> bool:
        """Whether a machine with so many CPUs can have that memory."""
        kind = CPU_KINDS[self.cpu_kind]
        is_within = kind.least_mb * self.cpus <= self.memory_mb <= kind.most_mb * self.cpus
        return is_within and self.memory_mb % MEMORY_STEP_MB == 0

    def check(self) -> "Guest":
        """Itself. Raises Unfit for a size that Fly.io refuses."""
        if not self.is_sold:
            kind = CPU_KINDS[self.cpu_kind]
            least, most = kind.least_mb * self.cpus / 1024, kind.most_mb * self.cpus / 1024
            sizes = f"from {least:g} to {most:g} GB, in steps of a quarter"
            raise Unfit(f"`{self.preset}` takes {sizes}, and not {self.memory_mb / 1024:g} GB")
        return self


def card_of(name: str) -> Card | None:
    """By any of its names."""
    return next((card for card in CARDS if name and name in (card.kind, card.preset, card.gpu)), None)


def _presets() -> Iterator[Guest]:
    """Every named machine with the least memory it can have; those with a GPU come in one size."""
    for name, kind in CPU_KINDS.items():
        for count in kind.counts:
            yield Guest(name, count, kind.least_mb * count)
    for card in CARDS:
        yield Guest("performance", 8, 32768, card.kind)


PRESETS: Mapping[str, Guest] = {guest.preset: guest for guest in _presets()}


def to_guest(asked: NodeAttrs, present: Guest | None = None) -> Guest:
    """The smallest machine that is asked for; what is not asked stays as `present` has it. Raises Unfit."""
    base = _named(asked) or present
    if base is None:
        raise Unfit("without an offer it needs an `instance_type`")
    counts = _counts(base, asked)
    sizes = [_with_memory(replace(base, cpus=count), asked.memory_gb, present) for count in counts]
    return next((size for size in sizes if size.is_sold), sizes[-1]).check()


def to_offers(
    regions: Iterable["Region"],
    limits: Mapping[str, Mapping[str, int]],
    query: OfferQuery,
    *,
    has_gpus: bool,
    provider: str,
    now: datetime,
) -> Iterator[Offer]:
    """`limits` say by preset and region how many machines can be had. Without `has_gpus` none with a GPU can."""
    living = [region for region in regions if not region.deprecated]
    for guest in PRESETS.values():
        card = card_of(guest.card)
        if not query.wants(card.gpu if card else "", 1 if card else 0):
            continue
        for region in living:
            if card and region.code not in card.regions:
                continue
            known = limits.get(guest.preset)
            stock = (Stock.UNTOLD if has_gpus else Stock.NONE) if card else _stock(known, region.code)
            for size in _sizes(guest):
                yield Offer(
                    provider=provider,
                    ref=size.ref,
                    region=region.code,
                    gpu=card.gpu if card else "",
                    gpu_count=1 if card else 0,
                    pricing=Pricing.ON_DEMAND,
                    price_per_hour=size.price_per_hour,
                    seen_at=now,
                    instance_type=size.preset,
                    gpu_memory_gb=known_gpus()[card.gpu].memory_gb if card else None,
                    cpu=size.cpus,
                    memory_gb=size.memory_mb / 1024,
                    stock=stock,
                    facts={"price": "an estimate", **({"retired": True} if card else {})},
                )


class Region(Payload):
    code: str
    deprecated: bool = False


class Regions(Payload):
    """Older clients read the list under a capital letter."""

    regions: tuple[Region, ...] = Field(validation_alias=AliasChoices("regions", "Regions"))


class Room(Payload):
    """How many machines of the size that was asked for one region can take."""

    region: str
    count: int = 0


def _named(asked: NodeAttrs) -> Guest | None:
    """The machine that is asked for by name, or by its GPU."""
    if asked.instance_type:
        card = card_of(asked.instance_type)
        guest = PRESETS.get(card.preset if card else asked.instance_type)
        if guest is None:
            raise Unfit(f"there is no machine `{asked.instance_type}`: there are {_listed(PRESETS)}")
        return guest
    if asked.gpu is None:
        return None
    named = next((card for card in CARDS if gpu_satisfies(card.gpu, asked.gpu.name)), None)
    if named is None or asked.gpu.count != 1:
        raise Unfit(f"there are no machines with {asked.gpu}")
    return PRESETS[named.preset]


def _counts(base: Guest, asked: NodeAttrs) -> Sequence[int]:
    """How many CPUs it may have, rising: those of the machine that is named, else what is asked for, else no fewer."""
    is_named = bool(asked.instance_type or base.card)
    counts = (base.cpus,) if is_named else CPU_KINDS[base.cpu_kind].counts
    wanted = asked.cpu or Constraint(base.cpus, at_least=True)
    fitting = [count for count in counts if wanted.allows(count)]
    if not fitting:
        there = f"`{base.preset}` has {base.cpus}" if is_named else f"{base.cpu_kind} ones have {_listed(counts)}"
        raise Unfit(f"there is no machine with {wanted} CPUs: {there}")
    return fitting


def _with_memory(guest: Guest, asked: Constraint | None, present: Guest | None) -> Guest:
    """As much as is asked for. What it has stays, where it is the same machine and will do."""
    least = guest.memory_mb if guest.card else CPU_KINDS[guest.cpu_kind].least_mb * guest.cpus
    is_same = present is not None and replace(present, memory_mb=guest.memory_mb) == guest
    kept = present.memory_mb if present is not None and is_same else None
    if kept is not None and (asked is None or asked.allows(kept / 1024)):
        return replace(guest, memory_mb=kept)
    if asked is None:
        return replace(guest, memory_mb=least)
    steps = ceil(asked.amount * 1024 / MEMORY_STEP_MB) * MEMORY_STEP_MB
    return replace(guest, memory_mb=max(least, steps) if asked.at_least else int(asked.amount * 1024))


def _sizes(guest: Guest) -> Iterator[Guest]:
    """The machine with the memory it comes with, and each time with twice as much."""
    if guest.card:
        yield guest
        return
    kind = CPU_KINDS[guest.cpu_kind]
    memory = kind.least_mb
    while memory <= kind.most_mb:
        yield replace(guest, memory_mb=memory * guest.cpus)
        memory *= 2


def _stock(known: Mapping[str, int] | None, region: str) -> Stock:
    if known is None:
        return Stock.UNTOLD
    count = known.get(region, 0)
    return Stock.PLENTY if count >= 10 else Stock.SOME if count >= 3 else Stock.LOW if count else Stock.NONE


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))
