from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from gpuplan.core.desired import Kind, OnFailure, Settings
from gpuplan.core.errors import (
    AuthFailed,
    Conflict,
    Failure,
    HostKeyChanged,
    NoCredentials,
    NotReady,
    OutcomeUnknown,
    ProviderError,
    Unavailable,
)
from gpuplan.core.events import OperationProgress
from gpuplan.core.secret import Secret
from gpuplan.core.state import Phase
from gpuplan.testing.crashes import Crash
from gpuplan.testing.memory_capabilities import memory_capabilities
from gpuplan.testing.memory_world import Call, Fault, MemoryWorld, failed
from tests.property.site import Site
from tests.unit.plan.build import cluster, spec, want


def site(nodes: int = 1, *, attrs: dict[str, Any] | None = None, setup: Any = "install", **knobs: Any) -> Site:
    made = Site(configuration=spec(*cluster("a", nodes, {"setup": setup, **(attrs or {})})))
    made.world = MemoryWorld(made.clock, **knobs)
    made.capabilities = {"here": memory_capabilities(poll_interval_seconds=5, ready_timeout_seconds=200)}
    return made


def error_of(made: Site) -> ProviderError:
    (failure,) = made.apply().outcome.failed
    assert isinstance(failure.error, ProviderError)
    return failure.error


def refusing(made: Site, error: Callable[[Call], ProviderError], *, seconds: float) -> None:
    """For so long nobody gets onto a node."""

    def script(call: Call) -> Fault | None:
        return Fault(error(call)) if call.verb == "run" and made.clock.monotonic() < seconds else None

    made.world.script = script


def ran(made: Site) -> list[str]:
    return [command for thing in made.world.living() for command, _ in thing.ran]


@pytest.mark.parametrize("error", [Unavailable, Conflict, AuthFailed])
def test_a_way_onto_a_node_may_open_later_than_the_provider_says_that_it_runs(error: type[ProviderError]) -> None:
    made = site()
    refusing(made, lambda call: failed(error, call), seconds=40)

    assert made.apply().outcome.complete

    assert ["install"] == ran(made)
    assert any("waits for a way onto it" in e.text for e in made.events if isinstance(e, OperationProgress))


@pytest.mark.parametrize("error", [Unavailable, Conflict])
def test_a_way_that_never_opens_ends_with_the_time_for_the_node(error: type[ProviderError]) -> None:
    made = site()
    refusing(made, lambda call: failed(error, call), seconds=10_000)

    assert isinstance(error_of(made), NotReady)

    assert 100 < made.clock.monotonic() <= 200
    assert {} == made.living()


def test_a_key_that_is_refused_again_and_again_is_given_up_soon() -> None:
    made = site()
    refusing(made, lambda call: failed(AuthFailed, call), seconds=10_000)

    assert isinstance(error_of(made), AuthFailed)

    assert 60 <= made.clock.monotonic() <= 120


@pytest.mark.parametrize("error", [NoCredentials, HostKeyChanged])
def test_what_waiting_does_not_help_is_not_waited_for(error: type[ProviderError]) -> None:
    made = site()
    refusing(made, lambda call: failed(error, call), seconds=10_000)

    assert isinstance(error_of(made), error)

    assert 1 == made.world.count("run")


def test_a_node_that_has_told_no_address_is_looked_at_again() -> None:
    made = site()
    refusing(made, lambda call: failed(Conflict, call), seconds=10)

    assert made.apply().outcome.complete

    assert made.world.count("get") == made.world.count("run") - 1


def test_whoever_waits_for_a_way_takes_no_place_at_work() -> None:
    made = site(20)
    made.capabilities = {"here": memory_capabilities(max_concurrency=2, ready_timeout_seconds=200)}
    refusing(made, lambda call: failed(Unavailable, call), seconds=60)

    assert made.apply().outcome.complete

    assert made.clock.monotonic() < 150


def test_what_the_setup_printed_is_kept_and_its_secrets_are_not() -> None:
    made = site(setup=Secret("login s3cret"), run_status=lambda command: 1)

    error = error_of(made)

    assert ["ran: ********"] == made.logs["clusters.a.nodes[0] setup"].lines
    assert "ran: ********" == error.failure.message
    assert "all it printed is in clusters.a.nodes[0] setup" in error.failure.facts


def test_the_environment_of_the_node_is_that_of_its_setup() -> None:
    made = site(attrs={"env": {"TOKEN": Secret("s3cret"), "MODE": "fast"}})

    assert made.apply().outcome.complete

    ((_, env),) = next(made.world.living()).ran
    assert ("s3cret", "fast", "0") == (env["TOKEN"], env["MODE"], env["GPUPLAN_NODE_INDEX"])


def test_peers_that_have_no_address_yet_are_left_open() -> None:
    made = site(3)
    made.world.boots = None

    def script(call: Call) -> None:
        made.world.latency_seconds = 10 * made.world.count("create") if call.verb == "create" else 0

    made.world.script = script

    assert made.apply().outcome.complete

    peers = [env["GPUPLAN_PEERS"].split(",") for thing in made.world.living() for _, env in thing.ran]
    assert {3} == {len(each) for each in peers}
    assert ["192.0.0.1", "", ""] in peers


def test_of_a_very_large_cluster_no_peers_are_told() -> None:
    made = site(1001)

    assert made.apply().outcome.complete

    assert {""} == {env["GPUPLAN_PEERS"] for thing in made.world.living() for _, env in thing.ran}


def emptying(**attrs: Any) -> Site:
    """A node at a provider whose restarts leave nothing on a disk, set up; then the spec changes."""
    made = site(attrs={"env": {"MODE": "slow"}})
    known = memory_capabilities(poll_interval_seconds=5, ready_timeout_seconds=200, restart_empties=True)
    made.capabilities = {"here": known}
    assert made.apply().outcome.complete
    next(made.world.living()).ran.clear()
    made.configuration = spec(*cluster("a", 1, {"setup": "install", **attrs}))
    return made


def test_a_change_that_empties_the_disk_runs_the_setup_again() -> None:
    made = emptying(env={"MODE": "fast"})

    assert made.apply().outcome.complete

    assert ["install"] == ran(made)
    assert ["clusters.a.nodes[0]"] == made.renewed
    assert [Phase.READY] == [recorded.phase for recorded in made.state.instances.values()]
    assert () == made.plan().operations


def test_a_change_that_empties_nothing_runs_no_setup() -> None:
    made = emptying(env={"MODE": "slow"}, labels={"team": "x"})

    assert made.apply().outcome.complete

    assert ([], []) == (ran(made), made.renewed)


def test_a_node_that_is_started_with_an_empty_disk_is_set_up_again() -> None:
    made = emptying(env={"MODE": "slow"}, stopped=True)
    assert made.apply().outcome.complete
    assert [] == ran(made)
    assert () == made.plan().operations
    made.configuration = spec(*cluster("a", 1, {"setup": "install", "env": {"MODE": "slow"}}))

    assert made.apply().outcome.complete

    assert ["install"] == ran(made)
    assert () == made.plan().operations


def test_a_setup_that_fails_after_a_change_takes_the_node_with_it() -> None:
    made = emptying(env={"MODE": "fast"})
    made.world.run_status = lambda command: 1

    assert isinstance(error_of(made), NotReady)

    assert {} == made.living()


def test_a_change_that_is_refused_leaves_the_node_ready() -> None:
    made = emptying(env={"MODE": "fast"})
    made.world.script = lambda call: Fault(HostKeyChanged(Failure("here", "no"))) if call.verb == "update" else None

    error_of(made)

    made.world.script = None
    assert [Phase.READY] == [recorded.phase for recorded in made.state.instances.values()]


def test_whoever_is_killed_while_it_empties_a_node_leaves_a_node_that_is_set_up() -> None:
    for moment in range(1, 12):
        made = emptying(env={"MODE": "fast"})
        left = [moment]

        def survives(_: str, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] == 0:
                raise Crash

        made.survives = survives
        with suppress(Crash):
            made.apply()
        made.survives = lambda moment: None
        changed = made.world.count("update")
        made.apply()

        assert [Phase.READY] == [recorded.phase for recorded in made.state.instances.values()]
        assert () == made.plan().operations
        assert made.world.count("update") <= changed + 1
        assert ran(made)[-1:] == ["install"]


def test_a_setup_whose_end_nobody_saw_is_not_trusted() -> None:
    made = site()
    made.configuration = spec(*cluster("a", 1, {"setup": "install"}, settings=Settings(on_failure=OnFailure.KEEP)))
    made.world.script = lambda call: Fault(failed(OutcomeUnknown, call), after=True) if call.verb == "run" else None

    assert isinstance(error_of(made), NotReady)

    assert [Phase.TAINTED] == [recorded.phase for recorded in made.state.instances.values()]


def test_every_node_of_a_group_is_set_up() -> None:
    made = site(4, attrs={})
    made.capabilities = {"here": memory_capabilities(groups=True, ready_timeout_seconds=200)}
    made.configuration = spec(want("clusters.a", {"setup": "install", "nodes": 4}, kind=Kind.GROUP))

    assert made.apply().outcome.complete

    (thing,) = made.world.living()
    assert ["0", "1", "2", "3"] == sorted(env["GPUPLAN_NODE_INDEX"] for _, env in thing.ran)
    assert {"4"} == {env["GPUPLAN_NODES"] for _, env in thing.ran}
