"""Offers: what a provider can rent now."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from gpuplan.core.gpus import GpuRequest, gpu_satisfies
from gpuplan.core.values import JsonValue


class Pricing(StrEnum):
    FIXED = "fixed"
    ON_DEMAND = "on_demand"
    SPOT = "spot"
    AUCTION = "auction"


class Stock(StrEnum):
    NONE = "none"
    LOW = "low"
    SOME = "some"
    PLENTY = "plenty"
    UNTOLD = "untold"


@dataclass(frozen=True, slots=True)
class Offer:
    """`price_per_hour` is USD for one node with all its GPUs; None where the provider tells no price (which is not 0).
    `ref` is the provider's own handle (machine, market, plan), opaque to everyone else."""

    provider: str
    ref: str
    region: str
    gpu: str
    """Canonical name, empty for a node without a GPU."""
    gpu_count: int
    pricing: Pricing
    price_per_hour: Decimal | None
    seen_at: datetime
    instance_type: str = ""
    zone: str = ""
    gpu_memory_gb: float | None = None
    cpu: float | None = None
    memory_gb: float | None = None
    disk_gb: float | None = None
    stock: Stock = Stock.UNTOLD
    max_count: int | None = None
    """How many such nodes can be had; None where it is not told."""
    reliability: float | None = None
    """0 to 1; breaks ties between equal prices."""
    confidential: bool = False
    expires_at: datetime | None = None
    facts: Mapping[str, JsonValue] = field(default_factory=dict)
    host: str = ""
    """The one machine that is on offer, where a provider rents out single ones."""
    gpu_slice: str = ""
    """The part of a GPU that a node without a whole one has (`8 GB of A16`); rented only by its instance type."""


@dataclass(frozen=True, slots=True)
class OfferQuery:
    """Filters a provider may apply to send less; whoever asks filters again. Empty means any.

    A single machine is said by `gpu` and `gpu_count`, several by `machines`; `wants`, `gpus` and `gpu_counts` answer
    for both.
    """

    gpu: str = ""
    gpu_count: int | None = None
    regions: tuple[str, ...] = ()
    spot: bool | None = None
    """True: only what can be taken away again; False: nothing of that."""
    machines: tuple[GpuRequest, ...] = ()
    """Any of these; `GpuRequest("", 0)` is a node without a GPU."""
    disk_gb: float | None = None
    """The least that anybody asks for."""

    def wants(self, gpu: str, count: int) -> bool:
        """Whether a node with that many of this GPU may be meant."""
        if self.gpu_count not in (None, count) or (self.gpu and not gpu_satisfies(gpu, self.gpu)):
            return False
        return not self.machines or any(
            count == asked.count and (gpu == asked.name or gpu_satisfies(gpu, asked.name)) for asked in self.machines
        )

    @property
    def gpus(self) -> tuple[str, ...]:
        """The GPUs that are asked for, each once; empty: any, unless every one of `machines` has none."""
        if self.gpu:
            return (self.gpu,)
        return tuple(dict.fromkeys(asked.name for asked in self.machines if asked.name))

    @property
    def gpu_counts(self) -> tuple[int, ...]:
        """How many of them in a node, rising; empty: any number."""
        if self.gpu_count is not None:
            return (self.gpu_count,)
        return tuple(sorted({asked.count for asked in self.machines}))


@dataclass(frozen=True, slots=True)
class FailedPlace:
    """A place where a node could lately not be had: there was no room, or it did not become ready."""

    provider: str
    place: str
    """As `place_of` names it."""
    failed_at: datetime
    why: str


def place_of(offer: Offer) -> str:
    """What failures are remembered of: the machine where there is only one, else one thing in one region or zone."""
    return f"host {offer.host}" if offer.host else f"{offer.ref} {offer.region} {offer.zone}".rstrip()
