"""The shapes of the state files, as types.

`codec` writes and reads them; `json_schema` turns them into `schemas/state.v1.json`. Values (`attrs`) are encoded by
`core.encoding`: a reference is `{"$ref": ADDRESS, "id": ID}`, a sealed secret `{"$sealed": DIGEST}`.
"""

from typing import NotRequired

from typing_extensions import TypedDict

from gpuplan.core.desired import Kind
from gpuplan.core.state import Outcome, Phase


class DeposedDocument(TypedDict):
    """The old object of a create-first replacement, or a failed attempt: still to be deleted."""

    account: str
    kind: Kind
    provider: str
    remote_id: str
    token: str


class RecordedDocument(TypedDict):
    """One instance."""

    account: str
    address: str
    attrs: dict[str, object]
    create_before_destroy: bool
    created_at: str
    deposed: list[DeposedDocument]
    depends_on: list[str]
    facts: dict[str, object]
    kind: Kind
    phase: Phase
    provider: str
    remote_id: str
    token: str


class IntentDocument(TypedDict):
    """Something a run was about to do, and of which no outcome is recorded yet."""

    account: str
    action: str
    address: str
    begun_at: str
    draft: RecordedDocument | None
    kind: Kind
    operation: str
    provider: str
    remote_id: str
    seq: int
    token: str
    witness: str


class StateDocument(TypedDict):
    """A snapshot: `state/<workspace>.json`. `digest` covers every byte before it and may be absent."""

    digest: NotRequired[str]
    format: int
    instances: list[RecordedDocument]
    intents: list[IntentDocument]
    key: str
    lineage: str
    next_seq: int
    outputs: dict[str, object]
    project: str
    serial: int


class HeaderDocument(TypedDict):
    """The first line of a journal: the snapshot it belongs to."""

    format: int
    lineage: str
    serial: int


class BegunDocument(TypedDict):
    begun: IntentDocument


class NotedDocument(TypedDict):
    noted: RecordedDocument


class GoneDocument(TypedDict):
    gone: str


class OutcomeDocument(TypedDict):
    outcome: Outcome
    seq: int


class EndedDocument(TypedDict):
    ended: OutcomeDocument


class OutputsDocument(TypedDict):
    outputs: dict[str, object]


class RenameDocument(TypedDict):
    source: str
    target: str


class RenamedDocument(TypedDict):
    renamed: RenameDocument


EntryDocument = BegunDocument | NotedDocument | GoneDocument | EndedDocument | OutputsDocument | RenamedDocument
"""One line of a journal after the first."""
