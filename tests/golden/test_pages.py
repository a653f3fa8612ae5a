"""Every page here is a test: its files are written, its commands run against real local nodes, its output compared.
A page that says `$EMULATOR` gets the URL of one.

A block ` ```yaml NAME ` is a file. In a ` ```console ` block every line after `$ ` is a command, what follows is what
it prints on both streams, and `[exit N]` ends what did not exit with 0.
"""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpuplan.emulators.catalog import emulator_types
from gpuplan.emulators.desk import Desk
from gpuplan.emulators.serve import serving
from gpuplan.emulators.world import World
from gpuplan.net.clock import SystemClock
from gpuplan.testing.local import end_all_in, no_process_in

PAGES = sorted(Path(__file__).parent.glob("*.md"))
_FENCE = re.compile(r"^(?P<fence>`{3,})(?P<language>\w+)(?: (?P<name>\S+))?\n(?P<body>.*?)^(?P=fence)$", re.M | re.S)
_CHANGING = (
    (re.compile(r"\b[a-z][a-z0-9]{19}\b"), "ID"),
    (re.compile(r"after \d+[hms0-9]*s\b"), "after 0s"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z| UTC)?"), "TIME"),
    (re.compile(r"\bas process \d+"), "as process PID"),
    # As long as it was: it may stand in a table.
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "00000000-0000-0000-0000-000000000000"),
)
_PROGRESS = re.compile(r"\S+: \S.*(?:\.\.\.|after 0s.*)")


class Bench:
    """A user's home, with a project in it and `gpuplan` on the path."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.project = home / "project"
        commands = home / "bin"
        for folder in (self.project, commands):
            folder.mkdir()
        program = commands / "gpuplan"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gpuplan "$@"\n')
        program.chmod(0o755)
        self.environ = {
            "PATH": f"{commands}:{os.environ['PATH']}",
            "HOME": str(home),
            "XDG_STATE_HOME": str(home / "state"),
            "NODES": str(home / "state" / "gpuplan" / "local" / "nodes"),
            "COLUMNS": "100",
            "LANG": "C.UTF-8",
        }

    def run(self, command: str) -> str:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.project,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        printed = self._steady(done.stdout)
        return printed + (f"[exit {done.returncode}]\n" if done.returncode else "")

    def _steady(self, text: str) -> str:
        """The text without what differs from run to run; what runs side by side is sorted."""
        text = text.replace(str(self.home), "/home/ana")
        if "EMULATOR" in self.environ:
            text = text.replace(self.environ["EMULATOR"], "http://127.0.0.1:8900")
        for pattern, word in _CHANGING:
            text = pattern.sub(word, text)
        lines, side_by_side = [], []
        for line in [*text.splitlines(), None]:
            if line is not None and _PROGRESS.fullmatch(line):
                side_by_side.append(line)
                continue
            lines += sorted(side_by_side, key=lambda found: (not found.endswith("..."), found))
            side_by_side = []
            if line is not None:
                lines.append(line)
        return "".join(f"{line}\n" for line in lines)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    try:
        yield Bench(tmp_path)
        asyncio.run(no_process_in(tmp_path, SystemClock()))
    finally:
        end_all_in(tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_shows_what_the_program_prints(page: Path, bench: Bench, accept: bool) -> None:
    written = page.read_text(encoding="utf-8")

    with _emulated(bench, wanted="$EMULATOR" in written):
        printed = _FENCE.sub(lambda match: _performed(match, bench), written)

    if accept:
        page.write_text(printed, encoding="utf-8")
    else:
        assert written == printed


@contextmanager
def _emulated(bench: Bench, *, wanted: bool) -> Iterator[None]:
    """Machines boot at once there, and the ids are the same every time."""
    if not wanted:
        yield
        return
    world = World(SystemClock())
    world.knobs["vultr"].update(boot_seconds=0, ready_seconds=0)
    # Polls come ten times as often, and what a minute costs still rounds to nothing.
    world.time.set_speed(10)
    with serving(Desk(world, emulator_types(["vultr"]))) as url:
        bench.environ["EMULATOR"] = url
        yield


def _performed(match: re.Match[str], bench: Bench) -> str:
    fence, language, name, body = match["fence"], match["language"], match["name"], match["body"]
    if name is not None:
        path = bench.project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(body, encoding="utf-8")
    if language != "console":
        return match[0]
    commands = [line.removeprefix("$ ") for line in body.splitlines() if line.startswith("$ ")]
    shown = "\n".join(f"$ {command}\n{bench.run(command)}" for command in commands)
    return f"{fence}console\n{shown}{fence}"
