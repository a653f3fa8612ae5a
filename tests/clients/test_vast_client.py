"""The official client, `vastai`, takes the emulator for the real thing."""

from collections.abc import Iterator

import pytest
import requests
from vastai import VastAI

from gpuplan.testing.emulated import Emulated, emulated
from gpuplan.testing.hurried import HurriedClock

PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGpBYoKqHmF3jr7xkmI9YvNMM2bIXcSJ8vMfQ2vFKq1t team@example.com"


@pytest.fixture
def emulator() -> Iterator[Emulated]:
    with emulated(HurriedClock(), ["vast"]) as emulator:
        emulator.knobs("vast", {"rate_limited": False})
        yield emulator


@pytest.fixture
def client(emulator: Emulated) -> VastAI:
    return VastAI(api_key="a-key", server_url=f"{emulator.url}/vast")


def rent(client: VastAI, *, label: str | None = None, bid_price: float | None = None) -> int:
    offers = client.search_offers(query="num_gpus=1 gpu_name=RTX_4090 reliability>0.97", order="dph_total", limit=3)
    made = client.create_instance(
        id=offers[0]["id"], image="acme/x", disk=20, ssh=True, direct=True, label=label, bid_price=bid_price
    )
    return int(made["new_contract"])


def shown(client: VastAI, id: int, name: str) -> object:
    return (client.show_instance(id=id) or {})[name]


def test_an_instance_is_rented_listed_labelled_stopped_started_and_destroyed(
    client: VastAI, emulator: Emulated
) -> None:
    id = rent(client, label="head")
    emulator.advance(600)
    client.label_instance(id=id, label="login")

    (listed,) = client.show_instances()
    assert (id, "login", "running") == (listed["id"], listed["label"], listed["actual_status"])
    assert "RTX 4090" == shown(client, id, "gpu_name")

    client.stop_instance(id=id)
    emulator.advance(60)
    assert "stopped" == shown(client, id, "actual_status")
    client.start_instance(id=id)
    emulator.advance(600)
    assert "running" == shown(client, id, "actual_status")

    client.destroy_instance(id=id)
    assert [] == client.show_instances()


def test_a_bid_is_an_interruptible_instance(client: VastAI) -> None:
    rent(client, bid_price=0.4)

    (listed,) = client.show_instances()
    assert listed["is_bid"]


def test_logs_are_fetched_from_where_they_are_kept(client: VastAI, emulator: Emulated) -> None:
    id = rent(client)
    emulator.advance(600)

    assert "ready" in client.logs(instance_id=id, tail="10")


def test_keys_and_volumes_are_created_listed_and_deleted(client: VastAI) -> None:
    key = client.create_ssh_key(ssh_key=PUBLIC_KEY)["key"]["id"]
    assert [PUBLIC_KEY] == [each["key"] for each in client.show_ssh_keys()]
    client.delete_ssh_key(id=key)

    offer = client.search_volumes(query="disk_space>=10")[0]["id"]
    name = client.create_volume(id=offer, size=10, name="my_vol")["volume_name"]
    (volume,) = client.show_volumes()
    assert (name, "my_vol") == (f"V.{volume['id']}", volume["label"])
    client.delete_volume(id=volume["id"])
    assert [] == client.show_volumes()


def test_an_offer_that_is_gone_and_a_wrong_key_are_errors(client: VastAI, emulator: Emulated) -> None:
    with pytest.raises(requests.HTTPError):
        client.create_instance(id=1234567, image="acme/x", disk=10)
    with pytest.raises(requests.HTTPError):
        VastAI(api_key="wrong", server_url=f"{emulator.url}/vast").show_user()

    assert client.show_user()["email"]
