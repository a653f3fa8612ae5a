"""Events as JSON and as lines."""

import json
from pathlib import Path
from typing import get_args

import pytest
from jsonschema import Draft202012Validator

from gpuplan.cli.render.json import event_line, event_schema
from gpuplan.cli.render.progress import describe
from gpuplan.core.address import Address
from gpuplan.core.events import (
    DriftBegan,
    DriftEnded,
    Event,
    IntentSettled,
    Interrupted,
    Looked,
    OperationFailed,
    OperationFinished,
    OperationProgress,
    OperationSkipped,
    OperationStarted,
    RefreshFinished,
    RefreshStarted,
    RoundFailed,
    RunFinished,
    RunStarted,
)
from tests.unit.cli.plans import NOW

SCHEMA = Path(__file__).parents[3] / "schemas" / "event.v1.json"
NODE = Address("clusters", "train", None, 0)
HOSTILE = "x\x1b[2J\ny"
EVENTS: dict[Event, str | None] = {
    RefreshStarted(1, 2): None,
    RefreshFinished(2, 0, 0.5): None,
    RunStarted(3, 32): None,
    OperationStarted("create a", "create", NODE, "local"): "clusters.train.nodes[0]: Creating...",
    OperationProgress("create a", NODE, HOSTILE): r"clusters.train.nodes[0]: x\x1b[2J\ny",
    OperationFinished("create a", "create", NODE, "id-1", 63): (
        "clusters.train.nodes[0]: Creation complete after 1m3s [id=id-1]"
    ),
    OperationFinished(
        "delete a", "delete", NODE, "id-1", 0.2
    ): "clusters.train.nodes[0]: Destruction complete after 0s",
    OperationFailed("stop a", "stop", NODE, "refused", HOSTILE, 1): (
        r"clusters.train.nodes[0]: Stop did not succeed after 1s: x\x1b[2J\ny"
    ),
    OperationSkipped("create b", "create", NODE, "create a"): "clusters.train.nodes[0]: skipped, it needs `create a`",
    IntentSettled(7, NODE, "done", "was found and is recorded"): "clusters.train.nodes[0]: was found and is recorded",
    Interrupted(0): (
        "Interrupted: nothing new starts, nothing is in flight. Once more leaves now; what is open is settled later."
    ),
    RunFinished(1, 2, 3, 0, 0, 4.5): None,
    Looked(2, 1, 1): None,
    DriftBegan("changed", "clusters.train.nodes[0]", "local", HOSTILE): (
        r"clusters.train.nodes[0]: changed: x\x1b[2J\ny"
    ),
    DriftEnded("stopped", "clusters.train.nodes[0]", "local"): "clusters.train.nodes[0]: no longer stopped",
    RoundFailed("unavailable", HOSTILE): r"This round ended early: x\x1b[2J\ny",
}


def test_published_schema_is_up_to_date():
    assert event_schema() == json.loads(SCHEMA.read_text())


def test_every_event_is_covered_here():
    assert set(get_args(Event)) == {type(event) for event in EVENTS}


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_every_event_follows_the_published_schema(event):
    line = event_line(event, NOW)

    Draft202012Validator(event_schema()).validate(json.loads(line))
    assert "\n" not in line


@pytest.mark.parametrize(("event", "line"), EVENTS.items(), ids=lambda value: type(value).__name__)
def test_events_read_as_lines(event, line):
    assert line == describe(event)
