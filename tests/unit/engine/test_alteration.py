from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from gpuplan.core.address import Address
from gpuplan.core.capabilities import KindCapabilities, Lease, Mutability
from gpuplan.core.desired import Import, Kind, Lifecycle, Removed, Settings, Timeouts
from gpuplan.core.errors import Conflict, InvalidRequest, NotReady, OutcomeUnknown, ProviderError, Unsupported
from gpuplan.core.observed import Observed, Status
from gpuplan.core.ports import Provider
from gpuplan.core.secret import Sealed, Secret
from gpuplan.core.state import Phase
from gpuplan.testing.memory import MemoryProvider
from gpuplan.testing.memory_capabilities import memory_capabilities
from gpuplan.testing.memory_world import Call, Fault, MemoryWorld, failed
from tests.property.site import Site
from tests.unit.plan.build import cluster, offer, spec

ATTRS = {"image": "a", "labels": {"team": "x"}, "instance_type": "s"}


def site(attrs: Any = None, *, capabilities: Any = None, **knobs: Any) -> Site:
    """One node that is up."""
    made = Site(configuration=spec(*cluster("a", 1, attrs or ATTRS)))
    made.world = MemoryWorld(made.clock, **knobs)
    made.capabilities = {
        "here": capabilities or memory_capabilities(poll_interval_seconds=5, ready_timeout_seconds=200)
    }
    assert made.apply().outcome.complete
    made.world.calls.clear()
    return made


def wish(made: Site, settings: Settings | None = None, **attrs: Any) -> None:
    made.configuration = spec(*cluster("a", 1, {**ATTRS, **attrs}, settings=settings or Settings()))


def effects(made: Site) -> list[str]:
    return [call.verb for call in made.world.calls if call.verb not in ("list", "get", "health", "offers")]


def failing(verb: str, error: type[ProviderError], *, times: int = 99) -> Any:
    left = [times]

    def script(call: Call) -> Fault | None:
        if call.verb != verb or not left[0]:
            return None
        left[0] -= 1
        return Fault(failed(error, call))

    return script


def test_an_update_sends_what_differs_and_records_it() -> None:
    made = site()
    wish(made, labels={"team": "y"})

    assert made.apply().outcome.complete

    assert ["update"] == effects(made)
    (recorded,) = made.state.instances.values()
    assert {"team": "y"} == recorded.attrs["labels"]
    assert {"team": "y"} == next(made.world.living()).attrs["labels"]
    assert () == made.plan().operations


def ignoring(*paths: str) -> Settings:
    return Settings(Lifecycle(ignore_changes=paths))


def test_an_ignored_key_goes_out_with_the_value_it_has_by_now() -> None:
    made = site()
    (node,) = made.world.living()
    made.world.edit(node.remote_id, labels={"team": "x", "debug": "by hand", "other": "by hand"})
    wish(made, ignoring("labels.debug"), labels={"team": "y", "debug": "no"})

    assert made.apply().outcome.complete

    assert {"team": "y", "debug": "by hand"} == node.attrs["labels"]
    assert () == made.plan().operations


def test_an_ignored_key_of_what_a_provider_does_not_tell_goes_out_as_it_was_recorded() -> None:
    made = site({**ATTRS, "env": {"DEBUG": "0", "LEVEL": "1"}})
    (node,) = made.world.living()
    wish(made, ignoring("env.DEBUG"), env={"DEBUG": "1", "LEVEL": "2"})

    assert made.apply().outcome.complete

    assert {"DEBUG": "0", "LEVEL": "2"} == node.attrs["env"]


def test_where_nothing_within_is_ignored_nobody_is_asked_before() -> None:
    made = site()
    wish(made, ignoring("image", "labels.debug"), instance_type="l")
    plan = made.plan()
    made.world.calls.clear()

    assert made.apply().outcome.complete

    assert ["instance_type"] == [reason.path for reason in next(iter(plan.changes.values())).reasons]
    assert ["stop", "update", "start"] == effects(made)


def test_a_node_that_became_another_machine_is_recorded_with_the_price_of_that_one() -> None:
    capabilities = memory_capabilities(offers=True, poll_interval_seconds=5, ready_timeout_seconds=200)
    made = Site(configuration=spec(*cluster("a", 1, {"instance_type": "s"})))
    made.capabilities = {"here": capabilities}
    made.world.offers = (offer("1", "1", gpu="", instance_type="s"), offer("2", "3", gpu="", instance_type="l"))
    assert made.apply().outcome.complete
    for thing in made.world.living():
        thing.facts = {}
    made.configuration = spec(*cluster("a", 1, {"instance_type": "l"}))

    applied = made.apply()

    assert (Decimal(1), Decimal(3)) == (applied.plan.hourly_before, applied.plan.hourly_after)
    (recorded,) = made.state.instances.values()
    assert (3.0, "l") == (recorded.facts["price_per_hour"], recorded.facts["instance_type"])


def test_an_attribute_that_is_no_longer_asked_for_is_dropped() -> None:
    made = site()
    made.configuration = spec(*cluster("a", 1, {"image": "a", "instance_type": "s"}))

    assert made.apply().outcome.complete

    assert "labels" not in next(iter(made.state.instances.values())).attrs
    assert "labels" not in next(made.world.living()).attrs
    assert () == made.plan().operations


def test_what_needs_a_stop_is_stopped_changed_and_started() -> None:
    made = site(boot_seconds=30, stop_seconds=10)
    wish(made, instance_type="m")
    before = made.clock.monotonic()

    outcome = made.apply().outcome

    assert outcome.complete
    assert ["stop", "update", "start"] == effects(made)
    assert made.clock.monotonic() - before >= 40
    assert 1 == outcome.changed
    assert () == made.plan().operations


def test_local_attributes_are_only_recorded() -> None:
    known = memory_capabilities()
    table = {**known.kinds[Kind.NODE].attributes, "env": Mutability.LOCAL}
    made = site(capabilities=replace(known, kinds={Kind.NODE: KindCapabilities(table)}))
    wish(made, env={"NOTE": "for us"})

    assert made.apply().outcome.complete

    assert [] == effects(made)
    assert {"NOTE": "for us"} == next(iter(made.state.instances.values())).attrs["env"]
    assert () == made.plan().operations


class Plain:
    """An adapter with the required verbs alone, whose capabilities promise more."""

    def __init__(self, full: Provider) -> None:
        self.capabilities = full.capabilities
        self.health, self.offers, self.close = full.health, full.offers, full.close
        self.list, self.get, self.create, self.delete = full.list, full.get, full.create, full.delete


class PlainSite(Site):
    @property
    def providers(self) -> Mapping[str, Provider]:
        lease = Lease(extendable=True, default_seconds=7200)
        return {"here": Plain(MemoryProvider(self.world, "here", memory_capabilities(lease=lease)))}


@pytest.mark.parametrize("attrs", [{"labels": {"team": "y"}}, {"stopped": True}, {}])
def test_what_an_adapter_cannot_do_after_all_is_an_error_of_one_operation(attrs: dict[str, Any]) -> None:
    made = PlainSite(configuration=spec(*cluster("a", 1, ATTRS)))
    assert made.apply().outcome.complete
    next(made.world.living()).expires_at = made.clock.now()
    wish(made, **attrs)

    failures = made.apply().outcome.failed

    assert failures
    assert {Unsupported} == {type(failure.error) for failure in failures}
    assert {} == made.state.intents


def test_a_node_can_be_put_to_sleep_and_woken() -> None:
    made = site(stop_seconds=10, boot_seconds=10)
    wish(made, stopped=True)
    assert made.apply().outcome.complete
    assert Status.STOPPED is next(made.world.living()).status(made.clock.monotonic())
    assert () == made.plan().operations

    wish(made)
    assert made.apply().outcome.complete

    assert ["stop", "start"] == effects(made)
    assert () == made.plan().operations


def test_a_change_refused_for_now_is_tried_again() -> None:
    made = site()
    wish(made, labels={"team": "y"})
    made.world.script = failing("update", Conflict, times=3)

    assert made.apply().outcome.complete

    assert ["update"] * 4 == effects(made)


@pytest.mark.parametrize("error", [Conflict, InvalidRequest])
def test_a_change_that_is_refused_leaves_the_record_and_no_intent(error: type[ProviderError]) -> None:
    made = site()
    wish(made, Settings(timeouts=Timeouts(update=30)), labels={"team": "y"})
    made.world.script = failing("update", error)

    (failure,) = made.apply().outcome.failed

    assert isinstance(failure.error, error)
    assert {} == made.state.intents
    assert {"team": "x"} == next(iter(made.state.instances.values())).attrs["labels"]


def test_a_change_whose_answer_was_lost_is_looked_at_by_the_next_run() -> None:
    made = site()
    wish(made, labels={"team": "y"})
    made.world.script = lambda call: Fault(failed(OutcomeUnknown, call), after=True) if call.verb == "update" else None

    outcome = made.apply().outcome

    assert 1 == len(outcome.failed) == len(outcome.open)
    made.world.script = None
    assert () == made.plan().operations
    assert {} == made.state.intents


def test_a_node_that_does_not_start_again_is_no_success() -> None:
    made = site()
    wish(made, instance_type="m")
    made.world.boot_seconds = 10_000

    outcome = made.apply().outcome

    assert ["start clusters.a.nodes[0]"] == [failure.operation.id for failure in outcome.failed]
    assert isinstance(outcome.failed[0].error, NotReady)
    # It was ready once, and is what the spec asks for: it is not replaced.
    (recorded,) = made.state.instances.values()
    assert (Phase.READY, "m") == (recorded.phase, recorded.attrs["instance_type"])


def test_a_node_that_breaks_while_it_starts_is_no_success() -> None:
    made = site(boot_seconds=10)
    made.world.stop("node-1")

    def script(call: Call) -> None:
        if made.world.count("start"):
            made.world.fail("node-1", "no signal")

    made.world.script = script
    (failure,) = made.apply().outcome.failed

    assert isinstance(failure.error, NotReady)
    assert "no signal" == failure.error.failure.message


def test_a_lease_is_extended_by_its_term_but_not_beyond_the_wished_life() -> None:
    lease = Lease(extendable=True, default_seconds=7200, extend_before_seconds=3600)
    made = site(capabilities=memory_capabilities(lease=lease))
    start = made.clock.now()
    next(made.world.living()).expires_at = start + timedelta(hours=1)
    made.clock.advance(1800)

    assert made.apply().outcome.complete
    assert ["extend"] == effects(made)
    assert start + timedelta(hours=3) == next(made.world.living()).expires_at

    made.clock.advance(9000 - 1800 + 600)
    wish(made, Settings(ttl_seconds=4 * 3600))
    assert made.apply().outcome.complete
    assert start + timedelta(hours=4) == next(made.world.living()).expires_at


def test_an_imported_object_is_recorded_as_it_is_and_then_changed() -> None:
    made = site()
    address = Address("clusters", "b", None, 0)
    # The old record is dropped, and the node lives on.
    made.configuration = spec(
        *cluster("b", 1, {**ATTRS, "labels": {"team": "z"}}),
        imports=(Import(address, "node-1", ()),),
        removed=(Removed(Address("clusters", "a"), destroy=False, path=()),),
    )

    outcome = made.apply().outcome

    assert outcome.complete
    assert ["update"] == effects(made)
    (recorded,) = made.state.instances.values()
    assert (address, "node-1", {"team": "z"}) == (recorded.address, recorded.remote_id, recorded.attrs["labels"])


class Teller(MemoryProvider):
    """Reports the environment of its nodes in clear, as many clouds do."""

    async def get(self, kind: Kind, remote_id: str) -> Observed | None:
        observed = await super().get(kind, remote_id)
        return None if observed is None else replace(observed, attrs={**observed.attrs, "env": {"TOKEN": "hf_canary"}})


class TellersSite(Site):
    @property
    def providers(self) -> Mapping[str, Provider]:
        return {"here": Teller(self.world, "here", memory_capabilities())}


def test_a_secret_that_the_provider_reports_of_an_imported_object_is_recorded_sealed() -> None:
    made = TellersSite(configuration=spec(*cluster("a", 1, ATTRS)))
    assert made.apply().outcome.complete
    address = Address("clusters", "b", None, 0)
    made.configuration = spec(
        *cluster("b", 1, {**ATTRS, "env": {"TOKEN": Secret("hf_wanted")}}),
        imports=(Import(address, "node-1", ()),),
        removed=(Removed(Address("clusters", "a"), destroy=False, path=()),),
    )
    # Nothing comes after the adoption: its record is what stays.
    made.world.script = failing("update", InvalidRequest)

    assert ["update clusters.b.nodes[0]"] == [failed.operation.id for failed in made.apply().outcome.failed]

    env = made.state.instances[address].attrs["env"]
    assert isinstance(env, Mapping)
    assert isinstance(env["TOKEN"], Sealed)
