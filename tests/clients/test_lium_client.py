"""Lium's own SDK and command line, `lium.io`, take the emulator for the real thing; so does gpuhunt, which reads the
public feed of hosts."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from gpuhunt.providers import lium as gpuhunt_lium
from lium.sdk.client import Lium
from lium.sdk.config import Config
from lium.sdk.exceptions import LiumAuthError, LiumError, LiumInsufficientBalanceError, LiumNotFoundError, PodStartError

from gpuplan.testing.emulated import Emulated, emulated
from gpuplan.testing.hurried import HurriedClock

PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGpBYoKqHmF3jr7xkmI9YvNMM2bIXcSJ8vMfQ2vFKq1t team@example.com"


@pytest.fixture
def emulator() -> Iterator[Emulated]:
    with emulated(HurriedClock(), ["lium"]) as emulator:
        yield emulator


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """It keeps caches and host keys in the home of its user."""
    folder = tmp_path / ".ssh"
    folder.mkdir()
    (folder / "id_ed25519").write_text("not a key that anyone will use")
    (folder / "id_ed25519.pub").write_text(f"{PUBLIC_KEY}\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def client_of(emulator: Emulated, home: Path, key: str = "sk_test") -> Lium:
    url = f"{emulator.url}/lium/api"
    return Lium(Config(api_key=key, base_url=url, ssh_key_path=home / ".ssh" / "id_ed25519"))


@pytest.fixture
def client(emulator: Emulated, home: Path) -> Iterator[Lium]:
    with client_of(emulator, home) as client:
        yield client


def test_a_pod_is_rented_listed_and_removed(client: Lium, emulator: Emulated) -> None:
    offer = next(each for each in client.ls(gpu_type="H100") if each.gpu_count == 8)
    made = client.up(executor_id=offer.id, name="head", gpu_count=2, termination_hours=5)
    emulator.advance(600)
    (pod,) = client.ps()

    assert (made["id"], "head", "RUNNING", 2) == (pod.id, pod.name, pod.status, pod.gpu_count)
    assert pod.ssh_cmd
    assert pod.ssh_cmd.startswith("ssh root@")
    assert pod.removal_scheduled_at
    assert pod.executor
    assert round(2 * offer.price_per_gpu, 4) == pod.executor.price_per_hour
    assert [PUBLIC_KEY] == [key.public_key for key in client.list_ssh_keys()]
    assert b"ready" in list(client.logs(pod.id))
    client.down(pod)
    assert [] == client.ps()
    with pytest.raises(LiumNotFoundError):
        client.down(pod)


def test_a_rent_whose_answer_was_lost_is_sent_again_with_its_key(
    client: Lium, emulator: Emulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lium.sdk.client.time.sleep", lambda seconds: None)
    offer = client.ls(gpu_type="RTX4090")[0]
    emulator.consistency("lium", 3600)
    emulator.fault("status_after", provider="lium", route="/api/executors/{id}/rent", status=504)
    made = client.up(executor_id=offer.id, name="head")

    assert [made["id"]] == [row["id"] for row in emulator.living(kind="node")]


def test_an_image_of_ones_own_becomes_a_template_that_goes_with_its_pod(client: Lium, emulator: Emulated) -> None:
    made = client.up(executor_id=client.ls(gpu_type="A6000")[0].id, name="head", image="acme/trainer:7")
    emulator.advance(60)
    (pod,) = client.ps()

    assert ("acme/trainer", "7") == (pod.template["docker_image"], pod.template["docker_image_tag"])
    client.rm(pod)
    assert [] == client.ps()
    assert [] == emulator.living(kind="template")
    assert made["id"] == pod.id


def test_a_pod_is_rebooted_gets_another_template_and_an_end(client: Lium, emulator: Emulated) -> None:
    client.up(executor_id=client.ls(gpu_type="RTX4090")[0].id, name="head")
    emulator.advance(600)
    (pod,) = client.ps()
    template = client.create_template("own", "ubuntu", docker_image_tag="24.04", environment={"A": "1"})
    client.switch_template(pod, template_id=template.id)
    (switched,) = client.ps()
    emulator.advance(600)
    client.reboot(pod)
    (rebooting,) = client.ps()
    client.schedule_termination(pod, termination_time="2027-01-01T00:00:00Z")

    assert ("ubuntu", "REBOOT_PENDING") == (switched.template["docker_image"], switched.status)
    assert "REBOOT_PENDING" == rebooting.status
    assert "2027-01-01T00:00:00" == client.ps()[0].removal_scheduled_at
    client.cancel_scheduled_termination(pod)
    assert client.ps()[0].removal_scheduled_at is None


def test_a_volume_is_made_mounted_and_deleted(client: Lium) -> None:
    volume = client.volume_create("data", description="sets")
    client.up(executor_id=client.ls(gpu_type="RTX4090")[0].id, name="head", volume_id=volume.id)

    assert ["data"] == [each.name for each in client.volumes()]
    with pytest.raises(LiumError, match="attached"):
        client.volume_delete(volume.id)
    client.down(client.ps()[0])
    client.volume_delete(volume.id)
    assert [] == client.volumes()


def test_refusals_are_told_as_what_they_are(client: Lium, emulator: Emulated, home: Path) -> None:
    offer = client.ls(gpu_type="H200")[0]
    emulator.knobs("lium", {"balance": 0.01})
    with pytest.raises(LiumInsufficientBalanceError) as caught:
        client.up(executor_id=offer.id, name="head")

    assert 0.01 == caught.value.available
    stranger = client_of(emulator, home, "wrong-key")
    assert stranger.ls()
    with pytest.raises(LiumAuthError):
        stranger.ps()
    emulator.stock(provider="lium", gpu="H200", available=0)
    with pytest.raises(ValueError, match="not in the current listing"):
        client.up(executor_id=offer.id, name="head")


def test_a_creation_that_failed_tells_its_cause(client: Lium, emulator: Emulated) -> None:
    emulator.knobs("lium", {"breaks": "trainer"})
    made = client.up(executor_id=client.ls(gpu_type="RTX4090")[0].id, name="head", image="acme/trainer:7")
    emulator.advance(30)
    with pytest.raises(PodStartError) as caught:
        client.wait_ready(made["id"], timeout=5, poll_interval=1)

    assert "no space left on device" in str(caught.value.cause)


def test_the_command_line_lists_hosts_and_pods(client: Lium, emulator: Emulated, home: Path) -> None:
    client.up(executor_id=client.ls(gpu_type="RTX4090")[0].id, name="head")
    emulator.advance(600)
    address = {"LIUM_BASE_URL": f"{emulator.url}/lium/api", "LIUM_API_KEY": "sk_test"}
    environ = {**os.environ, **address, "HOME": str(home), "COLUMNS": "1000"}

    def lium(*words: str) -> str:
        command = [str(Path(sys.executable).with_name("lium")), *words, "--format", "json"]
        ran = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
        assert 0 == ran.returncode, ran.stderr
        return ran.stdout

    assert json.loads(lium("ls"))
    assert "head" in lium("ps")


def test_gpuhunt_reads_the_public_feed(emulator: Emulated, monkeypatch: pytest.MonkeyPatch) -> None:
    # It knows one URL, as a constant.
    monkeypatch.setattr(gpuhunt_lium, "NODES_URL", f"{emulator.url}/lium/api/public/v1/nodes")
    offers = gpuhunt_lium.LiumProvider.from_env().get()

    assert {"H100", "A100", "RTX4090", "B200"} <= {offer.gpu_name for offer in offers}
    assert all(offer.price > 0 for offer in offers)
