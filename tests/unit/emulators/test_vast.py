"""The emulated Vast.ai by itself: what its market and its errors are like."""

import json
from typing import Any

import pytest

from gpuplan.emulators.catalog import emulator_types
from gpuplan.emulators.desk import Desk
from gpuplan.emulators.http import Request, Response
from gpuplan.emulators.world import Shelf, World
from gpuplan.testing.clock import FakeClock


class Client:
    def __init__(self) -> None:
        self.world = World(FakeClock())
        self.world.knobs["vast"]["rate_limited"] = False
        self._desk = Desk(self.world, emulator_types(["vast"]))

    def send(self, method: str, path: str, body: object = None, *, key: str = "a-key", **query: str) -> Response:
        content = b"" if body is None else json.dumps(body).encode()
        headers = {"authorization": f"Bearer {key}"} if key else {}
        parameters = {name: [value] for name, value in query.items()}
        return self._desk.answer(Request(method, f"/vast/api{path}", parameters, headers, content)).response

    def ask(self, method: str, path: str, body: object = None, **query: str) -> Any:
        response = self.send(method, path, body, **query)
        assert 200 == response.status, response.body
        return response.body

    def search(self, **filters: object) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.ask("POST", "/v0/bundles/", filters)["offers"]
        return rows

    def rent(self, offer: int, **more: object) -> str:
        return str(self.ask("PUT", f"/v0/asks/{offer}/", {"image": "acme/x", "disk": 10, **more})["new_contract"])


@pytest.fixture
def client() -> Client:
    return Client()


def test_renting_a_slice_takes_those_that_overlap_with_it(client: Client) -> None:
    largest = client.search(machine_id={"eq": 15000}, order=[["num_gpus", "desc"]])[0]
    client.rent(largest["id"])

    assert [] == client.search(machine_id={"eq": 15000})
    assert 410 == client.send("PUT", f"/v0/asks/{largest['id']}/", {"image": "acme/x"}).status


def test_destroying_an_instance_brings_its_slice_back_under_another_number(client: Client) -> None:
    first = client.search(machine_id={"eq": 15000}, num_gpus={"eq": 1})[0]
    client.ask("DELETE", f"/v0/instances/{client.rent(first['id'])}/", {})
    (second,) = client.search(machine_id={"eq": 15000}, num_gpus={"eq": 1})

    assert first["id"] != second["id"]


def test_filters_may_be_texts_and_names_may_have_underscores(client: Client) -> None:
    rows = client.search(num_gpus={"eq": "1"}, verified={"eq": "true"}, gpu_name={"eq": "RTX_4090"}, type="bid")

    assert rows
    assert {("RTX 4090", 1, True)} == {(row["gpu_name"], row["num_gpus"], row["is_bid"]) for row in rows}


def test_nothing_is_found_by_id_but_by_the_number_of_the_ask(client: Client) -> None:
    id = client.search()[0]["id"]

    assert [] == client.search(id={"eq": id})
    assert [id] == [row["id"] for row in client.search(ask_contract_id={"eq": id})]


def test_a_search_ends_after_64_rows(client: Client) -> None:
    assert 64 == len(client.search(limit=1000))


def test_stock_and_prices_are_those_of_the_shelf(client: Client) -> None:
    client.world.shelves["vast", "RTX4090", ""] = Shelf(available=0)
    client.world.shelves["vast", "H200", ""] = Shelf(price=None)

    assert [] == client.search(gpu_name={"eq": "RTX 4090"})
    assert client.search(gpu_name={"eq": "H200"})


def test_a_page_leads_to_the_next_and_labels_are_filtered(client: Client) -> None:
    client.world.knobs["vast"]["most_per_page"] = 1
    ids = [client.rent(client.search(num_gpus={"eq": 1})[0]["id"], label=label) for label in ("a", "b")]
    first = client.ask("GET", "/v1/instances/")
    second = client.ask("GET", "/v1/instances/", after_token=first["next_token"])
    labelled = client.ask("GET", "/v1/instances/", select_filters='{"label": {"eq": "b"}}')

    assert ids == [str(first["instances"][0]["id"]), str(second["instances"][0]["id"])]
    assert second["next_token"] is None
    assert [ids[1]] == [str(row["id"]) for row in labelled["instances"]]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/v0/instances/12x/", None, 200, None),
        ("PUT", "/v0/instances/12/", {"state": "stopped"}, 404, "no_such_instance"),
        ("DELETE", "/v0/instances/12/", {}, 404, "no_such_instance"),
        ("DELETE", "/v0/ssh/12/", None, 400, "no_ssh_key"),
        ("PUT", "/v0/asks/12/", {"image": "acme/x"}, 404, "invalid_args"),
        ("PUT", "/v0/asks/12/", {}, 400, "invalid_args"),
        ("PUT", "/v0/asks/12/", {"image": "acme/x", "price": 500}, 400, "invalid_price"),
        ("PUT", "/v0/asks/12/", {"image": "acme/x", "onstart": "x" * 4049}, 400, "invalid_args"),
        ("PUT", "/v0/volumes/", {"id": 330000, "name": "a-b"}, 400, "invalid_args"),
        ("DELETE", "/v0/volumes/", {"id": 5}, 404, "no_such_volume"),
        ("POST", "/v0/bundles/", {"num_gpus": {"like": 1}}, 400, "invalid_request"),
    ],
)
def test_refusals(client: Client, method: str, path: str, body: object, status: int, code: str | None) -> None:
    response = client.send(method, path, body)
    told = response.body.get("error") if isinstance(response.body, dict) else None

    assert (status, code) == (response.status, told)


def test_a_wrong_key_is_told_as_not_found(client: Client) -> None:
    response = client.send("GET", "/v0/users/current", key="wrong")

    assert isinstance(response.body, dict)
    assert (404, "auth_error") == (response.status, response.body["error"])


def test_calls_in_too_quick_a_row_are_turned_down_with_their_threshold(client: Client) -> None:
    client.world.knobs["vast"]["rate_limited"] = True
    responses = [client.send("GET", "/v1/instances/") for _ in range(2)]

    assert [200, 429] == [response.status for response in responses]
    assert "threshold=1" in str(responses[1].body)
