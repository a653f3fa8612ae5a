from gpuplan.core.observed import Observed, Status
from gpuplan.core.secret import Sealed, Secret
from gpuplan.core.state import Deposed, Phase
from gpuplan.engine.records import (
    beside,
    changed,
    deposed,
    found,
    kept_beside,
    objects,
    with_living,
    without,
)
from tests.unit.plan.build import KEY, have

NODE = have("clusters.a.nodes[0]", {"image": "x"}, remote_id="new", token="t2")
OLD = Deposed("here", "acct", NODE.kind, "old", "t1")
OLDER = Deposed("here", "acct", NODE.kind, "older", "t0")


def test_a_found_object_adds_its_facts_to_those_of_the_offer() -> None:
    observed = Observed(NODE.kind, "id", Status.RUNNING, facts={"public_ip": "192.0.2.1"})

    recorded = found(have("clusters.a.nodes[0]", facts={"price_per_hour": 2.0}), observed, Phase.PENDING)

    assert {"price_per_hour": 2.0, "public_ip": "192.0.2.1"} == recorded.facts
    assert ("id", Phase.PENDING) == (recorded.remote_id, recorded.phase)


def test_a_new_object_keeps_the_one_it_will_replace() -> None:
    before = have("clusters.a.nodes[0]", remote_id="old", token="t1", deposed=(OLDER,))

    assert (OLDER, OLD) == kept_beside(before, gone_id="")


def test_a_new_object_does_not_keep_one_that_is_gone() -> None:
    before = have("clusters.a.nodes[0]", remote_id="old", token="t1", deposed=(OLDER,))

    assert (OLDER,) == kept_beside(before, gone_id="old")
    assert () == kept_beside(None, gone_id="old")


def test_without_its_only_object_there_is_no_record() -> None:
    assert without(NODE, "here", "new") is None
    assert without(None, "here", "new") is None


def test_without_its_own_object_another_takes_its_place_to_be_replaced() -> None:
    record = have("clusters.a.nodes[0]", remote_id="new", facts={"ip": "1"}, deposed=(OLD, OLDER))

    rest = without(record, "here", "new")

    assert rest is not None
    assert (OLD, OLDER) == objects(rest)
    assert Phase.TAINTED is rest.phase
    assert {} == rest.facts


def test_without_a_deposed_object_the_own_one_stays_as_it_is() -> None:
    record = have("clusters.a.nodes[0]", remote_id="new", deposed=(OLD, OLDER))

    rest = without(record, "here", "old")

    assert rest is not None
    assert (deposed(record), OLDER) == objects(rest)
    assert Phase.READY is rest.phase


def test_the_same_id_at_another_provider_is_another_object() -> None:
    assert NODE is without(NODE, "there", "new")


def test_a_failed_attempt_is_recorded_beside_what_is_there() -> None:
    both = beside(NODE, have("clusters.a.nodes[0]", token="t3"), "leftover")

    assert ["new", "leftover"] == [thing.remote_id for thing in objects(both)]


def test_a_failed_attempt_alone_is_a_tainted_record() -> None:
    alone = beside(None, have("clusters.a.nodes[0]", token="t3"), "leftover")

    assert ("leftover", Phase.TAINTED) == (alone.remote_id, alone.phase)


def test_objects_deleted_meanwhile_do_not_come_back_with_the_draft() -> None:
    draft = have("clusters.a.nodes[0]", remote_id="", deposed=(OLD, OLDER))
    now = have("clusters.a.nodes[0]", remote_id="old", token="t1")

    assert (OLD,) == with_living(draft, now).deposed


def test_changed_attributes_are_set_dropped_and_sealed() -> None:
    record = have("clusters.a.nodes[0]", {"image": "x", "labels": {"a": "b"}, "ports": [1]})

    after = changed(
        record, {"image": "y", "env": {"KEY": Secret("s3cret")}}, frozenset({"labels", "env"}), key=KEY
    ).attrs

    assert {"image", "ports", "env"} == after.keys()
    assert "x" == after["image"]
    env = after["env"]
    assert isinstance(env, dict)
    assert isinstance(env["KEY"], Sealed)
