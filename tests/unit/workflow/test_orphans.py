"""Orphans over a provider in memory: who is one, what adopting records, what destroying leaves."""

import shutil
from collections.abc import Sequence

import pytest

from gpuplan.core.errors import Conflict, InvalidRequest, StateError, StateLocked, Unavailable
from gpuplan.core.plan import Action
from gpuplan.state.lock import lock_request
from gpuplan.testing.memory_world import Call, Fault, failed
from gpuplan.workflow.adoption import Orphan
from gpuplan.workflow.ledger import look_at_state, open_state
from gpuplan.workflow.orphans import Found, Swept, adopt_orphans, destroy_orphans, list_orphans
from tests.unit.workflow.town import SPEC, Town

ONE = SPEC.replace("default: 2", "default: 1")
MOUNTED = (
    ONE.replace("nodes:", 'volumes: [{volume: "${volumes.data}", mount: /data}], nodes:')
    + "volumes:\n  data: {provider: memory, size_gb: 10}\n"
)


async def everything(found: Found) -> Sequence[Orphan]:
    return found.orphans


def orphans(town: Town) -> Found:
    return town.run(list_orphans(town.project(), clock=town.clock))


def adopt(town: Town) -> Sequence[Orphan]:
    return town.run(adopt_orphans(town.project(), everything, clock=town.clock, patience_seconds=0))


def destroy(town: Town) -> Swept:
    return town.run(destroy_orphans(town.project(), everything, clock=town.clock, patience_seconds=0))


def lose_the_state(town: Town) -> None:
    shutil.rmtree(town.folder / "state")


def addresses(found: Sequence[Orphan]) -> list[str]:
    return [str(orphan.address) for orphan in found]


@pytest.fixture
def lost(town: Town) -> Town:
    """Two nodes, and no state that has them."""
    town.apply()
    lose_the_state(town)
    return town


def test_what_the_state_has_is_no_orphan(town: Town) -> None:
    town.apply()

    assert [] == orphans(town).orphans


def test_what_another_project_or_workspace_has_is_no_orphan(lost: Town) -> None:
    lost.write("gpuplan.yaml", SPEC.replace("town", "village"))
    assert [] == orphans(lost).orphans

    lost.write("gpuplan.yaml", SPEC)
    elsewhere = lost.project(workspace="staging")
    assert [] == lost.run(list_orphans(elsewhere, clock=lost.clock)).orphans


def test_a_lost_state_leaves_orphans_at_the_addresses_they_had(lost: Town) -> None:
    assert ["clusters.train.nodes[0]", "clusters.train.nodes[1]"] == addresses(orphans(lost).orphans)


def test_kinds_that_the_spec_no_longer_speaks_of_are_looked_at_too(lost: Town) -> None:
    lost.write("gpuplan.yaml", "version: 1\nproject: town\nproviders:\n  memory: {}\n")

    assert 2 == len(orphans(lost).orphans)


def test_after_adopting_there_is_nothing_to_plan(lost: Town) -> None:
    assert 2 == len(adopt(lost))

    assert lost.plan().plan.is_empty
    assert [] == orphans(lost).orphans


def test_no_secret_reaches_the_state_by_adopting(lost: Town) -> None:
    adopt(lost)

    assert "hunter2" not in (lost.folder / "state" / "default.json").read_text()


def test_an_orphan_that_the_spec_does_not_have_is_deleted_by_the_next_plan(lost: Town) -> None:
    lost.write("gpuplan.yaml", ONE)
    adopt(lost)

    changes = lost.plan().plan.changes
    assert [Action.DELETE] == [change.action for change in changes.values() if change.action is not Action.NO_OP]
    assert "hunter2" not in (lost.folder / "state" / "default.json").read_text()


def test_an_address_that_has_another_object_is_not_given_a_second_one(lost: Town) -> None:
    lost.apply()

    with pytest.raises(StateError, match="is in the state already"):
        adopt(lost)

    state = lost.run(look_at_state(lost.project(), lost.clock))
    assert state is not None
    assert 2 == len(state.instances)


def test_two_orphans_of_one_address_are_left_to_the_person(lost: Town) -> None:
    lost.apply()
    lose_the_state(lost)

    with pytest.raises(StateError, match=r"2 objects carry the mark of `clusters.train.nodes\[0\]`"):
        adopt(lost)


def test_a_locked_state_adopts_nothing(lost: Town) -> None:
    backend = open_state(lost.project(), lost.clock)
    lost.run(backend.lock(lock_request(lost.clock, "apply")))

    with pytest.raises(StateLocked):
        adopt(lost)


def test_destroying_deletes_the_objects_and_nothing_else(lost: Town) -> None:
    lost.apply()

    swept = destroy(lost)

    assert (2, []) == (len(swept.chosen), list(swept.failures))
    assert not lost.plan().has_changes


def test_nodes_are_destroyed_before_the_volume_they_mount(town: Town) -> None:
    town.write("gpuplan.yaml", MOUNTED)
    town.apply()
    lose_the_state(town)

    assert [] == list(destroy(town).failures)
    assert ["node", "volume"] == [str(call.kind) for call in town.world.calls if call.verb == "delete"]


def test_adopted_nodes_refer_to_the_volume_that_is_adopted_with_them(town: Town) -> None:
    town.write("gpuplan.yaml", MOUNTED)
    town.apply()
    lose_the_state(town)

    adopt(town)

    assert town.plan().plan.is_empty


def test_a_delete_that_is_refused_for_now_is_repeated(lost: Town) -> None:
    left = [1]

    def busy(call: Call) -> Fault | None:
        if call.verb != "delete" or not left[0]:
            return None
        left[0] -= 1
        return Fault(failed(Conflict, call))

    lost.world.script = busy

    assert [] == list(destroy(lost).failures)
    assert [] == orphans(lost).orphans


def test_what_cannot_be_deleted_is_told_and_stays_an_orphan(lost: Town) -> None:
    first = orphans(lost).orphans[0].observed.remote_id

    def stubborn(call: Call) -> Fault | None:
        is_first = call.verb == "delete" and call.remote_id == first
        return Fault(failed(InvalidRequest, call)) if is_first else None

    lost.world.script = stubborn
    (failure,) = destroy(lost).failures

    assert "does not accept the request to delete" in str(failure)
    assert [first] == [orphan.observed.remote_id for orphan in orphans(lost).orphans]


def test_an_account_that_does_not_answer_is_told_and_its_orphans_are_not(lost: Town) -> None:
    lost.world.script = lambda call: Fault(failed(Unavailable, call)) if call.verb == "list" else None

    found = orphans(lost)

    assert ([], ["memory"]) == (list(found.orphans), list(found.silent))
