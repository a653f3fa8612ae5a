"""In which order the operations of a plan come, and what each of them waits for."""

from dataclasses import replace
from typing import Any

import pytest

from gpuplan.core.address import Address
from gpuplan.core.desired import Desired, Lifecycle, Settings
from gpuplan.core.errors import PlanError
from gpuplan.core.plan import Action, Mode, Operation, Plan
from gpuplan.core.state import Deposed, Recorded
from gpuplan.plan.order import Weave, Yields
from gpuplan.plan.order import order as sort
from tests.unit.plan.build import PROVIDER, cluster, findings, have, ids, order, plan, spec, state, survey, want

NODE = "clusters.a.nodes[0]"
DATA = "volumes.data"
CREATE_FIRST = Settings(lifecycle=Lifecycle(create_before_destroy=True))


def needs(made: Plan, name: str) -> set[str]:
    return {need for operation in made.operations if operation.id == name for need in operation.needs}


def replaced(name: str, *, on: tuple[str, ...] = (), **more: Any) -> tuple[Desired, Recorded]:
    attribute = "region" if name.startswith("volumes") else "image"
    return want(name, {attribute: "new"}, needs=on, **more), have(name, {attribute: "old"}, needs=on)


def both(*pairs: tuple[Desired, Recorded]) -> Plan:
    return plan(spec(*(desired for desired, _ in pairs)), state(*(recorded for _, recorded in pairs)))


def test_a_create_waits_for_what_it_needs() -> None:
    made = plan(spec(want(NODE, needs=[DATA]), want(DATA)))

    assert {f"create {DATA}"} == needs(made, f"create {NODE}")
    assert [f"create {DATA}", f"create {NODE}"] == order(made, f"create {DATA}", f"create {NODE}")


def test_a_removed_node_is_deleted_before_the_volume_it_mounts() -> None:
    made = plan(spec(), state(have(NODE, needs=[DATA]), have(DATA)))

    assert {f"delete {NODE}"} == needs(made, f"delete {DATA}")


def test_a_create_waits_through_an_instance_that_stays() -> None:
    made = plan(
        spec(want(NODE, needs=["clusters.b.nodes[0]"]), want("clusters.b.nodes[0]", needs=[DATA]), want(DATA)),
        state(have("clusters.b.nodes[0]")),
    )

    assert {f"create {DATA}"} == needs(made, f"create {NODE}")


def test_both_replaced_delete_first() -> None:
    made = both(replaced(NODE, on=(DATA,)), replaced(DATA))

    expected = [f"delete {NODE}", f"delete {DATA}", f"create {DATA}", f"create {NODE}"]
    assert expected == order(made, *expected)


def test_create_before_destroy_spreads_to_what_it_depends_on() -> None:
    made = both(replaced(NODE, on=(DATA,), settings=CREATE_FIRST), replaced(DATA))

    expected = [f"create {DATA}", f"create {NODE}", f"delete {NODE} (deposed)", f"delete {DATA} (deposed)"]
    assert expected == order(made, *expected)
    assert {f"create {NODE}"} <= needs(made, f"delete {NODE} (deposed)")
    assert {f"delete {NODE} (deposed)"} <= needs(made, f"delete {DATA} (deposed)")


def test_create_before_destroy_does_not_spread_to_dependents() -> None:
    made = both(replaced(NODE, on=(DATA,)), replaced(DATA, settings=CREATE_FIRST))

    assert {f"delete {NODE}", f"create {DATA}"} == needs(made, f"create {NODE}")
    assert {f"delete {NODE}", f"create {DATA}"} == needs(made, f"delete {DATA} (deposed)")


def test_a_volume_goes_only_when_its_user_was_changed_to_do_without() -> None:
    prior = state(have(NODE, {"labels": {"v": "1"}}, needs=[DATA]), have(DATA))

    made = plan(spec(want(NODE, {"labels": {}})), prior)

    assert {f"update {NODE}"} == needs(made, f"delete {DATA}")


def test_that_courtesy_yields_where_it_would_be_a_circle() -> None:
    """The middle layer is removed, its user now uses the lower one, which is deleted before it is created."""
    lower_wanted, lower = replaced("volumes.lower")
    prior = state(have(NODE, {"labels": {"v": "1"}}, needs=[DATA]), have(DATA, needs=["volumes.lower"]), lower)

    made = plan(spec(want(NODE, {"labels": {}}, needs=["volumes.lower"]), lower_wanted), prior)

    expected = [f"delete {DATA}", "delete volumes.lower", "create volumes.lower", f"update {NODE}"]
    assert expected == order(made, *expected)


def test_a_dependency_on_a_whole_cluster_costs_one_join() -> None:
    nodes = cluster("train", 50)
    users = [want(f"volumes.v{number}", needs=["clusters.train"]) for number in range(50)]

    made = plan(spec(*nodes, *users))

    joins = [operation for operation in made.operations if operation.action is Action.NO_OP]
    assert ["join clusters.train"] == [join.id for join in joins]
    assert 50 == len(joins[0].needs)
    assert {"join clusters.train"} == needs(made, "create volumes.v7")
    assert 101 == len(order(made, *ids(made)))


def test_deletes_below_a_whole_cluster_cost_two_joins_at_most() -> None:
    nodes = [have(str(node.address)) for node in cluster("train", 50)]
    users = [have(f"volumes.v{number}", needs=["clusters.train"]) for number in range(50)]

    made = plan(spec(), state(*nodes, *users))

    assert {"join clusters.train (dependents gone)"} == needs(made, "delete clusters.train.nodes[3]")
    assert 101 == len(order(made, *ids(made)))


def test_a_node_may_depend_on_another_node_of_its_cluster() -> None:
    head, worker = cluster("a", 2)

    made = plan(spec(head, replace(worker, depends_on=frozenset({head.address}))))

    assert {"create clusters.a.nodes[0]"} == needs(made, "create clusters.a.nodes[1]")


@pytest.mark.parametrize("allowed", [1, 2])
def test_a_rolling_replacement_takes_away_only_so_many_nodes_at_once(allowed: int) -> None:
    nodes = cluster("a", 5, {"image": "new"}, settings=Settings(max_unavailable=allowed))
    prior = state(*(have(str(node.address), {"image": "old"}) for node in nodes))

    made = plan(spec(*nodes), prior)

    for number in range(allowed, 5):
        expected = {f"create clusters.a.nodes[{number - allowed}]"}
        assert expected == needs(made, f"delete clusters.a.nodes[{number}]")
    assert set() == needs(made, f"delete clusters.a.nodes[{allowed - 1}]")


def test_nodes_that_are_gone_already_count_as_away() -> None:
    nodes = cluster("a", 3, {"image": "new"}, settings=Settings(max_unavailable=1))
    prior = state(*(have(str(node.address), {"image": "old"}) for node in nodes))

    made = plan(spec(*nodes), prior, survey(prior, ("clusters.a.nodes[2]", None)))

    assert {"create clusters.a.nodes[2]"} == needs(made, "delete clusters.a.nodes[0]")


def test_restarting_updates_roll_too() -> None:
    nodes = cluster("a", 3, {"env": {"A": "2"}}, settings=Settings(max_unavailable=1))
    prior = state(*(have(str(node.address), {"env": {"A": "1"}}) for node in nodes))

    made = plan(spec(*nodes), prior)

    assert {"update clusters.a.nodes[0]"} == needs(made, "update clusters.a.nodes[1]")


def test_rolling_yields_with_a_warning_where_a_shared_dependency_is_deleted_first() -> None:
    nodes = cluster("a", 3, {"image": "new"}, needs=[DATA], settings=Settings(max_unavailable=1))
    wanted, recorded = replaced(DATA)
    prior = state(recorded, *(have(str(node.address), {"image": "old"}, needs=[DATA]) for node in nodes))

    made = plan(spec(wanted, *nodes), prior)

    assert ["no-rolling-replacement"] == [warning.id for warning in made.warnings]
    assert 8 == len(order(made, *ids(made)))


def test_rolling_holds_where_the_shared_dependency_is_created_first() -> None:
    nodes = cluster("a", 3, {"image": "new"}, needs=[DATA], settings=Settings(max_unavailable=1))
    wanted, recorded = replaced(DATA, settings=CREATE_FIRST)
    prior = state(recorded, *(have(str(node.address), {"image": "old"}, needs=[DATA]) for node in nodes))

    made = plan(spec(wanted, *nodes), prior)

    assert () == made.warnings
    assert {"create clusters.a.nodes[0]"} <= needs(made, "delete clusters.a.nodes[1]")


def test_deposed_objects_go_before_the_record_that_names_them() -> None:
    old = Deposed(PROVIDER, "acct", have(NODE).kind, "old", "t")

    made = plan(spec(), state(have(NODE, deposed=(old,))))

    assert {f"delete {NODE} (deposed)"} == needs(made, f"delete {NODE}")


def test_create_first_gives_the_old_object_a_name_beside_earlier_deposed_ones() -> None:
    wanted, recorded = replaced(NODE, settings=CREATE_FIRST)
    old = Deposed(PROVIDER, "acct", recorded.kind, "old", "t")

    made = plan(spec(wanted), state(replace(recorded, deposed=(old,))))

    assert {(f"delete {NODE} (deposed)", "old"), (f"delete {NODE} (deposed 2)", NODE)} == {
        (operation.id, operation.remote_id) for operation in made.operations if operation.deposed
    }


def test_recorded_dependencies_that_became_circular_do_not_forbid_a_destroy() -> None:
    prior = state(have(NODE, needs=[DATA]), have(DATA, needs=[NODE]))

    made = plan(spec(), prior, mode=Mode.DESTROY)

    assert {f"delete {NODE}", f"delete {DATA}"} == set(order(made, *ids(made)))


def test_a_circle_of_rules_that_do_not_yield_is_reported() -> None:
    weave = Weave()
    first = weave.add(Operation("create a", Action.CREATE, Address("volumes", "a")))
    second = weave.add(Operation("create b", Action.CREATE, Address("volumes", "b")), first)
    weave.needs[first].append(second)
    weave.prefer(second, first, Yields.FIRST)

    with pytest.raises(PlanError) as caught:
        sort(weave)

    assert ("`create a` is part of the circle", "`create b` is part of the circle") == findings(caught)[
        "operations-cycle"
    ].facts
