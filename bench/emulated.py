"""What an apply costs a provider that takes its time: how long beside the shortest possible, and how many calls.

`python -m bench.emulated FOLDER` measures in virtual time and prints JSON; `measure_emulated` is its caller.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.engines import Gpuplan
from bench.graphs import Graph, Shape
from bench.measure import run

if TYPE_CHECKING:
    from bench.patient import World

PARALLELISM = 32
_ANSWERS = (1.0, 60.0)
_BOOT = 180.0
_NODES = 1000
_LIMIT_SECONDS = 300.0
"""Of real time: it takes a few seconds."""


@dataclass(frozen=True, slots=True)
class Makespan:
    """One apply. `bound_seconds` is what none can go below: the longest chain, or all work over the concurrency."""

    title: str
    seconds: float
    bound_seconds: float


@dataclass(frozen=True, slots=True)
class Calls:
    """What a piece of work sent beside what it must not exceed."""

    title: str
    sent: int
    most: int


@dataclass(frozen=True, slots=True)
class Emulated:
    makespans: Sequence[Makespan] = ()
    calls: Sequence[Calls] = ()
    wrong: str = ""


def measure_emulated(folder: Path) -> Emulated:
    """In a process of its own, so that the one that measures others stays small."""
    measured = run(
        [sys.executable, "-m", "bench.emulated", str(folder)],
        folder=folder,
        environ=Gpuplan().environ(),
        limit_seconds=_LIMIT_SECONDS,
    )
    if measured.status != 0:
        return Emulated(wrong=measured.output or f"not finished in {_LIMIT_SECONDS:.0f} s")
    told = json.loads(measured.output)
    return Emulated([Makespan(**one) for one in told["makespans"]], [Calls(**one) for one in told["calls"]])


def _measured(folder: Path) -> Emulated:
    graphs = (Graph(Shape.FLAT, 1000), Graph(Shape.LAYERED, 1000), Graph(Shape.CHAIN, 500))
    makespans = [_makespan(folder / str(graph.shape), graph) for graph in graphs]
    return Emulated(makespans, _calls(folder / "calls"))


def _makespan(folder: Path, graph: Graph) -> Makespan:
    from bench.patient import World
    from gpuplan.testing.clock import FakeClock

    world = World(FakeClock(), answer_seconds=_ANSWERS)
    seconds = _apply(folder, graph, world)
    chains: dict[str, float] = {}
    for resource in graph.resources():
        before = max((chains[need] for need in resource.needs), default=0.0)
        chains[resource.name] = before + world.answer_time(resource.name)
    work = sum(map(world.answer_time, chains))
    return Makespan(f"{graph.shape} {graph.size:,}", seconds, max(*chains.values(), work / PARALLELISM))


def _calls(folder: Path) -> list[Calls]:
    """Bring a cluster up, then look at it again."""
    from bench.patient import INTERVAL_SECONDS, PAGE_SIZE, World
    from gpuplan.testing.clock import FakeClock

    graph = Graph(Shape.COUNTED, _NODES)
    world = World(FakeClock(), answer_seconds=(2.0, 2.0), boot_seconds=_BOOT)
    seconds = _apply(folder, graph, world)
    up, pages = world.calls, -(-_NODES // PAGE_SIZE)
    # The first look comes after a second, and the pause doubles until it is the interval.
    early = int(INTERVAL_SECONDS).bit_length()
    again = World(FakeClock())
    _apply(folder, graph, again)
    return [
        Calls(f"creates to bring up {_NODES:,} nodes", up["creates"], _NODES),
        Calls(f"lists meanwhile, in {seconds:.0f} s", up["lists"], early + int(seconds // INTERVAL_SECONDS)),
        Calls("gets meanwhile", up["gets"], 0),
        Calls(f"pages to refresh {_NODES:,} nodes", again.calls["pages"], pages),
        Calls("gets to refresh them", again.calls["gets"], 0),
    ]


def _apply(folder: Path, graph: Graph, world: "World") -> float:
    """Apply a graph; the virtual seconds it took. Raises SystemExit when it was not all done."""
    from gpuplan.core.plan import PlanOptions
    from gpuplan.engine.outcome import Limits, Stop
    from gpuplan.workflow.applying import Run, apply_project
    from gpuplan.workflow.project import Project

    async def yes(_: object) -> bool:
        return True

    folder.mkdir(exist_ok=True)
    Gpuplan().write(graph, folder)
    project = Project(folder, types={"bench.instant:PROVIDER": world.provider_type})
    limits = Limits(parallelism=PARALLELISM)
    run = Run(clock=world.clock, emit=lambda event: None, approve=yes, limits=limits, stop=Stop())
    applied = world.clock.run(apply_project(project, PlanOptions(), run))
    if applied.outcome is None or not applied.outcome.complete:
        raise SystemExit(f"{graph.shape} {graph.size} was not applied")
    return applied.outcome.seconds


if __name__ == "__main__":
    print(json.dumps(asdict(_measured(Path(sys.argv[1])))))
