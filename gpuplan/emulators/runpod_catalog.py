"""What the emulated RunPod rents: GPU types, CPU flavors, data centres. Prices are of the right order, no more."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from gpuplan.core.values import JsonValue
from gpuplan.emulators.http import Json, Request, Response, Routes
from gpuplan.emulators.runpod_answers import Refused
from gpuplan.emulators.site import Site

CATALOG = Routes()
CLOUDS = ("SECURE", "COMMUNITY")
Ids = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class GpuType:
    """`gpu` is the canonical name, under which stock is counted. A price of 0: not in that cloud."""

    id: str
    name: str
    gpu: str
    memory: int
    secure: str
    community: str
    most: int
    regions: tuple[str, ...]
    pool: str | None = None
    maker: str = "NVIDIA"
    cuda: tuple[str, ...] = ("12.8", "12.4")

    def price(self, cloud: str) -> Decimal:
        return Decimal(self.community if cloud == "COMMUNITY" else self.secure)

    def most_in(self, cloud: str) -> int:
        return self.most if self.price(cloud) else 0


@dataclass(frozen=True, slots=True)
class Flavor:
    id: str
    name: str
    group: str
    most: int
    ram_per_vcpu: int
    price: str
    regions: tuple[str, ...]


GPUS: Mapping[str, GpuType] = {
    row.id: row
    for row in (
        GpuType("NVIDIA L4", "L4", "L4", 24, "0.39", "0", 4, ("EU-RO-1", "US-KS-2"), "AMPERE_24"),
        GpuType("NVIDIA GeForce RTX 4090", "RTX 4090", "RTX4090", 24, "0.69", "0.34", 8,
                ("EU-RO-1", "EU-SE-1", "US-KS-2"), "ADA_24"),
        GpuType("NVIDIA A40", "A40", "A40", 48, "0.40", "0.35", 8, ("EU-SE-1", "US-KS-2"), "AMPERE_48"),
        GpuType("NVIDIA L40S", "L40S", "L40S", 48, "0.86", "0.79", 8, ("EU-RO-1", "US-KS-2"), "ADA_48_PRO"),
        GpuType("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada", "RTX6000Ada", 48, "0.77", "0.74", 4,
                ("US-IL-1",), "ADA_48_PRO"),
        GpuType("NVIDIA A100 80GB PCIe", "A100 PCIe", "A100-80GB-PCIE", 80, "1.39", "1.19", 8,
                ("EUR-IS-1", "US-KS-2"), "AMPERE_80"),
        GpuType("NVIDIA H100 80GB HBM3", "H100 SXM", "H100-80GB-SXM", 80, "2.69", "2.39", 8,
                ("EUR-IS-1", "US-KS-2"), "ADA_80_PRO"),
        GpuType("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX PRO 6000", "RTXPRO6000", 96, "1.79", "0", 4,
                ("US-KS-2",), "BLACKWELL_96"),
        GpuType("NVIDIA RTX PRO 6000 Blackwell Server Edition MIG 1g.24gb", "RTX PRO 6000 MIG 24 GB", "MIG", 24,
                "0.49", "0", 1, ("US-KS-2",)),
        GpuType("AMD Instinct MI300X OAM", "MI300X", "MI300X", 192, "2.49", "0", 8, ("EU-RO-1",), None, "AMD", ()),
        GpuType("unknown", "unknown", "unknown", 0, "0", "0", 0, (), None, "UNKNOWN", ()),
    )
}  # fmt: skip
FLAVORS: Mapping[str, Flavor] = {
    row.id: row
    for row in (
        Flavor("cpu3c", "Compute-Optimized", "Gen 3", 8, 2, "0.03", ("EU-RO-1", "US-KS-2")),
        Flavor("cpu5g", "General Purpose", "Gen 5", 32, 4, "0.04", ("EU-RO-1",)),
    )
}
CENTERS: Mapping[str, tuple[str, str, tuple[str, ...], bool]] = {
    "EU-RO-1": ("EU Romania 1", "EUROPE", ("STANDARD", "HIGH_PERFORMANCE"), True),
    "EU-SE-1": ("EU Sweden 1", "EUROPE", ("STANDARD",), False),
    "EUR-IS-1": ("EUR Iceland 1", "EUROPE", ("STANDARD",), True),
    "US-IL-1": ("US Illinois 1", "NORTH_AMERICA", (), False),
    "US-KS-2": ("US Kansas 2", "NORTH_AMERICA", ("STANDARD",), True),
}
"""Name, region, tiers of network volumes with the primary one first, global networking."""


def price(site: Site, type: GpuType, cloud: str, region: str) -> Decimal:
    """USD per hour and GPU now."""
    return site.shelf(type.gpu, region).price or type.price(cloud)


def level(site: Site, shelf: str, region: str) -> str:
    """Stock as RunPod tells it, in three words and NONE."""
    available = site.shelf(shelf, region).available
    if available is None or available >= 10:
        return "HIGH"
    return "MEDIUM" if available >= 3 else "LOW" if available else "NONE"


@CATALOG.on("GET", "/v2/catalog/gpus")
def gpus(site: Site, request: Request, ids: Ids) -> Response:
    _check_include(request, ("POD", "CLUSTER", "SERVERLESS"), ("count", "cloud", "countryCodes", "cudaVersions"))
    return Response(200, {"gpus": [_show_gpu(site, request, type) for type in GPUS.values()]})


@CATALOG.on("GET", "/v2/catalog/gpus/{id}")
def gpu(site: Site, request: Request, ids: Ids) -> Response:
    _check_include(request, ("POD", "CLUSTER", "SERVERLESS"), ("count", "cloud", "countryCodes", "cudaVersions"))
    if ids["id"] not in GPUS:
        raise Refused(404, "resource not found")
    return Response(200, _show_gpu(site, request, GPUS[ids["id"]]))


@CATALOG.on("GET", "/v2/catalog/cpus")
def cpus(site: Site, request: Request, ids: Ids) -> Response:
    _check_include(request, ("POD", "SERVERLESS"), ("vcpuCount",))
    return Response(200, {"cpus": [_show_flavor(site, request, flavor) for flavor in FLAVORS.values()]})


@CATALOG.on("GET", "/v2/catalog/cpus/{id}")
def cpu(site: Site, request: Request, ids: Ids) -> Response:
    _check_include(request, ("POD", "SERVERLESS"), ("vcpuCount",))
    if ids["id"] not in FLAVORS:
        raise Refused(404, "resource not found")
    return Response(200, _show_flavor(site, request, FLAVORS[ids["id"]]))


@CATALOG.on("GET", "/v2/catalog/datacenters")
def centers(site: Site, request: Request, ids: Ids) -> Response:
    regions, tiers = _words(request, "regions"), _words(request, "networkVolumeTypes")
    found = [
        id
        for id, (_, region, offered, _) in CENTERS.items()
        if (not regions or region in regions) and set(tiers) <= set(offered)
    ]
    return Response(200, {"dataCenters": [_show_center(site, request, id) for id in found]})


@CATALOG.on("GET", "/v2/catalog/datacenters/{id}")
def center(site: Site, request: Request, ids: Ids) -> Response:
    if ids["id"] not in CENTERS:
        raise Refused(404, "resource not found")
    return Response(200, _show_center(site, request, ids["id"]))


def _show_gpu(site: Site, request: Request, type: GpuType) -> Json:
    shown: Json = {
        "id": type.id,
        "name": type.name,
        "pool": type.pool,
        "manufacturer": type.maker,
        "memory": type.memory,
        "secure": bool(type.price("SECURE")),
        "community": bool(type.price("COMMUNITY")),
        "price": {cloud.lower(): float(price(site, type, cloud, "")) for cloud in CLOUDS},
        "maxCount": {cloud.lower(): type.most_in(cloud) for cloud in CLOUDS},
    }
    if request.one("include"):
        count, cloud = int(request.one("count") or 1), request.one("cloud") or "SECURE"
        regions = type.regions if count <= type.most_in(cloud) else ()
        shown |= _availability(site, type.gpu, regions)
        if type.cuda:
            has_some = shown["availability"] != "NONE"
            shown["cudaVersions"] = [{"version": version, "available": has_some} for version in type.cuda]
    return shown


def _show_flavor(site: Site, request: Request, flavor: Flavor) -> Json:
    hourly = float(flavor.price)
    shown: Json = {
        "id": flavor.id,
        "name": flavor.name,
        "group": flavor.group,
        "vcpu": {"min": 2, "max": flavor.most},
        "ramGbPerVcpu": flavor.ram_per_vcpu,
        "price": {"securePerVcpu": hourly, "serverlessPerVcpu": round(hourly * 1.2, 4)},
    }
    if request.one("include"):
        regions = flavor.regions if int(request.one("vcpuCount") or 2) <= flavor.most else ()
        shown |= _availability(site, flavor.id, regions)
    return shown


def _availability(site: Site, shelf: str, regions: Iterable[str]) -> Json:
    levels = {region: level(site, shelf, region) for region in regions}
    places: list[JsonValue] = [
        {"id": region, "name": CENTERS[region][0], "availability": word}
        for region, word in levels.items()
        if word != "NONE"
    ]
    order = ("HIGH", "MEDIUM", "LOW")
    best = next((word for word in order if word in levels.values()), "NONE")
    return {"availability": best, **({"dataCenters": places} if places else {})}


def _show_center(site: Site, request: Request, id: str) -> Json:
    name, region, tiers, has_global = CENTERS[id]
    shown: Json = {
        "id": id,
        "name": name,
        "region": region,
        "globalNetwork": has_global,
        "networkVolumeTypes": list(tiers),
        "compliance": ["SOC_2_TYPE_2"],
    }
    include = _words(request, "include")
    if "GPU_AVAILABILITY" in include:
        shown["gpuAvailability"] = [
            {"id": type.id, "name": type.name, "availability": level(site, type.gpu, id)}
            for type in GPUS.values()
            if id in type.regions
        ]
    if "CPU_AVAILABILITY" in include:
        shown["cpuAvailability"] = [
            {"id": flavor.id, "name": flavor.name, "availability": level(site, flavor.id, id)}
            for flavor in FLAVORS.values()
            if id in flavor.regions
        ]
    return shown


def _check_include(request: Request, products: tuple[str, ...], filters: tuple[str, ...]) -> None:
    """Availability needs a product, and everything that narrows it needs availability."""
    include, product = request.one("include"), _words(request, "product")
    if include not in ("", "AVAILABILITY") or not set(product) <= set(products):
        raise Refused(422, "Request validation failed.", ["include, product: not one of the permitted values"])
    if bool(include) != bool(product):
        raise Refused(400, "product is required with include=AVAILABILITY, and valid only with it")
    if not include and any(request.one(name) for name in filters):
        raise Refused(400, f"{', '.join(filters)} are valid only with include=AVAILABILITY")
    if request.one("cloud") not in ("", *CLOUDS):
        raise Refused(422, "Request validation failed.", ["cloud: must be one of SECURE, COMMUNITY"])
    for name in ("count", "vcpuCount"):
        if request.one(name) and not request.one(name).isdigit():
            raise Refused(422, "Request validation failed.", [f"{name}: must be a whole number"])


def _words(request: Request, name: str) -> list[str]:
    """The comma-joined values of a parameter."""
    return [word for word in request.one(name).split(",") if word]
