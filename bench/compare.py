"""Runs the steps of one engine on one graph, in a folder of its own, and records what each took."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.engines import Engine, Step
from bench.graphs import Graph, Shape
from bench.measure import Measured, run

_LONG_SEQUENCE_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Row:
    """One engine, graph and step. Without `seconds` it was not measured, and `note` says why."""

    engine: str
    shape: Shape
    size: int
    step: Step
    seconds: float | None = None
    peak_mb: float | None = None
    written_bytes: int | None = None
    state_bytes: int | None = None
    stopped_after: float | None = None
    """Seconds after which it was stopped, unfinished: it takes longer than that."""
    note: str = ""
    wrong: str = ""
    """The end of what the step printed, when that was not what it had to print."""


@dataclass(frozen=True, slots=True)
class Bounds:
    limit_seconds: float
    """After this a command is stopped."""
    rounds: int
    """How often a short sequence is repeated; the fastest of each step counts."""


def compare_all(
    engines: Sequence[Engine], graphs: Sequence[Graph], bounds: Bounds, say: Callable[[Row], None]
) -> list[Row]:
    """Every engine on every graph, engine beside engine; the graphs of a shape come in growing order."""
    rows: list[Row] = []
    for graph in graphs:
        for engine in engines:
            same = [row for row in rows if row.engine == engine.name and row.shape is graph.shape]
            largest = max((row.size for row in same if row.size < graph.size), default=0)
            smaller = [row for row in same if row.size == largest]
            measured = _compare(engine, graph, smaller, bounds)
            rows.extend(measured)
            for row in measured:
                say(row)
    return rows


def _compare(engine: Engine, graph: Graph, smaller: Sequence[Row], bounds: Bounds) -> list[Row]:
    best = _sequence(engine, graph, smaller, bounds.limit_seconds)
    for _ in range(bounds.rounds - 1):
        if sum(row.seconds or bounds.limit_seconds for row in best) > _LONG_SEQUENCE_SECONDS:
            break
        again = _sequence(engine, graph, smaller, bounds.limit_seconds)
        best = [_faster(first, second) for first, second in zip(best, again, strict=True)]
    return best


def _faster(first: Row, second: Row) -> Row:
    if first.seconds is None or second.seconds is None:
        return first if first.seconds is None else second
    return first if first.seconds <= second.seconds else second


def _sequence(engine: Engine, graph: Graph, smaller: Sequence[Row], limit_seconds: float) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        engine.write(graph, folder)
        if engine.prepare:
            _command(engine, engine.prepare, folder, limit_seconds)
        rows: list[Row] = []
        lost = ""
        for step in Step:
            if step is Step.CHANGED:
                graph = replace(graph, changed=True)
                engine.write(graph, folder)
            row = Row(engine.name, graph.shape, graph.size, step)
            row = replace(row, note=lost or _hopeless(row, smaller, limit_seconds))
            if not row.note:
                row = _measure(engine, graph, row, folder, limit_seconds)
            rows.append(row)
            if row.seconds is None and step in (Step.APPLY, Step.UPDATE) and not engine.seed(graph, folder):
                lost = f"not tried: no state after `{step}`"
        return rows


def _hopeless(row: Row, smaller: Sequence[Row], limit_seconds: float) -> str:
    """Why a step is not even tried: in proportion to a smaller graph it would take too long."""
    for before in smaller:
        if before.step is not row.step or before.wrong:
            continue
        if before.seconds is None:
            return "not tried: a smaller graph was too much"
        if before.seconds * row.size / before.size > limit_seconds:
            return f"not tried: {before.size:,} took {before.seconds:.0f} s"
    return ""


def _measure(engine: Engine, graph: Graph, row: Row, folder: Path, limit_seconds: float) -> Row:
    measured = _command(engine, engine.arguments(row.step), folder, limit_seconds)
    if measured.status is None:
        return replace(row, stopped_after=limit_seconds, note=f"not finished in {limit_seconds:.0f} s")
    expected = engine.expected(row.step, graph)
    if measured.status or expected not in measured.output:
        return replace(row, note=f"exit {measured.status}, without `{expected}`", wrong=measured.output)
    return replace(
        row,
        seconds=measured.seconds,
        peak_mb=measured.peak_mb,
        written_bytes=measured.written_bytes,
        state_bytes=sum(path.stat().st_size for path in engine.state(folder) if path.exists()),
    )


def _command(engine: Engine, arguments: Sequence[str], folder: Path, limit_seconds: float) -> Measured:
    return run([*engine.program, *arguments], folder=folder, environ=engine.environ(), limit_seconds=limit_seconds)
