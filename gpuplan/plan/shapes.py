"""The shapes of a saved plan, as types.

`encoding` writes them, `decoding` reads them, `json_schema` turns them into `schemas/plan.v1.json`. Attribute values
are encoded as in the state; a sensitive value is `{"$sensitive": true}`. Money is a decimal number as text.
"""

from typing_extensions import TypedDict

from gpuplan.core.desired import Kind
from gpuplan.core.diagnostics import Severity
from gpuplan.core.observed import Status
from gpuplan.core.offers import Pricing, Stock
from gpuplan.core.plan import Action, DriftKind, Mode
from gpuplan.core.state import Phase


class AtDocument(TypedDict):
    """A place in the spec, by keys and indexes; `key` means the key itself instead of its value."""

    path: list[str | int]
    key: bool


class SpanDocument(TypedDict):
    file: str
    line: int
    column: int
    length: int


class LabelDocument(TypedDict):
    where: AtDocument | SpanDocument
    text: str


class DiagnosticDocument(TypedDict):
    id: str
    severity: Severity
    summary: str
    labels: list[LabelDocument]
    facts: list[str]
    hint: str | None
    commands: list[str]


class ReasonDocument(TypedDict):
    """Why one attribute, or the instance as a whole (`path` empty), leads to the change."""

    path: str
    before: object
    after: object
    forces_replace: bool
    needs_stop: bool
    text: str
    at: AtDocument | None


class DeposedDocument(TypedDict):
    provider: str
    account: str
    kind: Kind
    remote_id: str
    token: str


class RecordedDocument(TypedDict):
    """An instance as the state has it."""

    kind: Kind
    provider: str
    account: str
    remote_id: str
    token: str
    attrs: dict[str, object]
    facts: dict[str, object]
    depends_on: list[str]
    created_at: str
    phase: Phase
    deposed: list[DeposedDocument]
    create_before_destroy: bool


class ObservedDocument(TypedDict):
    """A live object as the refresh saw it; what its attributes were is told by the reasons."""

    kind: Kind
    remote_id: str
    status: Status
    facts: dict[str, object]
    detail: str
    healthy: bool | None
    expires_at: str | None
    address: str | None
    """Whose it is by its ownership mark."""


class OfferDocument(TypedDict):
    provider: str
    ref: str
    region: str
    zone: str
    instance_type: str
    gpu: str
    gpu_count: int
    gpu_memory_gb: float | None
    cpu: float | None
    memory_gb: float | None
    disk_gb: float | None
    pricing: Pricing
    price_per_hour: str | None
    stock: Stock
    max_count: int | None
    reliability: float | None
    confidential: bool
    seen_at: str
    expires_at: str | None
    facts: dict[str, object]
    host: str
    gpu_slice: str


class RankedDocument(TypedDict):
    """A place that was considered: the number of the candidate in the spec, the offer, and what an instance would have
    there as far as it is known; null where it was rejected."""

    candidate: int
    provider: str
    offer: OfferDocument | None
    rejected: str
    attrs: dict[str, object] | None


class ChangeDocument(TypedDict):
    """What happens to one instance. `places` is an index into the plan's `places`, which equal nodes share."""

    address: str
    action: Action
    desired: bool
    """Whether the spec has the instance."""
    reasons: list[ReasonDocument]
    places: int | None
    create_first: bool
    import_id: str
    moved_from: str | None
    prior: RecordedDocument | None
    refreshed: RecordedDocument | None
    observed: ObservedDocument | None


class OperationDocument(TypedDict):
    """One side effect, after the operations it needs."""

    id: str
    action: Action
    address: str
    provider: str
    needs: list[str]
    remote_id: str
    deposed: bool


class DriftDocument(TypedDict):
    kind: DriftKind
    address: str | None
    provider: str
    reasons: list[ReasonDocument]
    remote_id: str
    text: str
    at: AtDocument | None


class PlanDocument(TypedDict):
    """A saved plan. Instances that stay as they are appear in `unchanged` only."""

    format: int
    project: str
    workspace: str
    lineage: str
    serial: int
    spec_digest: str
    mode: Mode
    made_at: str
    partial: bool
    hourly_before: str | None
    hourly_after: str | None
    unchanged: int
    """How many instances stay as they are."""
    spec_files: dict[str, str]
    """Digests of the files the spec was read from, by name."""
    variables: dict[str, object]
    """Values the spec's variables were given, the sensitive ones left out."""
    outputs: dict[str, object]
    lifted: list[str]
    """What had expired and is not in the spec any more."""
    warnings: list[DiagnosticDocument]
    drift: list[DriftDocument]
    orphans: list[ObservedDocument]
    places: list[list[RankedDocument]]
    changes: list[ChangeDocument]
    operations: list[OperationDocument]
