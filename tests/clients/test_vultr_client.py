"""An independent client of Vultr's API, `vultr-python`, takes the emulator for the real thing."""

from collections.abc import Iterator

import pytest
from vultr import Vultr, VultrException

from gpuplan.testing.emulated import Emulated, emulated
from gpuplan.testing.hurried import HurriedClock

PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGpBYoKqHmF3jr7xkmI9YvNMM2bIXcSJ8vMfQ2vFKq1t team@example.com"


@pytest.fixture
def emulator() -> Iterator[Emulated]:
    with emulated(HurriedClock(), ["vultr"]) as emulator:
        yield emulator


@pytest.fixture
def client(emulator: Emulated) -> Iterator[Vultr]:
    client = Vultr("a-key")
    client.url = f"{emulator.url}/vultr/v2"
    yield client
    client._session.close()


def test_an_instance_is_created_listed_renamed_and_deleted(client: Vultr, emulator: Emulated) -> None:
    made = client.create_instance("ewr", "vc2-1c-1gb", os_id="2284", label="head", tags=["team=x"])
    emulator.advance(600)
    client.update_instance(made, label="login")

    (listed,) = client.list_instances()
    assert (made["id"], "login", "active", "ok") == tuple(listed[k] for k in ("id", "label", "status", "server_status"))
    assert made["default_password"]

    client.delete_instance(made)
    emulator.advance(600)

    assert [] == client.list_instances()
    with pytest.raises(VultrException) as caught:
        client.get_instance(made["id"])
    assert 404 == caught.value.status


def test_keys_are_created_and_deleted(client: Vultr) -> None:
    made = client.create_key("team", PUBLIC_KEY)

    assert PUBLIC_KEY == client.get_key(made)["ssh_key"]

    client.delete_key(made)

    assert [] == client.list_keys()


def test_what_is_for_sale_is_told_without_a_key(emulator: Emulated) -> None:
    stranger = Vultr()
    stranger.url = f"{emulator.url}/vultr/v2"

    assert "vcg-a100-12c-120g-80vram" in {plan["id"] for plan in stranger.list_plans()}
    assert "ewr" in {region["id"] for region in stranger.list_regions()}
    assert 2284 in {system["id"] for system in stranger.list_os()}
    stranger._session.close()


def test_a_wrong_key_and_a_wrong_plan_are_refused_in_words(client: Vultr, emulator: Emulated) -> None:
    with pytest.raises(VultrException, match="Error 400: Invalid plan"):
        client.create_instance("ewr", "no-such-plan", os_id=2284)

    stranger = Vultr("wrong")
    stranger.url = client.url
    with pytest.raises(VultrException, match="Error 401"):
        stranger.list_instances()
    stranger._session.close()


def test_two_keys_are_two_accounts(client: Vultr, emulator: Emulated) -> None:
    client.create_instance("ewr", "vc2-1c-1gb", os_id=2284)
    neighbour = Vultr("another-key")
    neighbour.url = client.url

    assert [] == neighbour.list_instances()
    neighbour._session.close()
