import asyncio
from datetime import UTC, datetime, timedelta

from gpuplan.emulators.catalog import emulator_types
from gpuplan.emulators.desk import Desk
from gpuplan.emulators.serve import serving
from gpuplan.emulators.world import World
from gpuplan.net.clock import SystemClock
from gpuplan.workflow.emulating import clock_of, played


def test_whoever_works_against_an_emulator_goes_by_its_clock() -> None:
    world = World(SystemClock())
    world.time.advance(86_400)
    world.time.set_speed(1000)
    with serving(Desk(world, emulator_types(["vultr"]))) as url:
        clock = clock_of(url)

    assert clock.now() - datetime.now(UTC) > timedelta(hours=23)
    before = clock.monotonic()
    asyncio.run(clock.sleep(20))
    assert clock.monotonic() - before >= 20


def test_without_an_emulator_time_is_real() -> None:
    assert isinstance(clock_of("http://127.0.0.1:9"), SystemClock)
    assert abs(clock_of("http://127.0.0.1:9").now() - datetime.now(UTC)) < timedelta(minutes=1)


def test_what_a_scenario_says_of_emulators_that_are_not_served_is_left_out() -> None:
    text = "stock: [{provider: vultr, gpu: A100, available: 1}, {provider: runpod, gpu: A100, available: 1}]"

    scenario = played(text, emulator_types(["vultr"]), SystemClock())

    assert ["vultr"] == [step.body["provider"] for step in scenario.steps]
