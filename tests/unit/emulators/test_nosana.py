"""The emulated Nosana by itself: addresses, pages, what is refused, and what happens with time."""

import json
from typing import Any

import pytest

from gpuplan.emulators.catalog import emulator_types
from gpuplan.emulators.desk import Desk
from gpuplan.emulators.http import Request, Response
from gpuplan.emulators.nosana_answers import base58, url_of
from gpuplan.emulators.world import World
from gpuplan.testing.clock import FakeClock

H100 = "Crop49jpc7prcgAcS82WbWyGHwbN5GgDym3uFbxxCTZg"
OP = {"type": "container/run", "id": "node", "args": {"image": "ubuntu", "gpu": True, "expose": [8888]}}
DEFINITION = {"version": "0.1", "type": "container", "ops": [OP]}
BODY = {"name": "n", "market": H100, "replicas": 1, "timeout": 60, "strategy": "SIMPLE", "job_definition": DEFINITION}


class Client:
    def __init__(self) -> None:
        self.world = World(FakeClock())
        self.knobs: dict[str, Any] = self.world.knobs["nosana"]
        self._desk = Desk(self.world, emulator_types(["nosana"]))

    def send(self, method: str, path: str, body: object = None, **query: str) -> Response:
        content = b"" if body is None else json.dumps(body).encode()
        headers = {"authorization": "Bearer nos_test", "x-internal-api-key": "a-key"}
        parameters = {name: [value] for name, value in query.items()}
        return self._desk.answer(Request(method, f"/nosana{path}", parameters, headers, content)).response

    def ask(self, method: str, path: str, body: object = None, **query: str) -> Any:
        response = self.send(method, path, body, **query)
        assert response.status < 300, response.body
        return response.body

    def make(self, *, start: bool = False, **more: object) -> str:
        made = self.ask("POST", "/api/deployments/create", {**BODY, **more})
        if start:
            self.ask("POST", f"/api/deployments/{made['id']}/start")
        return str(made["id"])

    def look(self, id: str, seconds: float = 0) -> Any:
        self.world.time.advance(seconds)
        return self.ask("GET", f"/api/deployments/{id}")


@pytest.fixture
def client() -> Client:
    return Client()


def test_the_address_of_an_op_is_the_documented_one() -> None:
    id, vault = "7fK3c9ZsK1V2hVq1gYJ7rXrV6wq4tq9n3o6p1YdT5bQx", "9xQeWvG816bUx9EPjHmaT23yvVM2ZWbrrpZb9PusVFin"

    assert "https://h339N4ZVdsPYGeDrHEP4ujSF2ToSpD7gkbbTscce74vT.node.k8s.prd.nos.ci" == url_of(id, vault, "node")


@pytest.mark.parametrize(
    ("content", "text"), [(b"", ""), (b"\0\0", "11"), (b"hello", "Cn8eVZg"), (bytes(32), "1" * 32)]
)
def test_keys_are_in_base58(content: bytes, text: str) -> None:
    assert text == base58(content)


def test_a_deployment_runs_and_stops_when_its_time_is_over(client: Client) -> None:
    id = client.make(start=True)

    assert ("RUNNING", 0) == _state(client.look(id, 2))
    assert ("RUNNING", 1) == _state(client.look(id, 5))
    assert ("STOPPED", 0) == _state(client.look(id, 3700))
    (job,) = client.ask("GET", f"/api/deployments/{id}/jobs")["jobs"]
    whole = client.ask("GET", f"/api/deployments/{id}/jobs/{job['job']}")
    assert (2, "success") == (whole["state"], whole["jobResult"]["status"])


def test_what_runs_is_paid_for_and_what_waits_is_not(client: Client) -> None:
    client.knobs["queue_seconds"] = 100
    id = client.make(start=True, strategy="SIMPLE-EXTEND")
    client.look(id, 2)
    client.look(id, 50)
    thing = client.world.living["nosana", "node"][id]
    assert 0 == thing.cost(client.world.time.now())
    client.look(id, 60)
    client.look(id, 3600)

    assert 1.4 < thing.cost(client.world.time.now()) < 1.6


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, 200),
        ({"replicas": 0}, 400),
        ({"timeout": 0}, 400),
        ({"strategy": "ALWAYS"}, 400),
        ({"strategy": "INFINITE", "timeout": 59}, 400),
        ({"name": ""}, 400),
        ({"job_definition": {**DEFINITION, "ops": [{**OP, "id": "a/b"}]}}, 400),
        ({"job_definition": None}, 400),
        ({"market": "nowhere"}, 200),
    ],
)
def test_a_body_is_looked_at_and_the_market_is_not(client: Client, change: dict[str, Any], status: int) -> None:
    assert status == client.send("POST", "/api/deployments/create", {**BODY, **change}).status


def test_pages_lead_on_to_the_end(client: Client) -> None:
    made = [client.make() for _ in range(25)]
    first = client.ask("GET", "/api/deployments")
    second = client.ask("GET", "/api/deployments", cursor=first["pagination"]["cursor_next"])
    third = client.ask("GET", "/api/deployments", cursor=second["pagination"]["cursor_next"])
    listed = [each["id"] for page in (first, second, third) for each in page["deployments"]]

    assert list(reversed(made)) == listed
    assert third["pagination"]["cursor_next"] is None
    assert 25 == third["pagination"]["total_items"]


def test_a_listing_is_narrowed_by_name_and_status(client: Client) -> None:
    wanted = client.make(name="wanted")
    client.make(name="other")

    assert [wanted] == [each["id"] for each in client.ask("GET", "/api/deployments", name="wanted")["deployments"]]
    assert [] == client.ask("GET", "/api/deployments", status="RUNNING,STARTING")["deployments"]


@pytest.mark.parametrize(
    ("path", "status"),
    [("/api/deployments/short", 400), (f"/api/deployments/{H100}", 404), ("/api/markets/nowhere", 404)],
)
def test_what_is_not_there_is_not_found(client: Client, path: str, status: int) -> None:
    assert status == client.send("GET", path).status


def test_what_is_archived_is_read_only(client: Client) -> None:
    id = client.make(start=True)
    client.look(id, 2)
    client.look(id, 5)
    client.ask("POST", f"/api/deployments/{id}/stop")
    client.look(id, 60)
    client.ask("POST", f"/api/deployments/{id}/archive")

    refused = client.send("DELETE", f"/api/deployments/{id}")
    assert (500, {"error": "Cannot modify an archived deployment."}) == (refused.status, refused.body)
    assert "ARCHIVED" == client.look(id)["status"]


def test_an_earlier_revision_can_be_gone_back_to(client: Client) -> None:
    id = client.make()
    client.ask("POST", f"/api/deployments/{id}/create-revision", DEFINITION)
    path = f"/api/deployments/{id}/update-active-revision"

    assert 1 == client.ask("PATCH", path, {"active_revision": 1})["active_revision"]
    assert 400 == client.send("PATCH", path, {"active_revision": 9}).status
    assert [2, 1] == [each["revision"] for each in client.ask("GET", f"/api/deployments/{id}/revisions")["revisions"]]


def test_a_sidecar_answers_in_errors_of_the_server(client: Client) -> None:
    assert 400 == client.send("POST", "/nosana/jobs/launch", {}).status
    assert 400 == client.send("POST", "/nosana/jobs/stop", {}).status
    assert 500 == client.send("POST", "/nosana/jobs/stop", {"jobAddress": "x"}).status
    assert 500 == client.send("GET", "/nosana/jobs/x/logs").status
    assert ["default"] == client.ask("GET", "/health")["modules"]["credentials"]


def test_a_job_that_a_sidecar_launched_has_no_log_before_its_end(client: Client) -> None:
    launched = client.ask("POST", "/nosana/jobs/launch", {"jobDefinition": DEFINITION, "marketAddress": H100})
    client.world.time.advance(60)
    looked = client.ask("GET", f"/nosana/jobs/{launched['jobAddress']}")

    assert (1, "RUNNING") == (looked["jobState"], looked["deploymentStatus"])
    assert "pending" == client.ask("GET", f"/nosana/jobs/{launched['deploymentId']}/logs")["status"]


def _state(deployment: Any) -> tuple[str, int]:
    return deployment["status"], deployment["active_jobs"]
