"""Services and jobs with the installed command: on nodes of this machine, and behind real SSH servers of emulators."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

COMMAND = str(Path(sys.executable).with_name("gpuplan"))
PATIENCE_SECONDS = 60
CLUSTERS = {
    "vultr": "instance_type: vc2-1c-1gb\n    region: ewr\n    image: Ubuntu 24.04 LTS x64",
    "hetzner": "instance_type: cx23\n    region: nbg1\n    image: ubuntu-24.04",
    "runpod": "gpu: RTX4090:1\n    region: EU-RO-1\n    image: runpod/pytorch:2.8.0\n    ports: [22]",
}
BEHIND_SSH = """\
version: 1
project: units
variables:
  token: {{type: string, sensitive: true}}
providers: {{{provider}: {{}}}}
ssh_keys:
  team: {{provider: {provider}, public_key: {public_key}}}
clusters:
  main:
    provider: {provider}
    nodes: 2
    {cluster}
    ssh_keys: ["${{ssh_keys.team}}"]
"""
CANARY = "canary-3b7e-secret"
LOCAL = """\
version: 1
project: units
variables:
  token: {type: string, sensitive: true}
providers: {local: {}}
clusters:
  main: {provider: local, nodes: 2}
"""
RANK = """
import os, socket
rank, peers = int(os.environ["GPUPLAN_NODE_INDEX"]), os.environ["GPUPLAN_PEERS"].split(",")
if rank == 0:
    with socket.create_server((peers[0], int(os.environ["PORT"]))) as server:
        other, _ = server.accept()
        print("met", other.recv(100).decode())
else:
    while True:
        try:
            with socket.create_connection((peers[0], int(os.environ["PORT"]))) as leader:
                leader.sendall(f"rank {rank} of {os.environ['GPUPLAN_NODES']}".encode())
            break
        except ConnectionRefusedError:
            pass
"""


class User:
    """Somebody with a project and a home of their own."""

    def __init__(self, home: Path, head: str = LOCAL, emulator: str = "") -> None:
        self.home = home
        self.head = head
        self.project = home / "project"
        self.project.mkdir(parents=True)
        self.environ = {"PATH": os.environ["PATH"], "HOME": str(home), "GPUPLAN_VAR_token": CANARY}
        if emulator:
            self.environ["GPUPLAN_EMULATOR"] = emulator

    def write(self, text: str) -> None:
        (self.project / "gpuplan.yaml").write_text(self.head + text)

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

    def apply(self, text: str, *, status: int = 0) -> str:
        self.write(text)
        return self.gpuplan("apply", "--auto-approve", status=status)

    def jobs(self) -> dict[str, tuple[str, int | None]]:
        told = json.loads(self.gpuplan("jobs", "list", "--json"))
        return {job["address"]: (job["state"], job["exit_code"]) for job in told}

    def units(self) -> list[Path]:
        return sorted(self.home.rglob(".gpuplan/units/*"))


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    made = User(tmp_path)
    yield made
    made.gpuplan("destroy", "--auto-approve")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def web(port: int) -> str:
    command = json.dumps(f"exec {sys.executable} -m http.server {port} --bind 127.0.0.1")
    return f"""
services:
  web: {{on: "${{clusters.main}}", nodes: 1, command: {command}, ports: [{port}], health: {{http: /}}}}
outputs:
  web: "${{services.web.endpoint}}"
"""


def job(command: str, more: str = "") -> str:
    text = json.dumps(command)
    return f'jobs:\n  eval: {{on: "${{clusters.main}}", command: {text}, env: {{TOKEN: "${{vars.token}}"}}{more}}}\n'


def until(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not done():
        assert time.monotonic() < deadline


def test_service_is_ready_when_it_answers_and_its_endpoint_is_an_output(user: User) -> None:
    user.apply(web(free_port()))

    endpoint = json.loads(user.gpuplan("output", "--json"))["web"]
    with urllib.request.urlopen(endpoint, timeout=PATIENCE_SECONDS) as answer:
        assert 200 == answer.status
    assert "GET /" in user.gpuplan("logs", "services.web")
    assert "No changes" in user.gpuplan("plan")
    user.gpuplan("drift")


def test_service_that_never_answers_well_is_taken_away_again(user: User) -> None:
    unhealthy = "command: sleep 996, health: {command: exit 9}, timeouts: {create: 3s}"
    text = f'services:\n  web: {{on: "${{clusters.main}}", {unhealthy}}}\n'

    output = user.apply(text, status=1)

    assert "its health check ended with status 9" in output
    assert [] == user.units()


def test_service_that_died_is_started_again_and_one_that_must_not_is_drift(user: User) -> None:
    command = "echo begun; if [ -e second ]; then sleep 1000; fi; : >second; exit 4"
    spec = f'services:\n  a: {{on: "${{clusters.main.nodes[0]}}", command: {json.dumps(command)}}}\n'
    user.apply(spec + '  b: {on: "${clusters.main.nodes[1]}", command: sleep 1; exit 4, restart: never}\n')

    until(lambda: user.gpuplan("logs", "services.a") == "begun\nbegun\n")
    output = user.gpuplan("drift", status=2)

    assert "services.b" in output and "it ended with status 4" in output
    assert "services.a" not in output


def test_job_runs_once_until_its_definition_changes(user: User) -> None:
    user.apply(job("echo ran $TOKEN; exit 7"))

    assert "7" in user.gpuplan("jobs", "wait", status=1)
    assert {"jobs.eval.nodes[0]": ("failed", 7)} == user.jobs()
    assert "No changes" in user.gpuplan("plan")
    user.gpuplan("drift")
    assert "ran" in user.gpuplan("logs", "jobs.eval")
    user.apply(job("exit 0"))
    user.gpuplan("jobs", "wait")
    assert {"jobs.eval.nodes[0]": ("succeeded", 0)} == user.jobs()


def test_job_is_tried_again_timed_out_and_cancelled(user: User) -> None:
    user.apply(job("echo try; exit 1", ", retries: 1"))
    user.gpuplan("jobs", "wait", status=1)
    assert "try\ntry\n" == user.gpuplan("logs", "jobs.eval")

    user.apply(job("sleep 1000", ", timeout: 1s"))
    user.gpuplan("jobs", "wait", status=1)
    assert "timed out" == user.jobs()["jobs.eval.nodes[0]"][0]

    user.apply(job("sleep 999"))
    assert "cancelled" in user.gpuplan("jobs", "cancel", "jobs.eval")
    assert "No changes" in user.gpuplan("plan")


def test_ranks_of_a_job_find_each_other(user: User) -> None:
    (user.home / "rank.py").write_text(RANK)
    command = f"PORT={free_port()} exec {sys.executable} {user.home}/rank.py"

    user.apply(job(command, ", nodes: all"))

    user.gpuplan("jobs", "wait")
    assert "met rank 1 of 2\n" == user.gpuplan("logs", "jobs.eval.nodes[0]")


def test_secret_of_a_job_shows_in_no_process_list(user: User) -> None:
    user.apply(job("sleep 998"))

    listed = subprocess.run(["ps", "-ww", "-e", "-o", "args="], capture_output=True, text=True, check=True).stdout

    assert "sleep 998" in listed
    assert CANARY not in listed


def test_killed_apply_doubles_no_job(user: User) -> None:
    user.apply("")
    user.write(job("echo ran; sleep 997"))
    running = user.begin("apply", "--auto-approve")
    until(lambda: user.units() or running.poll() is not None)
    running.kill()
    running.communicate()

    user.gpuplan("apply", "--auto-approve")

    assert 1 == len(user.units())
    until(lambda: user.gpuplan("logs", "jobs.eval"))
    assert "ran\n" == user.gpuplan("logs", "jobs.eval")


def test_image_is_run_by_the_container_engine_of_the_node(user: User) -> None:
    """No container engine is needed for this: one that notes its words, and runs nothing, stands first in the PATH."""
    tools = user.home / "tools"
    tools.mkdir()
    (tools / "docker").write_text('#!/bin/sh\necho "$@ with $TOKEN"\n')
    (tools / "docker").chmod(0o755)
    user.environ["PATH"] = f"{tools}:{user.environ['PATH']}"

    user.apply(job("python eval.py", ", image: 'team/eval:1'"))

    user.gpuplan("jobs", "wait")
    told = user.gpuplan("logs", "jobs.eval")
    assert "--env TOKEN" in told and "team/eval:1 sh -c python eval.py" in told


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("emulate")
    command = [COMMAND, "emulate", "--providers", ",".join(CLUSTERS), "--port", "0", "--speed", "600", "--json"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as served:
        assert served.stdout is not None
        try:
            yield json.loads(served.stdout.readline())["url"]
        finally:
            served.send_signal(signal.SIGINT)
            served.wait(PATIENCE_SECONDS)


@pytest.mark.parametrize("provider", CLUSTERS)
def test_service_and_job_run_on_nodes_behind_ssh(provider: str, tmp_path: Path, emulator: str) -> None:
    user = User(tmp_path, emulator=emulator)
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    user.environ["GPUPLAN_SSH_KEY"] = str(key)
    public_key = json.dumps(key.with_suffix(".pub").read_text().strip())
    user.head = BEHIND_SSH.format(provider=provider, cluster=CLUSTERS[provider], public_key=public_key)
    port = free_port()
    try:
        user.apply(web(port) + job("echo rank $GPUPLAN_NODE_INDEX; exit 5", ", nodes: all"))
        user.gpuplan("jobs", "wait", status=1)

        assert {f"jobs.eval.nodes[{rank}]": ("failed", 5) for rank in (0, 1)} == user.jobs()
        assert "rank 1\n" == user.gpuplan("logs", "jobs.eval.nodes[1]")
        assert "No changes" in user.gpuplan("plan")
        user.gpuplan("drift")
    finally:
        user.gpuplan("destroy", "--auto-approve")
    until(lambda: not is_open(port))


def is_open(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0
