"""Costs by what the state knows: sums, time, and prices that nobody told."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from gpuplan.core.address import Address
from gpuplan.core.desired import Kind
from gpuplan.core.state import Deposed, Phase, Recorded, State
from gpuplan.core.values import JsonValue
from gpuplan.workflow.spending import spending, total

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def record(
    address: str, kind: Kind, facts: Mapping[str, JsonValue], *, hours: float = 1, deposed: tuple[Deposed, ...] = ()
) -> Recorded:
    return Recorded(
        address=Address.parse(address),
        kind=kind,
        provider="here",
        account="mine",
        remote_id=address,
        token="",
        attrs={},
        facts=facts,
        depends_on=frozenset(),
        created_at=NOW - timedelta(hours=hours),
        phase=Phase.READY,
        deposed=deposed,
    )


def state(*records: Recorded) -> State:
    return State("lineage", 1, bytes(32), "town", {each.address: each for each in records})


def test_a_cluster_costs_what_its_nodes_cost_since_each_was_created() -> None:
    (row,) = spending(
        state(
            record("clusters.a.nodes[0]", Kind.NODE, {"price_per_hour": 2}, hours=3),
            record("clusters.a.nodes[1]", Kind.NODE, {"price_per_hour": 2.5}, hours=0.5),
        ),
        NOW,
    )

    assert (2, Decimal("4.5"), Decimal("7.25"), 0) == (row.instances, row.per_hour, row.accrued, row.unpriced)
    assert NOW - timedelta(hours=3) == row.since


def test_a_price_that_nobody_told_is_unknown_and_not_zero() -> None:
    rows = spending(
        state(
            record("clusters.a.nodes[0]", Kind.NODE, {"price_per_hour": 2}),
            record("clusters.a.nodes[1]", Kind.NODE, {}),
            record("volumes.v", Kind.VOLUME, {}),
            record("ssh_keys.k", Kind.SSH_KEY, {}),
        ),
        NOW,
    )

    assert [(Decimal(2), 1), (None, 1)] == [(row.per_hour, row.unpriced) for row in rows]
    assert (3, Decimal(2), Decimal(2), 2) == (
        total(rows).instances,
        total(rows).per_hour,
        total(rows).accrued,
        total(rows).unpriced,
    )


def test_what_is_free_is_not_unknown() -> None:
    (row,) = spending(state(record("clusters.a.nodes[0]", Kind.NODE, {"price_per_hour": 0})), NOW)

    assert (Decimal(0), Decimal(0), 0) == (row.per_hour, row.accrued, row.unpriced)


def test_an_old_object_that_is_still_to_be_deleted_counts_as_unknown() -> None:
    old = Deposed("here", "mine", Kind.NODE, "old", "token")
    (row,) = spending(state(record("clusters.a.nodes[0]", Kind.NODE, {"price_per_hour": 2}, deposed=(old,))), NOW)

    assert (1, Decimal(2), 1) == (row.instances, row.per_hour, row.unpriced)


def test_an_empty_state_costs_nothing() -> None:
    assert [] == spending(state(), NOW)
