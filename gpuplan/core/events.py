"""What happened during a run, for progress, plain lines and `--json`. One class per event; `schemas/event.v1.json`."""

from dataclasses import dataclass
from typing import TypeAlias

from gpuplan.core.address import Address


@dataclass(frozen=True, slots=True)
class RunStarted:
    operations: int
    parallelism: int


@dataclass(frozen=True, slots=True)
class OperationStarted:
    operation: str
    action: str
    address: Address
    provider: str


@dataclass(frozen=True, slots=True)
class OperationProgress:
    """Something worth a line while it goes on: a step of a creation, a retry, a failed place."""

    operation: str
    address: Address
    text: str


@dataclass(frozen=True, slots=True)
class OperationFinished:
    operation: str
    action: str
    address: Address
    remote_id: str
    seconds: float


@dataclass(frozen=True, slots=True)
class OperationFailed:
    operation: str
    action: str
    address: Address
    error_id: str
    message: str
    seconds: float


@dataclass(frozen=True, slots=True)
class OperationSkipped:
    operation: str
    action: str
    address: Address
    because: str
    """The id of the operation it needed."""


@dataclass(frozen=True, slots=True)
class IntentSettled:
    seq: int
    address: Address
    outcome: str
    text: str


@dataclass(frozen=True, slots=True)
class RefreshStarted:
    accounts: int
    instances: int


@dataclass(frozen=True, slots=True)
class RefreshFinished:
    found: int
    missing: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Interrupted:
    in_flight: int


@dataclass(frozen=True, slots=True)
class RunFinished:
    added: int
    changed: int
    destroyed: int
    failed: int
    skipped: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Looked:
    """A round of `gpuplan watch`: the instances of the state, how many things drifted, what an apply would change."""

    instances: int
    drifted: int
    changes: int


@dataclass(frozen=True, slots=True)
class DriftBegan:
    """It was not so in the round before. `subject` is an address, or what else drifted."""

    kind: str
    subject: str
    provider: str
    text: str


@dataclass(frozen=True, slots=True)
class DriftEnded:
    """It was so in the round before."""

    kind: str
    subject: str
    provider: str


@dataclass(frozen=True, slots=True)
class RoundFailed:
    """A round of `gpuplan watch` that came to no end; the next one tries again."""

    error_id: str
    message: str


Event: TypeAlias = (
    RunStarted
    | OperationStarted
    | OperationProgress
    | OperationFinished
    | OperationFailed
    | OperationSkipped
    | IntentSettled
    | RefreshStarted
    | RefreshFinished
    | Interrupted
    | RunFinished
    | Looked
    | DriftBegan
    | DriftEnded
    | RoundFailed
)
