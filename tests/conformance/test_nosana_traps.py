"""What surprises newcomers to Nosana's own API, each surprise once; in process and in virtual time."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import pytest

from gpuplan.core.address import Address
from gpuplan.core.desired import Kind
from gpuplan.core.errors import Conflict, InvalidRequest, NoCapacity, ProviderError, QuotaExceeded
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Observed, Status
from gpuplan.core.offers import OfferQuery
from gpuplan.core.ports import CanAdvance, CanExtend, CanLog, CanStop, CanUpdate, Provider, Want
from gpuplan.core.secret import Secret
from gpuplan.core.values import JsonValue, Value
from gpuplan.emulators.faults import Fault, FaultKind
from gpuplan.emulators.http import Request, Response
from gpuplan.emulators.nosana_life import definition_of, jobs_of
from gpuplan.emulators.world import Shelf, Thing
from gpuplan.providers.nosana import PROVIDER
from gpuplan.testing.in_process import InProcessAccount

NODE: Mapping[str, Value] = {"gpu": "H100-80GB-SXM:1", "image": "ubuntu:24.04", "ports": [8888]}
CREATE, START, STOP = "/api/deployments/create", "/api/deployments/{id}/start", "/api/deployments/{id}/stop"


def ask(account: InProcessAccount, **attrs: Value) -> tuple[Want, Mark]:
    address = Address("clusters", "train", None, 0)
    mark = Mark(account.clock.token(), "llama", "default", "lineage", address)
    return Want(address, Kind.NODE, {**NODE, **attrs}, "train-0"), mark


async def create(account: InProcessAccount, provider: Provider, **attrs: Value) -> Observed:
    return await provider.create(*ask(account, **attrs), {})


async def started(account: InProcessAccount, provider: Provider, **attrs: Value) -> Observed:
    """A draft that has been told to run."""
    want, mark = ask(account, **attrs)
    assert isinstance(provider, CanAdvance)
    return await provider.advance(want, mark, await provider.create(want, mark, {}), {})


async def until(account: InProcessAccount, provider: Provider, seen: Observed, *ends: Status) -> Observed:
    for _ in range(600):
        if seen.status in ends:
            return seen
        await account.clock.sleep(5)
        now = await provider.get(seen.kind, seen.remote_id)
        assert now is not None
        seen = now
    raise AssertionError(f"it is {seen.status}: {seen.detail}")


async def up(account: InProcessAccount, provider: Provider, **attrs: Value) -> Observed:
    return await until(account, provider, await started(account, provider, **attrs), Status.RUNNING)


async def gone(account: InProcessAccount, provider: Provider, seen: Observed) -> int:
    """Delete as the engine does; after how many times."""
    for times in range(1, 20):
        await provider.delete(seen.kind, seen.remote_id, {})
        if await provider.get(seen.kind, seen.remote_id) is None:
            return times
        await account.clock.sleep(20)
    raise AssertionError("it is still there")


def deployments(account: InProcessAccount) -> list[Thing]:
    return list(account.world.living["nosana", "node"].values())


def answers(account: InProcessAccount, route: str) -> list[int]:
    return [visit.status for visit in account.world.visits if visit.route == route]


def ask_as_a_stranger(
    account: InProcessAccount, method: str, path: str, content: bytes = b"", kind: str = ""
) -> Response:
    parameters: dict[str, list[str]] = {}
    path, _, query = path.partition("?")
    for pair in query.split("&") if query else ():
        name, _, value = pair.partition("=")
        parameters[name] = [value]
    headers = {"authorization": "Bearer gpuplan-emulator", "content-type": kind}
    return account.desk.answer(Request(method, f"/nosana/api{path}", parameters, headers, content)).response


def test_running_is_not_running_before_a_host_and_its_tunnel_are_there() -> None:
    account = InProcessAccount(PROVIDER, queue_seconds=30)

    async def story(provider: Provider) -> list[tuple[Status, object, str]]:
        seen = await started(account, provider)
        told: list[tuple[Status, object, str]] = []
        for pause in (10, 25, 60):
            await account.clock.sleep(pause)
            now = await provider.get(Kind.NODE, seen.remote_id)
            assert now is not None
            told.append((now.status, now.facts["state"], now.detail))
        return told

    expected = [
        (Status.PENDING, "RUNNING", "waits for a host"),
        (Status.STARTING, "RUNNING", "waits for its endpoint"),
        (Status.RUNNING, "RUNNING", ""),
    ]
    assert expected == account.run(story)


def test_where_nobody_tells_whether_an_endpoint_is_online_a_job_that_runs_will_do() -> None:
    account = InProcessAccount(PROVIDER, tells_online=False, image_seconds=10000)

    async def story(provider: Provider) -> Observed:
        return await up(account, provider)

    assert account.run(story).healthy is None


def test_less_than_an_hour_is_never_asked_for_since_no_such_job_is_ever_listed() -> None:
    account = InProcessAccount(PROVIDER)
    with pytest.raises(ValueError, match="60"):
        PROVIDER.options.model_validate({"timeout_minutes": 59})

    async def story(provider: Provider) -> Observed:
        seen = await started(account, provider, options={"lease_hours": 1})
        deployments(account)[0].body["timeout"] = 30
        return await until(account, provider, seen, Status.FAILED)

    seen = account.run(story)
    assert "Credit-paid jobs must have a timeout of at least 3600 seconds; 1800 was requested" == seen.detail


def test_a_wrong_state_is_an_error_of_the_server_and_is_not_asked_for_again() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> None:
        assert isinstance(provider, CanStop)
        draft = await create(account, provider)
        with pytest.raises(Conflict):
            await provider.stop(Kind.NODE, draft.remote_id)

    account.run(story)
    assert [500] == answers(account, STOP)


@pytest.mark.parametrize("verb", ["start", "stop"])
def test_starting_or_stopping_twice_is_success(verb: str) -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> list[Observed]:
        assert isinstance(provider, CanStop)
        seen = await up(account, provider)
        switch = provider.start if verb == "start" else provider.stop
        return [await switch(Kind.NODE, seen.remote_id) for _ in range(2)]

    first, second = account.run(story)
    assert first.status is second.status


def test_a_draft_cannot_be_deleted_and_is_started_and_stopped_first() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> int:
        draft = await create(account, provider)
        refused = ask_as_a_stranger(account, "DELETE", f"/deployments/{draft.remote_id}")
        assert 500 == refused.status
        return await gone(account, provider, draft)

    assert 3 == account.run(story)
    assert [] == deployments(account)


def test_a_create_without_an_answer_leaves_a_draft_that_costs_nothing_and_is_found_by_its_name() -> None:
    account = InProcessAccount(PROVIDER)
    account.world.faults.append(Fault(FaultKind.DROP_AFTER, route=CREATE))

    async def story(provider: Provider) -> tuple[Mark, list[Observed]]:
        want, mark = ask(account)
        with pytest.raises(ProviderError):
            await provider.create(want, mark, {})
        await account.clock.sleep(3600)
        return mark, list((await provider.list(Kind.NODE, frozenset())).objects)

    mark, (found,) = account.run(story)
    assert [0] == answers(account, CREATE)
    assert found.mark is not None
    assert (mark.token, Status.PENDING) == (found.mark.token, found.status)
    assert 0 == deployments(account)[0].cost(account.world.time.now())


@pytest.mark.parametrize(("limit", "status"), [("100", 200), ("25", 400)])
def test_pages_have_one_of_four_sizes(limit: str, status: int) -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> None:
        for _ in range(12):
            await create(account, provider)
        assert 12 == len((await provider.list(Kind.NODE, frozenset())).objects)

    account.run(story)
    assert status == ask_as_a_stranger(account, "GET", f"/deployments?limit={limit}").status


def test_a_start_has_neither_a_body_nor_a_type_of_one() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> Response:
        draft = await create(account, provider)
        path = f"/deployments/{draft.remote_id}/start"
        refused = ask_as_a_stranger(account, "POST", path, kind="application/json")
        assert isinstance(provider, CanStop)
        await provider.start(Kind.NODE, draft.remote_id)
        return refused

    assert 400 == account.run(story).status
    assert [200] == answers(account, START)[1:]


def test_a_market_that_is_no_more_is_noticed_by_an_event_alone() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> Observed:
        (offer,) = await provider.offers(OfferQuery("H100-80GB-SXM", 1))
        account.world.knobs["nosana"]["retired"] = "nvidia-h100"
        want, mark = ask(account)
        assert isinstance(provider, CanAdvance)
        draft = await provider.create(replace(want, offer=offer), mark, {})
        return await until(account, provider, await provider.advance(want, mark, draft, {}), Status.FAILED)

    seen = account.run(story)
    assert "Account does not exist or has no data" == seen.detail
    assert isinstance(seen.failure, NoCapacity)


def test_a_lack_of_hosts_is_no_error_and_ends_the_wait_after_the_ready_timeout() -> None:
    account = InProcessAccount(PROVIDER)
    account.world.shelves["nosana", "H100-80GB-SXM", "global"] = Shelf(available=0)

    async def story(provider: Provider) -> tuple[Observed, float]:
        begun = account.clock.monotonic()
        seen = await until(account, provider, await started(account, provider), Status.FAILED)
        return seen, account.clock.monotonic() - begun

    seen, seconds = account.run(story, ready_timeout=120)
    assert isinstance(seen.failure, NoCapacity)
    assert 120 <= seconds < 140


def test_a_lone_object_to_expose_has_no_endpoint_and_ours_are_lists() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> Observed:
        return await up(account, provider, options={"health_path": "/api"})

    seen = account.run(story)
    (deployment,) = deployments(account)
    ops = definition_of(deployment)["ops"]
    assert isinstance(ops, list)
    (op,) = ops
    assert isinstance(op, dict)
    args = op["args"]
    assert isinstance(args, dict)
    exposed = args["expose"]
    assert isinstance(exposed, list)
    assert str(seen.facts["endpoint"]).endswith(".node.k8s.prd.nos.ci")
    args["expose"] = exposed[0]
    shown = ask_as_a_stranger(account, "GET", f"/deployments/{deployment.id}").body
    assert isinstance(shown, dict)
    assert [] == shown["endpoints"]


def test_ids_of_ops_are_plain_words_and_a_refusal_does_not_say_so() -> None:
    account = InProcessAccount(PROVIDER)
    op = {"type": "container/run", "id": "train/node.0", "args": {"image": "ubuntu"}}
    definition = {"version": "0.1", "type": "container", "ops": [op]}
    body = {
        "name": "n",
        "market": "m",
        "replicas": 1,
        "timeout": 60,
        "strategy": "SIMPLE",
        "job_definition": definition,
    }

    refused = ask_as_a_stranger(account, "POST", "/deployments/create", json.dumps(body).encode())
    assert (400, {"error": "Bad Request"}) == (refused.status, refused.body)


@pytest.mark.parametrize(("options", "hidden"), [({}, True), ({"public": True}, False)])
def test_secrets_in_a_definition_are_kept_from_the_public(options: dict[str, JsonValue], hidden: bool) -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> Observed:
        return await up(account, provider, env={"TOKEN": Secret("s3cret")}, options=options)

    assert "s3cret" not in repr(account.run(story))
    assert hidden is deployments(account)[0].body["confidential"]


def test_states_are_numbers_in_one_place_and_words_in_another_and_prices_are_either() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> list[str]:
        seen = await up(account, provider)
        assert isinstance(provider, CanStop)
        await provider.stop(Kind.NODE, seen.remote_id)
        stopped = await until(account, provider, seen, Status.STOPPED)
        assert "stopped" == stopped.detail
        return [str(offer.price_per_hour) for offer in await provider.offers(OfferQuery("RTX4090"))]

    assert ["0.319990", "0.240020"] == account.run(story)


def test_no_hosts_in_a_market_means_nothing() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> Observed:
        return await up(account, provider)

    account.run(story)
    markets = ask_as_a_stranger(account, "GET", "/markets/").body
    assert isinstance(markets, list)
    assert all(isinstance(market, dict) and market["nodes"] == [] for market in markets)


def test_a_crash_looks_like_a_stop_and_is_a_failure() -> None:
    account = InProcessAccount(PROVIDER, crashes="ubuntu")

    async def story(provider: Provider) -> Observed:
        return await until(account, provider, await started(account, provider), Status.FAILED)

    seen = account.run(story)
    assert ("STOPPED", "the container ended with 137") == (seen.facts["state"], seen.detail)


def test_a_host_that_was_shut_down_takes_its_node_with_it() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> Observed:
        seen = await up(account, provider)
        (deployment,) = deployments(account)
        account.desk.answer(
            Request("POST", f"/_emulator/nodes/{deployment.id}", content=json.dumps({"preempt": True}).encode())
        )
        return await until(account, provider, seen, Status.FAILED)

    assert "its host was shut down" == account.run(story).detail


def test_two_ports_would_share_one_address_and_are_refused() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> str:
        with pytest.raises(InvalidRequest) as caught:
            await create(account, provider, ports=[8888, 8000])
        return caught.value.failure.message

    assert "share one address" in account.run(story)
    assert [] == deployments(account)


def test_a_stopped_node_starts_with_other_jobs_and_the_same_address() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> tuple[Observed, Observed]:
        assert isinstance(provider, CanStop)
        before = await up(account, provider)
        stopped = await until(account, provider, await provider.stop(Kind.NODE, before.remote_id), Status.STOPPED)
        return before, await until(
            account, provider, await provider.start(Kind.NODE, stopped.remote_id), Status.RUNNING
        )

    before, after = account.run(story)
    first, second = jobs_of(deployments(account)[0])
    assert before.facts["endpoint"] == after.facts["endpoint"]
    assert ("STOPPED", "RUNNING") == (first["state"], second["state"])


def test_a_large_image_comes_up_long_after_a_host_was_found() -> None:
    account = InProcessAccount(PROVIDER, image_seconds=2000)

    async def story(provider: Provider) -> float:
        begun = account.clock.monotonic()
        await up(account, provider)
        return account.clock.monotonic() - begun

    seconds = account.run(story)
    assert seconds > 2000
    assert PROVIDER.capabilities(PROVIDER.options.model_validate({})).ready_timeout_seconds > seconds


def test_a_lease_is_in_minutes_of_a_deployment_and_in_seconds_of_a_job() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> tuple[Observed, Observed]:
        seen = await up(account, provider, options={"lease_hours": 2})
        assert isinstance(provider, CanExtend)
        assert seen.expires_at is not None
        return seen, await provider.extend(Kind.NODE, seen.remote_id, seen.expires_at + timedelta(hours=3))

    before, after = account.run(story)
    (deployment,) = deployments(account)
    (job,) = jobs_of(deployment)
    assert (120, 5 * 3600) == (deployment.body["timeout"], job["seconds"])
    assert before.expires_at is not None
    assert before.expires_at + timedelta(hours=3) == after.expires_at


def test_a_lease_that_is_over_ends_a_node_and_without_one_it_goes_on() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> tuple[Observed | None, Observed | None]:
        leased = await up(account, provider, options={"lease_hours": 2})
        endless = await up(account, provider)
        assert endless.expires_at is None
        await account.clock.sleep(3 * 3600)
        return await provider.get(Kind.NODE, leased.remote_id), await provider.get(Kind.NODE, endless.remote_id)

    leased, endless = account.run(story)
    assert leased is not None
    assert endless is not None
    assert (Status.FAILED, "its time was over") == (leased.status, leased.detail)
    assert Status.RUNNING is endless.status


def test_credits_that_run_out_are_a_quota_and_nothing_is_deleted_for_it() -> None:
    account = InProcessAccount(PROVIDER, credits=0)

    async def story(provider: Provider) -> Observed:
        return await until(account, provider, await started(account, provider), Status.FAILED)

    seen = account.run(story)
    assert "INSUFFICIENT_FUNDS" == seen.facts["state"]
    assert isinstance(seen.failure, QuotaExceeded)
    assert 1 == len(deployments(account))


def test_what_has_run_out_of_credits_heals_by_itself_once_there_are_some() -> None:
    account = InProcessAccount(PROVIDER, credits=0)

    async def story(provider: Provider) -> Observed:
        seen = await until(account, provider, await started(account, provider), Status.FAILED)
        account.world.knobs["nosana"]["credits"] = 10
        return await until(account, provider, replace(seen, status=Status.PENDING), Status.RUNNING)

    assert account.run(story).failure is None


def test_another_definition_is_another_revision_and_another_job() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> Observed:
        seen = await up(account, provider)
        assert isinstance(provider, CanUpdate)
        want, _ = ask(account, image="ubuntu:26.04")
        changing = await provider.update(replace(want, update=frozenset({"image"})), seen.remote_id, {})
        assert Status.RUNNING is not changing.status
        return await until(account, provider, changing, Status.RUNNING)

    seen = account.run(story)
    assert 2 == seen.facts["revision"]
    assert ["STOPPED", "RUNNING"] == [job["state"] for job in jobs_of(deployments(account)[0])]


def test_the_log_of_a_job_that_has_ended_is_in_its_result() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> list[str]:
        assert isinstance(provider, CanStop)
        assert isinstance(provider, CanLog)
        seen = await up(account, provider)
        await provider.stop(Kind.NODE, seen.remote_id)
        await until(account, provider, seen, Status.STOPPED)
        return [line async for line in provider.logs(Kind.NODE, seen.remote_id, follow=True, tail=2)]

    assert ["warming up", "ready"] == account.run(story)


@pytest.mark.parametrize(
    ("attrs", "text"),
    [
        ({"image": None}, "needs an `image`"),
        ({"gpu": None}, "needs a `gpu`"),
        ({"ports": ["53/udp"]}, "HTTP to a node"),
        ({"ports": [], "options": {"health_path": "/"}}, "needs a port"),
        ({"env": {"no such": "1"}}, "no name of a variable"),
    ],
)
def test_what_is_missing_is_noticed_before_anything_is_sent(attrs: dict[str, Value], text: str) -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> str:
        with pytest.raises(InvalidRequest) as caught:
            await create(account, provider, **attrs)
        return caught.value.failure.message

    assert text in account.run(story)
    assert [] == answers(account, CREATE)


def test_the_market_decides_how_many_gpus_a_node_has() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> tuple[Observed, Observed]:
        eight = await up(account, provider, gpu="H100-80GB-SXM:8")
        with pytest.raises(NoCapacity):
            await create(account, provider, gpu="H100-80GB-SXM:4")
        return eight, await up(account, provider, gpu=None, instance_type="nvidia-4090-community")

    eight, one = account.run(story)
    assert ("H100-80GB-SXM:8", "RTX4090:1") == (eight.attrs["gpu"], one.attrs["gpu"])


def test_asking_for_memory_or_cuda_is_advice_and_the_market_is_what_chooses_hosts() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> Observed:
        return await up(account, provider, gpu="RTX3060:1", options={"min_vram_gb": 80, "cuda": ["12.8"]})

    assert "RTX3060:1" == account.run(story).attrs["gpu"]
    expected = {"required_vram": 80, "required_cuda": ["12.8"]}
    meta = definition_of(deployments(account)[0])["meta"]
    assert isinstance(meta, dict)
    assert expected == meta["system_requirements"]


def test_a_deployment_without_replicas_stops() -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> Observed:
        seen = await up(account, provider)
        path = f"/deployments/{seen.remote_id}/update-replica-count"
        assert 200 == ask_as_a_stranger(account, "PATCH", path, b'{"replicas": 0}').status
        return await until(account, provider, seen, Status.STOPPED)

    assert "STOPPED" == account.run(story).facts["state"]


@pytest.mark.parametrize(("minutes", "status"), [(59, 400), (60, 200)])
def test_a_timeout_is_changed_to_no_less_than_an_hour(minutes: int, status: int) -> None:
    account = InProcessAccount(PROVIDER)

    async def story(provider: Provider) -> Response:
        seen = await up(account, provider)
        body = json.dumps({"timeout": minutes}).encode()
        return ask_as_a_stranger(account, "PATCH", f"/deployments/{seen.remote_id}/update-timeout", body)

    assert status == account.run(story).status
