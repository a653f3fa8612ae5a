"""Where new nodes go, and why not elsewhere."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from gpuplan.core.desired import Candidate, Objective, Settings
from gpuplan.core.errors import PlanError
from gpuplan.core.offers import Offer, Pricing, Stock
from gpuplan.core.plan import Plan
from gpuplan.core.values import UNKNOWN, Deferred
from gpuplan.plan.offers import KEPT
from tests.unit.plan.build import (
    GROUPS,
    NOW,
    PLAIN,
    PROVIDER,
    address,
    cluster,
    findings,
    have,
    offer,
    plan,
    spec,
    state,
    want,
)

NODE = "clusters.a.nodes[0]"
SELLER = replace(PLAIN, offers=True)


def placed(attrs: dict[str, Any], offers: list[Offer], **more: Any) -> Plan:
    return plan(
        spec(want(NODE, {"gpu": "L40S:1", **attrs}, **more)),
        capabilities={PROVIDER: SELLER},
        offers={PROVIDER: offers},
    )


def chosen(made: Plan, name: str = NODE) -> str | None:
    place = made.changes[address(name)].chosen
    return None if place is None or place.offer is None else place.offer.ref


def rejected(made: Plan) -> dict[str, str]:
    return {place.offer.ref: place.rejected for place in made.changes[address(NODE)].places if place.offer}


GOOD = offer("good", "2.00")


@pytest.mark.parametrize(
    ("attrs", "other", "why"),
    [
        ({}, offer("x", "1", gpu="H100-80GB:1"), "not L40S"),
        ({}, offer("x", "1", gpu="L40S:2"), "not 1 GPUs"),
        ({"cpu": ">=8"}, offer("x", "1", cpu=4), "cpu is not >=8"),
        ({"memory_gb": ">=64"}, offer("x", "1", memory_gb=32), "memory_gb is not >=64"),
        ({"disk_gb": 100}, offer("x", "1", disk_gb=50), "less than 100 GB of disk"),
        ({"region": "EU"}, offer("x", "1", region="US"), "not in EU"),
        ({}, offer("x", "1", pricing=Pricing.SPOT), "spot only"),
        ({}, offer("x", "1", stock=Stock.NONE), "none left"),
        ({}, offer("x", "1", max_count=0), "none left"),
        ({}, offer("x", "1", expires_at=NOW), "has expired"),
    ],
)
def test_an_offer_that_will_not_do_is_kept_with_its_reason(attrs: dict[str, Any], other: Offer, why: str) -> None:
    made = placed(attrs, [other, GOOD])

    assert "good" == chosen(made)
    assert {"good": "", "x": why} == rejected(made)


def test_a_form_factor_is_what_its_family_asks_for() -> None:
    assert "sxm" == chosen(placed({"gpu": "H100-80GB:8"}, [offer("sxm", "9", gpu="H100-80GB-SXM:8")]))


def test_spot_is_taken_below_its_price_and_on_demand_only_as_a_fallback() -> None:
    spot = offer("spot", "1.00", pricing=Pricing.SPOT)

    assert "spot" == chosen(placed({"spot": {"max_price": 1.5}}, [GOOD, spot]))
    assert "spot" == chosen(placed({"spot": {"fallback": True}}, [offer("cheap", "0.10"), spot]))
    assert "good" == chosen(placed({"spot": {"max_price": 0.5, "fallback": True}}, [GOOD, spot]))


def test_cheapest_comes_first_then_the_most_reliable_then_by_name() -> None:
    offers = [
        offer("untold"),
        offer("c", "2"),
        offer("b", "1", reliability=0.9),
        offer("d", "1", reliability=0.99),
        offer("a", "1", reliability=0.9),
    ]

    made = placed({}, offers)

    assert ["d", "a", "b", "c", "untold"] == list(rejected(made))


def test_no_price_passes_the_ceiling() -> None:
    with pytest.raises(PlanError) as caught:
        placed({}, [GOOD, offer("untold")], settings=Settings(max_price=Decimal("1.50")))

    assert (
        f"it is about {NODE}",
        "here: above 1.50 USD per hour, for one L40S:1 in EU at 2.00 USD per hour",
        "here: tells no price, for one L40S:1 in EU",
    ) == findings(caught)["no-offer"].facts


@pytest.mark.parametrize(("objective", "ref"), [(Objective.CHEAPEST, "low"), (Objective.IN_ORDER, "high")])
def test_the_objective_decides_between_candidates(objective: Objective, ref: str) -> None:
    candidates = (Candidate("first", {"gpu": "L40S:1"}, ()), Candidate("second", {"gpu": "L40S:1"}, ()))
    wanted = want(NODE, candidates=candidates, settings=Settings(objective=objective))

    made = plan(
        spec(wanted, providers=("first", "second")),
        capabilities={"first": SELLER, "second": SELLER},
        offers={"first": [offer("high", "3", provider="first")], "second": [offer("low", "1", provider="second")]},
    )

    assert ref == chosen(made)
    assert {"low", "high"} == set(rejected(made))


def test_a_candidate_that_cannot_do_it_is_rejected_and_not_an_error_while_another_can() -> None:
    candidates = (Candidate("none", {"spot": True}, ()), Candidate("some", {"spot": True}, ()))

    made = plan(
        spec(want(NODE, candidates=candidates), providers=("none", "some")),
        capabilities={"none": replace(PLAIN, spot=False), "some": PLAIN},
    )

    assert ["", "`none` has no spot nodes"] == [place.rejected for place in made.changes[address(NODE)].places]


def test_nothing_new_goes_to_a_retired_provider() -> None:
    configuration = spec(want(NODE))
    retired = {name: replace(block, retired=True) for name, block in configuration.providers.items()}

    with pytest.raises(PlanError) as caught:
        plan(replace(configuration, providers=retired))

    assert "here: is retired" in findings(caught)["no-offer"].facts


def test_what_lives_at_a_retired_provider_may_stay_and_may_go() -> None:
    configuration = spec(want(NODE))
    retired = {name: replace(block, retired=True) for name, block in configuration.providers.items()}

    assert plan(replace(configuration, providers=retired), state(have(NODE))).is_empty


def test_a_provider_without_a_price_list_is_a_place_without_an_offer() -> None:
    (place,) = plan(spec(want(NODE))).changes[address(NODE)].places

    assert (PROVIDER, None, "") == (place.candidate.provider, place.offer, place.rejected)


def test_equal_nodes_share_their_places() -> None:
    nodes = cluster("a", 3, {"gpu": "L40S:1"})

    made = plan(spec(*nodes), capabilities={PROVIDER: SELLER}, offers={PROVIDER: [GOOD]})

    first, second, third = (change.places for change in made.changes.values())
    assert first is second is third


def test_nodes_of_one_plan_do_not_take_the_same_machine() -> None:
    nodes = cluster("a", 3, {"gpu": "L40S:1"})
    machines = [offer("m1", "1", max_count=1), offer("m2", "2", max_count=1), offer("m3", "3", max_count=5)]

    made = plan(spec(*nodes), capabilities={PROVIDER: SELLER}, offers={PROVIDER: machines})

    assert ["m1", "m2", "m3"] == [chosen(made, str(node.address)) for node in nodes]
    assert ["m1", "m3"] == [place.offer.ref for place in made.changes[address(NODE)].places if place.offer]


def test_nodes_beyond_what_there_is_have_no_place() -> None:
    nodes = cluster("a", 2, {"gpu": "L40S:1"})

    with pytest.raises(PlanError) as caught:
        plan(spec(*nodes), capabilities={PROVIDER: SELLER}, offers={PROVIDER: [offer("m1", "1", max_count=1)]})

    facts = findings(caught)["no-offer"].facts
    assert "it is about clusters.a.nodes[1]" == facts[0]
    assert "taken by other nodes of this plan" in facts[1]


def test_a_group_takes_room_for_all_its_nodes() -> None:
    group = want("clusters.a", {"gpu": "L40S:1", "nodes": 4}, kind=next(iter(GROUPS.kinds)))

    made = plan(
        spec(group),
        capabilities={PROVIDER: replace(GROUPS, offers=True)},
        offers={PROVIDER: [offer("small", "1", max_count=3), offer("large", "2", max_count=4)]},
    )

    assert "large" == chosen(made, "clusters.a")
    assert Decimal(8) == made.hourly_after


def test_the_ranking_in_a_plan_is_bounded() -> None:
    made = placed({}, [offer(f"m{number:03}", "1") for number in range(100)])

    assert KEPT == len(made.changes[address(NODE)].places)


def test_what_is_known_only_after_apply_filters_nothing() -> None:
    region = Deferred("${volumes.data.region}", frozenset({address("volumes.data")}), lambda scope: UNKNOWN)
    made = plan(
        spec(want("volumes.data"), want(NODE, {"gpu": "L40S:1", "region": region})),
        capabilities={PROVIDER: SELLER},
        offers={PROVIDER: [GOOD]},
    )

    assert "good" == chosen(made)
