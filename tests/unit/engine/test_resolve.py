from collections.abc import Mapping

import pytest

from gpuplan.core.address import Address
from gpuplan.core.errors import SpecError
from gpuplan.core.state import Recorded, State
from gpuplan.core.values import UNKNOWN, Deferred, Ref, Scope, Value, has_unknown
from gpuplan.engine.resolve import StateScope, closest, links_of, members, readable_name, want_of
from tests.unit.plan.build import KEY, actions, cluster, have, plan, spec, state, want


def scope(*records: Recorded) -> StateScope:
    known = state(*records)
    return StateScope(lambda: known, known.instances)


def test_a_cluster_is_seen_with_its_nodes() -> None:
    seen = scope(
        have("clusters.train.nodes[0]", {"region": "EU"}, facts={"public_ip": "192.0.2.1"}),
        have("clusters.train.nodes[1]", {"region": "EU"}, facts={"public_ip": "192.0.2.2"}),
    ).view(Address("clusters", "train"))

    assert {
        "name": "train",
        "nodes": [
            {"region": "EU", "public_ip": "192.0.2.1", "id": "clusters.train.nodes[0]", "name": "train-0"},
            {"region": "EU", "public_ip": "192.0.2.2", "id": "clusters.train.nodes[1]", "name": "train-1"},
        ],
    } == seen


def test_a_volume_is_seen_as_itself() -> None:
    seen = scope(have("volumes.data", {"size_gb": 10})).view(Address("volumes", "data"))

    assert {"size_gb": 10, "id": "volumes.data", "name": "data"} == seen


def test_keys_make_a_mapping_and_counts_a_list() -> None:
    eu, first = Address("volumes", "web", "eu"), Address("volumes", "spare", 0)
    seen = scope(have(str(eu)), have(str(first)))

    assert {"eu": {"id": str(eu), "name": "web"}} == seen.view(Address("volumes", "web"))
    assert {"id": str(eu), "name": "web"} == seen.view(eu)
    assert [{"id": str(first), "name": "spare"}] == seen.view(Address("volumes", "spare"))


def test_a_resource_without_instances_has_no_nodes() -> None:
    assert {"name": "empty", "nodes": []} == scope().view(Address("clusters", "empty"))


def test_an_instance_without_a_record_is_unknown_in_every_part() -> None:
    seen = StateScope(state, [Address("volumes", "data")]).view(Address("volumes", "data"))

    assert isinstance(seen, Mapping)
    assert UNKNOWN == seen["id"]
    assert UNKNOWN == seen["anything"]


def test_a_view_is_made_anew_once_a_record_has_changed() -> None:
    records = {address: record for address, record in state(have("volumes.data", {"size_gb": 10})).instances.items()}
    known = State("lineage", 1, KEY, instances=records)
    seen = StateScope(lambda: known, records)
    address = Address("volumes", "data")
    seen.view(address)

    records[address] = have("volumes.data", {"size_gb": 20})
    seen.changed(address)

    view = seen.view(address)
    assert isinstance(view, Mapping)
    assert 20 == view["size_gb"]


def test_references_get_the_ids_that_are_known_by_now() -> None:
    attrs = scope(have("volumes.data", remote_id="vol-1")).resolve({"volume": Ref(Address("volumes", "data"))})

    assert {"volume": Ref(Address("volumes", "data"), "vol-1")} == attrs


def test_expressions_see_the_records() -> None:
    def url(seen: Scope) -> Value:
        view = seen.view(Address("volumes", "data"))
        assert isinstance(view, Mapping)
        return f"nfs://{view['host']}"

    deferred = Deferred("nfs://${volumes.data.host}", frozenset({Address("volumes", "data")}), url)

    assert {"mount": "nfs://h"} == scope(have("volumes.data", facts={"host": "h"})).resolve({"mount": deferred})


def test_a_value_that_nobody_knows_is_an_error_before_anything_is_sent() -> None:
    attrs = {"image": UNKNOWN}
    assert has_unknown(attrs["image"])

    with pytest.raises(SpecError) as error:
        want_of(want("clusters.a.nodes[0]", attrs), attrs, token="t")

    diagnostic = error.value.diagnostics[0]
    assert ("value-unknown", "`image` of `clusters.a.nodes[0]` is not known") == (diagnostic.id, diagnostic.summary)


def test_links_are_the_records_of_all_references() -> None:
    known = state(have("volumes.data"), have("ssh_keys.team"), have("volumes.other")).instances
    attrs: Mapping[str, Value] = {
        "volumes": [{"volume": Ref(Address("volumes", "data")), "mount": "/x"}],
        "ssh_keys": [Ref(Address("ssh_keys", "team")), "by-name"],
        "networks": [Ref(Address("networks", "missing"))],
        "image": "volumes.other",
    }

    assert {Address("volumes", "data"), Address("ssh_keys", "team")} == links_of(attrs, known.get).keys()


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (Address("clusters", "train", None, 3), "train-3-abcdefgh"),
        (Address("volumes", "web", "EU west", None), "web-eu-west-abcdefgh"),
        (Address("volumes", "x" * 60), "x" * 31 + "-abcdefgh"),
    ],
)
def test_names_are_readable_short_and_fresh(address: Address, name: str) -> None:
    assert name == readable_name(address, "tokenabcdefgh")


def test_of_several_candidates_the_closest_is_where_the_instance_lives() -> None:
    from gpuplan.core.desired import Candidate

    places = tuple(Candidate("here", {"region": region, "gpu": "L40S:1"}, ()) for region in ("US", "EU"))
    desired = want("clusters.a.nodes[0]", candidates=places)
    recorded = have("clusters.a.nodes[0]", {"region": "EU", "gpu": "L40S:1"})

    assert places[1] is closest(desired, recorded, scope(recorded), KEY)[0]


def test_members_are_what_will_exist_once_the_plan_is_applied() -> None:
    prior = state(have("clusters.a.nodes[0]"), have("clusters.a.nodes[1]"), have("volumes.kept"))
    made = plan(
        spec(*cluster("a", 1), want("volumes.new")),
        prior,
        targets=(Address("clusters", "a"), Address("volumes", "new")),
    )
    assert {"clusters.a.nodes[1]": "delete", "volumes.new": "create"} == actions(made)

    assert ["clusters.a.nodes[0]", "volumes.kept", "volumes.new"] == [str(name) for name in members(made, prior)]
