from typing import Any

import pytest

from gpuplan.core.address import Address
from gpuplan.core.desired import Lifecycle, Settings, Timeouts
from gpuplan.core.errors import Conflict, InvalidRequest, NotFound, NotReady, OutcomeUnknown, ProviderError, Unavailable
from gpuplan.core.values import Ref
from gpuplan.engine.records import objects
from gpuplan.testing.memory_capabilities import memory_capabilities
from gpuplan.testing.memory_world import Call, Fault, MemoryWorld, failed
from tests.property.site import Site
from tests.unit.plan.build import cluster, spec, want


def site(*instances: Any, **knobs: Any) -> Site:
    """What is there; the spec asks for nothing any more."""
    made = Site(configuration=spec(*(instances or cluster("a", 1))))
    made.world = MemoryWorld(made.clock, **knobs)
    made.capabilities = {"here": memory_capabilities(poll_interval_seconds=5, ready_timeout_seconds=300)}
    assert made.apply().outcome.complete
    made.configuration = spec()
    made.world.calls.clear()
    return made


def failing(error: type[ProviderError], *, times: int = 99, after: bool = False) -> Any:
    left = [times]

    def script(call: Call) -> Fault | None:
        if call.verb != "delete" or not left[0]:
            return None
        left[0] -= 1
        return Fault(failed(error, call), after=after)

    return script


def test_an_object_is_dropped_from_the_state_once_it_is_certainly_gone() -> None:
    made = site(delete_seconds=60)
    before = made.clock.monotonic()

    assert made.apply().outcome.complete

    assert made.clock.monotonic() - before >= 60
    assert {} == made.state.instances
    assert {} == made.living()


@pytest.mark.parametrize("error", [Conflict, Unavailable, OutcomeUnknown])
def test_a_delete_is_repeated_until_the_provider_takes_it(error: type[ProviderError]) -> None:
    made = site()
    made.world.script = failing(error, times=3)

    assert made.apply().outcome.complete

    assert 4 == made.world.count("delete")
    assert {} == made.living()


def test_a_delete_whose_answer_was_lost_is_a_delete() -> None:
    made = site()
    made.world.script = failing(OutcomeUnknown, times=1, after=True)

    assert made.apply().outcome.complete
    assert {} == made.state.instances


def test_an_object_that_the_provider_does_not_know_any_more_is_deleted() -> None:
    made = site()

    def script(call: Call) -> Fault | None:
        if call.verb != "delete":
            return None
        made.world.vanish("node-1")
        return Fault(failed(NotFound, call))

    made.world.script = script

    assert made.apply().outcome.complete
    assert {} == made.state.instances


def test_a_delete_that_is_refused_leaves_the_record() -> None:
    made = site()
    made.world.script = failing(InvalidRequest)

    (failure,) = made.apply().outcome.failed

    assert isinstance(failure.error, InvalidRequest)
    assert 1 == len(made.state.instances)
    assert {} == made.state.intents


def test_a_delete_without_end_gives_up_and_leaves_the_record() -> None:
    made = site(delete_seconds=10_000)

    (failure,) = made.apply().outcome.failed

    assert isinstance(failure.error, NotReady)
    assert 1 == len(made.state.instances)
    assert {} == made.state.intents


def test_a_delete_that_was_taken_and_not_done_is_asked_for_again() -> None:
    made = site()
    ignored = iter([True, True])

    def script(call: Call) -> None:
        if call.verb == "get" and next(ignored, False):
            # The first requests were answered and forgotten.
            made.world.objects["node-1"].gone_at = None

    made.world.script = script
    assert made.apply().outcome.complete

    assert made.world.count("delete") >= 2
    assert {} == made.living()


def test_its_time_is_what_the_spec_says_as_long_as_it_says_something() -> None:
    attrs: dict[str, Any] = {"image": "a"}
    made = site(*cluster("a", 1, attrs), delete_seconds=10_000)
    made.configuration = spec(*cluster("a", 1, {"image": "b"}, settings=Settings(timeouts=Timeouts(delete=30))))
    before = made.clock.monotonic()

    outcome = made.apply().outcome

    assert ["delete clusters.a.nodes[0]"] == [failure.operation.id for failure in outcome.failed]
    assert 30 <= made.clock.monotonic() - before < 40


def test_the_old_object_of_a_replacement_goes_last_and_only_from_the_list_of_deposed_ones() -> None:
    careful = Settings(Lifecycle(create_before_destroy=True))
    made = site(*cluster("a", 1, {"image": "a"}, settings=careful))
    made.configuration = spec(*cluster("a", 1, {"image": "b"}, settings=careful))
    made.world.script = failing(InvalidRequest)

    outcome = made.apply().outcome

    assert ["delete clusters.a.nodes[0] (deposed)"] == [failure.operation.id for failure in outcome.failed]
    (recorded,) = made.state.instances.values()
    assert ["node-2", "node-1"] == [thing.remote_id for thing in objects(recorded)]
    made.world.script = None
    assert made.apply().outcome.complete
    assert ["node-2"] == [thing.remote_id for thing in objects(next(iter(made.state.instances.values())))]


def test_a_volume_goes_when_the_node_that_mounts_it_is_gone() -> None:
    mounts = [{"volume": Ref(Address("volumes", "data")), "mount": "/x"}]
    made = site(want("volumes.data"), *cluster("a", 1, {"volumes": mounts}), delete_seconds=60)

    assert made.apply().outcome.complete

    deletes = [call.remote_id for call in made.world.calls if call.verb == "delete"]
    assert "node-2" == deletes[0]
    assert "volume-1" == deletes[-1]
