from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from gpuplan.core.address import Address
from gpuplan.core.capabilities import Idempotency
from gpuplan.core.desired import Candidate, Kind, Lifecycle, OnFailure, Settings, Timeouts
from gpuplan.core.errors import (
    Failure,
    InvalidRequest,
    NoCapacity,
    NotReady,
    OutcomeUnknown,
    ProtocolMismatch,
    ProviderError,
    QuotaExceeded,
    RateLimited,
    Unavailable,
)
from gpuplan.core.events import OperationProgress
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Observed
from gpuplan.core.ports import Listed, Provider, Want
from gpuplan.core.secret import Sealed, Secret
from gpuplan.core.state import Phase
from gpuplan.engine.records import objects
from gpuplan.testing.memory import MemoryProvider
from gpuplan.testing.memory_capabilities import memory_capabilities
from gpuplan.testing.memory_world import Call, Fault, MemoryWorld, failed
from tests.property.site import Site
from tests.unit.plan.build import cluster, offer, spec, want

NODE = "clusters.a.nodes[0]"
KEEP = Settings(on_failure=OnFailure.KEEP)
LOSSES = [OutcomeUnknown, ProtocolMismatch]


def site(*instances: Any, capabilities: Any = None, **knobs: Any) -> Site:
    made = Site(configuration=spec(*(instances or cluster("a", 1, {"image": "a"}))))
    made.world = MemoryWorld(made.clock, **knobs)
    made.capabilities = {
        "here": memory_capabilities(
            poll_interval_seconds=5,
            visibility_delay_seconds=made.world.visibility_seconds,
            ready_timeout_seconds=300,
            **(capabilities or {}),
        )
    }
    return made


def first(
    count: int, error: type[ProviderError], *, verb: str = "create", after: bool = False, leftover: str = ""
) -> Callable[[Call], Fault | None]:
    """A script in which the first calls of one kind fail."""
    left = [count]

    def script(call: Call) -> Fault | None:
        if call.verb != verb or not left[0]:
            return None
        left[0] -= 1
        made = failed(error, call)
        return Fault(type(made)(replace(made.failure, leftover=leftover)), after=after)

    return script


def error_of(made: Site) -> ProviderError:
    (failure,) = made.apply().outcome.failed
    assert isinstance(failure.error, ProviderError)
    return failure.error


def progress(made: Site) -> list[str]:
    return [event.text for event in made.events if isinstance(event, OperationProgress)]


@pytest.mark.parametrize("error", LOSSES)
def test_an_object_whose_answer_was_lost_is_found_and_used(error: type[ProviderError]) -> None:
    made = site(visibility_seconds=30)
    made.world.script = first(1, error, after=True)

    outcome = made.apply().outcome

    assert outcome.complete
    assert 1 == made.world.count("create")
    assert 1 == len(made.living())
    assert "looking for it" in progress(made)[0]


@pytest.mark.parametrize("error", LOSSES)
def test_what_was_certainly_not_created_is_sent_again_with_another_token(error: type[ProviderError]) -> None:
    made = site(visibility_seconds=30)
    made.world.script = first(2, error)

    outcome = made.apply().outcome

    assert outcome.complete
    assert 3 == made.world.count("create")
    assert 1 == len(made.living())
    # Nothing is sent again before the first one would have become visible.
    assert made.clock.monotonic() > 60


def test_it_gives_up_when_every_answer_is_lost() -> None:
    made = site()
    made.world.script = first(99, OutcomeUnknown)

    error = error_of(made)

    assert 3 == made.world.count("create")
    assert "asked 3 times; nothing was created" in error.failure.facts
    assert {} == made.state.intents


def test_as_long_as_nobody_can_tell_nothing_is_sent_again_and_the_intent_stays_open() -> None:
    made = site()
    made.world.script = first(1, OutcomeUnknown, after=True)
    made.world.unseen = ("eu/",)
    hidden = made.world

    def script(call: Call) -> Fault | None:
        return Fault(failed(OutcomeUnknown, call), after=True) if call.verb == "create" else Fault(hides=lambda _: True)

    hidden.script = script
    outcome = made.apply().outcome

    assert isinstance(outcome.failed[0].error, OutcomeUnknown)
    assert 1 == made.world.count("create")
    (seq,) = outcome.open
    assert any(f"intent {seq} stays open" in fact for fact in outcome.failed[0].error.failure.facts)
    made.world.script, made.world.unseen = None, ()
    assert made.apply().outcome.complete
    assert 1 == len(made.living())


def test_with_an_idempotency_key_the_same_request_is_repeated() -> None:
    made = site(capabilities={"idempotency": Idempotency.KEY})
    made.world.script = first(2, OutcomeUnknown, after=True)

    assert made.apply().outcome.complete

    assert 3 == made.world.count("create")
    assert 1 == len(made.world.objects)


def test_a_refused_repeat_says_nothing_about_the_request_whose_answer_was_lost() -> None:
    made = site(capabilities={"idempotency": Idempotency.KEY})
    troubles = iter([(OutcomeUnknown, True), (RateLimited, False)])

    def script(call: Call) -> Fault | None:
        trouble = next(troubles, None) if call.verb == "create" else None
        return None if trouble is None else Fault(failed(trouble[0], call), after=trouble[1])

    made.world.script = script

    assert made.apply().outcome.complete

    assert 1 == len(made.world.objects)
    assert made.plan().is_empty


@pytest.mark.parametrize("error", [Unavailable, RateLimited])
def test_what_was_refused_for_now_is_tried_again(error: type[ProviderError]) -> None:
    made = site()
    made.world.script = first(3, error)

    assert made.apply().outcome.complete

    assert 4 == made.world.count("create")
    assert {} == made.state.intents


def test_trying_again_ends_with_the_time_for_the_operation() -> None:
    made = site(*cluster("a", 1, settings=Settings(timeouts=Timeouts(create=60))))
    made.world.script = first(999, Unavailable)

    assert isinstance(error_of(made), Unavailable)
    assert made.clock.monotonic() <= 60


def test_what_is_refused_for_good_is_sent_once_and_leaves_no_intent() -> None:
    made = site()
    made.world.script = first(99, InvalidRequest)

    assert isinstance(error_of(made), InvalidRequest)
    assert 1 == made.world.count("create")
    assert {} == made.state.intents


def placed(*regions: str, **more: Any) -> Site:
    candidates = tuple(Candidate("here", {"region": region, "gpu": "L40S:1"}, ()) for region in regions)
    made = site(want(NODE, candidates=candidates), capabilities={"offers": True}, **more)
    made.world.offers = tuple(offer(region, str(price), region=region) for price, region in enumerate(regions, 1))
    return made


@pytest.mark.parametrize("error", [NoCapacity, QuotaExceeded])
def test_without_room_the_next_place_is_tried_at_once(error: type[ProviderError]) -> None:
    made = placed("EU", "US", "AP")
    made.world.script = first(2, error)

    assert made.apply().outcome.complete

    (recorded,) = made.state.instances.values()
    assert "AP" == recorded.attrs["region"]
    assert {"region": "AP", "offer": "AP", "price_per_hour": 3.0}.items() <= recorded.facts.items()
    assert [True, True] == ["trying here" in text for text in progress(made)]
    assert "trying here L40S:1 US at 2 USD per hour, after here L40S:1 EU at 1 USD per hour" in progress(made)[0]
    assert 0 == made.clock.monotonic()


def test_without_room_anywhere_the_error_says_what_was_asked_for() -> None:
    made = placed("EU", "US", capacity=lambda want: False)

    error = error_of(made)

    assert isinstance(error, NoCapacity)
    assert "L40S:1" == error.failure.gpu
    assert 2 == made.world.count("create")


def test_a_node_that_loses_its_machine_while_booting_moves_on_and_leaves_nothing_behind() -> None:
    made = placed("EU", "US", boot_seconds=10)
    lost = NoCapacity(Failure("here", "create node"))
    made.world.boots = lambda want: lost if want.attrs["region"] == "EU" else None

    assert made.apply().outcome.complete

    assert {"US"} == {thing.attrs["region"] for thing in made.world.living()}
    assert 1 == len(objects(next(iter(made.state.instances.values()))))


def test_it_does_not_move_on_from_what_it_could_not_clean_up() -> None:
    made = placed("EU", "US", boot_seconds=10, boots=lambda want: NoCapacity(Failure("here", "create node")))
    made.world.script = first(99, InvalidRequest, verb="delete")

    error = error_of(made)

    assert 1 == made.world.count("create")
    assert any("could not be deleted" in fact for fact in error.failure.facts)
    (recorded,) = made.state.instances.values()
    assert Phase.TAINTED is recorded.phase


@pytest.mark.parametrize("settings", [Settings(), KEEP])
def test_a_node_that_does_not_come_up_is_deleted_unless_it_shall_be_kept(settings: Settings) -> None:
    made = site(*cluster("a", 1, settings=settings), boot_seconds=10, boots=lambda want: "no signal")

    error = error_of(made)

    assert isinstance(error, NotReady)
    assert "no signal" == error.failure.message
    kept = settings is KEEP
    assert kept == (1 == len(made.living()))
    assert [Phase.TAINTED] * kept == [recorded.phase for recorded in made.state.instances.values()]
    assert ("is recorded as tainted" if kept else "was deleted again") in error.failure.facts[-1]
    assert {} == made.state.intents
    made.world.boots = None
    assert made.apply().outcome.complete
    assert 1 == len(made.living())


def test_a_node_that_takes_too_long_is_deleted() -> None:
    made = site(*cluster("a", 1, settings=Settings(timeouts=Timeouts(create=50))), boot_seconds=1000)

    assert isinstance(error_of(made), NotReady)

    assert {} == made.living()
    assert {} == made.state.instances


def test_a_node_that_vanishes_while_it_boots_is_not_ready() -> None:
    made = site(boot_seconds=100)

    def script(call: Call) -> None:
        if call.verb == "get":
            made.world.vanish("node-1")

    made.world.script = script
    error = error_of(made)

    assert "it is gone" == error.failure.message
    assert {} == made.state.instances


def test_a_node_that_could_not_be_watched_is_kept_and_seen_by_the_next_run() -> None:
    made = site(boot_seconds=10)

    def script(call: Call) -> Fault | None:
        return Fault(failed(Unavailable, call)) if made.world.count("create") and call.verb in ("get", "list") else None

    made.world.script = script
    assert isinstance(error_of(made), OutcomeUnknown)
    (recorded,) = made.state.instances.values()
    assert Phase.PENDING is recorded.phase
    assert {} == made.state.intents
    made.world.script = None

    applied = made.apply()

    assert () == applied.plan.operations
    assert [Phase.READY] == [recorded.phase for recorded in made.state.instances.values()]


def test_a_failed_replacement_leaves_the_old_node_as_it_was() -> None:
    careful = Settings(Lifecycle(create_before_destroy=True))
    made = site(*cluster("a", 1, {"image": "a"}, settings=careful))
    made.apply()
    (before,) = made.state.instances.values()
    made.configuration = spec(*cluster("a", 1, {"image": "b"}, settings=careful))
    made.world.boot_seconds = 10
    made.world.boots = lambda want: "no signal"

    assert 1 == len(made.apply().outcome.failed)

    assert [before] == list(made.state.instances.values())
    assert ["node-1"] == [thing.remote_id for thing in made.world.living()]


def test_what_exists_although_it_was_refused_is_recorded_and_deleted() -> None:
    made = site()
    made.world.script = first(1, NoCapacity, after=True, leftover="node-1")

    error = error_of(made)

    assert isinstance(error, NoCapacity)
    assert {} == made.living()
    assert {} == made.state.instances
    assert 1 == made.world.count("delete")


def test_what_was_left_behind_and_cannot_be_deleted_stays_recorded() -> None:
    made = site()
    refuse, stuck = first(1, NoCapacity, after=True, leftover="node-1"), first(1, InvalidRequest, verb="delete")
    made.world.script = lambda call: refuse(call) or stuck(call)

    error = error_of(made)

    assert any("node-1 was left behind" in fact for fact in error.failure.facts)
    assert ["node-1"] == [recorded.remote_id for recorded in made.state.instances.values()]
    made.world.script = None
    assert made.apply().outcome.complete
    assert ["node-2"] == [thing.remote_id for thing in made.world.living()]


def test_secrets_are_sent_in_clear_and_recorded_sealed() -> None:
    made = site(*cluster("a", 1, {"env": {"KEY": Secret("s3cret")}}))

    made.apply()

    (thing,) = made.world.living()
    assert {"KEY": Secret("s3cret")} == thing.attrs["env"]
    (recorded,) = made.state.instances.values()
    env: Any = recorded.attrs["env"]
    assert isinstance(env["KEY"], Sealed)
    assert () == made.plan().operations


def test_every_object_carries_a_mark_that_says_whose_it_is() -> None:
    made = site()

    made.apply()

    (thing,) = made.world.living()
    state = made.state
    assert (state.lineage, "test", "default") == (thing.mark.lineage, thing.mark.project, thing.mark.workspace)
    assert Address.parse(NODE) == thing.mark.address
    (recorded,) = state.instances.values()
    assert recorded.token == thing.mark.token
    assert thing.name.startswith("a-0-")


class Seer(MemoryProvider):
    """Its listings carry no marks, but what an object was asked to be can be recognised."""

    async def list(self, kind: Kind, known: frozenset[str]) -> Listed:
        listed = await super().list(kind, known)
        return replace(listed, objects=[self._unmarked(thing) for thing in listed.objects])

    def witness(self, want: Want, mark: Mark) -> str:
        return f"hash of {want.attrs['image']}"

    @staticmethod
    def _unmarked(thing: Observed) -> Observed:
        return replace(thing, mark=None, witness=f"hash of {thing.attrs['image']}")


class SeersSite(Site):
    @property
    def providers(self) -> Mapping[str, Provider]:
        return {"here": Seer(self.world, "here", memory_capabilities())}


def test_without_marks_a_lost_object_is_told_by_its_witness_from_those_that_are_known() -> None:
    made = SeersSite(configuration=spec(*cluster("a", 1, {"image": "x"})))
    made.apply()
    made.configuration = spec(*cluster("a", 2, {"image": "x"}))
    made.world.script = first(1, OutcomeUnknown, after=True)

    assert made.apply().outcome.complete

    assert 2 == made.world.count("create")
    assert {"node-1", "node-2"} == {recorded.remote_id for recorded in made.state.instances.values()}


def test_prices_of_a_group_are_those_of_all_its_nodes() -> None:
    made = Site(configuration=spec(want("clusters.a", {"gpu": "L40S:1", "nodes": 4}, kind=Kind.GROUP)))
    made.capabilities = {"here": memory_capabilities(groups=True, offers=True)}
    made.world.offers = (replace(offer("x", "1.5"), price_per_hour=Decimal("1.5")),)

    made.apply()

    (recorded,) = made.state.instances.values()
    assert 6.0 == recorded.facts["price_per_hour"]
