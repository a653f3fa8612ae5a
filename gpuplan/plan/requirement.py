"""What a node asks of an offer, and why one will not do. Called by `offers`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from gpuplan.core.desired import Settings
from gpuplan.core.gpus import gpu_satisfies
from gpuplan.core.offers import Offer, Pricing, Stock
from gpuplan.core.units import Constraint, parse_money
from gpuplan.core.values import Attrs
from gpuplan.plan.mounts import Home


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
    homes: tuple[Home, ...] = ()
    """Where the volumes are that it mounts."""

    @classmethod
    def of(cls, attrs: Attrs, settings: Settings, homes: Sequence[Home] = ()) -> "Requirement":
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
            homes=tuple(homes),
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
        if (offer.gpu or offer.gpu_slice) and not self.gpu and not self.instance_type:
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
        if self.zone and offer.zone and offer.zone != self.zone:
            return f"not in {self.zone}"
        for volume, _, region, zone in self.homes:
            if region and offer.region and offer.region != region:
                return f"not in {region}, where {volume} is"
            if zone and offer.zone and offer.zone != zone:
                return f"not in {zone}, where {volume} is"
        return ""

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


def _text(attrs: Attrs, name: str) -> str | None:
    value = attrs.get(name)
    return value if isinstance(value, str) else None


def _constraint(attrs: Attrs, name: str) -> Constraint | None:
    value = attrs.get(name)
    return Constraint.parse(value) if isinstance(value, (str, int, float)) else None
