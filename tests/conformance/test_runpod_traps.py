"""What is odd about RunPod, each oddity with its number in the fact sheet, in virtual time and without a port."""

import asyncio
from dataclasses import replace

import pytest

from gpuplan.core.address import Address
from gpuplan.core.capabilities import Mutability
from gpuplan.core.desired import Kind
from gpuplan.core.errors import (
    AuthFailed,
    Conflict,
    InvalidRequest,
    NoCapacity,
    NotFound,
    OutcomeUnknown,
    ProtocolMismatch,
    QuotaExceeded,
)
from gpuplan.core.observed import Observed, Status
from gpuplan.core.offers import Offer, OfferQuery, Pricing
from gpuplan.core.secret import Secret
from gpuplan.core.values import Value
from gpuplan.emulators.faults import Fault, FaultKind
from gpuplan.emulators.world import Shelf
from gpuplan.providers.runpod_tables import CAPABILITIES
from gpuplan.testing.bench import Made
from tests.conformance.runpod_account import CARD, KEY, OTHER_KEY, Account, in_virtual_time


@in_virtual_time
async def test_trap_01_a_400_on_create_is_told_apart_by_its_text(account: Account) -> None:
    assert "not found" in await account.refused(NotFound, instance_type="NVIDIA H9000")
    assert "must" in await account.refused(InvalidRequest, instance_type="cpu3c-64", gpu=None)
    assert "no longer any instances" in await account.refused(NoCapacity, gpu="RTX4090:16")


@in_virtual_time
async def test_trap_02_a_create_that_answered_an_error_is_found_by_its_token(account: Account) -> None:
    account.world.faults.append(Fault(FaultKind.STATUS_AFTER, method="POST", status=500))
    want, mark = account.bench.ask(Kind.NODE)
    with pytest.raises(OutcomeUnknown):
        await account.provider.create(want, mark, {})
    listed = await account.bench.listed(Kind.NODE)

    assert [mark] == [seen.mark for seen in listed.values()]


@in_virtual_time
async def test_trap_03_count_and_disk_are_always_sent(account: Account) -> None:
    await account.bench.make(Kind.NODE, gpu=None)
    (body,) = account.sent("POST", "pods")

    assert {"id": CARD, "count": 1} == body["gpu"]
    assert 50 == body["disk"]


@in_virtual_time
async def test_trap_04_a_stopped_pod_whose_gpus_are_taken_does_not_start(account: Account) -> None:
    made = await account.bench.make(Kind.NODE)
    await account.provider.stop(Kind.NODE, made.remote_id)
    account.world.shelves["runpod", "RTX4090", "EU-RO-1"] = Shelf(available=0)
    with pytest.raises(NoCapacity):
        await account.provider.start(Kind.NODE, made.remote_id)


@in_virtual_time
async def test_trap_04_a_pod_that_comes_back_without_gpus_is_stopped_again(account: Account) -> None:
    made = await account.bench.make(Kind.NODE)
    await account.provider.stop(Kind.NODE, made.remote_id)
    account.turn(loses_gpus=True, restart_seconds=0)
    with pytest.raises(NoCapacity) as caught:
        await account.provider.start(Kind.NODE, made.remote_id)

    assert CARD == caught.value.failure.gpu
    assert Status.STOPPED is (await account.get(made)).status


@in_virtual_time
async def test_trap_04_a_pod_found_without_its_gpus_has_failed_for_lack_of_capacity(account: Account) -> None:
    made = await account.bench.make(Kind.NODE)
    account.world.living["runpod", "node"][made.remote_id].body["gpu"] = {"id": CARD, "count": 0}
    seen = await account.get(made)

    assert Status.FAILED is seen.status
    assert isinstance(seen.failure, NoCapacity)


@in_virtual_time
async def test_trap_05_a_change_that_empties_the_disk_is_declared_to_restart(account: Account) -> None:
    made = await account.bench.make(Kind.NODE)
    want = replace(made.want, attrs={**made.want.attrs, "env": {"A": "1"}}, update=frozenset({"env"}))
    changed = await account.provider.update(want, made.remote_id, {})

    assert Mutability.RESTARTS is CAPABILITIES.kinds[Kind.NODE].attributes["env"]
    assert Status.STARTING is changed.status


@in_virtual_time
async def test_trap_06_public_ports_that_change_at_a_start_are_no_drift(account: Account) -> None:
    made = await account.bench.make(Kind.NODE)
    stopped = await account.provider.stop(Kind.NODE, made.remote_id)
    started = await account.provider.start(Kind.NODE, made.remote_id)
    again = await account.bench.until(replace(made, seen=started), Status.RUNNING)

    assert stopped.facts["ssh_port"] is None
    assert made.seen.facts["ssh_port"] != again.seen.facts["ssh_port"]
    assert made.seen.attrs == again.seen.attrs


@in_virtual_time
async def test_trap_07_a_pod_that_runs_is_not_ready_before_its_ssh_port(account: Account) -> None:
    account.turn(ssh_seconds=100)
    made = await account.bench.send(*account.bench.ask(Kind.NODE))
    await account.bench.clock.sleep(90)
    pod = account.console("GET", f"pods/{made.remote_id}")
    seen = await account.get(made)

    assert "RUNNING" == pod["status"]
    assert (Status.STARTING, "waits for its public SSH port") == (seen.status, seen.detail)


@in_virtual_time
async def test_trap_07_a_pod_that_never_gets_an_ssh_port_is_up_all_the_same(account: Account) -> None:
    account.turn(ssh_seconds=1e9)
    made = await account.bench.make(Kind.NODE)

    assert account.provider.ssh_target(made.seen) is None


@in_virtual_time
async def test_trap_08_keys_are_brought_along_instead_of_those_of_the_account(account: Account) -> None:
    await account.bench.make(Kind.NODE, ssh_keys=[KEY, OTHER_KEY])
    (body,) = account.sent("POST", "pods")
    assert isinstance(body["env"], dict)

    assert f"{KEY}\n{OTHER_KEY}" == body["env"]["PUBLIC_KEY"]
    assert "startSsh" not in body


@in_virtual_time
async def test_trap_08_a_key_of_the_account_is_brought_along_by_its_id(account: Account) -> None:
    key = await account.bench.make(Kind.SSH_KEY)
    await account.bench.make(Kind.NODE, ssh_keys=[key.remote_id])
    (body,) = account.sent("POST", "pods")
    assert isinstance(body["env"], dict)

    assert KEY == body["env"]["PUBLIC_KEY"]


@in_virtual_time
async def test_trap_09_keys_of_others_stay_on_the_list(account: Account) -> None:
    account.console("PUT", "account/ssh-keys", {"keys": [OTHER_KEY]})
    made = await account.bench.make(Kind.SSH_KEY)
    await account.provider.delete(Kind.SSH_KEY, made.remote_id, {})

    assert {"keys": [OTHER_KEY]} == account.console("GET", "account/ssh-keys")


@in_virtual_time
async def test_trap_09_keys_added_at_once_do_not_undo_each_other(account: Account) -> None:
    asked = []
    for number in range(5):
        want, mark = account.bench.ask(Kind.SSH_KEY, public_key=f"{KEY}-{number}")
        asked.append((replace(want, address=Address("ssh_keys", f"k{number}")), mark))
        account.bench.made[mark.token] = Made(want, mark, Observed(Kind.SSH_KEY, "", Status.PENDING))

    await asyncio.gather(*(account.provider.create(want, mark, {}) for want, mark in asked))

    assert {mark.token for _, mark in asked} == set(await account.bench.listed(Kind.SSH_KEY))


@in_virtual_time
async def test_trap_09_a_list_that_is_not_understood_is_not_written(account: Account) -> None:
    account.world.faults.append(Fault(FaultKind.GARBAGE, method="GET", times=None))
    want, mark = account.bench.ask(Kind.SSH_KEY)
    with pytest.raises(ProtocolMismatch):
        await account.provider.create(want, mark, {})

    assert [] == account.sent("PUT", "account/ssh-keys")


@in_virtual_time
async def test_trap_09_a_lost_answer_to_the_list_is_not_sent_again(account: Account) -> None:
    account.world.faults.append(Fault(FaultKind.DROP_AFTER, method="PUT"))
    want, mark = account.bench.ask(Kind.SSH_KEY)
    with pytest.raises(OutcomeUnknown):
        await account.provider.create(want, mark, {})

    assert {mark.token} == set(await account.bench.listed(Kind.SSH_KEY))
    assert 1 == sum(visit.method == "PUT" for visit in account.world.visits)


@in_virtual_time
async def test_trap_10_an_image_that_cannot_be_pulled_fails_with_its_reason(account: Account) -> None:
    account.turn(missing_image="acme/nothing:1")
    made = await account.bench.send(*account.bench.ask(Kind.NODE, image="acme/nothing:1"))
    early = await account.provider.advance(made.want, made.mark, await account.get(made), {})
    await account.bench.clock.sleep(180)
    late = await account.provider.advance(made.want, made.mark, await account.get(made), {})

    assert Status.PENDING is early.status
    assert Status.FAILED is late.status
    assert "manifest unknown" in late.detail


@in_virtual_time
async def test_trap_10_a_slow_pull_is_looked_into_once_and_goes_on(account: Account) -> None:
    account.turn(start_seconds=400)
    made = await account.bench.make(Kind.NODE)
    looks = [visit for visit in account.world.visits if visit.route == "/v2/pods/{id}/logs"]

    assert Status.RUNNING is made.seen.status
    assert 1 == len(looks)


@in_virtual_time
async def test_trap_11_gpu_ids_are_sent_as_the_catalogue_has_them(account: Account) -> None:
    offers = await account.provider.offers(OfferQuery("RTX6000Ada", 2))

    assert {("secure/2/NVIDIA RTX 6000 Ada Generation", "US-IL-1")} == {(offer.ref, offer.region) for offer in offers}


@in_virtual_time
async def test_trap_12_a_slice_is_not_offered_as_the_card(account: Account) -> None:
    offers = await account.provider.offers(OfferQuery())

    assert {"NVIDIA RTX PRO 6000 Blackwell Server Edition"} == {
        offer.instance_type for offer in offers if offer.gpu == "RTXPRO6000"
    }
    assert not any("MIG" in offer.instance_type or offer.instance_type == "unknown" for offer in offers)


@in_virtual_time
async def test_trap_13_a_data_centre_in_small_letters_is_refused_with_its_name(account: Account) -> None:
    assert "`EU-RO-1`" in await account.refused(InvalidRequest, region="eu-ro-1")
    want, mark = account.bench.ask(Kind.VOLUME, region="eu-ro-1")
    with pytest.raises(InvalidRequest):
        await account.provider.create(want, mark, {})

    assert [] == account.desk.exchanges


@in_virtual_time
async def test_trap_14_a_volume_takes_its_pod_to_its_data_centre(account: Account) -> None:
    volume = await account.bench.make(Kind.VOLUME)
    mount: Value = [{"volume": volume.remote_id, "mount": "/data"}]
    made = await account.bench.make(Kind.NODE, region=None, volumes=mount)
    (body,) = account.sent("POST", "pods")

    assert ("SECURE", ["EU-RO-1"]) == (body["cloud"], body["dataCenterIds"])
    assert ("EU-RO-1", mount) == (made.seen.attrs["region"], made.seen.attrs["volumes"])
    assert "EU-RO-1" in await account.refused(InvalidRequest, region="US-KS-2", volumes=mount)


@in_virtual_time
async def test_trap_14_a_strangers_machine_has_no_room_for_a_volume(account: Account) -> None:
    volume = await account.bench.make(Kind.VOLUME)
    want, mark = account.bench.ask(Kind.NODE, volumes=[{"volume": volume.remote_id, "mount": "/data"}])
    now = account.bench.clock.now()
    offer = Offer("runpod", f"community/1/{CARD}", "EU-RO-1", "RTX4090", 1, Pricing.ON_DEMAND, None, now)
    with pytest.raises(NoCapacity):
        await account.provider.create(replace(want, offer=offer), mark, {})


@in_virtual_time
async def test_trap_14_a_mounted_volume_is_not_deleted_yet(account: Account) -> None:
    volume = await account.bench.make(Kind.VOLUME)
    await account.bench.make(Kind.NODE, volumes=[{"volume": volume.remote_id, "mount": "/data"}])
    with pytest.raises(Conflict):
        await account.provider.delete(Kind.VOLUME, volume.remote_id, {})


@in_virtual_time
async def test_trap_15_a_pod_without_gpus_has_a_flavor_and_no_disk_of_the_host(account: Account) -> None:
    options: Value = {"persistent_gb": 20}
    made = await account.bench.make(Kind.NODE, gpu=None, instance_type="cpu3c-4", options=options)
    (body,) = account.sent("POST", "pods")
    sizes = {offer.cpu for offer in await account.provider.offers(OfferQuery(gpu_count=0))}

    assert {"id": "cpu3c", "vcpuCount": 4} == body["cpu"]
    assert "mounts" not in body
    assert (4, 8, "cpu3c-4") == tuple(made.seen.attrs[name] for name in ("cpu", "memory_gb", "instance_type"))
    assert {2, 4, 8, 16, 32} == sizes


@in_virtual_time
async def test_trap_16_a_migrated_pod_is_known_by_its_token(account: Account) -> None:
    made = await account.bench.make(Kind.NODE)
    old = account.world.living["runpod", "node"][made.remote_id]
    account.world.remove(old)
    account.world.add(replace(old, id="migrated000000", deleted_at=None))
    (seen,) = (await account.bench.listed(Kind.NODE)).values()

    assert ("migrated000000", made.mark) == (seen.remote_id, seen.mark)


@in_virtual_time
async def test_trap_17_variables_of_others_survive_a_change_and_are_no_drift(account: Account) -> None:
    env: Value = {"A": "1", "B": "2"}
    made = await account.bench.make(Kind.NODE, env=env, options={"start_jupyter": True})
    want = replace(made.want, attrs={**made.want.attrs, "env": {"A": "3"}}, update=frozenset({"env"}))
    changed = await account.provider.update(want, made.remote_id, {})
    (body,) = account.sent("PATCH", f"pods/{made.remote_id}")
    assert isinstance(body["env"], dict)

    assert env == made.seen.attrs["env"]
    assert {"A": "3"} == changed.attrs["env"]
    assert {"A", "JUPYTER_PASSWORD", "GPUPLAN_MARK", "GPUPLAN_ASKED"} == set(body["env"])
    assert made.mark == changed.mark


@in_virtual_time
async def test_trap_18_order_of_ports_and_blanks_around_a_command_are_no_drift(account: Account) -> None:
    made = await account.bench.make(Kind.NODE, ports=[8000, "8888/http"], command=["serve", "--name", "a b"])
    pod = account.world.living["runpod", "node"][made.remote_id]
    pod.body |= {"ports": ["8888/http", "8000/tcp", "22/tcp"], "args": "  serve --name 'a b' "}

    assert made.seen.attrs == (await account.get(made)).attrs


@in_virtual_time
async def test_trap_19_the_size_of_a_pod_is_told_by_the_api_not_by_its_host(account: Account) -> None:
    made = await account.bench.make(Kind.NODE)
    pod = account.world.living["runpod", "node"][made.remote_id]
    pod.body["gpu"] = {"id": CARD, "count": 1, "vcpuCount": 16, "memory": 62}
    seen = await account.get(made)

    assert (16, 62) == (seen.facts["vcpus"], seen.facts["ram_gb"])


@in_virtual_time
async def test_trap_20_every_data_centre_and_cloud_is_an_offer_of_its_own(account: Account) -> None:
    offers = await account.provider.offers(OfferQuery("RTX4090", 2))

    assert ["EU-RO-1", "EU-SE-1", "US-KS-2"] == sorted(offer.region for offer in offers)
    assert {"1.38"} == {str(offer.price_per_hour) for offer in offers}


@in_virtual_time
async def test_trap_21_secret_variables_come_back_as_secrets_and_references_stay(account: Account) -> None:
    env: Value = {"TOKEN": Secret("s3cret-value"), "KEY": "{{ RUNPOD_SECRET_key }}"}
    made = await account.bench.make(Kind.NODE, env=env)

    assert env == made.seen.attrs["env"]
    assert "s3cret-value" not in repr(made.seen)


@in_virtual_time
async def test_trap_22_a_web_page_instead_of_an_answer_is_not_understood(account: Account) -> None:
    account.world.faults.append(Fault(FaultKind.GARBAGE, method="POST"))
    want, mark = account.bench.ask(Kind.NODE)
    with pytest.raises(ProtocolMismatch):
        await account.provider.create(want, mark, {})

    assert 1 == len(await account.bench.listed(Kind.NODE))


@in_virtual_time
async def test_trap_23_pods_of_others_carry_no_mark(account: Account) -> None:
    account.console("POST", "pods", {"name": "mine", "image": "x", "disk": 5, "gpu": {"id": CARD, "count": 1}})
    (seen,) = (await account.bench.listed(Kind.NODE)).values()

    assert seen.mark is None


@in_virtual_time
async def test_a_forbidden_pool_is_no_question_of_the_key(account: Account) -> None:
    account.turn(forbidden_gpu=CARD)

    assert "pool" in await account.refused(QuotaExceeded)


@in_virtual_time
async def test_a_key_that_may_only_read_says_so(account: Account) -> None:
    account.world.faults.append(Fault(FaultKind.STATUS, method="POST", status=403))

    await account.refused(AuthFailed)


@in_virtual_time
async def test_udp_and_a_second_volume_are_refused_before_anything_is_sent(account: Account) -> None:
    two: Value = [{"volume": "a", "mount": "/a"}, {"volume": "b", "mount": "/b"}]

    assert "UDP" in await account.refused(InvalidRequest, ports=["53/udp"])
    assert "one volume" in await account.refused(InvalidRequest, volumes=two)
    assert [] == account.desk.exchanges


@in_virtual_time
async def test_the_log_of_a_pod_ends_where_it_goes_quiet(account: Account) -> None:
    made = await account.bench.make(Kind.NODE)
    lines = [line async for line in account.provider.logs(Kind.NODE, made.remote_id, follow=False, tail=None)]

    assert ["create container", "line 20"] == [lines[0], lines[-1]]
