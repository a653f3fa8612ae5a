"""Plan, apply, drift and saved plans, wired together over a provider in memory."""

import json

import pytest

from gpuplan.core.errors import OutcomeUnknown, PlanError, PlanStale, StateLocked, Unavailable
from gpuplan.core.plan import Action, DriftKind, Mode, PlanOptions
from gpuplan.core.secret import Secret
from gpuplan.state.lock import lock_request
from gpuplan.testing.memory import memory_provider
from gpuplan.testing.memory_world import Call, Fault, failed
from gpuplan.workflow.applying import import_object
from gpuplan.workflow.ledger import look_at_state, open_state
from gpuplan.workflow.saved import read_saved, save_plan
from tests.unit.workflow.town import SPEC, Town


def saved(town: Town, **changes) -> str:
    planned = town.plan(**changes)
    return save_plan(planned.plan, town.project(**changes), planned.configuration)


def actions(town: Town, **changes) -> list[Action]:
    return [change.action for change in town.plan(**changes).plan.changes.values()]


def test_a_plan_before_the_first_apply_writes_nothing(town: Town):
    assert [Action.CREATE, Action.CREATE] == actions(town)
    assert not (town.folder / "state").exists()


def test_apply_leaves_nothing_to_plan(town: Town):
    outcome = town.apply().outcome

    assert outcome is not None
    assert (2, 0, 0, True) == (outcome.added, outcome.changed, outcome.destroyed, outcome.complete)
    assert not town.plan().has_changes


def test_a_no_changes_nothing_and_releases_the_lock(town: Town):
    assert town.apply(yes=False).outcome is None
    assert {} == town.world.objects
    assert town.run(open_state(town.project(), town.clock).holder()) is None


def test_a_changed_output_alone_is_a_change(town: Town):
    town.apply()
    town.write("gpuplan.yaml", SPEC + "  more: text\n")
    planned = town.plan()

    assert planned.plan.is_empty
    assert [("more", None, "text")] == list(planned.output_changes)
    assert "text" == town.apply().state.outputs["more"]
    assert not town.plan().has_changes


def test_a_sensitive_output_is_no_change_while_it_stays_the_same(town: Town):
    town.write("gpuplan.yaml", SPEC + '  token: {value: "${vars.token}", sensitive: true}\n')
    town.apply()

    assert not town.plan().has_changes
    assert town.plan(variables={"token": "another-one"}).has_changes


def test_destroy_takes_the_outputs_along(town: Town):
    town.apply()
    applied = town.apply(PlanOptions(mode=Mode.DESTROY))

    assert ({}, {}) == (applied.state.instances, applied.state.outputs)


def test_a_saved_plan_brings_its_variables_and_no_secret(town: Town):
    text = saved(town, variables={"workers": "3", "token": "hunter3-hunter3"})

    assert {"workers": 3} == json.loads(text)["variables"]
    assert "hunter3" not in text
    applied = town.apply_saved(text, variables={"token": "hunter3-hunter3"})
    assert applied.outcome is not None
    assert 3 == applied.outcome.added


def test_a_saved_plan_is_refused_without_the_same_secret(town: Town):
    text = saved(town, variables={"token": "hunter3-hunter3"})

    with pytest.raises(PlanStale):
        town.apply_saved(text)
    assert {} == town.world.objects


def test_a_saved_plan_is_refused_once_the_state_has_moved(town: Town):
    text = saved(town)
    town.apply()

    with pytest.raises(PlanStale):
        town.apply_saved(text)


def test_a_saved_plan_keeps_the_limits_of_whoever_applies_it(town: Town):
    town.apply()
    text = saved(town, variables={"workers": "0"})

    with pytest.raises(PlanError, match="would destroy 2, and --max-destroy allows 1"):
        town.apply_saved(text, PlanOptions(max_destroy=1))
    assert 2 == len(town.apply_saved(text, PlanOptions(max_destroy=2)).outcome.done)


def test_objects_of_a_first_saved_plan_carry_the_lineage_of_the_state(town: Town):
    state = town.apply_saved(saved(town)).state

    assert {state.lineage} == {thing.mark.lineage for thing in town.world.objects.values()}


def test_a_saved_plan_can_be_read_from_another_place(town: Town):
    text = saved(town, workspace="staging")

    project, _, plan = read_saved(town.project(), text)

    assert ("staging", "staging") == (project.workspace, plan.workspace)


def test_a_provider_that_does_not_answer_is_no_plan_and_no_drift(town: Town):
    town.apply()
    town.world.script = _silent

    with pytest.raises(PlanError) as caught:
        town.plan()
    assert caught.value.locator is not None
    assert [DriftKind.UNREACHABLE] == [drift.kind for drift in town.drift().drift]


def test_what_may_exist_is_not_created_again_while_nobody_can_look(town: Town):
    town.world.script = lambda call: _mute(call) if town.world.objects or call.verb == "create" else None
    town.apply()
    assert 2 == len(town.world.objects)

    with pytest.raises(PlanError) as caught:
        town.apply(PlanOptions(refreshed=False))
    assert {"intent-open"} == {found.id for found in caught.value.diagnostics}

    town.world.script = None
    town.apply()
    assert 2 == len(town.world.objects)


def test_drift_is_found_without_a_lock_and_changes_nothing(town: Town):
    town.apply()
    gone = next(iter(town.world.objects.values()))
    town.run(memory_provider(town.world).delete(gone.kind, gone.remote_id, {}))
    before = (town.folder / "state" / "default.json").read_bytes()
    backend = open_state(town.project(), town.clock)
    held = town.run(backend.lock(lock_request(town.clock, "apply")))

    assert [DriftKind.MISSING] == [drift.kind for drift in town.drift().drift]
    assert before == (town.folder / "state" / "default.json").read_bytes()
    town.run(backend.unlock(held))


def test_apply_while_another_run_holds_the_state_names_it(town: Town):
    backend = open_state(town.project(), town.clock)
    held = town.run(backend.lock(lock_request(town.clock, "apply")))

    with pytest.raises(StateLocked, match="`apply` of"):
        town.apply()
    town.run(backend.unlock(held))


def test_import_takes_one_object_over_and_touches_nothing_else(town: Town):
    town.apply(variables={"workers": "1"})
    made = next(iter(town.world.objects.values()))
    town.write("gpuplan.yaml", SPEC.replace("project: town", "project: other"))
    address = next(iter(town.plan().plan.changes))

    project = town.project(workspace="other")
    town.run(import_object(project, address, made.remote_id, town.orders(True)))

    state = town.run(look_at_state(project, town.clock))
    assert state is not None
    assert {address: made.remote_id} == {each: record.remote_id for each, record in state.instances.items()}
    assert 1 == len(town.world.objects)


def test_secrets_of_the_spec_are_known_to_what_providers_log(town: Town):
    configuration = town.plan().configuration

    assert "hunter2" not in configuration.redactor("said hunter2-hunter2 aloud")
    assert all(isinstance(d.candidates[0].attrs["env"]["TOKEN"], Secret) for d in configuration.instances.values())


def _silent(call: Call) -> Fault | None:
    return Fault(failed(Unavailable, call)) if call.verb in ("list", "get", "health") else None


def _mute(call: Call) -> Fault | None:
    """It does what it is asked, but no answer comes back."""
    return Fault(failed(OutcomeUnknown, call), after=True)
