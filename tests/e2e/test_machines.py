"""Machines one already has, by the installed command: plan, apply, visit, drift, destroy, in two projects at once."""

import asyncio
import json
import os
import sys
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from gpuplan.net.clock import SystemClock
from gpuplan.testing.local import end_all_in, no_process_in
from gpuplan.testing.ssh_rig import H100, Rig

COMMAND = str(Path(sys.executable).with_name("gpuplan"))
PATIENCE_SECONDS = 60
SPEC = """\
version: 1
project: {project}
providers:
  lab:
    type: ssh
    inventory: ../hosts.yaml
    grace: 1s
clusters:
  train:
    provider: lab
    nodes: 2
    gpu: H100-80GB:1
    env: {{WORDS: "{project} trains"}}
    command: echo $WORDS; exec sleep 1000
    setup: echo $GPUPLAN_NODE_INDEX of $GPUPLAN_NODES > setup.txt
"""


class Users:
    """Several projects of one user, on the same machines."""

    def __init__(self, rig: Rig, runner: asyncio.Runner) -> None:
        self.rig = rig
        self._runner = runner

    def wants(self, project: str) -> None:
        folder = self.rig.folder / project
        folder.mkdir(exist_ok=True)
        (folder / "gpuplan.yaml").write_text(SPEC.format(project=project))

    def gpuplan(self, project: str, *arguments: str, status: int = 0) -> str:
        return self._runner.run(self._gpuplan(project, arguments, status))

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        self._runner.run(work)

    async def _gpuplan(self, project: str, arguments: tuple[str, ...], status: int) -> str:
        """Beside the machines, which answer meanwhile."""
        environ = {"PATH": os.environ["PATH"], **self.rig.environ}
        command = await asyncio.create_subprocess_exec(
            COMMAND,
            "-C",
            project,
            *arguments,
            cwd=self.rig.folder,
            env=environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(PATIENCE_SECONDS):
            out, _ = await command.communicate()
        assert status == command.returncode, out.decode()
        return out.decode()


@pytest.fixture
def users(tmp_path: Path) -> Iterator[Users]:
    with asyncio.Runner() as runner:
        rig = Rig(tmp_path)
        for number in range(3):
            runner.run(rig.add(f"m{number}", H100))
        entries = [machine.entry for machine in rig.machines.values()]
        # Every JSON is YAML.
        (tmp_path / "hosts.yaml").write_text(json.dumps({"hosts": entries}))
        try:
            yield Users(rig, runner)
            runner.run(no_process_in(tmp_path, SystemClock()))
        finally:
            end_all_in(tmp_path)
            runner.run(rig.close())


def test_two_projects_share_machines_and_neither_takes_what_the_other_has(users: Users) -> None:
    users.wants("red")
    users.wants("blue")
    users.gpuplan("red", "apply", "--auto-approve")
    users.gpuplan("blue", "plan", status=1)
    said = users.gpuplan("red", "ssh", "clusters.train.nodes[1]", "--", "cat setup.txt; pwd")
    logged = users.gpuplan("red", "logs", "clusters.train.nodes[0]")
    users.gpuplan("red", "plan", "--detailed-exitcode")
    users.gpuplan("red", "drift")
    users.gpuplan("red", "destroy", "--auto-approve")
    users.gpuplan("blue", "apply", "--auto-approve")
    users.gpuplan("blue", "destroy", "--auto-approve")

    assert "1 of 2" in said
    assert "red trains" in logged
    for machine in users.rig.machines.values():
        assert not (machine.directory / "claim").exists()


def test_a_machine_that_does_not_answer_keeps_its_node_and_the_state(users: Users) -> None:
    users.wants("red")
    users.gpuplan("red", "apply", "--auto-approve")
    lost = users.rig.machines["m0"]
    users.run(lost.down())
    users.gpuplan("red", "drift", status=1)
    refused = users.gpuplan("red", "destroy", "--auto-approve", status=1)
    held = (lost.directory / "claim").exists()
    users.run(lost.up(users.rig.public_key))
    users.gpuplan("red", "destroy", "--auto-approve")

    assert "what could not be seen is not taken for gone" in refused
    assert held
    assert not (lost.directory / "claim").exists()
