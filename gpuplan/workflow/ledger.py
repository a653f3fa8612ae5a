"""Where the state lives, holding it for the length of a run, and the edits that people ask for.

Called by the rest of `workflow`, and by the commands that look at the state or edit it.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from gpuplan.core.diagnostics import Diagnostic
from gpuplan.core.errors import StateError
from gpuplan.core.ports import Clock, StateBackend
from gpuplan.core.state import Entry, Noted, State
from gpuplan.state.backends.local import workspaces
from gpuplan.state.lock import lock_request
from gpuplan.state.session import Session, push_state, read_state
from gpuplan.workflow.places import STATE_FOLDER, configured_place, open_place, opening
from gpuplan.workflow.project import DEFAULT_WORKSPACE, Project


def open_state(project: Project, clock: Clock) -> StateBackend:
    """The backend of the project's workspace; touches nothing yet."""
    if project.backend is not None:
        return project.backend(clock)
    return open_place(project, clock, configured_place(project))


@asynccontextmanager
async def hold_state(
    backend: StateBackend, clock: Clock, *, operation: str, create_project: str, patience_seconds: float = 0.0
) -> AsyncIterator[Session]:
    """The state under its lock. Raises StateLocked naming the holder once the patience ends."""
    session = await Session.open(
        backend,
        clock,
        request=lock_request(clock, operation),
        create_project=create_project,
        patience_seconds=patience_seconds,
    )
    try:
        yield session
    finally:
        await session.close()


def unborn(project: str) -> State:
    """What stands for the state before the first apply: no lineage, nothing in it."""
    return State(lineage="", serial=0, key=bytes(32), project=project)


async def look_at_state(project: Project, clock: Clock) -> State | None:
    """The state as it is now, without a lock; None before the first apply."""
    backend = open_state(project, clock)
    try:
        return await read_state(backend)
    finally:
        await backend.close()


async def edit_state(
    project: Project,
    clock: Clock,
    operation: str,
    edit: Callable[[State], Sequence[Entry]],
    *,
    patience_seconds: float = 0.0,
) -> int:
    """Write what `edit` makes of the state, under the lock. Returns how many instances it removed."""
    backend = open_state(project, clock)
    try:
        async with hold_state(
            backend, clock, operation=operation, create_project="", patience_seconds=patience_seconds
        ) as session:
            entries = edit(session.state)
            await session.write(*entries)
            await session.commit()
    finally:
        await backend.close()
    return sum(isinstance(entry, Noted) and entry.recorded is None for entry in entries)


async def push(project: Project, clock: Clock, state: State) -> State:
    """Put an edited state in place of the stored one. Raises LineageMismatch and StateStale."""
    backend = open_state(project, clock)
    try:
        return await push_state(backend, clock, request=lock_request(clock, "state push"), pushed=state)
    finally:
        await backend.close()


async def break_lock(project: Project, clock: Clock, lock_id: str) -> None:
    """Remove a lock by its id. Raises StateError that names the real one for any other id."""
    backend = open_state(project, clock)
    try:
        await backend.break_lock(lock_id)
    finally:
        await backend.close()


async def known_workspaces(project: Project, clock: Clock) -> list[str]:
    """Those that have a state, the default one, and the one that is selected."""
    place = configured_place(project)
    if place is None:
        found = workspaces(project.folder / STATE_FOLDER)
    else:
        found = await place.workspaces(opening(project, clock))
    return sorted({DEFAULT_WORKSPACE, project.workspace, *found})


async def create_workspace(project: Project, clock: Clock, name: str) -> None:
    """Give a workspace an empty state of its own. Raises StateError for a name that cannot be one."""
    backend = open_state(replace(project, workspace=name), clock)
    try:
        async with hold_state(backend, clock, operation="workspace new", create_project=""):
            pass
    finally:
        await backend.close()


async def delete_workspace(project: Project, clock: Clock, name: str) -> None:
    """Remove an empty state; earlier snapshots are kept. Raises StateError while it has anything."""
    backend = open_state(replace(project, workspace=name), clock)
    try:
        async with hold_state(backend, clock, operation="workspace delete", create_project="") as session:
            if session.state.instances or session.state.intents:
                raise _not_empty(name, len(session.state.instances))
            await backend.discard(held=session.held)
    finally:
        await backend.close()


def _not_empty(name: str, count: int) -> StateError:
    found = Diagnostic(
        id="workspace-not-empty",
        summary=f"the workspace `{name}` still has something in it",
        facts=(f"its state has {count} instances", "nothing was changed"),
        hint="destroy them first",
        commands=(f"gpuplan destroy --workspace {name}",),
    )
    return StateError(diagnostics=(found,))
