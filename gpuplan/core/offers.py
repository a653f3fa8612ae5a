"""Offers: what a provider can rent now."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

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


@dataclass(frozen=True, slots=True)
class OfferQuery:
    """Filters a provider may apply to send less; whoever asks filters again. Empty means any."""

    gpu: str = ""
    gpu_count: int | None = None
    regions: tuple[str, ...] = ()
    spot: bool | None = None
