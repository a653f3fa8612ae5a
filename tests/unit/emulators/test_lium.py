"""The emulated Lium by itself: its market, its errors, and the two APIs side by side."""

import json
from typing import Any

import pytest

from gpuplan.emulators.catalog import emulator_types
from gpuplan.emulators.desk import Desk
from gpuplan.emulators.http import Request, Response
from gpuplan.emulators.world import Shelf, World
from gpuplan.testing.clock import FakeClock

KEY = "ssh-ed25519 AAAA me"
RENTAL = {"name": "r", "hotkey": "5F", "coldkey": "5G", "gpu_type": "RTX_4090", "duration_hours": 1, "ssh_pubkey": KEY}


class Client:
    def __init__(self) -> None:
        self.world = World(FakeClock())
        self.knobs: dict[str, Any] = self.world.knobs["lium"]
        self.knobs["rate_limited"] = False
        self._desk = Desk(self.world, emulator_types(["lium"]))

    def send(
        self, method: str, path: str, body: object = None, *, key: str = "a-key", idempotency: str = "", **query: str
    ) -> Response:
        content = b"" if body is None else json.dumps(body).encode()
        headers = {"authorization": f"Bearer {key}"} if path.startswith("/v1") else {"x-api-key": key}
        parameters = {name: [value] for name, value in query.items()}
        headers |= {"idempotency-key": idempotency} if idempotency else {}
        return self._desk.answer(Request(method, f"/lium{path}", parameters, headers, content)).response

    def ask(self, method: str, path: str, body: object = None, **query: str) -> Any:
        response = self.send(method, path, body, **query)
        assert response.status < 300, response.body
        return response.body

    def hosts(self, **query: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.ask("GET", "/api/executors", **query)
        return rows

    def rent(self, host: str, *, idempotency: str = "", **more: object) -> Response:
        template = self.ask("GET", "/api/templates")[0]["id"]
        body = {"pod_name": "p", "template_id": template, "user_public_key": [KEY], **more}
        return self.send("POST", f"/api/executors/{host}/rent", body, idempotency=idempotency)


@pytest.fixture
def client() -> Client:
    return Client()


def test_renting_a_part_of_a_host_leaves_the_rest(client: Client) -> None:
    host = client.hosts()[0]
    client.rent(host["id"], gpu_count=3)

    assert (8, 5) == (client.hosts()[0]["gpu_count"], client.hosts()[0]["available_gpu_count"])
    assert 400 == client.rent(host["id"], gpu_count=6).status
    assert 200 == client.rent(host["id"], gpu_count=5).status
    assert host["id"] not in {row["id"] for row in client.hosts()}
    assert 409 == client.rent(host["id"], gpu_count=1).status


def test_without_a_number_all_gpus_are_rented(client: Client) -> None:
    host = next(row for row in client.hosts() if row["min_gpu_count_for_rental"] is None)
    assert 400 == client.rent(host["id"], gpu_count=1).status
    client.rent(host["id"])

    assert str(host["gpu_count"]) == client.ask("GET", "/api/pods")[0]["gpu_count"]


def test_a_rent_with_the_same_key_is_answered_as_before(client: Client) -> None:
    host = client.hosts()[0]["id"]
    first, again = (client.rent(host, gpu_count=1, idempotency="k") for _ in range(2))
    other = client.rent(host, gpu_count=2, idempotency="k")

    assert first.body == again.body
    assert ("true", 422) == (again.headers["Idempotent-Replayed"], other.status)
    assert 1 == len(client.ask("GET", "/api/pods"))


def test_hosts_are_filtered(client: Client) -> None:
    name = "NVIDIA H200"

    assert {name} == {row["machine_name"] for row in client.hosts(machine_names=name)}
    assert {4} == {row["gpu_count"] for row in client.hosts(gpu_count_gte="2", gpu_count_lte="4")}
    assert not any(row["frequent_rent_failures"] for row in client.hosts(reliable_only="true"))
    assert all(row["nvlink"] for row in client.hosts(nvlink="true"))
    assert 422 == client.send("GET", "/api/executors", min_download_mbps="fast").status


def test_stock_and_prices_are_those_of_the_shelf(client: Client) -> None:
    client.world.shelves["lium", "H200", ""] = Shelf(available=0)
    client.world.shelves["lium", "RTX4090", ""] = Shelf(price=None, available=5)

    names = {row["machine_name"] for row in client.hosts()}
    assert "NVIDIA H200" not in names
    assert "NVIDIA GeForce RTX 4090" in names


def test_types_and_a_quote_are_told(client: Client) -> None:
    host = client.hosts()[0]
    quote = client.ask("GET", f"/api/executors/{host['id']}/quote", gpu_count="2", hours="3")

    assert round(host["price_per_gpu"] * 2, 4) == quote["price_per_hour"]
    assert round(quote["price_per_hour"] * 3, 4) == quote["total_usd"]
    assert host["machine_name"] in {row["name"] for row in client.ask("GET", "/api/machines")}


def test_a_pod_comes_up_and_shows_its_ports(client: Client) -> None:
    client.rent(client.hosts()[0]["id"], gpu_count=1, initial_port_count=2)
    told = []
    for _ in range(3):
        (pod,) = client.ask("GET", "/api/pods")
        told.append((pod["status"], pod["ssh_connect_cmd"] is None, len(pod["ports_mapping"])))
        client.world.time.advance(30)

    assert [("PENDING", True, 0), ("RUNNING", True, 4), ("RUNNING", False, 4)] == told


def test_a_pod_ends_when_it_is_to(client: Client) -> None:
    client.rent(client.hosts()[0]["id"], gpu_count=1, termination_hours=2)
    client.world.time.advance(2 * 3600 + 1)

    assert [] == client.ask("GET", "/api/pods")
    assert 8 == client.hosts()[0]["available_gpu_count"]


def test_a_pod_is_billed_from_the_moment_it_runs(client: Client) -> None:
    client.rent(client.hosts()[0]["id"], gpu_count=2)
    client.world.time.advance(3600 + 18)
    (pod,) = client.world.ledger

    assert 4.2 == round(float(pod.cost(client.world.time.now())), 4)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/api/pods/x", None, 404),
        ("DELETE", "/api/pods/x", None, 404),
        ("POST", "/api/executors/x/rent", {}, 422),
        ("POST", "/api/executors/x/rent", {"pod_name": "p", "user_public_key": []}, 422),
        ("POST", "/api/executors/x/rent", {"pod_name": "p", "user_public_key": "k"}, 422),
        ("POST", "/api/ssh-keys", {"name": "k", "public_key": "k"}, 422),
        ("DELETE", "/api/ssh-keys/x", None, 404),
        ("POST", "/api/templates", {"name": "t"}, 422),
        ("GET", "/api/templates/x", None, 404),
        ("GET", "/api/volumes/x", None, 404),
        ("GET", "/api/executors/x/quote", None, 404),
        ("GET", "/v1/rentals/x", None, 404),
        ("DELETE", "/v1/rentals/x", None, 404),
        ("POST", "/v1/rentals", {}, 422),
        ("POST", "/v1/rentals", {**RENTAL, "gpu_type": "Voodoo"}, 409),
        ("POST", "/v1/rentals", {**RENTAL, "duration_hours": None}, 422),
    ],
)
def test_refusals(client: Client, method: str, path: str, body: object, status: int) -> None:
    assert status == client.send(method, path, body).status


def test_wrong_keys_are_refused_where_a_key_is_asked_for(client: Client) -> None:
    asked = [client.send("GET", path, key="wrong").status for path in ("/api/pods", "/api/executors", "/v1/rentals/x")]

    assert [401, 200, 401] == asked


def test_who_looks_too_often_is_turned_away(client: Client) -> None:
    client.knobs["rate_limited"] = True
    answers = [client.send("GET", "/api/pods") for _ in range(61)]

    assert [200] * 60 + [429] == [answer.status for answer in answers]
    assert "60" == answers[-1].headers["Retry-After"]


def test_rentals_take_hosts_from_pods_and_give_them_back(client: Client) -> None:
    def free() -> int:
        rows = client.hosts(machine_names="NVIDIA GeForce RTX 4090")
        return sum(int(row["available_gpu_count"]) for row in rows)

    before = free()
    made = client.ask("POST", "/v1/rentals", RENTAL)["rental"]
    during = free()
    client.world.time.advance(3601)
    ended = client.ask("GET", f"/v1/rentals/{made['rental_id']}")["data"]

    assert (before - 1, before, "expired") == (during, free(), ended["status"])
    assert [] == client.ask("GET", "/api/pods")


def test_a_rental_that_was_deleted_is_not_there(client: Client) -> None:
    made = client.ask("POST", "/v1/rentals", RENTAL)["rental"]["rental_id"]
    statuses = [client.send("DELETE", f"/v1/rentals/{made}").status for _ in range(2)]

    assert [204, 404] == statuses
