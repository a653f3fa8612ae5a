"""What reality does that the state does not know of."""

from dataclasses import replace
from typing import Any

import pytest

from gpuplan.core.capabilities import Capabilities
from gpuplan.core.desired import Kind
from gpuplan.core.diagnostics import At
from gpuplan.core.errors import Failure, Unavailable
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Observed, Status, Survey
from gpuplan.core.plan import DriftKind
from gpuplan.plan.drift import find_drift
from tests.unit.plan.build import PLAIN, PROVIDER, address, have, plan, seen, spec, state, survey, want

NODE = "clusters.a.nodes[0]"


def drift(recorded: dict[str, Any], status: Status = Status.RUNNING, *, ephemeral: bool = False, **more: Any) -> Any:
    prior = state(have(NODE, recorded))
    sight = seen(prior.instances[address(NODE)], status, **more)
    capabilities: dict[str, Capabilities] = {PROVIDER: replace(PLAIN, ephemeral=ephemeral)}
    return find_drift(spec(want(NODE, recorded)), prior, survey(prior, (NODE, sight)), capabilities)


@pytest.mark.parametrize(
    ("attrs", "status", "more", "kinds"),
    [
        ({"image": "a"}, Status.RUNNING, {"attrs": {"image": "a"}}, []),
        ({"image": "a"}, Status.RUNNING, {"attrs": {"image": "b"}}, [DriftKind.CHANGED]),
        ({"image": "a"}, Status.RUNNING, {"attrs": {"region": "EU"}, "facts": {"price_per_hour": 9}}, []),
        ({"cpu": ">=32"}, Status.RUNNING, {"attrs": {"cpu": 48}}, []),
        ({}, Status.STOPPED, {}, [DriftKind.STOPPED]),
        ({"stopped": True}, Status.STOPPED, {}, []),
        ({"stopped": True}, Status.RUNNING, {}, [DriftKind.CHANGED]),
        ({}, Status.TERMINATED, {}, [DriftKind.MISSING]),
        ({}, Status.FAILED, {}, [DriftKind.UNHEALTHY]),
        ({}, Status.RUNNING, {"healthy": False}, [DriftKind.UNHEALTHY]),
        ({}, Status.UNKNOWN, {}, []),
        ({}, Status.STARTING, {}, []),
    ],
)
def test_kinds(attrs: dict[str, Any], status: Status, more: dict[str, Any], kinds: list[DriftKind]) -> None:
    assert kinds == [item.kind for item in drift(attrs, status, **more)]


def test_a_change_tells_from_what_to_what_and_where_the_spec_has_it() -> None:
    (found,) = drift({"image": "a"}, attrs={"image": "b"})

    (reason,) = found.reasons
    assert ("image", "a", "b", At(("clusters", "a", "image"))) == (reason.path, reason.before, reason.after, reason.at)


@pytest.mark.parametrize(
    ("ephemeral", "text"), [(False, "was deleted outside of gpuplan"), (True, "was reclaimed by its provider")]
)
def test_a_missing_instance_tells_how_it_went(ephemeral: bool, text: str) -> None:
    (found,) = drift({}, Status.TERMINATED, ephemeral=ephemeral)

    assert text == found.text


def test_what_could_not_be_seen_is_not_missing() -> None:
    prior = state(have(NODE))
    error = Unavailable(Failure(PROVIDER, "list nodes"))

    (found,) = find_drift(None, prior, Survey({}, {PROVIDER: error}), {PROVIDER: PLAIN})

    assert (DriftKind.UNREACHABLE, None, PROVIDER) == (found.kind, found.address, found.provider)


def test_an_instance_in_an_unseen_part_is_unreachable_by_name() -> None:
    prior = state(have(NODE))

    (found,) = find_drift(None, prior, Survey({}, unseen={address(NODE): "no answer"}), {PROVIDER: PLAIN})

    assert (DriftKind.UNREACHABLE, address(NODE), "no answer") == (found.kind, found.address, found.text)


def test_orphans_keep_the_address_of_their_mark() -> None:
    orphan = Observed(Kind.NODE, "lost-1", Status.RUNNING, mark=Mark("t", address=address(NODE)))

    (found,) = find_drift(None, state(), Survey({}, orphans=((PROVIDER, orphan),)), {})

    assert (DriftKind.ORPHANED, address(NODE), "lost-1") == (found.kind, found.address, found.remote_id)


def test_a_plan_carries_the_drift_it_saw() -> None:
    prior = state(have(NODE, {"image": "a"}))
    sights = survey(prior, (NODE, seen(prior.instances[address(NODE)], attrs={"image": "b"})))

    made = plan(spec(want(NODE, {"image": "a"})), prior, sights)

    assert [DriftKind.CHANGED] == [item.kind for item in made.drift]
    assert "replace" == made.changes[address(NODE)].action


def test_drift_needs_no_spec() -> None:
    prior = state(have(NODE))

    (found,) = find_drift(None, prior, survey(prior, (NODE, None)), {})

    assert None is found.at
