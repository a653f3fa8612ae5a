"""What the emulated Lambda rents out: types, regions, images. Prices are those of August 2026 where they are known, and
of late 2025 where not."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from gpuplan.core.values import JsonValue
from gpuplan.emulators.http import Json
from gpuplan.emulators.site import Site

REGIONS: Mapping[str, str] = {
    "us-west-1": "California, USA",
    "us-west-2": "Arizona, USA",
    "us-west-3": "Utah, USA",
    "us-south-1": "Texas, USA",
    "us-south-2": "North Texas, USA",
    "us-south-3": "Central Texas, USA",
    "us-midwest-1": "Illinois, USA",
    "us-midwest-2": "Illinois, USA",
    "us-east-1": "Virginia, USA",
    "us-east-2": "Washington DC, USA",
    "us-east-3": "Washington DC, USA",
    "europe-central-1": "Germany",
    "me-west-1": "Israel",
    "asia-south-1": "India",
    "asia-northeast-1": "Tokyo, Japan",
    "asia-northeast-2": "Osaka, Japan",
    "australia-east-1": "Sydney, Australia",
}
ARM_REGION = "us-east-3"
X86_FAMILIES = (
    *("lambda-stack-22-04", "lambda-stack-24-04", "lambda-stack-legacy-22-04"),
    *("gpu-base-22-04", "gpu-base-24-04", "ubuntu-22-04", "ubuntu-24-04"),
)
ARM_FAMILIES = ("lambda-stack-22-04", "lambda-stack-24-04")


@dataclass(frozen=True, slots=True)
class Type:
    """`card` is what Lambda tells of the GPU, `shelf` the name under which its stock is counted."""

    name: str
    card: str
    shelf: str
    cents: int
    gpus: int
    cpus: int
    memory_gib: int
    storage_gib: int
    regions: tuple[str, ...]

    @property
    def architecture(self) -> str:
        return "arm64" if self.name == "gpu_1x_gh200" else "x86_64"

    @property
    def description(self) -> str:
        return f"{self.gpus}x {self.card}" if self.gpus else "4x CPU General"


_TEXAS = ("us-south-1", "us-south-2", "us-south-3")
_H100 = ("us-west-1", "us-east-1", "us-south-2", "us-south-3")
_A100 = ("us-west-2", "us-east-1", "us-midwest-1", "asia-northeast-2")
_H100_SXM, _B200 = "H100 (80 GB SXM5)", "B200 (180 GB SXM6)"
TYPES: Mapping[str, Type] = {
    each.name: each
    for each in (
        Type("gpu_8x_b200_sxm6", _B200, "B200-SXM", 3992, 8, 208, 2900, 22528, ("us-south-2", "us-east-1")),
        Type("gpu_1x_b200_sxm6", _B200, "B200-SXM", 529, 1, 26, 360, 2816, ("us-south-2",)),
        Type("gpu_8x_h100_sxm5", _H100_SXM, "H100-80GB-SXM", 2392, 8, 208, 1800, 22528, ("us-west-3", *_H100)),
        Type("gpu_4x_h100_sxm5", _H100_SXM, "H100-80GB-SXM", 1236, 4, 104, 900, 11264, _H100),
        Type("gpu_2x_h100_sxm5", _H100_SXM, "H100-80GB-SXM", 638, 2, 52, 450, 5632, _H100),
        Type("gpu_1x_h100_sxm5", _H100_SXM, "H100-80GB-SXM", 429, 1, 26, 225, 2816, _H100),
        Type("gpu_1x_h100_pcie", "H100 (80 GB PCIe)", "H100-80GB-PCIE", 329, 1, 26, 200, 1024, ("us-west-3",)),
        Type("gpu_1x_gh200", "GH200 (96 GB)", "GH200-96GB", 229, 1, 64, 432, 4096, (ARM_REGION,)),
        Type("gpu_8x_a100_80gb_sxm4", "A100 (80 GB SXM4)", "A100-80GB-SXM", 1432, 8, 240, 1800, 20480, _A100),
        Type("gpu_8x_a100", "A100 (40 GB SXM4)", "A100-40GB-SXM", 1032, 8, 124, 1800, 6144, _A100),
        Type("gpu_1x_a100_sxm4", "A100 (40 GB SXM4)", "A100-40GB-SXM", 199, 1, 30, 200, 512, _A100),
        Type("gpu_4x_a100", "A100 (40 GB PCIe)", "A100-40GB-PCIE", 516, 4, 120, 800, 1024, ("us-west-1",)),
        Type("gpu_2x_a100", "A100 (40 GB PCIe)", "A100-40GB-PCIE", 258, 2, 60, 400, 1024, ("us-west-1",)),
        Type("gpu_1x_a100", "A100 (40 GB PCIe)", "A100-40GB-PCIE", 129, 1, 30, 200, 512, ("us-west-1",)),
        Type("gpu_1x_a10", "A10 (24 GB PCIe)", "A10", 75, 1, 30, 200, 1400, ("us-west-1", "us-east-1", "me-west-1")),
        Type("gpu_4x_a6000", "A6000 (48 GB)", "A6000", 320, 4, 56, 400, 1024, _TEXAS[:1]),
        Type("gpu_2x_a6000", "A6000 (48 GB)", "A6000", 160, 2, 28, 200, 1024, _TEXAS[:1]),
        Type("gpu_1x_a6000", "A6000 (48 GB)", "A6000", 80, 1, 14, 100, 200, _TEXAS[:1]),
        Type("gpu_1x_rtx6000", "RTX 6000 (24 GB)", "RTX6000", 50, 1, 14, 46, 512, ("us-south-1",)),
        Type("gpu_8x_v100", "Tesla V100 (16 GB)", "V100-16GB", 440, 8, 92, 448, 6041, _TEXAS[:1]),
        Type("cpu_4x_general", "N/A", "cpu_4x_general", 20, 0, 4, 16, 512, ("us-west-1", "us-east-1")),
    )
}


def price(site: Site, type: Type, region: str) -> Decimal:
    """USD per hour of a whole machine."""
    return site.shelf(type.shelf, region).price or Decimal(type.cents) / 100


def regions_told(site: Site, type: Type) -> list[str]:
    """Where the catalogue says there is capacity. With the knob `catalogue_lies` it says so of what is gone, too."""
    lies = site.knob("catalogue_lies") is True
    return [region for region in type.regions if lies or site.shelf(type.shelf, region).available != 0]


def show_type(site: Site, type: Type, region: str = "") -> Json:
    return {
        "name": type.name,
        "description": type.description,
        "gpu_description": type.card,
        "price_cents_per_hour": int(price(site, type, region) * 100),
        "specs": {
            "vcpus": type.cpus,
            "memory_gib": type.memory_gib,
            "storage_gib": type.storage_gib,
            "gpus": type.gpus,
        },
    }


def show_offer(site: Site, type: Type) -> Json:
    told: JsonValue = [show_region(region) for region in regions_told(site, type)]
    return {"instance_type": show_type(site, type), "regions_with_capacity_available": told}


def show_region(region: str) -> Json:
    return {"name": region, "description": REGIONS[region]}


def images() -> Iterable[Json]:
    """One row for each image and region."""
    places = [(region, "x86_64", family) for region in REGIONS for family in X86_FAMILIES]
    places += [(ARM_REGION, "arm64", family) for family in ARM_FAMILIES]
    for number, (region, architecture, family) in enumerate(places):
        yield {
            "id": f"43336648-096d-4cba-9aa2-{number:012x}",
            "created_time": "2026-03-01T00:00:00+00:00",
            "updated_time": "2026-03-01T00:00:00+00:00",
            "name": family,
            "description": family.replace("-", " ").title(),
            "family": family,
            "version": "2026.3.1",
            "architecture": architecture,
            "region": show_region(region),
        }


def has_image(type: Type, region: str, field: str, wanted: str) -> bool:
    """Whether there is an image with that `id` or of that `family` for machines of a type in a region."""
    return any(
        image[field] == wanted and image["architecture"] == type.architecture and image["region"] == show_region(region)
        for image in images()
    )
