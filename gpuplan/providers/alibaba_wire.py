"""What Alibaba Cloud answers, in our words: payloads, statuses, GPUs, prices. Pure; `alibaba` makes the calls."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated, TypeAlias

from pydantic import AliasPath, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_pascal

from gpuplan.core.desired import Kind
from gpuplan.core.gpus import canonical_gpu, gpu_by_memory
from gpuplan.core.observed import Observed, Status
from gpuplan.core.offers import Offer, Pricing, Stock
from gpuplan.core.values import Attrs, JsonValue
from gpuplan.net.marks import PREFIX, from_labels
from gpuplan.net.payload import Payload

STATUSES: Mapping[str, Status] = {
    "Pending": Status.PENDING,
    "Starting": Status.STARTING,
    "Running": Status.RUNNING,
    "Stopping": Status.STOPPING,
    "Stopped": Status.STOPPED,
}
RECYCLING = "recycling"
FRESH_SECONDS = 120
"""An instance may look stopped for a moment while it is being made."""
STOCK: Mapping[str, Stock] = {
    "WithStock": Stock.SOME,
    "ClosedWithStock": Stock.LOW,
    "WithoutStock": Stock.NONE,
    "ClosedWithoutStock": Stock.NONE,
}
GPUS: Mapping[str, str] = {
    "ecs.gn5": "P100",
    "ecs.gn5i": "P4",
    "ecs.gn6i": "T4",
    "ecs.gn6v": "V100-16GB-SXM",
    "ecs.gn6e": "V100-32GB-SXM",
    "ecs.gn7": "A100-40GB-SXM",
    "ecs.ebmgn7": "A100-40GB-SXM",
    "ecs.gn7e": "A100-80GB-SXM",
    "ecs.ebmgn7e": "A100-80GB-SXM",
    "ecs.gn7i": "A10",
    "ecs.ebmgn7i": "A10",
    "ecs.gn8is": "L20",
}
"""What a family has, since the API tells neither memory nor form factor in a GPU's name."""
SLICES = ("ecs.vgn", "ecs.sgn")
"""Families whose instances have a part of a GPU."""

Moment: TypeAlias = Annotated[datetime | None, BeforeValidator(lambda value: value or None)]
"""A time; an empty text where there is none."""


class PascalPayload(Payload):
    model_config = ConfigDict(alias_generator=to_pascal)


class Tag(PascalPayload):
    """Sent as `Key` and `Value`, told under these names."""

    tag_key: str = ""
    tag_value: str = ""


class Lock(PascalPayload):
    lock_reason: str = ""
    lock_msg: str = ""


class Instance(PascalPayload):
    instance_id: str
    instance_name: str = ""
    host_name: str = ""
    status: str = ""
    region_id: str = ""
    zone_id: str = ""
    instance_type: str = ""
    image_id: str = ""
    gpu_amount: int = Field(0, alias="GPUAmount")
    gpu_spec: str = Field("", alias="GPUSpec")
    creation_time: Moment = None
    auto_release_time: Moment = None
    spot_strategy: str = ""
    stopped_mode: str = ""
    deletion_protection: bool = False
    key_pair_name: str = ""
    public_ips: tuple[str, ...] = Field((), validation_alias=AliasPath("PublicIpAddress", "IpAddress"))
    elastic_ip: str = Field("", validation_alias=AliasPath("EipAddress", "IpAddress"))
    private_ips: tuple[str, ...] = Field(
        (), validation_alias=AliasPath("VpcAttributes", "PrivateIpAddress", "IpAddress")
    )
    vswitch_id: str = Field("", validation_alias=AliasPath("VpcAttributes", "VSwitchId"))
    locks: tuple[Lock, ...] = Field((), validation_alias=AliasPath("OperationLocks", "LockReason"))
    tags: tuple[Tag, ...] = Field((), validation_alias=AliasPath("Tags", "Tag"))

    def to_observed(self, now: datetime) -> Observed:
        status, detail = self._condition(now)
        labels = tags_of(self.tags)
        told = {"region": self.region_id, "zone": self.zone_id, "instance_type": self.instance_type}
        attrs: Attrs = {**{name: word for name, word in told.items() if word}, "labels": own_labels(labels)}
        facts: dict[str, JsonValue] = {
            "name": self.instance_name,
            "hostname": self.host_name,
            "public_ip": next(iter(self.public_ips), None) or self.elastic_ip or None,
            "private_ip": next(iter(self.private_ips), None),
            "image": self.image_id,
            "gpu": self.gpu_spec,
            "vswitch_id": self.vswitch_id,
            "spot_strategy": self.spot_strategy,
            "stopped_mode": self.stopped_mode,
            "deletion_protection": self.deletion_protection,
            "created_at": self.creation_time.isoformat() if self.creation_time else None,
        }
        id = remote_id(self.region_id, self.instance_id)
        return Observed(
            Kind.NODE, id, status, attrs, facts, from_labels(labels), detail, expires_at=self.auto_release_time
        )

    def _condition(self, now: datetime) -> tuple[Status, str]:
        """Status, and why."""
        status = STATUSES.get(self.status, Status.UNKNOWN)
        reasons = ", ".join(lock.lock_reason for lock in self.locks)
        if status is Status.UNKNOWN:
            return status, f"Alibaba Cloud says it is `{self.status}`"
        if status is not Status.STOPPED:
            return status, reasons and f"locked: {reasons}"
        if any(lock.lock_reason.lower() == RECYCLING for lock in self.locks):
            return Status.TERMINATING, "the spot instance is taken back"
        if self._is_fresh(now):
            return Status.STARTING, ""
        if reasons:
            return status, f"locked: {reasons}"
        return status, "it is charged as if it ran (KeepCharging)" if self.stopped_mode == "KeepCharging" else ""

    def _is_fresh(self, now: datetime) -> bool:
        """Whether it is stopped because it has not started yet. One that was stopped says in which mode."""
        if self.locks or self.stopped_mode in ("StopCharging", "KeepCharging") or self.creation_time is None:
            return False
        return (now - self.creation_time).total_seconds() < FRESH_SECONDS


class KeyPair(PascalPayload):
    key_pair_name: str
    key_pair_finger_print: str = ""
    tags: tuple[Tag, ...] = Field((), validation_alias=AliasPath("Tags", "Tag"))

    def to_observed(self, region: str) -> Observed:
        facts = {"name": self.key_pair_name, "fingerprint": self.key_pair_finger_print}
        id = remote_id(region, self.key_pair_name)
        return Observed(Kind.SSH_KEY, id, Status.RUNNING, {}, facts, from_labels(tags_of(self.tags)))


class VSwitch(PascalPayload):
    vswitch_id: str = Field(alias="VSwitchId")
    zone_id: str = ""


class Image(PascalPayload):
    image_id: str
    image_name: str = ""
    creation_time: str = ""


class Identity(PascalPayload):
    account_id: str = ""


class Created(Payload):
    """Of one instance, its id."""

    ids: tuple[str, ...] = Field(min_length=1, validation_alias=AliasPath("InstanceIdSets", "InstanceIdSet"))


class InstanceType(PascalPayload):
    instance_type_id: str
    instance_type_family: str = ""
    cpu_core_count: float = 0
    memory_size: float = 0
    gpu_amount: int = Field(0, alias="GPUAmount")
    gpu_spec: str = Field("", alias="GPUSpec")
    gpu_memory_size: float = Field(0, alias="GPUMemorySize")

    @property
    def is_slice(self) -> bool:
        return self.instance_type_family.startswith(SLICES)

    @property
    def gpu(self) -> str:
        """The canonical name; empty without a whole one, and where nobody knows it."""
        if self.is_slice or not self.gpu_amount:
            return ""
        if known := GPUS.get(self.instance_type_family):
            return known
        # The text names the model alone: of one that comes in several sizes the memory decides.
        name = canonical_gpu(self.gpu_spec) or ""
        return (gpu_by_memory(name.split("-")[0], self.gpu_memory_size) if self.gpu_memory_size else None) or name

    @property
    def gpu_count(self) -> int:
        return self.gpu_amount if self.gpu else 0


class SupportedResource(PascalPayload):
    value: str = ""
    status_category: str = ""


class AvailableResource(PascalPayload):
    type: str = ""
    resources: tuple[SupportedResource, ...] = Field(
        (), validation_alias=AliasPath("SupportedResources", "SupportedResource")
    )


class AvailableZone(PascalPayload):
    zone_id: str
    resources: tuple[AvailableResource, ...] = Field(
        (), validation_alias=AliasPath("AvailableResources", "AvailableResource")
    )


class Availability(Payload):
    """Nothing at all where nothing matches."""

    zones: tuple[AvailableZone, ...] = Field((), validation_alias=AliasPath("AvailableZones", "AvailableZone"))

    def stocks(self) -> dict[tuple[str, str], Stock]:
        """By instance type and zone."""
        return {
            (resource.value, zone.zone_id): STOCK.get(resource.status_category, Stock.UNTOLD)
            for zone in self.zones
            for each in zone.resources
            if each.type in ("", "InstanceType")
            for resource in each.resources
        }


class PriceDetail(PascalPayload):
    resource: str = ""
    trade_price: Decimal | None = None


class Price(Payload):
    """What is paid for an hour of an instance, its disk apart."""

    currency: str = Field("", validation_alias=AliasPath("PriceInfo", "Price", "Currency"))
    whole: Decimal | None = Field(None, validation_alias=AliasPath("PriceInfo", "Price", "TradePrice"))
    details: tuple[PriceDetail, ...] = Field(
        (), validation_alias=AliasPath("PriceInfo", "Price", "DetailInfos", "DetailInfo")
    )

    @property
    def hourly(self) -> Decimal | None:
        return next((each.trade_price for each in self.details if each.resource == "instanceType"), self.whole)


class SpotPrice(PascalPayload):
    zone_id: str = ""
    spot_price: Decimal = Decimal(0)
    timestamp: str = ""


class SpotPrices(PascalPayload):
    currency: str = ""
    history: tuple[SpotPrice, ...] = Field((), validation_alias=AliasPath("SpotPrices", "SpotPriceType"))

    def newest(self) -> dict[str, Decimal]:
        """By zone."""
        return {each.zone_id: each.spot_price for each in sorted(self.history, key=lambda each: each.timestamp)}


@dataclass(frozen=True, slots=True)
class Board:
    """All that is known of what a region rents at a moment."""

    provider: str
    region: str
    now: datetime
    stocks: Mapping[Pricing, Mapping[tuple[str, str], Stock]]
    prices: Mapping[str, Price]
    spot_prices: Mapping[str, SpotPrices]
    usd_per_cny: Decimal

    def offers(self, types: Iterable[InstanceType], zones: Sequence[str]) -> list[Offer]:
        """One for each type, zone and way to pay. `zones`: those that can be reached; empty: all."""
        wanted = {sold.instance_type_id: sold for sold in types}
        return [
            self._offer(wanted[type], zone, pricing, stock)
            for pricing, stocks in self.stocks.items()
            for (type, zone), stock in stocks.items()
            if type in wanted and (not zones or zone in zones)
        ]

    def _offer(self, sold: InstanceType, zone: str, pricing: Pricing, stock: Stock) -> Offer:
        amount, currency = self._price(sold.instance_type_id, zone, pricing)
        facts: dict[str, JsonValue] = {"family": sold.instance_type_family, "currency": currency}
        if amount is not None:
            facts["list_price"] = f"{amount} {currency} per hour, disk and traffic apart"
        return Offer(
            provider=self.provider,
            ref=sold.instance_type_id,
            region=self.region,
            gpu=sold.gpu,
            gpu_count=sold.gpu_count,
            pricing=pricing,
            price_per_hour=self._in_usd(amount, currency),
            seen_at=self.now,
            instance_type=sold.instance_type_id,
            zone=zone,
            gpu_memory_gb=sold.gpu_memory_size or None if sold.gpu else None,
            cpu=sold.cpu_core_count,
            memory_gb=sold.memory_size,
            stock=stock,
            facts=facts,
            gpu_slice=f"part of one {sold.gpu_spec}" if sold.is_slice else "",
        )

    def _price(self, type: str, zone: str, pricing: Pricing) -> tuple[Decimal | None, str]:
        if pricing is Pricing.SPOT:
            spot = self.spot_prices.get(type)
            return (spot.newest().get(zone), spot.currency) if spot else (None, "")
        price = self.prices.get(type)
        return (price.hourly, price.currency) if price else (None, "")

    def _in_usd(self, amount: Decimal | None, currency: str) -> Decimal | None:
        """None for a currency whose rate nobody knows."""
        rate = {"USD": Decimal(1), "CNY": self.usd_per_cny}.get(currency)
        return None if amount is None or rate is None else round(amount * rate, 6)


def remote_id(region: str, id: str) -> str:
    """Ids mean nothing in another region, where every listing is empty of them."""
    return f"{region}/{id}"


def tags_of(tags: Iterable[Tag]) -> dict[str, str]:
    return {tag.tag_key: tag.tag_value for tag in tags}


def own_labels(tags: Mapping[str, str]) -> dict[str, str]:
    """The user's own; Alibaba's services add some too."""
    return {key: value for key, value in tags.items() if not key.startswith((PREFIX, "acs:", "aliyun"))}
