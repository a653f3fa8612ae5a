"""An independent client of Lambda's API, `lambda-ai-cloud-api-client`, takes the emulator for the real thing: what was
generated from Lambda's document 1.8.3, and the command line on top of it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from lambda_ai_cloud_api_client.api.filesystems.create_filesystem import sync as create_filesystem
from lambda_ai_cloud_api_client.api.filesystems.filesystem_delete import sync as delete_filesystem
from lambda_ai_cloud_api_client.api.filesystems.list_filesystems import sync as list_filesystems
from lambda_ai_cloud_api_client.api.firewalls.create_firewall_ruleset import sync as create_ruleset
from lambda_ai_cloud_api_client.api.firewalls.firewall_rulesets_list import sync as list_rulesets
from lambda_ai_cloud_api_client.api.images.list_images import sync as list_images
from lambda_ai_cloud_api_client.api.instances.get_instance import sync as get_instance
from lambda_ai_cloud_api_client.api.instances.launch_instance import sync as launch_instance
from lambda_ai_cloud_api_client.api.instances.list_instance_types import sync as list_instance_types
from lambda_ai_cloud_api_client.api.instances.list_instances import sync as list_instances
from lambda_ai_cloud_api_client.api.instances.terminate_instance import sync as terminate_instance
from lambda_ai_cloud_api_client.api.ssh_keys.add_ssh_key import sync as add_key
from lambda_ai_cloud_api_client.api.ssh_keys.delete_ssh_key import sync as delete_key
from lambda_ai_cloud_api_client.api.ssh_keys.list_ssh_keys import sync as list_keys
from lambda_ai_cloud_api_client.client import AuthenticatedClient
from lambda_ai_cloud_api_client.models import (
    AddSSHKeyRequest,
    FilesystemCreateRequest,
    FirewallRulesetCreateRequest,
    InstanceLaunchRequest,
    InstanceTerminateRequest,
    RequestedTagEntry,
)

from gpuplan.testing.emulated import Emulated, emulated
from gpuplan.testing.hurried import HurriedClock

PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGpBYoKqHmF3jr7xkmI9YvNMM2bIXcSJ8vMfQ2vFKq1t team@example.com"


@pytest.fixture
def emulator() -> Iterator[Emulated]:
    with emulated(HurriedClock(), ["lambda"]) as emulator:
        yield emulator


@pytest.fixture
def client(emulator: Emulated) -> Iterator[AuthenticatedClient]:
    with AuthenticatedClient(base_url=f"{emulator.url}/lambda", token="a-key") as client:
        yield client


def told(answer: Any) -> Any:
    """The payload of an answer, as the client read it and wrote it down again."""
    return answer.to_dict()["data"]


def code(answer: Any) -> Any:
    return answer.to_dict()["error"]["code"]


def add(client: AuthenticatedClient) -> dict[str, Any]:
    key: dict[str, Any] = told(add_key(client=client, body=AddSSHKeyRequest(name="team", public_key=PUBLIC_KEY)))
    return key


def ask(type: str = "gpu_1x_a10", region: str = "us-west-1") -> InstanceLaunchRequest:
    return InstanceLaunchRequest.from_dict(
        {"region_name": region, "instance_type_name": type, "ssh_key_names": ["team"], "name": "head"}
    )


def test_an_instance_is_launched_listed_and_terminated(client: AuthenticatedClient, emulator: Emulated) -> None:
    add(client)
    body = ask()
    body.tags = [RequestedTagEntry(key="team", value="x")]
    (id,) = told(launch_instance(client=client, body=body))["instance_ids"]
    assert "booting" == told(get_instance(id, client=client))["status"]

    emulator.advance(600)
    (listed,) = told(list_instances(client=client))
    assert (id, "head", "active") == tuple(listed[name] for name in ("id", "name", "status"))
    assert [{"key": "team", "value": "x"}] == listed["tags"]
    assert listed["ip"]

    (leaving,) = told(terminate_instance(client=client, body=InstanceTerminateRequest(instance_ids=[id])))[
        "terminated_instances"
    ]
    assert "terminating" == leaving["status"]
    emulator.advance(600)
    assert [] == told(list_instances(client=client))
    assert "global/object-does-not-exist" == code(get_instance(id, client=client))


def test_keys_filesystems_and_rulesets_are_made_and_listed(client: AuthenticatedClient) -> None:
    key = add(client)
    assert [key] == told(list_keys(client=client))
    delete_key(key["id"], client=client)
    assert [] == told(list_keys(client=client))

    wanted = FilesystemCreateRequest.from_dict({"name": "sets", "region": "us-east-1"})
    made = told(create_filesystem(client=client, body=wanted))
    assert [made] == told(list_filesystems(client=client))
    assert "global/duplicate" == code(create_filesystem(client=client, body=wanted))
    assert [made["id"]] == told(delete_filesystem(made["id"], client=client))["deleted_ids"]

    rule = {"protocol": "tcp", "port_range": [80, 80], "source_network": "10.0.0.0/8", "description": "web"}
    rules = FirewallRulesetCreateRequest.from_dict({"name": "web", "region": "us-east-1", "rules": [rule]})
    assert [told(create_ruleset(client=client, body=rules))] == told(list_rulesets(client=client))


def test_the_catalogue_and_every_image_can_be_read(client: AuthenticatedClient) -> None:
    assert 229 == told(list_instance_types(client=client))["gpu_1x_gh200"]["instance_type"]["price_cents_per_hour"]
    assert {"us-east-3"} == {
        image["region"]["name"] for image in told(list_images(client=client)) if image["architecture"] == "arm64"
    }


def test_no_capacity_and_a_wrong_key_are_told_by_code(client: AuthenticatedClient, emulator: Emulated) -> None:
    add(client)
    emulator.stock(provider="lambda", gpu="A10", region="us-west-1", available=0)
    refused = code(launch_instance(client=client, body=ask()))
    assert "instance-operations/launch/insufficient-capacity" == refused

    with AuthenticatedClient(base_url=f"{emulator.url}/lambda", token="wrong") as stranger:
        assert "global/invalid-api-key" == code(list_instances(client=stranger))


def test_the_command_line_starts_lists_and_stops_an_instance(client: AuthenticatedClient, emulator: Emulated) -> None:
    add(client)
    address = {"LAMBDA_CLOUD_BASE_URL": f"{emulator.url}/lambda", "LAMBDA_CLOUD_TOKEN": "a-key"}
    # It breaks even JSON at the width of the terminal.
    environment = {**os.environ, **address, "COLUMNS": "1000"}

    def lai(*words: str) -> str:
        command = [sys.executable, "-m", "lambda_ai_cloud_api_client", *words]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert 0 == ran.returncode, ran.stderr
        return ran.stdout

    lai("start", "--instance-type", "gpu_1x_a10", "--name", "head", "--ssh-key", "team", "--tag", "team=x")
    (listed,) = json.loads(lai("ls", "--json"))
    assert ("head", "gpu_1x_a10") == (listed["name"], listed["instance_type"]["name"])

    lai("stop", listed["id"])
    emulator.advance(600)
    assert [] == json.loads(lai("ls", "--json"))
