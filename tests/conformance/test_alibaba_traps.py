"""What surprises newcomers to Alibaba Cloud's own API, each surprise once; in process and in virtual time."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from gpuplan.core.address import Address
from gpuplan.core.desired import Kind
from gpuplan.core.errors import (
    AuthFailed,
    Conflict,
    InvalidRequest,
    NoCapacity,
    ProviderError,
    QuotaExceeded,
    RateLimited,
    Refused,
    Unavailable,
)
from gpuplan.core.marks import Mark
from gpuplan.core.observed import GONE, Observed, Status
from gpuplan.core.offers import Offer, OfferQuery, Pricing, Stock
from gpuplan.core.ports import CanLog, CanStop, CanUpdate, HasSsh, Provider, Want
from gpuplan.core.values import JsonValue, Value
from gpuplan.emulators.alibaba_answers import Asked
from gpuplan.emulators.faults import Fault, FaultKind
from gpuplan.emulators.site import Site
from gpuplan.emulators.world import Shelf, Thing
from gpuplan.net.acs3 import flat
from gpuplan.net.classify import error_of
from gpuplan.net.exchange import Call, Response
from gpuplan.net.profile import Effect
from gpuplan.providers.alibaba import PROVIDER
from gpuplan.providers.alibaba_tables import Options, profile
from gpuplan.testing.clock import FakeClock
from gpuplan.testing.in_process import InProcessAccount

REGION = "ap-southeast-1"
OPTIONS: Mapping[str, JsonValue] = {
    "region_id": REGION,
    "security_group_id": "sg-team",
    "vswitch_id": [f"vsw-{REGION}a", f"vsw-{REGION}b"],
}
NODE: Mapping[str, Value] = {"gpu": "A10:1", "instance_type": "ecs.gn7i-c8g1.2xlarge"}
RSA = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQC7vbqajDhA ana@example.com"
LOCAL_DISKS: Mapping[str, Value] = {"gpu": "P100:1", "instance_type": "ecs.gn5-c4g1.xlarge"}


@pytest.fixture
def account() -> InProcessAccount:
    return InProcessAccount(PROVIDER)


def ask(account: InProcessAccount, kind: Kind = Kind.NODE, /, **attrs: Value) -> tuple[Want, Mark]:
    address = Address("clusters", "train", None, 0)
    mark = Mark(account.clock.token(), "llama", "default", "lineage", address)
    given = {**NODE, **attrs} if kind is Kind.NODE else attrs
    return Want(address, kind, given, f"train-{mark.token[-6:]}"), mark


async def create(
    account: InProcessAccount, provider: Provider, offer: Offer | None = None, /, **attrs: Value
) -> Observed:
    want, mark = ask(account, **attrs)
    return await provider.create(replace(want, offer=offer), mark, {})


async def until(account: InProcessAccount, provider: Provider, seen: Observed, *ends: Status) -> Observed:
    for _ in range(100):
        if seen.status in ends:
            return seen
        await account.clock.sleep(10)
        now = await provider.get(seen.kind, seen.remote_id)
        assert now is not None
        seen = now
    raise AssertionError(f"it is {seen.status}")


async def up(account: InProcessAccount, provider: Provider, **attrs: Value) -> Observed:
    return await until(account, provider, await create(account, provider, **attrs), Status.RUNNING)


async def stopped(account: InProcessAccount, provider: Provider, seen: Observed) -> Observed:
    assert isinstance(provider, CanStop)
    return await until(account, provider, await provider.stop(Kind.NODE, seen.remote_id), Status.STOPPED)


def nodes(account: InProcessAccount) -> list[Thing]:
    return list(account.world.living["alibaba", "node"].values())


def calls(account: InProcessAccount, action: str) -> list[int]:
    """How the calls of an action were answered."""
    return [visit.status for visit in account.world.visits if visit.route == action]


def sold_out(account: InProcessAccount) -> None:
    account.world.shelves["alibaba", "A10", REGION] = Shelf(available=0)


def refused(status: int, code: str) -> ProviderError:
    """What an error of that code is to us."""
    body = f'{{"RequestId": "1", "Code": "{code}", "Message": "words that change"}}'.encode()
    call = Call("POST", "/RunInstances", "/RunInstances", "create a node", Effect.ONCE)
    found = error_of(profile(Options()), call, Response(status, {}, body), "alibaba", FakeClock().now())
    assert found is not None
    return found


def test_trap_1_an_empty_list_without_permission_is_an_error() -> None:
    account = InProcessAccount(PROVIDER, permitted=False)

    async def story(provider: Provider) -> None:
        with pytest.raises(AuthFailed) as caught:
            await provider.list(Kind.NODE, frozenset())
        assert "Forbidden.RAM" == caught.value.failure.code
        with pytest.raises(AuthFailed):
            await provider.get(Kind.NODE, f"{REGION}/i-1")
        with pytest.raises(AuthFailed):
            await provider.health()

    account.run(story, **OPTIONS)


def test_trap_1_permission_is_asked_for_once_and_only_where_nothing_is_seen(account: InProcessAccount) -> None:
    async def story(provider: Provider) -> None:
        await up(account, provider)
        account.world.visits.clear()
        await provider.list(Kind.NODE, frozenset())
        assert [200] == calls(account, "DescribeInstances")
        for _ in range(3):
            assert await provider.get(Kind.NODE, f"{REGION}/i-1") is None
        assert [200, 200, 400, 200, 200] == calls(account, "DescribeInstances")

    account.run(story, **OPTIONS)


def test_trap_2_what_is_in_another_region_is_not_missing(account: InProcessAccount) -> None:
    async def story(provider: Provider) -> None:
        listed = await provider.list(Kind.NODE, frozenset({"cn-beijing/i-1", f"{REGION}/i-2"}))
        assert (("cn-beijing/",), []) == (listed.unseen, list(listed.objects))
        assert REGION in listed.why
        with pytest.raises(Refused) as caught:
            await provider.get(Kind.NODE, "cn-beijing/i-1")
        assert "cn-beijing" in caught.value.failure.message
        with pytest.raises(Refused):
            await provider.delete(Kind.NODE, "cn-beijing/i-1", {})

    account.run(story, **OPTIONS)


def test_trap_3_listings_are_asked_for_by_the_hundred_and_followed_to_their_end(account: InProcessAccount) -> None:
    async def story(provider: Provider) -> None:
        for _ in range(101):
            await create(account, provider)
        account.world.visits.clear()
        assert 101 == len((await provider.list(Kind.NODE, frozenset())).objects)
        assert [200, 200] == calls(account, "DescribeInstances")

        account.world.knobs["alibaba"]["most_per_page"] = 3
        assert "ecs.gn8is.2xlarge" in {offer.ref for offer in await provider.offers(OfferQuery())}

    account.run(story, **OPTIONS)


def test_trap_4_a_bad_key_is_no_absence() -> None:
    assert isinstance(refused(404, "InvalidAccessKeyId.NotFound"), AuthFailed)
    assert isinstance(refused(404, "InvalidImageId.NotFound"), InvalidRequest)
    assert "not-found" == refused(404, "InvalidInstanceId.NotFound").id


def test_trap_5_throttling_under_status_400_is_waited_for(account: InProcessAccount) -> None:
    async def story(provider: Provider) -> None:
        fault = Fault(FaultKind.STATUS, "alibaba", route="RunInstances", status=429, retry_after=3, times=1)
        account.world.faults.append(fault)
        await create(account, provider)

    account.run(story, **OPTIONS)

    assert [400, 200] == calls(account, "RunInstances")
    assert all(isinstance(refused(400, code), RateLimited) for code in ("Throttling", "Throttling.Api"))


def test_trap_6_an_instance_that_starts_is_deleted_once_it_has(account: InProcessAccount) -> None:
    async def story(provider: Provider) -> None:
        seen = await create(account, provider)
        with pytest.raises(Conflict):
            await provider.delete(Kind.NODE, seen.remote_id, {})
        assert 1 == len(nodes(account))
        await until(account, provider, seen, Status.RUNNING)
        await provider.delete(Kind.NODE, seen.remote_id, {})
        await provider.delete(Kind.NODE, seen.remote_id, {})

    account.run(story, **OPTIONS)

    assert [] == nodes(account)


def test_trap_7_a_stop_says_its_mode_and_tells_when_it_is_charged_all_the_same(account: InProcessAccount) -> None:
    async def story(provider: Provider) -> None:
        cheap = await stopped(account, provider, await up(account, provider))
        assert ("StopCharging", "") == (cheap.facts["stopped_mode"], cheap.detail)
        dear = await stopped(account, provider, await up(account, provider, **LOCAL_DISKS))
        assert "KeepCharging" == dear.facts["stopped_mode"]
        assert "charged" in dear.detail

    account.run(story, **OPTIONS)


def test_trap_8_a_start_may_find_no_stock_and_brings_another_address(account: InProcessAccount) -> None:
    async def story(provider: Provider) -> None:
        assert isinstance(provider, CanStop)
        assert isinstance(provider, HasSsh)
        first = await up(account, provider)
        seen = await stopped(account, provider, first)
        assert seen.facts["public_ip"] is None
        sold_out(account)
        with pytest.raises(NoCapacity):
            await provider.start(Kind.NODE, seen.remote_id)
        account.world.shelves.clear()
        again = await until(account, provider, await provider.start(Kind.NODE, seen.remote_id), Status.RUNNING)
        assert first.facts["public_ip"] != again.facts["public_ip"]
        assert provider.ssh_target(again) is not None

    account.run(story, **OPTIONS)


def test_trap_9_stock_that_was_told_may_be_gone_and_the_next_zone_has_another_vswitch() -> None:
    account = InProcessAccount(PROVIDER, sold_out_zones=f"{REGION}a")

    async def story(provider: Provider) -> None:
        offers = {o.zone: o for o in await provider.offers(OfferQuery(gpu="A10", gpu_count=1, spot=False))}
        assert {f"{REGION}a", f"{REGION}b"} == set(offers)
        assert {Stock.SOME} == {offer.stock for offer in offers.values()}
        with pytest.raises(NoCapacity) as caught:
            await create(account, provider, offers[f"{REGION}a"])
        assert "A10:1" == caught.value.failure.gpu
        seen = await up_with(account, provider, offers[f"{REGION}b"])
        assert (f"{REGION}b", f"vsw-{REGION}b") == (seen.attrs["zone"], seen.facts["vswitch_id"])

    account.run(story, **OPTIONS)


async def up_with(account: InProcessAccount, provider: Provider, offer: Offer) -> Observed:
    return await until(account, provider, await create(account, provider, offer), Status.RUNNING)


def test_trap_10_every_node_is_a_call_of_its_own(account: InProcessAccount) -> None:
    async def story(provider: Provider) -> None:
        account.world.shelves["alibaba", "A10", REGION] = Shelf(available=2)
        for _ in range(2):
            await create(account, provider)
        with pytest.raises(NoCapacity):
            await create(account, provider)

    account.run(story, **OPTIONS)

    assert [200, 200, 403] == calls(account, "RunInstances")
    assert 2 == len(nodes(account))


def test_trap_11_a_node_has_a_public_address_unless_it_is_to_have_none(account: InProcessAccount) -> None:
    async def story(provider: Provider) -> None:
        assert isinstance(provider, HasSsh)
        seen = await up(account, provider)
        assert seen.facts["public_ip"]
        inside = await up(account, provider, options={"internet_mbps": 0})
        assert inside.facts["public_ip"] is None
        target = provider.ssh_target(inside)
        assert target is not None
        assert inside.facts["private_ip"] == target.host

    account.run(story, **OPTIONS)


def test_trap_12_of_a_pattern_the_newest_image_is_taken_and_no_image_is_compared(account: InProcessAccount) -> None:
    async def story(provider: Provider) -> None:
        seen = await up(account, provider)
        assert "ubuntu_22_04_x64_20G_alibase_20250917.vhd" == seen.facts["image"]
        assert "image" not in seen.attrs
        family = await up(account, provider, image="acs:ubuntu_24_04_x64")
        assert "ubuntu_24_04_x64_20G_alibase_20250916.vhd" == family.facts["image"]
        for image in ("ubuntu_22_04_x64_20G_alibase_20200101.vhd", "ubuntu_18*"):
            with pytest.raises(InvalidRequest):
                await create(account, provider, image=image)

    account.run(story, **OPTIONS)


def test_trap_13_what_takes_effect_after_a_reboot_alone_is_not_changed_in_place() -> None:
    attributes = PROVIDER.capabilities(PROVIDER.options()).kinds[Kind.NODE].attributes

    assert "labels" == ",".join(name for name, how in attributes.items() if how == "in_place")


def test_trap_14_vswitch_and_security_group_of_different_networks_are_refused(account: InProcessAccount) -> None:
    async def story(provider: Provider) -> None:
        with pytest.raises(InvalidRequest) as caught:
            await create(account, provider, options={"security_group_id": "sg-other"})
        assert "InvalidParameter.Mismatch" == caught.value.failure.code
        with pytest.raises(InvalidRequest) as caught:
            await create(account, provider, zone=f"{REGION}c")
        assert f"{REGION}c" in caught.value.failure.message

    account.run(story, **OPTIONS)

    assert [400] == calls(account, "RunInstances")


def test_trap_14_without_a_vswitch_nothing_is_sent(account: InProcessAccount) -> None:
    async def story(provider: Provider) -> None:
        with pytest.raises(InvalidRequest) as caught:
            await create(account, provider)
        assert "`vswitch_id`" in caught.value.failure.message

    account.run(story, **{**OPTIONS, "vswitch_id": []})

    assert [] == calls(account, "RunInstances")


def test_trap_15_booleans_are_lower_case_and_the_server_takes_any() -> None:
    assert {"DryRun": "true"} == flat({"DryRun": True})
    assert all(Asked({"DryRun": word}).flag("DryRun") for word in ("true", "True", "TRUE"))


def test_trap_16_a_reclaimed_spot_instance_is_lost_though_it_looks_stopped(account: InProcessAccount) -> None:
    async def story(provider: Provider) -> None:
        seen = await up(account, provider, spot=True)
        emulator = account.desk.types["alibaba"]
        emulator.preempt(Site(emulator, account.world), nodes(account)[0])
        lost = await provider.get(Kind.NODE, seen.remote_id)
        assert lost is not None
        assert lost.status in GONE
        await account.clock.sleep(600)
        assert await provider.get(Kind.NODE, seen.remote_id) is None

    account.run(story, **OPTIONS)


def test_trap_17_labels_are_read_back_and_the_mark_stays(account: InProcessAccount) -> None:
    async def story(provider: Provider) -> None:
        assert isinstance(provider, CanUpdate)
        want, mark = ask(account, labels={"team": "a", "old": "x"})
        made = await provider.create(want, mark, {})
        wanted = replace(want, attrs={**want.attrs, "labels": {"team": "b"}}, update=frozenset({"labels"}))
        seen = await provider.update(wanted, made.remote_id, {})
        assert {"team": "b"} == seen.attrs["labels"]
        assert seen.mark is not None
        assert mark.token == seen.mark.token

    account.run(story, **OPTIONS)


def test_trap_17_a_deleted_key_pair_stays_on_the_instances_that_used_it(account: InProcessAccount) -> None:
    async def story(provider: Provider) -> None:
        want, mark = ask(account, Kind.SSH_KEY, public_key=RSA)
        key = await provider.create(want, mark, {})
        await up(account, provider, ssh_keys=[key.remote_id])
        await provider.delete(Kind.SSH_KEY, key.remote_id, {})
        assert await provider.get(Kind.SSH_KEY, key.remote_id) is None

    account.run(story, **OPTIONS)
    (node,) = nodes(account)

    assert node.login is not None
    assert (RSA,) == node.login.keys


def test_trap_18_an_authentication_error_is_not_asked_for_again(account: InProcessAccount) -> None:
    async def story(provider: Provider) -> None:
        fault = Fault(FaultKind.STATUS, "alibaba", route="DescribeInstances", status=401, times=1)
        account.world.faults.append(fault)
        with pytest.raises(AuthFailed):
            await provider.list(Kind.NODE, frozenset())

    account.run(story, **OPTIONS)

    assert [404] == calls(account, "DescribeInstances")


def test_trap_19_deletion_protection_of_others_is_told_and_not_lifted(account: InProcessAccount) -> None:
    async def story(provider: Provider) -> None:
        seen = await up(account, provider)
        nodes(account)[0].hidden["is_protected"] = True
        with pytest.raises(InvalidRequest) as caught:
            await provider.delete(Kind.NODE, seen.remote_id, {})
        assert "protection" in str(caught.value.failure.hint)
        protected = await provider.get(Kind.NODE, seen.remote_id)
        assert protected is not None
        assert protected.facts["deletion_protection"] is True

    account.run(story, **OPTIONS)


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (403, "OperationDenied.NoStock", NoCapacity),
        (403, "OperationDenied", NoCapacity),
        (403, "Zone.NotOnSale", NoCapacity),
        (403, "OperationDenied.SpotPriceLowerThanPublicPrice", NoCapacity),
        (403, "QuotaExceed.ElasticQuota", QuotaExceeded),
        (400, "InvalidAccountStatus.NotEnoughBalance", QuotaExceeded),
        (403, "Forbidden.RiskControl", QuotaExceeded),
        (403, "Forbidden.RAM", AuthFailed),
        (403, "IncorrectInstanceStatus.Initializing", Conflict),
        (403, "LastTokenProcessing", Conflict),
        (400, "DependencyViolation.Instance", Conflict),
        (400, "SignatureNonceUsed", Unavailable),
        (400, "InvalidTimeStamp.Expired", AuthFailed),
        (400, "IdempotentParameterMismatch", InvalidRequest),
        (403, "Something.NobodyHeardOf", InvalidRequest),
    ],
)
def test_trap_20_only_the_code_of_an_error_counts(status: int, code: str, error: type[ProviderError]) -> None:
    found = refused(status, code)

    assert type(found) is error
    assert code == found.failure.code


def test_the_console_is_the_log(account: InProcessAccount) -> None:
    async def story(provider: Provider) -> None:
        assert isinstance(provider, CanLog)
        seen = await up(account, provider)
        lines = [line async for line in provider.logs(Kind.NODE, seen.remote_id, follow=False, tail=2)]
        assert 2 == len(lines)
        assert "login:" == lines[-1]

    account.run(story, **OPTIONS)


def test_a_token_with_other_parameters_is_refused_and_makes_nothing_more(account: InProcessAccount) -> None:
    async def story(provider: Provider) -> None:
        want, mark = ask(account)
        first = await provider.create(want, mark, {})
        assert first.remote_id == (await provider.create(want, mark, {})).remote_id
        with pytest.raises(InvalidRequest):
            await provider.create(replace(want, attrs={**want.attrs, "disk_gb": 500}), mark, {})

    account.run(story, **OPTIONS)

    assert 1 == len(nodes(account))


def test_yuan_become_dollars_and_a_ceiling_becomes_yuan() -> None:
    account = InProcessAccount(PROVIDER, currency="CNY")

    async def story(provider: Provider) -> None:
        query = OfferQuery(gpu="A10", gpu_count=1)
        offers = {o.pricing: o for o in await provider.offers(query) if o.ref == NODE["instance_type"]}
        assert "1.888600" == f"{offers[Pricing.ON_DEMAND].price_per_hour:.6f}"
        assert offers[Pricing.SPOT].price_per_hour is not None
        await create(account, provider, offers[Pricing.SPOT], spot={"max_price": 0.7})

    account.run(story, **OPTIONS)
    (node,) = nodes(account)

    assert ("SpotWithPriceLimit", 5.0) == (node.body["SpotStrategy"], node.body["SpotPriceLimit"])


def test_families_that_are_named_are_all_there_is_to_choose_from(account: InProcessAccount) -> None:
    async def story(provider: Provider) -> None:
        offers = await provider.offers(OfferQuery())
        assert {("ecs.g7.large", "", 0), ("ecs.g7.xlarge", "", 0), ("ecs.sgn7i-vws-m4.xlarge", "", 0)} == {
            (offer.ref, offer.gpu, offer.gpu_count) for offer in offers
        }
        assert {"", "part of one NVIDIA A10"} == {offer.gpu_slice for offer in offers}

    account.run(story, **{**OPTIONS, "families": ["ecs.g7", "ecs.sgn7i-vws"]})


def test_a_vswitch_that_is_not_there_is_told_before_anything_is_offered(account: InProcessAccount) -> None:
    async def story(provider: Provider) -> None:
        with pytest.raises(InvalidRequest) as caught:
            await provider.offers(OfferQuery())
        assert "vsw-missing" in caught.value.failure.message

    account.run(story, **{**OPTIONS, "vswitch_id": [f"vsw-{REGION}a", "vsw-missing"]})


def test_a_price_that_is_refused_does_not_hide_the_others(account: InProcessAccount) -> None:
    async def story(provider: Provider) -> None:
        account.world.faults.append(Fault(FaultKind.STATUS, "alibaba", route="DescribePrice", status=400, times=1))
        offers = await provider.offers(OfferQuery(spot=False))
        assert len({offer.ref for offer in offers}) > 20
        assert 1 == len({offer.ref for offer in offers if offer.price_per_hour is None})

    account.run(story, **OPTIONS)
