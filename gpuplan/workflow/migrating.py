"""Move a state from one backend to another, under the locks of both. Called by `state migrate`.

Copy, read back, compare, and only then mark the old one: it keeps everything, and tells whoever still uses it where the
state is now. Until that mark the old place counts, so a run that is cut off can be repeated; moving back is the same
the other way round.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gpuplan.core.diagnostics import Diagnostic
from gpuplan.core.errors import StateError, StateMoved
from gpuplan.core.ports import Clock, StateBackend
from gpuplan.core.state import LockInfo, State
from gpuplan.state.codec import encode_state
from gpuplan.state.lock import acquire, lock_request
from gpuplan.state.session import read_state
from gpuplan.workflow.ledger import hold_state
from gpuplan.workflow.places import open_place
from gpuplan.workflow.project import Project

if TYPE_CHECKING:
    from gpuplan.state.registry import Place

OPERATION = "state migrate"


@dataclass(frozen=True, slots=True)
class Migrated:
    """What went where; the locations are for messages."""

    state: State
    source: str
    target: str


async def migrate_state(
    project: Project,
    clock: Clock,
    *,
    source: "Place",
    target: "Place",
    overwrite: bool = False,
    patience_seconds: float = 0.0,
) -> Migrated:
    """Move the state of the project's workspace.

    `overwrite`: an older copy of the same state may be in the way, as one is after a migration that was cut off.
    Raises StateError where there is nothing to move, something else is in the way, or what was read back differs.
    """
    old, new = open_place(project, clock, source), open_place(project, clock, target)
    if old.location == new.location:
        raise _refusal("same-place", f"the state is in `{old.location}` already")
    try:
        if await read_state(old) is None:
            raise _refusal("nothing-to-migrate", f"there is no state in `{old.location}`")
        async with (
            hold_state(
                old, clock, operation=OPERATION, create_project="", patience_seconds=patience_seconds
            ) as session,
            _locked(new, clock, patience_seconds) as held,
        ):
            state = session.state
            await _put(new, state, held, overwrite=overwrite)
            await _check_copy(new, state)
            left = replace(state, serial=state.serial + 1, moved_to=target.url)
            await old.commit(left, held=session.held)
        return Migrated(state, old.location, new.location)
    finally:
        await old.close()
        await new.close()


@asynccontextmanager
async def _locked(backend: StateBackend, clock: Clock, patience_seconds: float) -> AsyncIterator[LockInfo]:
    held = await acquire(backend, lock_request(clock, OPERATION), patience_seconds=patience_seconds, clock=clock)
    try:
        yield held
    finally:
        await backend.unlock(held)


async def _put(new: StateBackend, state: State, held: LockInfo, *, overwrite: bool) -> None:
    try:
        stored = await new.load()
        found, is_left = stored.snapshot, False
    except StateMoved as exc:
        stored, found, is_left = None, exc.left, True
    if found is not None:
        if stored is not None and not stored.journal and encode_state(found) == encode_state(state):
            # The copy of a migration that was cut off.
            return
        is_older = overwrite and found.serial <= state.serial
        if found.lineage != state.lineage or not (is_left or is_older):
            raise _occupied(new.location, found, state)
        await new.discard(held=held)
    await new.commit(state, held=held)


async def _check_copy(new: StateBackend, state: State) -> None:
    copy = await new.load()
    if copy.snapshot is None or copy.journal or encode_state(copy.snapshot) != encode_state(state):
        raise _refusal(
            "copy-differs", f"what `{new.location}` gives back is not what was put there", "the state is where it was"
        )


def _occupied(location: str, found: State, state: State) -> StateError:
    if found.lineage != state.lineage:
        return _refusal(
            "state-exists", f"`{location}` holds another state", f"it is of `{found.project}`, lineage {found.lineage}"
        )
    return _refusal(
        "state-exists",
        f"`{location}` holds this state already",
        f"it is at serial {found.serial} there, the one to move is at {state.serial}",
        hint="if that is the copy of a migration that was cut off, add `--overwrite`: it stays as an earlier snapshot",
    )


def _refusal(error_id: str, summary: str, *facts: str, hint: str | None = None) -> StateError:
    return StateError(
        diagnostics=(Diagnostic(id=error_id, summary=summary, facts=(*facts, "nothing was changed"), hint=hint),)
    )
