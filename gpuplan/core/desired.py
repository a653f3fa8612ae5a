"""What the spec asks for: `Desired` per instance, and the `Configuration` they come in."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from gpuplan.core.address import Address
from gpuplan.core.diagnostics import At, Diagnostic, Locator, Path
from gpuplan.core.secret import Redactor
from gpuplan.core.values import Attrs, JsonValue, Value


class Kind(StrEnum):
    """What an instance is to a provider. A cluster has nodes, or is one group where the provider creates groups."""

    NODE = "node"
    GROUP = "group"
    VOLUME = "volume"
    SSH_KEY = "ssh_key"
    NETWORK = "network"
    SERVICE = "service"
    JOB = "job"


SECTIONS: Mapping[str, Kind] = {
    "clusters": Kind.NODE,
    "volumes": Kind.VOLUME,
    "ssh_keys": Kind.SSH_KEY,
    "networks": Kind.NETWORK,
    "services": Kind.SERVICE,
    "jobs": Kind.JOB,
}
"""The spec's sections, in the order they are printed, and the kind of their instances."""


class OnFailure(StrEnum):
    DESTROY = "destroy"
    KEEP = "keep"


class Objective(StrEnum):
    CHEAPEST = "cheapest"
    IN_ORDER = "in_order"


@dataclass(frozen=True, slots=True)
class Lifecycle:
    create_before_destroy: bool = False
    prevent_destroy: bool = False
    ignore_changes: tuple[str, ...] = ()
    """Attribute paths (`env.DEBUG`); `all` ignores every one."""
    replace_triggered_by: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds; None leaves the decision to the provider's capabilities."""

    create: float | None = None
    update: float | None = None
    delete: float | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """How gpuplan treats the instances of one resource; shared between them, never sent to a provider."""

    lifecycle: Lifecycle = Lifecycle()
    timeouts: Timeouts = Timeouts()
    max_unavailable: int | None = None
    """How many nodes a rolling replacement may take away at once; None: all."""
    on_failure: OnFailure = OnFailure.DESTROY
    objective: Objective = Objective.IN_ORDER
    max_price: Decimal | None = None
    """USD per hour and node that no offer may exceed."""
    ttl_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One place where an instance could live: a provider block's name, and the attributes it would have there."""

    provider: str
    attrs: Attrs
    path: Path
    """Where in the spec this candidate is written, for positions of its attributes."""


@dataclass(frozen=True, slots=True)
class Desired:
    """One instance the spec asks for. Instances of one resource share `candidates` and `settings` where they agree."""

    address: Address
    kind: Kind
    candidates: tuple[Candidate, ...]
    depends_on: frozenset[Address]
    """Addresses of resources or of single instances, from references and from `depends_on`."""
    path: Path
    settings: Settings = Settings()


@dataclass(frozen=True, slots=True)
class ProviderBlock:
    """A configured account: `providers.NAME`. `options` are checked by the adapter's own model."""

    name: str
    type: str
    options: Mapping[str, JsonValue] = field(repr=False)
    path: Path
    retired: bool = False
    max_concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class Moved:
    source: Address
    target: Address
    path: Path


@dataclass(frozen=True, slots=True)
class Import:
    target: Address
    remote_id: str
    path: Path


@dataclass(frozen=True, slots=True)
class Removed:
    source: Address
    destroy: bool
    path: Path


@dataclass(frozen=True, slots=True)
class Policy:
    """`denies` is the compiled CEL expression over one resource's view; pure."""

    denies: Callable[[Mapping[str, JsonValue]], bool] = field(repr=False)
    message: str
    path: Path


@dataclass(frozen=True, slots=True)
class Output:
    value: Value
    sensitive: bool
    path: Path


@dataclass(frozen=True, slots=True)
class Configuration:
    """A whole spec, checked and expanded: the desired graph and everything the planner must know besides."""

    project: str
    instances: Mapping[Address, Desired]
    providers: Mapping[str, ProviderBlock]
    digest: str
    """Of the expanded spec with its variables; secrets take part as digests. A saved plan is bound to it."""
    locator: Locator = field(repr=False)
    outputs: Mapping[str, Output] = field(default_factory=dict)
    moved: tuple[Moved, ...] = ()
    imports: tuple[Import, ...] = ()
    removed: tuple[Removed, ...] = ()
    policies: tuple[Policy, ...] = ()
    max_hourly: Decimal | None = None
    warnings: tuple[Diagnostic, ...] = ()
    variables: Mapping[str, JsonValue] = field(default_factory=dict)
    """Those that were given from outside and are not sensitive; a saved plan brings them along."""
    redactor: Redactor = field(default_factory=Redactor, repr=False)
    """Knows every secret of the spec; whoever logs or quotes what a provider says asks it."""

    def at(self, desired: Desired, candidate: Candidate, attribute: str) -> At:
        """Where an attribute of a desired instance is written."""
        own = At((*candidate.path, attribute))
        if candidate.path == desired.path or self.locator.locate(own) != self.locator.locate(At(candidate.path)):
            return own
        # The candidate does not say it: it comes from what holds for all of them.
        return At((*desired.path, attribute))
