"""What surprises newcomers to the machines of Fly.io, each surprise once; in process and in virtual time."""

import pytest

from gpuplan.core.desired import Kind
from gpuplan.core.errors import Conflict, InvalidRequest, NoCapacity, NotFound, OutcomeUnknown, Refused, Unavailable
from gpuplan.core.observed import Observed, Status
from gpuplan.core.offers import Offer, OfferQuery, Stock
from gpuplan.core.ports import CanStop, CanUpdate, HasSsh, Provider
from gpuplan.core.secret import Secret
from gpuplan.core.values import Value
from gpuplan.emulators.faults import Fault, FaultKind
from gpuplan.emulators.fly import NO_ROOM
from gpuplan.providers.fly_guests import RETIRED
from gpuplan.providers.fly_tables import CAPABILITIES, MACHINE, MACHINES, TIED
from tests.conformance.fly_account import KEY, FlyAccount


def test_an_update_sends_the_whole_configuration_back() -> None:
    account = FlyAccount()

    async def story(provider: Provider) -> tuple[Observed, Observed]:
        assert isinstance(provider, CanUpdate)
        volume = await account.create(provider, Kind.VOLUME)
        attrs: dict[str, Value] = {"volumes": [{"volume": volume.remote_id, "mount": "/data"}], "ssh_keys": [KEY]}
        made = await account.up(provider, **attrs)
        account.config()["metadata"]["fly_process_group"] = "worker"
        account.config()["stop_config"] = {"timeout": "60s"}
        return made, await provider.update(account.changed(attrs, image="debian:13"), made.remote_id, {})

    made, seen = account.run(story)
    assert {"image"} == {name for name in made.attrs if made.attrs[name] != seen.attrs[name]}
    assert made.mark == seen.mark
    assert made.facts["ssh_port"] == seen.facts["ssh_port"]
    assert "worker" == account.config()["metadata"]["fly_process_group"]
    assert {"timeout": "60s"} == account.config()["stop_config"]


def test_of_a_machine_whose_host_is_away_nothing_is_concluded() -> None:
    account = FlyAccount()

    async def story(provider: Provider) -> Observed | None:
        assert isinstance(provider, CanUpdate)
        made = await account.up(provider)
        account.machine.body["host_status"] = "unreachable"
        with pytest.raises(Unavailable):
            await provider.update(account.changed({}, image="debian:13"), made.remote_id, {})
        return await provider.get(Kind.NODE, made.remote_id)

    seen = account.run(story)
    assert seen is not None
    assert (Status.UNKNOWN, {}) == (seen.status, seen.attrs)
    assert seen.mark is not None
    assert "unreachable" in seen.detail


def test_a_destroyed_machine_answers_for_a_while_and_is_gone() -> None:
    account = FlyAccount(forget_seconds=60)

    async def story(provider: Provider) -> list[Status | None]:
        made = await account.up(provider)
        statuses: list[Status | None] = []
        for seconds in (0, 10, 60):
            await provider.delete(Kind.NODE, made.remote_id, {})
            await account.clock.sleep(seconds)
            seen = await provider.get(Kind.NODE, made.remote_id)
            statuses.append(seen.status if seen else None)
            assert [] == [one for one in (await account.listed(provider)) if one.status is Status.RUNNING]
        return statuses

    assert [Status.TERMINATING, Status.TERMINATED, None] == account.run(story)


def test_a_destroyed_machine_is_not_changed() -> None:
    account = FlyAccount()

    async def story(provider: Provider) -> None:
        assert isinstance(provider, CanUpdate)
        made = await account.up(provider)
        await provider.delete(Kind.NODE, made.remote_id, {})
        with pytest.raises(NotFound):
            await provider.update(account.changed({}, image="debian:13"), made.remote_id, {})

    account.run(story)


@pytest.mark.parametrize("status", [408, 504])
def test_a_create_whose_answer_was_lost_is_found_by_its_name(status: int) -> None:
    account = FlyAccount()

    async def story(provider: Provider) -> tuple[Observed, str]:
        account.world.faults.append(Fault(FaultKind.STATUS_AFTER, "fly", "POST", MACHINES, status=status))
        want, mark = account.ask()
        with pytest.raises(OutcomeUnknown):
            await provider.create(want, mark, {})
        return await provider.create(want, mark, {}), mark.token

    seen, token = account.run(story)
    assert seen.mark is not None
    assert (token, account.machine.id) == (seen.mark.token, seen.remote_id.rpartition("/")[2])


def test_a_name_that_somebody_else_has_is_not_adopted() -> None:
    account = FlyAccount()

    async def story(provider: Provider) -> None:
        want, mark = account.ask()
        await provider.create(want, mark, {})
        account.config()["metadata"] = {"gpuplan": "gpuplan-token=zzzzzzzzzzzzzzzzzzzz"}
        with pytest.raises(Conflict):
            await provider.create(want, mark, {})

    account.run(story)
    assert 1 == len(account.things())


@pytest.mark.parametrize("form", NO_ROOM)
def test_a_lack_of_capacity_has_six_forms(form: str) -> None:
    account = FlyAccount(no_room=form)
    account.sell_out()

    async def story(provider: Provider) -> str | None:
        with pytest.raises(NoCapacity) as caught:
            await account.create(provider)
        return caught.value.failure.gpu

    assert "performance-2x" == account.run(story)
    assert [] == account.things()


def test_a_conflict_over_a_lease_is_no_lack_of_capacity_and_passes() -> None:
    account = FlyAccount()

    async def story(provider: Provider) -> Observed:
        assert isinstance(provider, CanStop)
        made = await account.up(provider)
        path = "/apps/{}/machines/{}/lease".format(*made.remote_id.split("/"))
        assert 201 == account.send("POST", path, {"ttl": 60, "description": "fly deploy"}).status
        for change in (provider.stop(Kind.NODE, made.remote_id), provider.delete(Kind.NODE, made.remote_id, {})):
            with pytest.raises(Conflict) as caught:
                await change
            assert "lease currently held" in caught.value.failure.message
        await account.clock.sleep(61)
        return await provider.stop(Kind.NODE, made.remote_id)

    assert Status.STOPPING is account.run(story).status


def test_an_update_of_a_machine_that_changed_meanwhile_is_a_conflict() -> None:
    account = FlyAccount()

    async def story(provider: Provider) -> Observed:
        assert isinstance(provider, CanUpdate)
        made = await account.up(provider)
        # The first one takes effect, and its answer is lost: the repeated one comes with the old version.
        account.world.faults.append(Fault(FaultKind.STATUS_AFTER, "fly", "POST", MACHINE, status=502))
        want = account.changed({}, image="debian:13")
        with pytest.raises(OutcomeUnknown):
            await provider.update(want, made.remote_id, {})
        return await provider.update(want, made.remote_id, {})

    assert "debian:13" == account.run(story).attrs["image"]
    assert 409 in {visit.status for visit in account.world.visits}


def test_no_call_waits_for_a_state() -> None:
    account = FlyAccount()
    account.run(account.up)

    assert [] == [route for route in account.routes("GET") if route.endswith("/wait")]


def test_a_volume_ties_its_machine_to_a_host_that_may_be_full() -> None:
    account = FlyAccount()

    async def story(provider: Provider) -> tuple[str | None, Observed | None]:
        assert isinstance(provider, CanUpdate)
        volume = await account.create(provider, Kind.VOLUME)
        attrs: dict[str, Value] = {"volumes": [{"volume": volume.remote_id, "mount": "/data"}]}
        made = await account.up(provider, **attrs)
        account.world.knobs["fly"]["full_hosts"] = True
        with pytest.raises(NoCapacity) as caught:
            await provider.update(account.changed(attrs, memory_gb=16), made.remote_id, {})
        return caught.value.failure.hint, await provider.get(Kind.NODE, made.remote_id)

    hint, seen = account.run(story)
    assert TIED == hint
    assert seen is not None
    assert (Status.RUNNING, 4) == (seen.status, seen.attrs["memory_gb"])


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"instance_type": "performance-8x", "memory_gb": 8}, "16 to 64 GB"),
        ({"instance_type": "shared-cpu-1x", "memory_gb": 4}, "0.25 to 2 GB"),
        ({"instance_type": "performance-3x"}, "no machine `performance-3x`"),
        ({"cpu": ">=4"}, "`performance-2x` has 2"),
    ],
)
def test_a_size_that_there_is_not_is_refused_before_anything_is_sent(asked: dict[str, Value], why: str) -> None:
    account = FlyAccount()

    async def story(provider: Provider) -> str:
        with pytest.raises(InvalidRequest) as caught:
            await account.create(provider, **asked)
        return caught.value.failure.message

    assert why in account.run(story)
    assert [] == account.routes("POST")


def test_a_machine_never_removes_itself_nor_sleeps() -> None:
    account = FlyAccount()
    account.run(lambda provider: account.up(provider, ports=[8000], restart="never"))

    assert account.config()["auto_destroy"] is False
    assert [("off", False)] == [(each["autostop"], each["autostart"]) for each in account.config()["services"]]


def test_a_region_is_always_named_and_is_one() -> None:
    account = FlyAccount()

    async def story(provider: Provider) -> None:
        for region in (None, "iad,us,any", "eu"):
            with pytest.raises(InvalidRequest):
                await account.create(provider, region=region)

    account.run(story)
    assert [] == account.things()


def test_gpus_are_shown_as_gone_and_the_plan_warns() -> None:
    account = FlyAccount(has_gpus=True)

    async def story(provider: Provider) -> list[Offer]:
        return list(await provider.offers(OfferQuery("L40S", 1)))

    (gone,), (had,) = account.run(story), account.run(story, retired_gpus=True)
    assert (Stock.NONE, Stock.UNTOLD) == (gone.stock, had.stock)
    assert gone.facts["retired"]
    assert RETIRED == CAPABILITIES.deprecated


def test_a_gpu_is_refused_like_a_lack_of_capacity_so_that_a_placement_goes_on() -> None:
    account, keeping = FlyAccount(), FlyAccount(has_gpus=True)

    async def story(provider: Provider) -> str | None:
        with pytest.raises(NoCapacity) as caught:
            await account.create(provider, instance_type=None, gpu="A100-40GB:1")
        return caught.value.failure.hint

    async def otherwise(provider: Provider) -> Observed:
        return await keeping.up(provider, instance_type=None, gpu="A100-40GB:1")

    assert RETIRED == account.run(story)
    seen = keeping.run(otherwise)
    assert ("A100-40GB-PCIE:1", "a100-40gb") == (seen.attrs["gpu"], seen.attrs["instance_type"])


def test_what_the_platform_adds_to_a_configuration_is_no_difference() -> None:
    account = FlyAccount(pins_images=True)
    asked: dict[str, Value] = {"env": {"A": "1"}, "labels": {"team": "x"}, "ports": [8000, 22]}
    seen = account.run(lambda provider: account.up(provider, **asked))

    assert "ubuntu:24.04" == seen.attrs["image"]
    assert "@sha256:" in account.config()["image"]
    assert asked == {name: seen.attrs[name] for name in asked}


def test_the_version_of_a_machine_is_not_its_identity() -> None:
    account = FlyAccount()

    async def story(provider: Provider) -> tuple[str, str]:
        assert isinstance(provider, CanUpdate)
        made = await account.up(provider)
        version = account.machine.body["instance_id"]
        seen = await provider.update(account.changed({}, env={"A": "1"}), made.remote_id, {})
        assert version != account.machine.body["instance_id"]
        return made.remote_id, seen.remote_id

    before, after = account.run(story)
    assert before == after


def test_creates_keep_their_pace_and_a_throttled_action_comes_through() -> None:
    account = FlyAccount()

    async def story(provider: Provider) -> float:
        assert isinstance(provider, CanStop)
        begun = account.clock.monotonic()
        made = [await account.create(provider) for _ in range(7)]
        lasted = account.clock.monotonic() - begun
        assert 429 not in {visit.status for visit in account.world.visits}
        for _ in range(5):
            await provider.stop(Kind.NODE, made[0].remote_id)
        return lasted

    assert 6 <= account.run(story) < 8
    assert 429 in {visit.status for visit in account.world.visits}


def test_a_machine_grows_to_the_next_size_that_has_the_memory() -> None:
    account = FlyAccount()

    async def story(provider: Provider) -> Observed:
        assert isinstance(provider, CanUpdate)
        made = await account.up(provider, instance_type="shared-cpu-2x", memory_gb=2)
        want = account.changed({"instance_type": None, "cpu": ">=2"}, memory_gb=">=8")
        return await provider.update(want, made.remote_id, {})

    seen = account.run(story)
    assert ("shared-cpu-4x", 4, 8) == tuple(seen.attrs[name] for name in ("instance_type", "cpu", "memory_gb"))
    assert 0 < float(str(seen.facts["price_per_hour"])) < 1


def test_labels_alone_restart_nothing() -> None:
    account = FlyAccount()

    async def story(provider: Provider) -> Observed:
        assert isinstance(provider, CanUpdate)
        made = await account.up(provider, labels={"team": "x", "tier": "gold"})
        return await provider.update(account.changed({}, labels={"team": "y"}), made.remote_id, {})

    seen = account.run(story)
    assert (Status.RUNNING, {"team": "y"}) == (seen.status, seen.attrs["labels"])
    assert MACHINE not in account.routes("POST")


def test_a_stopped_machine_stays_stopped_through_an_update() -> None:
    account = FlyAccount()

    async def story(provider: Provider) -> Observed | None:
        assert isinstance(provider, CanUpdate)
        assert isinstance(provider, CanStop)
        made = await account.up(provider)
        await account.until(provider, await provider.stop(Kind.NODE, made.remote_id), Status.STOPPED)
        await provider.update(account.changed({}, memory_gb=">=6"), made.remote_id, {})
        await account.clock.sleep(30)
        return await provider.get(Kind.NODE, made.remote_id)

    seen = account.run(story)
    assert seen is not None
    assert (Status.STOPPED, 6) == (seen.status, seen.attrs["memory_gb"])


def test_stopping_and_starting_twice_is_the_same_as_once() -> None:
    account = FlyAccount()

    async def story(provider: Provider) -> list[Status]:
        assert isinstance(provider, CanStop)
        made = await account.up(provider)
        stopped = [(await provider.stop(Kind.NODE, made.remote_id)).status for _ in range(2)]
        await account.clock.sleep(10)
        return [*stopped, *[(await provider.start(Kind.NODE, made.remote_id)).status for _ in range(2)]]

    assert [Status.STOPPING, Status.STOPPING, Status.STARTING, Status.STARTING] == account.run(story)


def test_secret_variables_come_back_as_secrets_and_a_strangers_all_do() -> None:
    account = FlyAccount()

    async def story(provider: Provider) -> Observed:
        seen = await account.up(provider, env={"TOKEN": Secret("hf_1234"), "A": "1"})
        account.config()["metadata"].pop("gpuplan_asked")
        strange = await provider.get(Kind.NODE, seen.remote_id)
        assert strange is not None
        assert {"A": Secret("1"), "TOKEN": Secret("hf_1234")} == strange.attrs["env"]
        return seen

    assert {"A": "1", "TOKEN": Secret("hf_1234")} == account.run(story).attrs["env"]


def test_a_node_without_keys_is_reached_in_the_private_network_alone() -> None:
    account = FlyAccount()

    async def story(provider: Provider) -> list[tuple[str, int, str]]:
        assert isinstance(provider, HasSsh)
        nodes = [await account.up(provider), await account.up(provider, ssh_keys=[KEY], options={"ssh_user": "ana"})]
        targets = [provider.ssh_target(node) for node in nodes]
        return [(target.host, target.port, target.user) for target in targets if target]

    private, public = account.run(story)
    assert private[0].startswith("fdaa:")
    assert (22, "root") == private[1:]
    assert public[0].endswith(".fly.dev")
    assert (10000 <= public[1] < 60000, "ana") == (True, public[2])


def test_a_node_that_ran_out_of_memory_says_so() -> None:
    account = FlyAccount()

    async def story(provider: Provider) -> Observed | None:
        made = await account.up(provider)
        account.break_down()
        return await provider.get(Kind.NODE, made.remote_id)

    seen = account.run(story)
    assert seen is not None
    assert (Status.FAILED, "it ran out of memory") == (seen.status, seen.detail)


def test_an_offer_of_another_region_than_the_volume_has_no_capacity() -> None:
    account = FlyAccount()

    async def story(provider: Provider) -> None:
        volume = await account.create(provider, Kind.VOLUME)
        offers = await provider.offers(OfferQuery(gpu_count=0, regions=("iad",)))
        offer = next(each for each in offers if each.instance_type == "performance-2x")
        with pytest.raises(NoCapacity) as caught:
            await account.create(provider, offer=offer, volumes=[{"volume": volume.remote_id, "mount": "/data"}])
        assert "volume is in ord" in caught.value.failure.message

    account.run(story)


@pytest.mark.parametrize(
    "attrs",
    [
        {"ports": ["53/udp"]},
        {"labels": {"fly_process_group": "x"}},
        {"labels": {"Team": "x"}},
        {"volumes": [{"volume": "a/vol_1", "mount": "/a"}, {"volume": "a/vol_2", "mount": "/b"}]},
    ],
)
def test_what_fly_has_no_words_for_is_refused_before_anything_is_made(attrs: dict[str, Value]) -> None:
    account = FlyAccount()

    async def story(provider: Provider) -> None:
        with pytest.raises(Refused):
            await account.create(provider, **attrs)

    account.run(story)
    assert [] == account.things()
