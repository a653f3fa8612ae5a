"""`python -m bench`: measure, print the tables, and put them into a page."""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from bench.compare import Bounds, Row, compare_all
from bench.emulated import Emulated, measure_emulated
from bench.engines import Engine, engines, is_installed
from bench.graphs import Graph, Shape
from bench.reading import Reading, measure_reading
from bench.report import Results, markdown, write_page
from bench.startup import Startup, measure_startup

_CHAIN = 500


def main() -> int:
    arguments = _arguments()
    installed = _installed(arguments.engines)
    bounds = Bounds(arguments.limit, arguments.rounds)
    startups: list[Startup] = []
    readings: list[Reading] = []
    emulated = Emulated()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        if "startup" in arguments.parts:
            startups = measure_startup(Path(folder), bounds.limit_seconds)
        if "reading" in arguments.parts:
            readings = measure_reading(Path(folder), bounds.limit_seconds)
        if "emulated" in arguments.parts:
            emulated = measure_emulated(Path(folder))
    graphs = _graphs(arguments.shapes, arguments.sizes) if "compare" in arguments.parts else []
    rows = compare_all(installed, graphs, bounds, _say)
    results = Results(_setting(installed, bounds), startups, readings, emulated, rows)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(asdict(results), indent=1) + "\n")
    text = markdown(results)
    print(text)
    outputs = [*(one.wrong for one in startups), *(one.wrong for one in readings), *(one.wrong for one in rows)]
    if wrong := [output for output in (*outputs, emulated.wrong) if output]:
        print("No page is written, something did not do what was measured:", *wrong, sep="\n", file=sys.stderr)
        return 1
    if arguments.page:
        write_page(Path(arguments.page), text)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--parts", type=_words, default=["startup", "reading", "emulated", "compare"])
    parser.add_argument("--engines", type=_words, default=[engine.name for engine in engines()])
    parser.add_argument("--shapes", type=_words, default=[shape.value for shape in Shape])
    parser.add_argument("--sizes", type=_words, default=["100", "1000", "5000", "10000"])
    parser.add_argument("--rounds", type=int, default=3, help="how often short work is repeated; the fastest counts")
    parser.add_argument("--limit", type=float, default=120, help="seconds after which a command is stopped")
    parser.add_argument("--json", metavar="FILE", help="write every number there")
    parser.add_argument("--page", metavar="FILE", help="put the tables between the markers of this page")
    return parser.parse_args()


def _words(text: str) -> list[str]:
    return text.split(",")


def _graphs(shapes: list[str], sizes: list[str]) -> list[Graph]:
    grown = [shape for shape in map(Shape, shapes) if shape is not Shape.CHAIN]
    graphs = [Graph(shape, size) for shape in grown for size in sorted(map(int, sizes))]
    return [*graphs, Graph(Shape.CHAIN, _CHAIN)] if Shape.CHAIN in shapes else graphs


def _installed(names: list[str]) -> list[Engine]:
    wanted = [engine for engine in engines() if engine.name in names]
    for engine in wanted:
        if not is_installed(engine):
            print(f"{engine.name} is not installed and left out: no `{engine.program[0]}`", file=sys.stderr)
    return [engine for engine in wanted if is_installed(engine)]


def _setting(installed: list[Engine], bounds: Bounds) -> list[str]:
    versions = []
    for engine in installed:
        told = subprocess.run(
            [*engine.program, *engine.version], env=engine.environ(), capture_output=True, text=True, check=True
        )
        versions.append(told.stdout.splitlines()[0])
    return [
        f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}.",
        f"{'; '.join(versions) or 'No engine'}.",
        f"A command is stopped after {bounds.limit_seconds:.0f} s; "
        f"short work is repeated {bounds.rounds} times and the fastest counts.",
    ]


def _say(row: Row) -> None:
    taken = row.note if row.seconds is None else f"{row.seconds:.2f} s, {row.peak_mb:.0f} MB"
    print(f"{row.engine}, {row.shape} {row.size:,}, {row.step}: {taken}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
