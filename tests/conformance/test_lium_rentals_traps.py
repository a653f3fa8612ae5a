"""What surprises those who rent at Lium with a wallet, each surprise once; in process and in virtual time."""

import json
from datetime import timedelta

import pytest

from gpuplan.core.address import Address
from gpuplan.core.desired import Kind
from gpuplan.core.errors import InvalidRequest, NoCapacity, OutcomeUnknown, ProtocolMismatch, QuotaExceeded
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Observed, Status
from gpuplan.core.offers import OfferQuery
from gpuplan.core.ports import HasSsh, Provider, Want
from gpuplan.core.values import Value
from gpuplan.emulators.faults import Fault, FaultKind
from gpuplan.emulators.world import Shelf, Thing
from gpuplan.providers.lium import PROVIDER
from gpuplan.testing.in_process import InProcessAccount

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGpBYoKqHmF3jr7xkmI9YvNMM2bIXcSJ8vMfQ2vFKq1t ana@example.com"
NODE: dict[str, Value] = {"gpu": "RTX4090:1", "ssh_keys": [KEY]}


def ask(account: InProcessAccount, **attrs: Value) -> tuple[Want, Mark]:
    address = Address("clusters", "train", None, 0)
    mark = Mark(account.clock.token(), "llama", "default", "lineage", address)
    return Want(address, Kind.NODE, {**NODE, **attrs}, "train-0"), mark


async def create(account: InProcessAccount, provider: Provider, **attrs: Value) -> Observed:
    return await provider.create(*ask(account, **attrs), {})


async def look(account: InProcessAccount, provider: Provider, seen: Observed, seconds: float) -> Observed | None:
    await account.clock.sleep(seconds)
    return await provider.get(seen.kind, seen.remote_id)


def status_of(seen: Observed | None) -> Status | None:
    return seen.status if seen else None


def rentals(account: InProcessAccount) -> list[Thing]:
    return list(account.world.living["lium", "node"].values())


@pytest.mark.parametrize("shape", ["mixed", "rental", "data", "bare"])
def test_an_answer_comes_in_several_wrappings_and_with_several_words(shape: str) -> None:
    account = InProcessAccount(PROVIDER, shape=shape)

    async def story(provider: Provider) -> tuple[Observed, Observed | None]:
        seen = await create(account, provider)
        return seen, await look(account, provider, seen, 100)

    made, seen = account.run(story, flavour="rentals")
    (rental,) = rentals(account)
    assert seen is not None
    assert (rental.id, rental.id, Status.RUNNING) == (made.remote_id, seen.remote_id, seen.status)
    assert rental.login is not None
    assert (rental.login.host, "virginia", "1") == tuple(
        seen.facts[name] for name in ("public_ip", "region", "miner_uid")
    )
    assert "RTX4090:1" == seen.attrs["gpu"]


def test_a_rental_is_ready_once_it_has_an_address() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> list[tuple[Status, str]]:
        seen = await create(account, provider)
        looks = [await look(account, provider, seen, seconds) for seconds in (10, 60, 15, 10)]
        return [(now.status, now.detail) for now in looks if now]

    assert [
        (Status.STARTING, "matching"),
        (Status.STARTING, "provisioning"),
        (Status.STARTING, "waits for its address"),
        (Status.RUNNING, ""),
    ] == account.run(story, flavour="rentals")


def test_what_is_asked_for_has_these_fields_and_no_region() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> None:
        await create(account, provider, options={"duration_hours": 6})

    account.run(story, flavour="rentals", regions=["eu"])
    (rental,) = rentals(account)
    assert {
        "name": rental.name,
        "hotkey": "gpuplan-emulator",
        "coldkey": "gpuplan-emulator",
        "gpu_type": "RTX_4090",
        "duration_hours": 6,
        "ssh_pubkey": KEY,
    } == json.loads(str(rental.hidden["body"]))


def test_a_rental_that_failed_has_ended_and_says_how() -> None:
    account = InProcessAccount(PROVIDER, fails="failed")

    async def story(provider: Provider) -> Observed | None:
        return await look(account, provider, await create(account, provider), 100)

    seen = account.run(story, flavour="rentals")
    assert seen is not None
    assert (Status.TERMINATED, "failed") == (seen.status, seen.detail)


def test_a_rental_ends_by_itself() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> tuple[Observed, list[Status | None]]:
        made = await create(account, provider)
        looks = [await look(account, provider, made, seconds) for seconds in (3 * 3600, 2 * 3600)]
        return made, [status_of(now) for now in looks]

    made, looks = account.run(story, flavour="rentals", duration_hours=3)
    assert made.expires_at is not None
    assert [Status.TERMINATED, None] == looks


def test_the_end_is_known_from_the_creation_where_no_answer_tells_it() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> tuple[Observed, Observed | None]:
        made = await create(account, provider)
        return made, await look(account, provider, made, 100)

    made, seen = account.run(story, flavour="rentals")
    assert seen is not None
    assert made.expires_at == seen.expires_at
    assert made.facts["ends_at"] == seen.facts["ends_at"]


def test_what_an_answer_tells_besides_is_taken() -> None:
    account = InProcessAccount(PROVIDER, tells_more=True)

    async def story(provider: Provider) -> tuple[Observed, int]:
        assert isinstance(provider, HasSsh)
        seen = await look(account, provider, await create(account, provider), 100)
        assert seen is not None
        target = provider.ssh_target(seen)
        assert target is not None
        return seen, target.port

    seen, port = account.run(story, flavour="rentals")
    (rental,) = rentals(account)
    assert rental.created_at.replace(microsecond=0) + timedelta(hours=24) == seen.expires_at
    assert float(rental.prices[0][1]) == seen.facts["price_per_hour"]
    assert rental.login is not None
    assert rental.login.port == port != 22


def test_deleting_twice_is_success() -> None:
    account = InProcessAccount(PROVIDER, ending_seconds=30)

    async def story(provider: Provider) -> list[Status | None]:
        made = await create(account, provider)
        found = []
        for seconds in (0, 40):
            await provider.delete(Kind.NODE, made.remote_id, {})
            found.append(status_of(await look(account, provider, made, seconds)))
        await provider.delete(Kind.NODE, made.remote_id, {})
        return found

    assert [Status.TERMINATING, None] == account.run(story, flavour="rentals")


@pytest.mark.parametrize("kind", [FaultKind.STATUS_AFTER, FaultKind.DROP_AFTER, FaultKind.HANG, FaultKind.GARBAGE])
def test_a_request_without_an_answer_is_not_repeated_and_says_what_to_look_for(kind: FaultKind) -> None:
    account = InProcessAccount(PROVIDER)
    account.world.faults.append(Fault(kind, method="POST", status=504))

    async def story(provider: Provider) -> tuple[str, ...]:
        with pytest.raises((OutcomeUnknown, ProtocolMismatch)) as caught:
            await create(account, provider)
        return caught.value.failure.facts

    (told,) = account.run(story, flavour="rentals", duration_hours=3)
    (rental,) = rentals(account)
    assert told.startswith(f"if it exists, its name is {rental.name}, and it ends by itself by 2026-01-01 03:0")
    assert 1 == sum(visit.method == "POST" for visit in account.world.visits)


def test_a_throttled_request_is_repeated() -> None:
    account = InProcessAccount(PROVIDER)
    account.world.faults.append(Fault(FaultKind.STATUS, method="POST", status=429, retry_after=30))

    async def story(provider: Provider) -> float:
        begun = account.clock.monotonic()
        await create(account, provider)
        return account.clock.monotonic() - begun

    assert account.run(story, flavour="rentals") >= 30
    assert 1 == len(rentals(account))


def test_a_look_comes_back_when_it_is_told_to() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> float:
        made = await create(account, provider)
        account.world.faults.append(Fault(FaultKind.STATUS, method="GET", status=503, retry_after=40))
        begun = account.clock.monotonic()
        assert await provider.get(Kind.NODE, made.remote_id)
        return account.clock.monotonic() - begun

    assert account.run(story, flavour="rentals") >= 40


def test_no_miner_is_a_lack_of_capacity_and_an_unfunded_wallet_is_not() -> None:
    full, poor = InProcessAccount(PROVIDER), InProcessAccount(PROVIDER, balance=0)
    full.world.shelves["lium", "RTX4090", ""] = Shelf(available=0)

    async def refused(account: InProcessAccount, error: type[Exception]) -> None:
        async def story(provider: Provider) -> None:
            with pytest.raises(error):
                await create(account, provider)

        await story(account.open(flavour="rentals"))

    full.run(lambda _: refused(full, NoCapacity))
    poor.run(lambda _: refused(poor, QuotaExceeded))


@pytest.mark.parametrize(
    ("attrs", "text"),
    [
        ({"ssh_keys": []}, "one SSH key"),
        ({"ssh_keys": [KEY, f"{KEY}.org"]}, "one SSH key"),
        ({"ssh_keys": ["team"]}, "no SSH key `team`"),
        ({"gpu": "RTX4090:2"}, "has one GPU"),
        ({"gpu": None}, "has one GPU"),
        ({"options": {"lease_hours": 5}}, "`lease_hours` is for pods"),
    ],
)
def test_what_nobody_could_use_is_refused_before_it_is_rented(attrs: dict[str, Value], text: str) -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> str:
        with pytest.raises(InvalidRequest) as caught:
            await create(account, provider, **attrs)
        return caught.value.failure.message

    assert text in account.run(story, flavour="rentals")
    assert [] == account.world.visits


def test_the_key_of_the_environment_lets_in_where_none_is_named() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> None:
        await create(account, provider, ssh_keys=[])

    account.run(story, flavour="rentals", ssh_public_key=KEY)
    login = rentals(account)[0].login
    assert login is not None
    assert (KEY,) == login.keys


def test_prices_are_estimates_and_a_gpu_nobody_knows_the_price_of_can_be_asked_for() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> dict[str, float | None]:
        await create(account, provider, gpu="L40S:1")
        offers = await provider.offers(OfferQuery())
        return {offer.ref: None if offer.price_per_hour is None else float(offer.price_per_hour) for offer in offers}

    told = account.run(story, flavour="rentals", gpus=["l40s"])
    known = {"H100-80GB": 2.20, "A100-80GB": 1.40, "A100-40GB": 0.95, "RTX_4090": 0.42, "RTX_3090": 0.19}
    assert {**known, "L40S": None} == told
    assert "L40S" == rentals(account)[0].body["gpu_type"]


def test_pods_and_rentals_share_the_hosts_and_do_not_show_in_each_other() -> None:
    account = InProcessAccount(PROVIDER, hosts=2)

    async def story(rents: Provider) -> tuple[int, list[int], list[Observed]]:
        pods = account.open(flavour="pods")
        before = max(offer.gpu_count for offer in await pods.offers(OfferQuery("RTX4090")))
        made = await create(account, rents)
        after = [offer.gpu_count for offer in await pods.offers(OfferQuery("RTX4090"))]
        assert await pods.get(Kind.NODE, made.remote_id) is None
        return before, after, list((await pods.list(Kind.NODE, frozenset())).objects)

    before, after, listed = account.run(story, flavour="rentals")
    assert (8, 7, []) == (before, max(after), listed)


def test_two_wallets_are_two_accounts_whatever_the_key() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> tuple[str, str]:
        return (await provider.health()).id, (await account.open(flavour="pods").health()).id

    first, second = account.run(story, flavour="rentals")
    assert first != second


def test_an_unknown_outcome_is_not_settled_by_an_empty_listing() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> list[Observed]:
        account.world.faults.append(Fault(FaultKind.DROP_AFTER, method="POST"))
        with pytest.raises(OutcomeUnknown):
            await create(account, provider)
        return list((await provider.list(Kind.NODE, frozenset())).objects)

    assert [] == account.run(story, flavour="rentals")
    assert 1 == len(rentals(account))
