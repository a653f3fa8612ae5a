"""Close an intent by the word of a person, where nobody else can look any more. Called by `state settle`.

The provider may be gone, or its credentials; as long as the intent is open, nothing is created at its address.
"""

from collections.abc import Sequence
from dataclasses import replace

from gpuplan.core.diagnostics import Diagnostic
from gpuplan.core.errors import StateError
from gpuplan.core.plan import Action
from gpuplan.core.ports import Clock
from gpuplan.core.state import Ended, Entry, Intent, Noted, Outcome, Phase, State
from gpuplan.engine.records import objects, with_living
from gpuplan.workflow.ledger import look_at_state
from gpuplan.workflow.project import Project


async def open_intents(project: Project, clock: Clock) -> Sequence[Intent]:
    """In the order in which they began."""
    state = await look_at_state(project, clock)
    return [] if state is None else sorted(state.intents.values(), key=lambda intent: intent.seq)


def happened(state: State, seq: int, remote_id: str) -> Sequence[Entry]:
    """The create of this intent made the object `remote_id`: it is recorded, and the next plan looks at it.

    Raises StateError for an intent that is not open or creates nothing, and for an object that is recorded already.
    """
    intent = _open(state, seq)
    if intent.action != Action.CREATE or intent.draft is None:
        raise _refusal("intent-creates-nothing", f"intent {seq} is to {intent.action} `{intent.address}`")
    for recorded in state.instances.values():
        owned = {(thing.provider, thing.kind, thing.remote_id) for thing in objects(recorded)}
        if (intent.provider, intent.kind, remote_id) in owned:
            raise _refusal("object-taken", f"`{remote_id}` is in the state already", f"it is `{recorded.address}`")
    draft = with_living(intent.draft, state.instances.get(intent.address))
    recorded = replace(draft, remote_id=remote_id, phase=Phase.PENDING)
    return (Noted(intent.address, recorded), Ended(seq, Outcome.DONE))


def never_happened(state: State, seq: int) -> Sequence[Entry]:
    """Nothing came of this intent. Raises StateError for one that is not open."""
    _open(state, seq)
    return (Ended(seq, Outcome.NEVER),)


def _open(state: State, seq: int) -> Intent:
    if seq not in state.intents:
        known = ", ".join(map(str, sorted(state.intents)))
        raise _refusal("no-such-intent", f"no intent {seq} is open", f"open are: {known}" if known else "none is open")
    return state.intents[seq]


def _refusal(error_id: str, summary: str, *facts: str) -> StateError:
    return StateError(diagnostics=(Diagnostic(id=error_id, summary=summary, facts=(*facts, "nothing was changed")),))
