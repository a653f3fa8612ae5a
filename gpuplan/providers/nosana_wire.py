"""What Nosana and its sidecar answer, in our words: payloads, statuses, offers. Pure; others make the calls."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal

from pydantic import Field

from gpuplan.core.desired import Kind
from gpuplan.core.gpus import canonical_gpu, known_gpus
from gpuplan.core.observed import Observed, Status
from gpuplan.core.offers import Offer, Pricing
from gpuplan.core.values import Attrs, JsonValue
from gpuplan.net.marks import from_name
from gpuplan.net.payload import CamelPayload, Payload

REGION = "global"
NOBODY = frozenset({"", "1" * 32})
"""The host of a job that has none."""
STATUSES: Mapping[str, Status] = {
    "DRAFT": Status.PENDING,
    "STARTING": Status.PENDING,
    "RUNNING": Status.RUNNING,
    "STOPPING": Status.STOPPING,
    "STOPPED": Status.STOPPED,
    "ERROR": Status.FAILED,
    "INSUFFICIENT_FUNDS": Status.FAILED,
    "ARCHIVED": Status.TERMINATED,
}
DETAILS: Mapping[str, str] = {
    "DRAFT": "not started yet",
    "STARTING": "starting",
    "STOPPING": "stopping",
    "ERROR": "Nosana gave it up",
    "INSUFFICIENT_FUNDS": "out of credits: Nosana tries again by itself after a while",
    "ARCHIVED": "archived",
}
JOB_STATES: Mapping[str, str] = {"0": "QUEUED", "1": "RUNNING", "2": "COMPLETED", "3": "STOPPED", "4": "STOPPED"}
_COUNT = re.compile(r"\b(\d+)x[- ]", re.IGNORECASE)
_ENDING = re.compile(r" Generation\b.*|-(community|premium)$")


class Market(Payload):
    """A pool of hosts with one kind of GPU and one price. Which of them are free is not told: `nodes` says nothing."""

    address: str
    slug: str = ""
    name: str = ""
    type: str = ""
    usd_reward_per_hour: Decimal | None = None
    network_fee_percentage: Decimal = Decimal(0)
    gpu_types: tuple[str, ...] = ()

    @property
    def gpu(self) -> str:
        """The canonical name; empty for a GPU that gpuplan does not know."""
        slug = _COUNT.sub("", self.slug.removeprefix("nvidia-").removeprefix("amd-"))
        names = (*self.gpu_types[:1], slug, f"RTX {slug}")
        return next((known for name in names if (known := canonical_gpu(_ENDING.sub("", name)))), "")

    @property
    def gpus(self) -> int:
        """A job has the whole host, and with it all of its GPUs."""
        found = _COUNT.search(self.slug) or _COUNT.search(self.name)
        return int(found[1]) if found else 1

    @property
    def price(self) -> Decimal | None:
        """USD per hour, with the fee."""
        told = self.usd_reward_per_hour
        return None if told is None else (told * (1 + self.network_fee_percentage / 100)).quantize(Decimal("0.000001"))

    def to_offer(self, provider: str, now: datetime) -> Offer:
        return Offer(
            provider=provider,
            ref=self.address,
            region=REGION,
            gpu=self.gpu,
            gpu_count=self.gpus,
            pricing=Pricing.FIXED,
            price_per_hour=self.price,
            seen_at=now,
            instance_type=self.slug,
            gpu_memory_gb=known_gpus()[self.gpu].memory_gb,
            facts={"market_type": self.type, "market": self.name},
        )


class Endpoint(CamelPayload):
    op_id: str = ""
    port: str = ""
    url: str = ""
    online: bool | None = None
    """Whether the tunnel is up; older servers do not tell."""


class Deployment(Payload):
    """One or several jobs that are kept going. That it runs means no more than that a job was offered to a market."""

    id: str
    name: str = ""
    market: str = ""
    vault: str = ""
    status: str = ""
    strategy: str = ""
    timeout: float = 0
    """Minutes."""
    active_jobs: int = 0
    active_revision: int = 0
    endpoints: tuple[Endpoint, ...] = ()
    created_at: datetime | None = None
    updated_at: datetime | None = None

    def age(self, now: datetime) -> float:
        """Seconds since something was last done with it."""
        since = self.updated_at or self.created_at
        return 0 if since is None else (now - since).total_seconds()

    @property
    def is_queued(self) -> bool:
        return self.status == "RUNNING" and self.active_jobs == 0

    def to_observed(self, market: Market | None) -> Observed:
        status, detail = self._status()
        attrs: Attrs = {"gpu": f"{market.gpu}:{market.gpus}"} if market is not None and market.gpu else {}
        return Observed(Kind.NODE, self.id, status, attrs, self._facts(market), from_name(self.name), detail)

    def _status(self) -> tuple[Status, str]:
        status = STATUSES.get(self.status)
        if status is None:
            return Status.UNKNOWN, f"Nosana says it is `{self.status}`"
        if self.is_queued:
            return Status.PENDING, "waits for a host"
        if status is Status.RUNNING and any(endpoint.online is False for endpoint in self.endpoints):
            return Status.STARTING, "waits for its endpoint"
        return status, DETAILS.get(self.status, "")

    def _facts(self, market: Market | None) -> dict[str, JsonValue]:
        price = market.price if market is not None else None
        facts: dict[str, JsonValue] = {
            "name": self.name,
            "state": self.status,
            "market": self.market,
            "market_slug": market.slug if market is not None else None,
            "price_per_hour": None if price is None else float(price),
            "endpoint": next((endpoint.url for endpoint in self.endpoints), None),
            "vault": self.vault,
            "strategy": self.strategy,
            "revision": self.active_revision,
            "created_at": self.created_at.isoformat() if self.created_at else None,
        }
        return {name: fact for name, fact in facts.items() if fact not in ("", None)}


class Job(Payload):
    job: str
    state: str = ""
    node: str = ""

    @property
    def is_running(self) -> bool:
        return JOB_STATES.get(self.state, self.state) == "RUNNING"


class Ends(CamelPayload):
    """A job as the chain has it. Both in seconds."""

    time_start: float = 0
    timeout: float = 0


class Reason(CamelPayload):
    host_shut_down: bool = False
    job_stopped: bool = False
    job_expired: bool = False


class ContainerState(Payload):
    oom_killed: bool = Field(False, validation_alias="OOMKilled")


class Diagnostics(CamelPayload):
    reason: Reason = Reason()
    state: ContainerState = ContainerState()


class OpError(CamelPayload):
    event: str = ""
    message: str = ""


class LogEntry(Payload):
    type: str = ""
    log: str = ""

    @property
    def lines(self) -> list[str]:
        return self.log.splitlines()


class OpState(CamelPayload):
    operation_id: str = ""
    exit_code: int = 0
    error: OpError = OpError()
    logs: tuple[LogEntry, ...] = ()
    diagnostics: Diagnostics = Diagnostics()


class Result(CamelPayload):
    """What a job has left behind."""

    op_states: tuple[OpState, ...] = ()

    @property
    def lines(self) -> Iterator[str]:
        return (line for op in self.op_states for entry in op.logs for line in entry.lines)

    @property
    def ending(self) -> tuple[Status, str]:
        """What became of the node. One that crashed, or that lost its host, looks no different from one that was
        stopped."""
        for op in self.op_states:
            reason = op.diagnostics.reason
            if reason.host_shut_down:
                return Status.FAILED, "its host was shut down"
            if reason.job_expired:
                return Status.FAILED, "its time was over"
            if reason.job_stopped:
                return Status.STOPPED, "stopped"
            if op.diagnostics.state.oom_killed:
                return Status.FAILED, "the container ran out of memory"
            if op.exit_code:
                return Status.FAILED, f"the container ended with {op.exit_code}"
            if op.error.message:
                return Status.FAILED, op.error.message
        return Status.STOPPED, "the container ended by itself"


class WholeJob(CamelPayload):
    """A job of a deployment; its state is a number here."""

    state: str = ""
    node: str = ""
    job_result: Result | None = None


class Event(Payload):
    """The only place where it is said why no job could be listed."""

    type: str = ""
    message: str = ""

    @property
    def trouble(self) -> str:
        return self.message if self.type == "JOB_LIST_ERROR" else ""


class Header(Payload):
    header: str


class Balance(CamelPayload):
    assigned_credits: float = 0
    address: str = ""


class Launched(CamelPayload):
    """A sidecar's answer to a launch; it may have no job yet, and says so by naming the deployment twice."""

    job_address: str
    deployment_id: str = ""
    service_url: str = ""

    @property
    def remote_id(self) -> str:
        return f"{self.job_address}/{self.deployment_id or self.job_address}"


class Looked(CamelPayload):
    """What a sidecar tells of a job. `job_state` is a number, or the deployment's own word."""

    job_state: str = ""
    deployment_status: str = ""
    node_address: str = ""
    service_url: str = ""
    endpoints: tuple[Endpoint, ...] = ()

    def to_observed(self, remote_id: str) -> Observed:
        status, detail = self._status()
        facts: dict[str, JsonValue] = {
            "endpoint": self.service_url or next((endpoint.url for endpoint in self.endpoints), ""),
            "state": self.deployment_status or self.job_state,
            "host": "" if self.node_address in NOBODY else self.node_address,
        }
        told = {name: fact for name, fact in facts.items() if fact}
        return Observed(Kind.NODE, remote_id, status, {}, told, detail=detail)

    def _status(self) -> tuple[Status, str]:
        """A sidecar stops a deployment for good: what stands still is gone."""
        word = self.deployment_status or JOB_STATES.get(self.job_state, self.job_state)
        status = STATUSES.get(word, {"QUEUED": Status.PENDING, "COMPLETED": Status.STOPPED}.get(word, Status.UNKNOWN))
        if status is Status.UNKNOWN:
            return status, f"the sidecar says it is `{word}`"
        if status is Status.STOPPED:
            return Status.TERMINATED, word.lower()
        if status is Status.RUNNING and self.node_address in NOBODY:
            return Status.PENDING, "waits for a host"
        if status is Status.RUNNING and any(endpoint.online is False for endpoint in self.endpoints):
            return Status.STARTING, "waits for its endpoint"
        return status, DETAILS.get(word, "")


class SidecarLog(Payload):
    status: str = ""
    result: Result = Result()


class Said(Payload):
    """A message of a host, or of a sidecar. `data` is an entry, JSON of one, or a line."""

    data: str | LogEntry = ""
