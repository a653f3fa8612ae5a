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


class ExpiredDocument(TypedDict):
    """An instance that outlived its `ttl`, and stays gone while the spec asks for the very same."""

    address: str
    attrs: dict[str, object]
    expired_at: str
    provider: str
    ttl_seconds: float


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
    """A snapshot: `state/<workspace>.json`. `digest` covers every byte before it and may be absent; `moved_to` is there
    once the state was migrated away."""

    digest: NotRequired[str]
    expired: NotRequired[list[ExpiredDocument]]
    format: int
    instances: list[RecordedDocument]
    intents: list[IntentDocument]
    key: str
    lineage: str
    moved_to: NotRequired[str]
    next_seq: int
    outputs: dict[str, object]
    project: str
    serial: int


class EncryptedStateDocument(TypedDict):
    """A snapshot for who has the key: what is readable besides is bound to it."""

    digest: NotRequired[str]
    encrypted: str
    format: int
    lineage: str
    moved_to: NotRequired[str]
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


class BuriedDocument(TypedDict):
    buried: ExpiredDocument


class LiftedDocument(TypedDict):
    """The address of an instance that may come back."""

    lifted: str


class EncryptedDocument(TypedDict):
    """The entries of one append, for who has the key."""

    encrypted: str


EntryDocument = (
    BegunDocument
    | NotedDocument
    | GoneDocument
    | EndedDocument
    | OutputsDocument
    | RenamedDocument
    | BuriedDocument
    | LiftedDocument
    | EncryptedDocument
)
"""One line of a journal after the first."""
