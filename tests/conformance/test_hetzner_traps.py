"""What surprises newcomers to Hetzner's API, each surprise once; in process and in virtual time."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from gpuplan.core.address import Address
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
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Observed, Status
from gpuplan.core.offers import OfferQuery, Stock
from gpuplan.core.ports import CanStop, CanUpdate, HasSsh, Provider, Want
from gpuplan.core.values import Value
from gpuplan.emulators.faults import Fault, FaultKind
from gpuplan.emulators.http import Request
from gpuplan.emulators.world import Shelf
from gpuplan.net.classify import error_of
from gpuplan.net.exchange import Call, Response
from gpuplan.net.profile import Effect
from gpuplan.providers.hetzner import PROVIDER
from gpuplan.providers.hetzner_tables import PROFILE
from gpuplan.testing.emulated import RecordingDesk
from gpuplan.testing.in_process import InProcessAccount, InProcessWire, with_wire

NODE: Mapping[str, Value] = {"instance_type": "cpx22", "region": "fsn1"}
NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGpBYoKqHmF3jr7xkmI9YvNMM2bIXcSJ8vMfQ2vFKq1t team@example.com"
SECTIONS = {Kind.NODE: "clusters", Kind.VOLUME: "volumes", Kind.NETWORK: "networks", Kind.SSH_KEY: "ssh_keys"}


class RecordedAccount(InProcessAccount):
    """An account whose every exchange is written down."""

    desk: RecordingDesk

    def __init__(self) -> None:
        super().__init__(PROVIDER)
        self.desk = RecordingDesk(self.world, self.desk.types)
        self._type = with_wire(PROVIDER, InProcessWire(self.desk, self.clock))


def ask(account: InProcessAccount, kind: Kind, **attrs: Value) -> tuple[Want, Mark]:
    token = account.clock.token()
    address = Address(SECTIONS[kind], "train", None, 0 if kind is Kind.NODE else None)
    return Want(address, kind, attrs, f"train-{token}"), Mark(token, "llama", "default", "lineage", address)


async def create(account: InProcessAccount, provider: Provider, kind: Kind = Kind.NODE, **attrs: Value) -> Observed:
    return await provider.create(*ask(account, kind, **(attrs or NODE)), {})


async def until(account: InProcessAccount, provider: Provider, seen: Observed, status: Status) -> Observed:
    for _ in range(200):
        if seen.status is status:
            return seen
        await account.clock.sleep(5)
        now = await provider.get(seen.kind, seen.remote_id)
        assert now is not None
        seen = now
    raise AssertionError(f"it is {seen.status}")


async def running(account: InProcessAccount, provider: Provider, **attrs: Value) -> Observed:
    return await until(account, provider, await create(account, provider, **(attrs or NODE)), Status.RUNNING)


async def update(account: InProcessAccount, provider: Provider, seen: Observed, **attrs: Value) -> Observed:
    assert isinstance(provider, CanUpdate)
    want, _ = ask(account, seen.kind, **attrs)
    return await provider.update(replace(want, update=frozenset(attrs)), seen.remote_id, {})


def sent(account: InProcessAccount, method: str, route: str) -> int:
    """How often a call was received."""
    return sum((method, route) == (visit.method, visit.route) for visit in account.world.visits)


def shown(account: InProcessAccount, path: str, method: str = "GET", **query: str) -> Any:
    """What the emulator answers to somebody else with the same key."""
    headers = {"authorization": "Bearer gpuplan-emulator"}
    parameters = {name: [value] for name, value in query.items()}
    return json.loads(account.desk.answer(Request(method, f"/hetzner/v1{path}", parameters, headers)).response.content)


# 1
@pytest.mark.parametrize("attrs", [NODE, {"instance_type": "cpx22", "region": "nbg1"}])
def test_resource_unavailable_is_a_lack_of_capacity_of_one_type_in_one_location(attrs: dict[str, Value]) -> None:
    account = InProcessAccount(PROVIDER)
    account.world.shelves["hetzner", "cpx22", "fsn1"] = Shelf(available=0)

    async def story(provider: Provider) -> Observed:
        return await create(account, provider, **attrs)

    if attrs["region"] == "fsn1":
        with pytest.raises(NoCapacity) as caught:
            account.run(story)
        assert ("cpx22", "resource_unavailable") == (caught.value.failure.gpu, caught.value.failure.code)
        assert 1 == sent(account, "POST", "/v1/servers")
    else:
        assert Status.STARTING is account.run(story).status


def test_a_volume_without_space_in_its_location_is_a_lack_of_capacity() -> None:
    account = InProcessAccount(PROVIDER)
    account.world.shelves["hetzner", "volume", "fsn1"] = Shelf(available=0)

    with pytest.raises(NoCapacity):
        account.run(lambda provider: create(account, provider, Kind.VOLUME, size_gb=10, region="fsn1"))


# 2
@pytest.mark.parametrize("kind", [FaultKind.DROP_AFTER, FaultKind.STATUS_AFTER, FaultKind.GARBAGE])
@pytest.mark.parametrize(
    ("object", "attrs"),
    [
        (Kind.NODE, NODE),
        (Kind.SSH_KEY, {"public_key": KEY}),
        (Kind.VOLUME, {"size_gb": 10, "region": "fsn1"}),
        (Kind.NETWORK, {"cidr": "10.1.0.0/16"}),
        (Kind.NETWORK, {"rules": [{"port": 22}]}),
    ],
)
def test_uniqueness_error_after_a_lost_answer_is_success_in_disguise(
    kind: FaultKind, object: Kind, attrs: dict[str, Value]
) -> None:
    account = InProcessAccount(PROVIDER)
    account.world.faults.append(Fault(kind, method="POST"))

    async def story(provider: Provider) -> tuple[Observed, Mark]:
        want, mark = ask(account, object, **attrs)
        with pytest.raises((OutcomeUnknown, ProtocolMismatch)):
            await provider.create(want, mark, {})
        return await provider.create(want, mark, {}), mark

    seen, mark = account.run(story)
    assert seen.mark is not None
    assert mark.token == seen.mark.token
    assert 1 == len(account.world.ledger)


def test_a_name_that_is_taken_and_not_listed_yet_leaves_the_outcome_open() -> None:
    account = InProcessAccount(PROVIDER)
    account.world.list_delay_seconds["hetzner"] = 5

    async def story(provider: Provider) -> tuple[str, str]:
        want, mark = ask(account, Kind.SSH_KEY, public_key=KEY)
        first = await provider.create(want, mark, {})
        with pytest.raises(OutcomeUnknown):
            await provider.create(want, mark, {})
        await account.clock.sleep(5)
        return first.remote_id, (await provider.create(want, mark, {})).remote_id

    first, again = account.run(story)
    assert first == again


def test_a_name_that_somebody_else_has_is_a_conflict() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> None:
        want, mark = ask(account, Kind.NODE, **NODE)
        await provider.create(want, mark, {})
        with pytest.raises(Conflict):
            await provider.create(want, replace(mark, token="a" * 20), {})

    account.run(story)
    assert 1 == len(account.world.ledger)


def test_a_public_key_that_is_in_the_project_already_is_named() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> tuple[str, InvalidRequest]:
        first = await create(account, provider, Kind.SSH_KEY, public_key=KEY)
        with pytest.raises(InvalidRequest) as caught:
            await create(account, provider, Kind.SSH_KEY, public_key=KEY)
        return str(first.facts["name"]), caught.value

    name, refusal = account.run(story)
    assert refusal.failure.hint
    assert f"`{name}`" in refusal.failure.hint


# 3
def test_a_creation_that_fails_after_it_was_accepted_is_a_failed_node() -> None:
    account = InProcessAccount(PROVIDER, create_fails_with="resource_unavailable")

    async def story(provider: Provider) -> tuple[Observed | None, Observed]:
        seen = await create(account, provider)
        await account.clock.sleep(120)
        (listed,) = (await provider.list(Kind.NODE, frozenset())).objects
        return await provider.get(Kind.NODE, seen.remote_id), listed

    got, listed = account.run(story)
    assert got is not None
    assert (Status.FAILED, Status.FAILED) == (got.status, listed.status)
    assert "error during placement" in got.detail
    assert isinstance(got.failure, NoCapacity)


def test_a_creation_that_is_slow_is_not_a_failed_one() -> None:
    account = InProcessAccount(PROVIDER, init_seconds=400, boot_seconds=500)

    async def story(provider: Provider) -> Status:
        seen = await create(account, provider)
        await account.clock.sleep(300)
        (listed,) = (await provider.list(Kind.NODE, frozenset())).objects
        assert seen.remote_id == listed.remote_id
        return listed.status

    assert Status.STARTING is account.run(story)


# 4
def test_locked_is_a_conflict_that_passes() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> None:
        seen = await create(account, provider)
        with pytest.raises(Conflict) as caught:
            await provider.delete(Kind.NODE, seen.remote_id, {})
        assert "locked" == caught.value.failure.code
        await until(account, provider, seen, Status.RUNNING)
        await provider.delete(Kind.NODE, seen.remote_id, {})

    account.run(story)
    assert all(thing.deleted_at for thing in account.world.ledger)


def test_protected_is_no_conflict_that_passes() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> InvalidRequest:
        seen = await running(account, provider)
        account.world.ledger[0].body["protection"] = {"delete": True, "rebuild": True}
        with pytest.raises(InvalidRequest) as caught:
            await provider.delete(Kind.NODE, seen.remote_id, {})
        return caught.value

    hint = account.run(story).failure.hint
    assert hint
    assert "protection" in hint


# 5
def test_network_changes_at_the_same_time_are_conflicts_that_pass() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> list[object]:
        network = await create(account, provider, Kind.NETWORK, cidr="10.1.0.0/16")
        nodes = [await running(account, provider) for _ in range(2)]
        await update(account, provider, nodes[0], networks=[network.remote_id])
        with pytest.raises(Conflict) as caught:
            await update(account, provider, nodes[1], networks=[network.remote_id])
        assert "conflict" == caught.value.failure.code
        await account.clock.sleep(5)
        await update(account, provider, nodes[1], networks=[network.remote_id])
        await account.clock.sleep(5)
        return [seen.facts["private_ip"] for seen in (await provider.list(Kind.NODE, frozenset())).objects]

    assert ["10.1.0.2", "10.1.0.3"] == account.run(story)


def test_several_networks_are_attached_one_after_another_however_often_it_takes() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> list[int]:
        networks = [await create(account, provider, Kind.NETWORK, cidr=f"10.{n}.0.0/16") for n in (1, 2)]
        wanted = [network.remote_id for network in networks]
        node = await running(account, provider)
        with pytest.raises(Conflict):
            await update(account, provider, node, networks=wanted)
        await account.clock.sleep(5)
        seen = await update(account, provider, node, networks=wanted)
        assert Status.STARTING is seen.status
        await until(account, provider, seen, Status.RUNNING)
        await update(account, provider, node, networks=wanted)
        return [each["network"] for each in shown(account, f"/servers/{node.remote_id}")["server"]["private_net"]]

    assert 2 == len(account.run(story))
    assert 3 == sent(account, "POST", "/v1/servers/{id}/actions/{action}")


# 6
def test_a_firewall_waits_for_its_deleted_servers_to_let_go() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> Observed | None:
        firewall = await create(account, provider, Kind.NETWORK, rules=[{"port": 22}])
        node = await running(account, provider, networks=[firewall.remote_id], **NODE)
        await provider.delete(Kind.NODE, node.remote_id, {})
        with pytest.raises(Conflict) as caught:
            await provider.delete(Kind.NETWORK, firewall.remote_id, {})
        assert "resource_in_use" == caught.value.failure.code
        await account.clock.sleep(10)
        await provider.delete(Kind.NETWORK, firewall.remote_id, {})
        return await provider.get(Kind.NETWORK, firewall.remote_id)

    assert account.run(story) is None


def test_a_firewall_that_a_label_selector_applies_stays() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> None:
        firewall = await create(account, provider, Kind.NETWORK, rules=[{"port": 22}])
        account.world.ledger[0].hidden["selectors"] = ["team=x"]
        node = await running(account, provider, labels={"team": "x"}, **NODE)
        (applied,) = shown(account, f"/servers/{node.remote_id}")["server"]["public_net"]["firewalls"]
        assert firewall.remote_id == f"firewalls/{applied['id']}"
        await update(account, provider, node, networks=[])

    account.run(story)
    assert 0 == sent(account, "POST", "/v1/firewalls/{id}/actions/{action}")


# 7
def test_setting_labels_keeps_the_mark_and_drops_the_labels_that_are_not_wanted() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> tuple[Observed, Observed]:
        before = await running(account, provider, labels={"team": "x", "tier": "gold"}, **NODE)
        await update(account, provider, before, labels={"team": "y"})
        (after,) = (await provider.list(Kind.NODE, frozenset())).objects
        return before, after

    before, after = account.run(story)
    assert {"team": "y"} == after.attrs["labels"]
    assert before.mark == after.mark
    assert after.mark is not None


# 8
def test_watching_many_nodes_takes_one_call_for_fifty() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> int:
        for _ in range(60):
            await create(account, provider)
        account.world.visits.clear()
        return len((await provider.list(Kind.NODE, frozenset())).objects)

    assert 60 == account.run(story)
    assert 2 == len(account.world.visits)


def test_a_used_up_hour_is_a_rate_limit_that_refills_by_the_second() -> None:
    account = InProcessAccount(PROVIDER)
    now = account.clock.monotonic()
    account.world.recent["hetzner", "gpuplan-emulator"] = [now - 3600 + 30] * 3600

    async def story(provider: Provider) -> float:
        await provider.list(Kind.NODE, frozenset())
        return account.clock.monotonic() - now

    assert 30 <= account.run(story) <= 100

    account.world.recent["hetzner", "gpuplan-emulator"] = [account.clock.monotonic()] * 3600
    with pytest.raises(RateLimited):
        account.run(story)


# 9
def test_no_more_than_fifty_are_asked_for_on_a_page() -> None:
    account = RecordedAccount()
    account.run(lambda provider: provider.list(Kind.NODE, frozenset()))

    (exchange,) = account.desk.exchanges
    assert "50" == exchange.request.one("per_page")
    assert 50 == shown(account, "/servers", per_page="200")["meta"]["pagination"]["per_page"]


# 10
def test_a_system_that_ignores_the_shutdown_has_its_power_cut_at_the_next_try() -> None:
    account = InProcessAccount(PROVIDER, ignores_shutdown=True)

    async def story(provider: Provider) -> tuple[Status, Status, Status]:
        assert isinstance(provider, CanStop)
        node = await running(account, provider)
        asked = await provider.stop(Kind.NODE, node.remote_id)
        await account.clock.sleep(30)
        too_soon = await provider.stop(Kind.NODE, node.remote_id)
        await account.clock.sleep(120)
        deaf = await provider.get(Kind.NODE, node.remote_id)
        assert deaf is not None
        seen = await provider.stop(Kind.NODE, node.remote_id)
        await until(account, provider, seen, Status.STOPPED)
        return asked.status, too_soon.status, deaf.status

    assert (Status.STOPPING, Status.STOPPING, Status.RUNNING) == account.run(story)
    commands = [action["command"] for action in shown(account, "/servers/actions")["actions"]]
    assert ["shutdown_server", "shutdown_server", "stop_server"] == commands[-3:]


# 11
def test_arm_is_offered_only_to_those_who_ask_for_it() -> None:
    account = InProcessAccount(PROVIDER)

    def offered(**options: Any) -> set[object]:
        found = account.run(lambda provider: provider.offers(OfferQuery()), **options)
        return {offer.facts["architecture"] for offer in found}

    assert {"x86"} == offered()
    assert {"arm"} == offered(architectures=["arm"])
    assert {"x86", "arm"} == offered(architectures=["x86", "arm"])


def test_an_arm_node_gets_the_arm_image_of_the_same_name() -> None:
    account = InProcessAccount(PROVIDER)
    attrs = {"instance_type": "cax11", "region": "fsn1", "image": "debian-13"}

    seen = account.run(lambda provider: create(account, provider, **attrs))

    image = shown(account, f"/servers/{seen.remote_id}")["server"]["image"]
    assert ("debian-13", "arm") == (image["name"], image["architecture"])
    with pytest.raises(InvalidRequest):
        account.run(lambda provider: create(account, provider, **{**attrs, "image": "161547269"}))


# 12
def test_data_centers_are_gone_and_not_sent() -> None:
    account = InProcessAccount(PROVIDER)
    account.run(lambda provider: create(account, provider))

    assert "deprecated_api_endpoint" == shown(account, "/datacenters")["error"]["code"]
    assert 0 == sent(account, "POST", "/v1/datacenters")


# 13
def test_a_deprecated_server_type_is_offered_with_its_end_and_refused_after_it() -> None:
    account = InProcessAccount(PROVIDER)
    offers = account.run(lambda provider: provider.offers(OfferQuery()))
    old = [offer for offer in offers if offer.instance_type == "cx22"]

    assert {datetime(2025, 12, 31, 23, 59, 59, tzinfo=UTC)} == {offer.expires_at for offer in old}
    with pytest.raises(InvalidRequest):
        account.run(lambda provider: create(account, provider, instance_type="cx22", region="fsn1"))


def test_an_image_that_is_gone_is_refused_by_its_name() -> None:
    account = InProcessAccount(PROVIDER)

    with pytest.raises(NotFound) as caught:
        account.run(lambda provider: create(account, provider, image="centos-7", **NODE))

    assert "centos-7" in caught.value.failure.message


# 14
def test_a_node_without_a_public_address_needs_a_network_and_is_reached_by_it() -> None:
    account = InProcessAccount(PROVIDER)
    inside = {"enable_ipv4": False, "enable_ipv6": False}

    async def story(provider: Provider) -> str:
        with pytest.raises(InvalidRequest):
            await create(account, provider, options=inside, **NODE)
        network = await create(account, provider, Kind.NETWORK, cidr="10.1.0.0/16", region="fsn1")
        node = await running(account, provider, options=inside, networks=[network.remote_id], **NODE)
        assert isinstance(provider, HasSsh)
        target = provider.ssh_target(node)
        assert target is not None
        assert node.facts["public_ip"] is None
        return target.host

    assert "10.1.0.2" == account.run(story)
    assert 1 == sent(account, "POST", "/v1/servers")


def test_an_ipv6_address_is_the_first_of_its_network() -> None:
    account = InProcessAccount(PROVIDER)

    node = account.run(lambda provider: running(account, provider, options={"enable_ipv4": False}, **NODE))

    network = shown(account, f"/servers/{node.remote_id}")["server"]["public_net"]["ipv6"]["ip"]
    assert f"{node.facts['public_ip']}" == network.replace("/64", "1")


# 15
def test_a_generated_password_is_seen_by_nobody_and_does_not_expire() -> None:
    account = RecordedAccount()

    seen = account.run(lambda provider: create(account, provider))

    (exchange,) = account.desk.exchanges
    password = json.loads(exchange.response.content)["root_password"]
    assert 20 == len(password)
    assert password not in repr(seen)
    assert '"chpasswd": {"expire": false}' in str(exchange.request.json()["user_data"])


def test_a_node_with_a_registered_key_has_no_password() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> None:
        key = await create(account, provider, Kind.SSH_KEY, public_key=KEY)
        await create(account, provider, ssh_keys=[key.remote_id], **NODE)

    account.run(story)
    assert account.world.ledger[1].login is not None
    assert (KEY,) == account.world.ledger[1].login.keys


# Beyond section 12
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
