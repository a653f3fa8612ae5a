"""What surprises those who go to Nosana by a sidecar, each surprise once; in process and in virtual time."""

import json

import pytest

from gpuplan.core.address import Address
from gpuplan.core.desired import Kind
from gpuplan.core.errors import AuthFailed, InvalidRequest, OutcomeUnknown
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Observed, Status
from gpuplan.core.ports import CanLog, Provider, Want
from gpuplan.core.values import Value
from gpuplan.emulators.faults import Fault, FaultKind
from gpuplan.emulators.nosana_life import jobs_of
from gpuplan.emulators.world import Thing
from gpuplan.providers.nosana import PROVIDER
from gpuplan.testing.in_process import InProcessAccount

LAUNCH = "/nosana/jobs/launch"


async def launch(account: InProcessAccount, provider: Provider, **attrs: Value) -> Observed:
    address = Address("clusters", "train", None, 0)
    mark = Mark(account.clock.token(), "llama", "default", "lineage", address)
    node: dict[str, Value] = {"gpu": "RTX4090:1", "image": "ubuntu:24.04", "ports": [8888]}
    return await provider.create(Want(address, Kind.NODE, {**node, **attrs}, "train-0"), mark, {})


async def look(account: InProcessAccount, provider: Provider, seen: Observed, seconds: float) -> Observed | None:
    await account.clock.sleep(seconds)
    return await provider.get(seen.kind, seen.remote_id)


def status_of(seen: Observed | None) -> Status | None:
    return seen.status if seen else None


def deployments(account: InProcessAccount) -> list[Thing]:
    return list(account.world.living["nosana", "node"].values())


def test_a_launch_takes_minutes_and_is_waited_for() -> None:
    account = InProcessAccount(PROVIDER, launch_seconds=320)

    async def story(provider: Provider) -> Observed:
        return await launch(account, provider)

    seen = account.run(story, flavour="sidecar")
    (deployment,) = deployments(account)
    (job,) = jobs_of(deployment)
    assert f"{job['job']}/{deployment.id}" == seen.remote_id


def test_a_launch_without_an_answer_is_not_sent_again() -> None:
    account = InProcessAccount(PROVIDER)
    account.world.faults.append(Fault(FaultKind.DROP_AFTER, route=LAUNCH))

    async def story(provider: Provider) -> None:
        with pytest.raises(OutcomeUnknown):
            await launch(account, provider)

    account.run(story, flavour="sidecar")
    (deployment,) = deployments(account)
    assert "gpuplan-token=" in json.dumps(deployment.hidden)


def test_a_launch_that_failed_leaves_a_deployment_and_tells_its_id() -> None:
    account = InProcessAccount(PROVIDER, launch_fails="ERROR")

    async def story(provider: Provider) -> str:
        with pytest.raises(OutcomeUnknown) as caught:
            await launch(account, provider)
        left = caught.value.failure.leftover
        await provider.delete(Kind.NODE, left, {})
        return left

    left = account.run(story, flavour="sidecar")
    (deployment,) = deployments(account)
    assert (f"{deployment.id}/{deployment.id}", "STOPPING") == (left, deployment.hidden["state"])


def test_whether_it_is_confidential_is_said_in_the_word_that_is_read() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> None:
        await launch(account, provider, options={"public": True})

    account.run(story, flavour="sidecar")
    assert deployments(account)[0].body["confidential"] is False


def test_what_is_not_found_is_an_error_of_the_server_and_an_absence() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> Observed | None:
        return await provider.get(Kind.NODE, "nobody/nowhere")

    assert account.run(story, flavour="sidecar") is None
    assert [500, 500] == [visit.status for visit in account.world.visits]


def test_a_sidecar_that_was_started_anew_knows_jobs_alone() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> Observed | None:
        seen = await launch(account, provider)
        account.world.knobs["nosana"]["sidecar_forgets"] = True
        found = await look(account, provider, seen, 100)
        await provider.delete(Kind.NODE, seen.remote_id, {})
        return found

    assert Status.RUNNING is status_of(account.run(story, flavour="sidecar"))
    assert "STOPPING" == deployments(account)[0].hidden["state"]


def test_a_stopped_job_is_gone_although_nobody_deletes_it() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> list[Status | None]:
        seen = await launch(account, provider)
        await look(account, provider, seen, 100)
        for _ in range(2):
            await provider.delete(Kind.NODE, seen.remote_id, {})
        return [status_of(await look(account, provider, seen, pause)) for pause in (1, 60)]

    assert [Status.STOPPING, Status.TERMINATED] == account.run(story, flavour="sidecar")


def test_a_sidecar_without_credentials_says_so() -> None:
    account = InProcessAccount(PROVIDER, sidecar_credentials="")

    async def story(provider: Provider) -> str | None:
        with pytest.raises(AuthFailed) as caught:
            await provider.health()
        return caught.value.failure.hint

    assert "the sidecar has no credentials of Nosana's yet" == account.run(story, flavour="sidecar")


def test_credentials_are_accounts_of_their_own() -> None:
    account = InProcessAccount(PROVIDER, sidecar_credentials="default,other")

    async def story(provider: Provider) -> str:
        return (await provider.health()).id

    names = ("default", "other", "default")
    first, second, again = (account.run(story, flavour="sidecar", credential=name) for name in names)
    assert first == again != second


def test_a_lease_is_nothing_for_a_sidecar() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> str:
        with pytest.raises(InvalidRequest) as caught:
            await launch(account, provider, options={"lease_hours": 2})
        return caught.value.failure.message

    assert "extends what it launches by itself" in account.run(story, flavour="sidecar")


def test_the_log_of_a_job_that_has_ended_comes_without_a_socket() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> list[str]:
        seen = await launch(account, provider)
        await look(account, provider, seen, 100)
        await provider.delete(Kind.NODE, seen.remote_id, {})
        await look(account, provider, seen, 60)
        assert isinstance(provider, CanLog)
        return [line async for line in provider.logs(Kind.NODE, seen.remote_id, follow=False, tail=2)]

    assert ["warming up", "ready"] == account.run(story, flavour="sidecar")
