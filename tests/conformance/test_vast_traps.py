"""What surprises newcomers to Vast.ai's API, each surprise once; in process and in virtual time."""

from dataclasses import replace
from datetime import timedelta

import pytest

from gpuplan.core.address import Address
from gpuplan.core.desired import Kind
from gpuplan.core.errors import Conflict, InvalidRequest, NoCapacity, NotFound, QuotaExceeded, Refused
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Observed, Status
from gpuplan.core.offers import Offer, OfferQuery
from gpuplan.core.ports import CanLog, CanStop, HasSsh, Provider, Want
from gpuplan.core.values import Value
from gpuplan.emulators.site import Site
from gpuplan.emulators.vast_instances import show
from gpuplan.emulators.world import Shelf, Thing
from gpuplan.providers.vast import PROVIDER
from gpuplan.testing.in_process import InProcessAccount

NODE: dict[str, Value] = {"gpu": "RTX4090:1"}
SECTIONS = {Kind.NODE: "clusters", Kind.VOLUME: "volumes", Kind.SSH_KEY: "ssh_keys"}


def ask(account: InProcessAccount, kind: Kind, **attrs: Value) -> tuple[Want, Mark]:
    address = Address(SECTIONS[kind], "train", None, 0 if kind is Kind.NODE else None)
    mark = Mark(account.clock.token(), "llama", "default", "lineage", address)
    return Want(address, kind, attrs, "train-0"), mark


async def create(
    account: InProcessAccount, provider: Provider, kind: Kind = Kind.NODE, offer: Offer | None = None, **attrs: Value
) -> Observed:
    want, mark = ask(account, kind, **({**NODE, **attrs} if kind is Kind.NODE else attrs))
    return await provider.create(replace(want, offer=offer), mark, {})


async def until(account: InProcessAccount, provider: Provider, seen: Observed, status: Status) -> Observed:
    for _ in range(400):
        if seen.status is status:
            return seen
        await account.clock.sleep(10)
        now = await provider.get(seen.kind, seen.remote_id)
        assert now is not None
        seen = now
    raise AssertionError(f"it is {seen.status}")


def site_of(account: InProcessAccount) -> Site:
    return Site(account.desk.types["vast"], account.world)


def nodes(account: InProcessAccount) -> list[Thing]:
    return list(account.world.living["vast", "node"].values())


def test_without_a_price_a_node_is_rented_on_demand_and_a_bid_is_for_the_whole_slice() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> tuple[Offer, Offer]:
        await create(account, provider)
        spot = min(await provider.offers(OfferQuery("RTX4090", 2, spot=True)), key=lambda offer: offer.ref)
        single = min(await provider.offers(OfferQuery("RTX4090", 1, spot=True)), key=lambda offer: offer.ref)
        await create(account, provider, offer=spot, gpu="RTX4090:2", spot=True)
        return spot, single

    spot, single = account.run(story)
    on_demand, bid = nodes(account)

    assert (False, True) == (on_demand.body["is_bid"], bid.body["is_bid"])
    assert spot.facts["bid"] == bid.hidden["rate"]
    assert isinstance(one := single.facts["bid"], float)
    assert isinstance(two := spot.facts["bid"], float)
    assert one < two


def test_a_bid_stays_below_the_maximum() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> None:
        await create(account, provider, spot={"max_price": 0.2})

    account.run(story)
    assert 0.2 == nodes(account)[0].hidden["rate"]


def test_a_create_that_failed_tells_what_it_left_behind() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> str:
        with pytest.raises(Refused) as caught:
            await create(account, provider, spot={"max_price": 0.01})
        leftover = caught.value.failure.leftover
        assert leftover == nodes(account)[0].id
        await provider.delete(Kind.NODE, leftover, {})
        return leftover

    assert account.run(story)
    assert [] == nodes(account)


def test_an_offer_can_be_taken_once() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> None:
        offer = (await provider.offers(OfferQuery("RTX4090", 1, spot=False)))[0]
        assert 1 == offer.max_count
        await create(account, provider, offer=offer)
        with pytest.raises(NoCapacity):
            await create(account, provider, offer=offer)

    account.run(story)
    assert 1 == len(nodes(account))


def test_what_is_not_there_is_null_and_what_was_just_made_is_too() -> None:
    account = InProcessAccount(PROVIDER, hidden_seconds=30)

    async def story(provider: Provider) -> tuple[Observed | None, Observed | None]:
        seen = await create(account, provider)
        young = await provider.get(Kind.NODE, seen.remote_id)
        await account.clock.sleep(40)
        assert await provider.get(Kind.NODE, seen.remote_id)
        account.world.remove(nodes(account)[0])
        return young, await provider.get(Kind.NODE, seen.remote_id)

    young, gone = account.run(story)
    assert young is not None
    assert (Status.PENDING, None) == (young.status, gone)


def test_a_start_that_would_wait_for_its_gpus_is_taken_back() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> Observed | None:
        assert isinstance(provider, CanStop)
        seen = await until(account, provider, await create(account, provider), Status.RUNNING)
        await provider.stop(Kind.NODE, seen.remote_id)
        account.world.shelves["vast", "RTX4090", ""] = Shelf(available=0)
        await account.clock.sleep(10)
        with pytest.raises(NoCapacity):
            await provider.start(Kind.NODE, seen.remote_id)
        return await provider.get(Kind.NODE, seen.remote_id)

    seen = account.run(story)
    assert seen is not None
    assert Status.STOPPED is seen.status
    assert "stopped" == nodes(account)[0].hidden["intended"]


def test_an_outbid_node_is_stopped_although_nobody_stopped_it() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> Observed | None:
        seen = await until(account, provider, await create(account, provider, spot=True), Status.RUNNING)
        account.world.shelves["vast", "RTX4090", ""] = Shelf(available=0)
        account.desk.types["vast"].preempt(site_of(account), nodes(account)[0])
        return await provider.get(Kind.NODE, seen.remote_id)

    seen = account.run(story)
    assert seen is not None
    assert Status.STOPPED is seen.status
    assert "outbid" in seen.detail


def test_creates_keep_the_pace_of_their_endpoint() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> float:
        offers = await provider.offers(OfferQuery("RTX4090", 1, spot=False))
        begun = account.clock.monotonic()
        for offer in offers[:3]:
            await create(account, provider, offer=offer)
        return account.clock.monotonic() - begun

    assert 9 <= account.run(story) < 12
    assert 429 not in {visit.status for visit in account.world.visits}


def test_a_throttled_create_waits_as_long_as_the_text_says() -> None:
    account = InProcessAccount(PROVIDER, create_threshold=7)

    async def story(provider: Provider) -> float:
        offers = await provider.offers(OfferQuery("RTX4090", 1, spot=False))
        await create(account, provider, offer=offers[0])
        begun = account.clock.monotonic()
        await create(account, provider, offer=offers[1])
        return account.clock.monotonic() - begun

    assert account.run(story) >= 7
    assert 429 in {visit.status for visit in account.world.visits}
    assert 2 == len(nodes(account))


def test_a_search_gives_64_rows_and_the_market_is_larger() -> None:
    account = InProcessAccount(PROVIDER, machines=120)

    async def story(provider: Provider) -> list[Offer]:
        return list(await provider.offers(OfferQuery(spot=False)))

    offers, some = account.run(story), account.run(story, gpus=["H200"])
    assert len(offers) > 128
    assert (len(offers), {"H200"}) == (len({offer.ref for offer in offers}), {offer.gpu for offer in some})


def test_the_disk_is_in_the_price() -> None:
    async def story(provider: Provider) -> Offer:
        return (await provider.offers(OfferQuery("RTX4090", 1, spot=False)))[0]

    small = InProcessAccount(PROVIDER).run(story, disk_gb=10)
    large = InProcessAccount(PROVIDER).run(story, disk_gb=500)

    assert (small.price_per_hour or 0) < (large.price_per_hour or 0)


def test_poor_machines_are_not_looked_at_unless_one_says_so() -> None:
    async def story(provider: Provider) -> list[Offer]:
        return list(await provider.offers(OfferQuery("RTX4090", spot=False)))

    picky = InProcessAccount(PROVIDER).run(story)
    all_of_them = InProcessAccount(PROVIDER).run(story, verified=False, min_reliability=0, min_ports=0, min_inet_down=0)

    assert len(picky) < len(all_of_them)
    assert all(offer.reliability and offer.reliability >= 0.97 for offer in picky)


def test_a_machine_that_tells_no_place_is_offered_without_a_region() -> None:
    async def story(provider: Provider) -> set[str]:
        return {offer.region for offer in await provider.offers(OfferQuery(spot=False))}

    assert {"", "CA", "US"} <= InProcessAccount(PROVIDER, machines=60).run(story)


def test_variables_and_ports_share_one_object() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> Observed:
        seen = await create(account, provider, env={"HF_HOME": "/w"}, ports=[8000, "9000/udp"])
        return await until(account, provider, seen, Status.RUNNING)

    seen = account.run(story)
    assert [["HF_HOME", "/w"], ["-p 8000:8000", "1"], ["-p 9000:9000/udp", "1"]] == nodes(account)[0].body["extra_env"]
    assert isinstance(ports := seen.facts["ports"], dict)
    assert {"22/tcp", "8000/tcp", "9000/udp"} == set(ports)
    assert all(isinstance(port, int) for port in ports.values())
    assert "image" not in seen.attrs
    assert "env" not in seen.attrs


def test_ssh_goes_straight_to_the_machine_and_its_address_has_no_line_end() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> tuple[str, int]:
        assert isinstance(provider, HasSsh)
        seen = await create(account, provider, gpu="H100-80GB-SXM:1")
        target = provider.ssh_target(await until(account, provider, seen, Status.RUNNING))
        assert target
        return target.host, target.port

    host, port = account.run(story)
    (node,) = nodes(account)
    login = node.login
    assert login
    assert str(show(site_of(account), node)["public_ipaddr"]).endswith("\n")
    assert (login.host, login.port) == (host, port)


def test_a_long_script_is_packed_and_one_too_long_is_refused_before_anything_is_sent() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> None:
        await create(account, provider, user_data="echo hello\n" * 1000)
        noise = "".join(chr(33 + account.world.random.randrange(90)) for _ in range(9000))
        with pytest.raises(InvalidRequest, match="does not accept") as caught:
            await create(account, provider, user_data=noise)
        assert "4048" in caught.value.failure.message

    account.run(story)
    (node,) = nodes(account)
    assert "gunzip" in str(node.body["onstart"])


def test_an_entrypoint_runs_only_where_there_is_no_ssh() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> None:
        await create(account, provider, command="serve --all")
        await create(account, provider, command="serve --all", options={"runtype": "args"})

    account.run(story)
    with_ssh, bare = nodes(account)
    assert str(with_ssh.body["onstart"]).endswith("sh -c 'serve --all'\n")
    assert (None, ["sh", "-c", "serve --all"]) == (bare.body["onstart"], bare.body["image_args"])


def test_an_instance_has_another_number_than_its_offer_and_its_machine() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> tuple[Offer, Observed]:
        offer = (await provider.offers(OfferQuery("RTX4090", 1, spot=False)))[0]
        made = await create(account, provider, offer=offer)
        return offer, await until(account, provider, made, Status.RUNNING)

    offer, seen = account.run(story)
    assert offer.ref != seen.remote_id
    assert offer.zone == seen.attrs["zone"] == str(seen.facts["machine_id"])


def test_a_volume_ties_a_node_to_its_machine() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> None:
        volume = await create(account, provider, Kind.VOLUME, size_gb=20, zone="15000")
        mounts: list[Value] = [{"volume": volume.remote_id, "mount": "/data"}]
        elsewhere = next(o for o in await provider.offers(OfferQuery("RTX4090", 1, spot=False)) if o.zone != "15000")
        with pytest.raises(InvalidRequest):
            await create(account, provider, offer=elsewhere, volumes=mounts)
        node = await create(account, provider, zone="15000", volumes=mounts)
        with pytest.raises(Conflict):
            await provider.delete(Kind.VOLUME, volume.remote_id, {})
        await provider.delete(Kind.NODE, node.remote_id, {})
        await account.clock.sleep(60)
        await provider.delete(Kind.VOLUME, volume.remote_id, {})
        assert await provider.get(Kind.VOLUME, volume.remote_id) is None

    account.run(story)


def test_an_image_that_cannot_be_pulled_loads_for_ever_and_is_told_as_failed() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> Observed:
        return await until(
            account, provider, await create(account, provider, image="acme/no-such-image:1"), Status.FAILED
        )

    assert "manifest unknown" in account.run(story).detail


def test_other_instances_of_the_account_carry_no_mark() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> list[Observed]:
        await create(account, provider)
        nodes(account)[0].body["label"] = "my own machine"
        await account.clock.sleep(10)
        return list((await provider.list(Kind.NODE, frozenset())).objects)

    (seen,) = account.run(story)
    assert seen.mark is None


def test_no_credit_is_a_quota_and_not_a_lack_of_machines() -> None:
    account = InProcessAccount(PROVIDER, credit=False)

    async def story(provider: Provider) -> None:
        with pytest.raises(QuotaExceeded):
            await create(account, provider)

    account.run(story)


def test_an_account_without_keys_is_told_as_not_found() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> list[Observed]:
        with pytest.raises(NotFound):
            assert isinstance(provider, CanStop)
            await provider.stop(Kind.NODE, "1")
        return list((await provider.list(Kind.SSH_KEY, frozenset())).objects)

    assert [] == account.run(story)


def test_a_log_is_waited_for() -> None:
    account = InProcessAccount(PROVIDER, log_seconds=2)

    async def story(provider: Provider) -> list[str]:
        assert isinstance(provider, CanLog)
        seen = await until(account, provider, await create(account, provider), Status.RUNNING)
        return [line async for line in provider.logs(Kind.NODE, seen.remote_id, follow=False, tail=2)]

    assert "ready" == account.run(story)[-1]


def test_a_stopped_node_goes_on_paying_for_its_disk() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> None:
        assert isinstance(provider, CanStop)
        seen = await until(account, provider, await create(account, provider, disk_gb=720), Status.RUNNING)
        await provider.stop(Kind.NODE, seen.remote_id)

    account.run(story)
    (node,), bill = nodes(account), account.desk.types["vast"].bill
    now = account.world.time.now()

    assert 0.19 < bill(node, now + timedelta(hours=1)) - bill(node, now) < 0.21
