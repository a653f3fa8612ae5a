"""What surprises newcomers to instances at Lambda, each surprise once; in process and in virtual time."""

import pytest

from gpuplan.core.desired import Kind
from gpuplan.core.errors import AuthFailed, InvalidRequest, NoCapacity, OutcomeUnknown, RateLimited
from gpuplan.core.observed import Observed, Status
from gpuplan.core.offers import OfferQuery, Stock
from gpuplan.core.ports import CanStop, HasSsh, Provider, SshTarget
from gpuplan.core.secret import Secret
from gpuplan.emulators.faults import Fault, FaultKind
from gpuplan.emulators.site import Site
from gpuplan.emulators.world import Shelf
from gpuplan.providers.lambdalabs import PROVIDER
from gpuplan.testing.in_process import InProcessAccount
from tests.conformance.lambdalabs_stories import (
    LAUNCH,
    NODE,
    ask,
    later,
    launch,
    look,
    node_of,
    visits,
)


def test_launch_returns_ids_only_and_the_address_comes_minutes_later() -> None:
    account = InProcessAccount(PROVIDER, address_seconds=60)

    async def story(provider: Provider) -> list[Observed]:
        made = await launch(account, provider)
        return [made, await look(provider, made), await later(account, provider, made)]

    made, booting, running = account.run(story)
    assert Status.PENDING is made.status
    assert (Status.STARTING, None) == (booting.status, booting.facts["public_ip"])
    assert Status.RUNNING is running.status
    assert running.facts["public_ip"]


def test_one_instance_per_call_and_twelve_seconds_between_launches() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> float:
        await launch(account, provider)
        begun = account.clock.monotonic()
        for _ in range(5):
            await launch(account, provider)
        return account.clock.monotonic() - begun

    assert 48 <= account.run(story) <= 75
    assert 6 == len(account.world.living["lambda", "node"])


def test_the_catalogue_says_yes_and_launch_says_no() -> None:
    account = InProcessAccount(PROVIDER, catalogue_lies=True)
    account.world.shelves["lambda", "H100-80GB-SXM", ""] = Shelf(available=0)

    async def story(provider: Provider) -> list[Stock]:
        offers = await provider.offers(OfferQuery(gpu="H100-80GB", gpu_count=1))
        with pytest.raises(NoCapacity) as caught:
            await launch(account, provider, gpu="H100-80GB:1")
        assert "H100-80GB:1" == caught.value.failure.gpu
        return [offer.stock for offer in offers if offer.region == "us-east-1"]

    assert {Stock.SOME} == set(account.run(story))


def test_a_type_that_is_gone_everywhere_is_still_told() -> None:
    account = InProcessAccount(PROVIDER)
    account.world.shelves["lambda", "GH200-96GB", ""] = Shelf(available=0)

    (offer,) = account.run(lambda provider: provider.offers(OfferQuery(gpu="GH200-96GB")))

    assert ("", Stock.NONE) == (offer.region, offer.stock)


def test_a_rate_limited_launch_is_sent_again_and_makes_one_node() -> None:
    account = InProcessAccount(PROVIDER)
    account.world.faults.append(Fault(FaultKind.STATUS, method="POST", route=LAUNCH, status=429, times=3))

    account.run(lambda provider: launch(account, provider))

    assert [429, 429, 429, 200] == visits(account, "POST", LAUNCH)
    assert 1 == len(account.world.living["lambda", "node"])


def test_a_listing_that_stays_rate_limited_orphans_nothing() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> Observed:
        made = await launch(account, provider)
        account.world.faults.append(Fault(FaultKind.STATUS, method="GET", status=429, times=None))
        with pytest.raises(RateLimited):
            await provider.list(Kind.NODE, frozenset())
        account.world.faults.clear()
        return await look(provider, made)

    assert account.run(story).mark is not None


@pytest.mark.parametrize("code", ["global/unknown", "global/object-does-not-exist"])
def test_terminating_twice_is_success_whatever_it_answers(code: str) -> None:
    account = InProcessAccount(PROVIDER, twice_terminated_code=code)

    async def story(provider: Provider) -> list[Observed | None]:
        made = await launch(account, provider)
        await provider.delete(Kind.NODE, made.remote_id, {})
        await provider.delete(Kind.NODE, made.remote_id, {})
        seen = [await provider.get(Kind.NODE, made.remote_id)]
        for _ in range(2):
            await account.clock.sleep(45)
            seen.append(await provider.get(Kind.NODE, made.remote_id))
        await provider.delete(Kind.NODE, made.remote_id, {})
        return seen

    terminating, terminated, gone = account.run(story)
    assert terminating is not None
    assert terminated is not None
    assert (Status.TERMINATING, Status.TERMINATED) == (terminating.status, terminated.status)
    assert gone is None


def test_active_does_not_say_that_the_gpu_works() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> Observed:
        return await later(account, provider, await launch(account, provider))

    running = account.run(story)
    assert Status.RUNNING is running.status
    assert running.healthy is None
    assert "setup" in PROVIDER.capabilities(PROVIDER.options()).kinds[Kind.NODE].attributes


def test_unhealthy_while_it_boots_is_not_yet_a_failure_and_later_it_is() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> list[Status]:
        made = await launch(account, provider)
        account.world.living["lambda", "node"][made.remote_id].body["status"] = "unhealthy"
        young = await look(provider, made)
        return [young.status, (await later(account, provider, made, 900)).status]

    assert [Status.STARTING, Status.FAILED] == account.run(story)


def test_unhealthy_after_it_was_active_is_a_failure_at_once() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> Status:
        made = await later(account, provider, await launch(account, provider), 300)
        account.world.living["lambda", "node"][made.remote_id].body["status"] = "unhealthy"
        return (await look(provider, made)).status

    assert Status.FAILED is account.run(story)


def test_gh200_is_arm64_and_the_offer_says_so() -> None:
    offers = InProcessAccount(PROVIDER).run(lambda provider: provider.offers(OfferQuery()))

    assert {("GH200-96GB", "us-east-3")} == {
        (offer.gpu, offer.region) for offer in offers if offer.facts["architecture"] == "arm64"
    }


def test_a_bootstrap_script_reaches_the_node_as_plain_text_beside_its_environment() -> None:
    account = InProcessAccount(PROVIDER)
    script = "#!/bin/sh\napt-get install -y nvidia-container-toolkit\n"

    account.run(lambda provider: launch(account, provider, user_data=script, env={"TOKEN": Secret("s3cret")}))

    told = str(node_of(account)["user_data"])
    assert script in told
    assert "s3cret" in told


def test_a_renamed_node_is_still_found_by_its_tags() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> Observed:
        made = await launch(account, provider)
        account.world.living["lambda", "node"][made.remote_id].body["name"] = "login"
        return await look(provider, made)

    seen = account.run(story)
    assert "login" == seen.facts["name"]
    assert seen.mark is not None
    assert "clusters.train.nodes[0]" == str(seen.mark.address)


def test_a_node_whose_tags_are_not_shown_is_found_by_its_name() -> None:
    account = InProcessAccount(PROVIDER, shows_tags=False)

    async def story(provider: Provider) -> tuple[str, Observed]:
        want, mark = ask(account, Kind.NODE, **NODE)
        made = await provider.create(want, mark, {})
        (listed,) = (await provider.list(Kind.NODE, frozenset())).objects
        assert made.remote_id == listed.remote_id
        return mark.token, listed

    token, listed = account.run(story)
    assert listed.mark is not None
    assert token == listed.mark.token


def test_regions_are_those_that_old_clients_know() -> None:
    offers = InProcessAccount(PROVIDER).run(lambda provider: provider.offers(OfferQuery()))

    assert all(offer.region.startswith(("us-", "europe-", "asia-", "me-", "australia-")) for offer in offers)


def test_the_jupyter_token_is_never_seen() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> Observed:
        return await later(account, provider, await launch(account, provider))

    running = account.run(story)
    assert str(node_of(account)["jupyter"]) not in repr(running)


def test_an_internal_error_after_the_launch_leaves_a_node_that_is_found_by_its_token() -> None:
    account = InProcessAccount(PROVIDER)
    account.world.faults.append(Fault(FaultKind.STATUS_AFTER, method="POST", route=LAUNCH, status=500))

    async def story(provider: Provider) -> list[str]:
        want, mark = ask(account, Kind.NODE, **NODE)
        with pytest.raises(OutcomeUnknown):
            await provider.create(want, mark, {})
        listed = (await provider.list(Kind.NODE, frozenset())).objects
        return [seen.remote_id for seen in listed if seen.mark and seen.mark.token == mark.token]

    assert 1 == len(account.run(story))
    assert 1 == len(visits(account, "POST", LAUNCH))


def test_an_inactive_account_says_what_to_do() -> None:
    account = InProcessAccount(PROVIDER, account_active=False)

    with pytest.raises(AuthFailed) as caught:
        account.run(lambda provider: provider.health())

    assert caught.value.failure.hint
    assert "e-mail" in caught.value.failure.hint


def test_a_preempted_node_is_lost() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> Observed:
        made = await later(account, provider, await launch(account, provider))
        emulator = account.desk.types["lambda"]
        emulator.preempt(Site(emulator, account.world), account.world.living["lambda", "node"][made.remote_id])
        return await look(provider, made)

    lost = account.run(story)
    assert (Status.TERMINATED, "Lambda took it back") == (lost.status, lost.detail)


def test_nodes_cannot_be_stopped() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> bool:
        return isinstance(provider, CanStop) or provider.capabilities.stop_start

    assert not account.run(story)


def test_ssh_goes_to_the_public_address_as_ubuntu() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> SshTarget | None:
        assert isinstance(provider, HasSsh)
        return provider.ssh_target(await later(account, provider, await launch(account, provider)))

    target = account.run(story)
    assert target is not None
    assert ("198.18.0.2", 22, "ubuntu") == (target.host, target.port, target.user)


def test_a_label_that_is_no_tag_is_refused_by_name() -> None:
    account = InProcessAccount(PROVIDER)

    with pytest.raises(InvalidRequest) as caught:
        account.run(lambda provider: launch(account, provider, labels={"cost_center": "7"}))

    assert "`cost_center`" in caught.value.failure.message


def test_the_plan_warns_that_the_account_may_be_closed() -> None:
    assert "closed" in PROVIDER.capabilities(PROVIDER.options()).deprecated
