"""RunPod's own MCP server and dstack's client of the REST API take the emulator for the real thing.

The MCP server, `@runpod/mcp-server`, comes from npm: `GPUPLAN_RUNPOD_MCP` names its script; without it the test says
what it did not try.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from dstack._internal.core.backends.runpod import api_client
from dstack._internal.core.backends.runpod.api_client import RunpodApiClient, RunpodV2ClientError

from gpuplan.testing.emulated import Emulated, emulated
from gpuplan.testing.hurried import HurriedClock

VARIABLE = "GPUPLAN_RUNPOD_MCP"
CARD = "NVIDIA GeForce RTX 4090"
POD: dict[str, Any] = {
    "name": "head",
    "cloud": "SECURE",
    "gpu_type_id": CARD,
    "gpu_count": 2,
    "container_disk_in_gb": 40,
    "image_name": "dstackai/base:py3.11",
    "entrypoint": ["/bin/sh", "-c"],
    "cmd": ["sleep infinity"],
    "ports": ["22/tcp", "10022/tcp"],
}


@pytest.fixture
def emulator() -> Iterator[Emulated]:
    with emulated(HurriedClock(), ["runpod"]) as emulator:
        yield emulator


@pytest.fixture
def client(emulator: Emulated, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunpodApiClient]:
    # It knows one base URL, as a constant.
    monkeypatch.setattr(api_client, "API_V2_URL", f"{emulator.url}/runpod/v2")
    client = RunpodApiClient("a-key")
    yield client
    client._session.close()


def test_a_pod_is_created_waited_for_and_terminated(client: RunpodApiClient, emulator: Emulated) -> None:
    made = client.create_pod(**POD, env={"A": "1"})
    emulator.advance(600)
    pod = client.get_pod(made["id"])
    assert pod is not None

    assert ("PROVISIONING", "RUNNING") == (made["status"], pod["status"])
    assert pod["runtime"] is not None
    assert [22, 10022] == [port["private"] for port in pod["runtime"]["ports"]]
    assert [True, False] == [client.terminate_pod(made["id"]), client.terminate_pod(made["id"])]
    assert client.get_pod(made["id"]) is None


def test_a_volume_is_created_mounted_and_deleted(client: RunpodApiClient) -> None:
    volume = client.create_network_volume(name="data", data_center_id="EU-RO-1", size=50)
    pod = client.create_pod(**POD, network_volume_id=volume["id"], volume_mount_path="/data")

    assert {"network": [{"volumeId": volume["id"], "path": "/data"}]} == pod["mounts"]
    with pytest.raises(RunpodV2ClientError, match="in use"):
        client.delete_network_volume(volume["id"])
    client.terminate_pod(pod["id"])
    assert client.delete_network_volume(volume["id"])
    assert client.get_network_volume(volume["id"]) is None


def test_a_credential_for_images_is_stored_and_deleted(client: RunpodApiClient) -> None:
    made = client.create_container_registry_credentials(name="hub", username="ana", password="secret-word")

    assert [made] == client.list_container_registry_credentials()
    client.delete_container_registry_credentials(made["id"])
    with pytest.raises(RunpodV2ClientError, match="Registry auth not found"):
        client.delete_container_registry_credentials(made["id"])


def test_a_wrong_key_and_a_lack_of_room_are_told(client: RunpodApiClient, emulator: Emulated) -> None:
    emulator.stock(provider="runpod", gpu="RTX4090", available=0)

    assert client.validate_api_key()
    assert not RunpodApiClient("wrong").validate_api_key()
    with pytest.raises(RunpodV2ClientError, match="400: Bad Request: There are no longer any instances"):
        client.create_pod(**POD)


def test_the_official_server_creates_lists_switches_and_deletes(
    emulator: Emulated, capsys: pytest.CaptureFixture[str]
) -> None:
    script = os.environ.get(VARIABLE)
    if script is None:
        with capsys.disabled():
            print(f"\nrunpod: its MCP server was not tried, {VARIABLE} is not set")
        return
    environ = {**os.environ, "RUNPOD_API_BASE_URL": f"{emulator.url}/runpod", "RUNPOD_API_KEY": "a-key"}
    pipe = subprocess.PIPE
    with subprocess.Popen(["node", script], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=environ) as server:
        tools = Tools(server)
        body = {"name": "head", "image": "ubuntu", "disk": 20, "gpu": {"id": CARD, "count": 1}}
        made = tools.use("create-pod", body=body)
        listed = tools.use("list-pods")["pods"]
        emulator.advance(600)
        stopped = tools.use("pod-action", id=made["id"], body={"action": "stop"})
        started = tools.use("pod-action", id=made["id"], body={"action": "start"})
        renamed = tools.use("update-pod", id=made["id"], body={"name": "login"})
        volume = tools.use("create-network-volume", body={"name": "data", "size": 20, "dataCenter": "EU-RO-1"})
        cards = tools.use("list-gpu-types")["gpus"]
        tools.use("delete-pod", id=made["id"])
        left = tools.use("list-pods")["pods"]
        server.terminate()

    assert [made["id"]] == [pod["id"] for pod in listed]
    assert ("EXITED", "STARTING", "login") == (stopped["status"], started["status"], renamed["name"])
    assert "STANDARD" == volume["type"]
    assert CARD in {card["id"] for card in cards}
    assert [] == left


class Tools:
    """What an MCP server offers, one message a line."""

    def __init__(self, server: "subprocess.Popen[bytes]") -> None:
        self._server = server
        self._number = 0
        client = {"name": "test", "version": "1"}
        self._ask("initialize", {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": client})
        self._tell({"method": "notifications/initialized"})

    def use(self, name: str, **arguments: Any) -> Any:
        answer = self._ask("tools/call", {"name": name, "arguments": arguments})
        text = answer["content"][0]["text"]
        assert not answer.get("isError"), text
        return json.loads(text)

    def _ask(self, method: str, parameters: dict[str, Any]) -> Any:
        self._number += 1
        self._tell({"id": self._number, "method": method, "params": parameters})
        assert self._server.stdout is not None
        for line in self._server.stdout:
            message = json.loads(line)
            if message.get("id") == self._number:
                return message["result"]
        raise AssertionError("the server has ended")

    def _tell(self, message: dict[str, Any]) -> None:
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        self._server.stdin.flush()
