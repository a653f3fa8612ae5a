"""What surprises newcomers to Akash by its Console, each surprise once; in process and in virtual time."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from gpuplan.core.address import Address
from gpuplan.core.desired import Kind
from gpuplan.core.errors import Conflict, InvalidRequest, NoCapacity, OutcomeUnknown, QuotaExceeded
from gpuplan.core.marks import Mark
from gpuplan.core.observed import GONE, Observed, Status
from gpuplan.core.offers import Offer, OfferQuery, Pricing
from gpuplan.core.ports import CanAdvance, CanExtend, CanForesee, CanUpdate, Provider, Want
from gpuplan.core.values import Value
from gpuplan.emulators.akash_life import living_lease, withdraw
from gpuplan.emulators.akash_market import hosts
from gpuplan.emulators.faults import Fault, FaultKind
from gpuplan.emulators.site import Site
from gpuplan.emulators.world import Thing
from gpuplan.providers.akash import PROVIDER
from gpuplan.testing.in_process import InProcessAccount

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGpBYoKqHmF3jr7xkmI9YvNMM2bIXcSJ8vMfQ2vFKq1t ana@example.com"
NODE: Mapping[str, Value] = {"gpu": "H100-80GB:2", "image": "ubuntu:24.04", "ssh_keys": [KEY]}


def ask(account: InProcessAccount, **attrs: Value) -> tuple[Want, Mark]:
    address = Address("clusters", "train", None, 0)
    mark = Mark(account.clock.token(), "llama", "default", "lineage", address)
    return Want(address, Kind.NODE, {**NODE, **attrs}, "train-0"), mark


async def until(
    account: InProcessAccount, provider: Provider, order: tuple[Want, Mark], seen: Observed, *ends: Status
) -> Observed:
    assert isinstance(provider, CanAdvance)
    for _ in range(300):
        if seen.status in ends:
            return seen
        await account.clock.sleep(10)
        looked = await provider.get(Kind.NODE, seen.remote_id)
        assert looked is not None
        seen = await provider.advance(*order, looked, {})
    raise AssertionError(f"it is {seen.status}: {seen.detail}")


async def up(account: InProcessAccount, provider: Provider, **attrs: Value) -> Observed:
    order = ask(account, **attrs)
    return await until(account, provider, order, await provider.create(*order, {}), Status.RUNNING)


def deployments(account: InProcessAccount) -> list[Thing]:
    return list(account.world.living["akash", "node"].values())


def sdl_of(account: InProcessAccount) -> Any:
    return deployments(account)[-1].hidden["sdl"]


def routes(account: InProcessAccount) -> list[str]:
    return [f"{visit.method} {visit.route}" for visit in account.world.visits]


def test_a_deployment_has_no_name_and_is_found_by_the_hash_of_its_manifest() -> None:
    account = InProcessAccount(PROVIDER)
    account.world.faults.append(Fault(FaultKind.DROP_AFTER, method="POST", route="/v1/deployments"))

    async def story(provider: Provider) -> tuple[str, list[Observed]]:
        order = ask(account, command="echo <b> && sleep infinity", ports=[8000, "9000/udp"], shm_gb=8)
        assert isinstance(provider, CanForesee)
        with pytest.raises(OutcomeUnknown):
            await provider.create(*order, {})
        await account.clock.sleep(30)
        return provider.witness(*order), list((await provider.list(Kind.NODE, frozenset())).objects)

    witness, (found,) = account.run(story)
    assert witness == found.witness


def test_where_the_hash_is_another_the_name_of_the_group_tells_whose_it_is() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> tuple[Mark, Observed]:
        order = ask(account)
        await provider.create(*order, {})
        deployments(account)[0].hidden["manifest"] = "[]"
        (found,) = (await provider.list(Kind.NODE, frozenset())).objects
        return order[1], found

    mark, found = account.run(story)
    assert found.mark is not None
    assert mark.token == found.mark.token


def test_a_listing_pairs_leases_with_wrong_deployments_and_tells_no_status() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> tuple[list[Observed], dict[str, Observed]]:
        made = [await up(account, provider, region=region) for region in ("us-west", "eu-west", "us-east")]
        known = frozenset(seen.remote_id for seen in made)
        return made, {seen.remote_id: seen for seen in (await provider.list(Kind.NODE, known)).objects}

    made, listed = account.run(story)
    for seen in made:
        assert Status.RUNNING is listed[seen.remote_id].status
        assert seen.facts["provider"] == listed[seen.remote_id].facts["provider"]
        assert seen.facts["ssh_port"] == listed[seen.remote_id].facts["ssh_port"]


def test_a_missing_deployment_may_be_closed_or_never_have_been() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> tuple[Observed | None, Observed | None]:
        seen = await up(account, provider)
        await provider.delete(Kind.NODE, seen.remote_id, {})
        assert [] == list((await provider.list(Kind.NODE, frozenset({seen.remote_id}))).objects)
        return await provider.get(Kind.NODE, seen.remote_id), await provider.get(Kind.NODE, "1700000000000")

    closed, missing = account.run(story)
    assert closed is not None
    assert Status.TERMINATED is closed.status
    assert missing is None


def test_nobody_bidding_is_silence_and_becomes_a_lack_of_capacity() -> None:
    account = InProcessAccount(PROVIDER, bidders=0)

    async def story(provider: Provider) -> tuple[float, Observed]:
        order = ask(account)
        seen = await provider.create(*order, {})
        began = account.clock.monotonic()
        failed = await until(account, provider, order, seen, Status.FAILED)
        return account.clock.monotonic() - began, failed

    waited, failed = account.run(story)
    assert 240 <= waited < 300
    assert isinstance(failed.failure, NoCapacity)
    assert "H100-80GB:2" == failed.failure.failure.gpu


def test_a_deployment_without_a_lease_is_closed_after_ten_minutes() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> Observed | None:
        seen = await provider.create(*ask(account), {})
        await account.clock.sleep(700)
        return await provider.get(Kind.NODE, seen.remote_id)

    seen = account.run(story)
    assert seen is not None
    assert Status.TERMINATED is seen.status


def test_a_bid_that_is_no_longer_open_is_refused_and_another_is_chosen() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> tuple[str, Observed]:
        order = ask(account)
        seen = await provider.create(*order, {})
        await account.clock.sleep(60)
        asks: Any = deployments(account)[0].hidden["asks"]
        cheapest = min((bid["price"], -hosts()[bid["provider"]].uptime, bid["provider"]) for bid in asks)[2]
        host = hosts()[cheapest]
        # Somebody else takes its last GPUs between the look and the lease.
        account.world.drawers["akash", "in use"] = {(cheapest, model.gpu): 99 for model in host.gpus}
        assert isinstance(provider, CanAdvance)
        with pytest.raises(Conflict):
            await provider.advance(*order, seen, {})
        return cheapest, await until(account, provider, order, seen, Status.RUNNING)

    cheapest, seen = account.run(story)
    assert cheapest != seen.facts["provider"]


def test_a_lease_can_die_while_its_deployment_stays_active() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> Observed | None:
        seen = await up(account, provider)
        emulator = account.desk.types["akash"]
        emulator.preempt(Site(emulator, account.world), deployments(account)[0])
        return await provider.get(Kind.NODE, seen.remote_id)

    seen = account.run(story)
    assert seen is not None
    assert (Status.FAILED, "its provider has left") == (seen.status, seen.detail)
    assert isinstance(seen.failure, NoCapacity)


def test_a_provider_that_does_not_answer_is_no_failure() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> tuple[Status, Status]:
        seen = await up(account, provider)
        account.world.knobs["akash"]["silent"] = True
        other = account.open()
        looks = [await each.get(Kind.NODE, seen.remote_id) for each in (provider, other)]
        await other.close()
        first, second = (look.status for look in looks if look)
        return first, second

    assert (Status.UNKNOWN, Status.STARTING) == account.run(story)


def test_ports_are_told_a_while_after_the_container_runs() -> None:
    account = InProcessAccount(PROVIDER, address_seconds=200)

    async def story(provider: Provider) -> tuple[Observed, Observed]:
        order = ask(account)
        seen = await provider.create(*order, {})
        assert isinstance(provider, CanAdvance)
        while seen.detail != "waits for its address":
            await account.clock.sleep(10)
            looked = await provider.get(Kind.NODE, seen.remote_id)
            assert looked is not None
            seen = await provider.advance(*order, looked, {})
        return seen, await until(account, provider, order, seen, Status.RUNNING)

    waiting, ready = account.run(story)
    assert Status.STARTING is waiting.status
    assert "ssh_host" not in waiting.facts
    assert "ssh_host" in ready.facts


def test_heights_are_not_times_and_the_end_of_the_escrow_is_told_as_one() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> tuple[Observed, Observed | None, Observed | None]:
        seen = await up(account, provider)
        assert seen.expires_at is not None
        left = (seen.expires_at - account.clock.now()).total_seconds()
        await account.clock.sleep(left - 60)
        before = await provider.get(Kind.NODE, seen.remote_id)
        await account.clock.sleep(120)
        return seen, before, await provider.get(Kind.NODE, seen.remote_id)

    seen, before, after = account.run(story)
    assert before is not None
    assert (Status.RUNNING, seen.expires_at) == (before.status, before.expires_at)
    assert after is not None
    assert (Status.FAILED, "its escrow is empty") == (after.status, after.detail)
    assert isinstance(after.failure, QuotaExceeded)


def test_escrow_is_a_lease_that_is_extended() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> tuple[Observed, Observed]:
        seen = await up(account, provider)
        assert isinstance(provider, CanExtend)
        assert seen.expires_at is not None
        return seen, await provider.extend(Kind.NODE, seen.remote_id, seen.expires_at + timedelta(hours=24))

    before, after = account.run(story)
    assert before.expires_at is not None
    assert after.expires_at is not None
    assert 24 * 3600 <= (after.expires_at - before.expires_at).total_seconds() < 24 * 3600 + 60


def test_what_is_planned_is_paid_into_escrow_for_a_day() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> None:
        want, mark = ask(account)
        offer = Offer("akash", "x", "", "H100-80GB", 2, Pricing.AUCTION, Decimal("4.00"), account.clock.now())
        await provider.create(replace(want, offer=offer), mark, {})

    account.run(story)
    assert 96.0 == deployments(account)[0].hidden["usd"]


def test_a_bid_above_what_was_planned_is_not_taken() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> None:
        want, mark = ask(account)
        offer = Offer("akash", "x", "", "H100-80GB", 2, Pricing.AUCTION, Decimal("1.00"), account.clock.now())
        await provider.create(replace(want, offer=offer), mark, {})

    with pytest.raises(NoCapacity):
        account.run(story)
    assert [] == deployments(account)


def test_the_cheapest_bid_of_a_provider_that_is_there_is_taken() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> tuple[Observed, Observed]:
        first = await up(account, provider)
        number = hosts()[str(first.facts["provider"])].number
        order = ask(account)
        seen = await provider.create(*order, {})
        account.world.knobs["akash"]["offline"] = [number]
        return first, await until(account, provider, order, seen, Status.RUNNING)

    first, second = account.run(story)
    assert first.facts["provider"] != second.facts["provider"]


def test_audited_providers_alone_and_signers_can_be_asked_for() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> Observed:
        return await up(account, provider, options={"max_price": 30.0})

    audited = account.run(story, audited=True)
    assert hosts()[str(audited.facts["provider"])].is_audited
    signer = "akash1365yvmc4s7awdyj3n2sav7xfx76adc6dnmlx63"
    signed = account.run(story, auditors=[signer])
    assert hosts()[str(signed.facts["provider"])].is_audited
    assert [signer] == next(iter(sdl_of(account)["profiles"]["placement"].values()))["signedBy"]["anyOf"]


def test_a_region_is_an_attribute_of_the_provider() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> tuple[Observed, set[str]]:
        offers = await provider.offers(OfferQuery("H100-80GB", 2, ("eu-west",)))
        return await up(account, provider, region="eu-west"), {offer.region for offer in offers}

    seen, regions = account.run(story)
    assert "eu-west" == hosts()[str(seen.facts["provider"])].region
    assert {"eu-west"} == regions


def test_port_80_is_always_http_and_several_ports_may_be() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> Observed:
        with pytest.raises(InvalidRequest, match="create"):
            await provider.create(*ask(account, ports=[80]), {})
        return await up(account, provider, ports=["8080/http", "9090/http", 8000])

    seen = account.run(story)
    assert [80, 80] == [item["as"] for item in sdl_of(account)["services"]["node"]["expose"] if item["port"] > 8000]
    assert str(seen.facts["endpoint"]).startswith("http://")
    assert {"22", "8000"} == set(seen.facts["ports"])  # type: ignore[arg-type]  # a mapping of ports


def test_a_private_image_needs_credentials_of_its_registry() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> None:
        await provider.create(*ask(account, image="ghcr.io/acme/trainer:7"), {})

    account.run(story, registry_host="ghcr.io", registry_username="ana")
    credentials = sdl_of(account)["services"]["node"]["credentials"]
    assert ("ghcr.io", "ana") == (credentials["host"], credentials["username"])


def test_a_trial_account_may_not_have_all_gpus() -> None:
    account = InProcessAccount(PROVIDER, trial=True)

    async def story(provider: Provider) -> None:
        await provider.create(*ask(account), {})

    with pytest.raises(QuotaExceeded):
        account.run(story)


def test_creates_of_one_key_are_sent_one_at_a_time() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> None:
        await asyncio.gather(*(provider.create(*ask(account), {}) for _ in range(4)))

    account.run(story)
    times = [visit.at for visit in account.world.visits if f"{visit.method} {visit.route}" == "POST /v1/deployments"]
    assert 4 == len(deployments(account))
    assert all((late - early).total_seconds() >= 6 for early, late in pairwise(times))


def test_a_large_image_may_take_twenty_minutes() -> None:
    account = InProcessAccount(PROVIDER, pull_seconds=1200)

    async def story(provider: Provider) -> float:
        began = account.clock.monotonic()
        await up(account, provider, options={"max_price": 10.0})
        return account.clock.monotonic() - began

    assert 1200 < account.run(story, deposit=50) < PROVIDER.capabilities(PROVIDER.options()).ready_timeout_seconds


def test_shared_memory_is_a_disk_in_ram() -> None:
    account = InProcessAccount(PROVIDER)
    account.run(lambda provider: up(account, provider, shm_gb=16))
    sdl = sdl_of(account)

    assert {"persistent": False, "class": "ram"} == sdl["profiles"]["compute"]["node"]["resources"]["storage"][1][
        "attributes"
    ]
    assert "/dev/shm" == sdl["services"]["node"]["params"]["storage"]["shm"]["mount"]


def test_eight_gpus_are_one_profile() -> None:
    account = InProcessAccount(PROVIDER)
    account.run(lambda provider: up(account, provider, gpu="H100-80GB:8"))

    assert 8 == sdl_of(account)["profiles"]["compute"]["node"]["resources"]["gpu"]["units"]


def test_a_provider_that_was_never_told_what_to_run_is_told_by_the_next_run() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> Observed:
        order = ask(account)
        seen = await provider.create(*order, {})
        seen = await until(account, provider, order, seen, Status.STARTING)
        lease = living_lease(deployments(account)[0])
        assert lease is not None
        lease["sent_at"] = None
        other = account.open()
        try:
            return await until(account, other, order, seen, Status.RUNNING)
        finally:
            await other.close()

    account.run(story)
    assert 2 == routes(account).count("POST /v1/leases")


def test_a_lease_whose_answer_was_lost_is_asked_for_again_and_made_once() -> None:
    account = InProcessAccount(PROVIDER)
    account.world.faults.append(Fault(FaultKind.STATUS_AFTER, method="POST", route="/v1/leases", status=502))

    seen = account.run(lambda provider: up(account, provider))
    assert 1 == len(deployments(account)[0].hidden["leases"])  # type: ignore[arg-type]  # a list of leases
    assert Status.RUNNING is seen.status


def test_an_update_keeps_the_group_and_makes_the_container_anew() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> tuple[Observed, Observed]:
        order = ask(account)
        seen = await until(account, provider, order, await provider.create(*order, {}), Status.RUNNING)
        assert isinstance(provider, CanUpdate)
        want = replace(order[0], attrs={**order[0].attrs, "image": "ubuntu:22.04"}, name="train-0-again")
        return seen, await provider.update(want, seen.remote_id, {})

    before, after = account.run(story)
    assert before.remote_id == after.remote_id
    assert before.facts["provider"] == after.facts["provider"]
    assert Status.STARTING is after.status


def test_a_bid_that_is_withdrawn_is_not_waited_for() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> Observed:
        order = ask(account)
        seen = await provider.create(*order, {})
        thing = deployments(account)[0]
        asks: Any = thing.hidden["asks"]
        for bid in asks:
            withdraw(thing, bid["provider"])
        return await until(account, provider, order, seen, Status.FAILED)

    assert isinstance(account.run(story).failure, NoCapacity)


def test_what_was_deleted_and_is_still_there_is_on_its_way_out() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> Observed | None:
        seen = await up(account, provider)
        await provider.delete(Kind.NODE, seen.remote_id, {})
        account.world.living["akash", "node"][seen.remote_id] = thing = account.world.gone["akash", "node"].pop(
            seen.remote_id
        )
        thing.deleted_at = None
        return await provider.get(Kind.NODE, seen.remote_id)

    seen = account.run(story)
    assert seen is not None
    assert seen.status in GONE


def test_the_text_of_an_sdl_is_yaml_and_json() -> None:
    account = InProcessAccount(PROVIDER)
    account.run(lambda provider: provider.create(*ask(account, env={"A": 'x: "y" # é'}), {}))

    assert 'A=x: "y" # é' in json.dumps(sdl_of(account), ensure_ascii=False).replace('\\"', '"')
