from dataclasses import replace

import pytest

from gpuplan.core.address import Address
from gpuplan.core.desired import Kind
from gpuplan.core.errors import GpuplanError
from gpuplan.core.state import Recorded, State
from gpuplan.workflow.visiting import one_node
from tests.unit.plan.build import have


def state(*instances: Recorded) -> State:
    return State("lineage", 1, bytes(32), instances={each.address: each for each in instances})


GROUP = replace(have("clusters.crowd", {"nodes": 3}), kind=Kind.GROUP)
NODES = [have(f"clusters.train.nodes[{index}]") for index in range(2)]
VOLUME = have("volumes.disk")
STATE = state(GROUP, *NODES, VOLUME, have("clusters.solo.nodes[0]"))


@pytest.mark.parametrize(
    ("address", "found", "member"),
    [
        ("clusters.train.nodes[1]", "clusters.train.nodes[1]", None),
        ("clusters.solo", "clusters.solo.nodes[0]", None),
        ("clusters.crowd.nodes[2]", "clusters.crowd", 2),
    ],
)
def test_an_address_names_one_node(address: str, found: str, member: int | None) -> None:
    recorded, index = one_node(STATE, Address.parse(address))

    assert (found, member) == (str(recorded.address), index)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("clusters.train", "`clusters.train` names 2 instances"),
        ("clusters.crowd", "`clusters.crowd` names 3 instances"),
        ("clusters.crowd.nodes[3]", "`clusters.crowd` has 3 nodes, and no `clusters.crowd.nodes[3]`"),
        ("clusters.nobody", "`clusters.nobody` is not in the state"),
        ("volumes.disk", "`volumes.disk` is no node"),
    ],
)
def test_an_address_of_no_single_node_is_refused(address: str, message: str) -> None:
    with pytest.raises(GpuplanError) as caught:
        one_node(STATE, Address.parse(address))

    assert message == caught.value.diagnostics[0].summary
