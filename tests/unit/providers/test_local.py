"""What the conformance kit cannot know of `local`: processes, files, and crashes between any two of them."""

import asyncio
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gpuplan.core.address import Address
from gpuplan.core.desired import Kind
from gpuplan.core.errors import Conflict, InvalidRequest, NoCapacity, NotFound, Unavailable
from gpuplan.core.observed import Observed, Status
from gpuplan.core.offers import OfferQuery, Stock
from gpuplan.core.secret import Secret
from gpuplan.core.values import Ref
from gpuplan.providers import local_supervisor
from gpuplan.providers.local_pids import Pid
from gpuplan.providers.local_supervisor import born
from gpuplan.testing.local import LocalMachine


def folder(machine: LocalMachine, remote_id: str) -> Path:
    return machine.root / "nodes" / remote_id


def status(machine: LocalMachine, remote_id: str) -> Any:
    return json.loads((folder(machine, remote_id) / "status.json").read_text())


def test_a_node_without_a_command_is_its_supervisor_and_nothing_else(machine: LocalMachine) -> None:
    node = machine.create()

    assert Status.RUNNING is node.status
    assert [node.facts["pid"]] == machine.processes


def test_a_node_is_no_child_of_ours(machine: LocalMachine) -> None:
    node = machine.create(command="exec sleep 1000")

    for pid in (node.facts["pid"], status(machine, node.remote_id)["keeper"]["pid"]):
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


CREATOR = """
import asyncio, os, sys
from gpuplan.core.address import Address
from gpuplan.core.desired import Kind, ProviderBlock
from gpuplan.core.marks import Mark
from gpuplan.core.ports import OpenContext, Want
from gpuplan.core.secret import Redactor
from gpuplan.net.clock import SystemClock
from gpuplan.providers.local import PROVIDER

async def main(root, count):
    context = OpenContext(ProviderBlock("local", "local", {}, ()), SystemClock(), os.environ, Redactor())
    local = PROVIDER.open(PROVIDER.options(root=root, inventory=[{"gpu": "H100", "count": int(count)}]), context)
    attrs = {"gpu": "H100-80GB:1", "command": "exec sleep 1000"}
    print("begin", flush=True)
    for number in range(int(count)):
        want = Want(Address("clusters", "a", None, number), Kind.NODE, attrs, f"a-{number}")
        await local.create(want, Mark(f"token-{number}"), {})

asyncio.run(main(*sys.argv[1:]))
"""


def creator(machine: LocalMachine, count: int) -> subprocess.Popen[str]:
    """Another program that creates nodes with the same tokens every time."""
    command = [sys.executable, "-c", CREATOR, str(machine.root), str(count)]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    running.stdout.readline()
    return running


def test_a_node_survives_whoever_created_it(machine: LocalMachine) -> None:
    with creator(machine, 1) as running:
        machine.until("token-0", Status.RUNNING)
        running.kill()

    assert Status.RUNNING is machine.get("token-0").status


@pytest.mark.parametrize("milliseconds", range(0, 160, 20))
def test_a_killed_create_sent_again_makes_one_node_with_one_share(machine: LocalMachine, milliseconds: int) -> None:
    with creator(machine, 5) as first:
        machine.run(machine.clock.sleep(milliseconds / 1000))
        first.kill()
    with creator(machine, 5) as second:
        pass
    nodes = machine.run(machine.open().list(Kind.NODE, frozenset())).objects

    assert 0 == second.returncode
    assert [(f"token-{number}", Status.RUNNING) for number in range(5)] == [(n.remote_id, n.status) for n in nodes]
    assert ["0", "1", "2", "3", "4"] == sorted(device for node in nodes for device in node.facts["gpu_devices"])
    # A supervisor and a command each, and none besides.
    assert 10 == len(machine.processes)


def test_a_node_whose_creator_died_before_its_start_is_started_by_the_next_step(machine: LocalMachine) -> None:
    want, mark = machine.ask(command="exec sleep 1000")
    local = machine.open()
    created = machine.run(local.create(want, mark, {}))
    machine.run(local.stop(Kind.NODE, created.remote_id))
    (folder(machine, created.remote_id) / "status.json").unlink()
    unstarted = machine.get(created.remote_id)
    advanced = machine.run(local.advance(want, mark, unstarted, {}))

    assert (Status.STARTING, Status.RUNNING) == (unstarted.status, advanced.status)


def test_a_half_made_node_does_not_exist_and_is_swept(machine: LocalMachine) -> None:
    machine.create()
    rubbish = machine.root / "scratch" / "halfmade"
    (rubbish / "workspace").mkdir(parents=True)
    (rubbish / "workspace").chmod(0o500)
    before = machine.get("halfmade")
    machine.create()

    assert before is None
    assert not rubbish.exists()


def test_many_starters_leave_one_supervisor(machine: LocalMachine) -> None:
    node = machine.create()
    command = [sys.executable, "-I", "-S", local_supervisor.__file__, "keep"]
    starters = [subprocess.Popen(command, cwd=folder(machine, node.remote_id)) for _ in range(5)]

    assert [0] * 5 == [starter.wait() for starter in starters]
    assert [node.facts["pid"]] == machine.processes


def test_killing_the_command_is_seen_as_failure(machine: LocalMachine) -> None:
    node = machine.create(command="exec sleep 1000")
    os.kill(node.facts["pid"], signal.SIGKILL)
    seen = machine.until(node.remote_id, Status.FAILED)

    assert "its command was killed by SIGKILL" == seen.detail


def test_killing_the_supervisor_is_seen_as_failure(machine: LocalMachine) -> None:
    node = machine.create()
    os.kill(node.facts["pid"], signal.SIGKILL)
    seen = machine.until(node.remote_id, Status.FAILED)

    assert "its supervisor is gone" == seen.detail


def test_an_ended_command_tells_its_status(machine: LocalMachine) -> None:
    node = machine.create(command="exit 3")

    assert "its command exited 3" == machine.until(node.remote_id, Status.FAILED).detail


def test_a_command_that_cannot_be_run_says_so_in_the_log(machine: LocalMachine) -> None:
    node = machine.create(command=["no-such-program"])

    assert "its command exited 127" == machine.until(node.remote_id, Status.FAILED).detail
    assert ["gpuplan: no-such-program: No such file or directory"] == machine.printed(node.remote_id, 1)


def test_what_a_killed_supervisor_left_running_ends_with_the_node(machine: LocalMachine) -> None:
    node = machine.create(command="setsid sleep 1000 & setsid sleep 1001 & exec sleep 1002")
    os.kill(status(machine, node.remote_id)["keeper"]["pid"], signal.SIGKILL)
    machine.until(node.remote_id, Status.FAILED)
    machine.delete(node.remote_id)

    machine.until_no_process()


def test_what_a_killed_supervisor_left_running_ends_before_a_new_start(machine: LocalMachine) -> None:
    node = machine.create(command="echo up; exec sleep 1002")
    os.kill(status(machine, node.remote_id)["keeper"]["pid"], signal.SIGKILL)
    machine.until(node.remote_id, Status.FAILED)
    started = machine.run(machine.open().start(Kind.NODE, node.remote_id))

    assert {started.facts["pid"], status(machine, node.remote_id)["keeper"]["pid"]} == set(machine.processes)


@pytest.mark.parametrize("end", ["delete", "stop"])
def test_daemons_of_a_command_end_with_it(machine: LocalMachine, end: str) -> None:
    node = machine.create(
        command="(setsid sh -c 'trap : TERM; while :; do sleep 100; done' &); echo up; exec sleep 1002"
    )
    machine.printed(node.remote_id, 1)
    if end == "delete":
        machine.delete(node.remote_id)
    else:
        machine.run(machine.open().stop(Kind.NODE, node.remote_id))
        machine.until(node.remote_id, Status.STOPPED)

    machine.until_no_process()


def test_a_command_that_ignores_term_is_killed_after_the_grace(machine: LocalMachine) -> None:
    local = machine.open(grace=0.2)
    node = machine.create(provider=local, command="trap '' TERM; echo up; while :; do sleep 100; done")
    machine.printed(node.remote_id, 1)
    machine.delete(node.remote_id)

    machine.until_no_process()


def test_a_command_gets_the_time_to_end_by_itself(machine: LocalMachine) -> None:
    node = machine.create(command="trap 'echo bye > bye; exit 0' TERM; echo up; while :; do sleep 0.05; done")
    machine.printed(node.remote_id, 1)
    machine.run(machine.open().stop(Kind.NODE, node.remote_id))
    machine.until(node.remote_id, Status.STOPPED)

    assert "bye\n" == (folder(machine, node.remote_id) / "workspace" / "bye").read_text()


def test_a_process_that_has_inherited_the_number_is_not_touched(machine: LocalMachine) -> None:
    node = machine.create()
    machine.run(machine.open().stop(Kind.NODE, node.remote_id))
    machine.until(node.remote_id, Status.STOPPED)
    bystander = subprocess.Popen(["sleep", "1000"])
    try:
        written = status(machine, node.remote_id)
        written["phase"] = "running"
        written["keeper"]["pid"] = bystander.pid
        written["command"] = {"pid": bystander.pid, "born": written["keeper"]["born"]}
        (folder(machine, node.remote_id) / "status.json").write_text(json.dumps(written))
        seen = machine.get(node.remote_id)
        machine.delete(node.remote_id)

        assert Status.FAILED is seen.status
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_node_of_another_container_is_unknown_and_left_alone(machine: LocalMachine) -> None:
    node = machine.create()
    record = folder(machine, node.remote_id) / "status.json"
    ours = record.read_text()
    record.write_text(ours.replace("/pid:[", "/pid:[9"))
    seen = machine.get(node.remote_id)
    machine.run(machine.open().delete(Kind.NODE, node.remote_id, {}))
    with pytest.raises(Conflict):
        machine.run(machine.open().stop(Kind.NODE, node.remote_id))
    still_there = machine.get(node.remote_id)
    record.write_text(ours)

    assert Status.UNKNOWN is seen.status
    assert Status.UNKNOWN is still_there.status
    assert [node.facts["pid"]] == machine.processes


def test_a_dead_process_has_no_birth() -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    zombie = born(child.pid)
    child.wait()

    assert ("", "") == (zombie, born(child.pid))
    assert born(os.getpid())


def test_restart_always_brings_the_command_back(machine: LocalMachine) -> None:
    node = machine.create(command="echo $$; exec sleep 1000", restart="always")
    first = machine.printed(node.remote_id, 1)[0]
    os.kill(int(first), signal.SIGKILL)
    second = machine.printed(node.remote_id, 2)[1]
    seen = machine.until(node.remote_id, Status.RUNNING)

    assert first != second
    assert "restarted 1 times" == seen.detail


def test_restart_on_failure_leaves_a_success_alone(machine: LocalMachine) -> None:
    node = machine.create(command="exit 0", restart="on-failure")

    assert "its command exited 0" == machine.until(node.remote_id, Status.FAILED).detail


def test_a_changed_restart_does_not_restart(machine: LocalMachine) -> None:
    node = machine.create(command="exec sleep 1000")
    want, _ = machine.ask(command="exec sleep 1000", restart="always")
    updated = machine.run(machine.open().update(want, node.remote_id, {}))

    assert (Status.RUNNING, node.facts["pid"]) == (updated.status, updated.facts["pid"])
    assert "always" == updated.attrs["restart"]


def test_a_changed_environment_restarts_the_command_with_it(machine: LocalMachine) -> None:
    node = machine.create(command="echo $A; exec sleep 1000", env={"A": "one"})
    machine.printed(node.remote_id, 1)
    want, _ = machine.ask(command="echo $A; exec sleep 1000", env={"A": "two"})
    machine.run(machine.open().update(want, node.remote_id, {}))

    assert ["one", "two"] == machine.printed(node.remote_id, 2)


def test_a_node_that_is_stopping_never_looks_failed(machine: LocalMachine) -> None:
    local = machine.open()
    nodes = [machine.create(command="exec sleep 1000") for _ in range(10)]

    async def stop_and_look() -> set[Status]:
        seen: set[Status] = set()
        stops = [asyncio.create_task(local.stop(Kind.NODE, node.remote_id)) for node in nodes]
        while not all(stop.done() for stop in stops) or Status.STOPPING in {*map(status_of, await every())}:
            seen |= {*map(status_of, await every())}
        return seen

    async def every() -> list[Observed]:
        return list((await local.list(Kind.NODE, frozenset())).objects)

    def status_of(observed: Observed) -> Status:
        return observed.status

    assert machine.run(stop_and_look()) <= {Status.RUNNING, Status.STOPPING, Status.STOPPED}


def test_a_start_while_it_stops_is_a_conflict(machine: LocalMachine) -> None:
    local = machine.open(grace=1)
    node = machine.create(provider=local, command="trap '' TERM; echo up; while :; do sleep 100; done")
    machine.printed(node.remote_id, 1)
    stopping = machine.run(local.stop(Kind.NODE, node.remote_id))

    assert Status.STOPPING is stopping.status
    with pytest.raises(Conflict):
        machine.run(local.start(Kind.NODE, node.remote_id))


def test_a_node_created_stopped_runs_nothing_until_it_is_started(machine: LocalMachine) -> None:
    node = machine.create(command="exec sleep 1000", stopped=True)
    before = machine.processes
    started = machine.run(machine.open().start(Kind.NODE, node.remote_id))

    assert (Status.STOPPED, [], Status.RUNNING) == (node.status, before, started.status)


def test_a_node_inherits_no_credentials(machine: LocalMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    node = machine.create(command="env; echo end; exec sleep 1000", env={"A": "1"})
    lines: list[str] = []
    while "end" not in lines:
        lines = machine.printed(node.remote_id, len(lines) + 1)

    assert "A=1" in lines
    assert not any("canary" in line for line in lines)


def test_secrets_reach_the_command_but_no_listing_and_no_foreign_eye(machine: LocalMachine) -> None:
    node = machine.create(command="echo $TOKEN; exec sleep 1000", env={"TOKEN": Secret("canary-secret")})
    listing = machine.run(machine.open().list(Kind.NODE, frozenset()))
    keeper = status(machine, node.remote_id)["keeper"]["pid"]
    record = folder(machine, node.remote_id) / "node.json"

    assert ["canary-secret"] == machine.printed(node.remote_id, 1)
    assert "canary" not in repr(listing)
    assert b"canary" not in Path(f"/proc/{keeper}/cmdline").read_bytes()
    assert 0o600 == stat.S_IMODE(record.stat().st_mode)
    assert 0o700 == stat.S_IMODE(machine.root.stat().st_mode)


def test_gpus_are_shared_out_without_overlap_and_come_back(machine: LocalMachine) -> None:
    local = machine.open(inventory=[{"gpu": "H100", "count": 4}, {"gpu": "RTX4090"}])
    command = "echo $CUDA_VISIBLE_DEVICES; exec sleep 1000"
    first = machine.create(provider=local, command=command, gpu="H100-80GB:3")
    with pytest.raises(NoCapacity):
        machine.create(provider=local, gpu="H100-80GB:2")
    machine.delete(first.remote_id)
    second = machine.create(provider=local, command=command, gpu="H100-80GB:2")
    third = machine.create(provider=local, command=command, gpu="RTX4090")

    assert ["0", "1", "2"] == first.facts["gpu_devices"]
    assert ["0,1"] == machine.printed(second.remote_id, 1)
    assert ["4"] == machine.printed(third.remote_id, 1)


def test_a_node_without_gpus_sees_none(machine: LocalMachine) -> None:
    local = machine.open(inventory=[{"gpu": "H100", "count": 4}])
    node = machine.create(provider=local, command="echo [$CUDA_VISIBLE_DEVICES]; exec sleep 1000")

    assert ["[]"] == machine.printed(node.remote_id, 1)


def test_offers_tell_what_is_left_and_what_it_costs(machine: LocalMachine) -> None:
    local = machine.open(inventory=[{"gpu": "L40S", "count": 2, "price_per_hour": 1.5}])
    machine.create(provider=local, gpu="L40S:1")
    offers = machine.run(local.offers(OfferQuery(gpu="L40S")))

    assert [("L40S:1", 1, Stock.SOME, 1.5), ("L40S:2", 0, Stock.NONE, 3.0)] == [
        (offer.ref, offer.max_count, offer.stock, float(offer.price_per_hour)) for offer in offers
    ]


def test_a_driver_that_does_not_answer_is_not_the_same_as_no_gpu(machine: LocalMachine, tmp_path: Path) -> None:
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho 'driver/library version mismatch' >&2\nexit 18\n")
    tool.chmod(0o755)
    local = machine.open(environ={"PATH": str(tool.parent)})

    with pytest.raises(Unavailable, match="could not be reached") as caught:
        machine.run(local.offers(OfferQuery()))
    assert "version mismatch" in caught.value.failure.message


def test_a_volume_is_shared_by_the_nodes_that_mount_it_and_outlives_them(machine: LocalMachine) -> None:
    volume = machine.create(Kind.VOLUME, size_gb=1)
    mount = {"volume": Ref(Address("volumes", "data"), volume.remote_id), "mount": "/data"}
    writer = machine.create(command="echo kept > data/file; echo done; exec sleep 1000", volumes=[mount])
    machine.printed(writer.remote_id, 1)
    machine.delete(writer.remote_id)
    reader = machine.create(command="cat data/file; exec sleep 1000", volumes=[mount])

    assert ["kept"] == machine.printed(reader.remote_id, 1)


@pytest.mark.parametrize("mount", ["/", "../up", "/a/../../b"])
def test_a_mount_outside_of_the_workspace_is_refused(machine: LocalMachine, mount: str) -> None:
    volume = machine.create(Kind.VOLUME, size_gb=1)
    with pytest.raises(InvalidRequest):
        machine.create(volumes=[{"volume": volume.remote_id, "mount": mount}])
    assert [] == machine.run(machine.open().list(Kind.NODE, frozenset())).objects


def test_a_missing_volume_is_not_found(machine: LocalMachine) -> None:
    with pytest.raises(NotFound):
        machine.create(volumes=[{"volume": "nowhere", "mount": "/data"}])


@pytest.mark.parametrize("remote_id", ["../volumes", "a/b", "", ".", "..", "/etc", "A"])
def test_an_id_is_never_taken_for_a_path(machine: LocalMachine, remote_id: str) -> None:
    machine.create()

    assert machine.get(remote_id) is None
    machine.run(machine.open().delete(Kind.NODE, remote_id, {}))


def test_logs_begin_where_the_tail_does(machine: LocalMachine) -> None:
    node = machine.create(command="seq 1 30000; printf unfinished")
    machine.until(node.remote_id, Status.FAILED)

    async def last(tail: int | None) -> list[str]:
        return [line async for line in machine.open().logs(Kind.NODE, node.remote_id, follow=False, tail=tail)]

    assert ["30000", "unfinished"] == machine.run(last(2))
    assert [*map(str, range(10002, 30001)), "unfinished"] == machine.run(last(20000))
    assert [] == machine.run(last(0))
    assert [*map(str, range(1, 30001)), "unfinished"] == machine.run(last(None))


def test_followed_logs_end_when_the_node_does(machine: LocalMachine) -> None:
    node = machine.create(command="for i in 1 2 3; do echo $i; sleep 0.05; done")

    async def follow() -> list[str]:
        return [line async for line in machine.open().logs(Kind.NODE, node.remote_id, follow=True, tail=None)]

    assert ["1", "2", "3"] == machine.run(follow())


def test_a_node_whose_registry_was_removed_by_hand_ends_at_its_next_look(machine: LocalMachine) -> None:
    node = machine.create(command="exec sleep 1000")
    keeper = Pid.model_validate(status(machine, node.remote_id)["keeper"])
    machine.root.rename(machine.root.with_name("moved"))
    shutil.rmtree(machine.root.with_name("moved"))
    keeper.send(signal.SIGALRM)

    assert keeper.gone_within(10_000)
    assert born(node.facts["pid"]) == ""


def test_a_damaged_record_is_an_unknown_node_not_a_missing_one(machine: LocalMachine) -> None:
    node = machine.create()
    record = folder(machine, node.remote_id) / "node.json"
    whole = record.read_text()
    record.write_text(whole[: len(whole) // 2])
    seen = machine.get(node.remote_id)
    listed = machine.run(machine.open().list(Kind.NODE, frozenset())).objects
    record.write_text(whole)

    assert Status.UNKNOWN is seen.status
    assert [Status.UNKNOWN] == [found.status for found in listed]


def test_a_root_that_is_a_file_is_refused_with_its_path(machine: LocalMachine) -> None:
    machine.root.write_text("in the way")
    with pytest.raises(InvalidRequest) as caught:
        machine.run(machine.open().health())
    machine.root.unlink()

    assert str(machine.root) in caught.value.failure.message


def test_looking_makes_no_folder(machine: LocalMachine) -> None:
    local = machine.open()
    machine.run(local.health())
    machine.run(local.list(Kind.NODE, frozenset()))
    machine.run(local.offers(OfferQuery()))

    assert not machine.root.exists()


@pytest.mark.parametrize("attrs", [{"command": []}, {"command": ""}, {"restart": "sometimes"}])
def test_a_want_that_makes_no_sense_is_refused_before_anything_exists(
    machine: LocalMachine, attrs: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequest):
        machine.create(**attrs)
    assert [] == machine.run(machine.open().list(Kind.NODE, frozenset())).objects
