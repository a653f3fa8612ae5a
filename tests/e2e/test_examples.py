"""Every example that needs nothing but this machine does what it says: checked, applied, without a second change."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gpuplan.net.clock import SystemClock
from gpuplan.testing.local import end_all_in, no_process_in

EXAMPLES = Path(__file__).parents[2] / "examples"
LOCAL = ["quickstart", "rolling-replacement", "service", "torchrun", "variables-and-for-each"]


@dataclass(frozen=True)
class Home:
    """A user's home on this machine, with a copy of one example in it."""

    folder: Path
    project: Path

    def gpuplan(self, *arguments: str, status: int = 0) -> str:
        environ = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "XDG_STATE_HOME": str(self.folder / "state")}
        command = [sys.executable, "-m", "gpuplan", "-C", str(self.project), *arguments]
        done = subprocess.run(
            command, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        assert status == done.returncode, f"{arguments}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture
def home(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Home]:
    home = Home(tmp_path, tmp_path / "project")
    shutil.copytree(EXAMPLES / request.param, home.project)
    try:
        yield home
        asyncio.run(no_process_in(tmp_path, SystemClock()))
    finally:
        end_all_in(tmp_path)


@pytest.mark.parametrize("home", LOCAL, indirect=True)
def test_example_is_valid_and_laid_out_canonically(home: Home) -> None:
    home.gpuplan("validate")
    home.gpuplan("fmt", "--check")


@pytest.mark.parametrize("home", LOCAL, indirect=True)
def test_example_applies_and_then_has_nothing_left_to_do(home: Home) -> None:
    home.gpuplan("plan", "--detailed-exitcode", status=2)
    home.gpuplan("apply", "--auto-approve")
    home.gpuplan("plan", "--detailed-exitcode")
    home.gpuplan("drift")
    home.gpuplan("destroy", "--auto-approve")


@pytest.mark.parametrize("home", ["quickstart"], indirect=True)
def test_quickstart_tells_where_its_nodes_work(home: Home) -> None:
    home.gpuplan("apply", "--auto-approve")
    outputs = json.loads(home.gpuplan("output", "--json"))
    home.gpuplan("destroy", "--auto-approve")

    assert 2 == len(outputs["folders"])


@pytest.mark.parametrize("home", ["variables-and-for-each"], indirect=True)
def test_a_variables_file_scales_every_cluster(home: Home) -> None:
    home.gpuplan("apply", "--auto-approve")
    shown = home.gpuplan("apply", "--auto-approve", "--var-file", str(home.project / "big.vars.yaml"))
    home.gpuplan("destroy", "--auto-approve")

    assert "Apply complete! Resources: 2 added, 0 changed, 0 destroyed." in shown


@pytest.mark.parametrize("home", ["rolling-replacement"], indirect=True)
def test_another_release_replaces_every_node(home: Home) -> None:
    home.gpuplan("apply", "--auto-approve")
    shown = home.gpuplan("apply", "--auto-approve", "--var", "release=1.1")
    home.gpuplan("destroy", "--auto-approve")

    assert "Apply complete! Resources: 3 added, 0 changed, 3 destroyed." in shown
