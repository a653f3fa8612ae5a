"""The emulated Fly.io by itself: what its apps, machines, leases and errors are like."""

import json
from typing import Any

import pytest

from gpuplan.emulators.catalog import emulator_types
from gpuplan.emulators.desk import Desk
from gpuplan.emulators.http import Delivery, Request, Response
from gpuplan.emulators.world import Shelf, World
from gpuplan.testing.clock import FakeClock

CONFIG: dict[str, Any] = {"image": "registry.fly.io/gp:v3", "guest": {"cpu_kind": "performance", "cpus": 2}}


class Client:
    def __init__(self) -> None:
        self.world = World(FakeClock())
        self.world.knobs["fly"]["rate_limited"] = False
        self._desk = Desk(self.world, emulator_types(["fly"]))
        self.send("POST", "/v1/apps", {"name": "gp", "org_slug": "personal"})

    def deliver(
        self, method: str, path: str, body: object = None, *, key: str = "a-key", nonce: str = "", **query: str
    ) -> Delivery:
        content = b"" if body is None else json.dumps(body).encode()
        headers = {"authorization": f"Bearer {key}", "fly-machine-lease-nonce": nonce}
        parameters = {name.replace("__", "."): [value] for name, value in query.items()}
        return self._desk.answer(Request(method, f"/fly{path}", parameters, headers, content))

    def send(self, method: str, path: str, body: object = None, **more: str) -> Response:
        return self.deliver(method, path, body, **more).response

    def ask(self, method: str, path: str, body: object = None, **more: str) -> Any:
        response = self.send(method, path, body, **more)
        assert response.status < 300, response.body
        return response.body

    def text(self, method: str, path: str, body: object = None, **more: str) -> tuple[int, str]:
        """Status and error of what is refused."""
        response: Any = self.send(method, path, body, **more)
        return response.status, response.body["error"]

    def launch(self, name: str = "", *, wait: bool = True, **more: Any) -> str:
        config = {**CONFIG, **more.pop("config", {})}
        made = self.ask("POST", MACHINES, {"name": name, "region": "ord", "config": config, **more})
        if wait:
            self.world.time.advance(10)
        return str(made["id"])

    def state(self, id: str) -> str:
        return str(self.ask("GET", f"{MACHINES}/{id}")["state"])


MACHINES = "/v1/apps/gp/machines"


@pytest.fixture
def client() -> Client:
    return Client()


def test_a_machine_goes_through_its_states(client: Client) -> None:
    id, states = client.launch(wait=False), []
    for seconds in (0, 2, 3):
        client.world.time.advance(seconds)
        states.append(client.state(id))
    client.ask("POST", f"{MACHINES}/{id}/stop", {})
    states.append(client.state(id))
    client.world.time.advance(3)
    states.append(client.state(id))
    client.ask("DELETE", f"{MACHINES}/{id}")
    states.append(client.state(id))
    client.world.time.advance(3)

    assert ["created", "starting", "started", "stopping", "stopped", "destroying"] == states
    assert "destroyed" == client.state(id)
    assert [] == client.ask("GET", MACHINES)
    assert 1 == len(client.ask("GET", MACHINES, include_deleted="true"))
    client.world.time.advance(600)
    assert (404, "machine not found") == client.text("GET", f"{MACHINES}/{id}")


def test_a_machine_that_is_not_launched_stays_as_it_was_created(client: Client) -> None:
    id = client.launch(skip_launch=True)

    assert "created" == client.state(id)
    assert "created" == client.ask("POST", f"{MACHINES}/{id}/start")["previous_state"]


def test_a_running_machine_is_destroyed_by_force_under_either_name(client: Client) -> None:
    one, two = client.launch(), client.launch()

    assert 412 == client.send("DELETE", f"{MACHINES}/{one}").status
    assert {"ok": True} == client.ask("DELETE", f"{MACHINES}/{one}", force="true")
    assert {"ok": True} == client.ask("DELETE", f"{MACHINES}/{two}", kill="true")


def test_a_name_is_given_once_until_its_machine_is_destroyed(client: Client) -> None:
    id = client.launch("head")
    status, text = client.text("POST", MACHINES, {"name": "head", "config": CONFIG})
    client.ask("DELETE", f"{MACHINES}/{id}", force="true")

    assert 409 == status
    assert text.endswith(f'violation, machine ID {id} already exists with name "head"')
    assert 409 == client.send("POST", MACHINES, {"name": "head", "config": CONFIG}).status
    client.world.time.advance(3)
    assert id != client.launch("head")


def test_listings_are_filtered(client: Client) -> None:
    one = client.launch(config={"metadata": {"team": "x"}})
    two = client.launch(skip_launch=True)

    def ids(**query: str) -> list[str]:
        return [machine["id"] for machine in client.ask("GET", MACHINES, **query)]

    assert [one, two] == ids()
    assert [one] == ids(metadata__team="x")
    assert [two] == ids(state="created,stopped")
    assert [] == ids(region="iad")


def test_waiting_takes_as_long_as_it_takes(client: Client) -> None:
    id = client.launch(wait=False)
    path = f"{MACHINES}/{id}/wait"
    soon, never = client.deliver("GET", path, timeout="30"), client.deliver("GET", path, state="stopped", timeout="7")

    assert (200, 5) == (soon.response.status, soon.delay_seconds)
    assert (408, 7) == (never.response.status, never.delay_seconds)
    assert isinstance(soon.response.body, dict)
    assert {"ok": True, "state": "started"} == {name: soon.response.body[name] for name in ("ok", "state")}
    assert "inside range [1s, 1m0s]" in client.text("GET", path, timeout="90")[1]
    client.ask("DELETE", f"{MACHINES}/{id}", force="true")
    assert 2 == client.deliver("GET", path, state="destroyed").delay_seconds


def test_a_lease_keeps_others_away_until_it_ends(client: Client) -> None:
    id = client.launch()
    path = f"{MACHINES}/{id}/lease"
    assert (404, "lease not found") == client.text("GET", path)
    nonce = client.ask("POST", path, {"ttl": 60, "description": "deploy"})["data"]["nonce"]

    assert "nonce" not in client.ask("GET", path)["data"]
    for method, behind in (("POST", "/stop"), ("POST", "/start"), ("DELETE", ""), ("POST", "/lease")):
        assert 409 == client.send(method, f"{MACHINES}/{id}{behind}", force="true").status
    assert nonce == client.ask("POST", path, {"ttl": 90}, nonce=nonce)["data"]["nonce"]
    client.ask("POST", f"{MACHINES}/{id}/stop", nonce=nonce)
    client.world.time.advance(89)
    assert 409 == client.send("POST", f"{MACHINES}/{id}/start").status
    client.world.time.advance(2)
    client.ask("POST", f"{MACHINES}/{id}/start")


def test_a_lease_is_taken_with_the_machine_and_given_back(client: Client) -> None:
    made = client.ask("POST", MACHINES, {"region": "ord", "config": CONFIG, "lease_ttl": 60})
    path = f"{MACHINES}/{made['id']}/lease"

    assert 409 == client.send("DELETE", path).status
    client.ask("DELETE", path, nonce=made["nonce"])
    assert 404 == client.send("GET", path).status


def test_an_update_replaces_everything_and_is_held_to_its_version(client: Client) -> None:
    volume = client.ask("POST", "/v1/apps/gp/volumes", {"name": "data", "region": "ord"})["id"]
    mounts = [{"volume": volume, "path": "/data"}]
    id = client.launch(config={"metadata": {"team": "x"}, "mounts": mounts})
    path, before = f"{MACHINES}/{id}", client.ask("GET", f"{MACHINES}/{id}")
    other = {**CONFIG, "mounts": [{"volume": "vol_other", "path": "/data"}]}

    assert (400, True) == (client.send("POST", path, {"config": other}).status, True)
    after = client.ask("POST", path, {"config": CONFIG, "current_version": before["instance_id"]})
    assert before["instance_id"] != after["instance_id"]
    assert ("updating", {"fly_platform_version": "v2"}) == (after["state"], after["config"]["metadata"])
    assert "mounts" not in after["config"]
    assert "attached_machine_id" not in client.ask("GET", f"/v1/apps/gp/volumes/{volume}")
    status, text = client.text("POST", path, {"config": CONFIG, "current_version": before["instance_id"]})
    assert (409, True) == (status, "concurrent update" in text)
    assert 2 == len(client.ask("GET", f"{path}/versions"))


def test_metadata_changes_without_a_new_version(client: Client) -> None:
    id = client.launch(config={"metadata": {"a": "1", "b": "2"}})
    path, version = f"{MACHINES}/{id}/metadata", client.ask("GET", f"{MACHINES}/{id}")["instance_id"]
    client.ask("PATCH", path, {"metadata": {"a": "", "c": "3"}, "machine_version": version})
    client.ask("POST", f"{path}/d", {"value": "4"})
    client.ask("DELETE", f"{path}/b")

    assert {"fly_platform_version": "v2", "c": "3", "d": "4"} == client.ask("GET", path)
    assert (version, "started") == (client.ask("GET", f"{MACHINES}/{id}")["instance_id"], client.state(id))
    assert 412 == client.send("PATCH", path, {"metadata": {}, "machine_version": "01OLD"}).status


def test_events_are_told_the_latest_first_and_not_before_they_happen(client: Client) -> None:
    id = client.launch(wait=False)
    early = [event["type"] for event in client.ask("GET", f"{MACHINES}/{id}/events")]
    client.world.time.advance(10)
    client.ask("POST", f"{MACHINES}/{id}/signal", {"signal": 9})
    client.world.time.advance(10)
    client.ask("POST", f"{MACHINES}/{id}/start")

    assert ["launch"] == early
    events = client.ask("GET", f"{MACHINES}/{id}/events", limit="3")
    assert ["start", "exit", "stop"] == [event["type"] for event in events]
    assert events[1]["request"]["exit_event"]["requested_stop"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"config": {}}, 422),
        ({"config": {**CONFIG, "guest": {"cpu_kind": "performance", "cpus": 8, "memory_mb": 8192}}}, 422),
        ({"config": {**CONFIG, "guest": {"cpu_kind": "performance", "cpus": 3}}}, 422),
        ({"config": {**CONFIG, "guest": {"gpu_kind": "a10"}}}, 422),
        ({"config": {**CONFIG, "env": {"A": 1}}}, 400),
        ({"config": CONFIG, "region": "xyz"}, 400),
        ({"config": {**CONFIG, "mounts": [{"volume": "vol_none", "path": "/a"}]}}, 404),
    ],
)
def test_what_there_is_not_is_refused(client: Client, body: dict[str, Any], status: int) -> None:
    assert status == client.send("POST", MACHINES, body).status
    assert [] == client.ask("GET", MACHINES)


def test_the_first_region_with_room_is_taken_and_told(client: Client) -> None:
    client.world.shelves["fly", "performance-2x", "ord"] = Shelf(available=0)
    made = client.ask("POST", MACHINES, {"region": "ord,us,any", "config": CONFIG})

    assert "iad" == made["region"]
    room = client.ask("POST", "/v1/platform/placements", {"org_slug": "personal", "compute": CONFIG["guest"]})
    assert "ord" not in {row["region"] for row in room["regions"]}
    three = {"org_slug": "personal", "region": "ord,iad,sjc", "count": 51, "compute": CONFIG["guest"]}
    rows = client.ask("POST", "/v1/platform/placements", three)["regions"]
    assert [("iad", 50), ("sjc", 1)] == [(row["region"], row["count"]) for row in rows]


def test_apps_are_found_by_their_name_and_have_it_alone(client: Client) -> None:
    taken = client.send("POST", "/v1/apps", {"app_name": "gp", "org_slug": "personal"}, key="other")

    assert isinstance(taken.body, dict)
    assert (422, "name_taken") == (taken.status, taken.body["status"])
    assert 403 == client.send("GET", "/v1/apps/gp", key="other").status
    assert 404 == client.send("GET", "/v1/apps/free").status
    assert 400 == client.send("GET", "/v1/apps").status
    client.launch()
    (app,) = client.ask("GET", "/v1/apps", org_slug="personal")["apps"]
    assert ("gp", 1) == (app["name"], app["machine_count"])


def test_an_app_with_machines_is_deleted_by_force_with_all_it_has(client: Client) -> None:
    client.launch()
    client.ask("POST", "/v1/apps/gp/volumes", {"name": "data", "region": "ord"})
    client.ask("POST", "/v1/apps/gp/ip_assignments", {"type": "v4"})

    assert 412 == client.send("DELETE", "/v1/apps/gp").status
    assert 202 == client.send("DELETE", "/v1/apps/gp", force="true").status
    assert [] == [thing for things in client.world.living.values() for thing in things.values()]


def test_secrets_are_told_by_their_digest_alone(client: Client) -> None:
    path = "/v1/apps/gp/secrets"
    client.ask("POST", path, {"values": {"A": "one", "B": "two"}})
    client.ask("POST", f"{path}/A", {"value": "three"})
    client.ask("DELETE", f"{path}/B")

    (secret,) = client.ask("GET", path)["secrets"]
    assert ("A", False) == (secret["name"], "three" in json.dumps(secret))


def test_a_whole_organisation_is_listed_page_by_page(client: Client) -> None:
    ids, found, cursor = [client.launch() for _ in range(5)], list[str](), ""
    while True:
        page = client.ask("GET", "/v1/orgs/personal/machines", limit="2", cursor=cursor)
        found += [machine["id"] for machine in page["machines"]]
        cursor = page.get("next_cursor", "")
        if not cursor:
            break

    assert ids == found
    assert {"gp"} == {machine["app_name"] for machine in page["machines"]}


def test_volumes_share_names_and_only_grow(client: Client) -> None:
    path = "/v1/apps/gp/volumes"
    ids = [client.ask("POST", path, {"name": "data", "region": "ord"})["id"] for _ in range(2)]
    client.ask("POST", f"{path}/{ids[0]}/snapshots")

    assert 2 == len(set(ids))
    assert 200 == client.ask("PUT", f"{path}/{ids[0]}/extend", {"size_gb": 200})["volume"]["size_gb"]
    assert 422 == client.send("PUT", f"{path}/{ids[0]}/extend", {"size_gb": 100}).status
    assert 422 == client.send("POST", path, {"name": "my-data", "region": "ord"}).status
    assert 9 == client.ask("PUT", f"{path}/{ids[0]}", {"snapshot_retention": 9})["snapshot_retention"]
    assert 1 == len(client.ask("GET", f"{path}/{ids[0]}/snapshots"))


def test_a_stopped_machine_pays_for_its_root_disk(client: Client) -> None:
    id = client.launch()
    client.world.time.advance(3590)
    running = client.world.ledger[-1].cost(client.world.time.now())
    client.ask("POST", f"{MACHINES}/{id}/stop")
    client.world.time.advance(3600)
    stopped = client.world.ledger[-1].cost(client.world.time.now()) - running

    assert 0.08 < running < 0.09
    assert 0 < stopped < 0.002


def test_actions_on_one_machine_have_a_pace(client: Client) -> None:
    client.world.knobs["fly"].clear()
    id = client.launch()
    statuses = [client.send("POST", f"{MACHINES}/{id}/stop").status for _ in range(4)]
    limited = client.send("POST", f"{MACHINES}/{id}/stop")

    assert [200, 200, 200, 429] == statuses
    assert "1" == limited.headers["Retry-After"]
    client.world.time.advance(3)
    assert 200 == client.send("POST", f"{MACHINES}/{id}/stop").status


def test_logs_go_on_from_a_token(client: Client) -> None:
    id, path = client.launch(), "/@api/api/v1/apps/gp/logs"
    first = client.ask("GET", path, instance=id)

    assert "line 20" == first["data"][-1]["attributes"]["message"]
    assert [] == client.ask("GET", path, instance=id, next_token=first["meta"]["next_token"])["data"]


def test_questions_that_are_not_understood_are_errors_with_status_200(client: Client) -> None:
    unknown = client.ask("POST", "/@api/graphql", {"query": "query { viewer { id } }"})
    missing = client.ask("POST", "/@api/graphql", {"query": "query($n: String!) { app(name: $n) { name } }"})

    assert ["no such field", "app not found"] == [each["errors"][0]["message"] for each in (unknown, missing)]
