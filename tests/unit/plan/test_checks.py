"""What forbids a plan."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from gpuplan.core.capabilities import KindCapabilities
from gpuplan.core.desired import Kind, Lifecycle, Policy, ProviderBlock, Settings
from gpuplan.core.diagnostics import At
from gpuplan.core.errors import PlanError
from gpuplan.core.offers import Offer, Pricing
from gpuplan.core.plan import Mode, Plan
from gpuplan.core.values import Ref
from tests.unit.plan.build import PLAIN, PROVIDER, cluster, findings, have, offer, plan, spec, state, survey, want

NODE = "clusters.a.nodes[0]"
PROTECTED = Settings(lifecycle=Lifecycle(prevent_destroy=True))
SELLER = replace(PLAIN, offers=True)


@pytest.mark.parametrize(
    ("attrs", "capabilities", "summary", "attribute"),
    [
        ({"spot": {"max_price": 1}}, {"spot": False}, "`here` has no spot nodes", "spot"),
        ({"shm_gb": 8}, {}, "`here` has no `shm_gb`", "shm_gb"),
        ({"stopped": True}, {"stop_start": False}, "`here` has no stopped nodes", "stopped"),
        ({"gpu": "L40S:2"}, {"multi_gpu": False}, "`here` has no nodes with several GPUs", "gpu"),
    ],
)
def test_what_a_provider_cannot_do_is_an_error_at_the_attribute_and_at_the_provider(
    attrs: dict[str, Any], capabilities: dict[str, Any], summary: str, attribute: str
) -> None:
    with pytest.raises(PlanError) as caught:
        plan(spec(want(NODE, attrs)), capabilities={PROVIDER: replace(PLAIN, **capabilities)})

    finding = findings(caught)["unsupported-by-provider"]
    assert summary == finding.summary
    assert [At(("clusters", "a", attribute), key=True), At(("clusters", "a", "provider"))] == [
        label.where for label in finding.labels
    ]


def test_a_provider_that_knows_says_why_it_cannot() -> None:
    kinds = {kind: replace(can, attributes={}) for kind, can in PLAIN.kinds.items()}
    capabilities = replace(PLAIN, kinds=kinds, multi_gpu=False, lacks={"gpu": "it is a bakery"})
    with pytest.raises(PlanError) as caught:
        plan(spec(want(NODE, {"gpu": "L40S:2"})), capabilities={PROVIDER: capabilities})

    (finding,) = caught.value.diagnostics
    assert ("`here` has no GPUs", ("it is a bakery",)) == (finding.summary, finding.facts)


def test_the_hint_names_providers_that_can() -> None:
    with pytest.raises(PlanError) as caught:
        plan(
            spec(want(NODE, {"spot": True}), providers=(PROVIDER, "other")),
            capabilities={PROVIDER: replace(PLAIN, spot=False), "other": PLAIN},
        )

    assert "these have spot nodes: other" == findings(caught)["unsupported-by-provider"].hint


@pytest.mark.parametrize("attrs", [{"confidential": False}, {"spot": None}, {"stopped": False}])
def test_asking_for_nothing_needs_no_capability(attrs: dict[str, Any]) -> None:
    plan(spec(want(NODE, attrs)), capabilities={PROVIDER: replace(PLAIN, spot=False, stop_start=False)})


def test_a_kind_that_a_provider_lacks_is_an_error() -> None:
    with pytest.raises(PlanError) as caught:
        plan(spec(want("networks.n")))

    assert "`here` has no networks" == findings(caught)["unsupported-by-provider"].summary


def test_a_required_attribute_that_is_missing_is_an_error() -> None:
    needy = replace(PLAIN, kinds={Kind.NODE: KindCapabilities({}, required=frozenset({"image"}))})

    with pytest.raises(PlanError) as caught:
        plan(spec(want(NODE)), capabilities={PROVIDER: needy})

    assert "`clusters.a` needs `image` at `here`" == findings(caught)["missing-attribute"].summary


def test_all_findings_come_at_once() -> None:
    with pytest.raises(PlanError) as caught:
        plan(spec(want(NODE, {"shm_gb": 8, "user_data": "x"}), want("networks.n")))

    assert 3 == len(caught.value.diagnostics)


@pytest.mark.parametrize(("mode", "image"), [(Mode.DESTROY, "a"), (Mode.NORMAL, "b")])
def test_prevent_destroy_names_its_position(mode: Mode, image: str) -> None:
    with pytest.raises(PlanError) as caught:
        plan(spec(want(NODE, {"image": image}, settings=PROTECTED)), state(have(NODE, {"image": "a"})), mode=mode)

    finding = findings(caught)["prevent-destroy"]
    assert At(("clusters", "a", "lifecycle", "prevent_destroy")) == finding.labels[0].where


def test_prevent_destroy_of_a_cluster_is_one_finding() -> None:
    nodes = cluster("a", 20, {"image": "b"}, settings=PROTECTED)

    with pytest.raises(PlanError) as caught:
        plan(spec(*nodes), state(*(have(str(node.address), {"image": "a"}) for node in nodes)))

    (finding,) = caught.value.diagnostics
    assert "it is about 20 instances, clusters.a.nodes[0] among them" == finding.facts[0]


def test_too_many_destroys_are_refused() -> None:
    prior = state(have("volumes.a"), have("volumes.b"))

    with pytest.raises(PlanError) as caught:
        plan(spec(), prior, max_destroy=1)

    assert {"too-many-destroys"} == set(findings(caught))
    assert 2 == len(plan(spec(), prior, max_destroy=2).operations)


@pytest.mark.parametrize(("budget", "flag"), [(Decimal(3), None), (None, Decimal(3))])
def test_a_plan_over_budget_is_refused(budget: Decimal | None, flag: Decimal | None) -> None:
    nodes = cluster("a", 2, {"gpu": "L40S:1"})

    with pytest.raises(PlanError) as caught:
        plan(
            spec(*nodes, max_hourly=budget),
            capabilities={PROVIDER: SELLER},
            offers={PROVIDER: [offer("x", "2.00")]},
            max_hourly=flag,
        )

    assert findings(caught)["over-budget"].summary.startswith("this plan comes to 4.00 USD per hour")


def test_who_is_above_the_budget_may_get_nearer_to_it() -> None:
    prior = state(*(have(f"clusters.a.nodes[{number}]", facts={"price_per_hour": 2}) for number in range(3)))

    fewer = plan(spec(*cluster("a", 2), max_hourly=Decimal(1)), prior)
    accepted = plan(spec(*cluster("a", 3), max_hourly=Decimal(1)), prior, mode=Mode.REFRESH_ONLY)

    assert (Decimal(6), Decimal(4)) == (fewer.hourly_before, fewer.hourly_after)
    assert accepted.is_empty


def test_a_limit_that_leaves_out_a_price_nobody_tells_says_so() -> None:
    def warnings(**limit: Any) -> list[str]:
        made = plan(
            spec(*cluster("a", 2, {"gpu": "L40S:1"}), **limit),
            capabilities={PROVIDER: SELLER},
            offers={PROVIDER: [offer("x")]},
        )
        return [warning.id for warning in made.warnings]

    assert ["price-untold"] == warnings(max_hourly=Decimal(3))
    assert [] == warnings()


def test_a_volume_in_another_place_is_an_error_with_both_positions() -> None:
    volume = want("volumes.v", {"size_gb": 1, "region": "EU"})
    mounts = [{"volume": Ref(volume.address), "mount": "/data"}]

    with pytest.raises(PlanError) as caught:
        plan(spec(volume, want(NODE, {"region": "US", "volumes": mounts})))

    finding = findings(caught)["volume-elsewhere"]
    assert "`clusters.a` cannot mount `volumes.v`: it is in another region" == finding.summary
    assert [At(("clusters", "a", "region")), At(("volumes", "v", "region"))] == [
        label.where for label in finding.labels
    ]


def test_a_volume_at_another_type_of_provider_is_an_error_and_at_another_block_of_it_none() -> None:
    volume = want("volumes.v", {"size_gb": 1})
    node = want(NODE, {"volumes": [{"volume": Ref(volume.address), "mount": "/data"}]}, provider="there")

    def made(type: str) -> Plan:
        blocks = {name: ProviderBlock(name, kind, {}, ()) for name, kind in ((PROVIDER, "memory"), ("there", type))}
        return plan(spec(volume, node, providers=(PROVIDER, "there"), blocks=blocks))

    assert 2 == len(made("memory").operations)
    with pytest.raises(PlanError) as caught:
        made("other")
    assert "`clusters.a` cannot mount `volumes.v`: it is at another provider" == (
        findings(caught)["volume-elsewhere"].summary
    )


def test_a_node_that_becomes_another_machine_costs_what_that_one_costs() -> None:
    prior = state(have(NODE, {"instance_type": "s"}, facts={"price_per_hour": 1, "region": "EU"}))
    offers = [
        offer("elsewhere", "1.5", gpu="", instance_type="l", region="US"),
        offer("here", "3", gpu="", instance_type="l"),
        offer("spot", "1", gpu="", instance_type="l", pricing=Pricing.SPOT),
    ]

    def after(offers: list[Offer], **more: Any) -> Decimal | None:
        made = plan(
            spec(want(NODE, {"instance_type": "l"}), **more),
            prior,
            capabilities={PROVIDER: SELLER},
            offers={PROVIDER: offers},
        )
        assert Decimal(1) == made.hourly_before
        return made.hourly_after

    assert Decimal(3) == after(offers)
    assert Decimal(0) == after([])
    with pytest.raises(PlanError):
        after(offers, max_hourly=Decimal(2))


def test_cost_is_told_before_and_after() -> None:
    prior = state(
        have(NODE, facts={"price_per_hour": "1.50"}), have("clusters.b.nodes[0]", facts={"price_per_hour": 2})
    )

    made = plan(spec(want(NODE)), prior)

    assert (Decimal("3.50"), Decimal("1.50")) == (made.hourly_before, made.hourly_after)


def test_a_stopped_node_costs_nothing_where_stopped_nodes_are_not_billed() -> None:
    prior = state(have(NODE, {"stopped": False}, facts={"price_per_hour": "1.50"}))

    made = plan(spec(want(NODE, {"stopped": True})), prior)

    assert (Decimal("1.50"), Decimal(0)) == (made.hourly_before, made.hourly_after)


def test_what_is_gone_costs_nothing_before() -> None:
    prior = state(have(NODE, facts={"price_per_hour": "1.50"}), have("volumes.v", facts={"price_per_hour": 1}))

    made = plan(spec(want("volumes.v")), prior, survey(prior, (NODE, None)))

    assert (Decimal(1), Decimal(1)) == (made.hourly_before, made.hourly_after)


def test_without_prices_there_is_no_cost() -> None:
    made = plan(spec(want(NODE)))

    assert (None, None) == (made.hourly_before, made.hourly_after)


def test_a_policy_sees_a_cluster_as_a_whole() -> None:
    views: list[Any] = []

    def denies(view: Any) -> bool:
        views.append(view)
        return bool(view["kind"] == "cluster" and view["gpu_count"] > 64)

    nodes = cluster("a", 10, {"gpu": "H100-80GB:8", "region": "EU"})
    policy = Policy(denies, "more than 64 GPUs needs a review", ("policies", 0))

    with pytest.raises(PlanError) as caught:
        plan(spec(*nodes, want("volumes.v"), policies=(policy,)))

    finding = findings(caught)["policy-denied"]
    assert "a policy denies `clusters.a`: more than 64 GPUs needs a review" == finding.summary
    assert ["cluster", "volume"] == [view["kind"] for view in views]
    assert (80, 8, 10, "EU", PROVIDER) == tuple(
        views[0][name] for name in ("gpu_count", "gpus_per_node", "nodes", "region", "provider")
    )


def test_a_deprecated_provider_is_a_warning_for_new_nodes_only() -> None:
    old = {PROVIDER: replace(PLAIN, deprecated="closes in 2027")}

    assert ["deprecated-provider"] == [warning.id for warning in plan(spec(want(NODE)), capabilities=old).warnings]
    assert () == plan(spec(want(NODE)), state(have(NODE)), capabilities=old).warnings
