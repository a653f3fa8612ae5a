"""What `local` says of this machine: its options, where its registry is, what it has to offer."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from gpuplan.core.gpus import canonical_gpu, known_gpus, nearest_gpus
from gpuplan.core.offers import Offer, OfferQuery, Pricing, Stock
from gpuplan.core.units import parse_duration
from gpuplan.providers.local_gpus import Device, find_devices

REGION = "local"
# A node begins with these variables of whoever creates it, and with no others: a node is no place for credentials.
_INHERITED = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH"),
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE"),
)


def _canonical(name: object) -> str:
    known = canonical_gpu(str(name))
    if known is None:
        raise ValueError(f"`{name}` is no GPU gpuplan knows; near to it: {', '.join(nearest_gpus(str(name)))}")
    return known


def _seconds(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


class Gpus(BaseModel):
    """Equal GPUs of this machine; they are numbered in the order of the inventory."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gpu: Annotated[str, BeforeValidator(_canonical)]
    count: int = Field(1, ge=1)
    price_per_hour: Decimal = Field(Decimal(0), ge=0)
    """USD for one of them: what the machine costs its owner."""


class Options(BaseModel):
    """The provider block of type `local`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    root: str | None = None
    """The registry folder; by default `gpuplan/local` in the user's state folder, shared by all projects."""
    inventory: tuple[Gpus, ...] | None = None
    """The GPUs to share out; by default those that nvidia-smi and rocm-smi tell."""
    grace: Annotated[float, BeforeValidator(_seconds)] = Field(10, ge=0)
    """How long a command may take to end after TERM, before it is killed: seconds, or `10s`."""


def root_of(options: Options, environ: Mapping[str, str]) -> Path:
    """The registry folder, absolute."""
    home = environ.get("HOME") or str(Path.home())
    if options.root is not None:
        written = options.root
        return Path(home + written[1:] if written == "~" or written.startswith("~/") else written).absolute()
    return Path(environ.get("XDG_STATE_HOME") or Path(home, ".local", "state")).absolute() / "gpuplan" / "local"


def account_of(root: Path) -> str:
    """This machine and this registry: the same folder seen from another machine is another account."""
    machine = next((text for path in ("/etc/machine-id", "/var/lib/dbus/machine-id") if (text := _read(path))), "")
    return sha256(f"{machine or os.uname().nodename}\0{root}".encode()).hexdigest()[:16]


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment a node begins with."""
    return {name: environ[name] for name in _INHERITED if name in environ}


def devices_of(options: Options, environ: Mapping[str, str]) -> Sequence[Device]:
    """The machine's GPUs. Raises CannotTell."""
    if options.inventory is None:
        return find_devices(environ.get("PATH", os.defpath))
    each = [entry for entry in options.inventory for _ in range(entry.count)]
    return [Device(str(number), entry.gpu, entry.price_per_hour) for number, entry in enumerate(each)]


def offers_of(
    devices: Sequence[Device], free: Sequence[Device], query: OfferQuery, *, provider: str, now: datetime
) -> list[Offer]:
    """Every number of equal GPUs this machine can give one node, and the node without any."""
    have, left = Counter(device.gpu for device in devices), Counter(device.gpu for device in free)
    shapes = [("", 0)] + [(gpu, count) for gpu in have for count in range(1, have[gpu] + 1)]
    return [
        Offer(
            provider=provider,
            ref=f"{gpu}:{count}" if gpu else "cpu",
            region=REGION,
            gpu=gpu,
            gpu_count=count,
            pricing=Pricing.FIXED,
            price_per_hour=_price(devices, gpu, count),
            seen_at=now,
            gpu_memory_gb=known_gpus()[gpu].memory_gb if gpu else None,
            cpu=os.cpu_count(),
            memory_gb=_memory_gb(),
            stock=Stock.PLENTY if not gpu else Stock.SOME if left[gpu] >= count else Stock.NONE,
            max_count=left[gpu] // count if gpu else None,
        )
        for gpu, count in shapes
        if query.wants(gpu, count)
    ]


def _price(devices: Iterable[Device], gpu: str, count: int) -> Decimal:
    prices = sorted((device.price_per_hour for device in devices if device.gpu == gpu), reverse=True)
    return sum(prices[:count], Decimal(0))


def _memory_gb() -> float:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)


def _read(path: str) -> str:
    try:
        return Path(path).read_text("ascii").strip()
    except OSError:
        return ""
