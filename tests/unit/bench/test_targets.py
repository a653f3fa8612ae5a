from dataclasses import replace

from bench.compare import Row
from bench.emulated import Calls, Emulated, Makespan
from bench.engines import Step
from bench.graphs import Shape
from bench.reading import Reading
from bench.startup import Startup
from bench.targets import verdicts

OURS = Row("gpuplan", Shape.FLAT, 1000, Step.APPLY, seconds=0.5, peak_mb=50, written_bytes=1_000_000)


def found(*rows: Row, startups: tuple[Startup, ...] = (), emulated: Emulated | None = None) -> dict[str, bool | None]:
    readings = [Reading("libyaml nodes", 0.4, 70), Reading("gpuplan", 0.45, 110)]
    return {one.target: one.met for one in verdicts(startups, readings, emulated or Emulated(), rows)}


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    told = found(OURS)

    assert told["10 times as fast as Terraform"] is None
    assert told["below a quarter of Terraform's memory at 10,000"] is None
    assert told["growing no worse than n log n"] is None


def test_one_slow_case_misses_the_target() -> None:
    terraform = replace(OURS, engine="Terraform", seconds=20.0)
    plan = replace(OURS, step=Step.PLAN, seconds=0.3)

    assert found(OURS, terraform)["10 times as fast as Terraform"] is True
    assert (
        found(OURS, terraform, plan, replace(terraform, step=Step.PLAN, seconds=1.0))["10 times as fast as Terraform"]
        is False
    )


def test_one_that_was_stopped_counts_only_if_it_is_slower_by_far_already() -> None:
    stopped = replace(OURS, engine="Terraform", seconds=None, stopped_after=4.0)

    assert found(OURS, stopped)["10 times as fast as Terraform"] is None
    assert found(OURS, replace(stopped, stopped_after=6.0))["10 times as fast as Terraform"] is True


def test_small_graphs_are_compared_with_atlantide_alone() -> None:
    small = replace(OURS, size=100, seconds=0.25)
    told = found(small, replace(small, engine="Terraform"), replace(small, engine="Atlantide", seconds=0.4))

    assert told["10 times as fast as Terraform"] is None
    assert told["2 times as fast as Atlantide"] is False


def test_growth_and_bytes_are_judged_from_one_size_to_another() -> None:
    larger = replace(OURS, size=10_000, seconds=6.5, written_bytes=10_100_000)
    told = found(OURS, larger)

    assert told["growing no worse than n log n"] is True
    assert told["bytes written in proportion to the changes"] is True
    told = found(OURS, replace(larger, seconds=7.0, written_bytes=100_000_000))
    assert told["growing no worse than n log n"] is False
    assert told["bytes written in proportion to the changes"] is False


def test_seconds_counts_and_makespans_are_held_against_their_bounds() -> None:
    startups = (Startup("version", 0.2, 10), Startup("plan", 0.4, 40))
    emulated = Emulated([Makespan("chain 500", 120, 100)], [Calls("gets meanwhile", 0, 0)])

    told = found(startups=startups, emulated=emulated)

    assert told["version in 0.15 s"] is False
    assert told["plan in 0.6 s"] is True
    assert told["at most 0 gets meanwhile"] is True
    assert told["apply of chain 500 with latency in 1.1 times the shortest possible"] is False
    assert told["reading 10,000 clusters in 1.25 times what libyaml's own parse takes"] is True
