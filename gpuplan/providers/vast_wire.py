"""What Vast.ai answers, in our words: payloads, statuses, prices, GPU names. Pure; `vast` makes the calls."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeAlias
from urllib.parse import unquote

from gpuplan.core.desired import Kind
from gpuplan.core.gpus import canonical_gpu, gpu_by_memory, gpu_satisfies, known_gpus
from gpuplan.core.observed import Observed, Status
from gpuplan.core.offers import Offer, Pricing
from gpuplan.core.values import Attrs, JsonValue
from gpuplan.net.marks import from_name, from_text, is_mark_tag, name_in_text
from gpuplan.net.payload import Payload

Body: TypeAlias = dict[str, JsonValue]

BID_MARGIN = Decimal("1.2")
"""Over the lowest bid that wins now; with that one alone the next bidder takes the machine away."""
GRAPHICS_BASES = re.compile(r"(?P<card>(?:RTX|GTX) \d{4})S(?P<rest>( Ti)?)")
TROUBLE = re.compile(
    r"error|oci runtime create failed|manifest unknown|pull access denied|unauthorized|failed to register layer"
    r"|no space left",
    re.IGNORECASE,
)
"""What a machine says that cannot start a container. It goes on trying, and never gets there."""
SSH_PORT = "22/tcp"


class Told(Payload):
    """What changes are answered with."""

    msg: str = ""


class Created(Payload):
    new_contract: str


class User(Payload):
    id: str


class LogLink(Payload):
    result_url: str


class NewVolume(Payload):
    volume_name: str


class HostPort(Payload):
    HostIp: str = ""
    HostPort: str


class Instance(Payload):
    id: str
    label: str = ""
    actual_status: str = ""
    intended_status: str = ""
    cur_state: str = ""
    status_msg: str = ""
    is_bid: bool = False
    image_uuid: str = ""
    image_runtype: str = ""
    extra_env: Sequence[Any] = ()
    public_ipaddr: str = ""
    ssh_host: str = ""
    ssh_port: int = 0
    ports: Mapping[str, tuple[HostPort, ...] | None] | None = None
    machine_id: int = 0
    host_id: int = 0
    geolocation: str = ""
    gpu_name: str = ""
    num_gpus: int = 0
    gpu_ram: float = 0
    dph_total: float = 0
    start_date: float = 0
    end_date: float = 0

    def to_observed(self, now: datetime) -> Observed:
        status, detail = self._status()
        host, port = self._ssh()
        facts: dict[str, JsonValue] = {
            "name": name_in_text(self.label),
            "public_ip": self.public_ipaddr.strip() or None,
            "ssh_host": host,
            "ssh_port": port,
            "ports": dict(self._mapped()),
            "gpu": gpu_of(self.gpu_name, self.gpu_ram) or self.gpu_name,
            "gpu_count": self.num_gpus,
            "image": self.image_uuid,
            "machine_id": self.machine_id,
            "host_id": self.host_id,
            "price_per_hour": self.dph_total,
            "created_at": _moment(self.start_date),
            "ends_at": _moment(self.end_date),
        }
        attrs: Attrs = {"zone": str(self.machine_id), "labels": labels_in(self.label)}
        if region := region_of(self.geolocation):
            attrs = {**attrs, "region": region}
        return Observed(Kind.NODE, self.id, status, attrs, facts, from_text(self.label), detail)

    def _status(self) -> tuple[Status, str]:
        """The status in our words, and why it is so. An unknown word is UNKNOWN."""
        is_wanted = self.intended_status != "stopped"
        if self.actual_status in ("created", "loading", "exited") and TROUBLE.search(self.status_msg):
            return Status.FAILED, self.status_msg
        match self.actual_status:
            case "":
                return (Status.PENDING, "") if is_wanted else (Status.STOPPED, "")
            case "created" | "loading" | "rebooting" | "recycling":
                return Status.STARTING, self.status_msg or self.actual_status
            case "running" if not is_wanted:
                return Status.STOPPING, ""
            case "running":
                return (
                    (Status.STARTING, "its ports are not open yet") if self._waits_for_ports else (Status.RUNNING, "")
                )
            case "stopped" if self.is_bid and is_wanted:
                return Status.STOPPED, "outbid: it goes on when the bid wins again"
            case "stopped" if is_wanted:
                return Status.PENDING, "waits for GPUs that others use now"
            case "stopped" | "frozen":
                return Status.STOPPED, ""
            case "exited":
                return (Status.FAILED, self.status_msg or "the container ended") if is_wanted else (Status.STOPPED, "")
            case "offline":
                return Status.UNKNOWN, "the machine is disconnected"
        return Status.UNKNOWN, f"Vast says it is `{self.actual_status}`"

    @property
    def _waits_for_ports(self) -> bool:
        wants = any(isinstance(pair, list | tuple) and str(pair[0]).startswith("-p ") for pair in self.extra_env)
        return self.ports is None and (wants or "ssh_direc" in self.image_runtype)

    def _mapped(self) -> list[tuple[str, int]]:
        """Ports of the container, and where the machine has them. The first entry of each may be an IPv6 double."""
        told = [(name, hosts[0].HostPort) for name, hosts in (self.ports or {}).items() if hosts]
        return [(name, int(port)) for name, port in told if port.isdigit()]

    def _ssh(self) -> tuple[str | None, int]:
        """Straight to the machine where that is open, else through Vast's proxy."""
        direct = dict(self._mapped()).get(SSH_PORT)
        if direct and self.public_ipaddr.strip():
            return self.public_ipaddr.strip(), direct
        if not self.ssh_host or self.image_runtype == "args":
            return None, 0
        return self.ssh_host, self.ssh_port + ("jupyter" in self.image_runtype)


class Key(Payload):
    """Vast has no name for a key: the mark is in its comment."""

    id: str
    key: str = ""
    public_key: str = ""

    def to_observed(self, now: datetime) -> Observed:
        text = self.key or self.public_key
        attrs: Attrs = {"public_key": " ".join(word for word in text.split() if not is_mark_tag(word))}
        return Observed(Kind.SSH_KEY, self.id, Status.RUNNING, attrs, {}, from_text(text))


class Volume(Payload):
    id: str
    label: str = ""
    machine_id: int = 0
    disk_space: float = 0
    status: str = ""
    geolocation: str = ""

    def to_observed(self, now: datetime) -> Observed:
        known = {"created": Status.RUNNING, "in-use": Status.RUNNING}
        attrs: Attrs = {"size_gb": int(self.disk_space), "zone": str(self.machine_id)}
        if region := region_of(self.geolocation):
            attrs = {**attrs, "region": region}
        facts: dict[str, JsonValue] = {"name": self.label, "machine_id": self.machine_id}
        status = known.get(self.status, Status.UNKNOWN)
        return Observed(Kind.VOLUME, self.id, status, attrs, facts, from_name(self.label.replace("_", "-")))


class VolumeAsk(Payload):
    id: int
    machine_id: int = 0
    disk_space: float = 0


class Ask(Payload):
    """A slice of a machine that can be rented once."""

    id: str
    machine_id: int = 0
    host_id: int = 0
    gpu_name: str = ""
    num_gpus: int = 0
    gpu_ram: float = 0
    gpu_frac: float = 1
    cpu_cores_effective: float = 0
    cpu_ram: float = 0
    disk_space: float = 0
    dph_base: float = 0
    dph_total: float = 0
    min_bid: float = 0
    storage_total_cost: float = 0
    reliability: float = 0
    reliability2: float = 0
    geolocation: str = ""
    inet_down: float = 0
    cuda_max_good: float = 0
    duration: float = 0

    def to_offer(self, provider: str, now: datetime, *, is_bid: bool) -> Offer | None:
        """None for a GPU that gpuplan does not know, and for what has no price."""
        gpu = gpu_of(self.gpu_name, self.gpu_ram)
        bid = Decimal(str(self.min_bid)) * BID_MARGIN
        price = bid + Decimal(str(self.storage_total_cost)) if is_bid else Decimal(str(self.dph_total))
        if gpu is None or not self.num_gpus or not price:
            return None
        facts: dict[str, JsonValue] = {
            "machine_id": self.machine_id,
            "host_id": self.host_id,
            "cuda": self.cuda_max_good,
            "inet_down_mbit": self.inet_down,
            "days": round(self.duration / 86400, 1),
        }
        if is_bid:
            facts["bid"] = float(round(bid, 4))
        return Offer(
            provider=provider,
            ref=self.id,
            region=region_of(self.geolocation),
            zone=str(self.machine_id),
            host=str(self.machine_id),
            gpu=gpu,
            gpu_count=self.num_gpus,
            pricing=Pricing.SPOT if is_bid else Pricing.ON_DEMAND,
            price_per_hour=round(price, 4),
            seen_at=now,
            gpu_memory_gb=known_gpus()[gpu].memory_gb,
            cpu=self.cpu_cores_effective or None,
            # That of the whole machine is told; a slice gets its share of it.
            memory_gb=round(self.cpu_ram * self.gpu_frac / 1024, 1) or None,
            disk_gb=self.disk_space or None,
            max_count=1,
            reliability=self.reliability or self.reliability2 or None,
            facts=facts,
        )


def gpu_of(name: str, ram_mb: float) -> str | None:
    """The canonical name of a GPU as Vast has it. Several sizes go by one name: the memory tells which."""
    text = GRAPHICS_BASES.sub(lambda match: f"{match['card']}{match['rest']} SUPER", name)
    text = re.sub(r"^Q RTX", "RTX", re.sub(r"^(RTX PRO \d{4}) .*", r"\1", text))
    known = canonical_gpu(text)
    if known is None:
        return None
    family, _, rest = known.partition("-")
    sized = gpu_by_memory(family, ram_mb / 1024) or known
    if not known_gpus()[known].base:
        return sized
    formed = f"{sized}-{rest.rpartition('-')[2]}"
    # A form that comes in one size alone tells more than its memory.
    return formed if formed in known_gpus() else known


def names_of(gpu: str, names: Sequence[str]) -> list[str]:
    """Vast's names, of those there are, that a canonical one can go by."""
    ram_mb = known_gpus()[gpu].memory_gb * 1024
    return [name for name in names if (known := gpu_of(name, ram_mb)) and gpu_satisfies(known, gpu)]


def region_of(geolocation: str) -> str:
    """The country at the end of `Quebec, CA`; empty where there is none."""
    match = re.search(r"\b([A-Z]{2})\s*$", geolocation)
    return match[1] if match else ""


def labels_in(label: str) -> dict[str, str]:
    """The user's own labels among the words behind the mark."""
    words = label.partition(" gpuplan-token=")[2].split()[1:]
    pairs = [word.partition("=") for word in words if "=" in word and not is_mark_tag(word)]
    return {unquote(name): unquote(value) for name, _, value in pairs}


def is_queued(told: Told) -> bool:
    """Whether a start was accepted for a day when others have gone."""
    return re.search("unavailable|queued", told.msg, re.IGNORECASE) is not None


def _moment(seconds: float) -> str | None:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds") if seconds else None
