"""Whom a plan asks for offers, and how often."""

from dataclasses import replace
from pathlib import Path

import pytest

from gpuplan.core.errors import RateLimited
from gpuplan.core.offers import OfferQuery
from gpuplan.core.plan import Mode, PlanOptions
from gpuplan.testing.memory_world import Fault, failed
from tests.unit.workflow.market import SPEC, MarketTown


@pytest.fixture
def town(tmp_path: Path) -> MarketTown:
    return MarketTown(tmp_path)


def test_something_new_is_asked_for_once_and_as_narrow_as_it_is_wanted(town: MarketTown) -> None:
    town.apply()

    assert 1 == town.times_asked
    assert [OfferQuery("L4", 1, spot=False, disk_gb=10)] == town.world.queries


@pytest.mark.parametrize("mode", [Mode.NORMAL, Mode.DESTROY, Mode.REFRESH_ONLY])
def test_a_plan_that_makes_nothing_asks_nobody(town: MarketTown, mode: Mode) -> None:
    town.apply()
    town.world.calls.clear()

    town.plan(PlanOptions(mode=mode))

    assert 0 == town.times_asked
    assert {"list", "health"} == {call.verb for call in town.world.calls}


def test_what_vanished_is_asked_for_once_that_is_known(town: MarketTown) -> None:
    town.apply()
    town.world.calls.clear()
    town.world.vanish(next(town.world.living()).remote_id)

    planned = town.plan()

    assert 1 == town.times_asked
    assert "offers" == town.world.calls[-1].verb
    assert 1 == len(planned.plan.operations)


def test_a_provider_that_tells_no_offers_is_an_error_only_where_it_is_needed(town: MarketTown) -> None:
    town.world.script = lambda call: Fault(failed(RateLimited, call)) if call.verb == "offers" else None

    with pytest.raises(RateLimited):
        town.plan()

    town.write(
        "gpuplan.yaml",
        SPEC.replace("memory: {}", "memory: {}\n  spare: {type: memory}").replace(
            "provider: memory,", "placement: {any_of: [{provider: memory}, {provider: spare}]},"
        ),
    )
    town.world.offers = tuple(replace(each, provider="spare") for each in town.world.offers)
    town.world.script = lambda call: (
        Fault(failed(RateLimited, call)) if (call.verb, call.provider) == ("offers", "memory") else None
    )
    change = next(iter(town.plan().plan.changes.values()))

    assert change.chosen is not None
    assert "spare" == change.chosen.candidate.provider
    assert ["tells no offers: `memory` asks us to slow down, asked to offers"] == [
        place.rejected for place in change.places if place.rejected
    ]
