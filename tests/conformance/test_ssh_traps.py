"""What goes wrong with machines one already has, each by its name."""

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import asyncssh
import pytest

from gpuplan.core.desired import Kind
from gpuplan.core.errors import (
    HostKeyChanged,
    InvalidRequest,
    NoCapacity,
    NotFound,
    ProviderError,
    Unavailable,
)
from gpuplan.core.observed import Observed, Status
from gpuplan.core.offers import OfferQuery, Pricing, Stock
from gpuplan.core.ports import Channel
from gpuplan.core.secret import Secret
from gpuplan.net.clock import SystemClock
from gpuplan.net.ssh import HostName, SshClient
from gpuplan.providers.ssh import Ssh
from gpuplan.testing.local import end_all_in, no_process_in, processes_in
from gpuplan.testing.ssh_rig import H100, Rig
from tests.conformance.ssh_lab import Lab

FOREVER = "exec sleep 1000"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with asyncio.Runner() as runner:
        made = Lab(Rig(tmp_path), runner)
        try:
            yield made
        finally:
            end_all_in(tmp_path)
            runner.run(made.rig.close())


def known(text: Path, host: str, port: int, key: asyncssh.SSHKey) -> None:
    """Put a key into a file as `ssh` itself would."""
    with text.open("a") as file:
        file.write(f"[{host}]:{port} {key.export_public_key('openssh').decode().strip()}\n")


# Claims.


def test_two_workspaces_race_for_one_host_and_one_gets_it(lab: Lab) -> None:
    lab.add("m0", H100)
    accounts = [lab.rig.open() for _ in range(8)]

    async def race() -> list[Observed | BaseException]:
        wants = [lab.ask(f"w{number}", gpu="H100-80GB:1") for number in range(len(accounts))]
        attempts = (ssh.create(*want, {}) for ssh, want in zip(accounts, wants, strict=True))
        return await asyncio.gather(*attempts, return_exceptions=True)

    outcomes = lab.run(race())
    won = [each for each in outcomes if isinstance(each, Observed)]
    listed = lab.run(accounts[0].list(Kind.NODE, frozenset())).objects

    assert [NoCapacity] * 7 == [type(each) for each in outcomes if not isinstance(each, Observed)]
    assert [each.remote_id for each in won] == [each.remote_id for each in listed]


def test_a_claim_whose_answer_was_lost_is_found_by_its_token_and_not_made_twice(lab: Lab) -> None:
    lab.add("m0", H100)
    lab.add("m1", H100)
    want, mark = lab.ask(gpu="H100-80GB:1", command=FOREVER)
    lab.run(lab.rig.open().create(want, mark, {}))
    later = lab.rig.open()
    found = lab.run(later.list(Kind.NODE, frozenset())).objects
    again = lab.run(later.create(want, mark, {}))

    assert [mark] == [each.mark for each in found]
    assert found[0].remote_id == again.remote_id
    assert 1 == len(lab.run(later.list(Kind.NODE, frozenset())).objects)


def test_a_create_that_broke_off_after_the_claim_is_brought_up_by_the_next_step(lab: Lab) -> None:
    machine = lab.add("m0", H100)
    ssh = lab.rig.open()
    want, mark = lab.ask(gpu="H100-80GB:1", command=FOREVER)
    node = lab.run(ssh.create(want, mark, {}))
    folder = machine.directory / f"node-{mark.token}"
    os.killpg(int((folder / "keeper").read_text().split()[0]), signal.SIGKILL)
    for left in ("keeper", "phase"):
        (folder / left).unlink()
    begun = lab.run(ssh.get(Kind.NODE, node.remote_id))
    assert begun is not None
    brought = lab.run(ssh.advance(want, mark, begun, {}))

    assert (Status.STARTING, Status.RUNNING) == (begun.status, brought.status)


def test_a_host_that_was_taken_since_the_plan_is_no_capacity_and_the_next_offer_does(lab: Lab) -> None:
    for name in ("m0", "m1"):
        lab.add(name, H100)
    ssh = lab.rig.open()
    offers = lab.offers(ssh)
    lab.create(lab.rig.open(), offers["m0"], gpu="H100-80GB:1")
    with pytest.raises(NoCapacity) as refused:
        lab.create(ssh, offers["m0"], gpu="H100-80GB:1")
    second = lab.create(ssh, offers["m1"], gpu="H100-80GB:1")

    assert "H100-80GB:1" == refused.value.failure.gpu
    assert second.remote_id.startswith("m1/")


def test_the_claim_of_another_is_not_released(lab: Lab) -> None:
    machine = lab.add("m0")
    ssh = lab.rig.open()
    node = lab.create(ssh)
    lab.run(ssh.delete(Kind.NODE, "m0/aaaaaaaaaaaaaaaaaaaa", {}))

    assert (machine.directory / "claim").read_text().startswith(node.remote_id.partition("/")[2])


def test_release_ends_what_was_left_running_and_removes_its_files(lab: Lab) -> None:
    machine = lab.add("m0")
    ssh = lab.rig.open()
    node = lab.create(ssh, command="setsid sh -c 'cd /; exec sleep 1000' & trap '' TERM; while :; do sleep 1; done")
    lab.until(ssh, node.remote_id, Status.RUNNING)
    target = ssh.ssh_target(node)
    assert target is not None

    async def leave_something() -> None:
        client = SshClient(lab.rig.environ, redact=str)
        channel: Channel = await client.open(target, HostName("lab", "node", target.alias), workspace="unused")
        await channel.run("setsid sleep 1000 >/dev/null 2>&1 & echo left > file", env={})
        await channel.close()
        await client.close()

    lab.run(leave_something())
    before = strays(node)
    lab.run(ssh.delete(Kind.NODE, node.remote_id, {}))
    lab.run(no_process_in(lab.folder, SystemClock()))

    assert before
    assert [] == strays(node)
    assert ["id"] == [path.name for path in machine.directory.iterdir()]


def strays(node: Observed) -> list[int]:
    """Processes that carry the node's name in their environment, wherever they went."""
    mark = f"GPUPLAN_NODE_ID={node.remote_id.partition('/')[2]}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


# Machines that do not answer, or are not what they were.


def test_a_dead_host_is_unseen_and_never_gone(lab: Lab) -> None:
    dead, _ = lab.add("m0", H100), lab.add("m1", H100)
    ssh = lab.rig.open()
    offers = lab.offers(ssh)
    lost, kept = (lab.create(ssh, offers[name], gpu="H100-80GB:1") for name in ("m0", "m1"))
    lab.run(dead.down())
    listed = lab.run(ssh.list(Kind.NODE, frozenset({lost.remote_id, kept.remote_id})))

    assert ([kept.remote_id], ("m0/",)) == ([each.remote_id for each in listed.objects], listed.unseen)
    assert "m0" in listed.why
    for verb in (ssh.get(Kind.NODE, lost.remote_id), ssh.delete(Kind.NODE, lost.remote_id, {})):
        with pytest.raises(Unavailable):
            lab.run(verb)
    lab.run(dead.up(lab.rig.public_key))
    assert lab.run(ssh.get(Kind.NODE, lost.remote_id)) is not None


def test_a_connection_that_ended_meanwhile_is_made_again(lab: Lab) -> None:
    machine = lab.add("m0")
    ssh = lab.rig.open()
    node = lab.create(ssh)
    lab.run(machine.down())
    lab.run(machine.up(lab.rig.public_key))

    assert lab.run(ssh.get(Kind.NODE, node.remote_id)) is not None


def test_a_host_that_left_the_inventory_is_unseen_and_never_gone(lab: Lab) -> None:
    lab.add("m0")
    node = lab.create(lab.rig.open())
    lab.add("m1")
    without = lab.rig.open([lab.rig.machines["m1"].entry])
    listed = lab.run(without.list(Kind.NODE, frozenset({node.remote_id})))

    assert (("m0/",), "m0: it is not in the inventory") == (listed.unseen, listed.why)
    with pytest.raises(InvalidRequest):
        lab.run(without.get(Kind.NODE, node.remote_id))


def test_without_an_offer_a_create_needs_to_see_every_host(lab: Lab) -> None:
    dead, _ = lab.add("m0"), lab.add("m1")
    lab.run(dead.down())
    with pytest.raises(Unavailable):
        lab.create(lab.rig.open())


def test_a_reimaged_host_shows_another_key_and_is_no_free_host(lab: Lab) -> None:
    machine = lab.add("m0", H100)
    ssh = lab.rig.open()
    node = lab.create(ssh, gpu="H100-80GB:1")
    lab.run(machine.down())
    machine.host_key = None
    shutil.rmtree(machine.directory)
    lab.run(machine.up(lab.rig.public_key))
    later = lab.rig.open()

    with pytest.raises(HostKeyChanged):
        lab.run(later.get(Kind.NODE, node.remote_id))
    assert ("m0/",) == lab.run(later.list(Kind.NODE, frozenset())).unseen
    assert {} == lab.offers(later)


def test_a_rebooted_host_has_a_failed_node_that_starts_again(lab: Lab) -> None:
    machine = lab.add("m0")
    ssh = lab.rig.open()
    node = lab.create(ssh, command=FOREVER)
    keeper = machine.directory / f"node-{node.remote_id.partition('/')[2]}" / "keeper"
    pid, born, _ = keeper.read_text().split()
    os.killpg(int(pid), signal.SIGKILL)
    # What the machine's own boot id would be if it had been booted since.
    keeper.write_text(f"{pid} {born} 00000000-0000-4000-8000-000000000000\n")
    rebooted = lab.run(ssh.get(Kind.NODE, node.remote_id))
    started = lab.run(ssh.start(Kind.NODE, node.remote_id))

    assert rebooted is not None
    assert Status.FAILED is rebooted.status
    assert "rebooted" in rebooted.detail
    assert Status.RUNNING is started.status


def test_a_process_that_got_the_number_of_a_dead_supervisor_is_not_taken_for_it(lab: Lab) -> None:
    machine = lab.add("m0")
    ssh = lab.rig.open()
    node = lab.create(ssh, command=FOREVER)
    keeper = machine.directory / f"node-{node.remote_id.partition('/')[2]}" / "keeper"
    pid, born, boot = keeper.read_text().split()
    os.killpg(int(pid), signal.SIGKILL)
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as other:
        keeper.write_text(f"{other.pid} {born} {boot}\n")
        seen = lab.run(ssh.get(Kind.NODE, node.remote_id))
        lab.run(ssh.delete(Kind.NODE, node.remote_id, {}))
        survived = other.poll() is None
        other.kill()

    assert seen is not None
    assert Status.FAILED is seen.status
    assert survived


def test_two_entries_for_one_host_are_one_host(lab: Lab) -> None:
    machine = lab.add("m0", H100)
    ssh = lab.rig.open([machine.entry, {**machine.entry, "name": "again", "host": "localhost"}])
    first = lab.offers(ssh)
    node = lab.create(ssh, gpu="H100-80GB:1")
    by_other_name = f"again/{node.remote_id.partition('/')[2]}"

    assert ["m0"] == list(first)
    assert [node.remote_id] == [each.remote_id for each in lab.run(ssh.list(Kind.NODE, frozenset())).objects]
    known_so = lab.run(ssh.list(Kind.NODE, frozenset({by_other_name}))).objects
    assert [by_other_name] == [each.remote_id for each in known_so]
    with pytest.raises(NoCapacity):
        lab.create(ssh, gpu="H100-80GB:1")


def test_a_folder_that_machines_share_is_refused(lab: Lab) -> None:
    machine = lab.add("m0")
    ssh = lab.rig.open()
    node = lab.create(ssh)
    # As another machine finds it, whose homes lie on the same file server.
    (machine.directory / "id").write_text("0123 another-machine\n")
    with pytest.raises(InvalidRequest) as refused:
        lab.run(ssh.delete(Kind.NODE, node.remote_id, {}))

    assert "`directory`" in (refused.value.failure.hint or "")
    assert ("m0/",) == lab.run(ssh.list(Kind.NODE, frozenset())).unseen


def test_an_id_that_is_none_of_ours_is_no_word_of_a_script(lab: Lab) -> None:
    machine = lab.add("m0")
    ssh = lab.rig.open()
    wrong = f"m0/x;touch {machine.folder}/touched"
    with pytest.raises(NotFound):
        lab.log(ssh, wrong)

    assert lab.run(ssh.get(Kind.NODE, wrong)) is None
    assert not (machine.folder / "touched").exists()


# What a machine has.


def test_offers_tell_the_gpus_that_are_really_there(lab: Lab) -> None:
    nvidia = lab.add("m0", *[H100] * 8)
    lab.add("m1")
    amd = lab.add("m2")
    amd.stub("rocm-smi", """echo '{"card0": {"Card Series": "AMD Instinct MI300X"}, "system": {}}'""")
    untold = lab.add("m3")
    entries = [
        {**nvidia.entry, "gpu_type": "A100-80GB", "price_per_hour": 12.5},
        lab.rig.machines["m1"].entry,
        amd.entry,
        {**untold.entry, "gpu_type": "gaudi2", "gpu_count": 2},
    ]
    offers = lab.offers(lab.rig.open(entries))

    assert {"m0": "H100-80GB-SXM:8", "m1": ":0", "m2": "MI300X:1", "m3": "Gaudi2:2"} == {
        name: f"{offer.gpu}:{offer.gpu_count}" for name, offer in offers.items()
    }
    assert (Decimal("12.5"), Decimal(0)) == (offers["m0"].price_per_hour, offers["m1"].price_per_hour)
    assert offers["m0"].cpu
    assert offers["m0"].memory_gb
    assert offers["m0"].disk_gb


def test_a_gpu_whose_memory_is_not_told_is_kept(lab: Lab) -> None:
    lab.add("m0", "NVIDIA GB10, [N/A]")

    assert "GB10" == lab.offers(lab.rig.open())["m0"].gpu


def test_a_host_whose_driver_does_not_answer_is_not_offered(lab: Lab) -> None:
    machine = lab.add("m0", H100)
    machine.stub("nvidia-smi", "echo 'Unable to determine the device handle for GPU: GPU is lost'; exit 15")
    ssh = lab.rig.open([{**machine.entry, "gpu_type": "H100-80GB"}])

    assert {} == lab.offers(ssh)
    with pytest.raises(NoCapacity):
        lab.create(ssh, gpu="H100-80GB:1")


def test_a_driver_without_devices_is_a_host_without_gpus(lab: Lab) -> None:
    lab.add("m0").stub("nvidia-smi", "echo 'No devices were found'; exit 6")

    assert "" == lab.offers(lab.rig.open())["m0"].gpu


def test_a_host_that_a_scheduler_owns_is_refused_unless_shared(lab: Lab) -> None:
    lab.add("m0", H100)
    sleep = shutil.which("sleep")
    assert sleep is not None
    with subprocess.Popen(["slurmd", "1000"], executable=shutil.copy(sleep, lab.folder / "slurmd")) as scheduler:
        refused = lab.offers(lab.rig.open())["m0"]
        with pytest.raises(NoCapacity):
            lab.create(lab.rig.open(), gpu="H100-80GB:1")
        taken = lab.create(lab.rig.open(shared=True), gpu="H100-80GB:1")
        scheduler.kill()

    assert (Stock.NONE, 0) == (refused.stock, refused.max_count)
    assert taken.remote_id.startswith("m0/")


def test_a_host_on_which_others_compute_is_not_free(lab: Lab) -> None:
    machine = lab.add("m0", H100)
    gpus = f"case $* in *--query-gpu=*) echo 'GPU-0, {H100}';; *) echo '4711, python';; esac"
    machine.stub("nvidia-smi", gpus)

    assert Stock.NONE is lab.offers(lab.rig.open())["m0"].stock


def test_an_ephemeral_host_is_for_clusters_that_take_spot(lab: Lab) -> None:
    machine = lab.add("m0")
    ssh = lab.rig.open([{**machine.entry, "is_ephemeral": True}])

    assert Pricing.SPOT is lab.offers(ssh)["m0"].pricing
    assert [] == list(lab.run(ssh.offers(OfferQuery(spot=False))))
    with pytest.raises(NoCapacity):
        lab.create(ssh)
    assert lab.create(ssh, spot=True).remote_id.startswith("m0/")


# Keys, and the way there.


def test_a_refused_key_leaves_the_host_unseen_and_says_so(lab: Lab) -> None:
    machine = lab.add("m0")
    stranger = lab.folder / "stranger"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(stranger)
    listed = lab.run(lab.rig.open([{**machine.entry, "key": str(stranger)}]).list(Kind.NODE, frozenset()))

    assert (("m0/",), True) == (listed.unseen, "none of the keys is accepted" in listed.why)


def test_strict_refuses_a_host_whose_key_is_not_on_record(lab: Lab) -> None:
    machine = lab.add("m0")
    ssh = lab.rig.open(host_keys="strict")
    with pytest.raises(InvalidRequest) as refused:
        lab.create(ssh)
    assert machine.host_key is not None
    known(lab.rig.home / ".ssh" / "known_hosts", "127.0.0.1", machine.port, machine.host_key)

    assert "nothing was sent" in refused.value.failure.facts
    assert [] == machine.connections
    assert lab.create(lab.rig.open(host_keys="strict")).remote_id


def test_a_key_that_the_user_has_for_a_host_counts_at_the_first_contact(lab: Lab) -> None:
    machine = lab.add("m0")
    known(
        lab.rig.home / ".ssh" / "known_hosts", "127.0.0.1", machine.port, asyncssh.generate_private_key("ssh-ed25519")
    )
    with pytest.raises(HostKeyChanged):
        lab.create(lab.rig.open())


def test_a_host_key_of_the_inventory_is_the_only_one_accepted(lab: Lab) -> None:
    machine, other = lab.add("m0"), asyncssh.generate_private_key("ssh-ed25519")
    assert machine.host_key is not None
    keys = [key.export_public_key("openssh").decode() for key in (other, machine.host_key)]
    with pytest.raises(HostKeyChanged):
        lab.create(lab.rig.open([{**machine.entry, "host_key": keys[0]}]))
    shutil.rmtree(lab.rig.home / ".local")

    assert lab.create(lab.rig.open([{**machine.entry, "host_key": keys[1]}])).remote_id


def test_hosts_behind_a_jump_host_share_one_connection_to_it(lab: Lab) -> None:
    jump = lab.add("jump", user="me")
    for name in ("m0", "m1"):
        lab.add(name)
    entries = [lab.rig.machines[name].entry for name in ("m0", "m1")]
    ssh = lab.rig.open(entries, jump=f"me@127.0.0.1:{jump.port}")
    node = lab.create(ssh)
    target = ssh.ssh_target(node)

    assert 1 == len(jump.connections)
    assert target is not None
    assert target.jump is not None
    assert ("me", jump.port) == (target.jump.user, target.jump.port)


def test_the_ssh_configuration_of_the_user_counts(lab: Lab) -> None:
    jump, machine = lab.add("jump", user="me"), lab.add("m0")
    key = lab.rig.home / ".ssh" / "id_ed25519"
    named = key.rename(lab.rig.home / ".ssh" / "for-the-lab")
    (lab.rig.home / ".ssh" / "config").write_text(
        f"Host gpu-*\n  HostName 127.0.0.1\n  Port {machine.port}\n  User trainer\n  ProxyJump login\n"
        f"Host login\n  HostName 127.0.0.1\n  Port {jump.port}\n  User me\n"
        f"Host *\n  IdentityFile {named}\n  StrictHostKeyChecking no\n"
    )
    ssh = lab.rig.open([{"host": "gpu-1", "directory": str(machine.directory)}])
    node = lab.create(ssh)
    target = ssh.ssh_target(node)

    assert node.remote_id.startswith("gpu-1/")
    assert target is not None
    assert ("trainer", machine.port, str(named)) == (target.user, target.port, target.key_file)
    assert 1 == len(jump.connections)
    with pytest.raises(ProviderError):
        lab.create(lab.rig.open([{"host": "gpu-1"}], ssh_config=False))


# Nodes.


def test_the_environment_arrives_although_servers_accept_none_and_no_process_list_shows_it(lab: Lab) -> None:
    machine = lab.add("m0")
    ssh = lab.rig.open()
    command = "echo $GREETING $TOKEN $GPUPLAN_WORKSPACE; exec sleep 1000"
    node = lab.create(ssh, command=command, env={"GREETING": "it's me", "TOKEN": Secret("s3cret")})
    folder = machine.directory / f"node-{node.remote_id.partition('/')[2]}"
    running = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in processes_in(lab.folder)]

    assert [f"it's me s3cret {folder}/workspace"] == lab.log(ssh, node.remote_id)
    assert not any(b"s3cret" in words or b"GREETING" in words for words in running)
    assert "s3cret" not in (machine.directory / "claim").read_text()
    assert (0o700, 0o600) == (folder.stat().st_mode & 0o777, (folder / "command.sh").stat().st_mode & 0o777)


def test_a_command_that_ends_is_a_failed_node_and_its_log_stays(lab: Lab) -> None:
    lab.add("m0")
    ssh = lab.rig.open()
    node = lab.create(ssh, command="echo done; exit 3")
    failed = lab.until(ssh, node.remote_id, Status.FAILED)

    assert "its command exited 3" == failed.detail
    assert ["done"] == lab.log(ssh, node.remote_id, follow=True)


def test_a_command_is_started_again_as_often_as_restart_says(lab: Lab) -> None:
    lab.add("m0")
    ssh = lab.rig.open()
    command = "echo x >> runs; [ $(wc -l < runs) -ge 2 ] && exit 0; exit 1"
    node = lab.create(ssh, command=command, restart="on-failure")
    ended = lab.until(ssh, node.remote_id, Status.FAILED)

    assert "its command exited 0" == ended.detail


def test_a_node_without_a_command_is_a_claimed_machine(lab: Lab) -> None:
    lab.add("m0")
    ssh = lab.rig.open()
    node = lab.create(ssh)

    assert (Status.RUNNING, []) == (node.status, lab.log(ssh, node.remote_id))
    assert ("alice@laptop", "trainer") == (node.facts["owner"], node.facts["ssh_user"])


def test_a_node_that_is_to_be_stopped_is_claimed_and_runs_nothing(lab: Lab) -> None:
    lab.add("m0")
    ssh = lab.rig.open()
    node = lab.create(ssh, command="echo begun", stopped=True)
    ended = [node.status, lab.run(ssh.start(Kind.NODE, node.remote_id)).status is Status.STOPPED]

    assert [Status.STOPPED, False] == ended
    lab.until(ssh, node.remote_id, Status.FAILED)
    assert ["begun"] == lab.log(ssh, node.remote_id)


def test_verbs_on_a_node_that_is_gone_are_not_found(lab: Lab) -> None:
    lab.add("m0")
    ssh = lab.rig.open()
    for verb in (ssh.stop, ssh.start):
        with pytest.raises(NotFound):
            lab.run(verb(Kind.NODE, "m0/aaaaaaaaaaaaaaaaaaaa"))


def test_a_caller_that_goes_away_leaves_no_lock(lab: Lab) -> None:
    lab.add("m0")
    slow = lab.rig.open(grace=100)
    node = lab.create(slow, command="trap '' TERM; while :; do sleep 1; done")

    async def give_up() -> None:
        stopping = asyncio.create_task(slow.stop(Kind.NODE, node.remote_id))
        await SystemClock().sleep(0.5)
        stopping.cancel()
        await asyncio.wait([stopping])

    lab.run(give_up())
    quick = lab.rig.open()
    stopped = lab.run(quick.stop(Kind.NODE, node.remote_id))

    assert Status.STOPPED is stopped.status


def test_a_folder_that_cannot_be_made_names_the_option(lab: Lab) -> None:
    machine = lab.add("m0")
    (lab.folder / "file").write_text("")
    ssh: Ssh = lab.rig.open([{**machine.entry, "directory": str(lab.folder / "file" / "gpuplan")}])
    with pytest.raises(InvalidRequest) as refused:
        lab.create(ssh)

    assert "directory" in (refused.value.failure.hint or "")
