"""What RunPod sells: its catalogue as offers, and its GPU ids by our names. Pure; `runpod` makes the calls."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import product

from gpuplan.core.gpus import canonical_gpu, known_gpus
from gpuplan.core.offers import Offer, Pricing, Stock
from gpuplan.net.payload import CamelPayload

GPUS: Mapping[str, str] = {
    "NVIDIA B300 SXM6 AC": "B300",
    "NVIDIA RTX 4000 SFF Ada Generation": "RTX4000Ada",
    "NVIDIA RTX PRO 4500 Blackwell": "RTXPRO4500",
    "NVIDIA RTX PRO 6000 Blackwell Server Edition": "RTXPRO6000",
    "NVIDIA RTX PRO 6000 Blackwell Workstation Edition": "RTXPRO6000",
    "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition": "RTXPRO6000",
    "AMD Instinct MI300X OAM": "MI300X",
}
"""Ids whose canonical name cannot be read off them. Whole ids: those of MIG slices begin as the card's does."""
STOCKS: Mapping[str, Stock] = {
    "NONE": Stock.NONE,
    "LOW": Stock.LOW,
    "MEDIUM": Stock.SOME,
    "HIGH": Stock.PLENTY,
}
CPU_COUNTS = (2, 4, 8, 16, 32, 64)
GPU_COUNTS = (1, 2, 4, 8)
"""What availability is asked for, in a call each; it holds for smaller pods too."""


class Place(CamelPayload):
    id: str
    availability: str = ""


class PerCloud(CamelPayload):
    secure: float = 0
    community: float = 0


class Vcpus(CamelPayload):
    min: int = 0
    max: int = 0


class PerVcpu(CamelPayload):
    secure_per_vcpu: float = 0


class Sold(CamelPayload):
    """What both catalogues tell of a thing to rent."""

    id: str
    availability: str = ""
    data_centers: tuple[Place, ...] = ()

    def places(self) -> Iterator[tuple[str, Stock]]:
        """Region and stock; one of no region where there is none left, or where the region is not told."""
        for place in self.data_centers:
            yield place.id, STOCKS.get(place.availability, Stock.UNTOLD)
        if not self.data_centers:
            yield "", STOCKS.get(self.availability, Stock.UNTOLD)


class GpuType(Sold):
    memory: int = 0
    secure: bool = False
    community: bool = False
    price: PerCloud = PerCloud()
    max_count: PerCloud = PerCloud()

    def is_sold_in(self, cloud: str) -> bool:
        return self.community if cloud == "community" else self.secure


class CpuType(Sold):
    vcpu: Vcpus = Vcpus()
    ram_gb_per_vcpu: float = 0
    price: PerVcpu = PerVcpu()


def gpu_of(id: str) -> str:
    """The canonical name; empty for what has none, slices among them."""
    return GPUS.get(id) or canonical_gpu(id.removesuffix(" Generation")) or ""


def to_gpu_offers(
    board: Mapping[int, Sequence[GpuType]], cloud: str, count: int, provider: str, now: datetime
) -> Iterator[Offer]:
    """Pods with so many GPUs. `board` is the catalogue by the number of GPUs that availability was asked for."""
    asked = min((probe for probe in board if probe >= count), default=0)
    for type in board.get(asked, ()):
        name, price = gpu_of(type.id), getattr(type.price, cloud)
        if not name or not price or not type.is_sold_in(cloud) or count > getattr(type.max_count, cloud):
            continue
        for region, stock in type.places():
            yield Offer(
                provider=provider,
                ref=f"{cloud}/{count}/{type.id}",
                region=region,
                gpu=name,
                gpu_count=count,
                pricing=Pricing.ON_DEMAND,
                price_per_hour=Decimal(str(price)) * count,
                seen_at=now,
                instance_type=type.id,
                gpu_memory_gb=known_gpus()[name].memory_gb,
                stock=stock,
                facts={"cloud": cloud},
            )


def to_cpu_offers(types: Sequence[CpuType], provider: str, now: datetime) -> Iterator[Offer]:
    """Pods without a GPU, in all sizes. Their stock is that of the smallest: CPUs are not what RunPod is short of."""
    for type, count in product(types, CPU_COUNTS):
        if not type.vcpu.min <= count <= type.vcpu.max or not type.price.secure_per_vcpu:
            continue
        for region, stock in type.places():
            yield Offer(
                provider=provider,
                ref=f"cpu/{count}/{type.id}",
                region=region,
                gpu="",
                gpu_count=0,
                pricing=Pricing.ON_DEMAND,
                price_per_hour=Decimal(str(type.price.secure_per_vcpu)) * count,
                seen_at=now,
                instance_type=f"{type.id}-{count}",
                cpu=count,
                memory_gb=type.ram_gb_per_vcpu * count,
                stock=stock,
                facts={"cloud": "secure"},
            )
