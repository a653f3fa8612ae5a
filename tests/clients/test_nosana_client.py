"""Nosana's own kit for programmers, `@nosana/kit`, takes the emulator for the real thing.

It comes from npm, into a folder of this run. On a machine without Node.js and npm, or that does not reach the registry,
no client but our own judges the emulator of `nosana`: the tests say so, and prove nothing.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gpuplan.testing.emulated import Emulated, emulated
from gpuplan.testing.hurried import HurriedClock

PACKAGE = "@nosana/kit@2.1.8"
RUNTIMES = ["node" if shutil.which("node") and shutil.which("npm") else "no Node.js"]
UNREACHABLE = ("EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ENETUNREACH", "ENOTFOUND", "ETIMEDOUT")
PATIENCE_SECONDS = 100
DRIVER = """
import { createNosanaClient, NosanaNetwork } from "@nosana/kit";
const urls = {backend_url: process.env.URL_OF_NOSANA, client_manager_url: process.env.URL_OF_NOSANA};
const { api } = createNosanaClient(NosanaNetwork.MAINNET, {api: {apiKey: process.env.KEY_OF_NOSANA, ...urls}});
const story = async (api, given) => { STORY };
story(api, JSON.parse(process.env.GIVEN)).then(
  (answer) => console.log(JSON.stringify({answer: answer ?? null})),
  (error) => console.log(JSON.stringify({error: error.message})),
);
"""
H100 = "Crop49jpc7prcgAcS82WbWyGHwbN5GgDym3uFbxxCTZg"
OP = {"type": "container/run", "id": "node", "args": {"image": "ubuntu:24.04", "gpu": True, "expose": [8888]}}
BODY: dict[str, Any] = {
    "name": "head",
    "market": H100,
    "replicas": 1,
    "timeout": 60,
    "strategy": "SIMPLE-EXTEND",
    "job_definition": {"version": "0.1", "type": "container", "meta": {"trigger": "api"}, "ops": [OP]},
}


class Refused(Exception):
    """What the kit throws."""


@dataclass(frozen=True, slots=True)
class Kit:
    """The kit, one process per story."""

    folder: Path
    url: str
    key: str = "nos_test"

    def tell(self, story: str, **given: object) -> Any:
        """What a story in JavaScript returns. It has `api`, and what is `given`."""
        script = self.folder / "story.mjs"
        script.write_text(DRIVER.replace("STORY", story))
        environ = {"URL_OF_NOSANA": self.url, "KEY_OF_NOSANA": self.key, "GIVEN": json.dumps(given)}
        node = shutil.which("node") or "node"
        told = subprocess.run(
            [node, str(script)], env=environ, capture_output=True, text=True, timeout=PATIENCE_SECONDS
        )
        assert 0 == told.returncode, told.stderr
        answer = json.loads(told.stdout)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer["answer"]


@pytest.fixture(scope="module", params=RUNTIMES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """Where the kit is installed; None where it cannot be."""
    if request.param != "node":
        return None
    folder = tmp_path_factory.mktemp("npm")
    command = ["npm", "install", PACKAGE, "--prefix", str(folder), "--no-audit", "--no-fund"]
    installed = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    if installed.returncode != 0 and any(code in installed.stderr for code in UNREACHABLE):
        return None
    assert 0 == installed.returncode, installed.stderr
    return folder


@pytest.fixture
def emulator() -> Iterator[Emulated]:
    with emulated(HurriedClock(), ["nosana"]) as emulator:
        yield emulator


@pytest.fixture
def kit(folder: Path | None, emulator: Emulated, capsys: pytest.CaptureFixture[str]) -> Kit | None:
    """None where there is nothing to try."""
    if folder is None:
        with capsys.disabled():
            print("\nnosana: not judged by `@nosana/kit`, which npm could not install")
        return None
    return Kit(folder, f"{emulator.url}/nosana")


def test_a_deployment_is_created_started_listed_stopped_and_deleted(kit: Kit | None, emulator: Emulated) -> None:
    if kit is None:
        return
    made = kit.tell("const d = await api.deployments.create(given.body); await d.start(); return d", body=BODY)
    emulator.advance(60)
    told = kit.tell(
        """
        const { deployments } = await api.deployments.list({limit: 100, status: "RUNNING,STARTING"});
        const [d] = deployments;
        const { jobs } = await d.getJobs();
        const { events } = await d.getEvents();
        return {id: d.id, jobs, events, header: await d.generateAuthHeader(), endpoints: d.endpoints};
        """
    )
    stopping = kit.tell("const d = await api.deployments.get(given.id); await d.stop(); return d.status", id=made["id"])
    emulator.advance(60)
    kit.tell("const d = await api.deployments.get(given.id); await d.delete()", id=made["id"])

    assert made["id"] == told["id"]
    assert ["RUNNING"] == [job["state"] for job in told["jobs"]]
    assert ["JOB_LIST_CONFIRMED"] == [event["type"] for event in told["events"]]
    assert ["node"] == [endpoint["opId"] for endpoint in told["endpoints"]]
    assert "STOPPING" == stopping
    assert [] == emulator.living()


def test_a_deployment_is_changed_in_place(kit: Kit | None, emulator: Emulated) -> None:
    if kit is None:
        return
    made = kit.tell("const d = await api.deployments.create(given.body); await d.start(); return d", body=BODY)
    emulator.advance(60)
    told = kit.tell(
        """
        const d = await api.deployments.get(given.id);
        await d.updateTimeout(120);
        await d.updateReplicaCount(2);
        await d.createRevision(given.definition);
        const { revisions } = await d.getRevisions();
        return {timeout: d.timeout, replicas: d.replicas, active: d.active_revision, revisions: revisions.length};
        """,
        id=made["id"],
        definition=BODY["job_definition"],
    )

    assert {"timeout": 120, "replicas": 2, "active": 2, "revisions": 2} == told


def test_markets_and_credits_are_read(kit: Kit | None) -> None:
    if kit is None:
        return
    told = kit.tell(
        """
        const markets = await api.markets.list();
        const market = await api.markets.get(given.address);
        return {slugs: markets.map((m) => m.slug), slug: market.slug, balance: await api.credits.balance()};
        """,
        address=H100,
    )

    assert "nvidia-h100" == told["slug"]
    assert {"nvidia-h100", "nvidia-8x-h100", "nvidia-4090"} <= set(told["slugs"])
    assert 100 == told["balance"]["assignedCredits"]


def test_a_job_is_looked_at_extended_and_stopped(kit: Kit | None, emulator: Emulated) -> None:
    if kit is None:
        return
    body = {**BODY, "strategy": "SIMPLE"}
    made = kit.tell("const d = await api.deployments.create(given.body); await d.start(); return d", body=body)
    emulator.advance(60)
    told = kit.tell(
        """
        const d = await api.deployments.get(given.id);
        const { jobs } = await d.getJobs();
        const address = jobs[0].job;
        await api.jobs.extend({address, seconds: 3600});
        const job = await api.jobs.get(address);
        const signature = await api.auth.signMessage("Hello Nosana Node!");
        const stopped = await api.jobs.stop(address);
        return {state: job.state, timeout: job.timeout, signature, delisted: stopped.delisted};
        """,
        id=made["id"],
    )

    assert (1, 7200, False) == (told["state"], told["timeout"], told["delisted"])
    assert told["signature"]


def test_refusals_are_thrown(kit: Kit | None) -> None:
    if kit is None:
        return
    with pytest.raises(Refused, match="Unauthorized"):
        Kit(kit.folder, kit.url, "wrong-key").tell("return await api.deployments.list()")
    with pytest.raises(Refused, match="Deployment not found"):
        kit.tell("return await api.deployments.get(given.id)", id=H100[::-1])
    with pytest.raises(Refused, match="incorrect state"):
        kit.tell(
            """
            const d = await api.deployments.create(given.body);
            const stale = await api.deployments.get(d.id);
            await d.start();
            await stale.start();
            """,
            body=BODY,
        )
