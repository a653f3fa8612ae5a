"""What surprises newcomers to Lium's own API, each surprise once; in process and in virtual time."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gpuplan.core.address import Address
from gpuplan.core.desired import Kind, ProviderBlock
from gpuplan.core.errors import AuthFailed, InvalidRequest, NoCapacity, OutcomeUnknown, QuotaExceeded
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Observed, Status
from gpuplan.core.offers import Offer, OfferQuery, Pricing
from gpuplan.core.ports import CanExtend, CanLog, CanUpdate, HasSsh, OpenContext, Provider, Want
from gpuplan.core.secret import Redactor
from gpuplan.core.values import JsonValue, Value
from gpuplan.emulators.faults import Fault, FaultKind
from gpuplan.emulators.http import Request, Response
from gpuplan.emulators.lium_companions import ran
from gpuplan.emulators.lium_market import in_use
from gpuplan.emulators.wire import InProcessWire, with_wire
from gpuplan.emulators.world import Shelf, Thing
from gpuplan.providers.lium import PROVIDER
from gpuplan.testing.in_process import URL, InProcessAccount

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGpBYoKqHmF3jr7xkmI9YvNMM2bIXcSJ8vMfQ2vFKq1t ana@example.com"
NODE: Mapping[str, Value] = {"gpu": "H100-80GB-SXM:2", "ssh_keys": [KEY]}
RENT = "/api/executors/{id}/rent"


def ask(account: InProcessAccount, **attrs: Value) -> tuple[Want, Mark]:
    address = Address("clusters", "train", None, 0)
    mark = Mark(account.clock.token(), "llama", "default", "lineage", address)
    return Want(address, Kind.NODE, {**NODE, **attrs}, "train-0"), mark


async def create(account: InProcessAccount, provider: Provider, offer: Offer | None = None, **attrs: Value) -> Observed:
    want, mark = ask(account, **attrs)
    return await provider.create(replace(want, offer=offer), mark, {})


async def until(account: InProcessAccount, provider: Provider, seen: Observed, *ends: Status) -> Observed:
    for _ in range(200):
        if seen.status in ends:
            return seen
        await account.clock.sleep(10)
        now = await provider.get(seen.kind, seen.remote_id)
        assert now is not None
        seen = now
    raise AssertionError(f"it is {seen.status}")


async def up(account: InProcessAccount, provider: Provider, **attrs: Value) -> Observed:
    return await until(account, provider, await create(account, provider, None, **attrs), Status.RUNNING)


def status_of(seen: Observed | None) -> Status | None:
    return seen.status if seen else None


def nodes(account: InProcessAccount) -> list[Thing]:
    return list(account.world.living["lium", "node"].values())


def templates(account: InProcessAccount) -> list[Thing]:
    return list(account.world.living["lium", "template"].values())


def rents(account: InProcessAccount) -> list[int]:
    """How the rents were answered that were sent."""
    return [visit.status for visit in account.world.visits if visit.route == RENT]


def ask_as_a_stranger(account: InProcessAccount, method: str, path: str, *, body: object = None, key: str) -> Response:
    content = b"" if body is None else json.dumps(body).encode()
    return account.desk.answer(
        Request(method, f"/lium/api{path}", headers={"x-api-key": key}, content=content)
    ).response


def open_with_key(account: InProcessAccount, key: str) -> Provider:
    """An account of which nobody knows that it is at an emulator."""
    type = with_wire(PROVIDER, InProcessWire(account.desk, account.clock))
    options = type.options.model_validate({"endpoint": f"{URL}/lium/api", "key": key})
    return type.open(options, OpenContext(ProviderBlock("lium", "lium", {}, ()), account.clock, {}, Redactor()))


def test_hosts_are_told_to_anyone_and_a_wrong_key_is_noticed_all_the_same() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(_: Provider) -> list[Offer]:
        stranger = open_with_key(account, "wrong-key")
        with pytest.raises(AuthFailed):
            await stranger.health()
        return list(await stranger.offers(OfferQuery()))

    assert account.run(story)


def test_a_pod_with_fewer_gpus_than_were_rented_has_failed_for_lack_of_capacity() -> None:
    account = InProcessAccount(PROVIDER, short_by=1)

    async def story(provider: Provider) -> Observed:
        return await until(account, provider, await create(account, provider), Status.FAILED)

    seen = account.run(story)
    assert "H100-80GB-SXM:2 was rented, and it has 1 of NVIDIA H100 80GB HBM3" == seen.detail
    assert isinstance(seen.failure, NoCapacity)


def test_a_price_is_per_gpu_on_a_host_and_for_all_of_them_on_a_pod() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> tuple[Offer, Observed]:
        offer = (await provider.offers(OfferQuery("H100-80GB-SXM", 2)))[0]
        return offer, await until(account, provider, await create(account, provider, offer), Status.RUNNING)

    offer, seen = account.run(story)
    assert offer.price_per_hour is not None
    assert float(offer.price_per_hour) == seen.facts["price_per_hour"]


def test_the_gpus_of_a_host_are_not_those_that_are_free() -> None:
    account = InProcessAccount(PROVIDER, hosts=1)

    async def story(provider: Provider) -> tuple[list[int], list[int]]:
        before = await provider.offers(OfferQuery())
        await create(account, provider)
        after = await provider.offers(OfferQuery())
        return [offer.gpu_count for offer in before], [offer.gpu_count for offer in after]

    assert ([1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4, 5, 6]) == account.run(story)


@pytest.mark.parametrize("kind", [FaultKind.STATUS_AFTER, FaultKind.DROP_AFTER, FaultKind.HANG, FaultKind.GARBAGE])
@pytest.mark.parametrize("idempotent", [True, False])
def test_a_rent_without_an_answer_may_have_made_a_pod_and_makes_one(kind: FaultKind, idempotent: bool) -> None:
    account = InProcessAccount(PROVIDER, idempotent=idempotent)
    account.world.faults.append(Fault(kind, route=RENT, status=504))

    async def story(provider: Provider) -> Observed:
        return await create(account, provider)

    seen = account.run(story)
    (pod,) = nodes(account)
    assert pod.id == seen.remote_id
    assert (2 if idempotent else 1) == len(rents(account))


def test_where_keys_of_rents_are_not_remembered_a_rent_in_doubt_is_not_sent_again() -> None:
    account = InProcessAccount(PROVIDER, idempotent=False)
    account.world.faults.append(Fault(FaultKind.DROP_AFTER, route=RENT))
    account.world.list_delay_seconds["lium"] = 15

    async def story(provider: Provider) -> Observed:
        want, mark = ask(account)
        for _ in range(2):
            with pytest.raises(OutcomeUnknown):
                await provider.create(want, mark, {})
        await account.clock.sleep(15)
        return await provider.create(want, mark, {})

    seen = account.run(story)
    assert [0] == rents(account)
    assert [seen.remote_id] == [pod.id for pod in nodes(account)]


def test_a_rent_that_is_still_under_way_is_waited_for_with_the_same_key() -> None:
    account = InProcessAccount(PROVIDER, busy_seconds=2)
    account.world.faults.append(Fault(FaultKind.DROP_AFTER, route=RENT))
    account.world.list_delay_seconds["lium"] = 15

    async def story(provider: Provider) -> Observed:
        return await create(account, provider)

    seen = account.run(story)
    assert [seen.remote_id] == [pod.id for pod in nodes(account)]
    assert {0, 200, 409} == set(rents(account))


def test_a_rent_of_which_nobody_knows_what_became_is_looked_for_before_another_key_is_made() -> None:
    account = InProcessAccount(PROVIDER, forgets=True)
    account.world.faults.append(Fault(FaultKind.DROP_AFTER, route=RENT))

    async def story(provider: Provider) -> Observed:
        return await create(account, provider)

    seen = account.run(story)
    assert [seen.remote_id] == [pod.id for pod in nodes(account)]


def test_a_pod_that_is_not_found_may_still_be_listed() -> None:
    account = InProcessAccount(PROVIDER, detail=False)

    async def story(provider: Provider) -> tuple[Observed, Observed | None]:
        seen = await up(account, provider)
        assert isinstance(provider, CanUpdate)
        want, _ = ask(account, image="ubuntu:24.04")
        await provider.update(replace(want, update=frozenset({"image"})), seen.remote_id, {})
        await provider.delete(Kind.NODE, seen.remote_id, {})
        return seen, await provider.get(Kind.NODE, seen.remote_id)

    seen, gone = account.run(story)
    assert (Status.RUNNING, None) == (seen.status, gone)


def test_a_delete_with_a_body_is_blocked_and_ours_has_none() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> Response:
        seen = await create(account, provider)
        path = f"/pods/{seen.remote_id}"
        blocked = ask_as_a_stranger(account, "DELETE", path, body={"rating": 5}, key="gpuplan-emulator")
        await provider.delete(Kind.NODE, seen.remote_id, {})
        return blocked

    assert 403 == account.run(story).status
    assert [] == nodes(account)


def test_a_stopped_pod_has_failed_since_nothing_starts_it_again() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> Observed | None:
        seen = await up(account, provider)
        nodes(account)[0].body["status"] = "STOPPED"
        return await provider.get(Kind.NODE, seen.remote_id)

    seen = account.run(story)
    assert seen is not None
    assert (Status.FAILED, "stopped by its host, and cannot be started") == (seen.status, seen.detail)


def test_a_part_of_a_host_has_its_share_of_what_the_host_does_not_keep() -> None:
    account = InProcessAccount(PROVIDER, hosts=1)

    async def story(provider: Provider) -> list[Offer]:
        return list(await provider.offers(OfferQuery(gpu_count=2)))

    (offer,) = account.run(story)
    assert (32, 522, 1700) == (offer.cpu, offer.memory_gb, offer.disk_gb)


def test_times_without_a_zone_are_utc() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> Observed:
        return await up(account, provider, options={"lease_hours": 2})

    seen = account.run(story)
    (pod,) = nodes(account)
    assert pod.created_at.replace(microsecond=0).isoformat() == seen.facts["created_at"]
    assert seen.expires_at == pod.created_at.replace(microsecond=0) + timedelta(hours=2)


@pytest.mark.parametrize(
    ("attrs", "text"),
    [
        ({"options": {"template": "00000000-0000-4000-8000-000000000000"}}, "no template"),
        ({"ssh_keys": ["nobodys-key"]}, "no SSH key `nobodys-key`"),
        ({"ssh_keys": []}, "nobody could log in"),
        ({"image": "acme/no-such-image:1"}, "cannot use the image"),
        ({"ports": ["53/udp"]}, "TCP ports alone"),
        ({"image": "acme/x", "options": {"template": "x"}}, "name either it or those"),
        ({"options": {"duration_hours": 5}}, "is for rentals"),
        ({"gpu": None}, "needs a `gpu`"),
    ],
)
def test_what_is_missing_is_noticed_before_anything_is_rented(attrs: dict[str, Value], text: str) -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> str:
        with pytest.raises(InvalidRequest) as caught:
            await create(account, provider, None, **attrs)
        return caught.value.failure.message

    assert text in account.run(story)
    assert [] == rents(account)


def test_poor_hosts_are_not_looked_at_unless_one_says_so() -> None:
    async def story(provider: Provider) -> list[Offer]:
        return list(await provider.offers(OfferQuery()))

    def hosts(**options: JsonValue) -> int:
        offers = InProcessAccount(PROVIDER).run(story, **options)
        return len({offer.ref.partition("/")[0] for offer in offers})

    assert hosts(min_reliability=0.999) == 0
    assert 0 < hosts() < hosts(power_limited=True) < hosts(power_limited=True, reliable_only=False)


def test_an_offer_that_others_took_is_a_lack_of_capacity_and_the_next_one_serves() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> Observed:
        first, second, *_ = await provider.offers(OfferQuery("H100-80GB-SXM", 8))
        image = {"image": "acme/trainer:1"}
        await create(account, provider, first, gpu="H100-80GB-SXM:8")
        with pytest.raises(NoCapacity) as caught:
            await create(account, provider, first, gpu="H100-80GB-SXM:8", **image)
        assert "H100-80GB-SXM:8" == caught.value.failure.gpu
        return await create(account, provider, second, gpu="H100-80GB-SXM:8", **image)

    account.run(story)
    assert [200, 409, 200] == rents(account)
    # Lium cannot delete a template: that of the failed rent serves the next one.
    assert 1 == len(templates(account))


def test_why_a_creation_failed_is_told_after_its_row_has_vanished() -> None:
    account = InProcessAccount(PROVIDER, breaks="trainer")

    async def story(provider: Provider) -> tuple[Observed, Observed | None]:
        seen = await create(account, provider, image="acme/trainer:1")
        failed = await until(account, provider, seen, Status.FAILED)
        await account.clock.sleep(300)
        return failed, await provider.get(Kind.NODE, seen.remote_id)

    failed, gone = account.run(story)
    assert "creation failed: container exited with 137: no space left on device" == failed.detail
    assert gone is not None
    assert (Status.TERMINATED, "container exited with 137: no space left on device") == (gone.status, gone.detail)


def test_public_keys_are_a_list_and_an_old_client_sends_a_text() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> tuple[Any, Response]:
        offer, other, *_ = await provider.offers(OfferQuery("A6000", 1))
        await create(account, provider, offer, gpu="A6000:1")
        (template,) = ran(nodes(account)[0])
        body = {"pod_name": "old", "template_id": template, "user_public_key": KEY, "gpu_count": 1}
        path = f"/executors/{other.ref.partition('/')[0]}/rent"
        told = ask_as_a_stranger(account, "POST", path, body=body, key="old-client")
        return json.loads(str(nodes(account)[0].hidden["body"])), told

    body, told = account.run(story)
    assert ([KEY], 200) == (body["user_public_key"], told.status)


def test_the_key_of_another_workspace_is_another_account() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(_: Provider) -> list[str]:
        return [(await open_with_key(account, key).health()).id for key in ("sk_a", "sk_b", "sk_a")]

    first, second, again = account.run(story)
    assert first == again != second


def test_a_newly_rented_pod_that_is_nowhere_is_waited_for() -> None:
    account = InProcessAccount(PROVIDER, detail=False)
    account.world.list_delay_seconds["lium"] = 15

    async def story(provider: Provider) -> list[Status | None]:
        seen = await create(account, provider)
        found = []
        for _ in range(2):
            found.append(status_of(await provider.get(Kind.NODE, seen.remote_id)))
            await account.clock.sleep(16)
        account.world.remove(nodes(account)[0])
        return [*found, status_of(await provider.get(Kind.NODE, seen.remote_id))]

    assert [Status.PENDING, Status.STARTING, None] == account.run(story)


@pytest.mark.parametrize(("balance", "error"), [(0, QuotaExceeded), (100, NoCapacity)])
def test_an_empty_balance_is_not_a_lack_of_hosts(balance: float, error: type[Exception]) -> None:
    account = InProcessAccount(PROVIDER, balance=balance)

    async def story(provider: Provider) -> None:
        offer = (await provider.offers(OfferQuery("H100-80GB-SXM", 2)))[0]
        if balance:
            account.world.shelves["lium", "H100-80GB-SXM", ""] = Shelf(available=0)
        with pytest.raises(error):
            await create(account, provider, offer)

    account.run(story)


def test_a_key_without_the_right_to_rent_says_so() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(_: Provider) -> str:
        with pytest.raises(AuthFailed) as caught:
            await create(account, open_with_key(account, "read-only-key"))
        return caught.value.failure.message

    assert "does not have the 'rent' scope" in account.run(story)


def test_a_host_that_cannot_be_split_is_offered_as_a_whole() -> None:
    account = InProcessAccount(PROVIDER, hosts=9)

    async def story(provider: Provider) -> list[tuple[int, int | None]]:
        return [(offer.gpu_count, offer.max_count) for offer in await provider.offers(OfferQuery("B200"))]

    assert [(8, 1)] == account.run(story)


def test_hosts_of_the_spot_tier_are_spot_and_others_are_not() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> list[set[Pricing]]:
        await create(account, provider, gpu="A100-40GB:1", spot=True)
        return [{offer.pricing for offer in await provider.offers(OfferQuery(spot=spot))} for spot in (True, False)]

    assert [{Pricing.SPOT}, {Pricing.ON_DEMAND}] == account.run(story)
    assert in_use(nodes(account)[0]).is_spot


def test_variables_and_ports_are_in_a_template_that_goes_with_its_pod() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> tuple[Observed, int]:
        seen = await up(account, provider, env={"HF_HOME": "/w"}, ports=[8000, 22], command=["serve", "a b"])
        made = len(templates(account))
        await provider.delete(Kind.NODE, seen.remote_id, {})
        await provider.list(Kind.NODE, frozenset())
        return seen, made

    seen, made = account.run(story)
    (template,) = account.world.gone["lium", "template"].values()
    assert 1 == made
    assert [] == templates(account)
    assert ({"HF_HOME": "/w"}, [22, 8000]) == (template.body["environment"], template.body["internal_ports"])
    assert ("serve 'a b'", "daturaai/pytorch") == (template.body["startup_commands"], template.body["docker_image"])
    assert isinstance(ports := seen.facts["ports"], dict)
    assert ["8000"] == list(ports)


@pytest.mark.parametrize("kind", [FaultKind.STATUS_AFTER, FaultKind.DROP_AFTER])
def test_a_template_whose_creation_got_no_answer_is_found_by_its_name(kind: FaultKind) -> None:
    account = InProcessAccount(PROVIDER)
    account.world.faults.append(Fault(kind, method="POST", route="/api/templates", status=502))

    async def story(provider: Provider) -> Observed:
        return await create(account, provider, image="acme/trainer:1")

    account.run(story)
    (template,), (pod,) = templates(account), nodes(account)
    assert [template.id] == ran(pod)


def test_a_pod_found_after_a_lost_answer_is_counted_too() -> None:
    account = InProcessAccount(PROVIDER, short_by=1, idempotent=False)
    account.world.faults.append(Fault(FaultKind.DROP_AFTER, route=RENT))

    async def story(provider: Provider) -> Observed:
        return await until(account, provider, await create(account, provider), Status.FAILED)

    assert isinstance(account.run(story).failure, NoCapacity)


def test_another_image_makes_the_container_anew_and_keeps_the_pod() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> tuple[Observed, Observed, Observed]:
        before = await up(account, provider, image="acme/trainer:1")
        assert isinstance(provider, CanUpdate)
        want, _ = ask(account, image="acme/trainer:2")
        changing = await provider.update(replace(want, update=frozenset({"image"})), before.remote_id, {})
        return before, changing, await until(account, provider, changing, Status.RUNNING)

    before, changing, after = account.run(story)
    assert Status.STARTING is changing.status
    assert before.remote_id == after.remote_id
    assert ("acme/trainer:1", "acme/trainer:2") == (before.facts["image"], after.facts["image"])
    assert 1 == len(templates(account))


def test_a_lease_ends_a_pod_and_can_be_renewed() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> tuple[Observed, Observed | None]:
        seen = await up(account, provider)
        assert isinstance(provider, CanExtend)
        renewed = await provider.extend(Kind.NODE, seen.remote_id, account.clock.now() + timedelta(hours=5))
        await account.clock.sleep(6 * 3600)
        return renewed, await provider.get(Kind.NODE, seen.remote_id)

    renewed, gone = account.run(story, lease_hours=3)
    assert renewed.expires_at is not None
    assert gone is None


def test_a_log_is_not_there_before_the_container_is() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> list[str]:
        seen = await up(account, provider)
        assert isinstance(provider, CanLog)
        return [line async for line in provider.logs(Kind.NODE, seen.remote_id, follow=True, tail=2)]

    assert ["sshd listening on 22", "ready"] == account.run(story)


def test_ssh_is_at_a_port_of_the_host_and_not_at_22() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> Any:
        assert isinstance(provider, HasSsh)
        return provider.ssh_target(await up(account, provider))

    target = account.run(story, ssh_key_path="~/.ssh/lium")
    login = nodes(account)[0].login
    assert login is not None
    assert (login.host, login.port, "root", "~/.ssh/lium") == (target.host, target.port, target.user, target.key_file)
    assert 22 != target.port


def test_looks_are_held_back_before_lium_turns_them_away() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> float:
        begun = account.clock.monotonic()
        for _ in range(70):
            await provider.list(Kind.NODE, frozenset())
        return account.clock.monotonic() - begun

    assert account.run(story) >= 60
    assert 429 not in {visit.status for visit in account.world.visits}


def test_keys_of_the_account_are_named_or_referred_to() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> None:
        mark = Mark(account.clock.token())
        want = Want(Address("ssh_keys", "team"), Kind.SSH_KEY, {"public_key": KEY}, "team")
        stored = await provider.create(want, mark, {})
        await create(account, provider, ssh_keys=[str(stored.facts["name"])])
        await create(account, provider, ssh_keys=[stored.remote_id])
        await create(account, provider, ssh_keys=[])

    account.run(story, ssh_public_key=KEY)
    assert [(KEY,)] * 3 == [pod.login.keys for pod in nodes(account) if pod.login]


def test_a_volume_is_mounted_where_its_template_says() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> None:
        want = Want(Address("volumes", "data"), Kind.VOLUME, {}, "data")
        volume = await provider.create(want, Mark(account.clock.token()), {})
        await create(account, provider, volumes=[{"volume": volume.remote_id, "mount": "/data"}])

    account.run(story)
    (pod,), (template,) = nodes(account), templates(account)
    (volume,) = account.world.living["lium", "volume"].values()
    assert (volume.id, ["/data"]) == (pod.hidden["volume"], template.body["volumes"])
