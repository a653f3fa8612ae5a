"""Hetzner's own Python client, `hcloud`, takes the emulator for the real thing."""

from collections.abc import Iterator
from typing import Any

import pytest
from hcloud import APIException, Client
from hcloud.firewalls.domain import FirewallResource, FirewallRule
from hcloud.images.domain import Image
from hcloud.locations.domain import Location
from hcloud.networks.domain import NetworkSubnet
from hcloud.server_types.domain import ServerType
from hcloud.servers.domain import Server

from gpuplan.testing.emulated import Emulated, emulated
from gpuplan.testing.hurried import HurriedClock

PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGpBYoKqHmF3jr7xkmI9YvNMM2bIXcSJ8vMfQ2vFKq1t team@example.com"
MACHINE: dict[str, Any] = {"server_type": ServerType(name="cpx22"), "image": Image(name="ubuntu-24.04")}


@pytest.fixture
def emulator() -> Iterator[Emulated]:
    with emulated(HurriedClock(), ["hetzner"]) as emulator:
        yield emulator


def client_of(emulator: Emulated, token: str) -> Client:
    return Client(token=token, api_endpoint=f"{emulator.url}/hetzner/v1", poll_interval=0.01)


@pytest.fixture
def client(emulator: Emulated) -> Client:
    return client_of(emulator, "a-token")


def test_a_server_is_created_waited_for_listed_and_deleted(client: Client) -> None:
    key = client.ssh_keys.create("team", PUBLIC_KEY)
    made = client.servers.create("head", ssh_keys=[key], location=Location(name="nbg1"), labels={"a": "b"}, **MACHINE)
    for action in (made.action, *made.next_actions):
        action.wait_until_finished()

    (server,) = client.servers.get_all(label_selector="a in (b,c),!d", status=[Server.STATUS_RUNNING])
    assert ("head", "running", "nbg1") == (server.name, server.status, server.location.name)
    assert made.root_password is None

    server.delete().wait_until_finished()

    assert client.servers.get_by_name("head") is None
    assert [] == client.servers.get_all()


def test_a_server_is_stopped_resized_renamed_and_protected(client: Client, emulator: Emulated) -> None:
    server = client.servers.create("head", **MACHINE).server
    emulator.advance(60)
    server.power_off().wait_until_finished()
    server.change_type(ServerType(name="cpx32"), upgrade_disk=False).wait_until_finished()
    server.update(name="login", labels={"x": "y"})
    server.change_protection(delete=True, rebuild=True).wait_until_finished()

    seen = client.servers.get_by_name("login")
    assert seen is not None
    assert ("cpx32", 80, {"x": "y"}) == (seen.server_type.name, seen.primary_disk_size, seen.labels)
    with pytest.raises(APIException, match="protected"):
        seen.delete()


def test_companions_are_made_used_and_deleted(client: Client, emulator: Emulated) -> None:
    subnet = NetworkSubnet(type="cloud", ip_range="10.0.0.0/24", network_zone="eu-central")
    network = client.networks.create("net", "10.0.0.0/16", subnets=[subnet])
    rule = FirewallRule(direction="in", protocol="tcp", port="22", source_ips=["0.0.0.0/0"])
    firewall = client.firewalls.create("fw", rules=[rule]).firewall
    group = client.placement_groups.create("spread", "spread").placement_group
    server = client.servers.create(
        "head", networks=[network], placement_group=group, location=Location(name="fsn1"), **MACHINE
    ).server
    volume = client.volumes.create(10, "data", location=Location(name="fsn1")).volume
    emulator.advance(60)
    volume.attach(server).wait_until_finished()
    volume.resize(20).wait_until_finished()
    for action in firewall.apply_to_resources([FirewallResource(FirewallResource.TYPE_SERVER, server=server)]):
        action.wait_until_finished()

    seen = client.servers.get_by_id(server.id)
    assert "10.0.0.2" == seen.private_net[0].ip
    assert [firewall.id] == [each.firewall.id for each in seen.public_net.firewalls]
    assert [volume.id] == [each.id for each in seen.volumes]
    assert 20 == client.volumes.get_by_id(volume.id).size
    with pytest.raises(APIException, match="in use"):
        firewall.delete()

    server.delete().wait_until_finished()
    emulator.advance(60)
    for companion in (volume, network, firewall, group):
        companion.delete()

    assert [] == emulator.living(provider="hetzner")


def test_what_is_for_sale_is_told(client: Client) -> None:
    assert "ccx23" in {each.name for each in client.server_types.get_all()}
    assert "fsn1" in {each.name for each in client.locations.get_all()}
    arm = client.images.get_by_name_and_architecture("debian-13", "arm")
    assert arm is not None
    assert "arm" == arm.architecture


def test_refusals_have_codes(client: Client, emulator: Emulated) -> None:
    client.servers.create("head", **MACHINE)
    emulator.stock(provider="hetzner", gpu="cpx22", region="", available=0)

    def code(name: str, by: Client = client) -> str:
        with pytest.raises(APIException) as caught:
            by.servers.create(name, **MACHINE)
        return str(caught.value.code)

    assert "uniqueness_error" == code("head")
    assert "resource_unavailable" == code("other")
    assert "invalid_input" == code("under_score")
    assert "unauthorized" == code("other", client_of(emulator, "wrong"))


def test_two_tokens_are_two_projects(client: Client, emulator: Emulated) -> None:
    client.servers.create("head", **MACHINE)

    assert [] == client_of(emulator, "another-token").servers.get_all()
