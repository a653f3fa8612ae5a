"""Saved plans."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from gpuplan.core.desired import Configuration, Moved, Output, Settings
from gpuplan.core.errors import Failure, PlanError, PlanStale, Unavailable
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Observed, Status
from gpuplan.core.plan import Change, Plan
from gpuplan.core.seal import seal_attrs
from gpuplan.core.secret import Secret
from gpuplan.core.state import Deposed, State
from gpuplan.core.values import Ref
from gpuplan.plan.document import check_fresh, decode_plan, encode_plan, saved_inputs
from gpuplan.plan.json_schema import plan_schema
from tests.unit.plan.build import (
    KEY,
    PLAIN,
    PROVIDER,
    address,
    cluster,
    findings,
    have,
    offer,
    plan,
    seen,
    spec,
    state,
    survey,
    want,
)

SCHEMA = Path(__file__).parents[3] / "schemas" / "plan.v1.json"
CANARY = "hf_canary_0123456789"


def world() -> tuple[Configuration, State, Any]:
    """A little of everything: places, reasons, secrets, moves, deposed objects, drift, orphans, outputs."""
    token = seal_attrs({"env": {"T": Secret("hf_before")}}, key=KEY, address=address("clusters.a.nodes[0]"))
    old = Deposed(PROVIDER, "acct", have("clusters.a.nodes[0]").kind, "old-1", "t")
    nodes = cluster("new", 3, {"gpu": "L40S:1"}, needs=["volumes.data"], settings=Settings(ttl_seconds=3600))
    node = want("clusters.a.nodes[0]", {"env": {"T": Secret(CANARY)}, "volumes": [Ref(address("volumes.data"))]})
    configuration = spec(
        *nodes,
        node,
        want("volumes.data", {"size_gb": 20}),
        want("volumes.same"),
        moved=(Moved(address("volumes.old"), address("volumes.data"), ()),),
        outputs={"id": Output(Ref(address("volumes.data")), False, ()), "t": Output(Secret(CANARY), True, ())},
    )
    prior = state(
        have("clusters.a.nodes[0]", {**token, "volumes": [Ref(address("volumes.old"), "volumes.old")]}, deposed=(old,)),
        have("volumes.old", {"size_gb": 10}),
        have("volumes.same"),
        have("volumes.gone"),
    )
    sight = seen(prior.instances[address("clusters.a.nodes[0]")], attrs={"env": {"T": "hf_canary_by_hand"}})
    orphan = Observed(node.kind, "lost", Status.RUNNING, mark=Mark("t", address=node.address))
    sights = survey(prior, ("clusters.a.nodes[0]", sight), orphans=((PROVIDER, orphan),))
    return configuration, prior, sights


def saved() -> tuple[Configuration, Plan]:
    configuration, prior, sights = world()
    made = plan(
        configuration,
        prior,
        sights,
        capabilities={PROVIDER: replace(PLAIN, offers=True, deprecated="closes")},
        offers={PROVIDER: [offer("good", "2.50"), offer("far", "1", region="US", gpu="H100-80GB:8")]},
    )
    return configuration, made


def comparable(change: Change) -> Change:
    """A change without what is not saved: what the provider reported, and which secret it was."""
    seen_then = change.observed and replace(change.observed, attrs={}, mark=None)
    reasons = tuple(replace(reason, before=None, after=None) for reason in change.reasons)
    return replace(change, observed=seen_then, reasons=reasons)


def test_a_saved_plan_reads_back() -> None:
    configuration, made = saved()

    read = decode_plan(encode_plan(made), configuration)

    told = {address: change for address, change in made.changes.items() if address != ("volumes", "same", None, None)}
    assert list(map(comparable, told.values())) == list(map(comparable, read.changes.values()))
    assert made.operations == read.operations
    assert made.warnings == read.warnings
    assert (made.hourly_before, made.hourly_after) == (read.hourly_before, read.hourly_after)
    assert made.made_at == read.made_at
    assert [item.kind for item in made.drift] == [item.kind for item in read.drift]
    assert [orphan.remote_id for orphan in made.orphans] == [orphan.remote_id for orphan in read.orphans]
    assert encode_plan(read) == encode_plan(replace(made, changes=told))


def test_equal_nodes_share_their_places_again() -> None:
    configuration, made = saved()

    read = decode_plan(encode_plan(made), configuration)

    first, second = (read.changes[address(f"clusters.new.nodes[{number}]")].places for number in (0, 1))
    assert first is second
    assert 1 == len(json.loads(encode_plan(made))["places"])


def test_no_secret_is_saved() -> None:
    text = encode_plan(saved()[1])

    assert "hf_" not in text


def test_what_stays_is_only_counted() -> None:
    document = json.loads(encode_plan(saved()[1]))

    assert 1 == document["unchanged"]
    assert "volumes.same" not in {change["address"] for change in document["changes"]}


def test_the_same_plan_is_the_same_text() -> None:
    assert encode_plan(saved()[1]) == encode_plan(saved()[1])


def test_the_published_schema_is_the_one_of_the_shapes() -> None:
    assert plan_schema() == json.loads(SCHEMA.read_text())


def test_a_saved_plan_keeps_the_published_schema() -> None:
    jsonschema.validate(json.loads(encode_plan(saved()[1], variables={"workers": 2})), json.loads(SCHEMA.read_text()))


def test_inputs_are_kept_for_reading_the_same_spec_again() -> None:
    text = encode_plan(plan(spec(), workspace="prod"), spec_files={"b.yaml": "2", "a.yaml": "1"}, variables={"n": [1]})

    inputs = saved_inputs(text)

    assert ("prod", {"a.yaml": "1", "b.yaml": "2"}, {"n": [1]}) == (
        inputs.workspace,
        inputs.spec_files,
        inputs.variables,
    )


def test_a_plan_for_another_spec_is_stale() -> None:
    configuration, made = saved()

    with pytest.raises(PlanStale, match="another spec"):
        decode_plan(encode_plan(made), replace(configuration, digest="other"))


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("", "Expecting value"),
        ("[]", "dict"),
        ("{}", "format"),
        ('{"format": 9}', "format 9"),
        ("\ufeffnot json", "BOM"),
    ],
)
def test_what_is_no_saved_plan_is_refused_with_the_reason(text: str, fact: str) -> None:
    with pytest.raises(PlanError) as caught:
        decode_plan(text, spec())

    assert fact in findings(caught)["plan-unreadable"].facts[0]


@pytest.mark.parametrize(
    ("field", "value"),
    [("address", "no address"), ("places", 99), ("address", "volumes.stranger"), ("action", "explode")],
)
def test_a_plan_edited_by_hand_is_refused(field: str, value: object) -> None:
    configuration, made = saved()
    document = json.loads(encode_plan(made))
    document["changes"][-1] |= {"desired": True, field: value}

    with pytest.raises(PlanError) as caught:
        decode_plan(json.dumps(document), configuration)

    assert {"plan-unreadable"} == set(findings(caught))


@pytest.mark.parametrize(("change", "stale"), [({}, False), ({"serial": 8}, True), ({"lineage": "other"}, True)])
def test_a_plan_is_fresh_for_its_own_lineage_and_serial_only(change: dict[str, Any], stale: bool) -> None:
    prior = state()
    made = plan(spec(), prior)

    if stale:
        with pytest.raises(PlanStale):
            check_fresh(made, replace(prior, **change))
    else:
        check_fresh(made, prior)


def test_a_plan_made_before_the_state_was_born_is_fresh_for_the_newborn_state() -> None:
    made = plan(spec(want("volumes.data")), replace(state(), lineage="", serial=0))

    check_fresh(made, replace(state(), serial=0))
    with pytest.raises(PlanStale):
        check_fresh(made, replace(state(have("volumes.data")), serial=0))


def test_errors_of_providers_are_no_part_of_a_plan() -> None:
    error = Unavailable(Failure(PROVIDER, "list nodes"))
    made = plan(spec(providers=(PROVIDER, "idle")), state(), survey(state(), unreachable={"idle": error}))

    assert "could not be reached" in encode_plan(made)
