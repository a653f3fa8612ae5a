"""What `nosana` makes of documented samples, which way to Nosana it takes, and what it asks for."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from gpuplan.core.address import Address
from gpuplan.core.capabilities import Listing
from gpuplan.core.desired import Kind, ProviderBlock
from gpuplan.core.errors import (
    AuthFailed,
    Conflict,
    InvalidRequest,
    NoCredentials,
    NotFound,
    OutcomeUnknown,
    ProviderError,
    QuotaExceeded,
    RateLimited,
)
from gpuplan.core.kinds import NodeAttrs
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Status
from gpuplan.core.offers import Pricing
from gpuplan.core.ports import OpenContext, Want
from gpuplan.core.secret import Redactor
from gpuplan.core.values import Value
from gpuplan.net.classify import error_of
from gpuplan.net.exchange import Call, Response
from gpuplan.net.profile import Effect
from gpuplan.providers import nosana_bodies as bodies
from gpuplan.providers.nosana import PROVIDER
from gpuplan.providers.nosana_markets import lines_of
from gpuplan.providers.nosana_tables import Flavour, Options, capabilities, defaults, profile
from gpuplan.providers.nosana_wire import Deployment, Launched, Looked, Market, Result
from gpuplan.testing.clock import FakeClock

NOW = datetime(2026, 11, 24, tzinfo=UTC)
MARK = Mark("abcdefghijklmnopqrst", "llama", "default", "lineage", Address("clusters", "train", None, 0))
H100 = "Crop49jpc7prcgAcS82WbWyGHwbN5GgDym3uFbxxCTZg"
MARKET: dict[str, Any] = {
    "address": H100,
    "slug": "nvidia-h100",
    "name": "NVIDIA H100",
    "type": "PREMIUM",
    "usd_reward_per_hour": 1.3636,
    "network_fee_percentage": 10,
    "premium_community_relation": None,
    "gpu_types": ["NVIDIA H100 80GB HBM3"],
    "nodes": [],
    "lowest_vram": 80,
}
DEPLOYMENT: dict[str, Any] = {
    "id": "7fK3c9ZsK1V2hVq1gYJ7rXrV6wq4tq9n3o6p1YdT5bQx",
    "name": f"train-0-{MARK.token}",
    "vault": "9xQeWvG816bUx9EPjHmaT23yvVM2ZWbrrpZb9PusVFin",
    "market": H100,
    "status": "RUNNING",
    "replicas": 1,
    "timeout": 60,
    "endpoints": [{"opId": "node", "port": 8888, "url": "https://h339N.node.k8s.prd.nos.ci"}],
    "confidential": True,
    "active_revision": 1,
    "active_jobs": 1,
    "strategy": "SIMPLE-EXTEND",
    "created_at": "2026-08-22T10:00:00.000Z",
    "updated_at": "2026-08-22T10:00:00.000Z",
}


def want(**attrs: Value) -> Want:
    node: dict[str, Value] = {"gpu": "H100-80GB-SXM:1", "image": "ubuntu:24.04", **attrs}
    return Want(Address("clusters", "train", None, 0), Kind.NODE, node, "train-0")


def test_a_market_is_an_offer_with_the_fee_in_its_price() -> None:
    offer = Market.model_validate(MARKET).to_offer("nosana", NOW)

    assert ("H100-80GB-SXM", 1, "global", Pricing.FIXED) == (offer.gpu, offer.gpu_count, offer.region, offer.pricing)
    assert (Decimal("1.499960"), H100, "nvidia-h100") == (offer.price_per_hour, offer.ref, offer.instance_type)
    assert offer.max_count is None


@pytest.mark.parametrize(
    ("slug", "told", "gpu", "count"),
    [
        ("nvidia-8x-h100", ["NVIDIA H100 80GB HBM3"], "H100-80GB-SXM", 8),
        ("nvidia-6000-ada", ["NVIDIA RTX 6000 Ada Generation"], "RTX6000Ada", 1),
        ("nvidia-4090-community", [], "RTX4090", 1),
        ("nvidia-a100-40gb", [], "A100-40GB", 1),
        ("nvidia-2x-4090", ["something new"], "RTX4090", 2),
        ("special", ["something new"], "", 1),
    ],
)
def test_a_markets_gpu_is_told_by_its_hosts_and_else_by_its_name(
    slug: str, told: list[str], gpu: str, count: int
) -> None:
    market = Market.model_validate({**MARKET, "slug": slug, "gpu_types": told})

    assert (gpu, count) == (market.gpu, market.gpus)


@pytest.mark.parametrize(("told", "price"), [("0.2182", Decimal("0.240020")), (0, Decimal(0)), (None, None)])
def test_a_price_is_a_number_or_a_text_or_not_told(told: object, price: Decimal | None) -> None:
    assert price == Market.model_validate({**MARKET, "usd_reward_per_hour": told}).price


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"status": "DRAFT"}, Status.PENDING),
        ({"status": "STARTING"}, Status.PENDING),
        ({"status": "RUNNING"}, Status.RUNNING),
        ({"status": "RUNNING", "active_jobs": 0}, Status.PENDING),
        ({"status": "RUNNING", "endpoints": [{"opId": "a", "port": 1, "url": "u", "online": False}]}, Status.STARTING),
        ({"status": "RUNNING", "endpoints": [{"opId": "a", "port": 1, "url": "u", "online": True}]}, Status.RUNNING),
        ({"status": "STOPPING"}, Status.STOPPING),
        ({"status": "STOPPED"}, Status.STOPPED),
        ({"status": "ERROR"}, Status.FAILED),
        ({"status": "INSUFFICIENT_FUNDS"}, Status.FAILED),
        ({"status": "ARCHIVED"}, Status.TERMINATED),
        ({"status": "QUANTUM"}, Status.UNKNOWN),
    ],
)
def test_every_word_for_a_status_has_its_meaning(fields: dict[str, Any], status: Status) -> None:
    assert status is Deployment.model_validate({**DEPLOYMENT, **fields}).to_observed(None).status


def test_a_deployment_tells_its_gpu_by_its_market_and_its_mark_by_its_name() -> None:
    seen = Deployment.model_validate(DEPLOYMENT).to_observed(Market.model_validate(MARKET))

    assert {"gpu": "H100-80GB-SXM:1"} == seen.attrs
    assert ("https://h339N.node.k8s.prd.nos.ci", 1.49996) == (seen.facts["endpoint"], seen.facts["price_per_hour"])
    assert seen.mark is not None
    assert MARK.token == seen.mark.token


@pytest.mark.parametrize(
    ("op", "status", "detail"),
    [
        ({"exitCode": 0}, Status.STOPPED, "the container ended by itself"),
        ({"exitCode": 137}, Status.FAILED, "the container ended with 137"),
        ({"exitCode": 137, "diagnostics": {"state": {"OOMKilled": True}}}, Status.FAILED, "ran out of memory"),
        ({"exitCode": 143, "diagnostics": {"reason": {"jobStopped": True}}}, Status.STOPPED, "stopped"),
        ({"diagnostics": {"reason": {"hostShutDown": True}}}, Status.FAILED, "its host was shut down"),
        ({"diagnostics": {"reason": {"jobExpired": True}}}, Status.FAILED, "its time was over"),
        ({"exitCode": None, "error": {"event": "image", "message": "no such image"}}, Status.FAILED, "no such image"),
    ],
)
def test_how_a_job_ended_tells_a_crash_from_a_stop(op: dict[str, Any], status: Status, detail: str) -> None:
    told, why = Result.model_validate({"opStates": [op]}).ending

    assert status is told
    assert detail in why


@pytest.mark.parametrize(
    ("told", "status"),
    [
        ({"jobState": 1, "deploymentStatus": "RUNNING", "nodeAddress": "3yh6"}, Status.RUNNING),
        ({"jobState": 1, "deploymentStatus": "RUNNING", "nodeAddress": ""}, Status.PENDING),
        ({"jobState": 0, "deploymentStatus": "STARTING"}, Status.PENDING),
        ({"jobState": "ERROR", "deploymentStatus": None}, Status.FAILED),
        ({"jobState": 0, "deploymentStatus": None}, Status.PENDING),
        ({"jobState": 2, "deploymentStatus": None}, Status.TERMINATED),
        ({"jobState": 4, "deploymentStatus": None}, Status.TERMINATED),
        ({"jobState": 3, "deploymentStatus": "STOPPING"}, Status.STOPPING),
        ({"jobState": 3, "deploymentStatus": "STOPPED"}, Status.TERMINATED),
        ({"jobState": "QUANTUM"}, Status.UNKNOWN),
    ],
)
def test_a_sidecar_tells_a_state_by_number_or_by_word(told: dict[str, Any], status: Status) -> None:
    assert status is Looked.model_validate(told).to_observed("job/deployment").status


def test_a_launch_has_both_ids() -> None:
    assert "8Kp2/7fK3" == Launched.model_validate({"jobAddress": "8Kp2", "deploymentId": "7fK3"}).remote_id
    assert "7fK3/7fK3" == Launched.model_validate({"jobAddress": "7fK3"}).remote_id


@pytest.mark.parametrize(
    ("message", "lines"),
    [
        (b'{"path":"log","data":"{\\"type\\":\\"stdout\\",\\"log\\":\\"one\\\\ntwo\\\\n\\"}"}', ["one", "two"]),
        (b'{"type":"log","data":{"type":"stderr","log":"three"}}', ["three"]),
        (b'{"type":"log","data":"[SYSTEM] hello"}', ["[SYSTEM] hello"]),
        (b"garbage", []),
    ],
)
def test_a_message_is_an_entry_or_json_of_one_or_a_line(message: bytes, lines: list[str]) -> None:
    assert lines == list(lines_of(message))


def test_a_node_is_a_deployment_with_one_replica_that_is_extended_until_it_is_stopped() -> None:
    body = bodies.to_deployment(want(ports=[8888]), MARK, market=H100, minutes=60, lease_hours=None)

    told = {name: body[name] for name in ("replicas", "timeout", "strategy", "confidential", "name")}
    assert {
        "replicas": 1,
        "timeout": 60,
        "strategy": "SIMPLE-EXTEND",
        "confidential": True,
        "name": f"train-0-{MARK.token}",
    } == told


def test_with_a_lease_it_runs_once_for_so_many_minutes() -> None:
    body = bodies.to_deployment(want(options={"lease_hours": 1.5}), MARK, market=H100, minutes=60, lease_hours=None)

    assert (90, "SIMPLE") == (body["timeout"], body["strategy"])


def test_a_definition_has_what_the_node_asks_for() -> None:
    asked = NodeAttrs.of(
        want(
            command=["python", "train.py"],
            env={"SEED": "1"},
            ports=["8000/http"],
            restart="never",
            options={"work_dir": "/app", "entrypoint": ["tini"], "health_path": "/ok"},
        ).attrs
    )
    check = {"type": "http", "path": "/ok", "method": "GET", "expected_status": 200, "continuous": False}
    args = {
        "image": "ubuntu:24.04",
        "gpu": True,
        "cmd": ["python", "train.py"],
        "env": {"SEED": "1"},
        "work_dir": "/app",
        "entrypoint": ["tini"],
        "restart_policy": "no",
        "expose": [{"port": 8000, "health_checks": [check]}],
    }

    assert [{"type": "container/run", "id": "node", "args": args}] == bodies.to_definition(asked)["ops"]


def test_a_launch_carries_the_mark_as_a_variable_since_it_has_no_name() -> None:
    body = bodies.to_launch(want(), MARK, market=H100, credential="default")

    assert MARK.token in repr(body["jobDefinition"])
    assert (True, True) == (body["isConfidential"], body["confidential"])


@pytest.mark.parametrize(
    ("flavour", "status", "text", "error"),
    [
        ("api", 500, '{"error":"Deployment is in the incorrect state."}', Conflict),
        ("api", 500, '{"error":"Cannot modify an archived deployment."}', Conflict),
        ("api", 500, '{"error":"Internal server error."}', OutcomeUnknown),
        ("api", 400, '{"error":"Bad Request"}', InvalidRequest),
        ("api", 401, '"Unauthorized"', AuthFailed),
        ("api", 402, '{"error":"out of credits"}', QuotaExceeded),
        ("api", 404, '{"error":"Deployment not found."}', NotFound),
        ("api", 429, "", RateLimited),
        ("sidecar", 403, '{"error":"Invalid internal API key"}', AuthFailed),
        ("sidecar", 500, '{"error":"Get Job Error: Could not find deployment or job: x"}', NotFound),
        ("sidecar", 500, '{"error":"Stop Error: Cannot stop job in state: 3"}', Conflict),
        ("sidecar", 500, '{"error":"Nosana SDK Error: insufficient funds"}', QuotaExceeded),
        ("sidecar", 503, '{"error":"Nosana Service not initialized"}', AuthFailed),
    ],
)
def test_an_error_is_what_its_text_says_where_the_status_says_too_little(
    flavour: str, status: int, text: str, error: type[ProviderError]
) -> None:
    call = Call("POST", "/x", "/x", "do it", Effect.ONCE)
    response = Response(status, {}, text.encode())
    found = error_of(profile(Options(flavour=Flavour(flavour))), call, response, "nosana", NOW)

    assert error is type(found)


def test_a_sidecar_is_the_way_where_there_is_one_and_no_key_of_nosanas() -> None:
    url = {"NOSANA_SIDECAR_URL": "http://sidecar:3000/nosana"}

    assert {} == defaults({})
    assert {"flavour": "sidecar", "sidecar_url": "http://sidecar:3000/nosana"} == defaults(url)
    assert {"sidecar_url": "http://sidecar:3000/nosana"} == defaults({**url, "NOSANA_API_KEY": "nos_x"})
    assert {"flavour": "sidecar"} == defaults({"NOSANA_INTERNAL_API_KEY": "x"})


@pytest.mark.parametrize("url", ["http://sidecar:3000", "http://sidecar:3000/", "http://sidecar:3000/nosana"])
def test_the_url_of_a_sidecar_may_have_its_path_or_not(url: str) -> None:
    options = Options(flavour=Flavour.SIDECAR, sidecar_url=url)

    assert "http://sidecar:3000" == profile(options).hosts[""].url


def test_times_are_those_of_the_environment() -> None:
    environ = {
        "DEFAULT_READINESS_TIMEOUT": "600",
        "DEFAULT_POLLING_INTERVAL": "5",
        "EPHEMERAL_FAILURE_THRESHOLD_MINUTES": "3",
    }
    can = capabilities(Options.model_validate({**defaults(environ), "image_timeout": 60}))

    assert (660, 5, 180) == (can.ready_timeout_seconds, can.poll_interval_seconds, can.ephemeral_failure_seconds)
    assert {} == defaults({"DEFAULT_READINESS_TIMEOUT": "soon"})


def test_times_have_the_defaults_of_the_platform_it_replaces() -> None:
    options = Options()

    assert (300, 20, 10) == (options.ready_timeout, options.poll_interval, options.ephemeral_failure_minutes)
    assert "http://localhost:3000" == options.sidecar_url


@pytest.mark.parametrize(
    ("flavour", "listing", "needs"), [("api", Listing.FULL, False), ("sidecar", Listing.NONE, True)]
)
def test_both_ways_say_what_they_can(flavour: str, listing: Listing, needs: bool) -> None:
    can = capabilities(Options(flavour=Flavour(flavour)))

    assert (listing, needs, not needs) == (can.listing, can.requires_sidecar, can.direct_provisioning)
    assert can.ephemeral
    assert not can.spot


@pytest.mark.parametrize(("flavour", "variable"), [("api", "NOSANA_API_KEY"), ("sidecar", "NOSANA_INTERNAL_API_KEY")])
def test_each_way_has_a_key_of_its_own(flavour: str, variable: str) -> None:
    options = Options(flavour=Flavour(flavour))
    context = OpenContext(ProviderBlock("nosana", "nosana", {}, ()), FakeClock(), {}, Redactor())
    with pytest.raises(NoCredentials) as caught:
        PROVIDER.open(options, context)

    assert variable in str(caught.value.failure.hint)


def test_less_than_an_hour_at_a_time_is_refused() -> None:
    with pytest.raises(ValidationError):
        Options(timeout_minutes=59)
    with pytest.raises(ValidationError):
        bodies.NodeOptions(lease_hours=0.5)
