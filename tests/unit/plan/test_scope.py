"""What expressions see while a plan is made."""

from typing import Any

import pytest

from gpuplan.core.address import Address
from gpuplan.core.desired import Kind, Output, Policy
from gpuplan.core.diagnostics import Diagnostic
from gpuplan.core.errors import PlanError, SpecError
from gpuplan.core.observed import Status
from gpuplan.core.plan import Plan
from gpuplan.core.secret import Secret
from gpuplan.core.state import Phase
from gpuplan.core.values import UNKNOWN, Deferred, Ref, Value
from tests.unit.plan.build import (
    GROUPS,
    PROVIDER,
    address,
    cluster,
    findings,
    have,
    plan,
    seen,
    spec,
    state,
    survey,
    want,
)

DATA = Address("volumes", "data")


def seeing(resource: Address, *instances: Any, prior: Any = None) -> Any:
    """What an output sees of a resource once the plan is applied."""
    expression = Deferred("${}", frozenset({resource}), lambda scope: scope.view(resource))
    return plan(spec(*instances, outputs={"it": Output(expression, False, ())}), prior).outputs["it"]


def test_what_is_to_be_created_is_known_as_far_as_the_spec_says_it() -> None:
    view = seeing(DATA, want("volumes.data", {"size_gb": 10}))

    assert {"size_gb": 10, "name": "data", "id": UNKNOWN} == view
    assert UNKNOWN == view["path"]


def test_what_stays_is_known_with_its_facts() -> None:
    prior = state(have("volumes.data", {"size_gb": 10}, facts={"path": "/x"}))

    view = seeing(DATA, want("volumes.data", {"size_gb": 10}), prior=prior)

    assert {"size_gb": 10, "path": "/x", "name": "data", "id": "volumes.data"} == view


def test_a_fact_that_a_node_on_its_way_up_does_not_tell_yet_is_unknown() -> None:
    prior = state(have("clusters.a.nodes[0]", facts={"host": "h"}, phase=Phase.PENDING))
    name = "clusters.a.nodes[0]"
    sights = survey(prior, (name, seen(prior.instances[address(name)], Status.STARTING)))
    head = Address("clusters", "a")
    expression = Deferred("${}", frozenset({head}), lambda scope: scope.view(head))

    made = plan(spec(*cluster("a", 1), outputs={"it": Output(expression, False, ())}), prior, sights)

    view: Any = made.outputs["it"]
    (node,) = view["nodes"]
    assert ("h", UNKNOWN) == (node["host"], node["public_ip"])


def test_a_group_has_as_many_unknown_nodes_as_it_asks_for() -> None:
    group = want("clusters.g", {"nodes": 2}, kind=Kind.GROUP)
    expression = Deferred("${}", frozenset({group.address}), lambda scope: scope.view(group.address))
    made = plan(
        spec(group, outputs={"it": Output(expression, False, ())}),
        capabilities={PROVIDER: GROUPS},
    )

    view: Any = made.outputs["it"]
    assert [UNKNOWN, UNKNOWN] == [node["ip"] for node in view["nodes"]]


def test_a_cluster_has_its_nodes_without_those_that_go() -> None:
    nodes = cluster("a", 2)
    prior = state(*(have(f"clusters.a.nodes[{number}]") for number in range(3)))

    view = seeing(Address("clusters", "a"), *nodes, prior=prior)

    assert "a" == view["name"]
    assert ["a-0", "a-1"] == [node["name"] for node in view["nodes"]]


def test_a_cluster_without_nodes_is_empty() -> None:
    assert {"name": "a", "nodes": []} == seeing(Address("clusters", "a"))


@pytest.mark.parametrize(
    ("names", "shape"),
    [
        (["volumes.data[0]", "volumes.data[1]"], ["volumes.data[0]", "volumes.data[1]"]),
        (['volumes.data["eu"]'], {"eu": 'volumes.data["eu"]'}),
    ],
)
def test_several_blocks_are_a_list_by_count_and_a_mapping_by_key(names: list[str], shape: Any) -> None:
    view = seeing(DATA, *map(want, names), prior=state(*map(have, names)))

    items = view.items() if isinstance(view, dict) else enumerate(view)
    assert shape == type(shape)(
        {key: item["id"] for key, item in items} if isinstance(view, dict) else [item["id"] for _, item in items]
    )


def test_one_block_can_be_seen_alone() -> None:
    name = 'volumes.data["eu"]'

    assert name == seeing(address(name), want(name), prior=state(have(name)))["id"]


def failing(scope: Any) -> Value:
    raise SpecError(diagnostics=(Diagnostic("no-such-field", "it has no such field"),))


def test_an_expression_that_cannot_be_computed_is_an_error_of_the_plan() -> None:
    expression = Deferred("${volumes.data.typo}", frozenset({DATA}), failing)
    wanted = want("clusters.a.nodes[0]", {"image": expression})

    with pytest.raises(PlanError) as in_attribute:
        plan(spec(want("volumes.data"), wanted))
    with pytest.raises(PlanError) as in_output:
        plan(spec(outputs={"x": Output(expression, False, ())}))

    assert {"no-such-field"} == set(findings(in_attribute)) == set(findings(in_output))


def test_a_policy_that_cannot_be_computed_is_an_error_of_the_plan() -> None:
    with pytest.raises(PlanError) as caught:
        plan(spec(want("volumes.data"), policies=(Policy(failing, "x", ()),)))  # type: ignore[arg-type]

    assert {"no-such-field"} == set(findings(caught))


def test_policies_see_plain_values_only() -> None:
    views: list[Any] = []

    def allow(view: Any) -> bool:
        views.append(view)
        return False

    attrs: dict[str, Value] = {
        "env": {"T": Secret("hf_canary")},
        "volumes": [Ref(DATA)],
        "image": Deferred("${}", frozenset(), lambda scope: UNKNOWN),
    }
    made: Plan = plan(
        spec(want("volumes.data"), want("clusters.a.nodes[0]", attrs), policies=(Policy(allow, "x", ()),))
    )

    assert not made.is_empty
    assert ({"T": "(sensitive)"}, ["volumes.data"], None) == (
        views[0]["env"],
        views[0]["volumes"],
        views[0]["image"],
    )


def test_a_target_that_needs_an_unselected_instance_sees_it_as_recorded() -> None:
    prior = state(have("volumes.data", {"size_gb": 10}), have("volumes.other"))

    made = plan(
        spec(want("volumes.data", {"size_gb": 10}), want("volumes.other")),
        prior,
        survey(prior),
        targets=(address("volumes.other"),),
    )

    assert [address("volumes.other")] == list(made.changes)
