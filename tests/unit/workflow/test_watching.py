"""`watch` over a provider in memory: what is told once, what is told again, and what is done about it."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gpuplan.core.capabilities import Lease
from gpuplan.core.errors import SpecError, Unavailable
from gpuplan.core.events import DriftBegan, DriftEnded, Event, Looked, RoundFailed, RunFinished
from gpuplan.core.plan import PlanOptions
from gpuplan.core.ports import ProviderType
from gpuplan.testing.memory import memory_provider
from gpuplan.testing.memory_capabilities import memory_capabilities
from gpuplan.testing.memory_world import Call, Fault, failed
from gpuplan.workflow.ledger import hold_state, open_state
from gpuplan.workflow.watching import Rounds, watch
from tests.unit.workflow.town import SPEC, Options, Town

TOLD = (Looked, DriftBegan, DriftEnded, RoundFailed, RunFinished)
QUIET = Looked(2, 0, 0)
LOST = DriftBegan("missing", "clusters.train.nodes[0]", "memory", "was deleted outside of gpuplan")


def watched(
    town: Town,
    rounds: int,
    *,
    applies: bool = False,
    options: PlanOptions | None = None,
    after: Callable[[int], None] = lambda number: None,
    **changes: Any,
) -> list[Event]:
    """What so many rounds tell; `after` is called with the number of the look that just ended."""
    told: list[Event] = []

    def emit(event: Event) -> None:
        if isinstance(event, TOLD):
            told.append(event)
        if isinstance(event, (Looked, RoundFailed)):
            after(sum(isinstance(each, (Looked, RoundFailed)) for each in told))

    how = Rounds(60, applies, options or PlanOptions(), rounds)
    town.run(watch(town.project(**changes), how, replace(town.orders(True), emit=emit), asyncio.Event()))
    return told


def first_node(town: Town) -> str:
    return next(iter(town.world.objects))


def test_nothing_is_told_of_a_fleet_that_stays_as_it_is(town: Town) -> None:
    town.apply()

    assert [QUIET] * 3 == watched(town, 3)


def test_drift_is_told_when_it_begins_and_when_it_ends(town: Town) -> None:
    town.apply()
    node = first_node(town)

    def change(number: int) -> None:
        match number:
            case 1:
                town.world.stop(node)
            case 3:
                town.world.objects[node].halted = None

    began = DriftBegan("stopped", "clusters.train.nodes[0]", "memory", "is stopped")
    ended = DriftEnded("stopped", "clusters.train.nodes[0]", "memory")
    drifted = Looked(2, 1, 1)
    assert [QUIET, began, drifted, drifted, ended, QUIET] == watched(town, 4, after=change)


def test_what_was_lost_comes_back_when_it_applies(town: Town) -> None:
    town.apply()
    town.world.vanish(first_node(town))

    told = watched(town, 2, applies=True)

    assert [LOST, Looked(2, 1, 1)] == told[:2]
    assert isinstance(told[2], RunFinished)
    assert [DriftEnded("missing", "clusters.train.nodes[0]", "memory"), QUIET] == told[3:]
    assert 2 == len(list(town.world.living()))


def test_it_only_looks_when_it_is_not_to_apply(town: Town) -> None:
    town.apply()
    town.world.vanish(first_node(town))

    assert [LOST, Looked(2, 1, 1), Looked(2, 1, 1)] == watched(town, 2)
    assert 1 == len(list(town.world.living()))


def test_a_limit_is_told_once_and_nothing_is_destroyed(town: Town) -> None:
    town.apply()
    town.write("gpuplan.yaml", SPEC.replace("default: 2", "default: 0"))

    told = watched(town, 3, applies=True, options=PlanOptions(max_destroy=1))

    assert ["too-many-destroys"] == [event.error_id for event in told if isinstance(event, RoundFailed)]
    assert 2 == len(list(town.world.living()))


def test_weather_at_the_provider_ends_nothing(town: Town) -> None:
    town.apply()

    def storm(call: Call) -> Fault | None:
        return Fault(failed(Unavailable, call, message="weather")) if call.verb == "list" else None

    town.world.script = storm

    def clear(number: int) -> None:
        if number == 1:
            town.world.script = None

    told = watched(town, 2, after=clear)

    assert isinstance(told[0], RoundFailed)
    assert QUIET == told[-1]


def test_a_spec_that_breaks_while_it_watches_is_told_and_awaited(town: Town) -> None:
    town.apply()

    def edit(number: int) -> None:
        town.write("gpuplan.yaml", "project: [" if number == 1 else SPEC)

    told = watched(town, 3, after=edit)

    assert [Looked, RoundFailed, Looked] == [type(event) for event in told]


def test_a_spec_that_cannot_be_read_at_first_ends_it(town: Town) -> None:
    town.write("gpuplan.yaml", "project: [")

    with pytest.raises(SpecError):
        watched(town, 1)


def test_somebody_elses_lock_is_waited_out(town: Town) -> None:
    town.apply()
    town.world.vanish(first_node(town))

    async def held() -> list[Event]:
        told: list[Event] = []
        backend = open_state(town.project(), town.clock)
        ended = asyncio.Event()
        orders = replace(town.orders(True), emit=told.append)
        async with hold_state(backend, town.clock, operation="apply", create_project="town"):
            await watch(town.project(), Rounds(60, True, PlanOptions(), 1), orders, ended)
        await watch(town.project(), Rounds(60, True, PlanOptions(), 1), orders, ended)
        return [event for event in told if isinstance(event, (RoundFailed, RunFinished))]

    first, second = town.run(held())

    assert isinstance(first, RoundFailed)
    assert "state-locked" == first.error_id
    assert isinstance(second, RunFinished)


def test_a_lease_is_extended_without_being_told_to_apply(town: Town) -> None:
    lease = Lease(extendable=True, default_seconds=86400, extend_before_seconds=3600)
    kind = ProviderType(
        name="memory",
        title="in memory, for a time",
        options=Options,
        capabilities=lambda options: memory_capabilities(lease=lease),
        open=lambda options, context: memory_provider(town.world, context.block.name, memory_capabilities(lease=lease)),
    )
    leased = {"types": {"memory": kind}}
    town.apply(**leased)
    town.write("gpuplan.yaml", SPEC.replace("default: 2", "default: 3"))
    soon = town.clock.now() + timedelta(minutes=30)
    node = town.world.objects[first_node(town)]
    node.expires_at = soon

    watched(town, 1, **leased)

    assert node.expires_at > soon + timedelta(hours=20)
    assert 2 == len(list(town.world.living()))


def test_it_ends_in_the_middle_of_a_pause(town: Town) -> None:
    town.apply()

    async def ended_early() -> float:
        ended = asyncio.Event()
        began = town.clock.monotonic()
        watching = asyncio.create_task(
            watch(town.project(), Rounds(3600, False, PlanOptions()), town.orders(True), ended)
        )
        await town.clock.sleep(5)
        ended.set()
        await watching
        return town.clock.monotonic() - began

    assert town.run(ended_early()) < 60
