"""Design.md, section 11, as counts: refreshing costs pages, bringing up costs creates and one listing per interval."""

import pytest

from bench.calls import count_calls
from bench.campaign import campaign_types
from gpuplan.testing.catalog import contract
from gpuplan.testing.http_conformance import HttpProviderConformance

NODES = 100


@pytest.mark.parametrize("name", campaign_types())
def test_calls_grow_with_pages_and_creates_alone(name: str) -> None:
    counted, tried = count_calls(name, NODES), contract(name)

    single = tried.looks_per_node * NODES if issubclass(tried, HttpProviderConformance) else 0
    # Where kinds share a route, their listings cannot be told apart.
    others = len(tried.asks) - 1
    assert counted.pages <= counted.promised_pages + others
    assert counted.refresh <= counted.promised_pages + 10 + single
    assert counted.creates <= 10 if counted.is_group else NODES == counted.creates
    assert counted.look_pages <= counted.promised_look_pages + single
    assert counted.gets <= NODES / 10 + single
    assert 1 == counted.destroys


def test_an_account_that_may_ask_once_a_second_has_time_to_confirm_hundreds_of_deletions() -> None:
    counted = count_calls("lambda", 200)

    assert 1 == counted.destroys
    assert counted.confirms < 300
