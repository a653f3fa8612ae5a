"""Supabase's client, `fly-admin`, takes the emulator for the real thing.

It comes from npm, into a folder of this run. On a machine without Node.js and npm, or that does not reach the registry,
no client but our own judges the emulator of `fly`: the tests say so, and prove nothing.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gpuplan.testing.emulated import Emulated, emulated
from gpuplan.testing.hurried import HurriedClock

PACKAGE = "fly-admin@1.6.1"
RUNTIMES = ["node" if shutil.which("node") and shutil.which("npm") else "no Node.js"]
UNREACHABLE = ("EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ENETUNREACH", "ENOTFOUND", "ETIMEDOUT")
PATIENCE_SECONDS = 90
DRIVER = """
const {module, url, key, api, method, args} = JSON.parse(require("fs").readFileSync(0));
const Client = require(module).default;
const client = new Client(key, {apiUrl: url, graphqlUrl: `${url}/@api`});
client[api][method](...args).then(
  (answer) => console.log(JSON.stringify({answer: answer === undefined ? null : answer})),
  (error) => console.log(JSON.stringify({error: error.message})),
);
"""
APP = "gp-train"
CONFIG: dict[str, Any] = {
    "image": "supabase/postgres",
    "guest": {"cpu_kind": "shared", "cpus": 1, "memory_mb": 512},
    "metadata": {"team": "research"},
}


class Refused(Exception):
    """What the client throws."""


@dataclass(frozen=True, slots=True)
class FlyAdmin:
    """The client, one process per call. `folder` None: there is none."""

    folder: Path | None
    url: str
    key: str = "a-key"

    def call(self, api: str, method: str, *args: object) -> Any:
        assert self.folder is not None
        asked = {
            "module": str(self.folder / "node_modules/fly-admin/dist/client"),
            "url": self.url,
            "key": self.key,
            "api": api,
            "method": method,
            "args": args,
        }
        told = subprocess.run(
            ["node", "-e", DRIVER], input=json.dumps(asked), capture_output=True, text=True, timeout=PATIENCE_SECONDS
        )
        assert 0 == told.returncode, told.stderr
        answer = json.loads(told.stdout)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer["answer"]

    def machine(self, method: str, id: str, **more: object) -> Any:
        return self.call("Machine", method, {"app_name": APP, "machine_id": id, **more})

    def with_app(self) -> "FlyAdmin":
        self.call("App", "createApp", {"name": APP, "org_slug": "personal", "network": "gp"})
        return self


@pytest.fixture(scope="module", params=RUNTIMES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """Where the client is installed; None where it cannot be."""
    if request.param != "node":
        return None
    folder = tmp_path_factory.mktemp("npm")
    command = ["npm", "install", PACKAGE, "--prefix", folder, "--cache", folder / "cache", "--no-audit", "--no-fund"]
    installed = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    if installed.returncode != 0 and any(code in installed.stderr for code in UNREACHABLE):
        return None
    assert 0 == installed.returncode, installed.stderr
    return folder


@pytest.fixture
def emulator() -> Iterator[Emulated]:
    with emulated(HurriedClock(), ["fly"]) as emulator:
        emulator.knobs("fly", {"rate_limited": False})
        yield emulator


@pytest.fixture
def client(folder: Path | None, emulator: Emulated, capsys: pytest.CaptureFixture[str]) -> FlyAdmin | None:
    """None where there is nothing to try."""
    if folder is None:
        with capsys.disabled():
            print("\nfly: not judged by `fly-admin`, which npm could not install")
        return None
    return FlyAdmin(folder, f"{emulator.url}/fly")


def test_an_app_is_created_listed_and_deleted(client: FlyAdmin | None, emulator: Emulated) -> None:
    if client is None:
        return
    client.with_app()
    client.call("Network", "allocateIpAddress", {"appId": APP, "type": "v4"})

    listed = client.call("App", "listApps", "personal")
    assert (1, APP) == (listed["total_apps"], listed["apps"][0]["name"])
    assert "pending" == client.call("App", "getApp", APP)["status"]
    (address,) = client.call("App", "getAppDetailed", APP)["ipAddresses"]
    assert "v4" == address["type"]
    client.call("Network", "releaseIpAddress", {"appId": APP, "ip": address["address"]})
    client.call("App", "deleteApp", APP)
    assert [] == emulator.living()


def test_a_machine_is_created_waited_for_updated_stopped_started_and_deleted(
    client: FlyAdmin | None, emulator: Emulated
) -> None:
    if client is None:
        return
    client.with_app()
    made = client.call("Machine", "createMachine", {"app_name": APP, "name": "head", "config": CONFIG})
    id = made["id"]

    assert client.machine("waitMachine", id, state="started", timeout="60s")["ok"]
    assert ("created", "started") == (made["state"], client.machine("getMachine", id)["state"])
    assert [id] == [each["id"] for each in client.call("Machine", "listMachines", APP)]

    updated = client.machine("updateMachine", id, config={**CONFIG, "env": {"A": "1"}})
    assert ({"A": "1"}, True) == (updated["config"]["env"], updated["instance_id"] != made["instance_id"])
    assert 2 == len(client.machine("listVersions", id))

    client.machine("stopMachine", id)
    assert "stopped" == client.machine("waitMachine", id, state="stopped")["state"]
    assert "stopped" == client.machine("startMachine", id)["previous_state"]
    assert {"launch", "update", "stop", "exit", "start"} == {e["type"] for e in client.machine("listEvents", id)}

    client.machine("deleteMachine", id, force=True)
    assert [] == emulator.living(kind="node")
    everything = {"app_name": APP, "include_deleted": "true"}
    assert id in [each["id"] for each in client.call("Machine", "listMachines", everything)]


def test_a_lease_is_acquired_and_told(client: FlyAdmin | None) -> None:
    if client is None:
        return
    client.with_app()
    id = client.call("Machine", "createMachine", {"app_name": APP, "config": CONFIG})["id"]
    # A year of this clock is some hours.
    lease = client.machine("acquireLease", id, ttl=31_536_000, description="deploy")

    assert "success" == lease["status"]
    assert "deploy" == client.machine("getLease", id)["data"]["description"]
    with pytest.raises(Refused, match="lease currently held"):
        client.machine("stopMachine", id)


def test_a_volume_is_created_grown_mounted_and_deleted(client: FlyAdmin | None) -> None:
    if client is None:
        return
    client.with_app()
    asked = {"app_name": APP, "name": "data", "region": "ord", "size_gb": 10}
    volume = client.call("Volume", "createVolume", asked)["id"]
    named = {"app_name": APP, "volume_id": volume}
    mounting = {**CONFIG, "mounts": [{"volume": volume, "path": "/data"}]}
    id = client.call("Machine", "createMachine", {"app_name": APP, "region": "ord", "config": mounting})["id"]

    assert client.call("Volume", "extendVolume", {**named, "size_gb": 20})["needs_restart"]
    assert id == client.call("Volume", "getVolume", named)["attached_machine_id"]
    with pytest.raises(Refused, match="bound to machine"):
        client.call("Volume", "deleteVolume", named)
    client.machine("deleteMachine", id, force=True)
    assert client.machine("waitMachine", id, state="destroyed")["ok"]
    client.call("Volume", "deleteVolume", named)
    assert [] == [each for each in client.call("Volume", "listVolumes", APP) if each["state"] == "created"]


def test_secrets_regions_and_the_organisation_are_asked_by_the_other_api(
    client: FlyAdmin | None, emulator: Emulated
) -> None:
    if client is None:
        return
    client.with_app()
    client.call("Secret", "setSecrets", {"appId": APP, "secrets": [{"key": "TOKEN", "value": "hf_1234"}]})
    assert ["TOKEN"] == [secret["name"] for secret in emulator.living(kind="secret")]
    client.call("Secret", "unsetSecrets", {"appId": APP, "keys": ["TOKEN"]})

    assert [] == emulator.living(kind="secret")
    assert "ord" in {region["code"] for region in client.call("Regions", "getRegions")["platform"]["regions"]}
    assert "personal" == client.call("Organization", "getOrganization", "personal")["organization"]["slug"]


def test_what_is_refused_is_thrown(client: FlyAdmin | None, emulator: Emulated) -> None:
    if client is None:
        return
    client.with_app()
    emulator.stock(provider="fly", gpu="shared-cpu-1x", available=0)

    with pytest.raises(Refused, match=r"422: .*insufficient_capacity"):
        client.call("Machine", "createMachine", {"app_name": APP, "region": "ord", "config": CONFIG})
    with pytest.raises(Refused, match=r"422: .*name_taken"):
        client.with_app()
    with pytest.raises(Refused, match=r"401: .*token validation error"):
        FlyAdmin(client.folder, client.url, "wrong-key").call("App", "getApp", APP)
    with pytest.raises(Refused, match=r"404: .*machine not found"):
        client.machine("getMachine", "1857156b526dd8")
