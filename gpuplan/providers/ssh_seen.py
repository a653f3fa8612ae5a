"""What a machine tells, in our words: whether it is free, what it is made of, how its node is. Pure; used by `ssh`."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from pydantic import BaseModel, Field, JsonValue, ValidationError

from gpuplan.core.address import Address
from gpuplan.core.desired import Kind
from gpuplan.core.gpus import GpuRequest, gpu_satisfies, known_gpus
from gpuplan.core.kinds import NodeAttrs
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Observed, Status
from gpuplan.core.offers import Offer, Pricing, Stock
from gpuplan.providers.local_gpus import CannotTell, Device, parse_nvidia_smi, parse_rocm_smi
from gpuplan.providers.ssh_inventory import Host

_KIB = 1024


class Claim(BaseModel):
    """The second line of a claim: whose it is, and what is reported back of what was asked for."""

    name: str
    project: str
    workspace: str
    lineage: str
    address: str | None
    owner: str = ""
    """Who took it, for people."""
    created_at: datetime
    attrs: dict[str, JsonValue] = Field(default_factory=dict, repr=False)

    def mark(self, token: str) -> Mark:
        address = None if self.address is None else Address.parse(self.address)
        return Mark(token, self.project, self.workspace, self.lineage, address)


@dataclass(frozen=True, slots=True)
class Seen:
    """One look at one machine: its words by their name."""

    host: Host
    told: Mapping[str, Sequence[str]]

    @classmethod
    def read(cls, host: Host, marker: str, lines: Sequence[str]) -> "Seen":
        told: dict[str, list[str]] = {}
        for line in lines:
            # What a login prints without a line end may stand before it.
            _, mark, rest = line.partition(f"{marker} ")
            if mark:
                name, _, text = rest.partition(" ")
                told.setdefault(name, []).append(text)
        return cls(host, told)

    def first(self, name: str) -> str:
        return next(iter(self.told.get(name, ())), "")

    @property
    def id(self) -> str:
        """Of the folder, so of the lock: the same for all names of one machine."""
        return self.first("id")

    @property
    def is_held(self) -> bool:
        return "held" in self.told

    @property
    def token(self) -> str:
        return self.first("claim").strip()

    @property
    def claim(self) -> Claim | None:
        """None for one that this gpuplan cannot read."""
        try:
            return Claim.model_validate_json("\n".join(self.told.get("claim", ())[1:]))
        except ValidationError:
            return None

    @property
    def devices(self) -> Sequence[Device]:
        """What the drivers' tools name. Raises CannotTell."""
        if "trouble" in self.told:
            raise CannotTell(self.first("trouble"))
        found = parse_nvidia_smi("\n".join(self.told.get("nvidia", ())))
        if "rocm" in self.told:
            found += parse_rocm_smi("\n".join(self.told["rocm"]))
        return found

    @property
    def gpus(self) -> Sequence[GpuRequest]:
        """What the machine has of each GPU; what the inventory says where no tool is there to tell."""
        if "tool" not in self.told:
            return [self.host.declared] if self.host.declared else []
        return [GpuRequest(name, count) for name, count in Counter(each.gpu for each in self.devices).items()]

    @property
    def others(self) -> str:
        """Who else computes here; empty: nobody."""
        if schedulers := self.told.get("scheduler"):
            return f"{' and '.join(schedulers)} runs there"
        if computing := [line for line in self.told.get("computing", ()) if line[:1].isdigit()]:
            return f"others compute on its GPUs: {computing[0]}"
        return ""

    def fits(self, asked: NodeAttrs) -> bool:
        """Whether such a node could be here. Raises CannotTell."""
        if asked.instance_type not in (None, self.host.called) or asked.region not in (None, self.host.region):
            return False
        if self.host.is_ephemeral and asked.spot is None:
            return False
        if asked.gpu is None:
            return not self.gpus
        return any(each.count == asked.gpu.count and gpu_satisfies(each.name, asked.gpu.name) for each in self.gpus)

    def offers(self, provider: str, now: datetime, *, shared: bool) -> Iterator[Offer]:
        """What it is taken as. Raises CannotTell."""
        busy = self.is_held or bool(self.others and not shared)
        for gpu in self.gpus or [GpuRequest("", 0)]:
            yield Offer(
                provider=provider,
                ref=f"{self.host.called} {gpu}" if gpu.name else self.host.called,
                region=self.host.region or "",
                gpu=gpu.name,
                gpu_count=gpu.count,
                pricing=Pricing.SPOT if self.host.is_ephemeral else Pricing.FIXED,
                price_per_hour=self.host.price_per_hour or Decimal(0),
                seen_at=now,
                instance_type=self.host.called,
                gpu_memory_gb=known_gpus()[gpu.name].memory_gb if gpu.name else None,
                cpu=_number(self.first("cpu")),
                memory_gb=_gb(self.first("memory")),
                disk_gb=_gb(self.first("disk")),
                stock=Stock.NONE if busy else Stock.LOW,
                max_count=0 if busy else 1,
                host=self.host.called,
            )


@dataclass(frozen=True, slots=True)
class Place:
    """How the machine of a node is reached, for its facts."""

    host: str
    port: int
    user: str
    key: str | None = field(default=None)


def to_observed(seen: Seen, place: Place) -> Observed | None:
    """The node that has this machine; None when nobody has it."""
    if not seen.is_held:
        return None
    claim, token = seen.claim, seen.token
    remote_id = f"{seen.host.called}/{token or 'unknown'}"
    if claim is None or not token:
        return Observed(Kind.NODE, remote_id, Status.UNKNOWN, detail="its claim cannot be read")
    status, detail = _status(seen)
    pid, _, boot = [*seen.first("keeper").split(), "", "", ""][:3]
    facts: dict[str, JsonValue] = {
        "name": claim.name,
        "host": seen.host.called,
        "public_ip": place.host,
        "private_ip": seen.host.internal_ip,
        "ssh_host": place.host,
        "ssh_port": place.port,
        "ssh_user": place.user,
        "folder": seen.first("folder"),
        "owner": claim.owner,
        "created_at": claim.created_at.isoformat(),
        "boot_id": seen.first("boot"),
        "rented_at": seen.host.provider,
    }
    if status is Status.RUNNING and pid.isdigit() and boot == seen.first("boot"):
        facts["pid"] = int(pid)
    told = {name: value for name, value in facts.items() if value is not None}
    return Observed(Kind.NODE, remote_id, status, dict(claim.attrs), told, claim.mark(token), detail)


def _status(seen: Seen) -> tuple[Status, str]:
    alive, keeper, phase = "alive" in seen.told, seen.first("keeper").split(), seen.first("phase").split()
    if "folder" not in seen.told:
        return Status.STARTING, "its folder is not there yet"
    if "stopped" in seen.told:
        return (Status.STOPPING, "its command is being ended") if alive else (Status.STOPPED, "")
    if "command" not in seen.told:
        return Status.RUNNING, ""
    if phase[:1] == ["ended"]:
        return Status.FAILED, f"its command exited {phase[1]}"
    if not keeper:
        return Status.STARTING, "its command has not been started"
    if alive:
        if phase[:1] == ["restarting"]:
            return Status.STARTING, f"its command exited {phase[1]} and is started again"
        return Status.RUNNING, ""
    if keeper[-1] != seen.first("boot"):
        return Status.FAILED, "its machine was rebooted, and what ran there did not come back"
    return Status.FAILED, "its supervisor is gone"


def _gb(kib: str) -> float | None:
    return round(int(kib) * _KIB / 1e9, 1) if kib.isdigit() else None


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None
