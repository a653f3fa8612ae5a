"""The emulated RunPod keeps the habits of the real one."""

import json
from typing import Any

import pytest

from gpuplan.emulators.catalog import emulator_types
from gpuplan.emulators.desk import Desk
from gpuplan.emulators.http import Request, Response
from gpuplan.emulators.world import Shelf, World
from gpuplan.testing.clock import FakeClock

CARD = "NVIDIA GeForce RTX 4090"
POD: dict[str, Any] = {"name": "a", "image": "ubuntu", "disk": 20, "gpu": {"id": CARD, "count": 1}, "ports": ["22/tcp"]}
MOUNT = {"volumeId": "v", "path": "/a"}
VOLUME: dict[str, Any] = {"name": "v", "size": 50, "dataCenter": "EU-RO-1"}


class Caller:
    """Someone who talks to a desk."""

    def __init__(self, **knobs: Any) -> None:
        self.clock = FakeClock()
        self.world = World(self.clock)
        self.world.knobs["runpod"].update(knobs)
        self.desk = Desk(self.world, emulator_types(["runpod"]))

    def send(self, method: str, path: str, body: Any = None, *, key: str = "mine", **query: str) -> Response:
        content = b"" if body is None else json.dumps(body).encode()
        headers = {"authorization": f"Bearer {key}"} if key else {}
        words = {name: [value] for name, value in query.items()}
        return self.desk.answer(Request(method, f"/runpod/v2{path}", words, headers, content)).response

    def told(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        answer = self.send(method, path, body, **query)
        assert answer.status < 300, answer.body
        return json.loads(answer.content) if answer.content else None

    def refused(self, method: str, path: str, body: Any = None, **query: str) -> tuple[int, str]:
        answer = self.send(method, path, body, **query)
        problem = json.loads(answer.content)
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.status == problem["status"]
        return answer.status, " ".join([problem["detail"], *problem.get("errors", ())])

    def running(self, **more: Any) -> Any:
        made = self.told("POST", "/pods", {**POD, **more})
        self.clock.advance(100)
        return self.told("GET", f"/pods/{made['id']}")


def test_a_pod_goes_through_its_states() -> None:
    caller = Caller()
    made = caller.told("POST", "/pods", POD)
    words = [made["status"]]
    for seconds in (15, 60):
        caller.clock.advance(seconds)
        words.append(caller.told("GET", f"/pods/{made['id']}")["status"])
    words += [
        caller.told("POST", f"/pods/{made['id']}/action", {"action": action})["status"] for action in ("stop", "start")
    ]

    assert ["PROVISIONING", "STARTING", "RUNNING", "EXITED", "STARTING"] == words
    assert (made["runtime"], made["ssh"]["direct"]) == (None, None)


def test_public_ports_come_some_seconds_after_the_container_and_differ_at_every_start() -> None:
    caller = Caller(ssh_seconds=60)
    pod = caller.running()
    assert pod["status"] == "RUNNING" and pod["ssh"]["direct"] is None
    caller.clock.advance(60)
    first = caller.told("GET", f"/pods/{pod['id']}")["ssh"]["direct"]
    caller.told("POST", f"/pods/{pod['id']}/action", {"action": "restart"})
    caller.clock.advance(200)
    second = caller.told("GET", f"/pods/{pod['id']}")["ssh"]["direct"]

    assert first["host"] == second["host"]
    assert first["port"] != second["port"]


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"name": None}, 422, "$.name: must be a string"),
        ({"colour": "red"}, 422, "$.colour: additional property is not permitted"),
        ({"image": ...}, 422, "missing property image"),
        ({"ports": ["53/udp"]}, 422, "$.ports[0]: does not match pattern"),
        ({"env": {f"V{n}": "" for n in range(51)}}, 422, "at most 50"),
        ({"gpu": {"id": CARD, "count": 0}}, 422, "$.gpu.count"),
        ({"gpu": ...}, 400, "exactly one of gpu or cpu"),
        ({"gpu": {"id": "NVIDIA H9000", "count": 1}}, 400, "not found"),
        ({"gpu": {"id": CARD}}, 400, "no longer any instances"),
        ({"gpu": {"id": CARD, "count": 16}}, 400, "no longer any instances"),
        ({"gpu": {"id": CARD, "count": 1, "minCudaVersion": "13.0"}}, 400, "no longer any instances"),
        ({"gpu": {"id": CARD, "count": 1, "allowedCudaVersions": ["11.0"]}}, 400, "no longer any instances"),
        ({"disk": ...}, 400, "must either provide a template id"),
        ({"dataCenterIds": ["eu-ro-1"]}, 400, "no longer any instances"),
        ({"templateId": "none"}, 404, "not found"),
        (
            {"mounts": {"network": [{"volumeId": "v", "path": "/a"}], "persistent": {"size": 10, "path": "/b"}}},
            400,
            "mut",
        ),
        ({"mounts": {"network": [{"volumeId": "v", "path": "/a"}]}}, 400, "network volume v not found"),
        ({"gpu": ..., "cpu": {"id": "cpu3c", "vcpuCount": 3}}, 400, "power of two"),
        ({"gpu": ..., "cpu": {"id": "cpu3c", "vcpuCount": 2}, "cloud": "COMMUNITY"}, 400, "not allowed for CPU"),
    ],
)
def test_what_is_wrong_with_a_pod_is_told(changes: dict[str, Any], status: int, words: str) -> None:
    body = {name: value for name, value in {**POD, **changes}.items() if value is not ...}
    told, text = Caller().refused("POST", "/pods", body)

    assert (status, True) == (told, words in text), text


def test_an_action_must_fit_the_state() -> None:
    caller = Caller()
    pod = caller.running()
    path = f"/pods/{pod['id']}/action"

    assert 409 == caller.refused("POST", path, {"action": "start"})[0]
    assert 422 == caller.refused("POST", path, {"action": "explode"})[0]
    caller.told("PATCH", f"/pods/{pod['id']}", {"locked": True})
    assert (409, "pod is locked") == caller.refused("POST", path, {"action": "stop"})
    assert 204 == caller.send("POST", path, {"action": "terminate"}).status
    assert 404 == caller.refused("GET", f"/pods/{pod['id']}")[0]
    assert 404 == caller.refused("DELETE", f"/pods/{pod['id']}")[0]


def test_a_stopped_pod_gives_its_gpus_away_and_costs_its_disk() -> None:
    caller = Caller()
    caller.world.shelves["runpod", "RTX4090", ""] = Shelf(available=1)
    pod = caller.running(mounts={"persistent": {"size": 100, "path": "/workspace"}})
    stopped = caller.told("POST", f"/pods/{pod['id']}/action", {"action": "stop"})
    caller.told("POST", "/pods", POD)
    (thing, _) = caller.world.ledger
    before = thing.cost(caller.clock.now())
    caller.clock.advance(3600)

    assert 0 == stopped["cost"]
    assert 0.0274 == round(float(thing.cost(caller.clock.now()) - before), 4)
    status, text = caller.refused("POST", f"/pods/{pod['id']}/action", {"action": "start"})
    assert (400, True) == (status, "not enough free GPUs" in text)


def test_a_change_of_the_container_starts_it_anew_and_a_name_does_not() -> None:
    caller = Caller()
    pod = caller.running(mounts={"persistent": {"size": 20, "path": "/a"}})
    path = f"/pods/{pod['id']}"

    assert "RUNNING" == caller.told("PATCH", path, {"name": "b", "locked": False})["status"]
    assert "RUNNING" == caller.told("PATCH", path, {"env": pod["env"]})["status"]
    assert "STARTING" == caller.told("PATCH", path, {"env": {"A": "1"}})["status"]
    assert (
        30
        == caller.told("PATCH", path, {"mounts": {"persistent": {"size": 30, "path": "/a"}}})["mounts"]["persistent"][
            "size"
        ]
    )
    assert 400 == caller.refused("PATCH", path, {"mounts": {"persistent": {"size": 10, "path": "/a"}}})[0]
    assert 400 == caller.refused("PATCH", path, {"mounts": {"network": []}})[0]
    assert 422 == caller.refused("PATCH", path, {"gpu": {"id": CARD}})[0]


def test_listings_have_pages_that_begin_after_the_cursor() -> None:
    caller = Caller(page_size=2)
    ids = [caller.told("POST", "/pods", POD)["id"] for _ in range(3)]
    first = caller.told("GET", "/pods")
    second = caller.told("GET", "/pods", cursor=first["pagination"]["nextCursor"])

    assert ids == [pod["id"] for pod in [*first["pods"], *second["pods"]]]
    assert {"hasNextPage": False, "nextCursor": None} == second["pagination"]
    assert 400 == caller.refused("GET", "/pods", cursor="?")[0]


def test_the_list_of_keys_is_replaced_as_a_whole() -> None:
    caller = Caller()
    for keys in (["ssh-ed25519 AAAA a", "ssh-rsa BBBB"], ["ssh-rsa BBBB", "ssh-rsa BBBB"], []):
        assert {"keys": keys} == caller.told("PUT", "/account/ssh-keys", {"keys": keys})
        assert {"keys": keys} == caller.told("GET", "/account/ssh-keys")
    assert 422 == caller.refused("PUT", "/account/ssh-keys", {"keys": ["nonsense"]})[0]
    assert 422 == caller.refused("PUT", "/account/ssh-keys", {})[0]


def test_ssh_of_an_account_without_keys_lets_nobody_in() -> None:
    caller = Caller()
    without = caller.told("POST", "/pods", {**POD, "startSsh": True})
    caller.told("PUT", "/account/ssh-keys", {"keys": ["ssh-ed25519 AAAA a"]})
    with_keys = caller.told("POST", "/pods", {**POD, "startSsh": True, "startJupyter": True})

    assert {} == without["env"]
    assert "ssh-ed25519 AAAA a" == with_keys["env"]["PUBLIC_KEY"]
    assert with_keys["env"]["JUPYTER_PASSWORD"]
    assert "startSsh" not in with_keys


def test_a_volume_grows_holds_on_to_its_pods_and_ties_them_down() -> None:
    caller = Caller()
    volume = caller.told("POST", "/network-volumes", VOLUME)
    path = f"/network-volumes/{volume['id']}"
    pod = caller.told("POST", "/pods", {**POD, "mounts": {"network": [{"volumeId": volume["id"], "path": "/data"}]}})

    assert ("EU-RO-1", "STANDARD") == (pod["dataCenterId"], volume["type"])
    assert 60 == caller.told("PATCH", path, {"size": 60})["size"]
    assert 400 == caller.refused("PATCH", path, {"size": 50})[0]
    assert 422 == caller.refused("PATCH", path, {})[0]
    assert 400 == caller.refused("DELETE", path)[0]
    caller.told("DELETE", f"/pods/{pod['id']}")
    caller.told("DELETE", path)
    assert 400 == caller.refused("POST", "/network-volumes", {**VOLUME, "dataCenter": "US-IL-1"})[0]


def test_a_template_gives_what_the_request_leaves_out() -> None:
    caller = Caller()
    registry = caller.told("POST", "/registries", {"name": "hub", "username": "a", "password": "b"})
    body = {"name": "t", "image": "acme/x", "env": {"A": "1", "B": "2"}, "registry": registry["id"], "disk": 33}
    body["startJupyter"] = False
    template = caller.told("POST", "/templates", body)
    asked = {"name": "a", "gpu": POD["gpu"], "templateId": template["id"], "env": {"B": "3"}}
    pod = caller.told("POST", "/pods", asked)

    assert ("acme/x", 33, {"A": "1", "B": "3"}, None) == tuple(pod[k] for k in ("image", "disk", "env", "template"))
    assert 400 == caller.refused("DELETE", f"/registries/{registry['id']}")[0]
    caller.told("DELETE", f"/pods/{pod['id']}")
    caller.told("DELETE", f"/registries/{registry['id']}")
    assert caller.told("GET", f"/templates/{template['id']}")["registry"] is None
    assert (400, "Registry auth not found") == caller.refused("DELETE", f"/registries/{registry['id']}")


def test_the_catalogue_tells_stock_only_with_a_product() -> None:
    caller = Caller()
    caller.world.shelves["runpod", "RTX4090", ""] = Shelf(available=2)
    caller.world.shelves["runpod", "RTX4090", "US-KS-2"] = Shelf(available=0)
    plain = caller.told("GET", "/catalog/gpus/NVIDIA%20GeForce%20RTX%204090")
    told = caller.told("GET", "/catalog/gpus/NVIDIA%20GeForce%20RTX%204090", include="AVAILABILITY", product="POD")
    many = caller.told(
        "GET", "/catalog/gpus/NVIDIA%20GeForce%20RTX%204090", include="AVAILABILITY", product="POD", count="9"
    )

    assert "availability" not in plain
    assert ("LOW", ["EU-RO-1", "EU-SE-1"]) == (told["availability"], [place["id"] for place in told["dataCenters"]])
    assert ("NONE", False) == (many["availability"], "dataCenters" in many)
    assert 400 == caller.refused("GET", "/catalog/gpus", include="AVAILABILITY")[0]
    assert 400 == caller.refused("GET", "/catalog/gpus", count="2")[0]
    assert 422 == caller.refused("GET", "/catalog/gpus", include="AVAILABILITY", product="POD", count="x")[0]
    assert ["EU-RO-1"] == [
        center["id"]
        for center in caller.told("GET", "/catalog/datacenters", networkVolumeTypes="STANDARD,HIGH_PERFORMANCE")[
            "dataCenters"
        ]
    ]


def test_logs_are_events_from_a_place_on() -> None:
    caller = Caller()
    pod = caller.running()
    answer = caller.send("GET", f"/pods/{pod['id']}/logs", tail="2", source="container")
    assert isinstance(answer.body, bytes)
    events = [json.loads(line.removeprefix("data: ")) for line in answer.body.decode().splitlines()[1::3]]

    assert "text/event-stream" == answer.headers["Content-Type"]
    assert ["line 19", "line 20"] == [event["line"] for event in events]
    assert b"" == caller.send("GET", f"/pods/{pod['id']}/logs", since="2030-01-01T00:00:00Z").content
    assert 422 == caller.refused("GET", f"/pods/{pod['id']}/logs", tail="9999")[0]


def test_what_is_left_of_the_minute_is_told_with_every_answer() -> None:
    caller = Caller()
    left = [caller.send("GET", "/pods").headers["RateLimit"] for _ in range(60)]
    status, _ = caller.refused("GET", "/pods")

    assert ('"minute";r=59;t=60', '"minute";r=0;t=60', 429) == (left[0], left[-1], status)
    assert 200 == caller.send("GET", "/pods", key="another").status


def test_keys_are_wanted_and_accounts_are_apart() -> None:
    caller = Caller()
    caller.told("POST", "/pods", POD)

    assert (401, "missing bearer token") == (
        caller.send("GET", "/pods", key="").status, json.loads(caller.send("GET", "/pods", key="").content)["detail"],
    )  # fmt: skip
    assert [] == json.loads(caller.send("GET", "/pods", key="another").content)["pods"]


def test_an_account_without_funds_gets_nothing() -> None:
    assert 402 == Caller(has_funds=False).refused("POST", "/pods", POD)[0]
