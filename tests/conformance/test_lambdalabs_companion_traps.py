"""What surprises newcomers to keys, filesystems and firewalls at Lambda, each surprise once; in virtual time."""

import pytest

from gpuplan.core.address import Address
from gpuplan.core.desired import Kind
from gpuplan.core.errors import Conflict, InvalidRequest
from gpuplan.core.observed import Observed
from gpuplan.core.ports import CanUpdate, Provider, Want
from gpuplan.core.state import Phase, Recorded
from gpuplan.core.values import Ref, Value
from gpuplan.providers.lambdalabs import PROVIDER
from gpuplan.testing.in_process import InProcessAccount
from tests.conformance.lambdalabs_stories import (
    LAUNCH,
    NODE,
    OTHER_KEY,
    PUBLIC_KEY,
    ask,
    create,
    launch,
    look,
    node_of,
    visits,
)


def test_rules_of_a_network_leave_the_account_wide_firewall_alone() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> None:
        assert isinstance(provider, CanUpdate)
        want, mark = ask(account, Kind.NETWORK, region="us-east-1", rules=[{"port": 8000}])
        made = await provider.create(want, mark, {})
        await launch(account, provider, networks=[made.remote_id])
        change = Want(want.address, want.kind, {**want.attrs, "rules": []}, want.name, update=frozenset({"rules"}))
        assert [] == (await provider.update(change, made.remote_id, {})).attrs["rules"]
        with pytest.raises(Conflict):
            await provider.delete(Kind.NETWORK, made.remote_id, {})

    account.run(story)
    assert {"/api/v1/firewall-rulesets", "/api/v1/firewall-rulesets/{id}"} == {
        visit.route for visit in account.world.visits if "firewall" in visit.route
    }


def test_firewalls_do_not_apply_in_us_south_1() -> None:
    account = InProcessAccount(PROVIDER)
    asked: dict[str, Value] = {"region": "us-south-1", "rules": [{"port": 22}]}

    with pytest.raises(InvalidRequest, match=r"create networks\.train"):
        account.run(lambda provider: create(account, provider, Kind.NETWORK, **asked))

    assert [] == account.world.visits


def test_filesystems_are_listed_under_one_spelling_and_made_under_another() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> Observed | None:
        made = await create(account, provider, Kind.VOLUME, region="us-east-1")
        assert made.remote_id == (await look(provider, made)).remote_id
        await provider.delete(Kind.VOLUME, made.remote_id, {})
        return await provider.get(Kind.VOLUME, made.remote_id)

    assert account.run(story) is None
    assert [
        ("POST", "/api/v1/filesystems"),
        ("GET", "/api/v1/file-systems"),
        ("DELETE", "/api/v1/filesystems/{id}"),
        ("GET", "/api/v1/file-systems"),
    ] == [(visit.method, visit.route) for visit in account.world.visits]


def test_a_filesystem_of_another_region_is_refused_and_makes_nothing() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> None:
        volume = await create(account, provider, Kind.VOLUME, region="us-south-2")
        mounts: Value = [{"volume": volume.remote_id, "mount": "/data"}]
        with pytest.raises(InvalidRequest) as caught:
            await launch(account, provider, volumes=mounts)
        assert "file-system-in-wrong-region" in str(caught.value.failure.code)

    account.run(story)
    assert not account.world.living["lambda", "node"]


def test_a_filesystem_in_use_can_be_deleted_once_its_node_is_gone() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> Observed | None:
        volume = await create(account, provider, Kind.VOLUME, region="us-east-1")
        node = await launch(account, provider, volumes=[{"volume": volume.remote_id, "mount": "/data/sets"}])
        await provider.delete(Kind.NODE, node.remote_id, {})
        with pytest.raises(Conflict):
            await provider.delete(Kind.VOLUME, volume.remote_id, {})
        await account.clock.sleep(60)
        await provider.delete(Kind.VOLUME, volume.remote_id, {})
        return await provider.get(Kind.VOLUME, volume.remote_id)

    assert account.run(story) is None


def test_a_mount_point_that_lambda_does_not_take_is_refused_before_anything_is_launched() -> None:
    account = InProcessAccount(PROVIDER)
    mounts: Value = [{"volume": "0" * 32, "mount": "/mnt/my_data"}]

    with pytest.raises(InvalidRequest) as caught:
        account.run(lambda provider: launch(account, provider, volumes=mounts))

    assert "/mnt/my_data" in caught.value.failure.message
    assert [] == visits(account, "POST", LAUNCH)


def test_a_launch_takes_exactly_one_key_and_the_others_go_in_by_the_first_boot() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> None:
        key = await create(account, provider, Kind.SSH_KEY, public_key=PUBLIC_KEY)
        await launch(account, provider, ssh_keys=[key.remote_id, OTHER_KEY])

    account.run(story)
    node = node_of(account)
    assert [key.name for key in account.world.living["lambda", "ssh_key"].values()] == node["ssh_key_names"]
    assert OTHER_KEY in str(node["user_data"])


def test_a_key_of_the_plan_needs_no_look_to_know_its_name() -> None:
    account = InProcessAccount(PROVIDER)
    address = Address("ssh_keys", "team")

    async def story(provider: Provider) -> None:
        key = await create(account, provider, Kind.SSH_KEY, public_key=PUBLIC_KEY)
        record = Recorded(
            address, Kind.SSH_KEY, "lambda", "", key.remote_id, "", key.attrs, key.facts, frozenset(),
            account.clock.now(), Phase.READY,
        )  # fmt: skip
        want, mark = ask(account, Kind.NODE, **{**NODE, "ssh_keys": [Ref(address, remote_id=key.remote_id)]})
        await provider.create(want, mark, {address: record})

    account.run(story)
    assert [] == visits(account, "GET", "/api/v1/ssh-keys")


def test_a_public_key_without_an_object_is_added_once_whatever_its_comment() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> None:
        for comment in ("here", "there"):
            key = " ".join([*PUBLIC_KEY.split()[:2], comment])
            await launch(account, provider, ssh_keys=[key])

    account.run(story)
    (key,) = account.world.living["lambda", "ssh_key"].values()
    assert key.name.startswith("gpuplan-")


def test_a_key_that_nobody_has_is_refused_before_anything_is_launched() -> None:
    account = InProcessAccount(PROVIDER)

    with pytest.raises(InvalidRequest) as caught:
        account.run(lambda provider: launch(account, provider, ssh_keys=["nobody"]))

    assert "`nobody`" in caught.value.failure.message
    assert [] == visits(account, "POST", LAUNCH)
