"""From Hetzner's words to ours and back, on samples out of its documentation."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from gpuplan.core.address import Address
from gpuplan.core.desired import Kind
from gpuplan.core.errors import NoCapacity
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Status
from gpuplan.core.offers import Stock
from gpuplan.core.ports import Want
from gpuplan.core.secret import Secret
from gpuplan.core.values import Ref, Value
from gpuplan.providers import hetzner_bodies as bodies
from gpuplan.providers import hetzner_wire as wire
from gpuplan.providers.hetzner_tables import active_token

NOW = datetime(2026, 11, 20, 13, 30, tzinfo=UTC)
MARK = Mark("tabcdefghijklmnopqrs", "llama", "default", "1f", Address("clusters", "train", None, 0))
SERVER: dict[str, Any] = {
    "id": 42,
    "name": "train-head-0",
    "status": "running",
    "created": "2026-11-20T13:22:20Z",
    "public_net": {
        "ipv4": {"id": 71, "ip": "203.0.113.20", "blocked": False, "dns_ptr": "static.20.113.0.203.example"},
        "ipv6": {"id": 72, "ip": "2001:db8:1c1c:1::/64", "blocked": False, "dns_ptr": []},
        "floating_ips": [],
        "firewalls": [{"id": 38, "status": "applied"}],
    },
    "private_net": [{"network": 4711, "ip": "10.0.0.2", "alias_ips": [], "mac_address": "86:00:ff:2a:7d:e1"}],
    "server_type": {"id": 96, "name": "ccx23", "cores": 4, "memory": 16.0, "disk": 160},
    "location": {"id": 1, "name": "fsn1", "network_zone": "eu-central"},
    "image": {"id": 161547269, "type": "system", "name": "ubuntu-24.04"},
    "iso": None,
    "locked": False,
    "labels": {"gpuplan-token": "tabcdefghijklmnopqrs", "gpuplan-address": "clusters.train.nodes_5b0_5d", "team": "x"},
    "volumes": [],
    "placement_group": None,
}


def server(**changes: Any) -> wire.Server:
    return wire.Server.model_validate({**SERVER, **changes})


def want(kind: Kind = Kind.NODE, **attrs: Value) -> Want:
    return Want(Address("clusters", "train", None, 0), kind, attrs, "train-0-abc")


def test_a_server_is_told_in_our_words() -> None:
    seen = server().to_observed(NOW)

    assert ("42", Status.RUNNING) == (seen.remote_id, seen.status)
    assert {"region": "fsn1", "instance_type": "ccx23", "labels": {"team": "x"}} == seen.attrs
    assert seen.mark is not None
    assert (MARK.token, MARK.address) == (seen.mark.token, seen.mark.address)
    addresses = [seen.facts[name] for name in ("public_ip", "public_ipv6", "private_ip")]
    assert ["203.0.113.20", "2001:db8:1c1c:1::1", "10.0.0.2"] == addresses


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("initializing", Status.STARTING),
        ("starting", Status.STARTING),
        ("running", Status.RUNNING),
        ("stopping", Status.STOPPING),
        ("off", Status.STOPPED),
        ("rebuilding", Status.STARTING),
        ("migrating", Status.STARTING),
        ("deleting", Status.TERMINATING),
        ("unknown", Status.UNKNOWN),
        ("quantum", Status.UNKNOWN),
    ],
)
def test_every_word_for_a_status_is_known(word: str, status: Status) -> None:
    assert status is server(status=word).to_observed(NOW).status


def test_an_old_recording_tells_its_location_by_the_data_center() -> None:
    old = server(location=None, datacenter={"id": 4, "name": "fsn1-dc14", "location": {"id": 1, "name": "fsn1"}})

    assert "fsn1" == old.to_observed(NOW).attrs["region"]


def test_a_server_without_addresses_has_none() -> None:
    bare = server(public_net={"ipv4": None, "ipv6": None, "floating_ips": []}, private_net=[])

    facts = bare.to_observed(NOW).facts
    assert [None, None] == [facts["public_ip"], facts["private_ip"]]


def test_the_rest_of_an_imitations_ipv6_network_is_no_obstacle() -> None:
    odd = server(public_net={"ipv4": None, "ipv6": {"ip": "not a network"}})

    assert odd.to_observed(NOW).facts["public_ip"] is None


@pytest.mark.parametrize(("code", "is_capacity"), [("resource_unavailable", True), ("internal_error", False)])
def test_a_failed_creation_says_what_is_wrong(code: str, is_capacity: bool) -> None:
    action = {
        "id": 1001,
        "command": "create_server",
        "status": "error",
        "resources": [{"id": 42, "type": "server"}],
        "error": {"code": code, "message": "error during placement"},
    }
    late = server(status="initializing")
    failed = wire.failed_creations([wire.Action.model_validate(action)])
    seen = wire.with_failure(late, NOW, failed["42"], "hetzner")

    assert (Status.FAILED, "create_server: error during placement") == (seen.status, seen.detail)
    assert is_capacity == isinstance(seen.failure, NoCapacity)
    assert Status.RUNNING is wire.with_failure(server(), NOW, failed["42"], "hetzner").status


@pytest.mark.parametrize(
    "rule",
    [
        {"port": 22},
        {"port": "8000-8010", "protocol": "udp", "from": "10.0.0.7/8"},
        {"port": 443, "from": "2001:db8::/32"},
        {"port": 1, "protocol": "icmp"},
    ],
)
def test_a_rule_comes_back_as_it_was_written(rule: dict[str, Any]) -> None:
    sent = wire.to_rule(rule)

    assert ("port" in sent) == (rule.get("protocol") != "icmp")
    assert rule == wire.FirewallRule.model_validate(sent).as_written()


def test_a_rule_that_somebody_changed_is_told_as_it_is() -> None:
    changed = {**wire.to_rule({"port": 22}), "port": "23", "source_ips": ["10.0.0.0/8"]}

    told = wire.FirewallRule.model_validate(changed).as_written()
    assert {"port": 23, "protocol": "tcp", "from": "10.0.0.0/8"} == told


def test_offers_have_a_price_and_a_stock_for_each_location() -> None:
    sold = wire.ServerType.model_validate(
        {
            "name": "ccx23",
            "cores": 4,
            "memory": 16.0,
            "disk": 160,
            "architecture": "x86",
            "prices": [{"location": "fsn1", "price_hourly": {"net": "0.0392000000", "gross": "0.0466480000000000"}}],
            "locations": [
                {"id": 1, "name": "fsn1", "deprecation": None, "available": True, "recommended": True},
                {"id": 4, "name": "ash", "deprecation": None, "available": False, "recommended": False},
            ],
        }
    )
    ipv4 = {"type": "ipv4", "prices": [{"location": "fsn1", "price_hourly": {"net": "0.0008"}}]}
    prices = wire.PriceList.model_validate({"currency": "EUR", "primary_ips": [ipv4]})

    here, there = wire.to_offers(sold, wire.Tariff(prices, Decimal("1.1")), "hetzner", NOW)

    assert ("fsn1", Decimal("0.044"), Stock.SOME) == (here.region, here.price_per_hour, here.stock)
    assert ("ash", None, Stock.NONE) == (there.region, there.price_per_hour, there.stock)
    assert ("", 0, 4, 16.0, 160) == (here.gpu, here.gpu_count, here.cpu, here.memory_gb, here.disk_gb)


def test_a_server_is_asked_for_with_all_that_belongs_to_it() -> None:
    volume, key = Ref(Address("volumes", "data"), "7"), Ref(Address("ssh_keys", "team"), "9")
    attrs: dict[str, Value] = {
        "instance_type": "ccx23",
        "region": "fsn1",
        "ssh_keys": [key, "laptop"],
        "volumes": [{"volume": volume, "mount": "/data"}],
        "networks": ["4711", "firewalls/38"],
        "labels": {"team": "x"},
        "env": {"TOKEN": Secret("hush")},
        "options": {"enable_ipv6": False, "placement_group": 5},
    }

    body = bodies.to_server(want(**attrs), MARK)

    assert ("train-0-abc", "ccx23", "fsn1", "ubuntu-24.04") == tuple(
        body[name] for name in ("name", "server_type", "location", "image")
    )
    assert (["9", "laptop"], [7], [4711], [{"firewall": 38}], 5) == tuple(
        body[name] for name in ("ssh_keys", "volumes", "networks", "firewalls", "placement_group")
    )
    assert {"enable_ipv4": True, "enable_ipv6": False} == body["public_net"]
    labels = body["labels"]
    assert isinstance(labels, dict)
    assert ("x", MARK.token) == (labels["team"], labels["gpuplan-token"])
    boot = str(body["user_data"])
    assert "hush" in boot
    assert "/dev/disk/by-id/scsi-0HC_Volume_7" in boot
    assert "chpasswd" not in boot


def test_networks_are_changed_by_what_differs() -> None:
    steps = bodies.network_steps(server(), ["4712", "firewalls/39"])

    assert [
        ("/servers/{id}/actions/detach_from_network", "42", {"network": 4711}),
        ("/servers/{id}/actions/attach_to_network", "42", {"network": 4712}),
        ("/firewalls/{id}/actions/remove_from_resources", "38", {"remove_from": [SELF]}),
        ("/firewalls/{id}/actions/apply_to_resources", "39", {"apply_to": [SELF]}),
    ] == steps
    assert [] == bodies.network_steps(server(), ["4711", "firewalls/38"])


SELF = {"type": "server", "server": {"id": 42}}


def test_a_fingerprint_is_the_md5_of_the_key() -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGpBYoKqHmF3jr7xkmI9YvNMM2bIXcSJ8vMfQ2vFKq1t team@example.com"

    assert 16 == len(bodies.fingerprint(key).split(":"))
    assert bodies.fingerprint(key) == bodies.fingerprint(key.replace("team", "me"))
    assert "" == bodies.fingerprint("no key at all")


def test_the_token_of_the_active_context_is_the_one() -> None:
    content = json.loads(
        '{"active_context": "b", "contexts": [{"name": "a", "token": "1"}, {"name": "b", "token": "2"}]}'
    )

    assert "2" == active_token(content)
    assert active_token({"active_context": "c", "contexts": []}) is None
    assert active_token(None) is None
