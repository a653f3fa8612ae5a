"""The inventory of `ssh`, what its machines tell, and the scripts they are told to run."""

import subprocess
from pathlib import Path

import pytest
from pydantic import ValidationError

from gpuplan.core.gpus import GpuRequest
from gpuplan.core.kinds import NodeAttrs
from gpuplan.core.observed import Status
from gpuplan.core.ports import SshTarget
from gpuplan.net.ssh_config import ssh_options
from gpuplan.providers import ssh_scripts as scripts
from gpuplan.providers.local_gpus import CannotTell
from gpuplan.providers.ssh_inventory import Host, Mistaken, Options, hosts_of, split_port
from gpuplan.providers.ssh_seen import Place, Seen, to_observed
from gpuplan.providers.ssh_targets import Targets

CLAIM = (
    '{"name": "train-0", "project": "p", "workspace": "w", "lineage": "l", "address": "clusters.train.nodes[0]",'
    ' "created_at": "2026-01-01T00:00:00Z", "attrs": {"gpu": "H100-80GB:1"}}'
)
HELD = {"held": ["yes"], "claim": ["token", CLAIM], "folder": ["/d/node-token"], "boot": ["b1"], "id": ["i"]}
PLACE = Place("192.0.2.1", 22, "root")


def options(**given: object) -> Options:
    return Options.model_validate(given)


def seen(**told: list[str]) -> Seen:
    return Seen(Host(host="m0"), told)


# Inventory.


def test_hosts_are_addresses_or_mappings_and_take_what_the_block_says() -> None:
    block = options(hosts=["a", {"host": "b", "user": "me", "name": "c"}], user="ubuntu", port=2222, key="~/k")
    hosts = hosts_of(block, {})

    assert [("a", "ubuntu", 2222), ("c", "me", 2222)] == [(name, h.user, h.port) for name, h in hosts.items()]


def test_a_hosts_yaml_is_read_in_the_form_that_others_write(tmp_path: Path) -> None:
    (tmp_path / "hosts.yaml").write_text(
        "hosts:\n  - {name: gpu-1, provider: hetzner, gpu_type: h100, ssh_host: 192.0.2.1, ssh_port: 2222,\n"
        "     ssh_key: ~/.ssh/lab, is_ephemeral: true}\n"
    )
    host = hosts_of(options(inventory="~/hosts.yaml"), {"HOME": str(tmp_path)})["gpu-1"]

    assert ("192.0.2.1", 2222, "~/.ssh/lab", True) == (host.host, host.port, host.key, host.is_ephemeral)
    assert GpuRequest("H100-80GB", 1) == host.declared


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("hosts: [a, a]", "two hosts called `a`"),
        ("[]", "has no hosts"),
        ("hosts: [{host: a, gpu_type: H1000}]", "`H1000` is no GPU"),
        ("hosts: [{hots: a}]", "at `hosts.0"),
        ("hosts: [", "is no YAML"),
        (None, "cannot be read"),
    ],
)
def test_an_inventory_that_cannot_be_used_says_why(content: str | None, why: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "hosts.yaml").write_text(content)
    with pytest.raises(Mistaken, match=why):
        hosts_of(options(inventory=str(tmp_path / "hosts.yaml")), {})


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("login", ("login", None)),
        ("login:2222", ("login", 2222)),
        ("2001:db8::1", ("2001:db8::1", None)),
        ("[2001:db8::1]:2222", ("2001:db8::1", 2222)),
        ("fe80::1%eth0", ("fe80::1%eth0", None)),
    ],
)
def test_addresses_of_ipv6_take_brackets_before_a_port(written: str, read: tuple[str, int | None]) -> None:
    assert read == split_port(written)


def test_a_name_with_a_slash_is_refused() -> None:
    with pytest.raises(ValidationError, match="slash"):
        options(hosts=[{"host": "a", "name": "rack/1"}])


def test_several_jumps_lead_from_the_first_to_the_last() -> None:
    host = hosts_of(options(hosts=["a"], user="u", jump="one@first,two@second:2222"), {})["a"]
    target = Targets(options(), {}).of(host)

    assert target.jump is not None
    assert target.jump.jump is not None
    assert ("two", "second", 2222) == (target.jump.user, target.jump.host, target.jump.port)
    assert ("one", "first", 22) == (target.jump.jump.user, target.jump.jump.host, target.jump.jump.port)


def test_a_way_in_circles_is_no_way(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Host a\n  ProxyJump b\nHost b\n  ProxyJump a\n")
    block = options(hosts=["a"], ssh_config=str(config))
    with pytest.raises(ValueError, match="circles"):
        Targets(block, {}).of(hosts_of(block, {})["a"])


def test_the_folder_is_shared_by_those_who_log_in_as_root() -> None:
    block = options(hosts=[{"host": "a", "user": "root"}, {"host": "b", "user": "me"}])
    hosts, targets = hosts_of(block, {}), Targets(block, {})

    assert ["/var/lib/gpuplan", ".gpuplan"] == [targets.directory(hosts[name]) for name in ("a", "b")]


def test_a_machine_keeps_the_name_its_host_key_is_remembered_under(tmp_path: Path) -> None:
    alias = dict(ssh_options(SshTarget("h", alias="lasting"), "of-the-node", tmp_path, ""))["HostKeyAlias"]

    assert "lasting" == alias


# What machines tell.


def test_what_a_login_prints_is_not_taken_for_an_answer() -> None:
    lines = ["Welcome to m0!", "held yes", "no line endMARK boot b1", "MARK id i", "MARK claim token", "MARK claim {"]

    assert {"boot": ["b1"], "id": ["i"], "claim": ["token", "{"]} == Seen.read(Host(host="m0"), "MARK", lines).told


@pytest.mark.parametrize(
    ("told", "status", "detail"),
    [
        ({}, Status.RUNNING, ""),
        ({"command": ["yes"]}, Status.STARTING, "its command has not been started"),
        ({"command": ["yes"], "keeper": ["7 9 b1"], "alive": ["yes"], "phase": ["running"]}, Status.RUNNING, ""),
        (
            {"command": ["yes"], "keeper": ["7 9 b1"], "alive": ["yes"], "phase": ["restarting 1"]},
            Status.STARTING,
            "its command exited 1 and is started again",
        ),
        ({"command": ["yes"], "keeper": ["7 9 b1"], "phase": ["ended 0"]}, Status.FAILED, "its command exited 0"),
        ({"command": ["yes"], "keeper": ["7 9 b1"], "phase": ["running"]}, Status.FAILED, "its supervisor is gone"),
        (
            {"command": ["yes"], "keeper": ["7 9 b0"], "phase": ["running"]},
            Status.FAILED,
            "its machine was rebooted, and what ran there did not come back",
        ),
        ({"stopped": ["yes"], "alive": ["yes"]}, Status.STOPPING, "its command is being ended"),
        ({"stopped": ["yes"], "command": ["yes"], "keeper": ["7 9 b0"]}, Status.STOPPED, ""),
    ],
)
def test_a_status_is_told_by_what_lies_there_and_what_runs(
    told: dict[str, list[str]], status: Status, detail: str
) -> None:
    observed = to_observed(seen(**HELD, **told), PLACE)

    assert observed is not None
    assert (status, detail) == (observed.status, observed.detail)


def test_a_claim_that_cannot_be_read_is_still_a_claim() -> None:
    observed = to_observed(seen(held=["yes"], claim=["token", "{"]), PLACE)

    assert observed is not None
    assert ("m0/token", Status.UNKNOWN) == (observed.remote_id, observed.status)


def test_mixed_gpus_are_told_each_for_itself() -> None:
    lines = ["GPU-0, NVIDIA A100-SXM4-80GB, 81920", "GPU-1, NVIDIA L40S, 46068", "GPU-2, NVIDIA L40S, 46068"]

    assert {"A100-80GB-SXM:1", "L40S:2"} == {str(gpu) for gpu in seen(tool=["nvidia-smi"], nvidia=lines).gpus}


def test_a_tool_in_trouble_cannot_tell() -> None:
    with pytest.raises(CannotTell, match="GPU is lost"):
        seen(tool=["nvidia-smi"], trouble=["nvidia-smi exits 15: GPU is lost"]).fits(NodeAttrs())


# Scripts.


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_every_script_is_one_that_shells_can_read(shell: str) -> None:
    files = {**scripts.command_file(["echo", "it's"], {"A": "b'c\n"}), "restart": "never\n"}
    every = [
        scripts.look("m", machine=True),
        scripts.claim("m", "t", CLAIM, files),
        scripts.bring_up("m", "t"),
        scripts.change("m", "t", CLAIM, files, restarts=True, grace_seconds=1),
        scripts.change("m", "t", CLAIM, {}, restarts=False, grace_seconds=1),
        scripts.stop("m", "t", grace_seconds=1),
        scripts.start("m", "t"),
        scripts.release("m", "t", grace_seconds=1),
        scripts.follow("t", tail=3, until_end=True),
        scripts.follow("t", tail=None, until_end=False),
    ]
    for script in every:
        read = subprocess.run([shell, "-n"], input=script, text=True, capture_output=True, check=False)
        assert (0, "") == (read.returncode, read.stderr)


def test_of_thirty_claims_at_once_one_gets_the_machine(tmp_path: Path) -> None:
    attempts = [
        subprocess.Popen(
            ["sh", "-c", scripts.claim("m", f"t{number}", CLAIM, {})],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(30)
    ]
    told = [attempt.communicate()[0] for attempt in attempts]
    statuses = [attempt.returncode for attempt in attempts]
    winner = statuses.index(0)

    assert [scripts.HELD] * 29 == [status for status in statuses if status]
    assert all(f"m claim t{winner}\n" in each for each in told)


def test_words_of_a_command_and_its_environment_arrive_as_they_are() -> None:
    file = scripts.command_file(["printf", "%s\\n", "it's $A", "two\nlines"], {"A": "x'y\n$HOME"})["command.sh"]
    done = subprocess.run(["sh", "-c", f"{file}"], capture_output=True, text=True, check=True)

    assert "it's $A\ntwo\nlines\n" == done.stdout
