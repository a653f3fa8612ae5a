"""What surprises newcomers to Hetzner's API, each surprise once; in process and in virtual time."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from gpuplan.core.desired import Kind
from gpuplan.core.errors import (
    Conflict,
    InvalidRequest,
    NoCapacity,
    NotFound,
    OutcomeUnknown,
    ProtocolMismatch,
    RateLimited,
)
from gpuplan.core.observed import Observed, Status
from gpuplan.core.offers import OfferQuery
from gpuplan.core.ports import CanStop, HasSsh, Provider
from gpuplan.core.values import Value
from gpuplan.emulators.faults import Fault, FaultKind
from gpuplan.emulators.world import Shelf
from gpuplan.providers.hetzner import PROVIDER
from gpuplan.testing.in_process import InProcessAccount
from tests.conformance.hetzner_account import (
    KEY,
    NODE,
    RecordedAccount,
    ask,
    create,
    running,
    sent,
    shown,
    until,
    update,
)


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

    async def story(provider: Provider) -> tuple[list[str], str]:
        want, mark = ask(account, object, **attrs)
        with pytest.raises((OutcomeUnknown, ProtocolMismatch)):
            await provider.create(want, mark, {})
        with pytest.raises(Conflict):
            await provider.create(want, mark, {})
        return [seen.mark.token for seen in (await provider.list(object, frozenset())).objects if seen.mark], mark.token

    listed, token = account.run(story)
    assert [token] == listed
    assert 1 == len(account.world.ledger)


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


def test_no_more_than_fifty_are_asked_for_on_a_page() -> None:
    account = RecordedAccount()
    account.run(lambda provider: provider.list(Kind.NODE, frozenset()))

    (exchange,) = account.desk.exchanges
    assert "50" == exchange.request.one("per_page")
    assert 50 == shown(account, "/servers", per_page="200")["meta"]["pagination"]["per_page"]


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


def test_data_centers_are_gone_and_not_sent() -> None:
    account = InProcessAccount(PROVIDER)
    account.run(lambda provider: create(account, provider))

    assert "deprecated_api_endpoint" == shown(account, "/datacenters")["error"]["code"]
    assert 0 == sent(account, "POST", "/v1/datacenters")


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
