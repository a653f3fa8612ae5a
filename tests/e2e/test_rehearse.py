"""`gpuplan rehearse` where it goes beyond its page: real shells on emulated nodes, and what it must not touch."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import asyncssh
import pytest

COMMAND = str(Path(sys.executable).with_name("gpuplan"))
SPEC = """\
version: 1
project: rehearsal
providers:
  vultr: {{}}
ssh_keys:
  team: {{provider: vultr, public_key: "{key}"}}
clusters:
  train:
    provider: vultr
    nodes: 2
    instance_type: vc2-1c-1gb
    region: ewr
    image: Ubuntu 24.04 LTS x64
    ssh_keys: ["${{ssh_keys.team}}"]
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Somebody's home, with a key in it."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    folder = tmp_path / ".ssh"
    folder.mkdir(mode=0o700)
    key.write_private_key(str(folder / "id_ed25519"))
    key.write_public_key(str(folder / "id_ed25519.pub"))
    return tmp_path


def rehearse(home: Path, setup: str, *arguments: str) -> tuple[int, Any]:
    key = (home / ".ssh" / "id_ed25519.pub").read_text().strip()
    (home / "gpuplan.yaml").write_text(SPEC.format(key=key) + (f"    setup: {setup}\n" if setup else ""))
    done = subprocess.run(
        [COMMAND, "rehearse", "--json", *arguments],
        cwd=home,
        env={"PATH": os.environ["PATH"], "HOME": str(home)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_a_setup_really_runs_and_takes_the_time_it_takes(home: Path) -> None:
    status, told = rehearse(home, f"sleep 1; touch {home}/ran-$GPUPLAN_NODE_INDEX")

    assert (0, True, []) == (status, told["clean"], told["left_over"])
    assert ["ran-0", "ran-1"] == sorted(path.name for path in home.glob("ran-*"))
    apply, destroy = told["acts"]
    assert ("apply", 3, "destroy", 3) == (apply["act"], apply["added"], destroy["act"], destroy["destroyed"])
    # The nodes boot for a minute and a half that nobody waits for; the second of the setup is a real one.
    assert 60 < apply["seconds"] < 300


def test_a_setup_that_fails_is_told_and_its_nodes_are_cleaned_up(home: Path) -> None:
    status, told = rehearse(home, "echo no such package; exit 3")

    assert (1, False, []) == (status, told["clean"], told["left_over"])
    assert ["apply", "apply again", "destroy"] == [act["act"] for act in told["acts"]]
    assert 2 == told["acts"][0]["failed"]
    assert "no such package" in json.dumps(told["acts"][0]["problems"])


def test_nothing_is_written_and_the_real_state_is_not_looked_at(home: Path) -> None:
    (home / "state").mkdir()
    (home / "state" / "default.json").write_text("not a state at all")
    before = sorted(home.rglob("*"))

    status, _ = rehearse(home, "", "--keep", "--for", "1h")

    assert 0 == status
    assert sorted({*before, home / "gpuplan.yaml"}) == sorted(home.rglob("*"))
    assert "not a state at all" == (home / "state" / "default.json").read_text()


def test_another_seed_is_another_world(home: Path) -> None:
    (home / "odds.yaml").write_text("faults: [{method: GET, kind: status, status: 503, probability: 0.3}]")
    told = [rehearse(home, "", "--scenario", "odds.yaml", "--seed", seed)[1] for seed in ("1", "1", "2")]

    calls = [[(call["route"], call["count"], call["failed"]) for call in each["calls"]] for each in told]
    assert calls[0] == calls[1] != calls[2]
