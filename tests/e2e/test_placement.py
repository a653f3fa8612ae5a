"""Placement where it counts: real adapters, real sockets, three markets that run dry while nodes are created."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import pytest

from gpuplan.core.events import Event, OperationProgress
from gpuplan.core.plan import Plan, PlanOptions
from gpuplan.engine.outcome import Limits, Stop
from gpuplan.plan.offers import KEPT
from gpuplan.testing.emulated import Emulated, emulated
from gpuplan.testing.hurried import HurriedClock
from gpuplan.workflow.applying import Applied, Run, apply_project
from gpuplan.workflow.planning import Planned, plan_project
from gpuplan.workflow.project import Project

TYPES = ("vast", "runpod", "lambda")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGpBYoKqHmF3jr7xkmI9YvNMM2bIXcSJ8vMfQ2vFKq1t team@example.com"
CEILING = Decimal("3.35")
DROUGHT = f"""\
version: 1
project: drought
providers: {{vast: {{}}, runpod: {{}}, lambda: {{}}}}
ssh_keys: {{team: {{public_key: "{KEY}"}}}}
clusters:
  train:
    nodes: 6
    gpu: H100-80GB:1
    ssh_keys: ["${{ssh_keys.team}}"]
    placement:
      any_of:
        - {{provider: lambda}}
        - {{provider: runpod, image: "pytorch/pytorch:2.8.0", disk_gb: 40}}
        - {{provider: vast, image: "pytorch/pytorch:2.8.0", disk_gb: 40}}
      objective: cheapest
      max_price: {CEILING}
"""
SPOT = """\
version: 1
project: spot
providers: {vast: {}}
clusters:
  train: {provider: vast, nodes: 3, gpu: RTX4090:2, disk_gb: 40, spot: {max_price: 1.00, fallback: true}}
"""


@dataclass
class Team:
    """A project whose providers are all emulated, on a clock that runs with them."""

    folder: Path
    clock: HurriedClock
    market: Emulated
    events: list[Event] = field(default_factory=list)

    @property
    def project(self) -> Project:
        return Project(self.folder, emulator=self.market.url, workspace="default-emulator")

    def write(self, spec: str) -> None:
        (self.folder / "gpuplan.yaml").write_text(spec)

    def plan(self) -> Plan:
        planned = plan_project(self.project, PlanOptions(), clock=self.clock, emit=self.events.append)
        return asyncio.run(planned).plan

    def apply(self, *, meanwhile: object = None) -> Applied:
        """`meanwhile` happens after the plan was made, before anything is created."""

        async def approve(planned: Planned) -> bool:
            if callable(meanwhile):
                await asyncio.to_thread(meanwhile)
            return True

        run = Run(self.clock, self.events.append, approve, Limits(), Stop())
        return asyncio.run(apply_project(self.project, PlanOptions(), run))

    def progress(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, OperationProgress)]


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Team]:
    clock = HurriedClock()
    with emulated(clock, TYPES) as market:
        yield Team(tmp_path, clock, market)


def nodes(team: Team) -> Counter[str]:
    return Counter(row["provider"] for row in team.market.living(kind="node"))


def test_when_markets_run_dry_every_node_is_where_there_still_was_one_and_no_price_passes_the_ceiling(
    team: Team,
) -> None:
    team.write(DROUGHT)

    def drought() -> None:
        team.market.stock(provider="vast", gpu="H100-80GB-SXM", available=2)
        team.market.stock(provider="runpod", gpu="H100-80GB-SXM", available=1)

    applied = team.apply(meanwhile=drought)

    assert applied.outcome is not None
    assert [] == [failed.error for failed in applied.outcome.failed]
    assert {"vast": 2, "runpod": 1, "lambda": 3} == nodes(team)
    prices = [
        record.facts.get("price_per_hour") for record in applied.state.instances.values() if record.kind == "node"
    ]
    assert all(isinstance(price, float) and price <= CEILING for price in prices)
    assert_reasons_are_true(applied.planned.plan)
    assert_moves_rise(team.progress())
    assert () == team.plan().operations


def assert_reasons_are_true(plan: Plan) -> None:
    """Of every rejected offer its reason holds, and of those kept none is cheaper than one before it."""
    for change in plan.changes.values():
        kept = [place.offer.price_per_hour for place in change.places if place.offer and not place.rejected]
        assert kept == sorted(kept)
        for place in change.places:
            if place.rejected.startswith("above"):
                assert place.offer is not None
                assert place.offer.price_per_hour is not None
                assert place.offer.price_per_hour > CEILING
    (lambdas,) = {
        place.rejected
        for change in plan.changes.values()
        for place in change.places
        if place.candidate.provider == "lambda" and place.rejected.startswith("above")
    }
    assert lambdas.startswith(f"above {CEILING} USD per hour")


def assert_moves_rise(texts: list[str]) -> None:
    """Each attempt says where it goes on to and at what price, and never to a cheaper place than it comes from."""
    moves = [text.partition(": trying ")[2] for text in texts if ": trying " in text]
    assert moves
    for move in moves:
        following, before = (Decimal(part.partition(" at ")[2].split()[0]) for part in move.split(", after "))
        assert before <= following <= CEILING


def rented(team: Team) -> Counter[str]:
    """The nodes that were rented, by how: a bid has a price."""
    return Counter(
        "spot" if "price" in exchange.request.json() else "on-demand"
        for exchange in team.market.exchanges
        if exchange.request.method == "PUT" and "/asks/" in exchange.request.path and exchange.response.status == 200
    )


def test_spot_nodes_come_first(team: Team) -> None:
    team.write(SPOT)

    team.apply()

    assert {"spot": 3} == rented(team)
    assert () == team.plan().operations


def test_where_spot_is_too_dear_on_demand_nodes_are_planned_in_its_place(team: Team) -> None:
    team.market.stock(provider="vast", gpu="RTX4090", spot_price=1.50)
    team.write(SPOT)

    applied = team.apply()

    assert {"on-demand": 3} == rented(team)
    (change, *_) = applied.planned.plan.changes.values()
    assert any(place.rejected.startswith("above 1.0 USD per hour") for place in change.places)
    assert () == team.plan().operations


def test_where_no_spot_node_is_left_while_creating_on_demand_nodes_take_their_place(team: Team) -> None:
    team.write(SPOT.replace("nodes: 3", "nodes: 1"))
    team.market.fault("status", provider="vast", method="PUT", route="*/asks/*", times=KEPT, status=410)

    applied = team.apply()

    assert applied.outcome is not None
    assert [] == [failed.error for failed in applied.outcome.failed]
    assert {"on-demand": 1} == rented(team)
    assert () == team.plan().operations


def test_a_plan_that_changes_nothing_asks_no_market(team: Team) -> None:
    team.write(SPOT)
    team.apply()
    team.market.forget_calls()

    assert team.plan().is_empty

    asked = [(call["method"], call["route"]) for call in team.market.calls()]
    assert [] == [call for call in asked if "bundles" in call[1] or "catalog" in call[1]]
    assert len(asked) <= 3
