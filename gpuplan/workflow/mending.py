"""Look into a stored state, and mend what is safe to mend. Called by `state verify`, `state recover`, `state rekey`."""

from dataclasses import replace

from gpuplan.core.diagnostics import Diagnostic
from gpuplan.core.errors import StateError
from gpuplan.core.ports import Clock
from gpuplan.core.state import State
from gpuplan.state.encryption import encrypted_state
from gpuplan.state.lock import acquire, lock_request
from gpuplan.state.mending import Inspection, inspect
from gpuplan.state.raw import CanMend
from gpuplan.workflow.ledger import hold_state
from gpuplan.workflow.places import configured_place, keys, open_place
from gpuplan.workflow.project import Project


async def inspect_state(project: Project, clock: Clock) -> tuple[Inspection, str]:
    """What is wrong, and where the state is. Changes nothing; needs no lock. Raises StateError where the type of
    backend gives no texts to look at."""
    backend = open_place(project, clock, configured_place(project))
    try:
        inner = _mendable(backend.inner, backend.location)
        return inspect(await inner.raw(), keys(project), backend.location), backend.location
    finally:
        await backend.close()


async def recover_state(project: Project, clock: Clock, shown: Inspection, *, patience_seconds: float = 0.0) -> State:
    """Do what an inspection said. Raises StateError where it says something else by now."""
    backend = open_place(project, clock, configured_place(project))
    keyring = keys(project)
    try:
        inner = _mendable(backend.inner, backend.location)
        request = lock_request(clock, "state recover")
        held = await acquire(backend.inner, request, patience_seconds=patience_seconds, clock=clock)
        try:
            now = inspect(await inner.raw(), keyring, backend.location)
            if now.mended is None or now != shown:
                raise _refusal("state-changed", "the state is not what it was a moment ago", "look at it again")
            state = now.mended.state
            await inner.put_back(encrypted_state(state, keyring) if keyring.writes else state, held=held)
        finally:
            await backend.unlock(held)
        return state
    finally:
        await backend.close()


async def rekey_state(project: Project, clock: Clock, *, patience_seconds: float = 0.0) -> tuple[State, bool]:
    """Write the state anew as it is, under the key that is there now; whether it is encrypted then."""
    backend = open_place(project, clock, configured_place(project))
    try:
        async with hold_state(
            backend, clock, operation="state rekey", create_project="", patience_seconds=patience_seconds
        ) as session:
            state = replace(session.state, serial=session.state.serial + 1)
            await backend.commit(state, held=session.held)
        return state, keys(project).writes
    finally:
        await backend.close()


def _mendable(backend: object, location: str) -> CanMend:
    if isinstance(backend, CanMend):
        return backend
    raise _refusal(
        "not-mendable",
        f"`{location}` is of a type that is mended with its own means",
        "restore it from a backup, or `gpuplan state push` a copy of the state",
    )


def _refusal(error_id: str, summary: str, hint: str) -> StateError:
    found = Diagnostic(id=error_id, summary=summary, facts=("nothing was changed",), hint=hint)
    return StateError(diagnostics=(found,))
