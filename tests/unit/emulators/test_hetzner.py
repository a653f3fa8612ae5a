"""The emulated Hetzner Cloud keeps the habits of the real one."""

import json
from typing import Any

import pytest

from gpuplan.emulators.catalog import emulator_types
from gpuplan.emulators.desk import Desk
from gpuplan.emulators.hetzner_answers import Refused, selects
from gpuplan.emulators.http import Request, Response
from gpuplan.emulators.world import World
from gpuplan.testing.clock import FakeClock

SERVER = {"name": "a", "server_type": "cpx22", "image": "ubuntu-24.04", "location": "fsn1"}


class Caller:
    """Someone who talks to a desk."""

    def __init__(self, **knobs: Any) -> None:
        self.clock = FakeClock()
        self.world = World(self.clock)
        self.world.knobs["hetzner"].update(knobs)
        self.desk = Desk(self.world, emulator_types(["hetzner"]))

    def send(self, method: str, path: str, body: Any = None, **query: list[str]) -> Response:
        content = b"" if body is None else json.dumps(body).encode()
        headers = {"authorization": "Bearer mine"}
        return self.desk.answer(Request(method, f"/hetzner/v1{path}", query, headers, content)).response

    def told(self, method: str, path: str, body: Any = None, **query: list[str]) -> Any:
        return json.loads(self.send(method, path, body, **query).content)

    def create(self, **more: Any) -> Any:
        return self.told("POST", "/servers", {**SERVER, **more})


@pytest.mark.parametrize(
    ("selector", "fits"),
    [
        ("env=prod", True),
        ("env==prod", True),
        ("env!=prod", False),
        ("other!=prod", True),
        ("env", True),
        ("!env", False),
        ("!other", True),
        ("env in (test, prod)", True),
        ("env notin (test,prod)", False),
        ("other notin (test)", True),
        ("env=prod,example.com/my=label", True),
        ("env in (prod),!tier", True),
        ("env=prod,tier", False),
    ],
)
def test_the_whole_grammar_of_selectors_is_understood(selector: str, fits: bool) -> None:
    assert fits == selects(selector)({"env": "prod", "example.com/my": "label"})


def test_what_is_no_selector_is_refused() -> None:
    with pytest.raises(Refused):
        selects("env=prod,,")


def test_pages_tell_where_the_others_are() -> None:
    caller = Caller()
    for name in "abcde":
        caller.create(name=name)
    response = caller.send("GET", "/servers", page=["2"], per_page=["2"])
    pagination = json.loads(response.content)["meta"]["pagination"]

    assert {
        "page": 2,
        "per_page": 2,
        "previous_page": 1,
        "next_page": 3,
        "last_page": 3,
        "total_entries": 5,
    } == pagination
    assert 'page=3&per_page=2>; rel="next"' in response.headers["Link"]


def test_actions_take_their_time_and_lock_their_server() -> None:
    caller = Caller()
    made = caller.create()
    ids = [str(made["action"]["id"]), str(made["next_actions"][0]["id"])]

    def seen() -> list[tuple[str, str, bool]]:
        actions = caller.told("GET", "/actions", id=ids)["actions"]
        return [(a["command"], a["status"], a["progress"] == 100) for a in actions]

    assert [("create_server", "running", False), ("start_server", "running", False)] == seen()
    assert "locked" == caller.told("POST", f"/servers/{made['server']['id']}/actions/reboot")["error"]["code"]
    caller.clock.advance(12)
    assert [("create_server", "success", True), ("start_server", "running", False)] == seen()
    caller.clock.advance(20)
    assert [("create_server", "success", True), ("start_server", "success", True)] == seen()
    assert not caller.told("GET", f"/servers/{made['server']['id']}")["server"]["locked"]


def test_actions_are_listed_only_by_their_ids() -> None:
    assert "invalid_input" == Caller().told("GET", "/actions")["error"]["code"]


def test_what_repeats_in_a_query_is_any_of_it() -> None:
    caller = Caller()
    caller.create(name="a")
    caller.create(name="b", start_after_create=False)
    caller.clock.advance(60)

    def names(*status: str) -> list[str]:
        return [s["name"] for s in caller.told("GET", "/servers", status=[*status], sort=["name:desc"])["servers"]]

    assert ["b", "a"] == names("running", "off")
    assert ["b"] == names("off")


def test_references_are_ids_in_numbers_or_texts_or_names() -> None:
    caller = Caller()
    key = caller.told("POST", "/ssh_keys", {"name": "team", "public_key": "ssh-ed25519 AAAA me"})["ssh_key"]
    for at, reference in enumerate(("team", key["id"], str(key["id"]))):
        made = caller.create(name=f"s{at}", ssh_keys=[reference], server_type="109", image="161547269", location="1")
        assert made["root_password"] is None


def test_every_answer_tells_what_is_left_of_the_hour() -> None:
    caller = Caller()
    left = [int(caller.send("GET", "/servers").headers["RateLimit-Remaining"]) for _ in range(3)]

    assert [3599, 3598, 3597] == left
    assert caller.send("GET", "/servers").headers["X-Correlation-Id"]


def test_names_are_unique_until_they_are_free_again() -> None:
    caller = Caller()
    made = caller.create()

    assert "uniqueness_error" == caller.create()["error"]["code"]
    caller.clock.advance(60)
    caller.told("DELETE", f"/servers/{made['server']['id']}")
    caller.clock.advance(60)
    assert "server" in caller.create()


def test_a_server_on_its_way_out_is_deleting_and_then_not_there() -> None:
    caller = Caller(delete_seconds=10)
    made = caller.create()
    caller.clock.advance(60)
    path = f"/servers/{made['server']['id']}"
    caller.told("DELETE", path)

    assert "deleting" == caller.told("GET", path)["server"]["status"]
    assert ["deleting"] == [each["status"] for each in caller.told("GET", "/servers")["servers"]]
    assert 423 == caller.send("DELETE", path).status
    caller.clock.advance(10)
    assert 404 == caller.send("GET", path).status


def test_a_placement_group_takes_ten() -> None:
    caller = Caller()
    group = caller.told("POST", "/placement_groups", {"name": "g", "type": "spread"})["placement_group"]
    made = [caller.create(name=f"s{n}", placement_group=group["id"]) for n in range(11)]

    assert "placement_error" == made[-1]["error"]["code"]
    assert 10 == len(caller.told("GET", f"/placement_groups/{group['id']}")["placement_group"]["servers"])


def test_begun_hours_are_billed_up_to_a_cap_off_or_not() -> None:
    caller = Caller()
    caller.create()
    (thing,) = caller.world.ledger
    bill = caller.desk.types["hetzner"].bill

    def billed(hours: float) -> float:
        caller.clock.advance(hours * 3600 - thing.age(caller.world.time.now()))
        return round(float(bill(thing, caller.world.time.now())), 4)

    assert [0.0112, 0.0112, 0.0224] == [billed(0.1), billed(1), billed(1.5)]
    assert round(624 * 0.0112, 4) == billed(729)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"name": "under_score"}, "name"),
        ({"labels": {"a b": "c"}}, "labels"),
        ({"labels": {"a": "-"}}, "labels"),
        ({"labels": {"hetzner.cloud/x": "y"}}, "labels"),
        ({"user_data": "x" * 40000}, "user_data"),
        ({"server_type": None}, "server_type"),
        ({"datacenter": "fsn1-dc14"}, "datacenter"),
    ],
)
def test_a_wrong_field_is_named(wrong: dict[str, Any], field: str) -> None:
    error = Caller().create(**wrong)["error"]

    assert ("invalid_input", field) == (error["code"], error["details"]["fields"][0]["name"])
