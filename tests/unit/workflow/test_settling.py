"""What a person says of an intent counts where nobody can look any more."""

from collections.abc import Sequence

import pytest

from gpuplan.core.errors import OutcomeUnknown, PlanError, StateError
from gpuplan.core.state import Entry, Phase, State
from gpuplan.testing.memory_world import Call, Fault, failed
from gpuplan.workflow.applying import Applied
from gpuplan.workflow.ledger import edit_state, look_at_state
from gpuplan.workflow.settling import happened, never_happened, open_intents
from tests.unit.workflow.town import SPEC, Town


def apply(town: Town, workers: int) -> Applied:
    return town.apply(variables={"workers": str(workers)})


def in_doubt(town: Town, verb: str, workers: int) -> int:
    """Apply, at a provider that does not answer to `verb` and to nothing after it; the number of the open intent."""
    before = town.world.count(verb)

    def script(call: Call) -> Fault | None:
        mute = call.verb == verb or town.world.count(verb) > before
        return Fault(failed(OutcomeUnknown, call), after=True) if mute else None

    town.world.script = script
    apply(town, workers)
    town.world.script = None
    (intent,) = town.run(open_intents(town.project(), town.clock))
    return intent.seq


def settle(town: Town, seq: int, remote_id: str = "") -> State:
    def edit(state: State) -> Sequence[Entry]:
        return happened(state, seq, remote_id) if remote_id else never_happened(state, seq)

    town.run(edit_state(town.project(), town.clock, "state settle", edit))
    state = town.run(look_at_state(town.project(), town.clock))
    assert state is not None
    return state


def test_what_was_created_is_recorded_and_the_next_plan_looks_at_it(town: Town) -> None:
    seq = in_doubt(town, "create", 1)
    (thing,) = town.world.living()

    state = settle(town, seq, thing.remote_id)

    (recorded,) = state.instances.values()
    assert (thing.remote_id, Phase.PENDING, {}) == (recorded.remote_id, recorded.phase, state.intents)
    assert recorded.token == thing.mark.token
    assert not town.plan(variables={"workers": "1"}).plan.operations


def test_what_never_happened_is_made_again(town: Town) -> None:
    seq = in_doubt(town, "create", 1)
    (thing,) = town.world.living()
    town.world.vanish(thing.remote_id)

    state = settle(town, seq)

    assert ({}, {}) == (state.instances, state.intents)
    assert 1 == len(town.plan(variables={"workers": "1"}).plan.operations)


def test_as_long_as_it_is_open_nothing_is_made_there_and_the_way_out_is_named(town: Town) -> None:
    seq = in_doubt(town, "create", 1)
    town.write(
        "gpuplan.yaml",
        SPEC.replace("memory: {}", "other: {type: memory}").replace("provider: memory", "provider: other"),
    )

    with pytest.raises(PlanError) as caught:
        town.plan(variables={"workers": "1"})

    (finding,) = caught.value.diagnostics
    assert ("intent-open", (f"gpuplan state settle {seq} created ID", f"gpuplan state settle {seq} never")) == (
        finding.id,
        finding.commands,
    )
    settle(town, seq)
    assert 1 == len(town.plan(variables={"workers": "1"}).plan.operations)


@pytest.mark.parametrize("remote_id", ["", "node-1"])
def test_an_intent_that_is_not_open_is_refused(town: Town, remote_id: str) -> None:
    in_doubt(town, "create", 1)

    with pytest.raises(StateError, match="no intent 99 is open"):
        settle(town, 99, remote_id)


def test_an_object_that_has_an_address_gets_no_other(town: Town) -> None:
    apply(town, 1)
    (taken,) = town.world.living()
    seq = in_doubt(town, "create", 2)

    with pytest.raises(StateError, match=f"`{taken.remote_id}` is in the state already"):
        settle(town, seq, taken.remote_id)


def test_an_intent_to_delete_has_created_nothing(town: Town) -> None:
    apply(town, 1)
    seq = in_doubt(town, "delete", 0)

    with pytest.raises(StateError, match=r"is to delete `clusters.train.nodes\[0\]`"):
        settle(town, seq, "node-1")
    assert {} == settle(town, seq).intents
