"""What is remembered of the markets, for how long, and who may read it."""

from pathlib import Path

import pytest

from gpuplan.core.capabilities import ProviderKind
from gpuplan.core.errors import Failure, NoCapacity
from gpuplan.core.ports import Want
from gpuplan.workflow.market import Board, Wanted, price_board
from gpuplan.workflow.market_memory import FRESH_SECONDS
from tests.unit.workflow.market import SPEC, MarketTown, offer


@pytest.fixture
def town(tmp_path: Path) -> MarketTown:
    return MarketTown(tmp_path)


def board(town: MarketTown, *, fresh: bool = False) -> Board:
    return town.run(price_board(town.project(**town.home), Wanted(), "price", clock=town.clock, fresh=fresh))


def test_the_same_question_is_not_asked_twice_within_a_moment(town: MarketTown) -> None:
    first, second = town.plan(**town.home), town.plan(**town.home)

    assert first.plan.changes == second.plan.changes
    assert 1 == town.times_asked


def test_another_question_is_asked_though_the_account_is_the_same(town: MarketTown) -> None:
    town.plan(**town.home)
    town.write("gpuplan.yaml", SPEC.replace("disk_gb: 10", "disk_gb: 20"))
    town.plan(**town.home)

    assert 2 == town.times_asked


def test_what_was_told_longer_ago_is_asked_again_and_forgotten(town: MarketTown) -> None:
    town.plan(**town.home)
    town.clock.advance(FRESH_SECONDS)
    town.plan(**town.home)

    assert 2 == town.times_asked
    assert 1 == len(town.kept)


def test_an_apply_decides_by_fresh_offers_alone(town: MarketTown) -> None:
    town.plan(**town.home)
    town.world.offers = (offer("EU", "9"), offer("US", "2"))

    town.apply(**town.home)

    assert 2 == town.times_asked
    assert {"US"} == {thing.facts["region"] for thing in town.apply(**town.home).state.instances.values()}


def test_a_board_tells_how_old_it_is_unless_it_is_to_be_fresh(town: MarketTown) -> None:
    began, fresh = board(town), board(town, fresh=True)
    town.clock.advance(12)
    later = board(town)

    assert ({}, {}) == (began.remembered, fresh.remembered)
    assert 12 == (town.clock.now() - later.remembered["memory"]).total_seconds()
    assert [each.ref for each in began.offers] == [each.ref for each in later.offers]
    assert 2 == town.times_asked


def test_nobody_else_can_read_it_and_damage_does_no_harm(town: MarketTown) -> None:
    town.plan(**town.home)
    (kept,) = town.kept
    assert 0o600 == kept.stat().st_mode & 0o777

    for damage in (b"", b"{", b"[]", b'{"at": "now", "offers": []}', b'{"at": "2026-01-01T00:00:00Z", "offers": [{}]}'):
        kept.write_bytes(damage)
        assert 2 == len(town.plan(**town.home).plan.operations)


def test_a_home_that_cannot_be_written_to_does_no_harm(town: MarketTown) -> None:
    (town.folder / "home").write_text("a file")

    assert 2 == len(town.plan(**town.home).plan.operations)


def test_a_run_takes_what_was_on_offer(town: MarketTown) -> None:
    town.plan(**town.home)
    assert 1 == len(town.kept)

    town.apply(**town.home)

    assert [] == town.kept


def test_a_machine_of_ones_own_is_asked_every_time(town: MarketTown) -> None:
    town.can = {**town.can, "kind": ProviderKind.ON_PREM}
    town.plan(**town.home)

    assert [] == town.kept


def test_nothing_is_kept_of_a_rehearsal_and_nothing_without_a_home(town: MarketTown) -> None:
    town.plan()
    town.plan(**town.home, emulator="http://emulator.invalid", workspace="default-emulator")

    assert [] == town.kept


def full(region: str) -> object:
    def capacity(want: Want) -> bool:
        return want.offer is None or want.offer.region != region

    return capacity


def test_the_next_plan_avoids_a_place_that_had_no_room(town: MarketTown) -> None:
    town.world.capacity = full("EU")
    assert town.apply(**town.home).outcome.complete

    town.write("gpuplan.yaml", SPEC.replace("nodes: 2", "nodes: 3"))
    town.clock.advance(240)
    (place, avoided) = next(change.places for change in town.plan(**town.home).plan.changes.values() if change.places)

    assert ("US", "") == (place.offer.region, place.rejected)
    assert ("EU", "failed 4 minutes ago: it had no room") == (avoided.offer.region, avoided.rejected)


def test_the_next_plans_avoid_a_place_whose_node_did_not_come_up_for_half_an_hour(
    town: MarketTown,
) -> None:
    def broken(want: Want) -> str | None:
        return "its disk is full" if want.offer is not None and want.offer.region == "EU" else None

    town.world.boots = broken
    assert not town.apply(**town.home).outcome.complete

    def regions() -> set[str]:
        return {change.chosen.offer.region for change in town.plan(**town.home).plan.changes.values()}

    assert {"US"} == regions()
    town.clock.advance(1800)
    assert {"EU"} == regions()


def test_a_setup_that_fails_says_nothing_about_the_place(town: MarketTown) -> None:
    town.write("gpuplan.yaml", SPEC.replace("disk_gb: 10", "setup: install"))
    town.world.run_status = lambda command: 1

    assert () == town.apply(**town.home).outcome.failed_places


def test_capacity_that_is_lost_while_booting_is_remembered_too(town: MarketTown) -> None:
    lost = NoCapacity(Failure("memory", "create node"))
    town.world.boots = lambda want: lost if want.offer is not None and want.offer.region == "EU" else None

    failed = town.apply(**town.home).outcome.failed_places

    assert {"offer-EU EU"} == {place.place for place in failed}
