from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gpuplan.core.address import Address
from gpuplan.core.capabilities import Listing
from gpuplan.core.desired import Configuration, Import, Kind
from gpuplan.core.errors import AuthFailed, Unavailable
from gpuplan.core.events import Event, RefreshFinished, RefreshStarted
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Status, Survey
from gpuplan.core.ports import Provider
from gpuplan.core.state import Deposed, Recorded, State
from gpuplan.engine.refresh import refresh
from gpuplan.testing.clock import FakeClock
from gpuplan.testing.memory import memory_provider
from gpuplan.testing.memory_capabilities import memory_capabilities
from gpuplan.testing.memory_world import Call, Fault, MemoryObject, MemoryWorld, failed
from tests.unit.plan.build import cluster, have, spec, state, want


class Lookout:
    """A world with objects, and the state that knows of them."""

    def __init__(self, **capabilities: Any) -> None:
        self.clock = FakeClock()
        self.world = MemoryWorld(self.clock)
        self.capabilities = memory_capabilities(**capabilities)
        self.records: list[Recorded] = []
        self.events: list[Event] = []

    def has(self, remote_id: str, *, provider: str = "here", kind: Kind = Kind.NODE, **mark: Any) -> MemoryObject:
        thing = MemoryObject(
            provider, kind, remote_id, remote_id, Mark(**{"token": f"t-{remote_id}", **mark}), {}, {}, 0, 0, 0
        )
        self.world.add(thing)
        return thing

    def nodes(self, count: int, *, provider: str = "here", prefix: str = "") -> None:
        """Nodes that exist and are recorded."""
        for number in range(count):
            remote_id = f"{prefix}{provider}-{number}"
            self.has(remote_id, provider=provider)
            record = have(f"clusters.{provider}.nodes[{number}]", remote_id=remote_id, provider=provider)
            self.records.append(replace(record, token=f"t-{remote_id}"))

    def survey(
        self,
        configuration: Configuration | None = None,
        *,
        workspace: str = "",
        names: tuple[str, ...] = ("here", "there"),
    ) -> Survey:
        providers: Mapping[str, Provider] = {
            name: memory_provider(self.world, name, self.capabilities) for name in ("here", "there")
        }
        return self.clock.run(
            refresh(
                configuration, self.state, providers, clock=self.clock, emit=self.events.append, workspace=workspace
            )
        )

    @property
    def state(self) -> State:
        return state(*self.records)


def test_it_costs_as_many_calls_as_there_are_pages() -> None:
    lookout = Lookout(page_size=100)
    lookout.nodes(250)

    survey = lookout.survey()

    assert 250 == len(survey.instances)
    assert (3, 0, 1) == tuple(lookout.world.count(verb) for verb in ("list", "get", "health"))


def test_only_accounts_that_matter_are_asked() -> None:
    lookout = Lookout()
    lookout.nodes(2)

    survey = lookout.survey()

    assert {"here": "account-here"} == survey.accounts
    assert [RefreshStarted(1, 2), RefreshFinished(2, 0, 0.0)] == lookout.events


def test_what_a_listing_lacks_is_asked_for_by_itself() -> None:
    lookout = Lookout()
    lookout.nodes(4)
    lookout.world.vanish("here-1")
    lookout.world.script = lambda call: Fault(hides="here-2".__eq__) if call.verb == "list" else None

    survey = lookout.survey()

    seen = [survey.instances[record.address] for record in lookout.records]
    assert [True, False, True, True] == [observed is not None for observed in seen]
    assert 2 == lookout.world.count("get")


def test_an_empty_listing_makes_nothing_vanish() -> None:
    lookout = Lookout()
    lookout.nodes(5)
    lookout.world.script = lambda call: Fault(hides=lambda remote_id: True) if call.verb == "list" else None

    assert all(observed is not None for observed in lookout.survey().instances.values())


def test_without_a_listing_every_known_object_is_asked_for() -> None:
    lookout = Lookout(listing=Listing.NONE)
    lookout.nodes(3)

    assert 3 == len(lookout.survey().instances)
    assert (0, 3) == (lookout.world.count("list"), lookout.world.count("get"))


@pytest.mark.parametrize("error", [Unavailable, AuthFailed])
@pytest.mark.parametrize("verb", ["list", "health", "get"])
def test_a_provider_that_cannot_be_asked_is_unreachable_and_the_others_are_seen(
    error: type[Unavailable], verb: str
) -> None:
    lookout = Lookout()
    lookout.nodes(1)
    lookout.nodes(1, provider="there")
    lookout.world.vanish("here-0")

    def script(call: Call) -> Fault | None:
        return Fault(failed(error, call)) if (call.verb, call.provider) == (verb, "here") else None

    lookout.world.script = script
    survey = lookout.survey()

    assert {"here": error} == {name: type(trouble) for name, trouble in survey.unreachable.items()}
    assert Address("clusters", "here", None, 0) not in survey.instances
    assert survey.instances[Address("clusters", "there", None, 0)] is not None


def test_a_provider_that_nobody_configured_is_unreachable() -> None:
    lookout = Lookout()
    lookout.nodes(1, provider="elsewhere")

    assert {"elsewhere"} == lookout.survey().unreachable.keys()


def test_what_lies_in_an_unseen_region_is_not_taken_for_gone() -> None:
    lookout = Lookout()
    lookout.nodes(2, prefix="eu/")
    lookout.has("us-0")
    lookout.records.append(have("clusters.us.nodes[0]", remote_id="us-0", provider="here"))
    lookout.world.unseen = ("eu/",)

    survey = lookout.survey()

    assert {Address("clusters", "us", None, 0)} == survey.instances.keys()
    assert {record.address for record in lookout.records[:2]} == survey.unseen.keys()
    assert {} == survey.unreachable


def test_an_object_that_was_moved_is_recognised() -> None:
    lookout = Lookout()
    lookout.nodes(2)
    lookout.world.rename(lookout.world.objects["here-0"], "here-0-moved")
    lookout.world.rename(lookout.world.objects["here-1"], "by-way-of")
    lookout.world.rename(lookout.world.objects["by-way-of"], "here-1-moved")

    seen = [lookout.survey().instances[record.address] for record in lookout.records]

    assert ["here-0-moved", "here-1-moved"] == [observed and observed.remote_id for observed in seen]
    assert 0 == lookout.world.count("get")


@pytest.mark.parametrize(("age", "waited"), [(10, 20), (29, 1), (30, 0), (-5, 30)])
def test_an_object_counts_as_absent_only_once_it_is_old_enough_to_be_seen(age: float, waited: float) -> None:
    lookout = Lookout(visibility_delay_seconds=30)
    lookout.nodes(1)
    lookout.records[0] = replace(lookout.records[0], created_at=lookout.clock.now() - timedelta(seconds=age))
    lookout.world.script = lambda call: Fault(hides=lambda id: lookout.clock.monotonic() < 30 - age)

    (observed,) = lookout.survey().instances.values()

    assert waited == lookout.clock.monotonic()
    assert (age >= 0) == (observed is not None)


def test_what_carries_our_mark_and_nobody_claims_is_an_orphan() -> None:
    lookout = Lookout()
    lookout.nodes(1)
    lookout.has("lost", lineage="lineage")
    lookout.has("older state", lineage="other", project="test", workspace="prod")
    lookout.has("other workspace", lineage="other", project="test", workspace="dev")
    lookout.has("bare token", lineage="")
    lookout.has("deposed", lineage="lineage")
    lookout.has("going", lineage="lineage")
    lookout.world.delete_seconds = 100
    lookout.world.objects["going"].gone_at = 100
    old = Deposed("here", "acct", Kind.NODE, "deposed", "t-deposed")
    lookout.records[0] = replace(lookout.records[0], deposed=(old,))

    assert ["lost"] == [observed.remote_id for _, observed in lookout.survey().orphans]
    survey = lookout.survey(workspace="prod")
    assert [("here", "lost"), ("here", "older state")] == [(name, thing.remote_id) for name, thing in survey.orphans]


def test_orphans_are_found_at_accounts_that_only_the_spec_speaks_of() -> None:
    lookout = Lookout()
    lookout.has("lost", provider="there", lineage="lineage")

    survey = lookout.survey(spec(*cluster("a", 3, provider="there")))

    assert ["lost"] == [observed.remote_id for _, observed in survey.orphans]
    assert 1 == lookout.world.count("list")


def test_imports_are_looked_at_until_they_are_in_the_state() -> None:
    lookout = Lookout()
    lookout.has("vol-1", kind=Kind.VOLUME)
    wanted = [want("volumes.data"), want("volumes.gone"), want("volumes.done")]
    lookout.records.append(have("volumes.done", remote_id="vol-3"))
    imports = tuple(
        Import(Address("volumes", name), remote_id, ())
        for name, remote_id in (("data", "vol-1"), ("gone", "vol-2"), ("done", "vol-3"))
    )

    survey = lookout.survey(spec(*wanted, imports=imports))

    seen = {address.name: observed and observed.status for address, observed in survey.imports.items()}
    assert {"data": Status.RUNNING, "gone": None} == seen


def test_an_object_on_its_way_out_is_seen_as_that() -> None:
    lookout = Lookout()
    lookout.nodes(1)
    lookout.world.objects["here-0"].gone_at = 100

    (observed,) = lookout.survey().instances.values()

    assert observed is not None
    assert Status.TERMINATING is observed.status
    assert [1] == [event.missing for event in lookout.events if isinstance(event, RefreshFinished)]
