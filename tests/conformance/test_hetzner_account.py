"""What `hetzner` does beyond the contract: errors by code, prices, changes of type, names of projects."""

import json
from decimal import Decimal
from typing import Any

import pytest

from gpuplan.core.capabilities import Capabilities
from gpuplan.core.desired import Kind
from gpuplan.core.errors import (
    AuthFailed,
    Conflict,
    InvalidRequest,
    NoCapacity,
    NotFound,
    OutcomeUnknown,
    ProtocolMismatch,
    ProviderError,
    QuotaExceeded,
    RateLimited,
    Unavailable,
    Unsupported,
)
from gpuplan.core.observed import Observed, Status
from gpuplan.core.offers import OfferQuery, Stock
from gpuplan.core.ports import CanStop, Provider
from gpuplan.core.values import Value
from gpuplan.emulators.world import Shelf
from gpuplan.net.classify import error_of
from gpuplan.net.exchange import Call, Response
from gpuplan.net.profile import Effect
from gpuplan.providers.hetzner import PROVIDER
from gpuplan.providers.hetzner_tables import PROFILE
from gpuplan.testing.in_process import InProcessAccount
from tests.conformance.hetzner_account import (
    NODE,
    NOW,
    create,
    running,
    until,
    update,
)

ONCE = Call("POST", "/servers", "/servers", "create it", Effect.ONCE)
LOOK = Call("GET", "/servers/{id}", "/servers/1", "look at it", Effect.NONE)
CHANGE = Call("POST", "/servers/{id}/actions/x", "/servers/1/actions/x", "change it", Effect.REPEATABLE)


@pytest.mark.parametrize(
    ("call", "status", "code", "error"),
    [
        (ONCE, 401, "unauthorized", AuthFailed),
        (ONCE, 401, "token_readonly", AuthFailed),
        (ONCE, 403, "forbidden", AuthFailed),
        (ONCE, 403, "resource_limit_exceeded", QuotaExceeded),
        (ONCE, 403, "maintenance", Unavailable),
        (ONCE, 404, "not_found", NotFound),
        (ONCE, 409, "conflict", Conflict),
        (ONCE, 410, "deprecated_api_endpoint", Unsupported),
        (ONCE, 412, "resource_unavailable", NoCapacity),
        (ONCE, 422, "placement_error", NoCapacity),
        (ONCE, 422, "volume_already_attached", Conflict),
        (ONCE, 422, "service_error", InvalidRequest),
        (CHANGE, 422, "service_error", Conflict),
        (CHANGE, 422, "server_not_stopped", Conflict),
        (CHANGE, 423, "locked", Conflict),
        (CHANGE, 423, "protected", InvalidRequest),
        (ONCE, 429, "rate_limit_exceeded", RateLimited),
        (ONCE, 503, "unavailable", OutcomeUnknown),
        (LOOK, 503, "unavailable", Unavailable),
        (LOOK, 504, "timeout", Unavailable),
    ],
)
def test_the_code_decides_what_an_error_is(call: Call, status: int, code: str, error: type[ProviderError]) -> None:
    body = {"error": {"code": code, "message": "no", "details": None}}
    response = Response(status, {"x-correlation-id": "abc"}, json.dumps(body).encode())
    found = error_of(PROFILE, call, response, "hetzner", NOW)

    assert found is not None
    assert error is type(found)
    assert (code, "abc") == (found.failure.code, found.failure.request_id)


def test_a_404_that_is_not_hetzners_is_no_absence() -> None:
    page = Response(404, {}, b"<html><title>Not Found</title></html>")

    assert isinstance(error_of(PROFILE, LOOK, page, "hetzner", NOW), ProtocolMismatch)


def test_prices_are_of_the_projects_currency_and_count_the_address() -> None:
    def price(currency: str, **options: Any) -> Decimal | None:
        account = InProcessAccount(PROVIDER, currency=currency)
        offers = account.run(lambda provider: provider.offers(OfferQuery(regions=("fsn1",))), **options)
        return next(offer.price_per_hour for offer in offers if offer.instance_type == "ccx23")

    assert Decimal("0.04") == price("USD")
    assert Decimal("0.048") == price("EUR", usd_per_eur="1.2")
    assert price("CHF") is None


def test_offers_tell_what_is_sold_out() -> None:
    account = InProcessAccount(PROVIDER)
    account.world.shelves["hetzner", "cpx22", "fsn1"] = Shelf(available=0)

    offers = account.run(lambda provider: provider.offers(OfferQuery(regions=("fsn1", "nbg1"))))

    stock = {offer.region: offer.stock for offer in offers if offer.instance_type == "cpx22"}
    assert {"fsn1": Stock.NONE, "nbg1": Stock.SOME} == stock


def test_a_gpu_is_offered_by_nobody_and_asks_nothing() -> None:
    account = InProcessAccount(PROVIDER)

    assert [] == [*account.run(lambda provider: provider.offers(OfferQuery(gpu="H100-80GB", gpu_count=1)))]
    assert [] == account.world.visits
    assert "gpu" not in account.run(_capabilities).kinds[Kind.NODE].attributes


async def _capabilities(provider: Provider) -> Capabilities:
    return provider.capabilities


def test_a_stopped_node_changes_its_type_and_starts_again() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> Observed:
        assert isinstance(provider, CanStop)
        node = await running(account, provider)
        with pytest.raises(Conflict):
            await update(account, provider, node, instance_type="ccx23")
        await until(account, provider, await provider.stop(Kind.NODE, node.remote_id), Status.STOPPED)
        changing = await update(account, provider, node, instance_type="ccx23")
        assert Status.STARTING is changing.status
        await until(account, provider, changing, Status.RUNNING)
        return await until(account, provider, await provider.start(Kind.NODE, node.remote_id), Status.RUNNING)

    assert "ccx23" == account.run(story).attrs["instance_type"]


def test_a_node_of_a_project_that_is_named_keeps_its_account_when_the_token_changes() -> None:
    ids = {
        (InProcessAccount(PROVIDER).run(lambda provider: provider.health(), key=key, project="llama")).id
        for key in ("old", "new")
    }

    assert 1 == len(ids)


def test_a_network_has_a_subnet_in_the_zone_of_its_region() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> list[object]:
        regions: list[dict[str, Value]] = [{}, {"region": "ash"}, {"region": "us-west"}]
        made = [await create(account, provider, Kind.NETWORK, cidr="10.1.0.0/16", **region) for region in regions]
        return [seen.facts["network_zones"] for seen in made]

    assert [["eu-central"], ["us-east"], ["us-west"]] == account.run(story)


@pytest.mark.parametrize(
    ("kind", "attrs"),
    [
        (Kind.NETWORK, {"rules": [{"port": 22}], "cidr": "10.0.0.0/16"}),
        (Kind.NETWORK, {"rules": [{"port": 22, "from": "everywhere"}]}),
        (Kind.NODE, {"region": "fsn1"}),
        (Kind.NODE, {**NODE, "networks": ["my-network"]}),
    ],
)
def test_what_cannot_be_said_to_hetzner_is_refused_and_not_sent(kind: Kind, attrs: dict[str, Value]) -> None:
    account = InProcessAccount(PROVIDER)

    with pytest.raises(InvalidRequest):
        account.run(lambda provider: create(account, provider, kind, **attrs))
    assert [] == account.world.visits
