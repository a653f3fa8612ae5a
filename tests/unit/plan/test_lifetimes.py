"""Instances whose time is over."""

from datetime import timedelta
from typing import Any

import pytest

from gpuplan.core.address import Address
from gpuplan.core.desired import Lifecycle, Settings
from gpuplan.core.diagnostics import At, Severity
from gpuplan.core.observed import Status
from gpuplan.core.plan import Mode, Plan
from gpuplan.core.state import Expired, State
from gpuplan.plan.lifetimes import EXPIRED, tombstone
from tests.unit.plan.build import NOW, PROVIDER, actions, address, cluster, have, plan, seen, spec, state, survey, want

NODE = "clusters.a.nodes[0]"
HOUR = Settings(ttl_seconds=3600)
LATER = NOW + timedelta(hours=2)
ATTRS: dict[str, Any] = {"image": "a", "stopped": False}


def buried(**changes: Any) -> State:
    known: dict[str, Any] = {"attrs": ATTRS, "ttl_seconds": 3600.0, "provider": PROVIDER, **changes}
    return State(
        "lineage", 7, b"k" * 32, "test", expired={address(NODE): Expired(address(NODE), expired_at=NOW, **known)}
    )


def planned(prior: State, attrs: Any = None, settings: Settings = HOUR, **more: Any) -> Plan:
    return plan(spec(*cluster("a", 1, ATTRS if attrs is None else attrs, settings=settings)), prior, now=LATER, **more)


def test_what_has_expired_is_deleted_and_leaves_a_tombstone() -> None:
    prior = state(have(NODE, ATTRS))

    made = planned(prior)

    change = made.changes[address(NODE)]
    assert ({NODE: "delete"}, (EXPIRED,)) == (actions(made), change.reasons)
    assert Expired(address(NODE), PROVIDER, ATTRS, 3600, LATER) == tombstone(change, LATER)


@pytest.mark.parametrize("mode", [Mode.NORMAL, Mode.REFRESH_ONLY])
def test_what_has_expired_and_is_gone_leaves_a_tombstone_too(mode: Mode) -> None:
    prior = state(have(NODE, ATTRS))

    made = planned(prior, sights=survey(prior, (NODE, None)), mode=mode)

    assert {NODE: "forget"} == actions(made)
    assert tombstone(made.changes[address(NODE)], LATER) is not None


def test_what_is_destroyed_or_gone_before_its_time_leaves_none() -> None:
    prior = state(have(NODE, ATTRS))
    gone = plan(spec(), prior, now=LATER)
    destroyed = planned(prior, mode=Mode.DESTROY)
    lost = planned(
        prior,
        settings=Settings(),
        sights=survey(prior, (NODE, seen(prior.instances[address(NODE)], Status.TERMINATED))),
    )

    for made in (gone, destroyed, lost):
        assert tombstone(made.changes[address(NODE)], LATER) is None


def test_what_has_expired_stays_gone_and_says_so() -> None:
    made = planned(buried())

    assert ({}, True) == (actions(made), made.is_empty)
    (warning,) = made.warnings
    assert ("expired", Severity.WARNING, At(("clusters", "a", "ttl"))) == (
        warning.id,
        warning.severity,
        warning.labels[0].where,
    )


@pytest.mark.parametrize(
    ("attrs", "settings"),
    [
        ({"image": "b"}, HOUR),
        ({"image": "a", "labels": {"x": "y"}}, HOUR),
        ({"image": "a", "stopped": True}, HOUR),
        (ATTRS, Settings(ttl_seconds=7200)),
        (ATTRS, Settings()),
    ],
)
def test_it_comes_back_once_the_spec_asks_for_something_else(attrs: dict[str, Any], settings: Settings) -> None:
    assert {NODE: "create"} == actions(planned(buried(), attrs, settings))


def test_it_comes_back_at_another_provider_and_when_it_is_asked_for() -> None:
    assert {NODE: "create"} == actions(planned(buried(provider="elsewhere")))
    assert {NODE: "create"} == actions(planned(buried(), replace=(Address("clusters", "a"),)))


def test_what_is_ignored_does_not_bring_it_back() -> None:
    settings = Settings(Lifecycle(ignore_changes=("image",)), ttl_seconds=3600)

    assert {} == actions(planned(buried(), {"image": "b"}, settings))


def test_nodes_beside_it_are_made() -> None:
    made = plan(spec(*cluster("a", 2, ATTRS, settings=HOUR)), buried(), now=LATER)

    assert {"clusters.a.nodes[1]": "create"} == actions(made)


def test_a_tombstone_is_lifted_when_the_spec_does_not_ask_any_more() -> None:
    assert (address(NODE),) == plan(spec(want("volumes.v")), buried(), now=LATER).lifted
    assert (address(NODE),) == planned(buried(), mode=Mode.DESTROY).lifted
    assert () == planned(buried()).lifted
    assert () == plan(spec(want("volumes.v")), buried(), now=LATER, targets=(Address("volumes", "v"),)).lifted
