"""The emulated Lambda, asked as its documentation says, in process."""

import base64
import json
from typing import Any

import pytest

from gpuplan.core.values import JsonValue
from gpuplan.emulators.catalog import emulator_types
from gpuplan.emulators.control import ledger
from gpuplan.emulators.desk import Desk
from gpuplan.emulators.http import Request
from gpuplan.emulators.world import World
from gpuplan.testing.clock import FakeClock

LAUNCH, TERMINATE = "POST /instance-operations/launch", "POST /instance-operations/terminate"
ASK: dict[str, JsonValue] = {
    "region_name": "us-west-1",
    "instance_type_name": "gpu_1x_a10",
    "ssh_key_names": ["team"],
}


class Caller:
    """Someone with a key, and the world behind."""

    def __init__(self, **knobs: JsonValue) -> None:
        self.world = World(FakeClock())
        self.world.knobs["lambda"].update({"rate_limited": False, "launch_limited": False, **knobs})
        self.desk = Desk(self.world, emulator_types(["lambda"]))
        self.ask("POST /ssh-keys", {"name": "team", "public_key": "ssh-ed25519 AAAA me"})

    def ask(self, what: str, body: JsonValue = None, *, proof: str = "Bearer k") -> tuple[int, Any]:
        method, path = what.split()
        content = b"" if body is None else json.dumps(body).encode()
        headers = {"authorization": proof, "content-type": "application/json"}
        response = self.desk.answer(Request(method, f"/lambda/api/v1{path}", {}, headers, content)).response
        return response.status, response.body

    def launch(self, **more: JsonValue) -> tuple[int, Any]:
        return self.ask(LAUNCH, {**ASK, **more})

    def launched(self, **more: JsonValue) -> str:
        status, body = self.launch(**more)
        assert 200 == status, body
        return str(body["data"]["instance_ids"][0])

    def look(self, id: str) -> Any:
        return self.ask(f"GET /instances/{id}")[1]["data"]

    def code(self, what: str, body: JsonValue = None) -> tuple[int, str]:
        status, answer = self.ask(what, body)
        return status, answer["error"]["code"]


@pytest.mark.parametrize(
    "proof",
    ["Bearer k", f"Basic {base64.b64encode(b'k:').decode()}", "Basic k"],
)
def test_a_key_is_a_bearer_token_or_a_user_name(proof: str) -> None:
    caller = Caller()

    assert ["team"] == [key["name"] for key in caller.ask("GET /ssh-keys", proof=proof)[1]["data"]]


@pytest.mark.parametrize("proof", ["", "Bearer wrong", "Digest k"])
def test_another_proof_is_refused(proof: str) -> None:
    status, body = Caller().ask("GET /instances", proof=proof)

    assert (401, "global/invalid-api-key") == (status, body["error"]["code"])
    assert body["error"]["suggestion"]


def test_keys_that_have_no_value_yet_are_not_there() -> None:
    caller = Caller()
    id = caller.launched()
    young = caller.look(id)
    caller.world.time.advance(600)
    grown = caller.look(id)

    assert not {"ip", "private_ip", "jupyter_token", "name", "tags", "firewall_rulesets"} & young.keys()
    assert {"ip", "private_ip", "jupyter_token", "jupyter_url"} <= grown.keys()


def test_actions_go_with_the_status() -> None:
    caller = Caller()
    id = caller.launched()
    booting = caller.look(id)["actions"]
    caller.ask(TERMINATE, {"instance_ids": [id]})
    leaving = caller.look(id)["actions"]

    assert "vm-has-not-launched" == booting["restart"]["reason_code"]
    assert booting["terminate"]["available"]
    assert {"vm-is-terminating"} == {action["reason_code"] for action in leaving.values()}


def test_a_terminated_instance_leaves_the_list_first_and_then_altogether() -> None:
    caller = Caller(terminate_seconds=30, terminated_seconds=60)
    id = caller.launched()
    caller.ask(TERMINATE, {"instance_ids": [id]})
    listed, words = [], []
    for _ in range(2):
        listed.append([each["status"] for each in caller.ask("GET /instances")[1]["data"]])
        words.append(caller.look(id)["status"])
        caller.world.time.advance(45)
    caller.world.time.advance(60)

    assert [["terminating"], []] == listed
    assert ["terminating", "terminated"] == words
    assert (404, "global/object-does-not-exist") == caller.code(f"GET /instances/{id}")


def test_one_unknown_id_fails_the_whole_terminate() -> None:
    caller = Caller()
    id = caller.launched()

    assert (404, "global/object-does-not-exist") == caller.code(TERMINATE, {"instance_ids": [id, "0" * 32]})
    assert "booting" == caller.look(id)["status"]


@pytest.mark.parametrize(
    "more",
    [
        {"ssh_key_names": []},
        {"ssh_key_names": ["team", "team"]},
        {"quantity": 2},
        {"region_name": None},
        {"name": "x" * 65},
        {"hostname": "-x"},
        {"tags": [{"key": "a_b", "value": "x"}]},
        {"tags": [{"key": "ab", "value": "x" * 129}]},
        {"tags": ["ab"]},
        {"user_data": "x" * 1_000_001},
        {"image": "ubuntu-24-04"},
        {"file_system_mounts": [{"file_system_id": "1", "mount_point": "/mnt"}]},
    ],
)
def test_a_launch_is_checked(more: dict[str, JsonValue]) -> None:
    caller = Caller()

    assert (400, "global/invalid-parameters") == caller.code(LAUNCH, {**ASK, **more})
    assert not caller.world.living["lambda", "node"]


@pytest.mark.parametrize(
    "more",
    [
        {"ssh_key_names": ["nobody"]},
        {"region_name": "mars-1"},
        {"instance_type_name": "gpu_9x_z"},
        {"file_system_names": ["nothing"]},
        {"image": {"family": "windows"}},
        {"firewall_rulesets": [{"id": "0"}]},
    ],
)
def test_what_a_launch_names_must_exist(more: dict[str, JsonValue]) -> None:
    assert (404, "global/object-does-not-exist") == Caller().code(LAUNCH, {**ASK, **more})


def test_x86_images_do_not_boot_where_arm64_is() -> None:
    caller = Caller()
    gh200: dict[str, JsonValue] = {"instance_type_name": "gpu_1x_gh200", "region_name": "us-east-3"}

    assert 404 == caller.launch(**gh200, image={"family": "gpu-base-24-04"})[0]
    assert 200 == caller.launch(**gh200, image={"family": "lambda-stack-24-04"})[0]


def test_a_quantity_of_one_is_still_accepted() -> None:
    assert 200 == Caller().launch(quantity=1)[0]


def test_five_launches_in_a_minute_and_no_more() -> None:
    caller = Caller(launch_limited=True)

    assert [200] * 5 + [429] == [caller.launch()[0] for _ in range(6)]


@pytest.mark.parametrize(
    ("knob", "value", "refused"),
    [
        ("account_active", False, (403, "global/account-inactive")),
        ("billing_address_valid", False, (403, "global/invalid-address")),
        ("instance_limit", 0, (400, "global/quota-exceeded")),
    ],
)
def test_an_account_may_be_in_the_way(knob: str, value: JsonValue, refused: tuple[int, str]) -> None:
    caller = Caller()
    caller.world.knobs["lambda"][knob] = value

    assert refused == caller.code(LAUNCH, ASK)


def test_it_bills_by_the_minute_from_active_until_terminate() -> None:
    caller = Caller(boot_seconds=300)
    id = caller.launched()
    caller.world.time.advance(300)
    free = billed(caller)
    caller.world.time.advance(90)
    caller.ask(TERMINATE, {"instance_ids": [id]})
    caller.world.time.advance(3600)

    assert 0 == free
    assert pytest.approx(0.75 * 2 / 60, abs=1e-6) == billed(caller)


def billed(caller: Caller) -> float:
    rows = ledger(caller.world, caller.desk.types, "lambda")
    return float(next(row["billed_usd"] for row in rows if row["kind"] == "node"))


def test_the_ledger_reads_the_mark_out_of_tags() -> None:
    caller = Caller()
    marks = {"gpuplan-token": "t0000000000000000001", "gpuplan-address": "clusters.train.nodes[0]"}
    caller.launched(tags=[{"key": key, "value": value} for key, value in marks.items()])
    rows = ledger(caller.world, caller.desk.types, "lambda")

    (node,) = (row for row in rows if row["kind"] == "node")
    assert list(marks.values()) == [node["token"], node["address"]]


def test_only_the_name_of_an_instance_can_be_changed() -> None:
    caller = Caller()
    id = caller.launched(name="old", hostname="host")
    caller.ask(f"POST /instances/{id}", {"name": "new", "hostname": "other"})

    assert ("new", "host") == (caller.look(id)["name"], caller.look(id)["hostname"])


def test_a_restart_takes_an_active_instance() -> None:
    caller = Caller()
    id = caller.launched()
    restart = "POST /instance-operations/restart"

    assert (409, "global/conflict") == caller.code(restart, {"instance_ids": [id]})
    caller.world.time.advance(600)
    assert 200 == caller.ask(restart, {"instance_ids": [id]})[0]


def test_a_key_without_a_text_is_generated_and_its_private_half_shown_once() -> None:
    caller = Caller()
    made = caller.ask("POST /ssh-keys", {"name": "fresh"})[1]["data"]

    assert made["private_key"]
    assert all("private_key" not in key for key in caller.ask("GET /ssh-keys")[1]["data"])


@pytest.mark.parametrize(
    "rule",
    [
        {"protocol": "tcp", "source_network": "0.0.0.0/0"},
        {"protocol": "icmp", "source_network": "0.0.0.0/0", "port_range": [1, 2]},
        {"protocol": "tcp", "source_network": "::/0", "port_range": [1, 2]},
        {"protocol": "tcp", "source_network": "0.0.0.0/0", "port_range": [0, 2]},
        {"protocol": "tcp", "source_network": "0.0.0.0/0", "port_range": [3, 2]},
        {"protocol": "gre", "source_network": "0.0.0.0/0", "port_range": [1, 2]},
    ],
)
def test_a_firewall_rule_is_checked(rule: JsonValue) -> None:
    body: JsonValue = {"name": "web", "region": "us-east-1", "rules": [rule]}

    assert (400, "global/invalid-parameters") == Caller().code("POST /firewall-rulesets", body)


def test_the_account_wide_firewall_put_replaces_everything() -> None:
    caller = Caller()
    rule: JsonValue = {"protocol": "tcp", "port_range": [80, 80], "source_network": "10.0.0.1", "description": ""}
    caller.ask("PUT /firewall-rules", {"data": [rule]})

    (kept,) = caller.ask("GET /firewall-rulesets/global")[1]["data"]["rules"]
    assert ("10.0.0.1/32", [80, 80]) == (kept["source_network"], kept["port_range"])
    assert [kept] == caller.ask("GET /firewall-rules")[1]["data"]


def test_filesystems_answer_under_the_right_spelling_only() -> None:
    caller = Caller()

    assert (404, "global/not-found") == caller.code("GET /filesystems")
    assert (404, "global/not-found") == caller.code("POST /file-systems", {"name": "a", "region": "us-east-1"})
