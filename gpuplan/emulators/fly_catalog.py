"""What the emulated Fly.io rents: regions, sizes of machines, GPUs of former days. Prices are of the right order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from gpuplan.core.values import JsonValue
from gpuplan.emulators.fly_answers import Refused, inner, number, text
from gpuplan.emulators.http import Json, Request, Response, Routes
from gpuplan.emulators.site import Site

CATALOG = Routes()
Ids = Mapping[str, str]
MONTH_HOURS = 720
GB_MONTH = Decimal("0.15")
"""Of volumes, and of the root disks of machines that are stopped."""


@dataclass(frozen=True, slots=True)
class CpuKind:
    """Memory in MB per CPU; the price is USD per CPU and hour with the least of it."""

    preset: str
    counts: tuple[int, ...]
    least: int
    most: int
    price: Decimal


@dataclass(frozen=True, slots=True)
class Card:
    gpu: str
    regions: tuple[str, ...]
    price: Decimal


@dataclass(frozen=True, slots=True)
class Size:
    """A checked guest: the shelf its stock is on, where there are such machines, what one costs an hour."""

    shelf: str
    regions: tuple[str, ...]
    price: Decimal
    guest: Json


REGIONS: Mapping[str, tuple[str, str, float, float]] = {
    "ams": ("Amsterdam, Netherlands", "europe", 52.37, 4.89),
    "fra": ("Frankfurt, Germany", "europe", 50.1, 8.68),
    "gru": ("Sao Paulo, Brazil", "south_america", -23.55, -46.63),
    "iad": ("Ashburn, Virginia (US)", "north_america", 39.02, -77.46),
    "jnb": ("Johannesburg, South Africa", "africa", -26.13, 28.23),
    "mad": ("Madrid, Spain", "europe", 40.4, -3.7),
    "nrt": ("Tokyo, Japan", "asia_pacific", 35.62, 139.75),
    "ord": ("Chicago, Illinois (US)", "north_america", 41.97, -87.9),
    "sjc": ("San Jose, California (US)", "north_america", 37.35, -121.96),
    "syd": ("Sydney, Australia", "asia_pacific", -33.87, 151.21),
}
DEPRECATED = frozenset({"mad"})
ALIASES = {
    "eu": "europe",
    "na": "north_america",
    "us": "north_america",
    "sa": "south_america",
    "apac": "asia_pacific",
}
CPU_KINDS: Mapping[str, CpuKind] = {
    "shared": CpuKind("shared-cpu-{}x", (1, 2, 4, 6, 8), 256, 2048, Decimal("0.0027")),
    "performance": CpuKind("performance-{}x", (1, 2, 4, 8, 16), 2048, 8192, Decimal("0.043")),
}
CARDS: Mapping[str, Card] = {
    "a10": Card("A10", ("ord",), Decimal("0.75")),
    "l40s": Card("L40S", ("ord",), Decimal("0.70")),
    "a100-pcie-40gb": Card("A100-40GB-PCIE", ("ord",), Decimal("1.25")),
    "a100-sxm4-80gb": Card("A100-80GB-SXM", ("ams", "iad", "sjc", "syd"), Decimal("1.50")),
}
MORE_GB = Decimal(5) / MONTH_HOURS


@CATALOG.on("GET", "/v1/platform/regions")
def regions(site: Site, request: Request, ids: Ids) -> Response:
    rows: list[JsonValue] = [
        {
            "code": code,
            "name": name,
            "deprecated": code in DEPRECATED,
            "gateway_available": code != "jnb",
            "geo_region": geo,
            "latitude": latitude,
            "longitude": longitude,
            "requires_paid_plan": False,
        }
        for code, (name, geo, latitude, longitude) in REGIONS.items()
    ]
    return Response(200, {"regions": rows, "nearest": site.knob("nearest")})


@CATALOG.on("POST", "/v1/platform/placements")
def placements(site: Site, request: Request, ids: Ids) -> Response:
    """Where so many machines would go; without a number, how many each region takes."""
    body = request.json()
    if not text(body, "org_slug"):
        raise Refused(400, "invalid_argument: org_slug is required")
    size = size_of(inner(body, "compute") or {"cpu_kind": "performance", "cpus": 1, "memory_mb": 2048})
    count, found = number(body, "count", 0), list[JsonValue]()
    for region in region_list(text(body, "region") or "any", site):
        room = site.shelf(size.shelf, region).available
        room = site.count("most_per_region") if room is None else room
        taken = min(room, count) if number(body, "count", 0) else room
        if region in size.regions and taken:
            found.append({"region": region, "count": taken, "concurrency": taken})
            count -= taken
        if number(body, "count", 0) and not count:
            break
    return Response(200, {"regions": found})


def region_list(asked: str, site: Site) -> Sequence[str]:
    """The regions a text speaks of, in its order: codes, groups of them, `any`. Raises Refused."""
    found: list[str] = []
    for word in asked.split(",") if asked else [str(site.knob("nearest"))]:
        geo = ALIASES.get(word)
        group = [code for code, row in REGIONS.items() if word == "any" or row[1] == geo]
        if not group and word not in REGIONS:
            raise Refused(400, f"invalid_argument: unknown region {word}")
        found += group or [word]
    return [code for code in dict.fromkeys(found) if code not in DEPRECATED]


def size_of(asked: Json) -> Size:
    """Raises Refused for a guest that there is not."""
    name, cpus = text(asked, "cpu_kind") or "shared", number(asked, "cpus", 1)
    kind = CPU_KINDS.get(name)
    if kind is None or cpus not in kind.counts:
        raise Refused(422, f"invalid config.guest: no {name} machine with {cpus} cpus")
    memory = number(asked, "memory_mb", kind.least * cpus)
    if memory < kind.least * cpus:
        raise Refused(422, f"invalid config.guest.memory_mb, minimum required {kind.least * cpus} MiB")
    if memory > kind.most * cpus or memory % 256:
        raise Refused(422, f"invalid config.guest.memory_mb, at most {kind.most * cpus} MiB in steps of 256")
    price = kind.price * cpus + MORE_GB * (memory - kind.least * cpus) / 1024
    guest: Json = {**asked, "cpu_kind": name, "cpus": cpus, "memory_mb": memory}
    if not asked.get("gpu_kind"):
        usual = tuple(code for code in REGIONS if code not in DEPRECATED)
        return Size(kind.preset.format(cpus), usual, price, guest)
    card = CARDS.get(text(asked, "gpu_kind"))
    if card is None:
        raise Refused(422, "invalid config.guest.gpu_kind")
    return Size(card.gpu, card.regions, price + card.price * number(asked, "gpus", 1), {**guest, "gpus": 1})
