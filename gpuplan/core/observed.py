"""What a provider reports now."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from gpuplan.core.address import Address
from gpuplan.core.desired import Kind
from gpuplan.core.errors import ProviderError
from gpuplan.core.marks import Mark
from gpuplan.core.values import Attrs, Facts


class Status(StrEnum):
    PENDING = "pending"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    TERMINATING = "terminating"
    TERMINATED = "terminated"
    FAILED = "failed"
    UNKNOWN = "unknown"
    """A word this adapter does not know. Never treated as gone, never as ready."""


GONE = frozenset({Status.TERMINATING, Status.TERMINATED})
UNSETTLED = frozenset({Status.PENDING, Status.STARTING, Status.STOPPING, Status.UNKNOWN})


@dataclass(frozen=True, slots=True)
class Observed:
    """One live object. `attrs` holds only what the provider reports, in the spec's words and units: an attribute that
    is not there is not compared. `facts` are shown and referenced, never compared."""

    kind: Kind
    remote_id: str
    status: Status
    attrs: Attrs = field(default_factory=dict)
    facts: Facts = field(default_factory=dict)
    mark: Mark | None = None
    detail: str = ""
    """Why it is in this status, in the provider's words: shown while waiting and when it failed."""
    healthy: bool | None = None
    """None where the provider does not tell."""
    failure: ProviderError | None = None
    """With status FAILED: what kind of failure, so that lost capacity moves on to the next place."""
    expires_at: datetime | None = None
    """When a lease ends, a reclamation or a bought time strikes."""
    supersedes: str = ""
    """The id this object had before the provider moved it: the record follows."""
    witness: str = ""
    """A digest the adapter can predict before the create, where listings carry no mark (a manifest hash)."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What a refresh saw, for every instance in the state and for what else carries our mark.

    An address maps to None when the object is certainly absent. An instance that could not be seen is not
    there: its provider is in `unreachable`, or it is itself in `unseen`.
    """

    instances: Mapping[Address, Observed | None]
    unreachable: Mapping[str, ProviderError] = field(default_factory=dict)
    orphans: tuple[tuple[str, Observed], ...] = ()
    """(provider, object) that carries our project and workspace, and that no record and no open intent claims."""
    imports: Mapping[Address, Observed | None] = field(default_factory=dict)
    accounts: Mapping[str, str] = field(default_factory=dict)
    """The account id behind each provider block that was asked."""
    unseen: Mapping[Address, str] = field(default_factory=dict)
    """Instances in a part of their account that could not be looked at, with the reason; the rest of it was seen."""
