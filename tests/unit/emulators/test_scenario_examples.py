"""The scenarios that come with the project can be played."""

from pathlib import Path

import pytest

from gpuplan.emulators.catalog import emulator_types
from gpuplan.emulators.desk import Desk
from gpuplan.emulators.http import Request
from gpuplan.emulators.scenario import read_scenario
from gpuplan.emulators.world import World
from gpuplan.testing.clock import FakeClock

EXAMPLES = sorted((Path(__file__).parents[3] / "examples" / "scenarios").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_plays_to_its_end(path: Path) -> None:
    clock = FakeClock()
    desk = Desk(World(clock), emulator_types(), scenario=read_scenario(path.read_text()))
    for _ in range(5):
        clock.advance(1200)

        assert 200 == desk.answer(Request("GET", "/_emulator/ledger")).response.status


def test_there_are_examples() -> None:
    assert {"capacity-drought", "preemption-storm", "flaky-api", "slow-boot"} <= {path.stem for path in EXAMPLES}
