"""Life on nodes with the installed command: emulated nodes with real SSH servers in front of real shells."""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

COMMAND = str(Path(sys.executable).with_name("gpuplan"))
PATIENCE_SECONDS = 60
CANARY = "canary-8c1f-secret"
CLUSTERS = {
    "vultr": "instance_type: vc2-1c-1gb\n    region: ewr\n    image: Ubuntu 24.04 LTS x64",
    "runpod": "gpu: RTX4090:1\n    region: EU-RO-1\n    image: runpod/pytorch:2.8.0\n    ports: [22]",
}
SPEC = """\
version: 1
project: nodes
variables:
  token: {{type: string, sensitive: true}}
providers:
  {provider}: {{}}
ssh_keys:
  team: {{provider: {provider}, public_key: {public_key}}}
clusters:
  train:
    provider: {provider}
    nodes: {nodes}
    {cluster}
    ssh_keys: ["${{ssh_keys.team}}"]
    env: {{TOKEN: "${{vars.token}}", MODE: first}}
    setup: {setup}
"""


@dataclass
class User:
    """Somebody with a home, a key in it, and a project."""

    home: Path
    emulator: str
    extra: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.project = self.home / "project"
        self.project.mkdir(parents=True)
        (self.home / ".ssh").mkdir()
        key = self.home / ".ssh" / "id_ed25519"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        self.public_key = key.with_suffix(".pub").read_text().strip()

    @property
    def environ(self) -> dict[str, str]:
        key = str(self.home / ".ssh" / "id_ed25519")
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "GPUPLAN_EMULATOR": self.emulator,
            "GPUPLAN_VAR_token": CANARY,
            # OpenSSH takes its home from the list of users.
            "GPUPLAN_SSH_KEY": key,
            **self.extra,
        }

    def write(self, provider: str, setup: str, *, nodes: int = 1, mode: str = "first") -> None:
        text = SPEC.format(
            provider=provider,
            nodes=nodes,
            cluster=CLUSTERS[provider],
            public_key=json.dumps(self.public_key),
            setup=json.dumps(setup),
        )
        (self.project / "gpuplan.yaml").write_text(text.replace("MODE: first", f"MODE: {mode}"))

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [COMMAND, *arguments],
            cwd=self.project,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def gpuplan(self, *arguments: str, status: int = 0) -> str:
        running = self.begin(*arguments)
        output, _ = running.communicate(timeout=PATIENCE_SECONDS)
        assert status == running.returncode, output
        return output

    @property
    def states(self) -> Path:
        return self.home / ".local" / "state" / "gpuplan"

    def log(self) -> str:
        """What the setup of the one node printed; empty before it began."""
        return "".join(path.read_text() for path in (self.states / "logs").glob("*setup.log"))

    def everything_written(self) -> str:
        """What gpuplan left on this machine."""
        paths = [path for path in self.home.rglob("*") if path.is_file() and path.name != "gpuplan.yaml"]
        return "\n".join(path.read_text(errors="replace") for path in paths)


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("emulate")
    command = [COMMAND, "emulate", "--providers", "vultr,runpod", "--port", "0", "--speed", "600", "--json"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as served:
        assert served.stdout is not None
        try:
            yield json.loads(served.stdout.readline())["url"]
        finally:
            served.send_signal(signal.SIGINT)
            served.wait(PATIENCE_SECONDS)


@pytest.fixture
def user(tmp_path: Path, emulator: str) -> Iterator[User]:
    made = User(tmp_path / "home", emulator)
    yield made
    if (made.project / "state").exists():
        made.gpuplan("destroy", "--auto-approve")


def until(done: Any) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not done():
        assert time.monotonic() < deadline


@pytest.mark.parametrize("provider", ["vultr", "runpod"])
def test_a_node_is_set_up_visited_and_listed(provider: str, user: User) -> None:
    user.write(provider, "echo $GPUPLAN_NODE_INDEX/$GPUPLAN_NODES at $GPUPLAN_PEERS; echo $TOKEN | tee token; pwd")

    output = user.gpuplan("apply", "--auto-approve")

    first, redacted, place = user.log().splitlines()
    assert first.startswith("0/1 at 198.18.")
    assert ("********", "/workspace") == (redacted, place[-10:])
    node = "clusters.train.nodes[0]"
    assert f"{CANARY}\n" == user.gpuplan("ssh", node, "--", "cat", "token")
    assert "" == user.gpuplan("ssh", node, "--", "exit 3", status=3)
    (user.project / "given").write_text("here\n")
    user.gpuplan("cp", "given", f"{node}:there")
    user.gpuplan("cp", f"{node}:there", "back")
    assert "here\n" == (user.project / "back").read_text() == user.gpuplan("ssh", node, "--", "cat there")
    user.gpuplan("ssh-config", "--out", "config")
    config = str(user.project / "config")
    logged_in = subprocess.run(
        ["ssh", "-F", config, "-o", "BatchMode=yes", "train-0", "cat workspace/there"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert "here\n" == logged_in.stdout, logged_in.stderr
    (user.project / "token").unlink(missing_ok=True)
    assert CANARY not in output + user.everything_written()


def test_nothing_of_a_secret_shows_where_a_setup_runs(user: User) -> None:
    """Whoever lists processes on the node meanwhile sees neither the environment nor the commands."""
    user.write("vultr", "echo begun; while [ ! -e go-on ]; do sleep 0.02; done; : $TOKEN")
    running = user.begin("apply", "--auto-approve")
    until(lambda: "begun" in user.log())

    listed = subprocess.run(["ps", "-ww", "-e", "-o", "args="], capture_output=True, text=True, check=True).stdout
    user.gpuplan("ssh", "clusters.train.nodes[0]", "--", "touch", "go-on")
    output, _ = running.communicate(timeout=PATIENCE_SECONDS)

    assert 0 == running.returncode, output
    assert "exec 3<&0" in listed
    assert CANARY not in listed
    assert "go-on" not in listed


def test_a_setup_that_fails_shows_its_last_lines_and_costs_nothing_more(user: User) -> None:
    user.write("vultr", "seq 100; printf '\\033[31m%s is wrong\\n' $TOKEN; exit 9")

    output = user.gpuplan("apply", "--auto-approve", status=1)

    assert "the setup ended with status 9" in output
    assert "******** is wrong" in output
    assert "100" in output and "\n50\n" not in output
    assert f"all it printed is in {user.states / 'logs'}" in output
    assert "was deleted again" in output
    assert [*map(str, range(1, 101)), "******** is wrong"] == user.log().splitlines()
    assert "ssh_keys.team\n" == user.gpuplan("state", "list")
    assert CANARY not in output + user.everything_written()
    assert "\x1b" not in output


def test_whoever_is_killed_during_a_setup_leaves_one_node_and_no_process(user: User, tmp_path: Path) -> None:
    mark = f"{tmp_path}/marks"
    Path(mark).mkdir()
    setup = f"touch {mark}/$$-began; sleep 1000 & echo $! > {mark}/child; echo begun; wait"
    user.write("vultr", f"if [ -e {mark}/go ]; then echo again; else {setup}; fi")
    running = user.begin("apply", "--auto-approve")
    until(lambda: Path(mark, "child").exists() and Path(mark, "child").read_text())
    child = int(Path(mark, "child").read_text())

    running.kill()
    running.communicate()
    until(lambda: not _lives(child))
    Path(mark, "go").touch()
    output = user.gpuplan("apply", "--auto-approve")

    assert "clusters.train.nodes[0]" in output
    assert "again\n" == user.log()
    assert 1 == len([line for line in user.gpuplan("state", "list").splitlines() if "nodes" in line])
    assert "There are no orphans." in user.gpuplan("orphans")
    assert "No changes." in user.gpuplan("plan")


def _lives(pid: int) -> bool:
    """A dead process that nobody has asked for yet does not count."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith("Z")


def test_a_pod_whose_disk_a_change_empties_is_set_up_again(user: User) -> None:
    user.write("runpod", "echo $MODE")
    user.gpuplan("apply", "--auto-approve")
    assert "first\n" == user.log()

    user.write("runpod", "echo $MODE", mode="second")
    output = user.gpuplan("apply", "--auto-approve")

    assert "Resources: 0 added, 1 changed, 0 destroyed." in output
    assert "second\n" == user.log()
    assert "No changes." in user.gpuplan("plan")


def test_a_port_of_a_node_is_reached_from_here(user: User) -> None:
    user.write("vultr", "true")
    user.gpuplan("apply", "--auto-approve")
    with socket.create_server(("127.0.0.1", 0)) as service:
        port = service.getsockname()[1]
        forwarding = user.begin("forward", "--json", "clusters.train.nodes[0]", f"0:{port}")
        assert forwarding.stdout is not None
        local = json.loads(forwarding.stdout.readline())["port"]
        with socket.create_connection(("127.0.0.1", local), timeout=PATIENCE_SECONDS) as client:
            served, _ = service.accept()
            with served:
                served.sendall(b"hello\n")
                assert b"hello\n" == client.recv(100)
        forwarding.send_signal(signal.SIGINT)
        forwarding.communicate(timeout=PATIENCE_SECONDS)

    assert 130 == forwarding.returncode


def test_without_a_key_nothing_is_rented(user: User) -> None:
    user.write("vultr", "true")
    user.extra = {"GPUPLAN_SSH_KEY": "~/.ssh/no-such-key"}

    output = user.gpuplan("apply", "--auto-approve", status=1)

    assert "error[no-credentials]: `vultr` has no credentials, asked to log in to its nodes" in output
    assert "the key `~/.ssh/no-such-key` cannot be used: no such file or directory" in output
    assert "" == user.gpuplan("state", "list")
    user.extra = {}


def test_shells_take_every_word_of_a_command(user: User) -> None:
    user.write("vultr", "true")
    user.gpuplan("apply", "--auto-approve")

    word = "it's -h --json $HOME"
    told = user.gpuplan("ssh", "clusters.train.nodes[0]", "--", "printf", "%s", shlex.quote(word), "-h")

    assert f"{word}-h\n" == told
