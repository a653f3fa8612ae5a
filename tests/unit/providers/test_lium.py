"""What `lium` makes of documented samples, how it chooses its API, and what it asks for."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gpuplan.core.address import Address
from gpuplan.core.capabilities import Listing
from gpuplan.core.desired import Kind, ProviderBlock
from gpuplan.core.errors import (
    AuthFailed,
    InvalidRequest,
    NoCapacity,
    NoCredentials,
    NotFound,
    OutcomeUnknown,
    ProviderError,
    QuotaExceeded,
    RateLimited,
    Unavailable,
)
from gpuplan.core.kinds import NodeAttrs
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Status
from gpuplan.core.offers import Pricing
from gpuplan.core.ports import OpenContext, Want
from gpuplan.core.secret import Redactor, Secret
from gpuplan.core.values import Value
from gpuplan.net.classify import error_of
from gpuplan.net.credentials import find_credentials
from gpuplan.net.exchange import Call, Response
from gpuplan.net.profile import EFFECTS, Effect
from gpuplan.providers import lium_bodies as bodies
from gpuplan.providers.lium import PROVIDER
from gpuplan.providers.lium_rentals import Rental
from gpuplan.providers.lium_tables import PODS, RENT, RENTAL, RENTALS, Flavour, Options, capabilities, defaults, profile
from gpuplan.providers.lium_wire import Event, Executor, Image, Pod, Rented, Template, gpu_of
from gpuplan.spec.load import Inputs, SourceFile, load
from gpuplan.testing.clock import FakeClock

NOW = datetime(2026, 11, 24, tzinfo=UTC)
MARK = Mark("abcdefghijklmnopqrst", "llama", "default", "lineage", Address("clusters", "train", None, 0))
KEY = "ssh-ed25519 AAAA me"
WALLET = {"LIUM_WALLET_HOTKEY": "5F3s", "LIUM_WALLET_COLDKEY": "5Grw"}
POD: dict[str, Any] = {
    "id": "33333333-3333-4333-8333-333333333333",
    "pod_name": f"train-0-{MARK.token}",
    "status": "RUNNING",
    "gpu_count": "4",
    "gpu_name": "NVIDIA H100 80GB HBM3",
    "price": 8.4,
    "ssh_connect_cmd": "ssh root@203.0.113.9 -p 20022",
    "ports_mapping": {"22": 20022, "8000": 20023},
    "created_at": "2026-11-22T00:00:00",
    "template": {"id": "2", "docker_image": "daturaai/pytorch", "docker_image_tag": "2.6.0"},
    "executor": {"id": "1", "executor_ip_address": "203.0.113.9", "location": {"country_code": "US"}},
    "removal_scheduled_at": None,
    "phase": None,
}
HOST: dict[str, Any] = {
    "id": "11111111-1111-4111-8111-111111111111",
    "machine_name": "NVIDIA H100 80GB HBM3",
    "price_per_gpu": 2.1,
    "gpu_count": 8,
    "available_gpu_count": 4,
    "min_gpu_count_for_rental": 1,
    "tier": "secure",
    "location": {"country": "United States", "country_code": "US", "region": "Virginia", "city": "Ashburn"},
    "max_cuda_version": "12.8",
    "nvlink": None,
    "reliability_score": 0.993,
    "pending_price_per_hour": None,
    "specs": {
        "gpu": {"count": 8, "driver": "570.86", "details": [{"name": "NVIDIA H100 80GB HBM3", "capacity": 81559}]},
        "cpu": {"count": 128, "model": "AMD EPYC 9554"},
        "ram": {"total": 2113573012},
        "hard_disk": {"total": 7500000000, "free": 6800000000},
    },
}


def options(**given: Any) -> Options:
    return Options.model_validate(given)


def want(**attrs: Any) -> Want:
    return Want(Address("clusters", "train", None, 0), Kind.NODE, {"gpu": "H100-80GB:4", **attrs}, "train-0")


@pytest.mark.parametrize(
    ("given", "environ", "api"),
    [
        ({}, {}, Flavour.PODS),
        ({}, WALLET, Flavour.RENTALS),
        ({}, {"LIUM_WALLET_HOTKEY": "5F3s"}, Flavour.PODS),
        ({}, {**WALLET, "LIUM_BASE_URL": "https://lium.io/api"}, Flavour.PODS),
        ({"endpoint": "https://lium.io/api/"}, WALLET, Flavour.PODS),
        ({"endpoint": "https://rent.example/v1"}, {}, Flavour.RENTALS),
        ({"endpoint": "https://api.lium.ai"}, {}, Flavour.RENTALS),
        ({"endpoint": "https://rent.example"}, WALLET, Flavour.RENTALS),
        ({"flavour": "pods", "endpoint": "https://rent.example"}, WALLET, Flavour.PODS),
        ({"flavour": "rentals"}, {}, Flavour.RENTALS),
    ],
)
def test_the_api_is_what_the_block_says_else_what_the_url_shows_else_what_a_wallet_is_for(
    given: dict[str, Any], environ: dict[str, str], api: Flavour
) -> None:
    assert api is options(**{**defaults(environ), **given}).api


def test_an_endpoint_of_the_other_api_is_refused() -> None:
    with pytest.raises(ValidationError, match="is an endpoint of pods, and the flavour is rentals"):
        options(**{**defaults({"LIUM_BASE_URL": "https://lium.io/api"}), "flavour": "rentals"})


def test_variables_are_defaults_of_the_block() -> None:
    told = defaults(
        {
            **WALLET,
            "LIUM_REGION": "eu-central",
            "LIUM_DURATION_HOURS": "48",
            "LIUM_SSH_PUBKEY": KEY,
            "LIUM_SSH_KEY_PATH": "~/.ssh/lium",
            "LIUM_WORKSPACE": "team",
        }
    )

    assert {
        "hotkey": "5F3s",
        "coldkey": "5Grw",
        "regions": ["eu-central"],
        "duration_hours": 48,
        "ssh_public_key": KEY,
        "ssh_key_path": "~/.ssh/lium",
        "workspace": "team",
    } == told


def test_a_spec_takes_the_defaults_and_what_it_writes_comes_first() -> None:
    environ = {**WALLET, "LIUM_DURATION_HOURS": "48", "LIUM_SSH_PUBKEY": KEY}
    text = b"version: 1\nproject: llama\nproviders: {lium: {duration_hours: 6}}\n"
    inputs = Inputs("default", environ, {}, lambda path, asker: b"", {"lium": PROVIDER})
    block = load([SourceFile("gpuplan.yaml", text)], inputs).providers["lium"]
    chosen = options(**block.options)

    assert (Flavour.RENTALS, 6, KEY) == (chosen.api, chosen.duration_hours, chosen.ssh_public_key)


@pytest.mark.parametrize("hours", ["", "soon", "0", "-3", "1.5"])
def test_a_duration_that_is_no_number_is_a_day_and_a_region_auto_is_none(hours: str) -> None:
    chosen = options(**defaults({"LIUM_DURATION_HOURS": hours, "LIUM_REGION": "auto"}))

    assert (24, ()) == (chosen.duration_hours, chosen.regions)


def test_capabilities_differ_by_api() -> None:
    pods, rentals = capabilities(options(lease_hours=2)), capabilities(options(flavour="rentals", duration_hours=3))

    assert pods.lease is not None
    assert rentals.lease is not None
    assert (True, 7200) == (pods.lease.extendable, pods.lease.default_seconds)
    assert (False, 10800) == (rentals.lease.extendable, rentals.lease.default_seconds)
    assert (Listing.FULL, Listing.NONE) == (pods.listing, rentals.listing)
    assert {Kind.NODE} == set(rentals.kinds)


def test_a_gpu_nobody_has_heard_of_cannot_be_asked_for() -> None:
    with pytest.raises(ValidationError, match="no GPU is called `Voodoo`"):
        options(gpus=["Voodoo"])


@pytest.mark.parametrize(
    ("workspace", "environ", "key"),
    [
        (None, {"LIUM_API_KEY": "b", "LIUM_API_API_KEY": "a"}, "a"),
        (None, {"LIUM_API_KEY": "b"}, "b"),
        (None, {}, "key-of-blue"),
        ("Green", {"LIUM_API_KEY": "b"}, "key-of-green"),
    ],
)
def test_the_key_of_a_workspace_is_its_own(
    tmp_path: Path, workspace: str | None, environ: dict[str, str], key: str
) -> None:
    (tmp_path / ".lium").mkdir()
    (tmp_path / ".lium" / "config.ini").write_text(
        "[api]\napi_key = plain\n[workspaces]\nactive = Blue\n"
        "[workspace.blue]\napi_key = key-of-blue\n[workspace.green]\napi_key = key-of-green\n"
    )
    wanted = profile(options(workspace=workspace)).credentials
    found = find_credentials(wanted, {}, {**environ, "HOME": str(tmp_path)}, provider="lium")

    assert key == found["key"].reveal()


def test_a_wallet_that_is_missing_names_its_variable() -> None:
    context = OpenContext(
        ProviderBlock("lium", "lium", {}, ()), FakeClock(), {"LIUM_API_KEY": "k"}, Redactor(), emulator=None
    )
    with pytest.raises(NoCredentials) as caught:
        PROVIDER.open(options(flavour="rentals"), context)

    assert "set `LIUM_WALLET_HOTKEY`" in str(caught.value.failure.hint)


@pytest.mark.parametrize(
    ("name", "memory_mb", "gpu"),
    [
        ("NVIDIA B300 SXM6 AC", 275_000, "B300"),
        ("NVIDIA B200", 183359, "B200"),
        ("NVIDIA H200 NVL", 143771, "H200NVL"),
        ("NVIDIA H200", 143771, "H200"),
        ("NVIDIA H100 80GB HBM3", 81559, "H100-80GB-SXM"),
        ("NVIDIA H100 PCIe", 81559, "H100-80GB-PCIE"),
        ("NVIDIA H100 NVL", 95830, "H100-94GB-NVL"),
        ("NVIDIA A100-SXM4-80GB", 81920, "A100-80GB-SXM"),
        ("NVIDIA A100 80GB PCIe", 81920, "A100-80GB-PCIE"),
        ("NVIDIA A100-PCIE-40GB", 40960, "A100-40GB-PCIE"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 97887, "RTXPRO6000"),
        ("NVIDIA RTX 6000 Ada Generation", 49140, "RTX6000Ada"),
        ("NVIDIA L40S", 46068, "L40S"),
        ("NVIDIA RTX A6000", 49140, "A6000"),
        ("NVIDIA GeForce RTX 5090", 32607, "RTX5090"),
        ("NVIDIA GeForce RTX 4090", 24564, "RTX4090"),
        ("NVIDIA GeForce RTX 4090", 49140, "RTX4090-48GB"),
        ("NVIDIA GeForce RTX 3090", 24576, "RTX3090"),
        ("NVIDIA H20", 97871, "H20-96GB"),
        ("NVIDIA Graphics Device", 8192, None),
    ],
)
def test_gpus_have_canonical_names(name: str, memory_mb: float, gpu: str | None) -> None:
    assert gpu == gpu_of(name, memory_mb)


@pytest.mark.parametrize(
    ("told", "status"),
    [
        ({}, Status.RUNNING),
        ({"ssh_connect_cmd": None}, Status.STARTING),
        ({"status": "PENDING"}, Status.STARTING),
        ({"status": "REBOOT_PENDING"}, Status.STARTING),
        ({"status": "running"}, Status.RUNNING),
        ({"status": "STOPPED"}, Status.FAILED),
        ({"status": "FAILED"}, Status.FAILED),
        ({"status": "ERROR"}, Status.FAILED),
        ({"status": "BROKEN"}, Status.FAILED),
        ({"status": "CREATION_FAILED"}, Status.FAILED),
        ({"status": "REBOOT_FAILED"}, Status.FAILED),
        ({"status": "DELETING"}, Status.TERMINATING),
        ({"status": "TERMINATED"}, Status.TERMINATED),
        ({"status": "DELETED"}, Status.TERMINATED),
        ({"status": "REMOVED"}, Status.TERMINATED),
        ({"status": "CANCELLED"}, Status.TERMINATED),
        ({"status": "QUANTUM"}, Status.UNKNOWN),
        ({"status": None}, Status.UNKNOWN),
    ],
)
def test_every_status_of_a_pod_has_a_meaning(told: dict[str, Any], status: Status) -> None:
    assert status is Pod.model_validate({**POD, **told}).to_observed(NOW).status


@pytest.mark.parametrize(
    ("command", "target"),
    [
        ("ssh root@203.0.113.9 -p 20022", ("203.0.113.9", 20022, "root")),
        ("ssh -i key ubuntu@host.example -p20023", ("host.example", 20023, "ubuntu")),
        ("ssh root@203.0.113.9", ("203.0.113.9", 22, "root")),
        (None, ("203.0.113.9", 20022, "root")),
    ],
)
def test_the_way_in_is_read_off_the_command(command: str | None, target: tuple[str, int, str]) -> None:
    facts = Pod.model_validate({**POD, "ssh_connect_cmd": command}).to_observed(NOW).facts

    assert target == tuple(facts[name] for name in ("ssh_host", "ssh_port", "ssh_user"))


def test_a_pod_tells_its_gpus_its_place_and_whose_it_is() -> None:
    seen = Pod.model_validate(POD).to_observed(NOW)

    assert {"gpu": "H100-80GB-SXM:4", "region": "US"} == seen.attrs
    assert seen.mark is not None
    assert MARK.token == seen.mark.token
    assert ({"8000": 20023}, 8.4) == (seen.facts["ports"], seen.facts["price_per_hour"])


def test_a_host_is_offered_by_every_number_of_gpus_that_is_free() -> None:
    offers = {offer.gpu_count: offer for offer in Executor.model_validate(HOST).offers("lium", NOW)}

    assert [1, 2, 3, 4] == list(offers)
    assert (Decimal("4.2"), Pricing.ON_DEMAND, 32, 535, 1740, 2) == (
        offers[2].price_per_hour,
        offers[2].pricing,
        offers[2].cpu,
        offers[2].memory_gb,
        offers[2].disk_gb,
        offers[2].max_count,
    )


@pytest.mark.parametrize(
    ("told", "counts"),
    [
        ({"min_gpu_count_for_rental": None}, []),
        ({"min_gpu_count_for_rental": None, "available_gpu_count": 8}, [8]),
        ({"min_gpu_count_for_rental": 4}, [4]),
        ({"available_gpu_count": 0}, []),
        ({"price_per_gpu": None}, []),
        ({"machine_name": "NVIDIA Graphics Device"}, []),
    ],
)
def test_what_cannot_be_rented_is_not_offered(told: dict[str, Any], counts: list[int]) -> None:
    assert counts == [offer.gpu_count for offer in Executor.model_validate({**HOST, **told}).offers("lium", NOW)]


@pytest.mark.parametrize(
    ("method", "route", "status", "body", "error"),
    [
        ("GET", "/users/me", 401, {"error": {"code": "unauthorized", "message": "no"}}, AuthFailed),
        ("POST", RENT, 402, {"message": {"window": "day", "budget_usd": 5}}, QuotaExceeded),
        ("POST", RENT, 403, {"error": {"code": "insufficient_balance", "message": "requires"}}, QuotaExceeded),
        ("POST", RENT, 403, {"detail": "Insufficient balance: requires at least $2"}, QuotaExceeded),
        ("POST", RENT, 403, {"detail": "API key 'x' does not have the 'rent' scope"}, AuthFailed),
        ("DELETE", PODS.item, 403, "<html><title>403 Forbidden</title></html>", AuthFailed),
        ("GET", PODS.item, 404, {"detail": "Not Found"}, NotFound),
        ("POST", RENT, 404, {"detail": "Executor not found"}, NoCapacity),
        ("POST", RENT, 404, {"detail": "Template not found"}, InvalidRequest),
        ("POST", RENT, 400, {"detail": "Executor is not available"}, NoCapacity),
        ("POST", RENT, 400, {"detail": "gpu_count must be 8"}, NoCapacity),
        ("POST", RENT, 400, {"detail": "pod_name is too long"}, InvalidRequest),
        ("POST", RENT, 409, {"detail": "Executor is already rented"}, NoCapacity),
        ("POST", RENT, 409, {"detail": "the price has changed since it was quoted"}, NoCapacity),
        ("POST", RENT, 409, {"success": False, "code": "no_executor_matches_spec"}, NoCapacity),
        ("POST", RENT, 409, {"error": {"code": "idempotency_in_progress", "message": "wait"}}, OutcomeUnknown),
        ("POST", RENT, 409, {"error": {"code": "idempotency_outcome_unknown", "message": "?"}}, OutcomeUnknown),
        ("POST", RENT, 422, {"detail": [{"loc": ["body", "pod_name"], "msg": "required"}]}, InvalidRequest),
        ("POST", RENT, 429, {"detail": "slow down"}, RateLimited),
        ("POST", RENT, 502, "<html>bad gateway</html>", OutcomeUnknown),
        ("GET", PODS.route, 502, "<html>bad gateway</html>", Unavailable),
        ("POST", RENT, 200, {"success": False, "message": "no"}, InvalidRequest),
        ("POST", RENT, 200, {"success": True, "pod_id": "3"}, None),
    ],
)
def test_errors_of_pods(method: str, route: str, status: int, body: Any, error: type[ProviderError] | None) -> None:
    assert error is classified("pods", method, route, status, body)


@pytest.mark.parametrize(
    ("method", "route", "status", "body", "error"),
    [
        ("POST", RENTALS, 401, {"error": "bad key"}, AuthFailed),
        ("POST", RENTALS, 402, {"error": "wallet not funded"}, QuotaExceeded),
        ("POST", RENTALS, 408, "", OutcomeUnknown),
        ("POST", RENTALS, 409, {"message": "no miner available"}, NoCapacity),
        ("POST", RENTALS, 503, {"error": {"message": "out of capacity"}}, NoCapacity),
        ("POST", RENTALS, 503, {"detail": "try later"}, OutcomeUnknown),
        ("POST", RENTALS, 422, {"detail": "gpu_type"}, InvalidRequest),
        ("GET", RENTAL, 503, "", Unavailable),
        ("GET", RENTAL, 404, "", NotFound),
        ("DELETE", RENTAL, 404, "", NotFound),
    ],
)
def test_errors_of_rentals(method: str, route: str, status: int, body: Any, error: type[ProviderError]) -> None:
    assert error is classified("rentals", method, route, status, body)


def classified(flavour: str, method: str, route: str, status: int, body: Any) -> type[ProviderError] | None:
    text = body if isinstance(body, str) else json.dumps(body)
    call = Call(method, route, route, "try", EFFECTS.get(method, Effect.ONCE))
    found = error_of(profile(options(flavour=flavour)), call, Response(status, {}, text.encode()), "lium", NOW)
    return type(found) if found else None


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"success": True, "pod_id": "3"}, "3"),
        ({"id": "3", "pod_name": "x"}, "3"),
    ],
)
def test_older_servers_answer_a_rent_with_the_pod(body: dict[str, Any], told: str) -> None:
    assert told == Rented.model_validate(body).pod_id


def test_a_rent_says_what_is_asked_and_nothing_of_what_is_not() -> None:
    plain = bodies.to_rent(want(), MARK, gpus=4, template="2", keys=[KEY], lease_hours=None)
    special = {"extra_ports": 2, "encrypt": True, "lease_hours": 5}
    asked = want(volumes=[{"volume": "v", "mount": "/workspace"}], options=special)
    more = bodies.to_rent(asked, MARK, gpus=4, template="2", keys=[KEY], lease_hours=9)

    assert {
        "pod_name": f"train-0-{MARK.token}",
        "template_id": "2",
        "dockerfile_content": None,
        "volume_id": None,
        "user_public_key": [KEY],
        "initial_port_count": None,
        "enable_volume_encryption": False,
        "backup_log_id": None,
        "restore_path": None,
        "gpu_count": 4,
    } == plain
    assert {
        "volume_id": "v",
        "initial_port_count": 2,
        "enable_volume_encryption": True,
        "termination_hours": 5,
    } == {name: value for name, value in more.items() if plain.get(name) != value}


def test_the_key_of_a_rent_is_that_of_its_token() -> None:
    other = Mark("bbcdefghijklmnopqrst")

    assert bodies.key_of(MARK) == bodies.key_of(Mark(MARK.token)) != bodies.key_of(other)


def test_a_template_has_the_image_the_variables_and_the_ports() -> None:
    attrs: dict[str, Value] = {
        "env": {"TOKEN": Secret("s")},
        "ports": [8000, 22, 8000],
        "volumes": [{"volume": "v", "mount": "/data"}],
        "command": ["serve", "a b"],
    }
    body = bodies.to_template("train-0", NodeAttrs.of(attrs), bodies.image_of("acme/x@sha256:1"))

    assert ("acme/x@sha256:1", "", {"TOKEN": "s"}, [22, 8000], ["/data"], "serve 'a b'") == tuple(
        body[name]
        for name in (
            "docker_image",
            "docker_image_tag",
            "environment",
            "internal_ports",
            "volumes",
            "startup_commands",
        )
    )


def test_of_what_is_recommended_the_best_that_works_is_taken() -> None:
    ubuntu, torch, old = (Image(docker_image=name, docker_image_tag="1") for name in ("u", "a/pytorch", "b/pytorch"))
    templates = [
        Template(id=id, docker_image=image.docker_image, docker_image_tag="1", status=status)
        for id, image, status in (("1", ubuntu, "CREATED"), ("2", torch, "VERIFY_FAILED"), ("3", old, "VERIFY_SUCCESS"))
    ]

    assert templates[2] == bodies.best_template([ubuntu, torch, old], templates)
    assert templates[0] == bodies.best_template([torch, ubuntu], templates)
    assert bodies.best_template([torch], templates) is None


@pytest.mark.parametrize(
    ("event", "cause"),
    [
        ({"error": "no space left"}, "no space left"),
        ({"reason": "host_offline", "detail": "since noon"}, "host_offline: since noon"),
        ({"reason": "host_offline", "detail": None}, "host_offline"),
        ({"event": "created"}, ""),
    ],
)
def test_an_event_may_tell_a_cause(event: dict[str, Any], cause: str) -> None:
    assert cause == Event.model_validate(event).cause


@pytest.mark.parametrize("word", ["active", "running", "ready"])
def test_a_rental_runs_once_it_has_an_address(word: str) -> None:
    told = {"id": "lium-9001", "status": word}

    assert Status.STARTING is Rental.model_validate(told).to_observed(NOW).status
    assert Status.RUNNING is Rental.model_validate({**told, "ip": "192.0.2.55"}).to_observed(NOW).status


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("matching", "pending", "provisioning", "starting", "queued"), Status.STARTING),
        (("stopping", "ending"), Status.TERMINATING),
        (("ended", "expired", "terminated", "failed", "cancelled"), Status.TERMINATED),
        (("quantum", None), Status.UNKNOWN),
    ],
)
def test_every_status_of_a_rental_has_a_meaning(words: tuple[str | None, ...], status: Status) -> None:
    told = [Rental.model_validate({"id": "1", "status": word}).to_observed(NOW).status for word in words]

    assert [status] * len(words) == told


def test_samples_of_rentals_are_read() -> None:
    made = {"rental_id": "lium-9001", "name": "n", "status": "matching", "datacenter": "eu-central", "miner_uid": 42}
    seen = {"id": "lium-9001", "status": "active", "region": "eu-central", "ip": "192.0.2.55", "miner_uid": "42"}
    first, second = (
        Rental.model_validate(body).to_observed(NOW)
        for body in ({"rental": {**made, "gpu_type": "H100-80GB"}}, {"data": seen})
    )

    assert (first.remote_id, first.facts["region"], first.facts["miner_uid"]) == (
        second.remote_id,
        second.facts["region"],
        second.facts["miner_uid"],
    )
    assert ({"gpu": "H100-80GB:1"}, {}) == (first.attrs, second.attrs)
