"""What is the same for every backend about the texts it keeps: reading them, how many stay, and what cannot be said.

Called by the modules of `backends`.
"""

from gpuplan.core.diagnostics import Diagnostic
from gpuplan.core.errors import StateError, StateMoved
from gpuplan.core.ports import Stored
from gpuplan.core.state import State
from gpuplan.state.codec import decode_state
from gpuplan.state.wal import Framing, entries_since, read_journal

KEPT_SNAPSHOTS = 10
"""How many earlier snapshots stay."""


class StateUnreachable(StateError):
    """No whole answer: what was asked for may have been done or not. The same may be tried again."""

    id = "state-unreachable"


def stored_of(snapshot: bytes | None, journal: bytes | None, where: str) -> Stored:
    """Snapshot and journal as texts, read. Raises StateCorrupt, StateMoved."""
    state = None if snapshot is None else here(decode_state(snapshot, where), where)
    if journal is None:
        return Stored(state, ())
    where = f"the journal of {where}"
    return Stored(state, entries_since(state, read_journal(journal, where), where))


def continued(base: State, journal: bytes, where: str) -> tuple[Framing, bytes]:
    """How to go on after the journal that stands (empty: there is none), and what has to stand before that."""
    if journal:
        found = read_journal(journal, where)
        if entries_since(base, found, where):
            return Framing.resume(journal, found), journal[: found.sound]
    return Framing.begin(base)


def here(state: State, where: str) -> State:
    """The state, unless it was migrated away: then StateMoved says where to."""
    if not state.moved_to:
        return state
    raise StateMoved(
        state,
        diagnostics=(
            Diagnostic(
                id=StateMoved.id,
                summary="this state has moved",
                facts=(f"it was in `{where}`", f"it is in `{state.moved_to}` now", "nothing was changed"),
                hint="say so under `state:` in the spec, or with",
                commands=(f"gpuplan plan --state {state.moved_to}",),
            ),
        ),
    )


def unreachable(location: str, said: str) -> StateUnreachable:
    """The error for a server that did not answer. `said` holds no credentials."""
    return StateUnreachable(
        diagnostics=(
            Diagnostic(
                id=StateUnreachable.id,
                summary=f"`{location}` did not answer",
                facts=(f"what was said: {said}", "everything recorded before is kept"),
                hint="run the command again once it answers: what was left open is settled then",
            ),
        )
    )


def refused(location: str, said: str, hint: str) -> StateError:
    """The error for a server that does not let us in, or does not do what a state needs."""
    return StateError(
        diagnostics=(
            Diagnostic(
                id="state-refused",
                summary=f"`{location}` refused",
                facts=(f"what was said: {said}", "nothing was changed"),
                hint=hint,
            ),
        )
    )
