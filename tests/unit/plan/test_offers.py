"""Where new nodes go, and why not elsewhere."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from gpuplan.core.desired import Candidate, Desired, Objective, Settings
from gpuplan.core.errors import PlanError
from gpuplan.core.observed import Survey
from gpuplan.core.offers import FailedPlace, Offer, Pricing, Stock
from gpuplan.core.plan import Plan, PlanOptions
from gpuplan.core.state import State
from gpuplan.core.values import UNKNOWN, Deferred, Ref
from gpuplan.plan.offers import KEPT
from gpuplan.plan.planner import Draft
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
    survey,
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


def test_cheapest_between_candidates_takes_spot_before_any_fallback() -> None:
    spot = {"gpu": "L40S:1", "spot": {"fallback": True}}
    candidates = (Candidate("first", spot, ()), Candidate("second", {"gpu": "L40S:1"}, ()))
    wanted = want(NODE, candidates=candidates, settings=Settings(objective=Objective.CHEAPEST))
    first = [
        offer("last resort", "1", provider="first"),
        offer("spot", "3", provider="first", pricing=Pricing.SPOT),
        offer("cheap spot", "1.5", provider="first", pricing=Pricing.SPOT),
    ]

    made = plan(
        spec(wanted, providers=("first", "second")),
        capabilities={"first": SELLER, "second": SELLER},
        offers={"first": first, "second": [offer("between", "2", provider="second")]},
    )

    assert ["cheap spot", "between", "spot", "last resort"] == list(rejected(made))


def test_on_demand_nodes_are_kept_behind_however_many_spot_nodes() -> None:
    spots = [offer(f"s{number:02}", "1", pricing=Pricing.SPOT) for number in range(20)]

    made = placed({"spot": {"fallback": True}}, [GOOD, *spots])

    assert [f"s{number:02}" for number in range(KEPT)] + ["good"] == list(rejected(made))


def test_places_of_every_candidate_are_kept_however_many_the_cheapest_has() -> None:
    candidates = (Candidate("first", {"gpu": "L40S:1"}, ()), Candidate("second", {"gpu": "L40S:1"}, ()))
    wanted = want(NODE, candidates=candidates, settings=Settings(objective=Objective.CHEAPEST))

    made = plan(
        spec(wanted, providers=("first", "second")),
        capabilities={"first": SELLER, "second": SELLER},
        offers={
            "first": [offer(f"f{number:02}", "1", provider="first") for number in range(20)],
            "second": [offer("dear", "2", provider="second")],
        },
    )

    assert [f"f{number:02}" for number in range(KEPT)] + ["dear"] == list(rejected(made))


def failed(ref: str, minutes: float, why: str = "it had no room") -> FailedPlace:
    return FailedPlace(PROVIDER, f"{ref} EU", NOW - timedelta(minutes=minutes), why)


def drafted(nodes: int, offers: list[Offer], *places: FailedPlace) -> Plan:
    configuration, prior = spec(*cluster("a", nodes, {"gpu": "L40S:1"})), state()
    draft = Draft(configuration, prior, Survey({}), capabilities={PROVIDER: SELLER}, options=PlanOptions(), now=NOW)
    return draft.plan({PROVIDER: offers}, failed=places)


def test_a_place_that_failed_lately_is_avoided_with_its_reason() -> None:
    made = drafted(1, [offer("full", "1"), GOOD], failed("full", 45), failed("full", 4.5))

    assert {"good": "", "full": "failed 4 minutes ago: it had no room"} == rejected(made)


def test_a_place_that_failed_long_ago_is_as_good_as_any() -> None:
    assert "full" == chosen(drafted(1, [offer("full", "1"), GOOD], failed("full", 31)))


def test_a_place_that_failed_is_taken_when_there_is_no_other() -> None:
    made = drafted(3, [offer("full", "1"), offer("good", "2", max_count=1)], failed("full", 4))

    assert ["good", "full", "full"] == [chosen(made, f"clusters.a.nodes[{number}]") for number in range(3)]
    assert {"good": "", "full": "failed 4 minutes ago: it had no room"} == rejected(made)


def test_a_slice_of_a_gpu_is_taken_only_by_its_name() -> None:
    part = offer("part", "0.10", gpu="", gpu_slice="8 GB of A16", instance_type="slice")
    plain = offer("plain", "0.20", gpu="")

    assert "plain" == chosen(placed({"gpu": None}, [part, plain]))
    assert "part" == chosen(placed({"gpu": None, "instance_type": "slice"}, [part, plain]))


def test_a_node_goes_where_its_volume_is() -> None:
    volume = want("volumes.v", {"size_gb": 1, "region": "EU"})
    node = want(NODE, {"gpu": "L40S:1", "volumes": [{"volume": Ref(volume.address), "mount": "/data"}]})

    made = plan(
        spec(volume, node),
        capabilities={PROVIDER: SELLER},
        offers={PROVIDER: [offer("far", "1", region="US"), GOOD]},
    )

    assert {"good": "", "far": "not in EU, where volumes.v is"} == rejected(made)


def test_a_provider_that_tells_no_offers_is_a_place_less_and_not_an_error_while_there_is_another() -> None:
    candidates = (Candidate("mute", {"gpu": "L40S:1"}, ()), Candidate(PROVIDER, {"gpu": "L40S:1"}, ()))
    configuration = spec(want(NODE, candidates=candidates), providers=("mute", PROVIDER))
    known = {"mute": SELLER, PROVIDER: SELLER}
    draft = Draft(configuration, state(), Survey({}), capabilities=known, options=PlanOptions(), now=NOW)

    made = draft.plan({PROVIDER: [GOOD]}, silent={"mute": "it is late"})

    assert ["", "tells no offers: it is late"] == [place.rejected for place in made.changes[address(NODE)].places]
    assert draft.strands({"mute", PROVIDER})
    assert not draft.strands({"mute"})


def test_offers_are_needed_only_for_what_is_new() -> None:
    def sellers(*instances: Desired, prior: State) -> set[str]:
        known = {PROVIDER: SELLER}
        draft = Draft(spec(*instances), prior, survey(prior), capabilities=known, options=PlanOptions(), now=NOW)
        return draft.sellers

    node = have(NODE, {"gpu": "L40S:1", "instance_type": "s"})
    assert set() == sellers(want(NODE, node.attrs), prior=state(node))
    assert {PROVIDER} == sellers(want(NODE, {**node.attrs, "gpu": "L4:1"}), prior=state(node))
    assert {PROVIDER} == sellers(want(NODE, {**node.attrs, "instance_type": "l"}), prior=state(node))
    assert set() == sellers(prior=state(node))


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
