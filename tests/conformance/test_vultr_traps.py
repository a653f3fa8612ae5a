"""What surprises newcomers to Vultr's API, each surprise once; in process and in virtual time."""

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from gpuplan.core.address import Address
from gpuplan.core.desired import Kind
from gpuplan.core.errors import AuthFailed, Conflict, NoCapacity, QuotaExceeded, Unsupported
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Observed, Status
from gpuplan.core.offers import OfferQuery, Stock
from gpuplan.core.ports import CanAdvance, CanStop, CanUpdate, Provider, Want
from gpuplan.core.values import Value
from gpuplan.emulators.world import Shelf
from gpuplan.providers.vultr import PROVIDER
from gpuplan.testing.in_process import InProcessAccount

NODE = {"instance_type": "vc2-1c-1gb", "region": "ewr"}
METAL = {"instance_type": "vbm-4c-32gb", "region": "ewr"}
SECTIONS = {Kind.NODE: "clusters", Kind.VOLUME: "volumes", Kind.NETWORK: "networks", Kind.SSH_KEY: "ssh_keys"}


def ask(account: InProcessAccount, kind: Kind, **attrs: Value) -> tuple[Want, Mark]:
    address = Address(SECTIONS[kind], "train", None, 0 if kind is Kind.NODE else None)
    mark = Mark(account.clock.token(), "llama", "default", "lineage", address)
    return Want(address, kind, attrs, "train-0"), mark


async def create(account: InProcessAccount, provider: Provider, kind: Kind, **attrs: Value) -> Observed:
    return await provider.create(*ask(account, kind, **attrs), {})


async def until(account: InProcessAccount, provider: Provider, seen: Observed, status: Status) -> Observed:
    for _ in range(400):
        if seen.status is status:
            return seen
        await account.clock.sleep(10)
        now = await provider.get(seen.kind, seen.remote_id)
        assert now is not None
        seen = now
    raise AssertionError(f"it is {seen.status}")


def test_an_address_that_is_not_on_the_list_is_hinted_at() -> None:
    account = InProcessAccount(PROVIDER, allow_listed=False)

    with pytest.raises(AuthFailed) as caught:
        account.run(lambda provider: provider.health())

    assert caught.value.failure.hint
    assert "access control list" in caught.value.failure.hint


def test_a_node_that_never_says_ok_is_ready_after_a_while() -> None:
    account = InProcessAccount(PROVIDER, never_ok=True)

    async def story(provider: Provider) -> float:
        seen = await create(account, provider, Kind.NODE, **NODE)
        begun = account.clock.monotonic()
        await until(account, provider, seen, Status.RUNNING)
        return account.clock.monotonic() - begun

    assert 300 <= account.run(story) <= 320


def test_a_node_that_still_installs_is_not_ready() -> None:
    account = InProcessAccount(PROVIDER, boot_seconds=30, ready_seconds=100)

    async def story(provider: Provider) -> Status:
        seen = await create(account, provider, Kind.NODE, **NODE)
        await account.clock.sleep(60)
        return (await until(account, provider, seen, Status.STARTING)).status

    assert Status.STARTING is account.run(story)


def test_a_delete_right_after_a_create_is_a_conflict_and_succeeds_later() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> Observed | None:
        seen = await create(account, provider, Kind.NODE, **NODE)
        with pytest.raises(Conflict):
            await provider.delete(Kind.NODE, seen.remote_id, {})
        await account.clock.sleep(60)
        await provider.delete(Kind.NODE, seen.remote_id, {})
        return await provider.get(Kind.NODE, seen.remote_id)

    assert account.run(story) is None


def test_a_vpc_waits_for_its_deleted_nodes_to_let_go() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> Observed | None:
        vpc = await create(account, provider, Kind.NETWORK, region="ewr", cidr="10.7.0.0/24")
        node = await create(account, provider, Kind.NODE, networks=[vpc.remote_id], **NODE)
        await until(account, provider, node, Status.RUNNING)
        await provider.delete(Kind.NODE, node.remote_id, {})
        with pytest.raises(Conflict):
            await provider.delete(Kind.NETWORK, vpc.remote_id, {})
        await account.clock.sleep(60)
        await provider.delete(Kind.NETWORK, vpc.remote_id, {})
        return await provider.get(Kind.NETWORK, vpc.remote_id)

    assert account.run(story) is None


def test_a_limit_that_a_fresh_delete_still_counts_against_is_worth_another_try() -> None:
    account = InProcessAccount(PROVIDER, instance_limit=1)

    async def story(provider: Provider) -> Observed:
        seen = await until(account, provider, await create(account, provider, Kind.NODE, **NODE), Status.RUNNING)
        with pytest.raises(QuotaExceeded):
            await create(account, provider, Kind.NODE, **NODE)
        await provider.delete(Kind.NODE, seen.remote_id, {})
        with pytest.raises(Conflict):
            await create(account, provider, Kind.NODE, **NODE)
        await account.clock.sleep(120)
        return await create(account, provider, Kind.NODE, **NODE)

    assert Status.PENDING is account.run(story).status


@pytest.mark.parametrize("attrs", [NODE, METAL])
def test_a_pending_node_has_no_address(attrs: dict[str, Value]) -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> tuple[Observed, Observed]:
        seen = await create(account, provider, Kind.NODE, **attrs)
        return seen, await until(account, provider, seen, Status.RUNNING)

    pending, running = account.run(story)
    assert pending.facts["public_ip"] is None
    assert running.facts["public_ip"]


def test_an_active_node_without_power_is_stopped() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> list[Status]:
        assert isinstance(provider, CanStop)
        seen = await until(account, provider, await create(account, provider, Kind.NODE, **NODE), Status.RUNNING)
        stopping = await provider.stop(Kind.NODE, seen.remote_id)
        stopped = await until(account, provider, stopping, Status.STOPPED)
        return [stopping.status, stopped.status, (await provider.start(Kind.NODE, seen.remote_id)).status]

    assert [Status.STOPPING, Status.STOPPED, Status.RUNNING] == account.run(story)


def test_an_undocumented_wording_of_no_capacity_is_settled_by_the_stock() -> None:
    account = InProcessAccount(PROVIDER, no_capacity_text="please try later")
    account.world.shelves["vultr", "vc2-1c-1gb", "ewr"] = Shelf(available=0)

    async def story(provider: Provider) -> None:
        with pytest.raises(NoCapacity):
            await create(account, provider, Kind.NODE, gpu="A100-80GB:1", **NODE)

    account.run(story)


def test_sold_in_a_region_is_not_available_there() -> None:
    account = InProcessAccount(PROVIDER)
    account.world.shelves["vultr", "A100-80GB-PCIE", "ewr"] = Shelf(available=0)

    offers = account.run(lambda provider: provider.offers(OfferQuery(gpu="A100-80GB-PCIE")))

    assert [("ewr", Stock.NONE)] * 2 == [(offer.region, offer.stock) for offer in offers]


def test_a_slice_of_a_gpu_is_never_offered_as_a_whole_one() -> None:
    offers = InProcessAccount(PROVIDER).run(lambda provider: provider.offers(OfferQuery()))

    slices = [offer for offer in offers if offer.gpu_slice]
    assert slices
    assert {("", 0)} == {(offer.gpu, offer.gpu_count) for offer in slices}


def test_bare_metal_is_listed_beside_instances_and_found_by_its_token() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> list[Observed]:
        await create(account, provider, Kind.NODE, **METAL)
        await create(account, provider, Kind.NODE, **NODE)
        return list((await provider.list(Kind.NODE, frozenset())).objects)

    seen = account.run(story)
    assert [False, True] == [each.remote_id.startswith("bare-metals/") for each in seen]
    assert all(each.mark is not None and each.mark.address is not None for each in seen)


def test_bare_metal_keeps_its_networks() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> None:
        assert isinstance(provider, CanUpdate)
        want, mark = ask(account, Kind.NODE, **METAL)
        seen = await provider.create(want, mark, {})
        with pytest.raises(Unsupported):
            await provider.update(replace(want, update=frozenset({"networks"})), seen.remote_id, {})

    account.run(story)


def test_volumes_are_attached_once_the_node_runs_and_not_before_it_counts_as_ready() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> tuple[Status, Observed, Observed]:
        assert isinstance(provider, CanAdvance)
        volume = await create(account, provider, Kind.VOLUME, size_gb=100, region="ewr")
        mounts = [{"volume": volume.remote_id, "mount": "/data"}]
        want, mark = ask(account, Kind.NODE, volumes=mounts, **NODE)
        seen = await provider.create(want, mark, {})
        await account.clock.sleep(200)
        waiting = await provider.get(Kind.NODE, seen.remote_id)
        assert waiting is not None
        ready = await provider.advance(want, mark, waiting, {})
        attached = await provider.get(Kind.VOLUME, volume.remote_id)
        assert attached is not None
        return waiting.status, ready, attached

    before, ready, volume = account.run(story)
    assert Status.STARTING is before
    assert Status.RUNNING is ready.status
    assert ready.remote_id == volume.facts["attached_to"]
    assert str(volume.facts["device"]) in _user_data(account)


def test_user_data_is_base64_and_carries_environment_and_keys() -> None:
    account = InProcessAccount(PROVIDER)
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGpBYoKqHmF3jr7xkmI9YvNMM2bIXcSJ8vMfQ2vFKq1t me"

    account.run(
        lambda p: create(
            account, p, Kind.NODE, env={"MODE": "a b"}, ssh_keys=[key], user_data="#!/bin/sh\ntrue", **NODE
        )
    )

    told = _user_data(account)
    assert "export MODE='a b'" in told.replace("'\"'\"'", "'")
    assert key in told
    assert "#!/bin/sh\ntrue" in told


def test_clearing_the_labels_keeps_the_mark() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> Observed:
        assert isinstance(provider, CanUpdate)
        want, mark = ask(account, Kind.NODE, labels={"team": "x"}, **NODE)
        seen = await provider.create(want, mark, {})
        bare = replace(want, attrs={**NODE, "labels": {}}, update=frozenset({"labels"}))
        return await provider.update(bare, seen.remote_id, {})

    seen = account.run(story)
    assert {} == seen.attrs["labels"]
    assert seen.mark is not None


def test_a_generated_password_is_not_even_seen() -> None:
    account = InProcessAccount(PROVIDER)

    seen = account.run(lambda provider: create(account, provider, Kind.NODE, **NODE))

    assert "v5{" not in repr(seen)


def test_a_firewall_group_without_its_rules_is_not_ready() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> tuple[Observed, Observed]:
        assert isinstance(provider, CanAdvance)
        want, mark = ask(account, Kind.NETWORK, rules=[{"port": 22, "from": "10.0.0.0/8"}])
        created = await provider.create(want, mark, {})
        return created, await provider.advance(want, mark, created, {})

    created, filled = account.run(story)
    assert (Status.STARTING, Status.RUNNING) == (created.status, filled.status)
    assert [{"port": 22, "from": "10.0.0.0/8"}] == filled.attrs["rules"]


def test_a_rule_that_someone_changed_is_seen_as_it_is() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> Observed | None:
        assert isinstance(provider, CanAdvance)
        want, mark = ask(account, Kind.NETWORK, rules=[{"port": 22, "from": "10.0.0.0/8"}])
        created = await provider.create(want, mark, {})
        await provider.advance(want, mark, created, {})
        (group,) = account.world.living["vultr", "firewall"].values()
        rules: Any = group.hidden["rules"]
        rules[0]["subnet"], rules[0]["subnet_size"] = "0.0.0.0", 0
        return await provider.get(Kind.NETWORK, created.remote_id)

    seen = account.run(story)
    assert seen is not None
    assert [{"port": 22, "protocol": "tcp", "from": "0.0.0.0/0"}] == seen.attrs["rules"]


def _user_data(account: InProcessAccount) -> str:
    (node,) = account.world.living["vultr", "node"].values()
    return base64.b64decode(str(node.hidden["user_data"])).decode().replace(json.dumps("'")[1:-1], "'")
