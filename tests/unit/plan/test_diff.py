"""What is decided about one instance that is there."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gpuplan.core.address import Address
from gpuplan.core.capabilities import Lease
from gpuplan.core.desired import Lifecycle, Settings
from gpuplan.core.diagnostics import At
from gpuplan.core.observed import Status
from gpuplan.core.plan import Action, Reason
from gpuplan.core.seal import seal_attrs
from gpuplan.core.secret import Secret
from gpuplan.core.state import Phase
from tests.unit.plan.build import (
    KEY,
    NOW,
    PLAIN,
    PLAIN_SETTINGS,
    PROVIDER,
    actions,
    address,
    have,
    ids,
    plan,
    seen,
    spec,
    state,
    survey,
    want,
)

NODE = "clusters.a.nodes[0]"
DATA = Address("volumes", "data")


def one(attrs: dict[str, Any], before: dict[str, Any], *, settings: Settings = PLAIN_SETTINGS, **more: Any) -> Any:
    """The change of a node that should have `attrs` and was recorded with `before`."""
    prior = state(have(NODE, before, **more))
    return plan(spec(want(NODE, attrs, settings=settings)), prior).changes[address(NODE)]


def sighted(status: Status, attrs: dict[str, Any] | None = None, phase: Phase = Phase.READY, **more: Any) -> Any:
    """The plan for a node whose spec did not change, seen in `status`."""
    prior = state(have(NODE, attrs or {}, phase=phase))
    sight = seen(prior.instances[address(NODE)], status, **more)
    return plan(spec(want(NODE, attrs or {})), prior, survey(prior, (NODE, sight)))


@pytest.mark.parametrize(
    ("before", "after", "action", "flags"),
    [
        ({"image": "a"}, {"image": "b"}, "replace", (True, False)),
        ({"labels": {"x": "1"}}, {"labels": {"x": "2"}}, "update", (False, False)),
        ({"instance_type": "s"}, {"instance_type": "l"}, "update", (False, True)),
        ({"disk_gb": 10}, {"disk_gb": 20}, "update", (False, False)),
        ({"disk_gb": 20}, {"disk_gb": 10}, "replace", (True, False)),
        ({"memo": "x"}, {"memo": "y"}, "update", (False, False)),
        ({"image": "a", "gone": 1}, {"image": "a"}, "update", (False, False)),
    ],
)
def test_mutability_decides_what_a_difference_takes(before: Any, after: Any, action: str, flags: Any) -> None:
    change = one(after, before)

    assert action == change.action
    assert [flags] == [(reason.forces_replace, reason.needs_stop) for reason in change.reasons]


def test_a_reason_tells_where_the_attribute_is_written() -> None:
    (reason,) = one({"image": "b"}, {"image": "a"}).reasons

    assert Reason("image", "a", "b", forces_replace=True, at=At(("clusters", "a", "image"))) == reason


def test_an_attribute_that_needs_a_stop_is_changed_between_stop_and_start() -> None:
    made = plan(spec(want(NODE, {"instance_type": "l"})), state(have(NODE, {"instance_type": "s"})))

    assert [f"stop {NODE}", f"update {NODE}", f"start {NODE}"] == ids(made)


def test_an_attribute_that_needs_a_stop_forces_a_replacement_where_nothing_can_stop() -> None:
    prior = state(have(NODE, {"instance_type": "s"}))
    capabilities = {PROVIDER: replace(PLAIN, stop_start=False)}

    made = plan(spec(want(NODE, {"instance_type": "l"})), prior, capabilities=capabilities)

    assert {NODE: "replace"} == actions(made)


@pytest.mark.parametrize(
    ("ignored", "action"), [((), "update"), (("env.DEBUG",), "no-op"), (("env",), "no-op"), (("all",), "no-op")]
)
def test_ignored_paths_are_no_difference(ignored: tuple[str, ...], action: str) -> None:
    settings = Settings(lifecycle=Lifecycle(ignore_changes=ignored))

    assert action == one({"env": {"DEBUG": "1"}}, {"env": {"DEBUG": "0"}}, settings=settings).action


@pytest.mark.parametrize(
    ("status", "phase", "attrs", "action"),
    [
        (Status.RUNNING, Phase.READY, {}, None),
        (Status.STARTING, Phase.READY, {}, None),
        (Status.FAILED, Phase.READY, {}, "replace"),
        (Status.RUNNING, Phase.TAINTED, {}, "replace"),
        (Status.STOPPED, Phase.READY, {}, "start"),
        (Status.STOPPING, Phase.READY, {}, "start"),
        (Status.STOPPED, Phase.READY, {"stopped": True}, None),
        (Status.RUNNING, Phase.READY, {"stopped": True}, "stop"),
        (Status.TERMINATED, Phase.READY, {}, "create"),
        (Status.TERMINATING, Phase.READY, {}, "create"),
        (Status.STARTING, Phase.PENDING, {}, "read"),
        (Status.RUNNING, Phase.PENDING, {}, None),
        (Status.RUNNING, Phase.PENDING, {"setup": "x"}, "read"),
        (Status.UNKNOWN, Phase.READY, {}, None),
    ],
)
def test_status_and_phase_decide(status: Status, phase: Phase, attrs: Any, action: str | None) -> None:
    assert ({} if action is None else {NODE: action}) == actions(sighted(status, attrs, phase))


def test_a_pending_node_that_runs_is_recorded_ready() -> None:
    refreshed = sighted(Status.RUNNING, phase=Phase.PENDING).changes[address(NODE)].refreshed

    assert Phase.READY is refreshed.phase


def test_an_unknown_status_is_a_warning() -> None:
    assert ["status-unknown"] == [warning.id for warning in sighted(Status.UNKNOWN, detail="zz").warnings]


def test_new_facts_are_recorded_without_a_change() -> None:
    made = sighted(Status.RUNNING, facts={"public_ip": "1.2.3.4"})

    assert made.is_empty
    assert {"public_ip": "1.2.3.4"} == made.changes[address(NODE)].refreshed.facts


def test_a_stopped_node_that_cannot_start_is_replaced() -> None:
    prior = state(have(NODE))
    sights = survey(prior, (NODE, seen(prior.instances[address(NODE)], Status.STOPPED)))

    made = plan(spec(want(NODE)), prior, sights, capabilities={PROVIDER: replace(PLAIN, stop_start=False)})

    assert {NODE: "replace"} == actions(made)


def test_the_same_secret_is_no_change_and_another_is_shown_to_nobody() -> None:
    sealed = seal_attrs({"env": {"T": Secret("hf_canary")}}, key=KEY, address=address(NODE))

    assert Action.NO_OP is one({"env": {"T": Secret("hf_canary")}}, dict(sealed)).action
    changed = one({"env": {"T": Secret("hf_other")}}, dict(sealed))
    assert Action.UPDATE is changed.action
    assert "hf_" not in repr(changed.reasons)


def test_a_lease_near_its_end_is_extended() -> None:
    prior = state(have(NODE))
    ends = NOW + timedelta(minutes=30)
    sights = survey(prior, (NODE, seen(prior.instances[address(NODE)], expires_at=ends)))
    leased = {PROVIDER: replace(PLAIN, lease=Lease(True, 86400, extend_before_seconds=3600))}

    assert {NODE: "extend"} == actions(plan(spec(want(NODE)), prior, sights, capabilities=leased))
    assert plan(spec(want(NODE)), prior, sights, capabilities=leased, now=NOW - timedelta(hours=2)).is_empty


@pytest.mark.parametrize(
    ("status", "attrs", "expected"),
    [
        (Status.STARTING, {"labels": {"x": "2"}}, ["read", "update"]),
        (Status.STARTING, {"stopped": True}, ["read", "stop"]),
        (Status.STOPPED, {"setup": "x"}, ["start", "read"]),
    ],
)
def test_a_pending_node_is_waited_for_before_it_is_changed(status: Status, attrs: Any, expected: list[str]) -> None:
    before = {name: value for name, value in attrs.items() if name == "setup"}
    prior = state(have(NODE, before, phase=Phase.PENDING))
    sights = survey(prior, (NODE, seen(prior.instances[address(NODE)], status)))

    made = plan(spec(want(NODE, attrs)), prior, sights)

    assert [f"{verb} {NODE}" for verb in expected] == ids(made)


def test_an_unknown_status_leaves_even_an_expired_node_alone() -> None:
    prior = state(have(NODE, created_at=NOW - timedelta(hours=2)))
    sights = survey(prior, (NODE, seen(prior.instances[address(NODE)], Status.UNKNOWN)))

    assert plan(spec(want(NODE, settings=Settings(ttl_seconds=3600))), prior, sights).is_empty
