"""One canonical table of GPUs: names, memory, vendor, aliases. Adapters map to and from it.

Names and memory follow the vendors' data sheets; a test compares the table with gpuhunt's list of known accelerators.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache


class Vendor(StrEnum):
    NVIDIA = "nvidia"
    AMD = "amd"
    INTEL = "intel"
    GOOGLE = "google"
    TENSTORRENT = "tenstorrent"
    HUAWEI = "huawei"


@dataclass(frozen=True, slots=True)
class Gpu:
    """`name` is canonical: the family, with the memory where the family comes in several (`A100-80GB`, `L40S`)."""

    name: str
    memory_gb: int
    vendor: Vendor
    base: str = ""
    """The name that also covers this one: `H100-80GB` for `H100-80GB-SXM`. Empty: it stands for itself."""


@dataclass(frozen=True, slots=True)
class GpuRequest:
    """`H100-80GB:8`: which GPU, and how many per node."""

    name: str
    count: int

    def __str__(self) -> str:
        return f"{self.name}:{self.count}"


# family: memory sizes in GB. Several sizes make the memory part of the canonical name; a bare family means the first.
# Of consumer cards the first size goes by the bare name: nobody writes RTX4090-24GB.
_NVIDIA: dict[str, tuple[int, ...]] = {
    "A2": (16,), "A10": (24,), "A10G": (24,), "A16": (16,), "A30": (24,), "A40": (48,), "A100": (80, 40),
    "A4000": (16,), "A4500": (20,), "A5000": (24,), "A6000": (48,), "A800": (80, 40),
    "B200": (180,), "B300": (270,), "GB10": (128,), "GB200": (186,), "GB300": (270,), "GH200": (96, 141, 480),
    "H20": (96, 141), "H100": (80, 94, 64), "H100NVL": (94,), "H200": (141,), "H200NVL": (141,), "H800": (80,),
    "K80": (12,), "L4": (24,), "L20": (48,), "L40": (48,), "L40S": (48,), "M60": (8,), "P4": (8,), "P40": (24,),
    "P100": (16,), "T4": (16,), "V100": (16, 32),
    "GTX1080": (8,), "GTX1080Ti": (11,), "GTX1660": (6,),
    "RTX2060": (6, 12), "RTX2060SUPER": (8,), "RTX2070": (8,), "RTX2070SUPER": (8,), "RTX2080": (8,),
    "RTX2080SUPER": (8,), "RTX2080Ti": (11,), "RTX3050": (8, 6), "RTX3060": (12, 8), "RTX3060Ti": (8,),
    "RTX3070": (8,), "RTX3070Ti": (8,), "RTX3080": (10, 12), "RTX3080Ti": (12,), "RTX3090": (24,), "RTX3090Ti": (24,),
    "RTX4060": (8,), "RTX4060Ti": (16, 8), "RTX4070": (12,), "RTX4070SUPER": (12,), "RTX4070Ti": (12,),
    "RTX4070TiSUPER": (16,), "RTX4080": (16,), "RTX4080SUPER": (16,), "RTX4090": (24, 48), "RTX4090D": (24, 48),
    "RTX5060": (8,), "RTX5060Ti": (16, 8), "RTX5070": (12,), "RTX5070Ti": (16,), "RTX5080": (16,), "RTX5090": (32,),
    "RTX6000": (24,), "RTX2000Ada": (16,), "RTX4000Ada": (20,), "RTX4500Ada": (24,), "RTX5000Ada": (32,),
    "RTX5880Ada": (48,), "RTX6000Ada": (48,), "RTX8000": (48,), "TITANV": (12,), "TITANXP": (12,), "TITANRTX": (24,),
    "RTXPRO4000": (24,), "RTXPRO4500": (32,), "RTXPRO5000": (48,), "RTXPRO6000": (96,),
}  # fmt: skip
_OTHERS: dict[Vendor, dict[str, tuple[int, ...]]] = {
    Vendor.AMD: {
        "MI100": (32,), "MI210": (64,), "MI250": (128,), "MI250X": (128,), "MI300A": (128,), "MI300X": (192,),
        "MI308X": (128,), "MI325X": (288,), "MI350X": (288,), "MI355X": (288,), "RX7900XTX": (24,),
    },
    Vendor.INTEL: {"Gaudi": (32,), "Gaudi2": (96,), "Gaudi3": (128,), "Max1100": (48,), "Max1550": (128,)},
    Vendor.GOOGLE: {"v2": (16,), "v3": (32,), "v4": (32,), "v5litepod": (16,), "v5p": (95,), "v6e": (32,)},
    Vendor.TENSTORRENT: {
        "n150": (12,), "n300": (24,), "p100a": (28,), "p150": (32,), "p300": (64, 32), "tt-galaxy-wh": (12,),
        "tt-galaxy-bh": (32,),
    },
    Vendor.HUAWEI: {"Ascend910B": (64,)},
}  # fmt: skip
_FORM_FACTORS: dict[str, tuple[str, ...]] = {
    "A100-40GB": ("SXM", "PCIE"),
    "A100-80GB": ("SXM", "PCIE"),
    "H100-80GB": ("SXM", "PCIE"),
    "H100-94GB": ("NVL",),
    "H200": ("SXM",),
    "V100-16GB": ("SXM", "PCIE"),
    "V100-32GB": ("SXM", "PCIE"),
    "B200": ("SXM",),
}
_ALIASES: dict[str, str] = {
    "H100NVL": "H100-94GB-NVL",
    "H100-NVL": "H100-94GB-NVL",
    "H200NVL": "H200NVL",
    "H200-NVL": "H200NVL",
    "A6000ADA": "RTX6000Ada",
    "RTXA4000": "A4000",
    "RTXA4500": "A4500",
    "RTXA5000": "A5000",
    "RTXA6000": "A6000",
    "RTX6000PRO": "RTXPRO6000",
    "V5E": "v5litepod",
    "GAUDI1": "Gaudi",
}
# Words that tell the same GPU from nobody: vendors put them in front or behind.
_NOISE = re.compile(r"^(NVIDIA|AMD|INTEL|TESLA|GEFORCE|INSTINCT|QUADRO)[\s_-]+", re.IGNORECASE)


def _canonical(family: str, size: int, sizes: tuple[int, ...]) -> str:
    bare = len(sizes) == 1 or (size == sizes[0] and family.startswith(("RTX", "GTX")))
    return family if bare else f"{family}-{size}GB"


def _fold(text: str) -> str:
    """Compare names without case, spaces, underscores and dashes."""
    return re.sub(r"[\s_\-]", "", text).upper()


@cache
def known_gpus() -> dict[str, Gpu]:
    """The table by canonical name."""
    table: dict[str, Gpu] = {}
    for vendor, families in ((Vendor.NVIDIA, _NVIDIA), *_OTHERS.items()):
        for family, sizes in families.items():
            for size in sizes:
                name = _canonical(family, size, sizes)
                table[name] = Gpu(name, size, vendor)
    for base, forms in _FORM_FACTORS.items():
        for form in forms:
            table[f"{base}-{form}"] = Gpu(f"{base}-{form}", table[base].memory_gb, table[base].vendor, base)
    del table["H100NVL"]
    return table


@cache
def _index() -> dict[str, str]:
    index: dict[str, str] = {}
    for gpu in known_gpus().values():
        index[_fold(gpu.name)] = gpu.name
    for vendor_families in (_NVIDIA, *_OTHERS.values()):
        for family, sizes in vendor_families.items():
            for size in reversed(sizes):
                canonical = _canonical(family, size, sizes)
                if canonical in known_gpus():
                    index.setdefault(_fold(f"{family}-{size}GB"), canonical)
                    index[_fold(family)] = canonical
    for base, forms in _FORM_FACTORS.items():
        family, size = base.split("-")[0], known_gpus()[base].memory_gb
        for form in forms:
            for spelling in (f"{family}-{form}", f"{family}-{form}-{size}GB", f"{family}-{size}GB-{form}"):
                index.setdefault(_fold(spelling), f"{base}-{form}")
    for alias, canonical in _ALIASES.items():
        index[_fold(alias)] = canonical
    return index


def canonical_gpu(name: str) -> str | None:
    """The canonical name of any known spelling (`h100`, `NVIDIA A100-SXM4-80GB`, `RTX 4090`); None when unknown."""
    text = name.strip()
    while match := _NOISE.match(text):
        text = text[match.end() :]
    folded = re.sub(r"HBM[0-9]E?$", "SXM", re.sub(r"SXM[0-9]", "SXM", _fold(text)))
    return _index().get(folded)


def parse_gpu(text: str) -> GpuRequest:
    """Read `NAME[:COUNT]`. Raises KeyError for an unknown name, ValueError for anything else."""
    name, _, count = text.partition(":")
    if count and not (count.isdigit() and int(count) > 0):
        raise ValueError(f"`{count}` is not a number of GPUs")
    canonical = canonical_gpu(name)
    if canonical is None:
        raise KeyError(name)
    return GpuRequest(canonical, int(count) if count else 1)


def gpu_satisfies(offered: str, asked: str) -> bool:
    """Whether a node with `offered` is what `asked` means: the same, or a form factor of it."""
    if offered == asked:
        return True
    gpu = known_gpus().get(offered)
    return gpu is not None and gpu.base == asked


def gpu_by_memory(family: str, memory_gb: float) -> str | None:
    """The canonical name for a family of several sizes, by a memory that drivers report up to a tenth too small."""
    best: Gpu | None = None
    for gpu in known_gpus().values():
        if gpu.base or gpu.name.split("-")[0].upper() != family.upper():
            continue
        if best is None or abs(gpu.memory_gb - memory_gb) < abs(best.memory_gb - memory_gb):
            best = gpu
    if best is None or abs(best.memory_gb - memory_gb) > 0.12 * best.memory_gb:
        return None
    return best.name


def nearest_gpus(name: str, known: Iterable[str] | None = None, *, limit: int = 3) -> list[str]:
    """Names that look most like an unknown one, for the error message."""
    import difflib

    names = list(known if known is not None else known_gpus())
    folded = {_fold(candidate): candidate for candidate in names}
    return [folded[match] for match in difflib.get_close_matches(_fold(name), folded, n=limit, cutoff=0.4)]
