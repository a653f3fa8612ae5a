"""What the emulated Alibaba Cloud rents: regions, zones, instance types, images, as documented in 2026.

Prices that the documentation does not quote are of the right order, no more.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from gpuplan.core.values import JsonValue
from gpuplan.emulators.http import Json
from gpuplan.emulators.site import Site

REGIONS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "ap-northeast-1": ("Japan (Tokyo)", ("a", "b", "c")),
    "ap-southeast-1": ("Singapore", ("a", "b", "c")),
    "ap-southeast-3": ("Malaysia (Kuala Lumpur)", ("a", "b")),
    "ap-southeast-5": ("Indonesia (Jakarta)", ("a", "b", "c")),
    "cn-beijing": ("China (Beijing)", ("h", "i", "k")),
    "cn-hangzhou": ("China (Hangzhou)", ("g", "h", "i", "j")),
    "cn-hongkong": ("China (Hong Kong)", ("b", "c", "d")),
    "cn-shanghai": ("China (Shanghai)", ("b", "g", "m")),
    "cn-shenzhen": ("China (Shenzhen)", ("c", "d", "e", "f")),
    "cn-zhangjiakou": ("China (Zhangjiakou)", ("a", "b", "c")),
    "eu-central-1": ("Germany (Frankfurt)", ("a", "b")),
    "eu-west-1": ("UK (London)", ("a", "b")),
    "me-east-1": ("UAE (Dubai)", ("a",)),
    "us-east-1": ("US (Virginia)", ("a", "b")),
    "us-west-1": ("US (Silicon Valley)", ("a", "b")),
}
SPOT_SHARE = Decimal("0.3")


@dataclass(frozen=True, slots=True)
class InstanceType:
    """`gpu` is the canonical name, under which stock is counted; types without a whole one go by their id."""

    id: str
    cpu: int
    memory_gb: int
    hourly: str
    spec: str = ""
    gpus: int = 0
    gpu_memory_gb: int = 0
    gpu: str = ""
    has_local_disks: bool = False

    @property
    def family(self) -> str:
        return self.id.rpartition("-")[0] or self.id.rpartition(".")[0]

    @property
    def shelf(self) -> str:
        return self.gpu or self.id


def _types(
    family: str, spec: str, gpu: str, gpu_memory_gb: int, hourly: str, *sizes: tuple[str, int, int, int]
) -> list[InstanceType]:
    """The types of a family, each with suffix, GPUs, virtual CPUs and memory in GiB; the price is per GPU."""
    return [
        InstanceType(
            f"{family}{suffix}",
            cpu,
            memory,
            str(Decimal(hourly) * max(1, gpus)),
            spec,
            gpus,
            gpu_memory_gb,
            gpu,
            family == "ecs.gn5",
        )
        for suffix, gpus, cpu, memory in sizes
    ]


TYPES: Mapping[str, InstanceType] = {
    each.id: each
    for each in [
        *_types("ecs.gn6i", "NVIDIA T4", "T4", 16, "1.17", ("-c4g1.xlarge", 1, 4, 15), ("-c8g1.2xlarge", 1, 8, 31),
                ("-c24g1.12xlarge", 2, 48, 186), ("-c24g1.24xlarge", 4, 96, 372)),
        *_types("ecs.gn6v", "NVIDIA V100", "V100-16GB-SXM", 16, "3.37", ("-c8g1.2xlarge", 1, 8, 32),
                ("-c8g1.8xlarge", 4, 32, 128), ("-c8g1.16xlarge", 8, 64, 256)),
        *_types("ecs.gn6e", "NVIDIA V100", "V100-32GB-SXM", 32, "3.92", ("-c12g1.3xlarge", 1, 12, 92),
                ("-c12g1.24xlarge", 8, 96, 736)),
        *_types("ecs.gn7", "NVIDIA A100", "A100-40GB-SXM", 40, "4.10", ("-c12g1.3xlarge", 1, 12, 95),
                ("-c13g1.26xlarge", 8, 104, 760)),
        *_types("ecs.gn7e", "NVIDIA A100", "A100-80GB-SXM", 80, "5.00", ("-c16g1.4xlarge", 1, 16, 125),
                ("-c16g1.16xlarge", 4, 64, 500), ("-c16g1.32xlarge", 8, 128, 1000)),
        *_types("ecs.gn7i", "NVIDIA A10", "A10", 24, "1.90", ("-c8g1.2xlarge", 1, 8, 30),
                ("-c16g1.4xlarge", 1, 16, 60), ("-c32g1.8xlarge", 1, 32, 188), ("-c32g1.16xlarge", 2, 64, 376)),
        *_types("ecs.ebmgn7i", "NVIDIA A10", "A10", 24, "2.10", (".32xlarge", 4, 128, 768)),
        *_types("ecs.gn5", "NVIDIA P100", "P100", 16, "1.70", ("-c4g1.xlarge", 1, 4, 30)),
        *_types("ecs.gn5i", "NVIDIA P4", "P4", 8, "0.90", ("-c2g1.large", 1, 2, 8)),
        *_types("ecs.gn8is", "NVIDIA L20", "L20", 48, "2.60", (".2xlarge", 1, 8, 64), (".4xlarge", 1, 16, 128)),
        *_types("ecs.sgn7i-vws", "NVIDIA A10", "", 4, "0.45", ("-m4.xlarge", 0, 4, 15)),
        *_types("ecs.g7", "", "", 0, "0.10", (".large", 0, 2, 8), (".xlarge", 0, 4, 16)),
    ]
}  # fmt: skip
IMAGES: tuple[Json, ...] = tuple(
    {
        "ImageId": id,
        "ImageName": id,
        "ImageFamily": family,
        "ImageOwnerAlias": "system",
        "OSType": "linux",
        "OSName": name,
        "Architecture": "x86_64",
        "Status": "Available",
        "Size": 20,
        "CreationTime": created,
        "IsSupportCloudinit": True,
    }
    for id, family, name, created in (
        ("ubuntu_22_04_x64_20G_alibase_20250722.vhd", "acs:ubuntu_22_04_x64", "Ubuntu 22.04 64bit", "2025-07-24"),
        ("ubuntu_22_04_x64_20G_alibase_20250917.vhd", "acs:ubuntu_22_04_x64", "Ubuntu 22.04 64bit", "2025-09-18"),
        ("ubuntu_24_04_x64_20G_alibase_20250916.vhd", "acs:ubuntu_24_04_x64", "Ubuntu 24.04 64bit", "2025-09-18"),
        ("debian_12_10_x64_20G_alibase_20250825.vhd", "acs:debian_12_10_x64", "Debian 12.10 64bit", "2025-08-26"),
        ("aliyun_3_x64_20G_alibase_20250910.vhd", "acs:alibaba_cloud_linux_3", "Alibaba Cloud Linux 3", "2025-09-11"),
    )
)


def zones(region: str) -> list[str]:
    """`cn-beijing-h`, and `us-east-1a` where the region ends in a number."""
    joint = "" if region[-1].isdigit() else "-"
    return [f"{region}{joint}{letter}" for letter in REGIONS[region][1]]


def price(site: Site, sold: InstanceType, region: str) -> Decimal:
    """USD per hour on demand."""
    return site.shelf(sold.shelf, region).price or Decimal(sold.hourly)


def spot_price(site: Site, sold: InstanceType, region: str) -> Decimal:
    shelf = site.shelf(sold.shelf, region)
    return shelf.spot_price or round(price(site, sold, region) * SPOT_SHARE, 3)


def stock(site: Site, sold: InstanceType, region: str) -> tuple[str, str]:
    """Status and category, as they are told; that is not always so when an instance is asked for."""
    available = site.shelf(sold.shelf, region).available
    if available == 0:
        return "SoldOut", "WithoutStock"
    return "Available", "WithStock" if available is None or available > 3 else "ClosedWithStock"


def show_type(sold: InstanceType) -> Json:
    return {
        "InstanceTypeId": sold.id,
        "InstanceTypeFamily": sold.family,
        "InstanceCategory": "GPU compute-optimized" if sold.spec else "General-purpose",
        "CpuCoreCount": sold.cpu,
        "CpuArchitecture": "X86",
        "MemorySize": float(sold.memory_gb),
        "GPUAmount": sold.gpus,
        "GPUSpec": sold.spec,
        "GPUMemorySize": float(sold.gpu_memory_gb),
        "LocalStorageAmount": 1 if sold.has_local_disks else 0,
    }


def show_region(region: str) -> Json:
    host = f"ecs-{region}.aliyuncs.com" if region == "cn-hangzhou" else f"ecs.{region}.aliyuncs.com"
    return {"RegionId": region, "LocalName": REGIONS[region][0], "RegionEndpoint": host, "Status": "available"}


def show_price(sold: InstanceType, hourly: Decimal, disk_gb: int, currency: str) -> JsonValue:
    disk = round(Decimal("0.0002") * disk_gb, 4)
    parts = [("instanceType", hourly), ("systemDisk", disk)]
    details: JsonValue = [{"Resource": name, **_amounts(amount)} for name, amount in parts]
    return {"Rules": {"Rule": []}, "Price": {**_amounts(hourly + disk), "Currency": currency,
                                             "DetailInfos": {"DetailInfo": details}}}  # fmt: skip


def _amounts(amount: Decimal) -> Json:
    return {"OriginalPrice": float(amount), "DiscountPrice": 0.0, "TradePrice": float(amount)}
