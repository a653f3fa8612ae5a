"""Rehearsals with the installed command: `gpuplan emulate` in one process, everything else in others."""

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

COMMAND = str(Path(sys.executable).with_name("gpuplan"))
PATIENCE_SECONDS = 60
SPEC = """\
version: 1
project: rehearsal
providers:
  vultr: {}
ssh_keys:
  team:
    provider: vultr
    public_key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGpBYoKqHmF3jr7xkmI9YvNMM2bIXcSJ8vMfQ2vFKq1t team@example.com
clusters:
  train:
    provider: vultr
    nodes: 2
    gpu: A100-80GB
    region: ewr
    image: Ubuntu 24.04 LTS x64
    ssh_keys: ["${ssh_keys.team}"]
"""
ACCOUNTS = """\
version: 1
project: rehearsal
providers:
  vultr: {{endpoint: "{endpoint}"}}
  spare: {{type: vultr, key_env: NOBODY_SET_THIS, endpoint: "{endpoint}"}}
"""


@dataclass(frozen=True)
class Done:
    status: int
    out: str
    note: str


@dataclass(frozen=True)
class User:
    """Somebody's home on this machine, with a project in it."""

    folder: Path
    environ: Mapping[str, str] = field(default_factory=dict)

    def gpuplan(self, *arguments: str, status: int = 0) -> Done:
        done = subprocess.run(
            [COMMAND, *arguments],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder), **self.environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )
        assert status == done.returncode, f"{arguments}\n{done.stdout}\n{done.stderr}"
        return Done(done.returncode, done.stdout, done.stderr)

    def write(self, text: str) -> None:
        (self.folder / "gpuplan.yaml").write_text(text)

    def lose_the_state(self) -> None:
        shutil.rmtree(self.folder / "state")


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a running `gpuplan emulate`, ended with Ctrl-C."""
    command = [COMMAND, "emulate", "--providers", "vultr", "--port", "0", "--speed", "600", "--json"]
    with subprocess.Popen(command, cwd=tmp_path_factory.mktemp("emulate"), stdout=subprocess.PIPE, text=True) as served:
        try:
            assert served.stdout is not None
            announced = json.loads(served.stdout.readline())
            assert ["vultr"] == announced["providers"]
            yield announced["url"]
            served.send_signal(signal.SIGINT)
            assert 0 == served.wait(PATIENCE_SECONDS)
        finally:
            served.kill()


@pytest.fixture
def user(tmp_path: Path, emulator: str) -> User:
    ask(emulator, "POST", "reset", {})
    ask(emulator, "POST", "clock", {"speed": 600})
    user = User(tmp_path, {"GPUPLAN_EMULATOR": emulator})
    user.write(SPEC)
    return user


def ask(url: str, method: str, call: str, body: Mapping[str, object] | None = None) -> Any:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE_SECONDS)
    try:
        connection.request(method, f"/_emulator/{call}", None if body is None else json.dumps(body))
        answer = connection.getresponse().read()
        return json.loads(answer) if answer else None
    finally:
        connection.close()


def living(url: str) -> list[str]:
    objects = ask(url, "GET", "ledger")["objects"]
    return sorted(each["kind"] for each in objects if each["deleted_at"] is None)


def test_a_rehearsal_ends_with_nothing_living_and_never_had_the_state_of_the_real_thing(
    user: User, emulator: str
) -> None:
    planned = user.gpuplan("plan", "--detailed-exitcode", status=2).out
    applied = user.gpuplan("apply", "--auto-approve").out
    assert ["node", "node", "ssh_key"] == living(emulator)
    user.gpuplan("plan", "--detailed-exitcode")
    user.gpuplan("drift")
    user.gpuplan("destroy", "--auto-approve")

    assert planned.startswith(
        f"Rehearsal: every HTTP provider is the emulator at {emulator}, the workspace is `default-"
    )
    assert "Apply complete! Resources: 3 added, 0 changed, 0 destroyed." in applied
    assert [] == living(emulator)
    assert ["default-emulator.json"] == [path.name for path in (user.folder / "state").glob("*.json")]


def test_what_a_lost_state_left_behind_is_adopted_and_then_nothing_is_left_to_do(user: User, emulator: str) -> None:
    user.write(SPEC.replace("  vultr: {}\n", "  again: {type: vultr}\n  vultr: {}\n"))
    user.gpuplan("apply", "--auto-approve")
    assert [] == json.loads(user.gpuplan("orphans", "--json").out)
    user.lose_the_state()

    orphans = json.loads(user.gpuplan("orphans", "--json").out)
    user.gpuplan("orphans", "adopt", "clusters.train")
    left = json.loads(user.gpuplan("orphans", "list", "--json").out)
    user.gpuplan("orphans", "adopt", "--all")
    user.gpuplan("plan", "--detailed-exitcode")
    user.gpuplan("destroy", "--auto-approve")

    nodes = [(f"clusters.train.nodes[{number}]", 2.397) for number in range(2)]
    assert [*nodes, ("ssh_keys.team", None)] == [(each["address"], each["price_per_hour"]) for each in orphans]
    assert {"vultr"} == {each["provider"] for each in orphans}
    assert ["ssh_keys.team"] == [each["address"] for each in left]
    assert [] == living(emulator)


def test_orphans_are_destroyed_only_when_it_is_approved(user: User, emulator: str) -> None:
    user.gpuplan("apply", "--auto-approve")
    user.lose_the_state()
    key = next(each["id"] for each in json.loads(user.gpuplan("orphans", "--json").out) if each["kind"] == "ssh_key")

    refused = user.gpuplan("orphans", "destroy", "--all", status=1).note
    unknown = user.gpuplan("orphans", "destroy", "nobody", "--auto-approve", status=1).note
    assert ["node", "node", "ssh_key"] == living(emulator)
    user.gpuplan("orphans", "destroy", key, "--auto-approve")
    assert ["node", "node"] == living(emulator)
    user.gpuplan("orphans", "destroy", "--all", "--auto-approve")

    assert "    gpuplan orphans destroy --all --auto-approve" in refused
    assert "error[no-such-orphan]: no orphan is called `nobody`" in unknown
    assert [] == living(emulator)


def test_an_orphan_that_the_spec_does_not_have_any_more_is_adopted_and_planned_for_deletion(user: User) -> None:
    user.gpuplan("apply", "--auto-approve")
    user.lose_the_state()
    user.write(SPEC[: SPEC.index("clusters:")])

    user.gpuplan("orphans", "adopt", "--all")
    applied = user.gpuplan("apply", "--auto-approve").out
    user.gpuplan("destroy", "--auto-approve")

    assert "Apply complete! Resources: 0 added, 0 changed, 2 destroyed." in applied


def test_cost_is_told_for_every_cluster_and_together(user: User) -> None:
    user.gpuplan("apply", "--auto-approve")
    told = json.loads(user.gpuplan("cost", "--json").out)
    table = user.gpuplan("cost").out.splitlines()
    user.gpuplan("destroy", "--auto-approve")
    afterwards = user.gpuplan("cost").note

    (cluster,) = told["resources"]
    assert ("clusters.train", 2, 4.794, 0) == tuple(
        cluster[name] for name in ("address", "instances", "price_per_hour", "unpriced")
    )
    assert 0 < cluster["accrued_usd"] == told["total"]["accrued_usd"]
    assert ["WHAT", "clusters.train", "total"] == [line.split()[0] for line in table]
    assert "The state has nothing that costs anything.\n" == afterwards


def test_offers_are_a_board_that_can_be_narrowed_and_sorted(user: User) -> None:
    offers = json.loads(user.gpuplan("offers", "--gpu", "A100:1", "--region", "EW", "--json").out)
    by_region = json.loads(user.gpuplan("offers", "--sort", "region", "--limit", "5", "--json").out)
    nothing = user.gpuplan("offers", "--spot").note

    (offer,) = offers
    assert 0 <= offer.pop("age_seconds") < PATIENCE_SECONDS
    assert {
        "provider": "vultr",
        "provider_resource_id": "vcg-a100-12c-120g-80vram",
        "instance_type": "vcg-a100-12c-120g-80vram",
        "gpu_type": "A100-80GB-PCIE",
        "gpu_count": 1,
        "vcpu": 12,
        "ram_gb": 120.0,
        "region": "ewr",
        "pricing_model": "on_demand",
        "price_per_hour": 2.397,
        "stock": "some",
        "spot": False,
        "source": "provider",
    } == offer
    assert 5 == len(by_region)
    assert by_region == sorted(by_region, key=lambda each: (each["region"], each["price_per_hour"]))
    assert "Nothing like this is on offer.\n" == nothing


def test_an_account_that_does_not_answer_is_named_and_the_others_are_shown(user: User, emulator: str) -> None:
    user = User(user.folder, {"VULTR_API_KEY": "mine"})
    user.write(ACCOUNTS.format(endpoint=f"{emulator}/vultr/v2"))

    board = user.gpuplan("offers", "--limit", "1", "--json")
    alone = user.gpuplan("offers", "--provider", "spare", status=1)
    checked = user.gpuplan("providers", "--check", "--json", status=1)
    orphans = user.gpuplan("orphans", status=1)

    assert ["vultr"] == [offer["provider"] for offer in json.loads(board.out)]
    assert ["warning"] == [found["severity"] for found in json.loads(board.note.splitlines()[0])["diagnostics"]]
    assert ("", True) == (alone.out, alone.note.startswith("error[no-credentials]: `spare` has no credentials"))
    works = {each["name"]: (each["ok"], each["problem"]) for each in json.loads(checked.out)}
    assert {"vultr": (True, None), "spare": (False, "no-credentials")} == works
    assert "error[no-credentials]: `spare`" in orphans.note


def test_accounts_that_work_are_told_with_their_id(user: User, emulator: str) -> None:
    (checked,) = json.loads(user.gpuplan("providers", "--check", "--json").out)

    assert ("vultr", True, f"{emulator}/vultr/v2") == (checked["name"], checked["ok"], checked["endpoint"])
    assert checked["account"]


def test_the_state_of_a_rehearsal_is_of_no_use_without_an_emulator(user: User) -> None:
    user.gpuplan("plan", "--out", "rehearsed.plan")
    alone = User(user.folder, {"VULTR_API_KEY": "mine"})

    selected = alone.gpuplan("--workspace", "default-emulator", "plan", status=1).note
    applied = alone.gpuplan("apply", "rehearsed.plan", status=1).note

    assert selected == applied
    assert selected.startswith("error[emulated-workspace]: `default-emulator` cannot be used without an emulator")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--providers", "vulr"], "error[no-emulator]: there is no emulator of `vulr`\n  hint: did you mean `vultr`?"),
        (["--scenario", "gpuplan.yaml"], "error[scenario]: the scenario cannot be played"),
        (["--scenario", "late.yaml"], "  = no emulator of `acme`"),
        (["--scenario", "nothing.yaml"], "error[usage]: `nothing.yaml` cannot be read as a scenario"),
        (["--speed", "0"], "error[usage]: `--speed`: `0` is not a number above 0"),
        (["--port", "65535"], "error[usage]: `--port`: `65535` is not a port below 65535"),
    ],
)
def test_emulate_says_what_it_cannot_serve(user: User, arguments: list[str], message: str) -> None:
    (user.folder / "late.yaml").write_text("events: [{at: 1h, stock: {provider: acme, gpu: H100}}]\n")

    assert message in user.gpuplan("emulate", *arguments, status=1).note


def test_a_port_that_is_taken_is_named(user: User, emulator: str) -> None:
    note = user.gpuplan("emulate", "--port", str(urlsplit(emulator).port), status=1).note

    assert f"error[emulator-port]: the emulators cannot be served at port {urlsplit(emulator).port}" in note


def test_without_the_extra_it_is_said_how_to_install_it(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['uvicorn'] = None; from gpuplan.cli.main import main; sys.exit(main(['emulate']))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)

    assert 1 == done.returncode
    assert "    pip install 'gpuplan[emulator]'" in done.stderr
