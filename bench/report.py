"""Writes what was measured as Markdown tables, into the marked part of `docs/performance.md` or to the terminal."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.compare import Row
from bench.emulated import Emulated, Makespan
from bench.engines import Step
from bench.graphs import Shape
from bench.reading import Reading
from bench.startup import Startup
from bench.targets import Verdict, verdicts

BEGIN = "<!-- measured: begin -->"
END = "<!-- measured: end -->"


@dataclass(frozen=True, slots=True)
class Results:
    setting: Sequence[str]
    """One sentence each: machine, versions, limits."""
    startups: Sequence[Startup]
    readings: Sequence[Reading]
    emulated: Emulated
    rows: Sequence[Row]


def markdown(results: Results) -> str:
    parts = ["\n".join(f"- {sentence}" for sentence in results.setting)]
    found = verdicts(results.startups, results.readings, results.emulated, results.rows)
    parts += ["### Targets", _verdict_table(found)]
    if results.startups:
        parts += ["### Starting", _startup_table(results.startups)]
    if results.readings:
        parts += ["### Reading a spec of 10,000 clusters", _reading_table(results.readings)]
    if results.emulated.makespans:
        parts += ["### Apply with latency, in virtual time", _makespan_table(results.emulated.makespans)]
    if results.rows:
        engines = list(dict.fromkeys(row.engine for row in results.rows))
        parts += [
            "### Wall time in seconds",
            _comparison(results.rows, engines, lambda row: row.seconds, "{:,.2f}".format),
            "### Peak memory in MB",
            _comparison(results.rows, engines, lambda row: row.peak_mb, "{:,.0f}".format),
            "### Kilobytes written",
            _comparison([row for row in results.rows if _writes(row.step)], engines, _written_kb, "{:,.0f}".format),
            "### Kilobytes of state afterwards",
            _comparison([row for row in results.rows if row.step is Step.APPLY], engines, _state_kb, "{:,.0f}".format),
        ]
        parts += _reasons(results.rows)
    return "\n\n".join(parts) + "\n"


def write_page(page: Path, text: str) -> None:
    """Replace what lies between the markers of `page`. Raises ValueError when it has none."""
    old = page.read_text()
    head, begin, rest = old.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no `{BEGIN}` followed by `{END}`")
    page.write_text(f"{head}{BEGIN}\n\n{text}\n{END}{tail}")


def _writes(step: Step) -> bool:
    return step in (Step.APPLY, Step.UPDATE, Step.DESTROY)


def _written_kb(row: Row) -> float | None:
    return None if row.written_bytes is None else row.written_bytes / 1000


def _state_kb(row: Row) -> float | None:
    return None if row.state_bytes is None else row.state_bytes / 1000


def _startup_table(startups: Sequence[Startup]) -> str:
    lines = ["| whole process | seconds | peak MB |", "|---|---:|---:|"]
    for startup in startups:
        lines.append(f"| {startup.title} | {_number(startup.seconds)} | {startup.peak_mb:.0f} |")
    return "\n".join(lines)


def _reading_table(readings: Sequence[Reading]) -> str:
    lines = ["| reader | seconds | peak MB |", "|---|---:|---:|"]
    for reading in readings:
        lines.append(f"| {reading.reader} | {_number(reading.seconds)} | {reading.peak_mb:.0f} |")
    return "\n".join(lines)


def _verdict_table(found: Iterable[Verdict]) -> str:
    words = {True: "yes", False: "**no**", None: "not measured"}
    lines = ["| target | met | measured |", "|---|---|---|"]
    lines += [f"| {one.target} | {words[one.met]} | {one.measured} |" for one in found]
    return "\n".join(lines)


def _makespan_table(makespans: Sequence[Makespan]) -> str:
    lines = ["| graph | shortest possible | gpuplan | ratio |", "|---|---:|---:|---:|"]
    for one in makespans:
        ratio = one.seconds / one.bound_seconds
        lines.append(f"| {one.title} | {one.bound_seconds:,.0f} s | {one.seconds:,.0f} s | {ratio:.2f} |")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _comparison(
    rows: Sequence[Row],
    engines: Sequence[str],
    measure: Callable[[Row], float | None],
    show: Callable[[float], str],
) -> str:
    """One line per graph and step: each engine's number, then how many times ours the others' are."""
    ours, others = engines[0], engines[1:]
    heads = ["graph", "work", *engines, *(f"{other} : {ours}" for other in others)]
    lines = [f"| {' | '.join(heads)} |", f"|---|---|{'---:|' * (len(heads) - 2)}"]
    table: dict[tuple[Shape, int, Step], dict[str, float | None]] = {}
    for row in rows:
        table.setdefault((row.shape, row.size, row.step), {})[row.engine] = measure(row)
    for (shape, size, step), values in table.items():
        numbers = [values.get(engine) for engine in engines]
        cells = ["–" if number is None else show(number) for number in numbers]
        ratios = [_ratio(number, numbers[0]) for number in numbers[1:]]
        lines.append(f"| {shape} {size:,} | {step} | {' | '.join([*cells, *ratios])} |")
    return "\n".join(lines)


def _ratio(theirs: float | None, ours: float | None) -> str:
    return f"{theirs / ours:,.1f}" if theirs is not None and ours else "–"


def _reasons(rows: Sequence[Row]) -> list[str]:
    unmeasured = [row for row in rows if row.note]
    if not unmeasured:
        return []
    lines = [f"- {row.engine}, {row.shape} {row.size:,}, {row.step}: {row.note}." for row in unmeasured]
    return ["### What a dash stands for", "\n".join(lines)]
