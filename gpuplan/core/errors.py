"""Every error gpuplan raises on purpose.

    GpuplanError                 exit code 1; carries diagnostics
    ├── SpecError                the spec is wrong; nothing was sent. Carries all findings, not the first
    ├── PlanError                no plan exists: cycle, no offer, capability missing
    │   └── PlanStale            a saved plan whose state or spec moved on
    ├── StateError
    │   ├── StateLocked          someone else works here
    │   ├── StateStale           the serial or the fence moved on
    │   ├── LineageMismatch      this state is another one
    │   ├── StateMoved           it lives elsewhere now; says where
    │   ├── StateEncrypted       there is no key for it, or another one
    │   └── StateCorrupt         does not verify; the file is left untouched
    ├── ProviderError            who, what, status, vendor code and message, request id
    │   ├── Refused              definite: it did not happen
    │   │   ├── AuthFailed InvalidRequest NotFound Conflict NoCapacity QuotaExceeded RateLimited Unavailable Unsupported
    │   │   │   └── NoCredentials    there is no key to send; says where it was looked for
    │   │   └── HostKeyChanged   whoever answers is not the node of before
    │   ├── OutcomeUnknown       it may have happened: the intent stays open
    │   ├── NotReady             it was begun and is recorded, but it did not come to its end
    │   └── ProtocolMismatch     an answer we do not understand: as OutcomeUnknown for effects
    └── InternalError            our bug

What decides between types is what the caller does next (`retry`), not what went wrong.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from gpuplan.core.diagnostics import Diagnostic, Locator

if TYPE_CHECKING:
    from gpuplan.core.state import State


class Retry(StrEnum):
    """What the caller may do with a failed request."""

    NEVER = "never"
    LATER = "later"
    AFTER_LOOK = "after_look"


class GpuplanError(Exception):
    """Base of all; a message, or ready diagnostics."""

    id = "error"
    locator: Locator | None = None
    """Finds the positions its labels speak of; set by whoever read the spec."""

    def __init__(self, message: str = "", *, diagnostics: tuple[Diagnostic, ...] = ()) -> None:
        super().__init__(message or "; ".join(d.summary for d in diagnostics))
        self._diagnostics = diagnostics

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        return self._diagnostics or (Diagnostic(id=self.id, summary=str(self)),)


class SpecError(GpuplanError):
    id = "spec"


class PlanError(GpuplanError):
    id = "plan"


class PlanStale(PlanError):
    id = "plan-stale"


class StateError(GpuplanError):
    id = "state"


class StateLocked(StateError):
    id = "state-locked"


class StateStale(StateError):
    id = "state-stale"


class LineageMismatch(StateError):
    id = "lineage-mismatch"


class StateMoved(StateError):
    """`left` is what stayed behind: the last snapshot there, which names the new place."""

    id = "state-moved"

    def __init__(self, left: "State", *, diagnostics: tuple[Diagnostic, ...]) -> None:
        super().__init__(diagnostics=diagnostics)
        self.left = left


class StateEncrypted(StateError):
    """It cannot be read without its key."""

    id = "state-encrypted"


class StateCorrupt(StateError):
    id = "state-corrupt"


class InternalError(GpuplanError):
    id = "internal"


@dataclass(frozen=True, slots=True)
class Failure:
    """What is known of a failed provider call. `message` is the vendor's own, already redacted and cut."""

    provider: str
    operation: str
    message: str = ""
    status: int | None = None
    code: str | None = None
    request_id: str | None = None
    gpu: str | None = None
    hint: str | None = None
    leftover: str = ""
    """Remote id of an object that exists although the call failed: it is recorded before anything else."""
    facts: tuple[str, ...] = field(default=())


class ProviderError(GpuplanError):
    id = "provider"
    retry = Retry.NEVER
    wording = "`{provider}` could not {operation}"

    def __init__(self, failure: Failure) -> None:
        super().__init__(self.wording.format(provider=failure.provider, operation=failure.operation))
        self.failure = failure

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        known = self.failure
        facts = list(known.facts)
        if known.gpu:
            facts.append(f"asked for {known.gpu}")
        if known.message:
            facts.append(f"the provider says: {known.message}")
        parts = [
            f"request id {known.request_id}" if known.request_id else "",
            f"status {known.status}" if known.status else "",
            f"`{known.code}`" if known.code else "",
        ]
        if any(parts):
            facts.append(", ".join(part for part in parts if part))
        return (Diagnostic(id=self.id, summary=str(self), facts=tuple(facts), hint=known.hint),)

    def __str__(self) -> str:
        return self.wording.format(provider=self.failure.provider, operation=self.failure.operation)

    def about(self, *, gpu: str | None = None, hint: str | None = None) -> "ProviderError":
        """The same error with more context: the GPU that was asked for, a hint."""
        return type(self)(replace(self.failure, gpu=gpu or self.failure.gpu, hint=hint or self.failure.hint))


class Refused(ProviderError):
    """It certainly did not happen."""

    id = "refused"
    wording = "`{provider}` refused to {operation}"


class AuthFailed(Refused):
    id = "auth-failed"
    wording = "`{provider}` does not accept these credentials, asked to {operation}"


class NoCredentials(AuthFailed):
    """Nothing was sent: there is no key. `facts` say where it was looked for, `hint` how to get one."""

    id = "no-credentials"
    wording = "`{provider}` has no credentials, asked to {operation}"


class HostKeyChanged(Refused):
    """Somebody else may have answered in the place of a node. Nothing was sent there."""

    id = "host-key-changed"
    wording = "a node of `{provider}` answers with another host key than before, asked to {operation}"


class InvalidRequest(Refused):
    id = "invalid-request"
    wording = "`{provider}` does not accept the request to {operation}"


class NotFound(Refused):
    id = "not-found"
    wording = "`{provider}` knows no such object, asked to {operation}"


class Conflict(Refused):
    """The object is in a state that forbids this now (being deleted, attached, locked)."""

    id = "conflict"
    retry = Retry.LATER
    wording = "`{provider}` cannot {operation} in the state the object is in"


class NoCapacity(Refused):
    """Nothing of this kind is free here now; the next candidate of a placement may have it."""

    id = "no-capacity"
    wording = "`{provider}` has no capacity left, asked to {operation}"


class QuotaExceeded(Refused):
    id = "quota-exceeded"
    wording = "the account at `{provider}` is at its limit, asked to {operation}"


class RateLimited(Refused):
    id = "rate-limited"
    retry = Retry.LATER
    wording = "`{provider}` asks us to slow down, asked to {operation}"

    def __init__(self, failure: Failure, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(failure)
        self.retry_after_seconds = retry_after_seconds


class Unavailable(Refused):
    """It could not be reached, or said itself that it did nothing (503 before the effect, connection refused)."""

    id = "unavailable"
    retry = Retry.LATER
    wording = "`{provider}` could not be reached, asked to {operation}"


class Unsupported(Refused):
    """The provider has no such thing; found at plan time wherever capabilities can tell."""

    id = "unsupported"
    wording = "`{provider}` cannot {operation}"


class OutcomeUnknown(ProviderError):
    """It may have happened: no answer after the request left, or a 5xx to an effect."""

    id = "outcome-unknown"
    retry = Retry.AFTER_LOOK
    wording = "`{provider}` did not answer; it is not known whether it did {operation}"


class NotReady(ProviderError):
    """It was begun, and then failed, vanished or took too long: a node that did not come up, a delete without end."""

    id = "not-ready"
    wording = "`{provider}` did not get done what it was asked: {operation}"


class ProtocolMismatch(ProviderError):
    """It answered something we do not understand: for an effect that is an unknown outcome."""

    id = "protocol-mismatch"
    retry = Retry.AFTER_LOOK
    wording = "`{provider}` answered something gpuplan does not understand, asked to {operation}"
