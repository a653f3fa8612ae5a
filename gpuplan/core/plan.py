"""The plan: what would change and why, and the operations that carry it out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from gpuplan.core.address import Address
from gpuplan.core.desired import Candidate, Desired
from gpuplan.core.diagnostics import At, Diagnostic
from gpuplan.core.observed import Observed
from gpuplan.core.offers import Offer
from gpuplan.core.state import Recorded
from gpuplan.core.values import Attrs, Value


class Action(StrEnum):
    NO_OP = "no-op"
    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    DELETE = "delete"
    START = "start"
    STOP = "stop"
    EXTEND = "extend"
    ADOPT = "adopt"
    FORGET = "forget"
    READ = "read"
    """Look until it is ready: a node that was created by a run that did not live to see it up."""


class Mode(StrEnum):
    NORMAL = "normal"
    DESTROY = "destroy"
    REFRESH_ONLY = "refresh-only"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why one attribute, or the instance as a whole (`path` empty), leads to the change."""

    path: str
    before: Value = None
    after: Value = None
    forces_replace: bool = False
    needs_stop: bool = False
    text: str = ""
    """For reasons that are no attribute: `is tainted`, `was deleted outside of gpuplan`, `is not in the spec`."""
    at: At | None = None


@dataclass(frozen=True, slots=True)
class Ranked:
    """One place that was considered for a new instance. `rejected` says why it is out; empty: it is a candidate."""

    candidate: Candidate
    offer: Offer | None
    rejected: str = ""
    attrs: Attrs | None = None
    """What the instance would have there, as far as it is known while planning; None for a rejected place."""


@dataclass(frozen=True, slots=True)
class Change:
    """Desired against prior and observed, for one instance."""

    address: Address
    action: Action
    desired: Desired | None
    prior: Recorded | None
    observed: Observed | None
    reasons: tuple[Reason, ...] = ()
    places: tuple[Ranked, ...] = ()
    """For create and replace: where it may be created, best first; the first without `rejected` is the choice. For an
    update that changes its `instance_type`: the offer of the new one."""
    refreshed: Recorded | None = None
    """What the state says after the refresh, when that differs from `prior`."""
    create_first: bool = False
    """For a replace: create the new object before the old one is deleted."""
    import_id: str = ""
    moved_from: Address | None = None

    @property
    def chosen(self) -> Ranked | None:
        for place in self.places:
            if not place.rejected:
                return place
        return None


class DriftKind(StrEnum):
    MISSING = "missing"
    STOPPED = "stopped"
    CHANGED = "changed"
    UNHEALTHY = "unhealthy"
    ORPHANED = "orphaned"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class Drift:
    """Prior and observed disagree. For ORPHANED and UNREACHABLE `address` may be None."""

    kind: DriftKind
    address: Address | None
    provider: str
    reasons: tuple[Reason, ...] = ()
    remote_id: str = ""
    text: str = ""
    at: At | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """One node of the operation graph: one side effect on one instance. A NO_OP operation joins many needs into one.

    A replace is lowered to CREATE and DELETE. `remote_id` is the object that any operation but a CREATE acts on.
    """

    id: str
    action: Action
    address: Address
    provider: str = ""
    needs: tuple[str, ...] = ()
    remote_id: str = ""
    deposed: bool = False
    """The object is a deposed one; the instance's own record stays."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All changes of a run, in address order, and the operations in a valid order. Pure data, byte-stable."""

    project: str
    workspace: str
    lineage: str
    serial: int
    spec_digest: str
    mode: Mode
    made_at: datetime
    changes: Mapping[Address, Change]
    operations: tuple[Operation, ...]
    drift: tuple[Drift, ...] = ()
    outputs: Mapping[str, Value] = field(default_factory=dict)
    hourly_before: Decimal | None = None
    hourly_after: Decimal | None = None
    """USD per hour; None where a price is not known."""
    warnings: tuple[Diagnostic, ...] = ()
    orphans: tuple[Observed, ...] = ()
    partial: bool = False
    """Made with --target or --exclude: does not speak of the rest."""
    lifted: tuple[Address, ...] = ()
    """What had expired and is not in the spec any more: written down again, it is new."""

    @property
    def is_empty(self) -> bool:
        """Whether applying it would do nothing at all, to the state neither but for facts that are noted in passing."""
        return not self.operations and not any(map(self._is_noted, self.changes.values()))

    def _is_noted(self, change: Change) -> bool:
        """Whether a change without operations is one of the state that was asked for."""
        if self.mode is Mode.REFRESH_ONLY:
            return change.refreshed is not None or change.action is Action.FORGET
        return change.moved_from is not None


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """What the command line asks of a plan."""

    mode: Mode = Mode.NORMAL
    targets: tuple[Address, ...] = ()
    excludes: tuple[Address, ...] = ()
    replace: tuple[Address, ...] = ()
    refreshed: bool = True
    """False under `--refresh=false`: the survey is empty and the state is taken at its word."""
    workspace: str = "default"
    max_destroy: int | None = None
    max_hourly: Decimal | None = None
