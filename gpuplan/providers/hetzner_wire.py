"""What Hetzner answers, in our words: payloads, statuses, prices. Pure; `hetzner` makes the calls."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from ipaddress import ip_network
from typing import TypeAlias

from gpuplan.core.desired import Kind
from gpuplan.core.errors import Failure, NoCapacity
from gpuplan.core.observed import Observed, Status
from gpuplan.core.offers import Offer, Pricing, Stock
from gpuplan.core.values import Attrs, JsonValue
from gpuplan.net.marks import PREFIX, from_labels
from gpuplan.net.payload import Payload

Body: TypeAlias = dict[str, JsonValue]

STATUSES: Mapping[str, Status] = {
    "initializing": Status.STARTING,
    "starting": Status.STARTING,
    "running": Status.RUNNING,
    "stopping": Status.STOPPING,
    "off": Status.STOPPED,
    "rebuilding": Status.STARTING,
    "migrating": Status.STARTING,
    "deleting": Status.TERMINATING,
}
LATE_SECONDS = 90
"""A server is up within 40 seconds; of one that takes longer somebody asks whether its creation has failed."""
SHUTDOWN_SECONDS = 60
"""A system that still runs this long after it was asked to shut down does not listen."""
NO_CAPACITY = ("resource_unavailable", "placement_error", "no_space_left_in_location")
ANYONE = ("0.0.0.0/0", "::/0")
NOTE_LENGTH = 255


class Named(Payload):
    id: str = ""
    name: str = ""


class Address(Payload):
    ip: str = ""


class Attachment(Payload):
    id: str = ""


class PublicNet(Payload):
    ipv4: Address = Address()
    ipv6: Address = Address()
    firewalls: tuple[Attachment, ...] = ()

    @property
    def ipv6_host(self) -> str:
        """What is told is a whole network; the machine has its first address."""
        try:
            return str(ip_network(self.ipv6.ip, strict=False)[1]) if self.ipv6.ip else ""
        except ValueError:
            return ""


class PrivateNet(Payload):
    network: str = ""
    ip: str = ""


class Datacenter(Payload):
    location: Named = Named()


class Server(Payload):
    id: str
    name: str = ""
    status: str = ""
    created: datetime | None = None
    public_net: PublicNet = PublicNet()
    private_net: tuple[PrivateNet, ...] = ()
    server_type: Named = Named()
    location: Named = Named()
    datacenter: Datacenter = Datacenter()
    """Only in recordings from before July 2026, and at those who imitate Hetzner."""
    image: Named = Named()
    labels: Mapping[str, str] = {}

    def to_observed(self, now: datetime) -> Observed:
        status = STATUSES.get(self.status, Status.UNKNOWN)
        told = {
            "region": self.location.name or self.datacenter.location.name,
            "instance_type": self.server_type.name,
        }
        attrs: Attrs = {**{name: word for name, word in told.items() if word}, "labels": own_labels(self.labels)}
        facts: dict[str, JsonValue] = {
            "name": self.name,
            "hostname": self.name,
            "public_ip": self.public_net.ipv4.ip or self.public_net.ipv6_host or None,
            "public_ipv6": self.public_net.ipv6_host or None,
            "private_ip": self.private_net[0].ip if self.private_net else None,
            "image": self.image.name or self.image.id,
            "created_at": self.created.isoformat() if self.created else None,
        }
        detail = f"Hetzner says it is `{self.status}`" if status is Status.UNKNOWN else ""
        return Observed(Kind.NODE, self.id, status, attrs, facts, from_labels(self.labels), detail)

    def is_late(self, now: datetime) -> bool:
        """Whether it should have been made by now."""
        return (
            self.status == "initializing"
            and self.created is not None
            and (now - self.created).total_seconds() > LATE_SECONDS
        )


class ActionError(Payload):
    code: str = ""
    message: str = ""


class Action(Payload):
    """A step that takes its time."""

    command: str = ""
    status: str = ""
    finished: datetime | None = None
    resources: tuple[Attachment, ...] = ()
    error: ActionError = ActionError()

    def is_unanswered_shutdown(self, now: datetime) -> bool:
        """Whether, being the latest, it has asked a system to shut down that does not listen. Its success is no more
        than that the signal was sent."""
        if self.command != "shutdown_server" or self.finished is None:
            return False
        return (now - self.finished).total_seconds() > SHUTDOWN_SECONDS


class Key(Payload):
    id: str
    name: str = ""
    public_key: str = ""
    labels: Mapping[str, str] = {}

    def to_observed(self, now: datetime) -> Observed:
        attrs: Attrs = {"public_key": self.public_key}
        facts, mark = {"name": self.name}, from_labels(self.labels)
        return Observed(Kind.SSH_KEY, self.id, Status.RUNNING, attrs, facts, mark)


class Volume(Payload):
    id: str
    name: str = ""
    status: str = ""
    size: int = 0
    location: Named = Named()
    server: str = ""
    linux_device: str = ""
    labels: Mapping[str, str] = {}

    def to_observed(self, now: datetime) -> Observed:
        status = {"available": Status.RUNNING, "creating": Status.PENDING}.get(self.status, Status.UNKNOWN)
        attrs: Attrs = {"size_gb": self.size, "region": self.location.name}
        facts: dict[str, JsonValue] = {
            "name": self.name,
            "device": self.linux_device,
            "attached_to": self.server,
        }
        return Observed(Kind.VOLUME, self.id, status, attrs, facts, from_labels(self.labels))


class Subnet(Payload):
    network_zone: str = ""


class Network(Payload):
    id: str
    name: str = ""
    ip_range: str = ""
    subnets: tuple[Subnet, ...] = ()
    labels: Mapping[str, str] = {}

    def to_observed(self, now: datetime) -> Observed:
        attrs: Attrs = {"cidr": self.ip_range}
        facts: dict[str, JsonValue] = {
            "name": self.name,
            "network_zones": sorted({subnet.network_zone for subnet in self.subnets}),
        }
        return Observed(Kind.NETWORK, self.id, Status.RUNNING, attrs, facts, from_labels(self.labels))


class FirewallRule(Payload):
    description: str = ""
    direction: str = "in"
    protocol: str = ""
    port: str = ""
    source_ips: tuple[str, ...] = ()
    destination_ips: tuple[str, ...] = ()

    def as_written(self) -> Mapping[str, JsonValue]:
        """As the spec has it, where the rule still is what its description says; else as it is."""
        try:
            written = json.loads(self.description)
            if isinstance(written, dict) and self == FirewallRule.model_validate(to_rule(written)):
                return written
        except ValueError:
            pass
        port: JsonValue = int(self.port) if self.port.isdigit() else self.port
        shown: dict[str, JsonValue] = {"port": port, "protocol": self.protocol, "from": ",".join(self.source_ips)}
        return shown if self.direction == "in" else {**shown, "direction": self.direction}


class Applied(Payload):
    type: str = ""
    server: Attachment = Attachment()


class Firewall(Payload):
    id: str
    name: str = ""
    rules: tuple[FirewallRule, ...] = ()
    applied_to: tuple[Applied, ...] = ()
    labels: Mapping[str, str] = {}

    def to_observed(self, now: datetime) -> Observed:
        attrs: Attrs = {"rules": [rule.as_written() for rule in self.rules]}
        facts, mark = {"name": self.name}, from_labels(self.labels)
        return Observed(Kind.NETWORK, self.id, Status.RUNNING, attrs, facts, mark)

    def is_applied_to(self, server: str) -> bool:
        """Whether to this server itself; what a label selector applies cannot be taken off one server."""
        return any(each.type == "server" and each.server.id == server for each in self.applied_to)


class Location(Payload):
    name: str
    network_zone: str = ""


class Money(Payload):
    net: str = ""


class Price(Payload):
    location: str
    price_hourly: Money = Money()


class Deprecation(Payload):
    unavailable_after: datetime


class Sold(Payload):
    """Where a server type is sold, and whether there are any now."""

    name: str
    available: bool | None = None
    deprecation: Deprecation | None = None


class ServerType(Payload):
    name: str
    cores: float = 0
    memory: float = 0
    disk: float = 0
    architecture: str = "x86"
    cpu_type: str = ""
    prices: tuple[Price, ...] = ()
    locations: tuple[Sold, ...] = ()


class PrimaryIpPrices(Payload):
    type: str = ""
    prices: tuple[Price, ...] = ()


class PriceList(Payload):
    currency: str = ""
    primary_ips: tuple[PrimaryIpPrices, ...] = ()


@dataclass(frozen=True, slots=True)
class Tariff:
    """How a price list becomes USD per hour for a server with a public IPv4 address."""

    prices: PriceList
    usd_per_eur: Decimal

    def in_usd(self, server: Price) -> Decimal | None:
        """None for a currency whose rate nobody knows."""
        rate = {"USD": Decimal(1), "EUR": self.usd_per_eur}.get(self.prices.currency)
        if rate is None or not server.price_hourly.net:
            return None
        return round((Decimal(server.price_hourly.net) + self._address(server.location)) * rate, 6)

    def _address(self, location: str) -> Decimal:
        listed = (price for each in self.prices.primary_ips if each.type == "ipv4" for price in each.prices)
        return next((Decimal(p.price_hourly.net) for p in listed if p.location == location), Decimal(0))


def own_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """The user's own."""
    return {name: value for name, value in labels.items() if not name.startswith(PREFIX)}


def to_rule(rule: Mapping[str, JsonValue]) -> Body:
    """A rule of the spec (`port`, `protocol`, `from`) in Hetzner's words; its description keeps how it was written.

    Raises ValueError for a `from` that is no network.
    """
    protocol, source = str(rule.get("protocol") or "tcp").lower(), rule.get("from")
    written = json.dumps(rule, sort_keys=True, separators=(",", ":"))
    body: Body = {
        "direction": "in",
        "protocol": protocol,
        "source_ips": [str(ip_network(str(source), strict=False))] if source else list(ANYONE),
        "description": written if len(written) <= NOTE_LENGTH else "",
    }
    return {**body, "port": str(rule.get("port") or "1-65535")} if protocol in ("tcp", "udp") else body


def failed_creations(actions: Sequence[Action]) -> dict[str, Action]:
    """By server: the step of its creation that has failed."""
    failed = [each for each in actions if each.status == "error" and each.command in ("create_server", "start_server")]
    return {resource.id: action for action in failed for resource in action.resources}


def with_failure(server: Server, now: datetime, failed: Action | None, provider: str) -> Observed:
    """A server as it is shown, unless a step of its creation has failed."""
    seen = server.to_observed(now)
    if failed is None or not server.is_late(now):
        return seen
    said = failed.error
    failure = Failure(provider, "create a server", said.message, code=said.code)
    lost = NoCapacity(failure) if said.code in NO_CAPACITY else None
    return replace(seen, status=Status.FAILED, detail=f"{failed.command}: {said.message}", failure=lost)


def to_offers(sold: ServerType, tariff: Tariff, provider: str, now: datetime) -> Iterator[Offer]:
    """One for each location the type is sold in."""
    prices = {price.location: price for price in sold.prices}
    for place in sold.locations:
        price = prices.get(place.name)
        facts: dict[str, JsonValue] = {"architecture": sold.architecture, "cpu_type": sold.cpu_type}
        if price is not None:
            facts["list_price"] = f"{price.price_hourly.net} {tariff.prices.currency} per hour, IPv4 address apart"
        yield Offer(
            provider=provider,
            ref=sold.name,
            region=place.name,
            gpu="",
            gpu_count=0,
            pricing=Pricing.ON_DEMAND,
            price_per_hour=tariff.in_usd(price) if price is not None else None,
            seen_at=now,
            instance_type=sold.name,
            cpu=sold.cores,
            memory_gb=sold.memory,
            disk_gb=sold.disk,
            stock={True: Stock.SOME, False: Stock.NONE, None: Stock.UNTOLD}[place.available],
            expires_at=place.deprecation.unavailable_after if place.deprecation else None,
            facts=facts,
        )
