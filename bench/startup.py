"""Whole-process times of the commands that people wait for most: `version`, and `plan` of the quickstart."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.engines import ROOT, Gpuplan
from bench.measure import run

_TIMES = 5
COMMANDS = {"`gpuplan version`": ("version",), "`gpuplan plan` of the quickstart": ("plan",)}


@dataclass(frozen=True, slots=True)
class Startup:
    title: str
    seconds: float | None
    peak_mb: float
    wrong: str = ""


def measure_startup(folder: Path, limit_seconds: float) -> list[Startup]:
    """The fastest of five runs of each command, in a copy of the quickstart that nothing was applied in."""
    quickstart = folder / "quickstart"
    shutil.copytree(ROOT / "examples" / "quickstart", quickstart, ignore=shutil.ignore_patterns("state"))
    return [_measure(title, command, quickstart, limit_seconds) for title, command in COMMANDS.items()]


def _measure(title: str, command: Sequence[str], folder: Path, limit_seconds: float) -> Startup:
    engine = Gpuplan()
    runs = [
        run([*engine.program, *command], folder=folder, environ=engine.environ(), limit_seconds=limit_seconds)
        for _ in range(_TIMES)
    ]
    best = min(runs, key=lambda measured: measured.seconds)
    wrong = next((measured.output for measured in runs if measured.status != 0), "")
    return Startup(title, None if wrong else best.seconds, best.peak_mb, wrong)
