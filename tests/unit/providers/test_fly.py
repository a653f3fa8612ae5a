"""What `fly` makes of documented samples, and what it sends."""

import base64
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from gpuplan.core.address import Address
from gpuplan.core.desired import Kind
from gpuplan.core.errors import (
    AuthFailed,
    Conflict,
    InvalidRequest,
    NoCapacity,
    NotFound,
    OutcomeUnknown,
    ProviderError,
    QuotaExceeded,
    RateLimited,
    Unavailable,
)
from gpuplan.core.kinds import NodeAttrs
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Status
from gpuplan.core.offers import OfferQuery, Stock
from gpuplan.core.ports import Want
from gpuplan.core.secret import Secret
from gpuplan.core.state import Phase, Recorded
from gpuplan.core.values import Ref, Value
from gpuplan.net.classify import error_of
from gpuplan.net.exchange import Call, Response
from gpuplan.net.profile import EFFECTS, Effect
from gpuplan.providers import fly_bodies as bodies
from gpuplan.providers.fly_config import Asked
from gpuplan.providers.fly_guests import CARDS, PRESETS, Guest, Regions, Unfit, to_guest, to_offers
from gpuplan.providers.fly_tables import APP, APPS, MACHINE, MACHINES, PROFILE, VOLUME, VOLUMES
from gpuplan.providers.fly_wire import STATES, VOLUME_STATES, Machine, Volume

NOW = datetime(2026, 11, 24, tzinfo=UTC)
MARK = Mark("abcdefghijklmnopqrst", "llama", "default", "lineage", Address("clusters", "train", None, 0))
ADDRESS = Address("clusters", "train", None, 0)
SAMPLE: dict[str, Any] = {
    "id": "1857156b526dd8",
    "name": "gp-train-1-worker-0",
    "state": "started",
    "region": "ord",
    "image_ref": {
        "registry": "registry.fly.io",
        "repository": "gp-train-1",
        "tag": "v3",
        "digest": "sha256:6a0b1f",
        "labels": None,
    },
    "instance_id": "01HEPA330HZ37A78TK080NAK1M",
    "private_ip": "fdaa:0:3335:a7b:195:e229:8038:2",
    "created_at": "2026-09-08T01:52:30Z",
    "updated_at": "2026-09-08T01:52:30Z",
    "config": {
        "image": "registry.fly.io/gp-train-1:v3",
        "env": {"ROLE": "worker", "RANK": "0"},
        "init": {},
        "guest": {"cpu_kind": "performance", "cpus": 8, "memory_mb": 32768},
        "metadata": {"team": "x", "fly_platform_version": "v2"},
        "mounts": [
            {"volume": "vol_4qkm0zy1n8dxp6gr", "path": "/data", "name": "data", "size_gb": 100, "encrypted": True}
        ],
        "restart": {"policy": "always"},
    },
    "events": [
        {"id": "01HEPA34F2", "type": "launch", "status": "created", "source": "user", "timestamp": 1788832350300}
    ],
    "checks": [{"name": "servicecheck-00-tcp-22", "status": "passing", "output": "Success"}],
    "host_status": "ok",
}
"""As the documentation of September 2026 shows one."""


def machine(**changes: Any) -> Machine:
    return Machine.model_validate({**SAMPLE, **changes})


def want(*update: str, **attrs: Value) -> Want:
    return Want(ADDRESS, Kind.NODE, {"image": "ubuntu", **attrs}, "train-0", update=frozenset(update))


def test_a_documented_machine_in_our_words() -> None:
    seen = machine().to_observed("gp")

    assert ("gp/1857156b526dd8", Status.RUNNING, True) == (seen.remote_id, seen.status, seen.healthy)
    assert {
        "image": "registry.fly.io/gp-train-1:v3",
        "command": None,
        "env": {"ROLE": Secret("worker"), "RANK": Secret("0")},
        "ports": [],
        "volumes": [{"volume": "gp/vol_4qkm0zy1n8dxp6gr", "mount": "/data"}],
        "labels": {"team": "x"},
        "instance_type": "performance-8x",
        "cpu": 8,
        "memory_gb": 32,
        "restart": "always",
        "region": "ord",
    } == seen.attrs
    facts = ("hostname", "private_ip", "internal_name", "image_digest", "ssh_port")
    assert [
        "gp.fly.dev",
        "fdaa:0:3335:a7b:195:e229:8038:2",
        "1857156b526dd8.vm.gp.internal",
        "sha256:6a0b1f",
        None,
    ] == [seen.facts[name] for name in facts]


@pytest.mark.parametrize(("state", "status"), [*STATES.items(), ("quantum", Status.UNKNOWN)])
def test_states(state: str, status: Status) -> None:
    assert status is machine(state=state).to_observed("gp").status


@pytest.mark.parametrize(("state", "status"), [*VOLUME_STATES.items(), ("quantum", Status.UNKNOWN)])
def test_states_of_volumes(state: str, status: Status) -> None:
    volume = Volume(id="vol_1", state=state, size_gb=10, region="ord", name=f"data_{MARK.token}")
    seen = volume.to_observed("gp")

    assert (status, "gp/vol_1", MARK.token) == (seen.status, seen.remote_id, seen.mark and seen.mark.token)


def test_of_a_volume_whose_host_is_away_nothing_is_concluded() -> None:
    seen = Volume(id="vol_1", state="created", size_gb=10, host_status="unreachable").to_observed("gp")

    assert (Status.UNKNOWN, {}) == (seen.status, seen.attrs)


def test_a_failing_check_is_told() -> None:
    seen = machine(checks=[{"name": "http", "status": "critical", "output": "502"}]).to_observed("gp")

    assert (False, "http: 502") == (seen.healthy, seen.detail)


def test_why_a_machine_ended_is_told_unless_somebody_stopped_it() -> None:
    def detail(**exit: Any) -> str:
        event = {"type": "exit", "status": "stopped", "request": {"exit_event": exit, "restart_count": 3}}
        return machine(state="stopped", events=[event]).to_observed("gp").detail

    assert "it ran out of memory" == detail(exit_code=137, oom_killed=True)
    assert "it ended with status 3" == detail(exit_code=3)
    assert "" == detail(exit_code=0, requested_stop=True)


@pytest.mark.parametrize(
    ("method", "route", "status", "body", "error"),
    [
        ("POST", MACHINES, 422, '{"error":"no host","status":"insufficient_capacity"}', NoCapacity),
        ("POST", MACHINES, 503, '{"error":"no host","status":"insufficient_capacity"}', NoCapacity),
        ("POST", MACHINES, 412, '{"error":"...","status":"volume_placement_capacity"}', NoCapacity),
        ("POST", MACHINES, 409, '{"error":"aborted: insufficient IPs available to fulfill request"}', NoCapacity),
        ("POST", MACHINES, 409, '{"error":"aborted: no capacity"}', NoCapacity),
        ("POST", MACHINES, 409, '{"error":"already_exists: unique machine name violation"}', Conflict),
        ("POST", MACHINES, 422, '{"error":"GPU machines are no longer supported"}', NoCapacity),
        ("POST", MACHINES, 422, '{"error":"invalid config.guest.memory_mb"}', InvalidRequest),
        ("POST", MACHINES, 403, '{"error":"you are over the allowed quota"}', QuotaExceeded),
        ("POST", MACHINES, 408, '{"error":"deadline_exceeded"}', OutcomeUnknown),
        ("POST", MACHINES, 404, '{"error":"app not found"}', NotFound),
        ("POST", VOLUMES, 400, '{"error":"no capacity"}', NoCapacity),
        ("POST", APPS, 422, '{"error":"Name has already been taken","status":"name_taken"}', Conflict),
        ("POST", MACHINE, 409, '{"error":"aborted: machine update failed due to concurrent update"}', Conflict),
        ("POST", MACHINE, 409, '{"error":"machine ID 1 lease currently held by a@b"}', Conflict),
        ("POST", MACHINE, 412, '{"error":"failed_precondition: machine not stopped"}', Conflict),
        ("DELETE", MACHINE, 400, '{"error":"unknown: machine 1 is destroyed"}', NotFound),
        ("DELETE", VOLUME, 400, '{"error":"volume is currently bound to machine: 1"}', Conflict),
        ("GET", APP, 403, '{"error":"unauthorized"}', AuthFailed),
        ("GET", MACHINES, 401, "authenticate: token validation error", AuthFailed),
        ("GET", MACHINES, 429, "", RateLimited),
        ("GET", MACHINES, 502, "upstream connect error", Unavailable),
        ("GET", MACHINES, 200, "[]", None),
    ],
)
def test_errors(method: str, route: str, status: int, body: str, error: type[ProviderError] | None) -> None:
    call = Call(method, route, route, "try", EFFECTS.get(method, Effect.ONCE))
    found = error_of(PROFILE, call, Response(status, {"fly-request-id": "01H-ord"}, body.encode()), "fly", NOW)

    assert error is (type(found) if found else None)
    assert found is None or "01H-ord" == found.failure.request_id


@pytest.mark.parametrize(
    ("attrs", "guest"),
    [
        ({"instance_type": "performance-8x"}, Guest("performance", 8, 16384)),
        ({"instance_type": "performance-8x", "memory_gb": ">=20"}, Guest("performance", 8, 20480)),
        ({"instance_type": "shared-cpu-1x", "memory_gb": 0.5}, Guest("shared", 1, 512)),
        ({"instance_type": "a100-40gb"}, Guest("performance", 8, 32768, "a100-pcie-40gb")),
        ({"instance_type": "a100-pcie-40gb"}, Guest("performance", 8, 32768, "a100-pcie-40gb")),
        ({"gpu": "A100-80GB:1"}, Guest("performance", 8, 32768, "a100-sxm4-80gb")),
        ({"gpu": "A10:1", "memory_gb": 64}, Guest("performance", 8, 65536, "a10")),
    ],
)
def test_the_machine_that_is_asked_for(attrs: dict[str, Value], guest: Guest) -> None:
    assert guest == to_guest(NodeAttrs.of(attrs))


@pytest.mark.parametrize(
    ("attrs", "guest"),
    [
        ({}, Guest("performance", 2, 6144)),
        ({"memory_gb": ">=4"}, Guest("performance", 2, 6144)),
        ({"memory_gb": ">=12"}, Guest("performance", 2, 12288)),
        ({"memory_gb": ">=20"}, Guest("performance", 4, 20480)),
        ({"cpu": ">=3"}, Guest("performance", 4, 8192)),
        ({"cpu": 1}, Guest("performance", 1, 2048)),
        ({"instance_type": "shared-cpu-2x"}, Guest("shared", 2, 512)),
    ],
)
def test_what_is_not_asked_of_a_machine_stays(attrs: dict[str, Value], guest: Guest) -> None:
    assert guest == to_guest(NodeAttrs.of(attrs), Guest("performance", 2, 6144))


@pytest.mark.parametrize("attrs", [{}, {"gpu": "H100-80GB:1"}, {"gpu": "A10:2"}, {"instance_type": "huge"}])
def test_machines_that_there_are_not(attrs: dict[str, Value]) -> None:
    with pytest.raises(Unfit):
        to_guest(NodeAttrs.of(attrs))


def test_a_reference_names_a_machine_whole() -> None:
    for preset in PRESETS.values():
        larger = replace(preset, memory_mb=preset.memory_mb * 2)
        assert larger == Guest.of_ref(larger.ref)
        assert larger.price_per_hour > preset.price_per_hour > 0


def test_prices_are_near_those_that_are_known() -> None:
    month = Decimal(720)

    assert abs(PRESETS["shared-cpu-1x"].price_per_hour * month - 2) < Decimal("0.1")
    assert abs(PRESETS["performance-1x"].price_per_hour * month - 31) < 1
    assert abs(PRESETS["l40s"].price_per_hour - PRESETS["performance-8x"].price_per_hour - Decimal("0.81")) < Decimal(
        "0.01"
    )


@pytest.mark.parametrize("field", ["regions", "Regions"])
def test_offers_are_of_regions_that_are_open_and_gpus_of_those_they_were_in(field: str) -> None:
    rows = [{"code": "ord"}, {"code": "iad"}, {"code": "mad", "deprecated": True}]
    regions = Regions.model_validate({field: rows, "nearest": "ord"}).regions
    limits = {"performance-1x": {"ord": 12, "iad": 2}}
    query = OfferQuery()
    offers = list(to_offers(regions, limits, query, has_gpus=False, provider="fly", now=NOW))

    assert {"ord", "iad"} == {offer.region for offer in offers}
    assert {card.gpu for card in CARDS} == {offer.gpu for offer in offers} - {""}
    assert [("A100-80GB-SXM", "iad")] == [(o.gpu, o.region) for o in offers if o.gpu and o.region != "ord"]
    stock = {(offer.region, offer.stock) for offer in offers if offer.instance_type == "performance-1x"}
    assert {("ord", Stock.PLENTY), ("iad", Stock.LOW)} == stock


def test_what_is_sent_for_a_node() -> None:
    asked = want(
        command="run it",
        env={"A": "1", "TOKEN": Secret("hf")},
        ports=[8000, "8080/http"],
        ssh_keys=["ssh-ed25519 AAAA ana"],
        restart="never",
        disk_gb=20,
        labels={"team": "x"},
        options={"persist_disk": "always", "app_secrets": False, "secret_files": {"/etc/token": "TOKEN"}},
    )
    guest, outer = Guest("performance", 2, 4096), {22: 10022, 8000: 18000, 8080: 18080}
    keys = bodies.keys_of(NodeAttrs.of(asked.attrs), {})
    body: Any = bodies.to_launch(asked, MARK, guest, "ord", keys=keys, outer=outer, mount=("vol_1", "/data"))
    config = body["config"]

    assert (f"train-0-{MARK.token}", "ord", True) == (body["name"], body["region"], body["skip_secrets"])
    assert {"cmd": ["/bin/sh", "-c", "run it"]} == config["init"]
    assert [(22, 10022, []), (8000, 18000, []), (8080, 18080, ["tls", "http"])] == [
        (service["internal_port"], service["ports"][0]["port"], service["ports"][0]["handlers"])
        for service in config["services"]
    ]
    assert [("/etc/token", "TOKEN"), ("/root/.ssh/authorized_keys", None)] == [
        (file["guest_path"], file.get("secret_name")) for file in config["files"]
    ]
    assert b"ssh-ed25519 AAAA ana\n" == base64.b64decode(config["files"][1]["raw_value"])
    assert {"policy": "no"} == config["restart"]
    assert {"persist": "always", "size_gb": 20} == config["rootfs"]
    assert [{"volume": "vol_1", "path": "/data"}] == config["mounts"]
    carried = Asked.read(config["metadata"])
    assert carried is not None
    assert (("A",), ("TOKEN",), (8000, "8080/http"), True) == (
        carried.env,
        carried.secret,
        carried.ports,
        carried.text,
    )


def test_a_change_touches_what_differs_alone() -> None:
    present = machine()
    body: Any = bodies.to_change(
        want("env", env={"A": "1"}), present, Guest("performance", 8, 32768), keys=(), outer={}
    )

    assert "01HEPA330HZ37A78TK080NAK1M" == body["current_version"]
    kept = {name: body["config"][name] for name in ("image", "guest", "init", "mounts", "restart")}
    assert kept == {name: SAMPLE["config"][name] for name in kept}
    assert {"ROLE": "worker", "RANK": "0", "A": "1"} == body["config"]["env"]
    assert "skip_launch" not in body


def test_a_key_that_another_provider_keeps_is_taken_by_its_text_and_a_name_alone_is_refused() -> None:
    address = Address("ssh_keys", "team")
    attrs = {"public_key": "ssh-rsa A a"}
    kept = Recorded(
        address, Kind.SSH_KEY, "vultr", "acct", "key-1", "t", attrs, {}, frozenset(), NOW, phase=Phase.READY
    )
    asked = NodeAttrs.of({"ssh_keys": [Ref(address, "key-1"), "ssh-ed25519 AAAA ana"]})

    assert ["ssh-rsa A a", "ssh-ed25519 AAAA ana"] == bodies.keys_of(asked, {address: kept})
    with pytest.raises(Unfit, match="no public key"):
        bodies.keys_of(NodeAttrs.of({"ssh_keys": ["team"]}), {})


def test_labels_that_are_gone_are_emptied() -> None:
    body = bodies.to_label_change({"tier": "gold"}, machine())

    assert {"team": "", "tier": "gold"} == body["metadata"]


def test_ports_stay_where_they_were_and_go_round_the_taken() -> None:
    before = bodies.to_outer_ports([22, 8000], set(), {}, "seed")
    moved = bodies.to_outer_ports([22, 8000], set(before.values()), {}, "seed")
    kept = bodies.to_outer_ports([8000, 9000], set(before.values()), before, "other")

    assert set() == set(before.values()) & set(moved.values())
    assert before[8000] == kept[8000]
    assert 4 == len({*before.values(), *moved.values()})


def test_an_app_without_a_free_port_says_so() -> None:
    with pytest.raises(Unfit, match="all ports"):
        bodies.to_outer_ports([22], range(10000, 60000), {}, "seed")
