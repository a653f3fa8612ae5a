"""What the emulated Vultr sells: plans, regions, operating systems, as its price list had them in 2026.

Prices of plans that the documentation does not quote are of the right order, no more.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from gpuplan.core.values import JsonValue
from gpuplan.emulators.http import Json
from gpuplan.emulators.site import Site


@dataclass(frozen=True, slots=True)
class Plan:
    """`card` and `vram_gb` are what the price list tells of a GPU; of bare metal it tells nothing, `gpu` is its name.

    Stock is counted under the canonical name of a whole GPU; slices and machines without one go by their id.
    """

    id: str
    type: str
    cpus: int
    ram_mb: int
    disk_gb: int
    hourly: str
    monthly: int
    locations: tuple[str, ...]
    card: str = ""
    vram_gb: int = 0
    gpu: str = ""
    disks: int = 1

    @property
    def is_metal(self) -> bool:
        return self.type == "vbm"

    @property
    def shelf(self) -> str:
        name, memory_gb = CARDS.get(self.card, (self.gpu, 0))
        return name if name and self.vram_gb >= memory_gb else self.id

    @property
    def month_hours(self) -> int:
        """A month costs no more than this many hours."""
        return 730 if self.type == "vcg" else 672


CARDS: Mapping[str, tuple[str, int]] = {
    "A100": ("A100-80GB-PCIE", 80),
    "A40": ("A40", 48),
    "A16": ("A16", 16),
    "L40S": ("L40S", 48),
}
"""Canonical name and memory of a whole one."""
EVERYWHERE = ("ewr", "ord", "dfw", "sea", "lax", "atl", "ams", "lhr", "fra", "cdg", "nrt", "sgp", "syd")
PLANS: Mapping[str, Plan] = {
    plan.id: plan
    for plan in (
        Plan("vc2-1c-1gb", "vc2", 1, 1024, 25, "0.007", 5, EVERYWHERE),
        Plan("vc2-2c-4gb", "vc2", 2, 4096, 80, "0.030", 20, EVERYWHERE),
        Plan("vc2-4c-8gb", "vc2", 4, 8192, 160, "0.060", 40, EVERYWHERE),
        Plan("vhp-8c-16gb-amd", "vhp", 8, 16384, 350, "0.143", 96, ("ewr", "ord", "ams", "fra", "sgp")),
        Plan("vcg-a100-12c-120g-80vram", "vcg", 12, 122880, 1400, "2.397", 1750, ("ewr",), "A100", 80),
        Plan("vcg-a100-24c-240g-160vram", "vcg", 24, 245760, 1400, "4.795", 3500, ("ewr",), "A100", 160),
        Plan("vcg-a100-6c-60g-40vram", "vcg", 6, 61440, 700, "1.199", 875, ("ewr",), "A100", 40),
        Plan("vcg-a100-1c-6g-4vram", "vcg", 1, 6144, 70, "0.123", 90, ("ewr", "sea"), "A100", 4),
        Plan("vcg-a40-24c-120g-48vram", "vcg", 24, 122880, 1400, "1.712", 1250, ("ewr", "lax", "fra"), "A40", 48),
        Plan("vcg-a16-6c-64g-16vram", "vcg", 6, 65536, 350, "0.471", 344, ("ewr", "ord", "sgp", "blr"), "A16", 16),
        Plan("vcg-l40s-16c-180g-48vram", "vcg", 16, 184320, 1200, "1.671", 1220, ("ord", "sea", "ams"), "L40S", 48),
        Plan("vbm-4c-32gb", "vbm", 4, 32768, 240, "0.179", 120, ("ewr", "ams", "fra"), disks=2),
        Plan("vbm-48c-1024gb-4-a100-gpu", "vbm", 48, 1048576, 450, "11.200", 7526, ("ord",), gpu="A100-80GB-SXM"),
        Plan("vbm-112c-2048gb-8-h100-gpu", "vbm", 112, 2097152, 960, "23.920", 16074, ("sea",), gpu="H100-80GB-SXM"),
        Plan("vbm-256c-2048gb-8-mi300x-gpu", "vbm", 256, 2097152, 3840, "17.520", 11773, ("ord",), gpu="MI300X"),
        Plan("vbm-72c-480gb-gh200-gpu", "vbm", 72, 491520, 960, "1.990", 1337, ("atl",), gpu="GH200-96GB"),
    )
}  # fmt: skip
REGIONS: Mapping[str, tuple[str, str, str]] = {
    "ewr": ("New Jersey", "US", "North America"),
    "ord": ("Chicago", "US", "North America"),
    "dfw": ("Dallas", "US", "North America"),
    "sea": ("Seattle", "US", "North America"),
    "lax": ("Los Angeles", "US", "North America"),
    "atl": ("Atlanta", "US", "North America"),
    "ams": ("Amsterdam", "NL", "Europe"),
    "lhr": ("London", "GB", "Europe"),
    "fra": ("Frankfurt", "DE", "Europe"),
    "cdg": ("Paris", "FR", "Europe"),
    "nrt": ("Tokyo", "JP", "Asia"),
    "sgp": ("Singapore", "SG", "Asia"),
    "blr": ("Bangalore", "IN", "Asia"),
    "syd": ("Sydney", "AU", "Australia"),
}
SYSTEMS: Mapping[int, tuple[str, str]] = {
    2284: ("Ubuntu 24.04 LTS x64", "ubuntu"),
    1743: ("Ubuntu 22.04 LTS x64", "ubuntu"),
    2136: ("Debian 12 x64 (bookworm)", "debian"),
    2625: ("Debian 13 x64 (trixie)", "debian"),
    159: ("Custom", "iso"),
    186: ("Application", "application"),
}
APPLICATIONS: tuple[Json, ...] = (
    {"id": 37, "name": "Docker", "short_name": "docker", "type": "one-click", "vendor": "vultr", "image_id": ""},
    {
        "id": 1034,
        "name": "Docker",
        "short_name": "docker",
        "type": "marketplace",
        "vendor": "vultr",
        "image_id": "docker",
    },
)


def price(site: Site, plan: Plan, region: str) -> Decimal:
    """USD per hour now."""
    return site.shelf(plan.shelf, region).price or Decimal(plan.hourly)


def is_available(site: Site, plan: Plan, region: str) -> bool:
    """Whether the plan can be deployed in the region at this moment; where it is sold is another matter."""
    return region in plan.locations and site.shelf(plan.shelf, region).available != 0


def show_plan(site: Site, plan: Plan) -> Json:
    shown: Json = {
        "id": plan.id,
        "ram": plan.ram_mb,
        "disk_count": plan.disks,
        "bandwidth": 10240,
        "invoice_type": "monthly",
        "locations": list(plan.locations),
        "type": plan.type,
        **_costs(site, plan, plan.locations[0]),
    }
    if plan.is_metal:
        cores: Json = {"cpu_count": plan.cpus, "cpu_cores": plan.cpus, "cpu_threads": 2 * plan.cpus, "physical_cpus": 2}
        return {**shown, **cores, "disk": plan.disk_gb, "cpu_model": "EPYC", "cpu_mhz": 2450, "type": "NVMe"}
    shown |= {"vcpu_count": plan.cpus, "disk": plan.disk_gb}
    if plan.card:
        regional: JsonValue = {region: _costs(site, plan, region) for region in plan.locations}
        shown |= {"gpu_type": f"NVIDIA_{plan.card}", "gpu_vram_gb": plan.vram_gb, "location_cost": regional}
    return shown


def show_region(region: str) -> Json:
    city, country, continent = REGIONS[region]
    options: JsonValue = ["ddos_protection", "block_storage_high_perf", "block_storage_storage_opt", "kubernetes"]
    return {"id": region, "city": city, "country": country, "continent": continent, "options": options}


def show_system(number: int) -> Json:
    name, family = SYSTEMS[number]
    return {"id": number, "name": name, "arch": "x64", "family": family}


def _costs(site: Site, plan: Plan, region: str) -> Json:
    hourly = float(price(site, plan, region))
    monthly = plan.monthly if hourly == float(plan.hourly) else round(hourly * plan.month_hours)
    return {
        "monthly_cost": monthly,
        "hourly_cost": hourly,
        "monthly_cost_preemptible": monthly,
        "hourly_cost_preemptible": hourly,
    }
