"""What Akash's Console answers, in our words: deployments, bids, providers, prices. Pure; `akash_console` asks."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from pydantic import Field

from gpuplan.core.desired import Kind
from gpuplan.core.errors import Failure, NoCapacity, ProviderError, QuotaExceeded
from gpuplan.core.gpus import known_gpus
from gpuplan.core.observed import Observed, Status
from gpuplan.core.offers import Offer, OfferQuery, Pricing, Stock
from gpuplan.core.values import JsonValue
from gpuplan.net.payload import CamelPayload, Payload
from gpuplan.providers.akash_sdl import BLOCKS_PER_HOUR, MICRO, gpu_of

SSH_PORT = 22
BLOCK_SECONDS = 3600 / BLOCKS_PER_HOUR
COUNTS = (1, 2, 4, 8)
"""How many GPUs of a node are offered where nobody says how many."""
LIVING, ENDED = ("active", "reclaiming"), ("closed", "insufficient_funds", "invalid")
REASONS: Mapping[str, str] = {
    "lease_closed_owner": "its lease was closed by its owner",
    "lease_closed_reason_unstable": "its provider gave it up: it crashed again and again, or was never ready",
    "lease_closed_reason_decommission": "its provider has left",
    "lease_closed_reason_manifest_timeout": "its provider was never told what to run",
    "lease_closed_reason_insufficient_funds": "its escrow is empty",
}
CLOCK_DIGITS = 13
"""Of a dseq that is the time of the deployment in milliseconds; shorter ones are heights of blocks."""


class Price(Payload):
    denom: str = "uact"
    amount: Decimal = Decimal(0)

    @property
    def hourly(self) -> float | None:
        """USD per hour of a price per block; None for a token whose rate nobody tells here."""
        return round(float(self.amount) * BLOCKS_PER_HOUR / MICRO, 6) if self.denom == "uact" else None


class LeaseId(Payload):
    dseq: str
    gseq: int = 1
    oseq: int = 1
    provider: str = ""


class Bid(Payload):
    id: LeaseId
    state: str = ""
    price: Price = Price()


class BidRow(Payload):
    bid: Bid


class Forwarded(Payload):
    host: str = ""
    port: int = 0
    external: int = Field(0, alias="externalPort")


class Service(Payload):
    available: int = 0
    total: int = 0
    uris: tuple[str, ...] = ()


class LeaseStatus(Payload):
    forwarded_ports: Mapping[str, tuple[Forwarded, ...] | None] = {}
    services: Mapping[str, Service] = {}

    @property
    def ports(self) -> list[Forwarded]:
        return [port for ports in self.forwarded_ports.values() for port in ports or ()]

    @property
    def uris(self) -> list[str]:
        return [uri for service in self.services.values() for uri in service.uris]


class Lease(Payload):
    id: LeaseId
    state: str = ""
    price: Price = Price()
    reason: str = ""
    status: LeaseStatus | None = None


class DeploymentId(Payload):
    owner: str = ""
    dseq: str


class Deployment(Payload):
    id: DeploymentId
    state: str = ""
    hash: str = ""
    created_at: int = 0
    """A height, as all times of the chain."""


class Account(Payload):
    state: str = ""
    settled_at: int = 0
    funds: tuple[Price, ...] = ()


class Escrow(Payload):
    state: Account = Account()


class Detail(Payload):
    """A deployment with its leases, those that ended too. A listing attaches leases to wrong deployments, and has no
    status of any."""

    deployment: Deployment
    leases: tuple[Lease, ...] = ()
    escrow: Escrow = Field(Escrow(), alias="escrow_account")

    @property
    def dseq(self) -> str:
        return self.deployment.id.dseq

    @property
    def lease(self) -> Lease | None:
        """The one that lives, else the last that did."""
        living = [lease for lease in self.leases if lease.state not in ENDED]
        return next(reversed(living or self.leases), None)

    @property
    def has_living_lease(self) -> bool:
        return self.lease is not None and self.lease.state in LIVING

    @property
    def is_silent(self) -> bool:
        """Whether its provider could not be asked, which may be nothing but bad luck."""
        return self.lease is not None and self.lease.status is None

    def to_observed(self, provider: str) -> Observed:
        status, told, error = self._status()
        lease, ends_at = self.lease, self._ends_at()
        failure = error(Failure(provider, f"bring up node {self.dseq}", told)) if error else None
        facts: dict[str, JsonValue] = {
            "owner": self.deployment.id.owner,
            "manifest_hash": self.deployment.hash,
            "ends_at": ends_at.isoformat() if ends_at else None,
            **(self._lease_facts(lease) if lease else {}),
        }
        # What is not told must not take the place of what is known from before.
        known = {name: fact for name, fact in facts.items() if fact not in ("", None)}
        return Observed(
            Kind.NODE,
            self.dseq,
            status,
            facts=known,
            detail=told,
            failure=failure,
            expires_at=ends_at,
            witness=self.deployment.hash,
        )

    def _status(self) -> tuple[Status, str, type[ProviderError] | None]:
        lease, state = self.lease, self.deployment.state
        if state == "closed":
            return Status.TERMINATED, "", None
        if state != "active":
            return Status.UNKNOWN, f"Akash says the deployment is `{state}`", None
        if self.escrow.state.state == "overdrawn" or (lease and lease.state == "insufficient_funds"):
            return Status.FAILED, "its escrow is empty", QuotaExceeded
        if lease is None:
            return Status.PENDING, "waits for bids", None
        if lease.state in ENDED:
            return Status.FAILED, REASONS.get(lease.reason, lease.reason or "its lease has ended"), NoCapacity
        if lease.state not in LIVING:
            return Status.UNKNOWN, f"Akash says the lease is `{lease.state}`", None
        if lease.status is None:
            return Status.STARTING, "nothing is heard of its provider", None
        return _running(lease, lease.status)

    def _lease_facts(self, lease: Lease) -> dict[str, JsonValue]:
        facts: dict[str, JsonValue] = {
            "lease": f"{lease.id.dseq}/{lease.id.gseq}/{lease.id.oseq}",
            "provider": lease.id.provider,
            "price_per_hour": lease.price.hourly,
        }
        if lease.status is None or lease.state not in LIVING:
            return facts
        ports = lease.status.ports
        ssh = next((port for port in ports if port.port == SSH_PORT and port.host), None)
        if ssh is not None:
            facts |= {"public_ip": ssh.host, "ssh_host": ssh.host, "ssh_port": ssh.external, "ssh_user": "root"}
        if ports:
            facts["ports"] = {str(port.port): port.external for port in ports}
        if uris := lease.status.uris:
            facts |= {"endpoint": f"http://{uris[0]}", "uris": uris}
        if lease.status.services:
            facts["replicas"] = sum(service.available for service in lease.status.services.values())
        return facts

    def _ends_at(self) -> datetime | None:
        """When the escrow is empty. Heights become times by the one moment that both are known of: the creation."""
        lease, account, dseq = self.lease, self.escrow.state, self.dseq
        if lease is None or lease.state not in LIVING or len(dseq) != CLOCK_DIGITS or not lease.price.amount:
            return None
        funds = sum(one.amount for one in account.funds if one.denom == lease.price.denom)
        blocks = account.settled_at - self.deployment.created_at + int(funds / lease.price.amount)
        return datetime.fromtimestamp(int(dseq) / 1000, UTC).replace(microsecond=0) + timedelta(
            seconds=blocks * BLOCK_SECONDS
        )


def _running(lease: Lease, status: LeaseStatus) -> tuple[Status, str, type[ProviderError] | None]:
    services = status.services.values()
    if not services:
        return Status.STARTING, "its provider has not begun yet", None
    if any(service.available < service.total or not service.total for service in services):
        return Status.STARTING, "its image is fetched and started", None
    if not status.ports and not status.uris:
        return Status.STARTING, "waits for its address", None
    return Status.RUNNING, "its provider takes it back soon" if lease.state == "reclaiming" else "", None


def regrouped(rows: Sequence[Detail]) -> list[Detail]:
    """Every deployment with its own leases."""
    leases: dict[str, list[Lease]] = {}
    for lease in (lease for row in rows for lease in row.leases):
        leases.setdefault(lease.id.dseq, []).append(lease)
    return [row.model_copy(update={"leases": tuple(leases.get(row.dseq, ()))}) for row in rows]


class Created(Payload):
    dseq: str
    manifest: str = ""


class User(Payload):
    id: str


class Token(Payload):
    token: str


class GroupSpec(Payload):
    name: str = ""


class Group(Payload):
    group_spec: GroupSpec = GroupSpec()


class Others(Payload):
    groups: tuple[Group, ...] = ()


class Public(Payload):
    """What everybody may see of a deployment."""

    other: Others = Others()


class Screened(Payload):
    providers: tuple[Mapping[str, object], ...] = ()


class Model(CamelPayload):
    vendor: str = ""
    model: str = ""
    ram: str = ""
    interface: str = ""


class Attribute(CamelPayload):
    key: str = ""
    value: str = ""


class ProviderRow(CamelPayload):
    owner: str
    host_uri: str = ""
    is_online: bool = False
    is_audited: bool = False
    uptime7d: float = Field(0, alias="uptime7d")
    gpu_models: tuple[Model, ...] = ()
    attributes: tuple[Attribute, ...] = ()

    @property
    def region(self) -> str:
        return next((each.value for each in self.attributes if each.key == "region"), "")


class Count(Payload):
    total: int = 0
    available: int = 0


class Estimate(CamelPayload):
    weighted_average: float = 0


class PriceRow(Model):
    availability: Count = Count()
    price: Estimate | None = None


class Prices(Payload):
    models: tuple[PriceRow, ...] = ()


@dataclass(frozen=True, slots=True)
class Market:
    """Prices by GPU, and who has them where."""

    prices: Prices
    providers: Sequence[ProviderRow]

    def offers(self, query: OfferQuery, provider: str, now: datetime) -> Iterator[Offer]:
        """What is asked for. Nothing here is spot."""
        for offer in () if query.spot else self._all(query.gpu_counts or COUNTS, provider, now):
            if query.wants(offer.gpu, offer.gpu_count) and (not query.regions or offer.region in query.regions):
                yield offer

    def _all(self, counts: Sequence[int], provider: str, now: datetime) -> Iterator[Offer]:
        """One anywhere, and one in each region that has the GPU. What a node costs is told by the bids alone."""
        for row in self.prices.models:
            gpu = gpu_of(row.model, row.ram, row.interface)
            if not gpu or row.vendor != "nvidia":
                continue
            free = row.availability.available
            hourly = Decimal(str(row.price.weighted_average)) if row.price else None
            for count in filter(None, counts):
                for region in ("", *self._regions(row)):
                    yield Offer(
                        provider=provider,
                        ref=f"{row.model}/{row.ram}/{row.interface}/{count}",
                        region=region,
                        gpu=gpu,
                        gpu_count=count,
                        pricing=Pricing.AUCTION,
                        price_per_hour=hourly * count if hourly else None,
                        seen_at=now,
                        gpu_memory_gb=known_gpus()[gpu].memory_gb,
                        stock=Stock.NONE if free < count else Stock.LOW if free < 2 * count else Stock.SOME,
                        max_count=free // count,
                        facts={"price_is_estimate": True},
                    )
        for region in ("", *self._regions(None)):
            yield Offer(provider, "cpu", region, "", 0, Pricing.AUCTION, None, now)

    def _regions(self, wanted: Model | None) -> Iterable[str]:
        """Where somebody has such a GPU."""

        def has(row: ProviderRow) -> bool:
            return wanted is None or any(
                (each.model, each.ram, each.interface) == (wanted.model, wanted.ram, wanted.interface)
                for each in row.gpu_models
            )

        return sorted({row.region for row in self.providers if row.region and has(row)})
