"""What gpuplan knows it owns, and the journal entries that change it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from gpuplan.core.address import Address
from gpuplan.core.desired import Kind
from gpuplan.core.values import Attrs, Facts, JsonValue

FORMAT = 1


class Phase(StrEnum):
    """How far an instance came. PENDING: created, not yet seen ready, and nothing says it failed.
    TAINTED: did not become usable; the next apply replaces it."""

    PENDING = "pending"
    READY = "ready"
    TAINTED = "tainted"


@dataclass(frozen=True, slots=True)
class Deposed:
    """The old object of a create-first replacement, or a failed attempt: still to be deleted."""

    provider: str
    account: str
    kind: Kind
    remote_id: str
    token: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """One instance as the state has it. Secrets in `attrs` are `Sealed`, references are `Ref` with the id they had."""

    address: Address
    kind: Kind
    provider: str
    account: str
    remote_id: str
    token: str
    attrs: Attrs
    facts: Facts
    depends_on: frozenset[Address]
    created_at: datetime
    phase: Phase
    deposed: tuple[Deposed, ...] = ()
    create_before_destroy: bool = False
    """Kept because the order of a later destroy depends on it, when the spec no longer has the resource."""


class Outcome(StrEnum):
    DONE = "done"
    NEVER = "never"
    """It certainly did not happen."""
    FAILED = "failed"
    """It happened, and what came of it is recorded as tainted or was cleaned up."""


@dataclass(frozen=True, slots=True)
class Intent:
    """'I am about to': durable before the request leaves, open until an `Ended` closes it."""

    seq: int
    operation: str
    action: str
    address: Address
    kind: Kind
    provider: str
    account: str
    begun_at: datetime
    token: str
    """Of a create; empty for other actions."""
    remote_id: str
    """What the operation acts on; empty for a create until the provider named it."""
    draft: Recorded | None
    """What the state will say once it is done: for a create, all but the remote id and the facts."""
    witness: str = ""
    """What `Observed.witness` will be, where listings carry no mark."""


@dataclass(frozen=True, slots=True)
class Begun:
    intent: Intent


@dataclass(frozen=True, slots=True)
class Noted:
    """The instance is now this; None: it is gone from the state."""

    address: Address
    recorded: Recorded | None


@dataclass(frozen=True, slots=True)
class Ended:
    seq: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class OutputsSet:
    values: Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Renamed:
    """The instance has another address from here on. One entry, so that no crash leaves it under both or neither."""

    source: Address
    target: Address


@dataclass(frozen=True, slots=True)
class Expired:
    """What an instance was whose time is over: it stays gone for as long as the spec asks for the very same."""

    address: Address
    provider: str
    attrs: Attrs
    """As they were recorded."""
    ttl_seconds: float
    expired_at: datetime


@dataclass(frozen=True, slots=True)
class Buried:
    """The time of the instance is over; None: that counts no more. A record at the address ends it too."""

    address: Address
    expired: Expired | None


@dataclass(frozen=True, slots=True)
class Encrypted:
    """The entries of one append, for who has the key."""

    text: str


Entry: TypeAlias = Begun | Noted | Ended | OutputsSet | Renamed | Buried | Encrypted


@dataclass(frozen=True, slots=True)
class State:
    """A snapshot with the journal folded in. `lineage` is its identity, `serial` its version; `key` seals secrets."""

    lineage: str
    serial: int
    key: bytes = field(repr=False)
    project: str = ""
    instances: Mapping[Address, Recorded] = field(default_factory=dict)
    intents: Mapping[int, Intent] = field(default_factory=dict)
    outputs: Mapping[str, JsonValue] = field(default_factory=dict)
    next_seq: int = 1
    moved_to: str = ""
    """Where this state lives now, as `--state` takes it; empty: here."""
    expired: Mapping[Address, Expired] = field(default_factory=dict)
    """Instances that outlived their `ttl`, and are not to come back by themselves."""
    encrypted: str = field(default="", repr=False)
    """All of it, for who has the key; of what is readable, only lineage, serial, project and `moved_to` count then."""


@dataclass(frozen=True, slots=True)
class LockInfo:
    """Who holds the state. `fence` grows with every lock ever given, so that a stalled owner can be told apart."""

    id: str
    operation: str
    who: str
    host: str
    pid: int
    started_at: float
    """Start time of the process, in the host's own clock ticks since boot: tells a reused pid from the owner."""
    created_at: datetime
    expires_at: datetime
    version: str
    fence: int = 0
    boot: str = ""
    """Which boot and process namespace `pid` counts in; empty where the platform does not tell."""
