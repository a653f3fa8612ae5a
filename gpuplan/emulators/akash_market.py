"""The market of the emulated Akash: providers with their GPUs, what they ask for, and who would bid for what."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from gpuplan.core.values import JsonValue
from gpuplan.emulators.akash_sdl import Tree, millicores, size_of
from gpuplan.emulators.http import Json, Request, Response, Routes
from gpuplan.emulators.site import Site

REGIONS = ("us-west", "us-central", "us-east", "eu-west", "eu-central", "ca-east", "asia-east")
AUDITOR = "akash1365yvmc4s7awdyj3n2sav7xfx76adc6dnmlx63"
CORE_HOUR, GB_HOUR = 0.0022, 0.0011
PROVIDERS = 21
MARKET = Routes()


@dataclass(frozen=True, slots=True)
class Model:
    """A GPU as providers name it. `gpu` is its name for the emulator's stock, `hourly` USD for one of them."""

    gpu: str
    model: str
    ram: str
    interface: str
    hourly: float

    def fits(self, wanted: Tree) -> bool:
        """Whether it is the GPU of an SDL."""
        return (
            wanted["model"] in (self.model, "*")
            and wanted.get("ram", self.ram) == self.ram
            and self.interface.lower().startswith(str(wanted.get("interface", "")))
        )


MODELS = (
    Model("H100-80GB-SXM", "h100", "80Gi", "SXM5", 1.75),
    Model("RTX4090", "rtx4090", "24Gi", "PCIe", 0.34),
    Model("A100-80GB-SXM", "a100", "80Gi", "SXM4", 0.92),
    Model("H100-80GB-PCIE", "h100", "80Gi", "PCIe", 1.45),
    Model("A100-40GB-PCIE", "a100", "40Gi", "PCIe", 0.71),
    Model("A6000", "rtxa6000", "48Gi", "PCIe", 0.42),
    Model("H200-SXM", "h200", "141Gi", "SXM5", 2.4),
    Model("RTX3090", "rtx3090", "24Gi", "PCIe", 0.18),
    Model("L40S", "l40s", "48Gi", "PCIe", 0.75),
    Model("T4", "t4", "16Gi", "PCIe", 0.11),
)


@dataclass(frozen=True, slots=True)
class Host:
    """A provider."""

    number: int
    address: str
    region: str
    gpus: Mapping[Model, int]
    is_audited: bool
    uptime: float
    markup: float

    @property
    def name(self) -> str:
        return f"provider{self.number}.example.com"


@dataclass(frozen=True, slots=True)
class Order:
    """What providers are asked for. `models` are the GPUs that will do, None where none is wanted."""

    cpu: float
    memory_gb: float
    gpus: int
    models: tuple[Tree, ...]
    attributes: Mapping[str, str]
    signers: tuple[str, ...]
    most: float
    """uact for a block."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A provider that would take an order, with which GPU and at what price: uact for a block."""

    host: Host
    model: Model | None
    price: float


@cache
def hosts() -> Mapping[str, Host]:
    """By address. Two of three are audited; every region has H100s."""
    return {host.address: host for host in map(_host, range(PROVIDERS))}


def _host(number: int) -> Host:
    models = {MODELS[0]: 16, MODELS[1 + number % (len(MODELS) - 1)]: 8, MODELS[1]: 8}
    return Host(
        number,
        address_of(f"provider {number}"),
        REGIONS[number % len(REGIONS)],
        models,
        number % 3 != 2,
        1 - number % 5 / 100,
        1 + number % 4 / 10,
    )


def address_of(text: str) -> str:
    """A stable address that looks like one of the chain's."""
    return "akash1" + hashlib.sha256(text.encode()).hexdigest()[:38]


class Market:
    """What is free, and at which price."""

    def __init__(self, site: Site) -> None:
        self._site = site
        kept = site.world.drawers.setdefault((site.type.name, "in use"), {})
        assert isinstance(kept, dict)
        self._used: dict[tuple[str, str], int] = kept

    def free(self, host: Host, model: Model) -> int:
        """GPUs that a provider has left."""
        there = host.gpus[model] * self._site.count("scale")
        available = self._site.shelf(model.gpu, host.region).available
        if available == 0:
            return 0
        return max(0, there - self._used.get((host.address, model.gpu), 0))

    def asks(self, order: Order) -> Iterator[Ask]:
        """Who would bid, in no order that means anything."""
        for host in hosts().values():
            if not self.is_online(host) or not _has(host, order):
                continue
            extra = order.cpu * CORE_HOUR + order.memory_gb * GB_HOUR
            if not order.gpus:
                yield from self._within(order, Ask(host, None, _per_block(extra * host.markup)))
            for model in host.gpus if order.gpus else ():
                if any(model.fits(wanted) for wanted in order.models) and self.free(host, model) >= order.gpus:
                    hourly = self.hourly(host, model) * order.gpus + extra
                    yield from self._within(order, Ask(host, model, _per_block(hourly)))
                    break

    def hourly(self, host: Host, model: Model) -> float:
        """USD for one GPU."""
        listed = self._site.shelf(model.gpu, host.region).price
        return (model.hourly if listed is None else float(listed)) * host.markup

    def is_online(self, host: Host) -> bool:
        away = self._site.knob("offline")
        return not isinstance(away, list) or host.number not in away

    def take(self, host: Host, model: Model, gpus: int) -> bool:
        if self.free(host, model) < gpus or not self._site.take(model.gpu, host.region):
            return False
        key = host.address, model.gpu
        self._used[key] = self._used.get(key, 0) + gpus
        return True

    def put_back(self, host: Host, model: Model, gpus: int) -> None:
        self._used[host.address, model.gpu] -= gpus
        self._site.put_back(model.gpu, host.region)

    def _within(self, order: Order, ask: Ask) -> Iterator[Ask]:
        if ask.price <= order.most:
            yield ask


def model_of(gpu: str) -> Model:
    return next(model for model in MODELS if model.gpu == gpu)


def order_of(sdl: Tree) -> Order:
    """What the first group of an SDL asks for."""
    profiles = sdl["profiles"]
    placement, wanted = next(iter(profiles["placement"].items()))
    profile = next(told[placement]["profile"] for told in sdl["deployment"].values() if placement in told)
    resources = profiles["compute"][profile]["resources"]
    gpu = resources.get("gpu") or {}
    vendors = (gpu.get("attributes") or {}).get("vendor", {})
    return Order(
        millicores(resources["cpu"]["units"]) / 1000,
        size_of(resources["memory"]["size"]) / 10**9,
        int(gpu.get("units") or 0),
        tuple(vendors.get("nvidia") or [{"model": "*"}]),
        wanted.get("attributes") or {},
        tuple((wanted.get("signedBy") or {}).get("anyOf") or ()),
        float(wanted["pricing"][profile]["amount"]),
    )


@MARKET.on("GET", "/v1/gpu-prices", is_open=True)
def gpu_prices(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    rows = [_price_row(Market(site), model) for model in MODELS]
    counts = [row["availability"] for row in rows]
    whole: Json = {key: sum(count[key] for count in counts) for key in ("total", "available")}
    return Response(200, {"availability": whole, "models": [*rows]})


def _price_row(market: Market, model: Model) -> dict[str, Any]:
    having = [host for host in hosts().values() if model in host.gpus and market.is_online(host)]
    free = [market.free(host, model) for host in having]
    prices = sorted(market.hourly(host, model) for host in having)
    mean = sum(prices) / len(prices) if prices else 0.0
    told = {
        "currency": "USD",
        "min": min(prices, default=0),
        "max": max(prices, default=0),
        "avg": mean,
        "weightedAverage": mean,
        "med": prices[len(prices) // 2] if prices else 0,
    }
    return {
        "vendor": "nvidia",
        "model": model.model,
        "ram": model.ram,
        "interface": model.interface,
        "availability": {"total": sum(host.gpus[model] for host in having), "available": sum(free)},
        "providerAvailability": {"total": len(having), "available": sum(1 for count in free if count)},
        "price": told if prices else None,
    }


@MARKET.on("GET", "/v1/providers", is_open=True)
def providers(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    wanted = request.one("addresses")
    kept = [host for host in hosts().values() if not wanted or host.address in wanted.split(",")]
    return Response(200, [_shown(Market(site), host, site.now) for host in kept])


@MARKET.on("GET", "/v1/provider-regions", is_open=True)
def provider_regions(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    rows: list[JsonValue] = []
    for region in REGIONS:
        there: list[JsonValue] = [host.address for host in hosts().values() if host.region == region]
        rows.append({"key": region, "description": region.replace("-", " "), "providers": there})
    return Response(200, rows)


@MARKET.on("POST", "/v1/bid-screening", is_open=True)
def bid_screening(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    body: Any = request.json()
    if not str(body.get("timezone", "")).count("/"):
        return Response(400, {"message": "Invalid request body"})
    asked, requirements = body["resources"][0], body["requirements"]
    resource = asked["resource"]
    keys = [row["key"] for row in (resource.get("gpu") or {}).get("attributes", ())]
    order = Order(
        int(resource["cpu"]["units"]["val"]) / 1000,
        int(resource["memory"]["quantity"]["val"]) / 10**9,
        int((resource.get("gpu") or {"units": {"val": 0}})["units"]["val"]),
        tuple(_model_in(key) for key in keys),
        {row["key"]: row["value"] for row in requirements.get("attributes", ())},
        tuple(requirements.get("signedBy", {}).get("anyOf", ())),
        float(asked["price"]["amount"]),
    )
    found: list[JsonValue] = [
        {
            "owner": ask.host.address,
            "hostUri": f"https://{ask.host.name}:8443",
            "isAudited": ask.host.is_audited,
            "createdAt": "2026-01-01T00:00:00.000Z",
            "location": ask.host.region,
            "organization": f"Provider {ask.host.number}",
            "incidents": [],
        }
        for ask in Market(site).asks(order)
    ]
    return Response(200, {"providers": found})


def _model_in(key: str) -> Tree:
    words = key.split("/")
    return dict(zip(words[2::2], words[3::2], strict=True))


def _has(host: Host, order: Order) -> bool:
    """Whether a provider is who is asked for."""
    own = {"region": host.region, "location-region": host.region, "tier": "community"}
    is_signed = not order.signers or (host.is_audited and AUDITOR in order.signers)
    return is_signed and all(own.get(key) == value for key, value in order.attributes.items())


def _per_block(hourly: float) -> float:
    return round(hourly * 1_000_000 / 600, 3)


def _shown(market: Market, host: Host, now: datetime) -> Json:
    signers: list[JsonValue] = [AUDITOR] if host.is_audited else []
    attributes = {"region": host.region, "location-region": host.region, "tier": "community"}
    unknown = (
        *("ipRegion", "ipRegionCode", "ipLat", "ipLon", "statusPage", "country", "city", "timezone", "locationType"),
        *("hostingProvider", "hardwareCpu", "hardwareCpuArch", "hardwareGpuVendor", "hardwareGpuModels"),
        *("hardwareDisk", "featPersistentStorageType", "hardwareMemory", "networkProvider", "tier", "email", "website"),
    )
    return {
        **dict.fromkeys(unknown),
        "owner": host.address,
        "name": host.name,
        "hostUri": f"https://{host.name}:8443",
        "createdHeight": 26_000_000 + host.number,
        "lastCheckDate": now.isoformat(),
        "cosmosSdkVersion": "v0.53.4",
        "akashVersion": "0.10.5",
        "ipCountry": None,
        "ipCountryCode": host.region[:2].upper(),
        **dict.fromkeys(("uptime1d", "uptime7d", "uptime30d"), host.uptime),
        "isValidVersion": True,
        "isOnline": market.is_online(host),
        "lastOnlineDate": now.isoformat(),
        "isAudited": host.is_audited,
        "gpuModels": [
            {"vendor": "nvidia", "model": model.model, "ram": model.ram, "interface": model.interface}
            for model in host.gpus
        ],
        "attributes": [{"key": key, "value": value, "auditedBy": signers} for key, value in attributes.items()],
        "host": "akash",
        "organization": f"Provider {host.number}",
        "locationRegion": host.region,
        "featPersistentStorage": True,
        "networkSpeedDown": 10000,
        "networkSpeedUp": 10000,
        "featEndpointCustomDomain": True,
        "workloadSupportChia": False,
        "workloadSupportChiaCapabilities": None,
        "featEndpointIp": host.number % 2 == 0,
    }
