"""A cluster with a `ttl`, from its first day to the day after its last."""

import pytest

from gpuplan.core.address import Address
from gpuplan.core.plan import Action, Mode, PlanOptions
from gpuplan.workflow.saved import save_plan
from tests.unit.workflow.town import SPEC, Town

SHORT = SPEC.replace("{provider: memory,", "{provider: memory, ttl: 1h,")
DESTROY = PlanOptions(mode=Mode.DESTROY)
AGAIN = PlanOptions(replace=(Address("clusters", "train"),))


@pytest.fixture
def over(town: Town) -> Town:
    """The town, an hour after the last node of its cluster was deleted because its time was over."""
    town.write("gpuplan.yaml", SHORT)
    town.apply()
    town.clock.advance(3601)
    outcome = town.apply().outcome
    assert outcome is not None
    assert (2, True) == (outcome.destroyed, outcome.complete)
    town.clock.advance(3600)
    return town


def actions(town: Town) -> list[Action]:
    return [change.action for change in town.plan().plan.changes.values()]


def test_what_has_expired_stays_gone_however_often_it_is_applied(over: Town) -> None:
    for _ in range(2):
        assert [] == actions(over)
        assert [] == list(over.world.living())
        over.apply()

    assert ["expired"] == [warning.id for warning in over.plan().plan.warnings]


def test_a_longer_time_or_another_cluster_is_a_new_life(over: Town) -> None:
    over.write("gpuplan.yaml", SHORT.replace("ttl: 1h", "ttl: 2h"))
    assert [Action.CREATE, Action.CREATE] == actions(over)

    over.write("gpuplan.yaml", SHORT.replace("ttl: 1h,", "ttl: 1h, image: b,"))
    over.apply()

    assert 2 == len(list(over.world.living()))
    assert not over.plan().has_changes


def test_it_comes_back_when_somebody_asks_for_it(over: Town) -> None:
    state = over.apply(AGAIN).state

    assert (2, {}) == (len(state.instances), state.expired)


@pytest.mark.parametrize("way", ["removed", "destroyed"])
def test_written_down_again_it_is_new(over: Town, way: str) -> None:
    if way == "removed":
        over.write("gpuplan.yaml", "version: 1\nproject: town\n")
        over.apply()
    else:
        over.apply(DESTROY)
    over.write("gpuplan.yaml", SHORT)

    assert [Action.CREATE, Action.CREATE] == actions(over)


def test_a_saved_plan_buries_what_it_deletes(town: Town) -> None:
    town.write("gpuplan.yaml", SHORT)
    town.apply()
    town.clock.advance(3601)
    planned = town.plan()

    applied = town.apply_saved(save_plan(planned.plan, town.project(), planned.configuration))

    assert 2 == len(applied.state.expired)
    assert [] == actions(town)


def test_what_vanished_when_its_time_was_over_stays_gone_too(town: Town) -> None:
    town.write("gpuplan.yaml", SHORT)
    town.apply()
    for thing in list(town.world.living()):
        town.world.vanish(thing.remote_id)
    town.clock.advance(3601)

    town.apply(PlanOptions(mode=Mode.REFRESH_ONLY))

    assert [] == actions(town)
