"""What Lium's own API answers, in our words: payloads, statuses, offers, GPUs. Pure; `lium_pods` makes the calls."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeAlias

from pydantic import AliasChoices, Field, field_validator

from gpuplan.core.desired import Kind
from gpuplan.core.gpus import GpuRequest, canonical_gpu, gpu_by_memory, gpu_satisfies, known_gpus
from gpuplan.core.observed import Observed, Status
from gpuplan.core.offers import Offer, Pricing
from gpuplan.core.values import Attrs, JsonValue
from gpuplan.net.marks import from_name, from_text
from gpuplan.net.payload import Payload

Body: TypeAlias = dict[str, JsonValue]

SSH_PORT = "22"
MEMORY_KEPT_GB, MEMORY_KEPT_SHARE = 4.0, 0.01
"""What a host keeps for itself, whichever is more."""
STATUSES: Mapping[str, Status] = {
    "PENDING": Status.STARTING,
    "RUNNING": Status.RUNNING,
    "REBOOT_PENDING": Status.STARTING,
    "STOPPED": Status.FAILED,
    "FAILED": Status.FAILED,
    "ERROR": Status.FAILED,
    "BROKEN": Status.FAILED,
    "CREATION_FAILED": Status.FAILED,
    "REBOOT_FAILED": Status.FAILED,
    "DELETING": Status.TERMINATING,
    "TERMINATED": Status.TERMINATED,
    "DELETED": Status.TERMINATED,
    "REMOVED": Status.TERMINATED,
    "CANCELLED": Status.TERMINATED,
}
_SSH = re.compile(r"(?:(?P<user>[\w.-]+)@)(?P<host>[\w.:-]+)(?:.*\s-p\s*(?P<port>\d+))?")


class Workspace(Payload):
    id: str = ""


class User(Payload):
    id: str
    workspace: Workspace = Workspace()


class Version(Payload):
    features: tuple[str, ...] = ()


class Rented(Payload):
    """Older servers tell the pod itself."""

    pod_id: str = Field(validation_alias=AliasChoices("pod_id", "id"))


class Event(Payload):
    error: str = ""
    reason: str = ""
    detail: str = ""

    @property
    def cause(self) -> str:
        return self.error or ": ".join(part for part in (self.reason, self.detail) if part)


class Image(Payload):
    docker_image: str = ""
    docker_image_tag: str = ""

    @property
    def reference(self) -> str:
        return f"{self.docker_image}:{self.docker_image_tag}" if self.docker_image_tag else self.docker_image


class Template(Image):
    id: str = ""
    name: str = ""
    status: str = ""

    @property
    def is_broken(self) -> bool:
        return self.status.upper() == "VERIFY_FAILED"


class Place(Payload):
    country: str = ""
    country_code: str = ""
    region: str = ""
    city: str = ""

    def is_in(self, region: str) -> bool:
        return region.lower() in (self.country_code.lower(), self.country.lower(), self.region.lower())


class GpuDetail(Payload):
    name: str = ""
    capacity: float = 0
    """MiB."""


class Gpus(Payload):
    driver: str = ""
    details: tuple[GpuDetail, ...] = ()


class Amount(Payload):
    count: int = 0
    total: float = 0
    free: float = 0


class Specs(Payload):
    gpu: Gpus = Gpus()
    cpu: Amount = Amount()
    ram: Amount = Amount()
    hard_disk: Amount = Amount()


class Executor(Payload):
    """A host of a miner. RAM and disk in KiB; the price is that of one GPU for an hour."""

    id: str = ""
    machine_name: str = ""
    price_per_gpu: float = 0
    gpu_count: int = 0
    available_gpu_count: int | None = None
    min_gpu_count_for_rental: int | None = None
    tier: str = ""
    location: Place = Place()
    executor_ip_address: str = ""
    effective_download_speed_mbps: float = 0
    max_cuda_version: str = ""
    nvlink: bool = False
    gpu_power_limited: bool = False
    frequent_rent_failures: bool = False
    reliability_score: float | None = None
    specs: Specs = Specs()

    @property
    def gpu(self) -> str:
        """The canonical name; empty for one that gpuplan does not know."""
        details = self.specs.gpu.details
        return gpu_of(self.machine_name, details[0].capacity if details else 0) or ""

    @property
    def counts(self) -> range:
        """How many of its GPUs can be rented together now."""
        free = self.gpu_count if self.available_gpu_count is None else self.available_gpu_count
        if self.min_gpu_count_for_rental is None:
            return range(self.gpu_count, self.gpu_count + (free >= self.gpu_count))
        return range(max(1, self.min_gpu_count_for_rental), free + 1)

    def offers(self, provider: str, now: datetime) -> Iterator[Offer]:
        if not self.gpu or not self.price_per_gpu or not self.gpu_count:
            return
        facts: dict[str, JsonValue] = {
            "machine": self.machine_name,
            "driver": self.specs.gpu.driver,
            "city": self.location.city,
            "cuda": self.max_cuda_version,
            "download_mbit": self.effective_download_speed_mbps,
            "nvlink": self.nvlink,
        }
        memory_gb = _gb(self.specs.ram.total)
        left_gb = memory_gb - max(MEMORY_KEPT_GB, memory_gb * MEMORY_KEPT_SHARE)
        for count in self.counts:
            share = count / self.gpu_count
            yield Offer(
                provider=provider,
                ref=f"{self.id}/{count}",
                region=self.location.country_code,
                gpu=self.gpu,
                gpu_count=count,
                pricing=Pricing.SPOT if self.tier == "spot" else Pricing.ON_DEMAND,
                price_per_hour=Decimal(str(self.price_per_gpu)) * count,
                seen_at=now,
                gpu_memory_gb=known_gpus()[self.gpu].memory_gb,
                cpu=int(self.specs.cpu.count * share) or None,
                memory_gb=int(left_gb * share) if memory_gb else None,
                disk_gb=int(_gb(self.specs.hard_disk.free) * share) or None,
                max_count=len(self.counts) and self.counts[-1] // count,
                reliability=self.reliability_score,
                facts=facts,
                host=self.id,
            )


class Pod(Payload):
    """A part of a host. `gpu_count` comes as a text, `price` is that of the whole pod, and times do not say that they
    are UTC."""

    id: str
    pod_name: str = ""
    status: str = ""
    gpu_count: int = 0
    gpu_name: str = ""
    price: float = 0
    ssh_connect_cmd: str = ""
    ports_mapping: Mapping[str, int] = {}
    created_at: str = ""
    template: Template = Template()
    executor: Executor = Executor()
    removal_scheduled_at: str = ""
    workspace_id: str = ""
    local_volume_path: str = ""

    @field_validator("gpu_count", mode="before")
    @classmethod
    def _is_a_text(cls, value: Any) -> Any:
        return 0 if value == "" else value

    @property
    def gpu(self) -> str:
        return gpu_of(self.gpu_name or self.executor.machine_name, 0) or ""

    def has(self, asked: GpuRequest) -> bool:
        """Whether it is what was rented: Lium has been seen to give less. A GPU of an unknown name may be it."""
        return self.gpu_count == asked.count and (not self.gpu or gpu_satisfies(self.gpu, asked.name))

    def to_observed(self, now: datetime) -> Observed:
        status, detail = self._status()
        attrs: Attrs = {}
        if self.gpu and self.gpu_count:
            attrs = {**attrs, "gpu": f"{self.gpu}:{self.gpu_count}"}
        if self.executor.location.country_code:
            attrs = {**attrs, "region": self.executor.location.country_code}
        ends_at = moment_of(self.removal_scheduled_at)
        mark = from_name(self.pod_name)
        return Observed(Kind.NODE, self.id, status, attrs, self._facts(ends_at), mark, detail, expires_at=ends_at)

    def _status(self) -> tuple[Status, str]:
        """The status in our words, and why it is so. One that runs may not be reachable yet."""
        word = self.status.upper()
        status = STATUSES.get(word)
        if status is None:
            return Status.UNKNOWN, f"Lium says it is `{self.status}`"
        if word == "STOPPED":
            return status, "stopped by its host, and cannot be started"
        if status is Status.RUNNING and not self.ssh_connect_cmd:
            return Status.STARTING, "waits for SSH"
        return status, "" if status is Status.RUNNING else word.lower().replace("_", " ")

    def _facts(self, ends_at: datetime | None) -> dict[str, JsonValue]:
        host, port, user = self._ssh()
        created_at = moment_of(self.created_at)
        return {
            "name": self.pod_name,
            "public_ip": host,
            "ssh_host": host,
            "ssh_port": port,
            "ssh_user": user,
            "ports": {inner: outer for inner, outer in self.ports_mapping.items() if inner != SSH_PORT},
            "gpu_name": self.gpu_name,
            "image": self.template.reference,
            "executor_id": self.executor.id,
            "template_id": self.template.id,
            "workspace_id": self.workspace_id,
            "price_per_hour": self.price,
            "workspace_path": self.local_volume_path or None,
            "created_at": created_at.isoformat() if created_at else None,
            "ends_at": ends_at.isoformat() if ends_at else None,
        }

    def _ssh(self) -> tuple[str | None, int | None, str]:
        """Out of the command that Lium tells, else the port that leads to that of SSH."""
        if match := _SSH.search(self.ssh_connect_cmd):
            return match["host"], int(match["port"] or SSH_PORT), match["user"]
        return self.executor.executor_ip_address or None, self.ports_mapping.get(SSH_PORT), "root"


class Key(Payload):
    id: str
    name: str = ""
    public_key: str = ""

    def to_observed(self, now: datetime) -> Observed:
        attrs: Attrs = {"public_key": self.public_key.strip()}
        return Observed(Kind.SSH_KEY, self.id, Status.RUNNING, attrs, {"name": self.name}, from_name(self.name))


class Volume(Payload):
    id: str
    name: str = ""
    description: str = ""
    current_size_gb: float = 0

    def to_observed(self, now: datetime) -> Observed:
        facts: dict[str, JsonValue] = {"name": self.name, "used_gb": self.current_size_gb}
        return Observed(Kind.VOLUME, self.id, Status.RUNNING, {}, facts, from_text(self.description))


def gpu_of(name: str, memory_mb: float) -> str | None:
    """The canonical name of a GPU as its driver calls it; where that does not tell the size, the memory does."""
    known = canonical_gpu(re.sub(r" (Blackwell|Generation|SXM6 AC)\b.*", "", name))
    if known is None or known_gpus()[known].base or not memory_mb:
        return known
    return gpu_by_memory(known.partition("-")[0], memory_mb / 1024) or known


def moment_of(text: str) -> datetime | None:
    """A time of Lium's. None where there is none, or nothing that can be read."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _gb(kib: float) -> float:
    return kib * 1024 / 1_000_000_000
