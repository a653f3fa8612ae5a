"""What is decided about the instances of a spec and a state."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gpuplan.core.address import Address
from gpuplan.core.desired import Candidate, Import, Lifecycle, Moved, Output, Removed, Settings
from gpuplan.core.errors import Failure, PlanError, Unavailable
from gpuplan.core.observed import Observed, Status, Survey
from gpuplan.core.plan import Action, Mode, Reason
from gpuplan.core.secret import Secret
from gpuplan.core.state import Deposed
from gpuplan.core.values import UNKNOWN, Deferred, Ref, Value
from tests.unit.plan.build import (
    NOW,
    PLAIN,
    PROVIDER,
    actions,
    address,
    cluster,
    findings,
    have,
    ids,
    order,
    plan,
    seen,
    spec,
    state,
    survey,
    want,
)

NODE = "clusters.a.nodes[0]"
DATA = Address("volumes", "data")


def test_a_new_instance_is_created() -> None:
    assert {NODE: "create"} == actions(plan(spec(want(NODE))))


def test_an_unchanged_instance_stays() -> None:
    made = plan(spec(want(NODE, {"image": "a"})), state(have(NODE, {"image": "a"})))

    assert made.is_empty
    assert Action.NO_OP is made.changes[address(NODE)].action


def test_an_instance_that_left_the_spec_is_deleted() -> None:
    made = plan(spec(), state(have(NODE)))

    assert {NODE: "delete"} == actions(made)
    assert (Reason("", text="is not in the spec"),) == made.changes[address(NODE)].reasons


@pytest.mark.parametrize(
    ("ephemeral", "text"), [(False, "was deleted outside of gpuplan"), (True, "was reclaimed by its provider")]
)
def test_a_missing_instance_is_created_again(ephemeral: bool, text: str) -> None:
    prior = state(have(NODE))

    made = plan(
        spec(want(NODE)),
        prior,
        survey(prior, (NODE, None)),
        capabilities={PROVIDER: replace(PLAIN, ephemeral=ephemeral)},
    )

    assert {NODE: "create"} == actions(made)
    assert (Reason("", text=text),) == made.changes[address(NODE)].reasons


def test_a_missing_instance_that_nobody_wants_is_only_forgotten() -> None:
    prior = state(have(NODE))

    assert {NODE: "forget"} == actions(plan(spec(), prior, survey(prior, (NODE, None))))


def test_what_is_already_terminating_is_still_deleted_so_that_others_wait_for_it() -> None:
    prior = state(have(NODE))
    sights = survey(prior, (NODE, seen(prior.instances[address(NODE)], Status.TERMINATING)))

    assert {NODE: "delete"} == actions(plan(spec(), prior, sights))


def test_an_unreachable_provider_is_an_error_and_never_a_create() -> None:
    prior = state(have(NODE))
    error = Unavailable(Failure(PROVIDER, "list nodes", message="connection refused"))

    with pytest.raises(PlanError) as caught:
        plan(spec(want(NODE)), prior, Survey({}, {PROVIDER: error}))

    finding = findings(caught)["provider-unreachable"]
    assert "the provider says: connection refused" in finding.facts
    assert f"it is about {NODE}" in finding.facts


def test_an_instance_in_a_part_that_could_not_be_seen_is_an_error_with_the_reason() -> None:
    sights = Survey({}, unseen={address(NODE): "region us-east-3 does not answer"})

    with pytest.raises(PlanError) as caught:
        plan(spec(want(NODE)), state(have(NODE)), sights)

    assert "region us-east-3 does not answer" in findings(caught)["provider-unreachable"].facts


def test_other_credentials_than_the_recorded_ones_are_an_error() -> None:
    prior = state(have(NODE))

    with pytest.raises(PlanError) as caught:
        plan(spec(want(NODE)), prior, Survey({address(NODE): None}, accounts={PROVIDER: "stranger"}))

    assert {"account-mismatch"} == set(findings(caught))


def test_a_provider_that_left_the_spec_while_it_has_instances_is_an_error() -> None:
    with pytest.raises(PlanError) as caught:
        plan(spec(providers=()), state(have(NODE)))

    assert {"provider-removed"} == set(findings(caught))


def test_without_a_refresh_the_state_is_taken_at_its_word() -> None:
    prior = state(have(NODE, {"image": "a"}))

    assert plan(spec(want(NODE, {"image": "a"})), prior, Survey({}), refreshed=False).is_empty


def test_an_expired_instance_is_deleted_and_not_created_again() -> None:
    prior = state(have(NODE, created_at=NOW - timedelta(hours=2)))

    wanted = spec(want(NODE, settings=Settings(ttl_seconds=3600)))

    assert [f"delete {NODE}"] == ids(plan(wanted, prior))
    assert [f"forget {NODE}"] == ids(plan(wanted, prior, survey(prior, (NODE, None))))


def test_another_provider_replaces_the_instance() -> None:
    made = plan(spec(want(NODE, provider="there"), providers=(PROVIDER, "there")), state(have(NODE)))

    change = made.changes[address(NODE)]
    assert Action.REPLACE is change.action
    assert (PROVIDER, "there") == (change.reasons[0].before, change.reasons[0].after)
    assert [(f"delete {NODE}", PROVIDER), (f"create {NODE}", "there")] == [(o.id, o.provider) for o in made.operations]


def test_an_instance_stays_at_its_candidate_when_others_are_cheaper() -> None:
    candidates = (Candidate("there", {"image": "a"}, ()), Candidate(PROVIDER, {"image": "a"}, ()))
    wanted = want(NODE, candidates=candidates)

    assert plan(spec(wanted, providers=(PROVIDER, "there")), state(have(NODE, {"image": "a"}))).is_empty


def test_replacing_a_dependency_replaces_what_refers_to_it_when_the_attribute_cannot_change() -> None:
    mounts: Value = [{"volume": Ref(DATA), "mount": "/d"}]
    prior = state(
        have("volumes.data", {"region": "EU"}),
        have(NODE, {"volumes": [{"volume": Ref(DATA, "volumes.data"), "mount": "/d"}]}, needs=["volumes.data"]),
    )

    made = plan(spec(want("volumes.data", {"region": "US"}), want(NODE, {"volumes": mounts})), prior)

    assert {"volumes.data": "replace", NODE: "replace"} == actions(made)


def test_a_fact_of_an_instance_that_will_be_created_is_unknown() -> None:
    head = Address("clusters", "head")

    def ip(scope: Any) -> Any:
        return scope.view(head)["nodes"][0]["public_ip"]

    expression = Deferred("${clusters.head.nodes[0].public_ip}", frozenset({head}), ip)
    wanted = (want("clusters.head.nodes[0]"), want(NODE, {"env": {"HEAD": expression}}))
    outputs = {"ip": Output(expression, sensitive=False, path=("outputs", "ip"))}
    prior = state(have(NODE, {"env": {"HEAD": "1.1.1.1"}}))

    fresh = plan(spec(*wanted, outputs=outputs), prior)
    known = plan(
        spec(*wanted, outputs=outputs),
        state(have("clusters.head.nodes[0]", facts={"public_ip": "1.1.1.1"}), prior.instances[address(NODE)]),
    )

    assert UNKNOWN == fresh.changes[address(NODE)].reasons[0].after == fresh.outputs["ip"]
    assert known.is_empty
    assert "1.1.1.1" == known.outputs["ip"]


def test_sensitive_outputs_stay_secret() -> None:
    made = plan(spec(outputs={"token": Output("hf_canary", sensitive=True, path=())}))

    assert Secret("hf_canary") == made.outputs["token"]


def test_a_trigger_replaces() -> None:
    settings = Settings(lifecycle=Lifecycle(replace_triggered_by=(DATA,)))
    wanted = (want("volumes.data", {"size_gb": 20}), want(NODE, settings=settings))

    made = plan(spec(*wanted), state(have("volumes.data", {"size_gb": 10}), have(NODE)))

    assert {"volumes.data": "update", NODE: "replace"} == actions(made)
    assert (Reason("", text="volumes.data changes", forces_replace=True),) == made.changes[address(NODE)].reasons


def test_replacement_can_be_asked_for() -> None:
    prior = state(have(NODE), have("volumes.data"))

    made = plan(spec(want(NODE), want("volumes.data")), prior, replace=(Address("clusters", "a"),))

    assert {NODE: "replace"} == actions(made)


@pytest.mark.parametrize(
    ("source", "target", "before", "after"),
    [
        ("clusters.old", "clusters.a", "clusters.old.nodes[0]", NODE),
        ("clusters.old", 'clusters.a["eu"]', "clusters.old.nodes[0]", 'clusters.a["eu"].nodes[0]'),
        ("clusters.a[0]", "clusters.a", "clusters.a[0].nodes[0]", NODE),
        ("clusters.a.nodes[3]", NODE, "clusters.a.nodes[3]", NODE),
    ],
)
def test_a_moved_instance_keeps_its_object(source: str, target: str, before: str, after: str) -> None:
    move = Moved(address(source), address(target), ())

    made = plan(spec(want(after), moved=(move,)), state(have(before)))

    change = made.changes[address(after)]
    assert [address(after)] == list(made.changes)
    assert (Action.NO_OP, address(before)) == (change.action, change.moved_from)
    assert address(after) == change.refreshed.address  # type: ignore[union-attr]
    assert () == made.operations
    assert not made.is_empty


def test_a_move_onto_a_recorded_instance_is_an_error() -> None:
    move = Moved(Address("volumes", "old"), DATA, ())

    with pytest.raises(PlanError) as caught:
        plan(spec(want("volumes.data"), moved=(move,)), state(have("volumes.old"), have("volumes.data")))

    assert {"move-blocked"} == set(findings(caught))


@pytest.mark.parametrize("mode", [Mode.NORMAL, Mode.DESTROY])
def test_removed_without_destroy_forgets(mode: Mode) -> None:
    made = plan(spec(removed=(Removed(Address("clusters", "a"), False, ()),)), state(have(NODE)), mode=mode)

    assert {NODE: "forget"} == actions(made)


def test_destroy_deletes_everything() -> None:
    made = plan(spec(want(NODE), want("volumes.data")), state(have(NODE), have("volumes.data")), mode=Mode.DESTROY)

    assert {NODE: "delete", "volumes.data": "delete"} == actions(made)


def test_refresh_only_accepts_reality_and_does_nothing() -> None:
    prior = state(have(NODE, {"image": "a"}), have("volumes.data"))
    sight = seen(prior.instances[address(NODE)], attrs={"image": "b"})

    made = plan(spec(), prior, survey(prior, (NODE, sight), ("volumes.data", None)), mode=Mode.REFRESH_ONLY)

    assert () == made.operations
    assert {"image": "b"} == made.changes[address(NODE)].refreshed.attrs  # type: ignore[union-attr]
    assert {"volumes.data": "forget"} == actions(made)


def test_deposed_objects_are_deleted_without_touching_the_instance() -> None:
    old = Deposed(PROVIDER, "acct", have(NODE).kind, "old-1", "t")
    made = plan(spec(want(NODE)), state(have(NODE, deposed=(old, replace(old, remote_id="old-2")))))

    assert {} == actions(made)
    assert [(f"delete {NODE} (deposed)", "old-1"), (f"delete {NODE} (deposed 2)", "old-2")] == [
        (operation.id, operation.remote_id) for operation in made.operations
    ]


class TestImport:
    entry = Import(address(NODE), "abc", ("imports", 0))

    def make(self, observed: Observed | None, attrs: dict[str, Any], *recorded: Any) -> Any:
        sights = Survey({r.address: seen(r) for r in recorded}, imports={address(NODE): observed})
        return plan(spec(want(NODE, attrs), imports=(self.entry,)), state(*recorded), sights)

    def test_an_existing_object_is_adopted(self) -> None:
        made = self.make(Observed(have(NODE).kind, "abc", Status.RUNNING), {"image": "a"})

        assert [(f"adopt {NODE}", "abc", PROVIDER)] == [(o.id, o.remote_id, o.provider) for o in made.operations]

    def test_what_differs_in_place_is_updated_after_it_was_adopted(self) -> None:
        made = self.make(Observed(have(NODE).kind, "abc", Status.RUNNING, {"labels": {}}), {"labels": {"x": "1"}})

        assert [f"adopt {NODE}", f"update {NODE}"] == order(made, f"update {NODE}", f"adopt {NODE}")

    @pytest.mark.parametrize(
        ("observed", "finding"),
        [
            (None, "import-missing"),
            (Observed(have(NODE).kind, "abc", Status.RUNNING, {"image": "b"}), "import-differs"),
        ],
    )
    def test_what_cannot_be_adopted_is_an_error(self, observed: Observed | None, finding: str) -> None:
        with pytest.raises(PlanError) as caught:
            self.make(observed, {"image": "a"})

        assert {finding} == set(findings(caught))

    def test_a_secret_that_the_object_has_in_clear_is_shown_to_nobody(self) -> None:
        observed = Observed(have(NODE).kind, "abc", Status.RUNNING, {"env": {"T": "hf_theirs", "PATH": "/bin"}})

        made = self.make(observed, {"env": {"T": Secret("hf_ours")}})

        (reason,) = made.changes[address(NODE)].reasons
        assert "env.T" == reason.path
        assert "hf_" not in repr(reason)

    def test_an_import_may_stay_in_the_spec_after_it_was_done(self) -> None:
        assert self.make(None, {}, have(NODE, remote_id="abc")).is_empty

    def test_an_import_of_another_object_than_the_recorded_one_is_an_error(self) -> None:
        with pytest.raises(PlanError) as caught:
            self.make(None, {}, have(NODE))

        assert {"import-conflict"} == set(findings(caught))


class TestSelection:
    wanted = (want("volumes.data"), want("volumes.other"), want(NODE, needs=["volumes.data"]))

    def test_a_target_brings_what_it_needs(self) -> None:
        made = plan(spec(*self.wanted), targets=(address(NODE),))

        assert {NODE: "create", "volumes.data": "create"} == actions(made)
        assert made.partial

    def test_a_deleted_target_takes_what_needs_it(self) -> None:
        prior = state(have("volumes.data"), have("volumes.other"), have(NODE, needs=["volumes.data"]))

        made = plan(spec(*self.wanted), prior, mode=Mode.DESTROY, targets=(DATA,))

        assert {NODE: "delete", "volumes.data": "delete"} == actions(made)

    def test_an_exclusion_takes_what_needs_it(self) -> None:
        assert {"volumes.other": "create"} == actions(plan(spec(*self.wanted), excludes=(DATA,)))

    def test_in_a_destroy_an_exclusion_keeps_what_it_needs(self) -> None:
        prior = state(have("volumes.data"), have("volumes.other"), have(NODE, needs=["volumes.data"]))

        made = plan(spec(*self.wanted), prior, mode=Mode.DESTROY, excludes=(address(NODE),))

        assert {"volumes.other": "delete"} == actions(made)

    def test_an_address_that_names_nothing_is_an_error(self) -> None:
        with pytest.raises(PlanError) as caught:
            plan(spec(*self.wanted), targets=(Address("clusters", "typo"),))

        assert {"unknown-address"} == set(findings(caught))


def test_scaling_down_deletes_the_highest_numbers() -> None:
    prior = state(*(have(str(node.address)) for node in cluster("a", 4)))

    made = plan(spec(*cluster("a", 2)), prior)

    assert {"clusters.a.nodes[2]": "delete", "clusters.a.nodes[3]": "delete"} == actions(made)


def test_a_cycle_names_everyone_who_waits() -> None:
    with pytest.raises(PlanError) as caught:
        plan(spec(want("volumes.data", needs=["clusters.a"]), want(NODE, needs=["volumes.data"])))

    finding = findings(caught)["dependency-cycle"]
    assert 2 == len(finding.labels)
