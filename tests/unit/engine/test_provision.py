from typing import Any

from gpuplan.core.desired import OnFailure, Settings
from gpuplan.core.errors import NotReady, OutcomeUnknown, ProviderError, Unavailable
from gpuplan.core.secret import Secret
from gpuplan.core.state import Phase
from gpuplan.testing.memory_capabilities import memory_capabilities
from gpuplan.testing.memory_world import Call, Fault, MemoryWorld, failed
from tests.property.site import Site
from tests.unit.plan.build import cluster, spec

KEEP = Settings(on_failure=OnFailure.KEEP)


def site(nodes: int = 1, settings: Settings | None = None, setup: Any = "install", **knobs: Any) -> Site:
    made = Site(configuration=spec(*cluster("a", nodes, {"setup": setup}, settings=settings or Settings())))
    made.world = MemoryWorld(made.clock, **knobs)
    made.capabilities = {"here": memory_capabilities(poll_interval_seconds=5, ready_timeout_seconds=200)}
    return made


def error_of(made: Site) -> ProviderError:
    (failure,) = made.apply().outcome.failed
    assert isinstance(failure.error, ProviderError)
    return failure.error


def left_booting() -> Site:
    """A node was created, and nobody could see what came of it."""
    made = site(boot_seconds=100)

    def script(call: Call) -> Fault | None:
        is_blind = made.world.count("create") and call.verb in ("get", "list")
        return Fault(failed(Unavailable, call)) if is_blind else None

    made.world.script = script
    assert isinstance(error_of(made), OutcomeUnknown)
    made.world.script = None
    return made


def test_setup_runs_once_the_node_is_up_and_knows_where_it_is() -> None:
    made = site(2, boot_seconds=30)

    assert made.apply().outcome.complete

    ran = {str(thing.mark.address): thing.ran for thing in made.world.living()}
    env = {
        "GPUPLAN_NODE_INDEX": "1",
        "GPUPLAN_NODES": "2",
        "GPUPLAN_ADDRESS": "clusters.a.nodes[1]",
        "GPUPLAN_PEERS": "192.0.0.1,192.0.0.2",
    }
    assert [("install", env)] == ran["clusters.a.nodes[1]"]
    assert made.clock.monotonic() >= 30
    assert {Phase.READY} == {recorded.phase for recorded in made.state.instances.values()}
    assert () == made.plan().operations


def test_a_secret_setup_is_run_as_it_is() -> None:
    made = site(setup=Secret("login s3cret"))

    assert made.apply().outcome.complete

    assert ["login s3cret"] == [command for command, _ in next(made.world.living()).ran]


def test_a_failed_setup_shows_its_last_lines_and_the_node_is_deleted() -> None:
    made = site(run_status=lambda command: 3)

    error = error_of(made)

    assert isinstance(error, NotReady)
    assert "ran: install" == error.failure.message
    assert "the setup ended with status 3" in error.failure.facts
    assert {} == made.living()
    assert {} == made.state.instances


def test_a_node_whose_setup_failed_is_kept_tainted_where_that_is_asked_for() -> None:
    made = site(settings=KEEP, run_status=lambda command: 3)

    error_of(made)

    assert [Phase.TAINTED] == [recorded.phase for recorded in made.state.instances.values()]
    made.world.run_status = None
    assert made.apply().outcome.complete
    assert ["node-2"] == [thing.remote_id for thing in made.world.living()]


def test_setup_is_tried_again_while_the_node_cannot_be_reached() -> None:
    made = site()
    left = [3]

    def script(call: Call) -> Fault | None:
        if call.verb != "run" or not left[0]:
            return None
        left[0] -= 1
        return Fault(failed(Unavailable, call))

    made.world.script = script

    assert made.apply().outcome.complete
    assert 4 == made.world.count("run")


def test_a_setup_that_broke_off_is_not_trusted() -> None:
    made = site()
    made.world.script = lambda call: Fault(failed(OutcomeUnknown, call), after=True) if call.verb == "run" else None

    assert isinstance(error_of(made), NotReady)

    assert 1 == made.world.count("run")
    assert {} == made.living()


def test_a_setup_that_never_ends_ends_with_the_time_for_the_node() -> None:
    made = site()

    def script(call: Call) -> None:
        made.world.latency_seconds = 100_000 if call.verb == "run" else 0

    made.world.script = script

    assert isinstance(error_of(made), NotReady)
    assert made.clock.monotonic() < 300


def test_a_node_that_an_earlier_run_left_booting_is_watched_and_set_up() -> None:
    made = left_booting()
    next(made.world.living()).ready_at = made.clock.monotonic() + 50

    applied = made.apply()

    assert ["read clusters.a.nodes[0]"] == [operation.id for operation in applied.plan.operations]
    assert applied.outcome.complete
    assert ["install"] == [command for command, _ in next(made.world.living()).ran]
    assert () == made.plan().operations


def test_a_node_that_an_earlier_run_left_and_that_fails_is_cleaned_up() -> None:
    made = left_booting()
    thing = next(made.world.living())
    thing.ready_at = made.clock.monotonic() + 50
    made.world.fail(thing.remote_id, "no signal")

    assert isinstance(error_of(made), NotReady)

    assert {} == made.living()
    assert {} == made.state.instances


def test_where_nobody_need_look_again_a_created_node_is_ready() -> None:
    made = site(setup=None, boot_seconds=1000)
    made.capabilities = {"here": memory_capabilities(requires_readiness_poll=False)}

    assert made.apply().outcome.complete

    assert 0 == made.clock.monotonic()
    assert [Phase.READY] == [recorded.phase for recorded in made.state.instances.values()]
