"""The emulated market of Lium: hosts of miners, how many of their GPUs are free, and what a GPU costs.

Hosts are invented, the same ones every time; what they cost is of the right order. Pods and rentals share them.
"""

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from gpuplan.core.values import JsonValue
from gpuplan.emulators.http import Json, Request, Response, Routes
from gpuplan.emulators.lium_answers import Misformed, Refused, moment
from gpuplan.emulators.site import Site
from gpuplan.emulators.world import Thing

NODE = "node"
PODS, RENTALS = "pods", "rentals"
"""The two APIs that make nodes."""
KIB_PER_GB = 1_000_000_000 / 1024
SPOT_SHARE = 0.6
IDLE = frozenset({"expired", "ended", "terminated", "failed", "cancelled"})
"""Statuses of rentals that hold no GPU any more."""
MARKET = Routes()


@dataclass(frozen=True, slots=True)
class Model:
    """`name` is that of the driver, `gpu` canonical, the price that of one GPU for an hour."""

    name: str
    gpu: str
    memory_mb: int
    price: float


MODELS = (
    Model("NVIDIA H100 80GB HBM3", "H100-80GB-SXM", 81559, 2.10),
    Model("NVIDIA GeForce RTX 4090", "RTX4090", 24564, 0.42),
    Model("NVIDIA A100-SXM4-80GB", "A100-80GB-SXM", 81920, 1.35),
    Model("NVIDIA RTX A6000", "A6000", 49140, 0.45),
    Model("NVIDIA H200", "H200", 143771, 2.85),
    Model("NVIDIA H100 PCIe", "H100-80GB-PCIE", 81559, 1.95),
    Model("NVIDIA A100-PCIE-40GB", "A100-40GB-PCIE", 40960, 0.92),
    Model("NVIDIA L40S", "L40S", 46068, 0.79),
    Model("NVIDIA B200", "B200", 183359, 3.90),
    Model("NVIDIA GeForce RTX 3090", "RTX3090", 24576, 0.19),
    Model("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTXPRO6000", 97887, 1.12),
    Model("NVIDIA Graphics Device", "unnamed", 8192, 0.05),
)
PLACES = (
    ("United States", "US", "Virginia", "Ashburn", 39.0, -77.5),
    ("Germany", "DE", "Hesse", "Frankfurt", 50.1, 8.7),
    ("United States", "US", "Texas", "Dallas", 32.8, -96.8),
    ("Finland", "FI", "Uusimaa", "Helsinki", 60.2, 24.9),
    ("Canada", "CA", "Quebec", "Montreal", 45.5, -73.6),
)


@dataclass(frozen=True, slots=True)
class Host:
    number: int

    @property
    def id(self) -> str:
        return host_id(self.number)

    @property
    def model(self) -> Model:
        return MODELS[self.number % len(MODELS)]

    @property
    def round(self) -> int:
        return self.number // len(MODELS)

    @property
    def gpus(self) -> int:
        return (8, 4, 8, 1)[self.round % 4]

    @property
    def place(self) -> tuple[str, str, str, str, float, float]:
        return PLACES[self.round % len(PLACES)]

    @property
    def country(self) -> str:
        return self.place[1]

    @property
    def address(self) -> str:
        return f"198.19.{self.number // 250}.{self.number % 250 + 1}"

    @property
    def least(self) -> int | None:
        """How many of its GPUs can be rented at least; None: all or none."""
        return None if self.number % 9 == 8 else 1

    @property
    def is_spot(self) -> bool:
        return self.number % 7 == 6

    @property
    def is_unreliable(self) -> bool:
        return self.number % 23 == 22


@cache
def host_id(number: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"https://lium.io/hosts/{number}"))


@cache
def hosts(count: int) -> Mapping[str, Host]:
    return {host_id(number): Host(number) for number in range(count)}


class Market:
    """What there is to rent at this moment."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._held: Counter[int] = Counter()
        for thing in site.world.living[site.type.name, NODE].values():
            number, gpus = thing.hidden["host"], thing.hidden["gpus"]
            assert isinstance(number, int)
            assert isinstance(gpus, int)
            if site.type.status(site, thing) not in IDLE:
                self._held[number] += gpus

    def hosts(self) -> Sequence[Host]:
        return list(hosts(self._site.count("hosts")).values())

    def free(self, host: Host) -> int:
        """GPUs that nobody uses; of a host that cannot be split, all or none."""
        available = self._site.shelf(host.model.gpu, host.country).available
        free = 0 if available is not None and available <= 0 else host.gpus - self._held[host.number]
        return free if host.least is not None or free == host.gpus else 0

    def price(self, host: Host) -> float:
        """USD per GPU and hour."""
        shelf = self._site.shelf(host.model.gpu, host.country)
        own = round(host.model.price * (1 + host.round % 20 / 100), 4)
        price = float(shelf.price) if shelf.price is not None else own
        if not host.is_spot:
            return price
        return float(shelf.spot_price) if shelf.spot_price is not None else round(price * SPOT_SHARE, 4)


@MARKET.on("GET", "/api/executors", is_open=True)
def list_hosts(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    """Public: a wrong key does not matter."""
    market = Market(site)
    rows = [show_host(site, market, host) for host in market.hosts() if market.free(host)]
    return Response(200, [row for row in rows if _passes(row, request)])


@MARKET.on("GET", "/api/public/v1/nodes", is_open=True)
def public_feed(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    market = Market(site)
    nodes: list[JsonValue] = [_fed(market, host) for host in market.hosts() if market.free(host)]
    return Response(200, {"generated_at": f"{moment(site.now)}Z", "count": len(nodes), "nodes": nodes})


@MARKET.on("GET", "/api/machines", is_open=True)
def list_machines(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    totals = Counter({host.model: 0 for host in Market(site).hosts()})
    for host in Market(site).hosts():
        totals[host.model] += host.gpus
    rows: list[JsonValue] = [
        {"name": model.name, "price": model.price, "rental_rate": 0.5, "total_gpu_count": total}
        for model, total in totals.items()
    ]
    return Response(200, rows)


@MARKET.on("GET", "/api/executors/{id}/quote")
def quote(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    market, host = Market(site), hosts(site.count("hosts")).get(ids["id"])
    if host is None or not market.free(host):
        raise Refused(404, "executor_not_found", "Executor not found")
    count, hours = int(request.one("gpu_count") or host.gpus), float(request.one("hours") or 1)
    hourly = round(market.price(host) * count, 4)
    return Response(
        200,
        {
            "executor_id": host.id,
            "gpu_count": count,
            "hours": hours,
            "price_per_hour": hourly,
            "lines": [{"name": "GPUs", "usd": round(hourly * hours, 4)}],
            "total_usd": round(hourly * hours, 4),
            "pod_balance_floor_usd": 0.0,
            "allocation": {"gpu_count": count},
            "rent_balance_required_usd": round(hourly / 4, 4),
        },
    )


def show_host(site: Site, market: Market, host: Host) -> Json:
    country, code, region, city, lat, lon = host.place
    location: Json = {"country": country, "country_code": code, "region": region, "city": city, "lat": lat, "lon": lon}
    return {
        "id": host.id,
        "machine_name": host.model.name,
        "price_per_gpu": market.price(host),
        "gpu_count": host.gpus,
        "available_gpu_count": market.free(host),
        "min_gpu_count_for_rental": host.least,
        "tier": "spot" if host.is_spot else "secure",
        "location": location,
        "executor_ip_address": host.address,
        "effective_upload_speed_mbps": 4100,
        "effective_download_speed_mbps": 8200 if host.number % 3 else 900,
        "max_cuda_version": "12.8",
        "nvlink": host.gpus == 8,
        "interconnect": {"nvlink": True} if host.gpus == 8 else None,
        "gpu_power_limited": host.number % 29 == 28,
        "frequent_rent_failures": host.is_unreliable,
        "last_verified_at": moment(site.now),
        "reliability_score": 0.81 if host.is_unreliable else 0.993,
        "pending_price_per_hour": None,
        "price_change_effective_date": None,
        "miner_hotkey": f"5F{host.number:046d}",
        "validator_hotkey": f"5E{0:046d}",
        "specs": specs(host),
    }


@cache
def specs(host: Host) -> Json:
    gpu: Json = {"name": host.model.name, "capacity": host.model.memory_mb}
    return {
        "gpu": {"count": host.gpus, "driver": "570.86", "details": [gpu] * host.gpus},
        "cpu": {"count": 16 * host.gpus, "model": "AMD EPYC 9554"},
        "ram": {"total": memory_kib(host)},
        "hard_disk": {"total": int(940 * KIB_PER_GB * host.gpus), "free": int(850 * KIB_PER_GB * host.gpus)},
        "available_port_count": 20,
        "sysbox_runtime": host.number % 2 == 0,
        "is_spot": host.is_spot,
    }


def memory_kib(host: Host) -> int:
    return int(264 * KIB_PER_GB * host.gpus)


def in_use(thing: Thing) -> Host:
    number = thing.hidden["host"]
    assert isinstance(number, int)
    return Host(number)


def _fed(market: Market, host: Host) -> Json:
    country, code, region, city, _, _ = host.place
    price = market.price(host)
    return {
        "id": host.id,
        "gpu_model": host.model.name,
        "gpu_count": host.gpus,
        "available_gpu_count": market.free(host),
        "price_per_gpu_hour": price,
        "price_per_node_hour": round(price * host.gpus, 4),
        "min_rentable_gpu_count": host.least or host.gpus,
        "gpu_memory_gb": round(host.model.memory_mb / 1024),
        "cpu_count": 16 * host.gpus,
        "ram_gb": 264 * host.gpus,
        "disk_gb": 940 * host.gpus,
        "disk_free_gb": 850 * host.gpus,
        "tier": "spot" if host.is_spot else "secure",
        "country": country,
        "country_code": code,
        "region": region,
        "city": city,
        "rent_url": f"https://lium.io/rent/{host.id}",
    }


def _passes(row: Json, request: Request) -> bool:
    names = [name for name in request.one("machine_names").split(",") if name]
    gpus, speed = row["gpu_count"], row["effective_download_speed_mbps"]
    assert isinstance(gpus, int)
    assert isinstance(speed, int)
    return (
        (not names or row["machine_name"] in names)
        and _bound(request, "gpu_count_gte", 0) <= gpus <= _bound(request, "gpu_count_lte", 8)
        and _bound(request, "min_download_mbps", 0) <= speed
        and not (request.one("nvlink") == "true" and not row["nvlink"])
        and not (request.one("reliable_only") == "true" and row["frequent_rent_failures"])
    )


def _bound(request: Request, name: str, otherwise: int) -> float:
    given = request.one(name)
    try:
        return float(given) if given else otherwise
    except ValueError as exc:
        raise Misformed(name, "Input should be a valid number") from exc
