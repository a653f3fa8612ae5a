"""What price lists are asked for, and when it is sure that they will be."""

from typing import Any

import pytest

from gpuplan.core.address import Address
from gpuplan.core.desired import Candidate, Configuration, Import, Moved
from gpuplan.core.gpus import GpuRequest
from gpuplan.core.offers import OfferQuery
from gpuplan.core.plan import Mode, PlanOptions
from gpuplan.core.values import UNKNOWN, Deferred, Ref
from gpuplan.plan.demand import demand, surely_asked
from tests.unit.plan.build import address, have, spec, state, want

LATER = Deferred("${volumes.v.region}", frozenset(), lambda scope: UNKNOWN)
NODE = "clusters.a.nodes[0]"


def asked(*attrs: dict[str, Any], **more: Any) -> OfferQuery:
    nodes = (want(f"clusters.c{number}.nodes[0]", each) for number, each in enumerate(attrs))
    return demand(spec(*nodes, **more))["here"]


def test_one_kind_of_node_is_asked_for_exactly() -> None:
    query = asked({"gpu": "L40S:2", "region": "EU", "disk_gb": 100, "spot": {}})

    assert OfferQuery("L40S", 2, ("EU",), spot=True, disk_gb=100) == query


def test_several_kinds_are_asked_for_together() -> None:
    query = asked({"gpu": "L40S", "region": "EU", "disk_gb": 100}, {"region": "US", "disk_gb": 50})

    machines = (GpuRequest("", 0), GpuRequest("L40S", 1))
    assert OfferQuery(regions=("EU", "US"), spot=False, machines=machines, disk_gb=50) == query


@pytest.mark.parametrize(
    ("attrs", "query"),
    [
        ({"instance_type": "big"}, OfferQuery(spot=False)),
        ({"gpu": LATER}, OfferQuery(spot=False)),
        ({"gpu": "L4", "region": LATER}, OfferQuery("L4", 1, spot=False)),
        ({"gpu": "L4", "spot": {"fallback": True}}, OfferQuery("L4", 1)),
        ({"gpu": "L4", "spot": LATER}, OfferQuery("L4", 1)),
        ({}, OfferQuery(gpu_count=0, spot=False)),
    ],
)
def test_what_is_not_said_or_not_known_yet_filters_nothing(attrs: dict[str, Any], query: OfferQuery) -> None:
    assert query == asked(attrs)


def test_nodes_are_looked_for_where_their_volumes_are() -> None:
    volume = want("volumes.v", {"size_gb": 1, "region": "EU"})
    node = want(NODE, {"gpu": "L4", "volumes": [{"volume": Ref(volume.address), "mount": "/data"}]})

    assert ("EU",) == demand(spec(volume, node))["here"].regions


def test_every_place_of_a_placement_is_asked_about_its_own() -> None:
    places = (Candidate("x", {"gpu": "L4:1"}, ()), Candidate("y", {"gpu": "L40S:1"}, ()))

    queries = demand(spec(want(NODE, candidates=places), want("volumes.v"), providers=("x", "y")))

    assert {"x": "L4", "y": "L40S"} == {name: query.gpu for name, query in queries.items()}


def certain(configuration: Configuration, *recorded: Any, **options: Any) -> set[str]:
    return surely_asked(configuration, state(*recorded), PlanOptions(**options))


def test_an_account_is_asked_early_only_when_something_is_new_there_whatever_comes() -> None:
    configuration = spec(want(NODE))
    moved = spec(want(NODE), moved=(Moved(address("clusters.b"), address("clusters.a"), ()),))
    imported = spec(want(NODE), imports=(Import(address(NODE), "i", ()),))

    assert {"here"} == certain(configuration)
    assert set() == certain(configuration, have(NODE))
    assert set() == certain(moved, have("clusters.b.nodes[0]"))
    assert set() == certain(imported)
    assert set() == certain(configuration, mode=Mode.DESTROY)
    assert set() == certain(configuration, targets=(Address("volumes", "v"),))
    assert set() == certain(spec(want("volumes.v")))
