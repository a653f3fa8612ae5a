"""What surprises newcomers to a sidecar for Akash, each surprise once; in process and in virtual time."""

from decimal import Decimal

import pytest

from gpuplan.core.address import Address
from gpuplan.core.desired import Kind, ProviderBlock
from gpuplan.core.errors import AuthFailed, NoCapacity, OutcomeUnknown
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Observed, Status
from gpuplan.core.ports import CanForesee, CanLog, OpenContext, Provider, ProviderType, Want
from gpuplan.core.secret import Redactor
from gpuplan.emulators.akash_life import living_lease, owner_of
from gpuplan.emulators.faults import Fault, FaultKind
from gpuplan.emulators.wire import InProcessWire, with_wire
from gpuplan.emulators.world import Thing
from gpuplan.net.http_provider import THROWAWAY_KEY
from gpuplan.providers.akash import PROVIDER
from gpuplan.testing.in_process import URL, InProcessAccount

CREATE = "/akash/deployments/create"


def ask(account: InProcessAccount) -> tuple[Want, Mark]:
    address = Address("clusters", "train", None, 0)
    mark = Mark(account.clock.token(), "llama", "default", "lineage", address)
    return Want(address, Kind.NODE, {"gpu": "RTX4090:1", "image": "ubuntu:24.04"}, "train-0"), mark


async def create(account: InProcessAccount, provider: Provider) -> Observed:
    return await provider.create(*ask(account), {})


def deployments(account: InProcessAccount) -> list[Thing]:
    return list(account.world.living["akash", "node"].values())


def test_a_create_answers_once_there_is_a_lease() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> tuple[float, Observed]:
        began = account.clock.monotonic()
        seen = await create(account, provider)
        return account.clock.monotonic() - began, seen

    taken, seen = account.run(story, flavour="sidecar")
    assert taken >= 32
    assert Status.RUNNING is seen.status
    assert [seen.remote_id] == [thing.id for thing in deployments(account)]


def test_the_first_bid_is_taken_and_not_the_cheapest() -> None:
    account = InProcessAccount(PROVIDER)
    account.run(lambda provider: create(account, provider), flavour="sidecar")
    (thing,) = deployments(account)
    asks, lease = thing.hidden["asks"], living_lease(thing)

    assert isinstance(asks, list)
    assert lease is not None
    assert asks[0]["provider"] == lease["provider"]
    assert lease["price"] > min(bid["price"] for bid in asks)


def test_nobody_bidding_is_no_capacity_and_leaves_a_deployment_that_ends_by_itself() -> None:
    account = InProcessAccount(PROVIDER, bidders=0)

    async def story(provider: Provider) -> None:
        with pytest.raises(NoCapacity) as caught:
            await create(account, provider)
        assert "RTX4090:1" == caught.value.failure.gpu

    account.run(story, flavour="sidecar")
    assert 1 == len(deployments(account))
    assert Decimal(0) == deployments(account)[0].cost(account.world.time.now())


def test_a_create_without_an_answer_is_not_repeated_and_cannot_be_looked_for() -> None:
    account = InProcessAccount(PROVIDER)
    account.world.faults.append(Fault(FaultKind.DROP_AFTER, route=CREATE))

    async def story(provider: Provider) -> list[Observed]:
        with pytest.raises(OutcomeUnknown):
            await create(account, provider)
        return list((await provider.list(Kind.NODE, frozenset())).objects)

    assert [] == account.run(story, flavour="sidecar")
    assert 1 == len(deployments(account))


def test_a_sidecar_that_tells_no_status_is_taken_at_its_last_word() -> None:
    account = InProcessAccount(PROVIDER, serves_status=False)

    async def story(provider: Provider) -> list[Status | None]:
        await provider.health()
        seen = await create(account, provider)
        other = account.open(flavour="sidecar")
        looks = [await each.get(Kind.NODE, seen.remote_id) for each in (provider, other)]
        await other.close()
        await provider.delete(Kind.NODE, seen.remote_id, {})
        looks.append(await provider.get(Kind.NODE, seen.remote_id))
        return [look.status if look else None for look in looks]

    assert [Status.RUNNING, Status.UNKNOWN, Status.TERMINATED] == account.run(story, flavour="sidecar")


def test_a_close_that_did_nothing_is_seen_where_the_status_is_told() -> None:
    account = InProcessAccount(PROVIDER, close_is_noop=True)

    async def story(provider: Provider) -> Observed | None:
        seen = await create(account, provider)
        await provider.delete(Kind.NODE, seen.remote_id, {})
        return await provider.get(Kind.NODE, seen.remote_id)

    seen = account.run(story, flavour="sidecar")
    assert seen is not None
    assert Status.RUNNING is seen.status


def test_a_close_that_nobody_can_check_says_so() -> None:
    account = InProcessAccount(PROVIDER, close_is_noop=True, serves_status=False)

    async def story(provider: Provider) -> Observed | None:
        seen = await create(account, provider)
        await provider.delete(Kind.NODE, seen.remote_id, {})
        return await provider.get(Kind.NODE, seen.remote_id)

    seen = account.run(story, flavour="sidecar")
    assert seen is not None
    assert "look at the wallet" in seen.detail


def test_a_log_is_what_there_is_and_has_no_stream() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> list[str]:
        seen = await create(account, provider)
        assert isinstance(provider, CanLog)
        assert not provider.capabilities.log_streaming
        return [line async for line in provider.logs(Kind.NODE, seen.remote_id, follow=True, tail=1)]

    assert ["not streamed yet"] == account.run(story, flavour="sidecar")


def test_a_sidecar_without_a_wallet_did_nothing() -> None:
    account = InProcessAccount(PROVIDER, wallet=False)

    async def story(provider: Provider) -> None:
        with pytest.raises(AuthFailed) as caught:
            await create(account, provider)
        assert "AKASH_MNEMONIC" in str(caught.value.failure.hint)

    account.run(story, flavour="sidecar")
    assert [] == deployments(account)


WALLET = {"flavour": "sidecar", "wallet": owner_of(THROWAWAY_KEY)}


def test_a_deployment_whose_creation_got_no_answer_is_found_on_the_chain_of_a_wallet_that_is_known() -> None:
    account = InProcessAccount(PROVIDER)
    account.world.faults.append(Fault(FaultKind.DROP_AFTER, route=CREATE))

    async def story(provider: Provider) -> tuple[str, str, list[Observed]]:
        order = ask(account)
        with pytest.raises(OutcomeUnknown):
            await provider.create(*order, {})
        assert isinstance(provider, CanForesee)
        objects = (await provider.list(Kind.NODE, frozenset())).objects
        return order[1].token, provider.witness(*order), list(objects)

    token, witness, (found,) = account.run(story, **WALLET)
    assert witness == found.witness
    assert found.mark is not None
    assert token == found.mark.token


def test_a_close_that_did_nothing_is_seen_on_the_chain() -> None:
    account = InProcessAccount(PROVIDER, close_is_noop=True, serves_status=False)

    async def story(provider: Provider) -> tuple[Observed | None, list[Observed]]:
        seen = await create(account, provider)
        await provider.delete(Kind.NODE, seen.remote_id, {})
        listed = (await provider.list(Kind.NODE, frozenset({seen.remote_id}))).objects
        return await provider.get(Kind.NODE, seen.remote_id), list(listed)

    seen, listed = account.run(story, **WALLET)
    assert seen is not None
    assert (Status.UNKNOWN, "the sidecar says it has closed it, and it is still active") == (seen.status, seen.detail)
    assert [seen] == listed


def test_what_is_closed_is_told_by_the_chain() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> list[Observed | None]:
        kept, closed = await create(account, provider), await create(account, provider)
        await provider.delete(Kind.NODE, closed.remote_id, {})
        (listed,) = (await provider.list(Kind.NODE, frozenset({kept.remote_id, closed.remote_id}))).objects
        assert (kept.remote_id, Status.RUNNING) == (listed.remote_id, listed.status)
        return [await provider.get(Kind.NODE, id) for id in (closed.remote_id, "1700000000000")]

    closed, missing = account.run(story, **WALLET)
    assert closed is not None
    assert Status.TERMINATED is closed.status
    assert missing is None


@pytest.mark.parametrize("environ", [{"INTERNAL_API_KEY": "wrong"}, {"INTERNAL_API_KEY": "dev-internal-key"}])
def test_the_key_of_a_sidecar_is_that_of_its_environment(environ: dict[str, str]) -> None:
    account = InProcessAccount(PROVIDER)

    async def story(_: Provider) -> None:
        type: ProviderType = with_wire(PROVIDER, InProcessWire(account.desk, account.clock))
        options = type.options.model_validate({"flavour": "sidecar", "sidecar_url": f"{URL}/akash/akash"})
        block = ProviderBlock("akash", "akash", {}, ())
        provider = type.open(options, OpenContext(block, account.clock, environ, Redactor()))
        if environ["INTERNAL_API_KEY"] == "wrong":
            with pytest.raises(AuthFailed):
                await provider.health()
        else:
            assert (await provider.health()).id
        await provider.close()

    account.run(story)
