"""`kill -9` of a real `gpuplan apply`, at any instant: the next apply finds every node, and none twice."""

import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuplan.net.clock import SystemClock
from gpuplan.testing.local import end_all_in, no_process_in

NODES = 50
ROUNDS = 30
SPEC = f"""
version: 1
project: crash
providers: {{local: {{}}}}
clusters:
  crowd: {{provider: local, nodes: {NODES}}}
"""


class Team:
    """Somebody who applies the same spec again and again, on a machine of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nodes = folder / "state-home" / "gpuplan" / "local" / "nodes"
        self.project = folder / "project"
        self.project.mkdir()
        (self.project / "gpuplan.yaml").write_text(SPEC)

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        environ = {"PATH": os.environ["PATH"], "HOME": str(self.folder)}
        environ["XDG_STATE_HOME"] = str(self.folder / "state-home")
        return subprocess.Popen(
            [sys.executable, "-m", "gpuplan", "-C", str(self.project), *arguments],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def gpuplan(self, *arguments: str) -> str:
        running = self.begin(*arguments)
        output, _ = running.communicate()
        assert 0 == running.returncode, output
        return output

    def apply_and_die(self, *, nodes: int, seconds: float) -> None:
        """Kill an apply `seconds` after it has begun its node number `nodes`."""
        running = self.begin("apply", "--auto-approve")
        while running.poll() is None and self.begun < nodes:
            pass
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.wait(timeout=seconds)
        running.kill()
        running.communicate()

    @property
    def begun(self) -> int:
        return len(list(self.nodes.iterdir())) if self.nodes.is_dir() else 0

    @property
    def alive(self) -> dict[str, str]:
        """The address of every node on the machine, by id."""
        records = (json.loads((node / "node.json").read_text()) for node in self.nodes.iterdir())
        return {record["mark"]["token"]: record["mark"]["address"] for record in records}


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Team]:
    try:
        yield Team(tmp_path)
        asyncio.run(no_process_in(tmp_path, SystemClock()))
    finally:
        end_all_in(tmp_path)


@pytest.mark.timeout(600)
def test_no_kill_loses_or_doubles_a_node(team: Team) -> None:
    seed = os.environ.get("GPUPLAN_TEST_SEED") or str(random.randrange(2**32))
    chance = random.Random(seed)
    met = []
    for round in range(ROUNDS):
        if chance.random() < 0.2:
            team.apply_and_die(nodes=0, seconds=chance.uniform(0, 1))
        else:
            team.apply_and_die(nodes=chance.randint(1, NODES), seconds=chance.uniform(0, 0.05))
        met.append(team.begun)
        output = team.gpuplan("apply", "--auto-approve")
        recorded = json.loads(team.gpuplan("state", "list", "--json"))

        assert NODES == len(set(team.alive.values())) == len(team.alive), f"seed {seed}, round {round}: {output}"
        assert sorted(team.alive.values()) == sorted(str(item["address"]) for item in recorded)
        team.gpuplan("destroy", "--auto-approve")
        assert {} == team.alive

    assert any(0 < count < NODES for count in met), f"no kill met an apply at work: {met}"
