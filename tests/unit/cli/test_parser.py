"""The command line: what is understood, where values come from, and what is said of mistakes."""

import io

import pytest

from gpuplan.cli.commands import apply, plan
from gpuplan.cli.main import Streams, run
from gpuplan.cli.parser import Parser, UsageError


def read(*arguments: str, verb=plan, **environ: str):
    parser = Parser("plan", "make a plan")
    verb.arguments(parser)
    return parser.read(arguments, environ)


def gpuplan(*arguments: str, **environ: str) -> tuple[int, str, str]:
    streams = Streams(io.StringIO(), io.StringIO(), io.StringIO())
    return run(arguments, streams, environ), streams.stdout.getvalue(), streams.stderr.getvalue()


def test_flags_come_from_the_environment_unless_they_are_given():
    assert 3 == read(GPUPLAN_PARALLELISM="3").parallelism
    assert 4 == read("--parallelism", "4", GPUPLAN_PARALLELISM="3").parallelism
    assert 32 == read().parallelism


def test_switches_come_from_the_environment():
    assert read(GPUPLAN_DETAILED_EXITCODE="yes").detailed_exitcode
    assert not read(GPUPLAN_DETAILED_EXITCODE="0").detailed_exitcode


def test_lists_come_from_the_environment_split_at_commas():
    assert ["clusters.a", "volumes.b"] == [str(each) for each in read(GPUPLAN_TARGET="clusters.a,volumes.b").target]
    assert ["clusters.c"] == [str(each) for each in read("--target", "clusters.c", GPUPLAN_TARGET="clusters.a").target]


def test_a_mistake_in_the_environment_names_the_variable():
    with pytest.raises(UsageError, match="`GPUPLAN_PARALLELISM` in the environment: `many` is not a whole number"):
        read(GPUPLAN_PARALLELISM="many")


def test_terraform_single_dashes_mean_what_they_mean_there():
    values = read("-auto-approve", "-refresh=false", verb=apply)

    assert (True, False) == (values.auto_approve, values.refresh)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--taget", "x"], "has no flag `--taget`"),
        (["--parallelism", "0"], "`--parallelism`: it must be at least 1"),
        (["--parallelism"], "`--parallelism`: a value is missing"),
        (["--refresh", "maybe"], "`--refresh`: `maybe` is neither `true` nor `false`"),
        (["--target", "train"], "`--target`: `train` is not an address"),
        (["--lock-timeout", "soon"], "`--lock-timeout`: `soon` is not a duration"),
        (["--destroy=yes"], "`--destroy`: takes no value"),
        (["what"], "`what` is one argument too many"),
    ],
)
def test_mistakes_are_named(arguments, says):
    with pytest.raises(UsageError) as caught:
        read(*arguments)

    assert says in str(caught.value)


def test_global_flags_may_stand_before_or_after_the_verb():
    for arguments in (["--json", "version"], ["version", "--json"], ["--workspace", "a", "--json", "version"]):
        assert gpuplan(*arguments)[1].startswith("{")


def test_a_flag_with_a_value_does_not_hide_the_verb():
    code, _, said = gpuplan("-C", "version", "workspace", "show")

    assert (1, True) == (code, "there is no folder `version`" in said)


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["help"], ["plan", "--help"], ["help", "plan"]])
def test_help_goes_to_standard_output_and_succeeds(arguments):
    code, printed, said = gpuplan(*arguments)

    assert (0, "", True) == (code, said, "usage: gpuplan" in printed)


def test_without_a_verb_the_overview_is_shown_and_nothing_succeeds():
    assert 1 == gpuplan()[0]


def test_a_mistyped_verb_is_recognised():
    code, printed, said = gpuplan("aply")

    assert (1, "") == (code, printed)
    assert "did you mean `apply`?" in said


def test_errors_are_json_for_programs():
    code, printed, said = gpuplan("aply", "--json")

    assert (1, "") == (code, printed)
    assert said.startswith('{"diagnostics": [{"id": "usage"')
