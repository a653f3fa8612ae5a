"""One spec over every provider type that has an emulator: plan, apply, drift, change, destroy by the installed command.

A type joins by its contract: what the conformance kit asks of it is what the spec asks of it here.
"""

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from gpuplan.core.desired import Kind
from gpuplan.emulators.catalog import emulator_names
from gpuplan.testing.catalog import contract, contract_names
from gpuplan.testing.specs import crowded_knobs, sample_spec

COMMAND = str(Path(sys.executable).with_name("gpuplan"))
PATIENCE_SECONDS = 100
NODES = 3
TYPES = sorted(set(emulator_names()) & set(contract_names()))
CONTRACTS = [contract(name) for name in TYPES]


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[str]:
    """The URL of emulators of all types, ended with Ctrl-C."""
    command = [COMMAND, "emulate", "--providers", ",".join(TYPES), "--port", "0", "--speed", "120", "--json"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as served:
        try:
            assert served.stdout is not None
            url: str = json.loads(served.stdout.readline())["url"]
            for name, tried in zip(TYPES, CONTRACTS, strict=True):
                ask(url, "POST", "knobs", {"provider": name, **crowded_knobs(tried, 2 * NODES)})
            yield url
            served.send_signal(signal.SIGINT)
            assert 0 == served.wait(PATIENCE_SECONDS)
        finally:
            served.kill()


def ask(url: str, method: str, call: str, body: Mapping[str, object] | None = None) -> Any:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE_SECONDS)
    try:
        connection.request(method, f"/_emulator/{call}", None if body is None else json.dumps(body))
        answer = connection.getresponse().read()
        return json.loads(answer) if answer else None
    finally:
        connection.close()


def living(url: str) -> list[dict[str, Any]]:
    objects: list[dict[str, Any]] = ask(url, "GET", "ledger")["objects"]
    return [each for each in objects if each["deleted_at"] is None]


class User:
    def __init__(self, folder: Path, emulator: str) -> None:
        self.folder = folder
        self._environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "GPUPLAN_EMULATOR": emulator}

    def wants(self, *, nodes: int, changed: bool) -> None:
        (self.folder / "gpuplan.yaml").write_text(sample_spec(CONTRACTS, nodes=nodes, changed=changed))

    def gpuplan(self, *arguments: str, status: int = 0) -> str:
        done = subprocess.run(
            [COMMAND, *arguments],
            cwd=self.folder,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )
        assert status == done.returncode, f"{arguments}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def test_one_spec_over_all_types_is_planned_applied_changed_and_destroyed(tmp_path: Path, emulator: str) -> None:
    user = User(tmp_path, emulator)
    user.wants(nodes=NODES, changed=False)
    expected = sum(NODES if kind is Kind.NODE else 1 for tried in CONTRACTS for kind in tried.asks)

    assert f"Plan: {expected} to add, 0 to change, 0 to destroy." in user.gpuplan(
        "plan", "--detailed-exitcode", status=2
    )
    assert f"Apply complete! Resources: {expected} added" in user.gpuplan("apply", "--auto-approve")
    assert "No changes." in user.gpuplan("plan", "--detailed-exitcode")
    user.gpuplan("drift")

    # A group makes up for what it loses by itself.
    made_singly = {name for name, tried in zip(TYPES, CONTRACTS, strict=True) if Kind.NODE in tried.asks}
    nodes = [each for each in living(emulator) if each["kind"] == "node" and each["provider"] in made_singly]
    lost = {each["provider"]: each["id"] for each in nodes}
    for id in lost.values():
        ask(emulator, "POST", f"nodes/{id}", {"vanish": True})
    drift = json.loads(user.gpuplan("drift", "--format", "json", status=2))
    assert set(lost) == {item["provider"] for item in drift["drift"]}
    assert f"Apply complete! Resources: {len(lost)} added" in user.gpuplan("apply", "--auto-approve")

    user.wants(nodes=NODES + 1, changed=True)
    user.gpuplan("plan", "--detailed-exitcode", status=2)
    user.gpuplan("apply", "--auto-approve")
    assert "No changes." in user.gpuplan("plan", "--detailed-exitcode")

    user.gpuplan("destroy", "--auto-approve")
    assert [] == living(emulator)
