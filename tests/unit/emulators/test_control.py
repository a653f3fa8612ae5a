"""The control API, in process: scenario files, tests and drills rely on every word of it."""

import json
from typing import Any

import pytest

from gpuplan.emulators.catalog import emulator_types
from gpuplan.emulators.desk import Desk
from gpuplan.emulators.http import Cut, Delivery, Request
from gpuplan.emulators.scenario import read_scenario
from gpuplan.emulators.world import World
from gpuplan.testing.clock import FakeClock

TAGS = ["gpuplan-token=t0000000000000000001", "gpuplan-address=clusters.train.nodes[3]"]


class Caller:
    """Someone who talks to a desk."""

    def __init__(self, scenario: str = "") -> None:
        self.clock = FakeClock()
        self.desk = Desk(World(self.clock), emulator_types(["vultr"]), scenario=read_scenario(scenario))

    def send(self, method: str, path: str, body: Any = None, key: str = "mine") -> Delivery:
        content = b"" if body is None else json.dumps(body).encode()
        path, _, query = path.partition("?")
        pairs = dict(pair.split("=") for pair in query.split("&")) if query else {}
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        parameters = {name: [value] for name, value in pairs.items()}
        return self.desk.answer(Request(method, path, parameters, headers, content))

    def told(self, path: str) -> Any:
        return json.loads(self.send("GET", path).response.content)

    def control(self, name: str, **body: Any) -> int:
        return self.send("POST", f"/_emulator/{name}", body).response.status

    def create(self, **more: Any) -> dict[str, Any]:
        body = {"region": "ewr", "plan": "vc2-1c-1gb", "os_id": 2284, "label": "n", "tags": TAGS, **more}
        delivery = self.send("POST", "/vultr/v2/instances", body)
        answer: dict[str, Any] = json.loads(delivery.response.content)
        return answer.get("instance", answer)


def test_the_ledger_knows_everything_that_ever_was() -> None:
    caller = Caller()
    made = caller.create()
    caller.clock.advance(5400)
    caller.send("DELETE", f"/vultr/v2/instances/{made['id']}")
    (row,) = caller.told("/_emulator/ledger")["objects"]

    assert {
        "provider": "vultr",
        "kind": "node",
        "id": made["id"],
        "name": "n",
        "token": "t0000000000000000001",
        "address": "clusters.train.nodes[3]",
        "status": "deleted",
        "created_at": "2026-01-01T00:00:00Z",
        "deleted_at": "2026-01-01T01:30:00Z",
        "billed_usd": 0.014,
    } == row
    assert {"objects": [row]} == caller.told("/_emulator/ledger?provider=vultr")
    assert {"objects": []} == caller.told("/_emulator/ledger?provider=runpod")


def test_every_call_is_written_down_by_its_route() -> None:
    caller = Caller()
    made = caller.create()
    caller.send("GET", f"/vultr/v2/instances/{made['id']}")
    caller.send("GET", "/vultr/v2/nothing")

    assert [
        ("POST", "/v2/instances", 202),
        ("GET", "/v2/instances/{id}", 200),
        ("GET", "/v2/nothing", 404),
    ] == [(call["method"], call["route"], call["status"]) for call in caller.told("/_emulator/calls")["calls"]]

    caller.send("DELETE", "/_emulator/calls")
    assert {"calls": []} == caller.told("/_emulator/calls")


def test_faults_are_set_and_cleared() -> None:
    caller = Caller()
    assert 204 == caller.control("faults", provider="vultr", method="GET", kind="drop", times=2)

    cuts = [caller.send("GET", "/vultr/v2/instances").cut for _ in range(3)]
    assert [Cut.DROP, Cut.DROP, Cut.NONE] == cuts

    caller.control("faults", kind="status", status=429, retry_after=7, probability=1.0)
    limited = caller.send("GET", "/vultr/v2/instances").response
    assert (429, "7") == (limited.status, limited.headers["Retry-After"])

    caller.send("DELETE", "/_emulator/faults")
    assert 200 == caller.send("GET", "/vultr/v2/instances").response.status


def test_time_can_be_moved_and_hurried() -> None:
    caller = Caller()
    made = caller.create()
    caller.control("clock", speed=60)
    assert {"now": "2026-01-01T00:00:00Z", "speed": 60.0} == caller.told("/_emulator/clock")
    caller.clock.advance(1)
    assert "active" == _instance(caller, made)["status"]

    caller.control("clock", advance_s=3600)
    assert 0.014 == caller.told("/_emulator/ledger")["objects"][0]["billed_usd"]


def test_stock_runs_out_and_comes_back() -> None:
    caller = Caller()
    plan = "vcg-a40-24c-120g-48vram"
    assert 204 == caller.control("stock", provider="vultr", gpu="NVIDIA A40", available=1, price=9.99)
    made = caller.create(plan=plan)
    assert "not available" in caller.create(plan=plan)["error"]

    caller.clock.advance(100)
    caller.send("DELETE", f"/vultr/v2/instances/{made['id']}")

    assert "id" in caller.create(plan=plan)
    plans = {plan["id"]: plan for plan in caller.told("/vultr/v2/plans?type=vcg")["plans"]}
    assert 9.99 == plans[plan]["hourly_cost"]


def test_nodes_are_changed_behind_everyones_back() -> None:
    caller = Caller()
    made = caller.create()
    caller.clock.advance(600)
    assert 200 == caller.control(f"nodes/{made['id']}", set={"label": "theirs"}, unhealthy=True)
    seen = _instance(caller, made)
    assert ("theirs", "suspended") == (seen["label"], seen["status"])

    caller.control(f"nodes/{made['id']}", stop=True)
    caller.clock.advance(60)
    assert "stopped" == _instance(caller, made)["power_status"]

    caller.control(f"nodes/{made['id']}", vanish=True)
    assert 404 == caller.control(f"nodes/{made['id']}", vanish=True)


def test_listings_lag_as_long_as_they_are_told_to() -> None:
    caller = Caller()
    caller.control("consistency", provider="vultr", list_delay_s=5)
    caller.create()
    assert [] == caller.told("/vultr/v2/instances")["instances"]

    caller.clock.advance(5)
    assert 1 == len(caller.told("/vultr/v2/instances")["instances"])


def test_reset_leaves_an_empty_world() -> None:
    caller = Caller()
    caller.create()
    caller.control("faults", kind="drop", probability=1.0)
    caller.control("reset")

    assert {"objects": []} == caller.told("/_emulator/ledger")
    assert [] == caller.told("/vultr/v2/instances")["instances"]


@pytest.mark.parametrize(
    ("name", "body", "says"),
    [
        ("faults", {"kind": "earthquake"}, "`kind` is one of status, status_after"),
        ("faults", {"kind": "drop", "provider": "nobody"}, "no emulator of `nobody`: there are vultr"),
        ("faults", {"kind": "drop", "times": "many"}, "`times` is a number"),
        ("clock", {}, "say `speed` or `advance_s`"),
        ("stock", {"provider": "vultr"}, "say which `provider` and which `gpu`"),
        ("knobs", {"provider": "vultr", "boost": 1}, "`boost` is no knob of vultr"),
    ],
)
def test_a_control_call_that_is_not_understood_says_what_would_be(name: str, body: Any, says: str) -> None:
    response = Caller().send("POST", f"/_emulator/{name}", body).response

    assert 400 == response.status
    assert says in json.loads(response.content)["error"]


def test_a_scenario_sets_the_stage_and_strikes_in_time() -> None:
    caller = Caller(
        """
        knobs: {vultr: {boot_seconds: 900}}
        stock: [{provider: vultr, gpu: vc2-1c-1gb, available: 5}]
        events: [{at: 20m, preempt: {provider: vultr, share: 0.5}}]
        """
    )
    made = [caller.create() for _ in range(4)]
    caller.clock.advance(600)
    assert {"pending"} == {_instance(caller, one)["status"] for one in made}

    caller.clock.advance(700)
    assert 2 == len(caller.told("/vultr/v2/instances")["instances"])


@pytest.mark.parametrize(
    "text", ["- a list", "weather: bad", "stock: 5", "events: [{at: noon, stock: {}}]", "events: [{at: 5m}]", "a: ["]
)
def test_a_file_that_is_no_scenario_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_scenario(text)


def _instance(caller: Caller, made: dict[str, Any]) -> dict[str, Any]:
    instance: dict[str, Any] = caller.told(f"/vultr/v2/instances/{made['id']}")["instance"]
    return instance
