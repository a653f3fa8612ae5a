"""What Vultr answers, in our words: payloads, statuses, prices, GPU names. Pure; `vultr` makes the calls."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from ipaddress import ip_network
from typing import TypeAlias

from gpuplan.core.desired import Kind
from gpuplan.core.gpus import canonical_gpu, gpu_by_memory, known_gpus
from gpuplan.core.observed import Observed, Status
from gpuplan.core.offers import Offer, Pricing, Stock
from gpuplan.core.values import Attrs, JsonValue
from gpuplan.net.marks import from_tags, from_text, is_mark_tag, name_in_text
from gpuplan.net.payload import Payload

Body: TypeAlias = dict[str, JsonValue]

WAITS = "gpuplan-waits"
"""A tag or a word on objects that take a second step to make: machines without their volumes, groups without rules."""
WAITING = "waits for its second step"
GRACE_SECONDS = 300
"""A machine of this age is taken as up, whatever `server_status` says: with some images it never says `ok`."""
NO_ADDRESS = ("", "0.0.0.0")
METAL_GPUS: Mapping[str, tuple[str, int]] = {
    "vbm-48c-1024gb-4-a100-gpu": ("A100-80GB-SXM", 4),
    "vbm-112c-2048gb-8-a100-gpu": ("A100-80GB-SXM", 8),
    "vbm-112c-2048gb-8-h100-gpu": ("H100-80GB-SXM", 8),
    "vbm-64c-2048gb-8-l40-gpu": ("L40S", 8),
    "vbm-72c-480gb-gh200-gpu": ("GH200-96GB", 1),
    "vbm-256c-2048gb-8-mi300x-gpu": ("MI300X", 8),
}
"""Of bare metal the price list tells no GPU: https://www.vultr.com/products/bare-metal/"""
WHOLE_CARDS: Mapping[str, str] = {"A100": "A100-80GB-PCIE", "H100": "H100-80GB", "GH200": "GH200-96GB"}
"""Names that come in several sizes, and which one Vultr cuts up: `gpu_vram_gb` is that of the whole plan."""


class Attached(Payload):
    id: str


class Machine(Payload):
    """What instances and bare metal servers have in common."""

    id: str
    label: str = ""
    status: str = ""
    main_ip: str = ""
    internal_ip: str = ""
    hostname: str = ""
    region: str = ""
    plan: str = ""
    os: str = ""
    date_created: str = ""
    tags: tuple[str, ...] = ()
    vpcs: tuple[Attached, ...] = ()

    def to_observed(self, now: datetime) -> Observed:
        status, detail = self._status(now)
        facts: dict[str, JsonValue] = {
            "name": self.label,
            "public_ip": None if self.main_ip in NO_ADDRESS else self.main_ip,
            "private_ip": None if self.internal_ip in NO_ADDRESS else self.internal_ip,
            "hostname": self.hostname,
            "os": self.os,
            "created_at": self.date_created,
        }
        attrs: Attrs = {"region": self.region, "instance_type": self.plan, "labels": labels_in(self.tags)}
        return Observed(Kind.NODE, self.id, status, attrs, facts, from_tags(self.tags), detail)

    def _status(self, now: datetime) -> tuple[Status, str]:
        """The status in our words, and why it is so. An unknown word is UNKNOWN."""
        match self.status:
            case "pending":
                return Status.PENDING, ""
            case "installing" | "resizing":
                return Status.STARTING, self.status
            case "active":
                return self._active_status(now)
            case "halted":
                return Status.STOPPED, ""
            case "suspended" | "failed":
                return Status.FAILED, f"Vultr says it is {self.status}"
        return Status.UNKNOWN, f"Vultr says it is `{self.status}`"

    def _active_status(self, now: datetime) -> tuple[Status, str]:
        return (Status.STARTING, WAITING) if WAITS in self.tags else (Status.RUNNING, "")


class BareMetal(Machine):
    """It tells nothing of its power: one that is halted cannot be told from one that runs."""


class Instance(Machine):
    power_status: str = ""
    server_status: str = ""

    def _active_status(self, now: datetime) -> tuple[Status, str]:
        is_young = _age_seconds(self.date_created, now) < GRACE_SECONDS
        match self.power_status:
            case "running" | "stopped" if is_young and self.server_status != "ok":
                return Status.STARTING, f"server status {self.server_status}"
            case "running":
                return Machine._active_status(self, now)
            case "stopped":
                return Status.STOPPED, ""
        return Status.UNKNOWN, f"Vultr says its power is `{self.power_status}`"


class Key(Payload):
    id: str
    name: str = ""
    ssh_key: str = ""

    def to_observed(self, now: datetime) -> Observed:
        attrs: Attrs = {"public_key": self.ssh_key}
        return Observed(Kind.SSH_KEY, self.id, Status.RUNNING, attrs, _name(self.name), from_text(self.name))


class Block(Payload):
    id: str
    label: str = ""
    status: str = ""
    size_gb: int = 0
    region: str = ""
    block_type: str = "high_perf"
    attached_to_instance: str = ""
    mount_id: str = ""

    @property
    def device(self) -> str:
        return f"/dev/disk/by-id/virtio-{self.mount_id}"

    def to_observed(self, now: datetime) -> Observed:
        status = {"active": Status.RUNNING, "pending": Status.PENDING}.get(self.status, Status.UNKNOWN)
        attrs: Attrs = {"size_gb": self.size_gb, "region": self.region, "type": self.block_type}
        facts = {**_name(self.label), "device": self.device, "attached_to": self.attached_to_instance}
        return Observed(Kind.VOLUME, self.id, status, attrs, facts, from_text(self.label))


class Vpc(Payload):
    id: str
    region: str = ""
    description: str = ""
    v4_subnet: str = ""
    v4_subnet_mask: int = 0

    def to_observed(self, now: datetime) -> Observed:
        attrs: Attrs = {"region": self.region, "cidr": f"{self.v4_subnet}/{self.v4_subnet_mask}"}
        facts, mark = _name(self.description), from_text(self.description)
        return Observed(Kind.NETWORK, self.id, Status.RUNNING, attrs, facts, mark)


class FirewallRule(Payload):
    id: int = 0
    ip_type: str = "v4"
    protocol: str = ""
    port: str = ""
    subnet: str = ""
    subnet_size: int = 0
    notes: str = ""

    def as_written(self) -> Mapping[str, JsonValue]:
        """As the spec has it, where the rule still is what its notes say; else as it is."""
        try:
            written = json.loads(self.notes)
            if isinstance(written, dict) and self == FirewallRule.model_validate({**to_rule(written), "id": self.id}):
                return written
        except ValueError:
            pass
        port: JsonValue = int(self.port) if self.port.isdigit() else self.port.replace(":", "-")
        return {"port": port, "protocol": self.protocol, "from": f"{self.subnet}/{self.subnet_size}"}


class Firewall(Payload):
    """A group. Its rules are listed by a call of their own."""

    id: str
    description: str = ""
    rules: tuple[FirewallRule, ...] = ()

    def to_observed(self, now: datetime) -> Observed:
        attrs: Attrs = {"rules": [rule.as_written() for rule in self.rules]}
        waits = WAITS in self.description.split()
        status, detail = (Status.STARTING, WAITING) if waits else (Status.RUNNING, "")
        facts, mark = _name(self.description), from_text(self.description)
        return Observed(Kind.NETWORK, self.id, status, attrs, facts, mark, detail)


class Cost(Payload):
    hourly_cost: float = 0
    monthly_cost: float = 0


class Plan(Cost):
    id: str
    type: str = ""
    vcpu_count: int = 0
    cpu_threads: int = 0
    ram: int = 0
    disk: str = ""
    gpu_type: str = ""
    gpu_vram_gb: int = 0
    locations: tuple[str, ...] = ()
    location_cost: Mapping[str, Cost] = {}


class System(Payload):
    id: int
    name: str


class AccountAnswer(Payload):
    email: str = ""


def to_rule(rule: Mapping[str, JsonValue]) -> Body:
    """A rule of the spec (`port`, `protocol`, `from`) in Vultr's words; how it was written is kept in its notes.

    Raises ValueError for a `from` that is no network.
    """
    network = ip_network(str(rule.get("from") or "0.0.0.0/0"), strict=False)
    return {
        "ip_type": f"v{network.version}",
        "protocol": str(rule.get("protocol") or "tcp").lower(),
        "port": str(rule.get("port") or "").replace("-", ":"),
        "subnet": str(network.network_address),
        "subnet_size": network.prefixlen,
        "notes": json.dumps(rule, sort_keys=True, separators=(",", ":")),
    }


def labels_in(tags: Sequence[str]) -> dict[str, str]:
    """The user's own tags of the form `name=value`."""
    pairs = [tag.partition("=") for tag in tags if "=" in tag and not is_mark_tag(tag)]
    return {name: value for name, _, value in pairs}


def is_metal(plan: str) -> bool:
    return plan.startswith("vbm")


def gpu_of(plan: Plan) -> tuple[str, int]:
    """Canonical name and number of whole GPUs; a slice of one counts as none."""
    if is_metal(plan.id):
        return METAL_GPUS.get(plan.id, ("", 0))
    family = plan.gpu_type.partition("_")[2]
    name = WHOLE_CARDS.get(family) or canonical_gpu(family) or gpu_by_memory(family, plan.gpu_vram_gb)
    count = plan.gpu_vram_gb // known_gpus()[name].memory_gb if family and name else 0
    return (name or "", count) if count else ("", 0)


def to_offers(plan: Plan, available: Mapping[str, frozenset[str]], provider: str, now: datetime) -> Iterator[Offer]:
    """One for each region the plan is sold in. `available` has the plans that can be deployed now, by region."""
    gpu, count = gpu_of(plan)
    is_slice = bool(plan.gpu_type) and not gpu
    for region in plan.locations:
        price = _price(plan, region)
        if region not in available or not price:
            continue
        yield Offer(
            provider=provider,
            ref=plan.id,
            region=region,
            gpu=gpu,
            gpu_count=count,
            pricing=Pricing.ON_DEMAND,
            price_per_hour=price,
            seen_at=now,
            instance_type=plan.id,
            gpu_memory_gb=known_gpus()[gpu].memory_gb if gpu else None,
            cpu=plan.vcpu_count or plan.cpu_threads or None,
            memory_gb=plan.ram / 1024 if plan.ram else None,
            disk_gb=float(plan.disk) if plan.disk.isdigit() else None,
            stock=Stock.SOME if plan.id in available[region] else Stock.NONE,
            gpu_slice=f"{plan.gpu_vram_gb} GB of {plan.gpu_type}" if is_slice else "",
        )


def _price(plan: Plan, region: str) -> Decimal | None:
    """USD per hour, the region's own first; the free tier has none."""
    for cost in (plan.location_cost.get(region), plan):
        if cost is not None and cost.hourly_cost:
            return Decimal(str(cost.hourly_cost))
    hours = 730 if plan.type == "vcg" else 672
    return Decimal(str(round(plan.monthly_cost / hours, 4))) if plan.monthly_cost else None


def _name(text: str) -> dict[str, JsonValue]:
    return {"name": name_in_text(text)}


def _age_seconds(created: str, now: datetime) -> float:
    """Old objects have a date of another form, and those are old in any case."""
    try:
        moment = datetime.fromisoformat(created)
    except ValueError:
        return GRACE_SECONDS
    return (now - (moment if moment.tzinfo else moment.replace(tzinfo=UTC))).total_seconds()
