"""What a run came to, in words."""

import pytest

from gpuplan.cli.render.outcome import failures, next_step, outcome_summary
from gpuplan.core.desired import Configuration, Desired, Kind
from gpuplan.core.diagnostics import At, Span
from gpuplan.core.errors import Failure, NoCapacity
from gpuplan.core.plan import Action, Mode, Operation
from gpuplan.engine.outcome import Failed, RunOutcome, Skipped
from tests.unit.cli.plans import CANDIDATE, address


class Nowhere:
    def locate(self, at: At) -> Span | None:
        return None

    def line(self, file: str, line: int) -> str | None:
        return None


def create(number: int) -> Operation:
    name = address(f"clusters.train.nodes[{number}]")
    return Operation(f"create {name}", Action.CREATE, name, "runpod")


def full(number: int) -> Failed:
    return Failed(create(number), NoCapacity(Failure("runpod", f"create node {number}", code="full", status=400)))


def configuration() -> Configuration:
    places = [address(f"clusters.train.nodes[{number}]") for number in range(4)]
    instances = {each: Desired(each, Kind.NODE, (CANDIDATE,), frozenset(), ("clusters", "train")) for each in places}
    return Configuration("llama", instances, {}, "", Nowhere())


@pytest.mark.parametrize(
    ("outcome", "mode", "expected"),
    [
        (
            RunOutcome((), added=3, destroyed=1),
            Mode.NORMAL,
            "Apply complete! Resources: 3 added, 0 changed, 1 destroyed.",
        ),
        (RunOutcome((), destroyed=3), Mode.DESTROY, "Destroy complete! Resources: 3 destroyed."),
        (
            RunOutcome((), failed=(full(0),), skipped=(Skipped(create(1), "x"),), added=2),
            Mode.NORMAL,
            "Apply incomplete. Resources: 2 added, 0 changed, 0 destroyed; 1 failed, 1 skipped.",
        ),
        (
            RunOutcome((), unstarted=(create(0),), deadline_passed=True),
            Mode.NORMAL,
            "Deadline passed. Resources: 0 added, 0 changed, 0 destroyed; 1 not started.",
        ),
        (
            RunOutcome((), open=(17,), interrupted=True),
            Mode.NORMAL,
            "Interrupted. Resources: 0 added, 0 changed, 0 destroyed; 1 left open.",
        ),
    ],
)
def test_the_summary_line(outcome, mode, expected):
    assert expected == outcome_summary(outcome, mode)


def test_equal_failures_of_many_nodes_are_told_once():
    (found,) = failures(RunOutcome((), failed=(full(0), full(1), full(3))), configuration())

    assert "no-capacity" == found.id
    assert "creating clusters.train.nodes[0]" == found.labels[0].text
    assert "the same happened to clusters.train.nodes[1,3]" == found.facts[-1]


def test_an_incomplete_run_says_what_is_recorded_and_what_to_do():
    step = next_step(RunOutcome((), failed=(full(0),), open=(17,)))

    assert step is not None
    assert "everything that was done is recorded" == step.facts[0]
    assert "1 operation may have happened; the next command looks" in step.facts
    assert ("gpuplan plan", "gpuplan apply") == step.commands


def test_a_complete_run_asks_for_nothing():
    assert next_step(RunOutcome(())) is None
