"""What an adapter declares about its provider: data, so that it can be printed, checked and compared."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from gpuplan.core.desired import Kind
from gpuplan.core.marks import MarkIn
from gpuplan.core.offers import Pricing


class ProviderKind(StrEnum):
    CLOUD = "cloud"
    MARKETPLACE = "marketplace"
    DEPIN = "depin"
    ON_PREM = "on_prem"
    LOCAL = "local"


class Mutability(StrEnum):
    """What changing an attribute of a live object takes."""

    IN_PLACE = "in_place"
    RESTARTS = "restarts"
    """In place, but what runs there is restarted; the plan says so."""
    NEEDS_STOP = "needs_stop"
    GROW_ONLY = "grow_only"
    """Larger in place; smaller forces a replacement."""
    REPLACE = "replace"
    LOCAL = "local"
    """Only gpuplan's own record changes; nothing is sent."""


class Listing(StrEnum):
    FULL = "full"
    ACTIVE_ONLY = "active_only"
    """Ended objects are not listed: absence is confirmed by a get."""
    NONE = "none"
    """No list call: known ids are asked one by one, and an open intent cannot be settled by looking."""


class Idempotency(StrEnum):
    KEY = "key"
    """The provider takes our token as its idempotency key: a create may be sent again."""
    NAME = "name"
    """A second create of the same name is refused: a create may be sent again, Conflict means it is there."""
    NONE = "none"


@dataclass(frozen=True, slots=True)
class KindCapabilities:
    """What can be done with one kind of object. `attributes` names every attribute the adapter honours; one that is
    not here is an error at plan time."""

    attributes: Mapping[str, Mutability]
    required: frozenset[str] = frozenset()
    mark: MarkIn = MarkIn.TAG
    mark_length: int | None = None
    """Room for the mark in characters; None: enough for all of it."""
    idempotency: Idempotency = Idempotency.NONE
    unique_names: bool = False
    """Two live objects cannot share a name; the engine gives each attempt a name of its own."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Objects live for a bought time. Seconds."""

    extendable: bool
    default_seconds: float
    extend_before_seconds: float = 3600
    """Extended once less than this is left."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `requests` in `per_seconds`."""

    requests: int
    per_seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Times in seconds. The defaults are those of an ordinary cloud."""

    kind: ProviderKind
    kinds: Mapping[Kind, KindCapabilities]
    ephemeral: bool = False
    """Nodes vanish as a matter of course and are recreated, never recycled."""
    ephemeral_failure_seconds: float = 600
    """An ephemeral node that dies sooner counts as a failed create (EPHEMERAL_FAILURE_THRESHOLD_MINUTES)."""
    listing: Listing = Listing.FULL
    page_size: int = 100
    visibility_delay_seconds: float = 0
    """How long a created object may be missing from listings."""
    requires_readiness_poll: bool = True
    ready_timeout_seconds: float = 300
    poll_interval_seconds: float = 20
    max_concurrency: int = 16
    rate_limit: RateLimit | None = None
    pricing: tuple[Pricing, ...] = (Pricing.ON_DEMAND,)
    spot: bool = False
    stop_start: bool = False
    bills_when_stopped: bool = True
    multi_gpu: bool = True
    multi_node: bool = False
    confidential: bool = False
    ssh: bool = False
    exec: bool = False
    http_proxy: bool = False
    raw_tcp: bool = False
    symmetric_ports: bool = False
    webhooks: bool = False
    global_networking: bool = False
    logs: bool = False
    log_streaming: bool = False
    jobs: bool = False
    serverless: bool = False
    managed_kubernetes: bool = False
    direct_provisioning: bool = True
    requires_sidecar: bool = False
    shared_filesystem: bool = False
    offers: bool = True
    """Has a price list to choose from; False: nodes are created without an offer."""
    lease: Lease | None = None
    workspace_path: str = "/workspace"
    deprecated: str = ""
    """Why new nodes are discouraged; printed as a plan warning."""
    notes: tuple[str, ...] = field(default=())
    lacks: Mapping[str, str] = field(default_factory=dict)
    """Why an attribute is not honoured, where a reader would wonder; said when a spec asks for it."""
    restart_empties: bool = False
    """A restart, whether by an update or a stop, leaves nothing of a node's disk but its mounts: setup runs again."""

    @property
    def granularity(self) -> Kind:
        """GROUP where the provider creates a whole cluster as one object, NODE otherwise."""
        return Kind.GROUP if Kind.GROUP in self.kinds and Kind.NODE not in self.kinds else Kind.NODE
