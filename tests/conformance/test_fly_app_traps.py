"""What surprises newcomers around the machines of Fly.io: apps, addresses, ports, volumes; each surprise once."""

import asyncio
from datetime import UTC, datetime

import pytest

from gpuplan.core.desired import Kind
from gpuplan.core.errors import (
    AuthFailed,
    Conflict,
    InvalidRequest,
    NoCapacity,
    NotFound,
    OutcomeUnknown,
    Refused,
    Retry,
    Unavailable,
)
from gpuplan.core.observed import Observed, Status
from gpuplan.core.offers import OfferQuery, Stock
from gpuplan.core.ports import CanUpdate, Provider
from gpuplan.core.secret import Secret
from gpuplan.emulators.faults import Fault, FaultKind
from gpuplan.net.auth import Signing
from gpuplan.net.exchange import Outgoing, Response
from gpuplan.providers.fly_apps import YOUNG_SECONDS
from gpuplan.providers.fly_tables import ANOTHERS, APPS, NO_APP, PLACEMENTS, PROFILE
from tests.conformance.fly_account import KEY, FlyAccount


async def _nobody(outgoing: Outgoing) -> Response:
    raise AssertionError("nothing is exchanged")


async def app_of(provider: Provider, account: FlyAccount) -> str:
    return (await account.create(provider)).remote_id.partition("/")[0]


def test_names_of_apps_are_everybodys_and_each_organisation_gets_its_own() -> None:
    account = FlyAccount()

    async def story(provider: Provider) -> tuple[str, str]:
        return await app_of(provider, account), (await provider.health()).id

    app, id = account.run(story)
    assert f"gpuplan-{id}" == app
    assert [app] == [thing.id for thing in account.things("app")]


def test_a_name_that_another_organisation_has_is_explained() -> None:
    account = FlyAccount()
    account.send("POST", "/apps", {"name": "theirs", "org_slug": "personal"}, key="another-key")

    async def story(provider: Provider) -> str | None:
        with pytest.raises(AuthFailed) as caught:
            await account.create(provider)
        return caught.value.failure.hint

    assert ANOTHERS == account.run(story, app="theirs")


def test_a_named_app_that_is_not_there_is_empty_and_is_not_made() -> None:
    account = FlyAccount()

    async def story(provider: Provider) -> str | None:
        assert [] == await account.listed(provider)
        with pytest.raises(NotFound) as caught:
            await account.create(provider)
        return caught.value.failure.hint

    assert NO_APP == account.run(story, app="mine")
    assert [] == account.things("app")


def test_a_named_app_is_left_as_it_is() -> None:
    account = FlyAccount()
    account.send("POST", "/apps", {"name": "mine", "org_slug": "personal"})

    async def story(provider: Provider) -> str:
        seen = await account.up(provider, ports=[8000])
        await provider.delete(Kind.NODE, seen.remote_id, {})
        return seen.remote_id

    assert account.run(story, app="mine").startswith("mine/")
    assert (["mine"], []) == ([thing.id for thing in account.things("app")], account.things("ip_address"))


def test_the_app_of_a_block_may_change_without_losing_what_is_in_the_other() -> None:
    account = FlyAccount()
    for name in ("one", "two"):
        account.send("POST", "/apps", {"name": name, "org_slug": "personal"})
    made = account.run(account.up, app="one")

    async def story(provider: Provider) -> tuple[Observed | None, list[str]]:
        listed = await provider.list(Kind.NODE, frozenset({made.remote_id}))
        return await provider.get(Kind.NODE, made.remote_id), [seen.remote_id for seen in listed.objects]

    seen, listed = account.run(story, app="two")
    assert seen is not None
    assert [made.remote_id] == listed


@pytest.mark.parametrize("status", [404, 401])
def test_the_first_calls_after_an_app_was_made_may_not_know_it(status: int) -> None:
    account = FlyAccount(app_lag_seconds=5, app_lag_status=status)

    async def story(provider: Provider) -> Observed:
        for work in (account.create(provider), account.listed(provider), provider.get(Kind.NODE, "1857156b526dd8")):
            with pytest.raises(Unavailable) as caught:
                await work
            assert Retry.LATER is caught.value.retry
        await account.clock.sleep(YOUNG_SECONDS)
        return await account.create(provider)

    assert Status.PENDING is account.run(story).status


def test_an_app_that_another_run_removed_meanwhile_is_made_again() -> None:
    account = FlyAccount()

    async def story(provider: Provider) -> Observed:
        app = await app_of(provider, account)
        await account.clock.sleep(YOUNG_SECONDS)
        account.send("DELETE", f"/apps/{app}", force="true")
        with pytest.raises(Conflict):
            await account.create(provider)
        return await account.create(provider)

    assert Status.PENDING is account.run(story).status


def test_an_app_that_two_runs_make_at_once_is_made_once() -> None:
    account = FlyAccount()

    async def story(provider: Provider) -> None:
        # It is made, and the answer is lost: the repeated request meets a name that is taken.
        account.world.faults.append(Fault(FaultKind.STATUS_AFTER, "fly", "POST", APPS, status=502))
        with pytest.raises(OutcomeUnknown):
            await account.create(provider)
        await account.create(provider)

    account.run(story)
    assert 1 == len(account.things("app"))


def test_the_app_goes_with_the_last_thing_in_it_and_not_before() -> None:
    account = FlyAccount()

    async def first(provider: Provider) -> tuple[str, str]:
        volume = await account.create(provider, Kind.VOLUME)
        node = await account.up(provider, ports=[8000])
        await provider.delete(Kind.NODE, node.remote_id, {})
        return volume.remote_id, node.remote_id

    async def second(provider: Provider) -> None:
        await provider.delete(Kind.VOLUME, volume, {})

    volume, _ = account.run(first)
    left = [len(account.things(kind)) for kind in ("app", "ip_address", "volume")]
    account.run(second)

    assert [1, 1, 1] == left
    assert [0, 0, 0] == [len(account.things(kind)) for kind in ("app", "ip_address", "volume")]
    assert 404 == account.send("GET", f"/apps/{volume.partition('/')[0]}").status


def test_an_app_in_which_somebody_else_is_busy_stays() -> None:
    account = FlyAccount()

    async def story(provider: Provider) -> None:
        seen = await account.up(provider)
        account.send("POST", f"/apps/{seen.remote_id.partition('/')[0]}/machines", {"config": {"image": "nginx"}})
        await provider.delete(Kind.NODE, seen.remote_id, {})

    account.run(story)
    assert (1, 1) == (len(account.things("app")), len(account.things()))


def test_an_app_with_something_new_that_is_not_listed_yet_stays() -> None:
    account = FlyAccount()
    account.world.list_delay_seconds["fly"] = 3

    async def story(provider: Provider) -> None:
        node = await account.up(provider)
        await provider.delete(Kind.NODE, node.remote_id, {})
        await account.create(provider, Kind.VOLUME)

    account.run(story)
    assert (1, 1) == (len(account.things("app")), len(account.things("volume")))


def test_an_app_gets_one_address_once_something_in_it_is_exposed() -> None:
    account = FlyAccount()

    async def story(provider: Provider) -> list[int]:
        counts: list[int] = []
        for attrs in ({}, {"ports": [8000]}, {"ssh_keys": [KEY]}):
            await account.create(provider, **attrs)
            counts.append(len(account.things("ip_address")))
        return counts

    assert [0, 1, 1] == account.run(story)
    assert 0 < account.things("ip_address")[0].prices[0][1]


def test_an_address_of_version_6_costs_nothing() -> None:
    account = FlyAccount()
    account.run(lambda provider: account.create(provider, ports=[8000]), public_ip="v6")

    (address,) = account.things("ip_address")
    assert ":" in address.id
    assert [] == address.prices


def test_two_nodes_never_share_a_port_of_their_app() -> None:
    account = FlyAccount()

    async def story(provider: Provider) -> list[int]:
        nodes = [await account.create(provider, ports=[8000, "9000/http"], ssh_keys=[KEY]) for _ in range(20)]
        found: list[int] = []
        for node in nodes:
            endpoints, ssh = node.facts["endpoints"], node.facts["ssh_port"]
            assert isinstance(endpoints, dict)
            assert isinstance(ssh, int)
            assert str(endpoints["9000"]).startswith("https://")
            found += [ssh, *(int(str(address).rpartition(":")[2]) for address in endpoints.values())]
        return found

    async def later(provider: Provider) -> list[int]:
        seen = await account.create(provider, ssh_keys=[KEY])
        port = seen.facts["ssh_port"]
        assert isinstance(port, int)
        return [port]

    ports = account.run(story) + account.run(later)
    assert 61 == len(set(ports))


def test_a_volume_is_not_deleted_while_a_machine_has_it() -> None:
    account = FlyAccount()

    async def story(provider: Provider) -> Observed | None:
        volume = await account.create(provider, Kind.VOLUME)
        node = await account.up(provider, volumes=[{"volume": volume.remote_id, "mount": "/data"}])
        with pytest.raises(Conflict):
            await provider.delete(Kind.VOLUME, volume.remote_id, {})
        await provider.delete(Kind.NODE, node.remote_id, {})
        with pytest.raises(Conflict):
            await provider.delete(Kind.VOLUME, volume.remote_id, {})
        await account.clock.sleep(5)
        await provider.delete(Kind.VOLUME, volume.remote_id, {})
        return await provider.get(Kind.VOLUME, volume.remote_id)

    seen = account.run(story)
    assert seen is not None
    assert Status.TERMINATING is seen.status


def test_a_volume_without_room_has_no_capacity_although_it_is_a_bad_request() -> None:
    account = FlyAccount()
    account.sell_out("volume")

    async def story(provider: Provider) -> None:
        with pytest.raises(NoCapacity):
            await account.create(provider, Kind.VOLUME)

    account.run(story)


def test_a_machine_whose_volume_is_on_a_full_host_has_no_capacity() -> None:
    account = FlyAccount(full_hosts=True)

    async def story(provider: Provider) -> str | None:
        volume = await account.create(provider, Kind.VOLUME)
        with pytest.raises(NoCapacity) as caught:
            await account.create(provider, volumes=[{"volume": volume.remote_id, "mount": "/data"}])
        return caught.value.failure.code

    assert "volume_placement_capacity" == account.run(story)


def test_volumes_of_one_name_are_told_apart_and_grow() -> None:
    account = FlyAccount()

    async def story(provider: Provider) -> tuple[Observed, Observed]:
        assert isinstance(provider, CanUpdate)
        one, two = [await account.create(provider, Kind.VOLUME) for _ in range(2)]
        want, _ = account.ask(Kind.VOLUME, size_gb=20)
        grown = await provider.update(want, one.remote_id, {})
        smaller, _ = account.ask(Kind.VOLUME, size_gb=5)
        with pytest.raises(Refused):
            await provider.update(smaller, one.remote_id, {})
        return grown, two

    grown, other = account.run(story)
    assert (20, 10) == (grown.attrs["size_gb"], other.attrs["size_gb"])
    assert grown.mark != other.mark


def test_a_volume_can_begin_with_a_snapshot() -> None:
    account = FlyAccount()

    async def story(provider: Provider) -> None:
        await account.create(provider, Kind.VOLUME, options={"snapshot": "vs_4qkm0zy1n8dxp6gr"})
        with pytest.raises(InvalidRequest):
            await account.create(provider, Kind.VOLUME, options={"fstype": "xfs"})

    account.run(story)
    (volume,) = account.things("volume")
    assert "vs_4qkm0zy1n8dxp6gr" == volume.hidden["from"]


def test_a_token_for_several_organisations_needs_a_choice() -> None:
    account = FlyAccount(organizations="personal,acme")

    async def story(provider: Provider) -> str:
        return (await provider.health()).id

    with pytest.raises(InvalidRequest) as caught:
        account.run(story)
    assert "say which one with `org`" == caught.value.failure.hint
    assert account.run(story, org="acme") != account.run(story, org="personal")
    with pytest.raises(AuthFailed):
        account.run(story, org="nobody")


@pytest.mark.parametrize(("token", "header"), [("fo1_x", "Bearer fo1_x"), ("FlyV1 fm2_x", "FlyV1 fm2_x")])
def test_a_token_with_its_own_scheme_is_sent_as_it_is(token: str, header: str) -> None:
    signing = Signing({"key": Secret(token)}, datetime(2026, 11, 24, tzinfo=UTC), _nobody)
    signed = asyncio.run(PROFILE.auth.sign(Outgoing("GET", "https://api.machines.dev/v1/apps", {}), signing))

    assert header == signed.headers["Authorization"]


def test_a_token_that_may_not_ask_for_room_gets_offers_all_the_same() -> None:
    account = FlyAccount()
    account.world.faults.append(Fault(FaultKind.STATUS, "fly", "POST", PLACEMENTS, times=None, status=403))

    async def story(provider: Provider) -> set[Stock]:
        return {offer.stock for offer in await provider.offers(OfferQuery(gpu_count=0))}

    assert {Stock.UNTOLD} == account.run(story)


def test_offers_tell_where_there_is_no_room_and_leave_out_regions_that_are_given_up() -> None:
    account = FlyAccount()
    account.sell_out("performance-16x")

    async def story(provider: Provider) -> set[tuple[str, Stock]]:
        offers = await provider.offers(OfferQuery(gpu_count=0))
        assert "mad" not in {offer.region for offer in offers}
        return {(offer.instance_type, offer.stock) for offer in offers}

    found = account.run(story)
    assert ("performance-16x", Stock.NONE) in found
    assert ("performance-8x", Stock.PLENTY) in found
