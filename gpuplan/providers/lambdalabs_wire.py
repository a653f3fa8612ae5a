"""What Lambda answers in our words, and what is asked of it in its own. Pure; `lambdalabs` makes the calls."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from ipaddress import IPv4Network
from typing import TypeAlias

from gpuplan.core.desired import Kind
from gpuplan.core.gpus import canonical_gpu, known_gpus
from gpuplan.core.kinds import NetworkAttrs, NodeAttrs, SshKeyAttrs, VolumeAttrs, plain
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Observed, Status
from gpuplan.core.offers import Offer, Pricing, Stock
from gpuplan.core.ports import Want
from gpuplan.core.values import Attrs, JsonValue, Ref
from gpuplan.net.cloud_init import first_boot
from gpuplan.net.marks import from_name, from_tags, is_mark_tag, to_name, to_tags
from gpuplan.net.payload import Payload

Body: TypeAlias = dict[str, JsonValue]

NAME_LENGTH, FILESYSTEM_LENGTH, TAG_VALUE_LENGTH, NOTE_LENGTH = 64, 60, 128, 128
LABEL = re.compile(r"[a-z][a-z0-9-:]{1,54}")
MOUNT = re.compile(r"(/home|/lambda/nfs|/data)[/a-zA-Z0-9-]{0,240}")
IMAGE_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
CARD = re.compile(r"(?:Tesla )?(?P<family>.+?) \((?P<memory>\d+) GB(?: (?P<form>\S+))?\)")
NO_FIREWALL_REGION = "us-south-1"
"""Rulesets do not apply there: https://docs.lambda.ai/public-cloud/firewalls/"""


class Region(Payload):
    name: str = ""


class Specs(Payload):
    vcpus: int = 0
    memory_gib: int = 0
    storage_gib: int = 0
    gpus: int = 0


class InstanceType(Payload):
    name: str = ""
    gpu_description: str = ""
    price_cents_per_hour: int = 0
    specs: Specs = Specs()

    @property
    def gpu(self) -> str:
        """Canonical name; empty without a GPU, and for one that nobody has heard of."""
        card = CARD.fullmatch(self.gpu_description)
        if not self.specs.gpus or card is None:
            return ""
        sized = f"{card['family']}-{card['memory']}GB"
        names = (f"{sized}-{card['form']}", f"{card['family']}-{card['form']}", sized, card["family"])
        found = (canonical_gpu(name) for name in names)
        return next((name for name in found if name and known_gpus()[name].memory_gb == int(card["memory"])), "")

    @property
    def architecture(self) -> str:
        """Lambda tells it of images alone; of its machines those with a Grace processor are the exception."""
        return "arm64" if re.search(r"\bG[HB]\d", self.gpu_description) else "x86_64"


class Sale(Payload):
    instance_type: InstanceType
    regions_with_capacity_available: tuple[Region, ...] = ()


class Tag(Payload):
    key: str = ""
    value: str = ""

    def __str__(self) -> str:
        return f"{self.key}={self.value}"


class Entry(Payload):
    id: str = ""


class Instance(Payload):
    """Keys that have no value yet are not there at all."""

    id: str
    name: str = ""
    status: str = ""
    ip: str = ""
    private_ip: str = ""
    hostname: str = ""
    region: Region = Region()
    instance_type: InstanceType = InstanceType()
    tags: tuple[Tag, ...] = ()

    def to_observed(self, now: datetime) -> Observed:
        status, detail = self._status()
        tags = [str(tag) for tag in self.tags]
        facts: dict[str, JsonValue] = {
            "name": self.name,
            "public_ip": self.ip or None,
            "private_ip": self.private_ip or None,
            "hostname": self.hostname,
            "architecture": self.instance_type.architecture,
        }
        labels = {tag.key: tag.value for tag in self.tags if not is_mark_tag(tag.key)}
        attrs: Attrs = {"region": self.region.name, "instance_type": self.instance_type.name, "labels": labels}
        # Answers of earlier versions had no tags.
        mark = from_tags(tags) or from_name(self.name)
        return Observed(Kind.NODE, self.id, status, attrs, facts, mark, detail)

    def _status(self) -> tuple[Status, str]:
        """The status in our words, and why it is so. An unknown word is UNKNOWN."""
        match self.status:
            case "booting":
                return Status.STARTING, ""
            case "active":
                return Status.RUNNING, ""
            case "unhealthy":
                return Status.FAILED, "Lambda says it is unhealthy"
            case "terminating":
                return Status.TERMINATING, ""
            case "terminated":
                return Status.TERMINATED, ""
            case "preempted":
                return Status.TERMINATED, "Lambda took it back"
        return Status.UNKNOWN, f"Lambda says it is `{self.status}`"


class Key(Payload):
    id: str
    name: str = ""
    public_key: str = ""

    def to_observed(self, now: datetime) -> Observed:
        attrs: Attrs = {"public_key": self.public_key}
        return Observed(Kind.SSH_KEY, self.id, Status.RUNNING, attrs, {"name": self.name}, from_name(self.name))

    def is_meant_by(self, text: str) -> bool:
        """By its id, its name, or the key itself whatever the comment behind it."""
        return text in (self.id, self.name) or without_comment(text) == without_comment(self.public_key)


class Filesystem(Payload):
    id: str
    name: str = ""
    mount_point: str = ""
    is_in_use: bool = False
    region: Region = Region()
    bytes_used: int = 0

    def to_observed(self, now: datetime) -> Observed:
        facts: dict[str, JsonValue] = {
            "name": self.name,
            "mount_point": self.mount_point,
            "is_in_use": self.is_in_use,
            "bytes_used": self.bytes_used,
        }
        attrs: Attrs = {"region": self.region.name}
        return Observed(Kind.VOLUME, self.id, Status.RUNNING, attrs, facts, from_name(self.name))


class FirewallRule(Payload):
    protocol: str = ""
    port_range: tuple[int, ...] = ()
    source_network: str = ""
    description: str = ""

    def as_written(self) -> Mapping[str, JsonValue]:
        """As the spec has it, where the rule still is what its description says; else as it is."""
        try:
            written = json.loads(self.description)
            if isinstance(written, dict) and self == FirewallRule.model_validate(to_rule(written)):
                return written
        except ValueError:
            pass
        ports: Body = {}
        if self.port_range not in ((), (1, 65535)):
            first, last = self.port_range[0], self.port_range[-1]
            ports = {"port": first if first == last else f"{first}-{last}"}
        return {**ports, "protocol": self.protocol, "from": self.source_network}


class Ruleset(Payload):
    id: str
    name: str = ""
    region: Region = Region()
    rules: tuple[FirewallRule, ...] = ()
    instance_ids: tuple[str, ...] = ()

    def to_observed(self, now: datetime) -> Observed:
        attrs: Attrs = {"region": self.region.name, "rules": [rule.as_written() for rule in self.rules]}
        facts: dict[str, JsonValue] = {"name": self.name, "instances": list(self.instance_ids)}
        return Observed(Kind.NETWORK, self.id, Status.RUNNING, attrs, facts, from_name(self.name))


def to_offers(sale: Sale, provider: str, now: datetime) -> Iterator[Offer]:
    """One for each region with capacity; one without a region for a type that is gone everywhere."""
    type, gpu = sale.instance_type, sale.instance_type.gpu
    facts: dict[str, JsonValue] = {"architecture": type.architecture}
    if type.specs.gpus and not gpu:
        facts["unknown_gpu"] = type.gpu_description
    for region in [place.name for place in sale.regions_with_capacity_available] or [""]:
        yield Offer(
            provider=provider,
            ref=type.name,
            region=region,
            gpu=gpu,
            gpu_count=type.specs.gpus if gpu else 0,
            pricing=Pricing.ON_DEMAND,
            price_per_hour=Decimal(type.price_cents_per_hour) / 100,
            seen_at=now,
            instance_type=type.name,
            gpu_memory_gb=known_gpus()[gpu].memory_gb if gpu else None,
            cpu=type.specs.vcpus or None,
            memory_gb=type.specs.memory_gib or None,
            disk_gb=type.specs.storage_gib or None,
            stock=Stock.SOME if region else Stock.NONE,
            facts=facts,
        )


def to_launch(want: Want, mark: Mark, type: str, region: str, key: str, further_keys: Sequence[str]) -> Body:
    """`key` is the name of a stored one; a launch takes no more, and so the texts of others go in by the first boot.

    Raises ValueError for a label or a mount point that Lambda has no room for.
    """
    asked = NodeAttrs.of(want.attrs)
    boot = first_boot(
        env={name: plain(text) for name, text in asked.env.items()},
        keys=further_keys,
        own=plain(asked.user_data) if asked.user_data else None,
    )
    body: Body = {
        "region_name": region,
        "instance_type_name": type,
        "ssh_key_names": [key],
        "name": to_name(want.name, mark, limit=NAME_LENGTH),
        "hostname": want.name,
        "tags": [*_mark_tags(mark), *(_label_tag(name, value) for name, value in asked.labels.items())],
    }
    if asked.image:
        body["image"] = {"id" if IMAGE_ID.fullmatch(asked.image) else "family": asked.image}
    if asked.volumes:
        body["file_system_mounts"] = [
            {"file_system_id": id_of(each.volume), "mount_point": _mount(each.mount)} for each in asked.volumes
        ]
    if asked.networks:
        body["firewall_rulesets"] = [{"id": id_of(network)} for network in asked.networks]
    return {**body, "user_data": boot} if boot else body


def to_key(want: Want, mark: Mark) -> Body:
    name = to_name(want.name, mark, limit=NAME_LENGTH)
    return {"name": name, "public_key": SshKeyAttrs.of(want.attrs).public_key.strip()}


def to_filesystem(want: Want, mark: Mark) -> Body:
    """A name begins with a letter there."""
    name = want.name if want.name[:1].isalpha() else f"fs-{want.name}"
    return {"name": to_name(name, mark, limit=FILESYSTEM_LENGTH), "region": VolumeAttrs.of(want.attrs).region}


def to_ruleset(want: Want, mark: Mark) -> Body:
    """Raises ValueError where rules do not apply, and for a rule that Lambda cannot have."""
    asked = NetworkAttrs.of(want.attrs)
    if asked.region == NO_FIREWALL_REGION:
        raise ValueError(f"firewalls do not apply in {NO_FIREWALL_REGION}")
    return {"name": to_name(want.name, mark, limit=NAME_LENGTH), "region": asked.region, **to_rules(want)}


def to_rules(want: Want) -> Body:
    """Raises ValueError."""
    return {"rules": [to_rule(rule) for rule in NetworkAttrs.of(want.attrs).rules]}


def to_rule(rule: Mapping[str, JsonValue]) -> Body:
    """A rule of the spec (`port`, `protocol`, `from`) in Lambda's words; how it was written is kept in its description.

    Raises ValueError for ports that are none, and for a `from` that is no IPv4 network.
    """
    protocol = str(rule.get("protocol") or "tcp").lower()
    written = json.dumps(rule, sort_keys=True, separators=(",", ":"))
    body: Body = {
        "protocol": protocol,
        "source_network": str(IPv4Network(str(rule.get("from") or "0.0.0.0/0"), strict=False)),
        "description": written if len(written) <= NOTE_LENGTH else "",
    }
    if protocol == "icmp":
        return body
    first, _, last = str(rule.get("port") or "1-65535").partition("-")
    return {**body, "port_range": [int(first), int(last or first)]}


def id_of(reference: Ref | str) -> str:
    """The remote id of what is referred to; a text stands for itself."""
    return (reference.remote_id or "") if isinstance(reference, Ref) else reference


def is_public_key(text: str) -> bool:
    """Names of keys may have blanks, too."""
    return text.strip().startswith(("ssh-", "ecdsa-", "sk-")) and " " in text.strip()


def without_comment(text: str) -> str:
    """What a public key is known by; another text stands as it is."""
    return " ".join(text.split()[:2]) if is_public_key(text) else text


def _mark_tags(mark: Mark) -> list[Body]:
    pairs = [tag.partition("=") for tag in to_tags(mark)]
    return [{"key": key, "value": value} for key, _, value in pairs if len(value) <= TAG_VALUE_LENGTH]


def _label_tag(name: str, value: str) -> Body:
    if not LABEL.fullmatch(name) or len(value) > TAG_VALUE_LENGTH:
        raise ValueError(
            f"the label `{name}`: names are 2 to 55 of `a-z`, `0-9`, `-` and `:` behind a letter, values up to "
            f"{TAG_VALUE_LENGTH} characters"
        )
    return {"key": name, "value": value}


def _mount(path: str) -> str:
    if not MOUNT.fullmatch(path):
        raise ValueError(
            f"nothing can be mounted at `{path}`: mount under /home, /data or /lambda/nfs, at a path of letters, "
            "digits and `-`"
        )
    return path
