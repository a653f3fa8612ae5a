"""`gpuplan serve` over a provider in memory: what it answers, to whom, and how often it looks."""

from collections.abc import Coroutine
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gpuplan.cli.service import service
from gpuplan.core.errors import Unavailable
from gpuplan.core.offers import Offer, Pricing, Stock
from gpuplan.testing.memory import memory_provider
from gpuplan.testing.memory_capabilities import memory_capabilities
from gpuplan.testing.memory_world import Fault, failed
from tests.unit.workflow.town import Town

TOKEN = "s3cret"


class Served:
    """A client of the service, whose clock stands still unless it is moved."""

    def __init__(self, town: Town, token: str = "", *, sells: bool = False) -> None:
        self.town = town
        project = town.project()
        if sells:
            capabilities = memory_capabilities(offers=True)
            kind = replace(
                project.types["memory"],
                open=lambda options, context: memory_provider(town.world, context.block.name, capabilities),
            )
            project = replace(project, types={"memory": kind})
        self._app = service(project, town.clock, look_every_seconds=60, token=token)

    def get(self, *paths: str, apart_seconds: float = 0, **headers: str) -> list[httpx.Response]:
        async def ask() -> list[httpx.Response]:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://served", headers=headers) as client:
                answers = []
                for path in paths:
                    answers.append(await client.get(path))
                    await self.town.clock.sleep(apart_seconds)
                return answers

        work: Coroutine[Any, Any, list[httpx.Response]] = ask()
        return self.town.run(work)

    def json(self, path: str) -> Any:
        (answer,) = self.get(path)
        assert 200 == answer.status_code, answer.text
        return answer.json()

    def metrics(self) -> dict[str, dict[tuple[str, ...], float]]:
        """By name, and by the values of the labels in the order of their names."""
        (answer,) = self.get("/metrics")
        found: dict[str, dict[tuple[str, ...], float]] = {}
        for family in text_string_to_metric_families(answer.text):
            for sample in family.samples:
                found.setdefault(sample.name, {})[tuple(value for _, value in sorted(sample.labels.items()))] = (
                    sample.value
                )
        return found


@pytest.fixture
def town(tmp_path: Path) -> Town:
    town = Town(tmp_path)
    town.apply()
    return town


def test_resources_have_the_fields_that_schedulers_read(town: Town) -> None:
    offer = Offer(
        provider="memory",
        ref="m-1",
        region="EU-1",
        gpu="L40S",
        gpu_count=2,
        pricing=Pricing.ON_DEMAND,
        price_per_hour=Decimal("1.5"),
        seen_at=town.clock.now(),
        cpu=16,
        memory_gb=64,
        stock=Stock.SOME,
    )
    town.world.offers = (offer,)

    (resource,) = Served(town, sells=True).json("/provider/resources?provider=memory")["resources"]

    expected = {
        "provider": "memory",
        "provider_resource_id": "m-1",
        "gpu_type": "L40S",
        "gpu_count": 2,
        "vcpu": 16,
        "ram_gb": 64,
        "region": "EU-1",
        "pricing_model": "on_demand",
        "price_per_hour": 1.5,
    }
    assert expected == {name: resource[name] for name in expected}


def test_the_inventory_names_every_account_and_what_it_can_do(town: Town) -> None:
    (account,) = Served(town).json("/inventory/providers")["providers"]

    assert ("memory", "local") == (account["name"], account["kind"])
    assert account["capabilities"]["stop_start"] is True


def test_the_state_is_told_without_secrets(town: Town) -> None:
    (answer,) = Served(town).get("/state")

    assert 2 == len(answer.json()["instances"])
    assert "hunter2" not in answer.text


def test_drift_is_looked_for_once_for_all_who_ask_within_a_minute(town: Town) -> None:
    served = Served(town)
    before = town.world.count("list")

    served.get("/drift", "/metrics", "/drift", apart_seconds=10)
    assert before + 1 == town.world.count("list")

    served.get("/drift", apart_seconds=60)
    served.get("/drift")
    assert before + 2 == town.world.count("list")


def test_drift_is_the_document_of_the_command(town: Town) -> None:
    town.world.vanish(next(iter(town.world.objects)))

    document = Served(town).json("/drift")

    assert document["drifted"] is True
    assert ["missing"] == [item["kind"] for item in document["drift"]]


def test_metrics_count_instances_drift_and_cost(town: Town) -> None:
    town.world.stop(next(iter(town.world.objects)))

    told = Served(town).metrics()

    assert {("node", "ready", "memory", "clusters.train"): 2.0} == told["gpuplan_instances"]
    assert 1.0 == told["gpuplan_drift"]["stopped",]
    assert {(): 1.0} == told["gpuplan_look_succeeded"]
    assert {(): 1.0} == told["gpuplan_state_serial"]


def test_a_scrape_in_bad_weather_tells_what_is_recorded(town: Town) -> None:
    town.world.script = lambda call: Fault(failed(Unavailable, call)) if call.verb in ("list", "health") else None

    told = Served(town).metrics()

    assert {("node", "ready", "memory", "clusters.train"): 2.0} == told["gpuplan_instances"]
    assert 1.0 == told["gpuplan_drift"]["unreachable",]


def test_an_unknown_account_is_refused_in_words(town: Town) -> None:
    (answer,) = Served(town).get("/provider/resources?provider=nobody")

    assert 400 == answer.status_code
    assert "no-such-account" == answer.json()["diagnostics"][0]["id"]


def test_a_spec_that_broke_is_told_as_on_the_command_line(town: Town) -> None:
    served = Served(town)
    town.write("gpuplan.yaml", "project: [")

    (answer,) = served.get("/inventory/providers")

    assert 500 == answer.status_code
    assert answer.json()["diagnostics"]


@pytest.mark.parametrize("path", ["/state", "/metrics", "/drift", "/nowhere"])
def test_nobody_gets_in_without_the_token(town: Town, path: str) -> None:
    served = Served(town, TOKEN)

    refused, wrong = served.get(path)[0], served.get(path, Authorization="Bearer other")[0]

    assert [401, 401] == [refused.status_code, wrong.status_code]
    assert "Bearer" == refused.headers["WWW-Authenticate"]


def test_the_token_opens_everything_and_health_needs_none(town: Town) -> None:
    served = Served(town, TOKEN)

    assert 200 == served.get("/state", Authorization=f"Bearer {TOKEN}")[0].status_code
    assert 200 == served.get("/healthz")[0].status_code


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_changed_by_asking(town: Town, method: str) -> None:
    served = Served(town)

    async def ask() -> int:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(served._app), base_url="http://served") as client:
            return (await client.request(method, "/state")).status_code

    assert 405 == town.run(ask())
