from typing import Any

import pytest

from gpuplan.core.address import Address
from gpuplan.core.capabilities import Listing
from gpuplan.core.desired import Kind
from gpuplan.core.errors import Unavailable
from gpuplan.core.events import IntentSettled
from gpuplan.core.marks import Mark
from gpuplan.core.ports import Want
from gpuplan.core.state import Phase
from gpuplan.engine.records import objects
from gpuplan.engine.recover import LONGEST_JOURNEY_SECONDS
from gpuplan.net.profile import Effect
from gpuplan.testing.crashes import Crash
from gpuplan.testing.memory import memory_provider
from gpuplan.testing.memory_capabilities import memory_capabilities
from gpuplan.testing.memory_world import Call, Fault, MemoryWorld, failed
from tests.property.remote import Trouble
from tests.property.site import Site
from tests.unit.plan.build import cluster, spec, want

NODE = "clusters.a.nodes[0]"


def dead_site(verb: str, trouble: Trouble, *, capabilities: dict[str, Any] | None = None, **knobs: Any) -> Site:
    """A site whose run died at the first such request, and then calmed down."""
    site = Site(configuration=spec(*cluster("a", 1, {"image": "a", "labels": {"team": "x"}})))
    site.world = MemoryWorld(site.clock, **knobs)
    known = {
        "visibility_delay_seconds": site.world.visibility_seconds,
        "poll_interval_seconds": 5,
        **(capabilities or {}),
    }
    site.capabilities = {"here": memory_capabilities(**known)}
    if verb != "create":
        site.apply()
        labels = {"labels": {"team": "y"}} if verb == "update" else {}
        site.configuration = spec(*cluster("a", 1, {"image": "a", **labels})) if verb == "update" else spec()

    def network(sent: str, effect: Effect) -> Trouble | None:
        return trouble if sent == verb else None

    site.network = network
    with pytest.raises(Crash):
        site.apply()
    site.network = None
    site.events.clear()
    assert 1 == len(site.state.intents)
    return site


async def created(site: Site, address: Address | None, mark: Mark) -> None:
    """Somebody's request arrives after all."""
    assert address is not None
    await memory_provider(site.world, "here").create(Want(address, Kind.NODE, {}, "late"), mark, {})


def settled(site: Site) -> list[tuple[str, str]]:
    return [(event.outcome, event.text) for event in site.events if isinstance(event, IntentSettled)]


def test_a_node_that_was_created_is_adopted() -> None:
    site = dead_site("create", Trouble.CRASH_AFTER)

    plan = site.plan()

    assert () == plan.operations
    assert [("done", "was created as node-1, and is recorded now")] == settled(site)
    (recorded,) = site.state.instances.values()
    assert ("node-1", Phase.PENDING) == (recorded.remote_id, recorded.phase)
    assert {"image": "a", "labels": {"team": "x"}} == recorded.attrs


def test_a_node_that_was_never_created_is_planned_again() -> None:
    site = dead_site("create", Trouble.CRASH_BEFORE)

    plan = site.plan()

    assert [("never", "was not created")] == settled(site)
    assert [f"create {NODE}"] == [operation.id for operation in plan.operations]
    assert {} == site.state.intents


def test_absence_counts_only_once_the_object_must_be_visible() -> None:
    site = dead_site("create", Trouble.CRASH_AFTER, visibility_seconds=30)

    assert () == site.plan().operations

    assert 30 <= site.clock.monotonic() < 31


def test_nobody_waits_when_all_is_found_at_once() -> None:
    site = dead_site("create", Trouble.CRASH_AFTER, visibility_seconds=30)
    site.clock.advance(40)
    before = site.clock.monotonic()

    site.plan()

    assert before == site.clock.monotonic()


def test_an_intent_of_long_ago_is_not_waited_for() -> None:
    site = dead_site("create", Trouble.CRASH_BEFORE, visibility_seconds=30)
    site.clock.advance(LONGEST_JOURNEY_SECONDS + 30)
    before = site.clock.monotonic()

    site.plan()

    assert before == site.clock.monotonic()
    assert {} == site.state.intents


def test_twins_of_one_attempt_are_all_recorded() -> None:
    site = dead_site("create", Trouble.CRASH_AFTER)
    (thing,) = site.world.living()
    site.clock.run(created(site, thing.mark.address, thing.mark))
    site.plan()

    (recorded,) = site.state.instances.values()
    assert {"node-1", "node-2"} == {each.remote_id for each in objects(recorded)}
    site.apply()
    assert 1 == len(site.living())


def test_a_late_twin_of_a_closed_attempt_is_an_orphan_and_not_the_new_node() -> None:
    site = dead_site("create", Trouble.CRASH_BEFORE)
    (intent,) = site.state.intents.values()
    site.apply()

    mark = Mark(intent.token, "test", "default", site.state.lineage, intent.address)
    site.clock.run(created(site, intent.address, mark))
    plan = site.plan()

    assert () == plan.operations
    assert ["node-2"] == [orphan.remote_id for orphan in plan.orphans]


@pytest.mark.parametrize(
    ("trouble", "outcome", "rest"),
    [(Trouble.CRASH_BEFORE, ("never", "was not deleted"), 1), (Trouble.CRASH_AFTER, ("done", "was deleted"), 0)],
)
def test_a_delete_is_settled_by_a_look(trouble: Trouble, outcome: tuple[str, str], rest: int) -> None:
    site = dead_site("delete", trouble)

    plan = site.plan()

    assert [outcome] == settled(site)
    assert rest == len(plan.operations) == len(site.state.instances)


def test_a_delete_that_cannot_be_looked_at_stays_open() -> None:
    site = dead_site("delete", Trouble.CRASH_AFTER)
    seen = iter([True])

    def script(call: Call) -> Fault | None:
        return Fault(failed(Unavailable, call)) if call.verb == "get" and next(seen, False) else None

    site.world.script = script
    site.plan()

    assert ["open"] == [outcome for outcome, _ in settled(site)]
    assert 1 == len(site.state.intents)


@pytest.mark.parametrize(("trouble", "rest"), [(Trouble.CRASH_BEFORE, 1), (Trouble.CRASH_AFTER, 0)])
def test_a_change_is_planned_again_if_it_did_not_happen(trouble: Trouble, rest: int) -> None:
    site = dead_site("update", trouble)

    assert rest == len(site.plan().operations)
    assert ["never"] == [outcome for outcome, _ in settled(site)]


def test_an_intent_that_cannot_be_looked_for_stays_open() -> None:
    site = dead_site("create", Trouble.CRASH_AFTER, capabilities={"listing": Listing.NONE})

    site.plan()

    assert [("open", "stays open: this provider has no listing to look for the object in")] == settled(site)
    assert 1 == len(site.state.intents)


def test_an_intent_in_an_unseen_part_of_the_account_stays_open() -> None:
    site = dead_site("create", Trouble.CRASH_BEFORE)
    site.world.unseen = ("eu/",)

    site.plan()

    assert ["open"] == [outcome for outcome, _ in settled(site)]
    assert 1 == len(site.state.intents)


@pytest.mark.parametrize("verb", ["list", "health"])
def test_an_intent_at_an_unreachable_provider_stays_open(verb: str) -> None:
    site = dead_site("create", Trouble.CRASH_AFTER)
    seen = iter([True])

    def script(call: Call) -> Fault | None:
        return Fault(failed(Unavailable, call)) if call.verb == verb and next(seen, False) else None

    site.world.script = script
    site.plan()

    assert ["open"] == [outcome for outcome, _ in settled(site)]
    assert 1 == len(site.state.intents)
    assert () == site.plan().operations


def test_an_intent_in_another_account_stays_open() -> None:
    site = dead_site("create", Trouble.CRASH_BEFORE)
    site.world.accounts = {"here": "mine"}

    site.plan()

    text = "stays open: it was begun in account account-here, the credentials are of account mine"
    assert [("open", text)] == settled(site)
    assert 1 == len(site.state.intents)


def test_an_intent_at_a_provider_that_nobody_configured_stays_open() -> None:
    site = dead_site("create", Trouble.CRASH_BEFORE)
    site.capabilities = {"there": site.capabilities["here"]}
    site.configuration = spec(want("volumes.other", provider="there"), providers=("here", "there"))

    site.plan()

    assert [("open", "stays open: there is no provider `here` to ask")] == settled(site)


def test_settling_many_intents_takes_one_listing_per_look() -> None:
    site = Site(configuration=spec(*cluster("a", 20)))

    def network(verb: str, effect: Effect) -> Trouble | None:
        created = sum(call.verb == "create" for call in site.world.calls)
        return Trouble.CRASH_AFTER if verb == "create" and created == 19 else None

    site.network = network
    with pytest.raises(Crash):
        site.apply()
    site.network = None
    site.world.calls.clear()

    site.plan()

    assert {} == site.state.intents
    assert site.world.count("list") <= 3
