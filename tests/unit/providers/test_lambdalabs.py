"""What `lambda` reads and writes, by the samples of Lambda's documentation."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from gpuplan.core.address import Address
from gpuplan.core.desired import Kind
from gpuplan.core.errors import (
    AuthFailed,
    Conflict,
    InvalidRequest,
    NoCapacity,
    NotFound,
    OutcomeUnknown,
    ProtocolMismatch,
    ProviderError,
    QuotaExceeded,
    RateLimited,
    Unavailable,
)
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Status
from gpuplan.core.offers import Stock
from gpuplan.core.ports import Want
from gpuplan.core.values import JsonValue, Value
from gpuplan.net.classify import error_of
from gpuplan.net.credentials import find_credentials
from gpuplan.net.exchange import Call, Response
from gpuplan.net.profile import Effect
from gpuplan.providers.lambdalabs_tables import LAUNCH, PROFILE, TERMINATE
from gpuplan.providers.lambdalabs_wire import (
    FirewallRule,
    Instance,
    InstanceType,
    Key,
    Sale,
    is_public_key,
    to_filesystem,
    to_launch,
    to_offers,
    to_rule,
)

NOW = datetime(2026, 11, 1, tzinfo=UTC)
MARK = Mark("t0000000000000000001", "llama", "prod", "x", Address("clusters", "train", None, 0))
# https://docs.lambda.ai/api/cloud, document 1.10.0
SAMPLE: dict[str, JsonValue] = {
    "id": "0920582c7ff041399e34823a0be62549",
    "name": "train-worker-0",
    "ip": "192.222.50.17",
    "private_ip": "172.26.133.9",
    "status": "active",
    "ssh_key_names": ["team"],
    "file_system_names": ["datasets"],
    "region": {"name": "us-south-2", "description": "North Texas, USA"},
    "instance_type": {
        "name": "gpu_1x_h100_sxm5",
        "description": "1x H100 (80 GB SXM5)",
        "gpu_description": "H100 (80 GB SXM5)",
        "price_cents_per_hour": 429,
        "specs": {"vcpus": 26, "memory_gib": 225, "storage_gib": 2816, "gpus": 1},
    },
    "hostname": "train-worker-0",
    "actions": {"restart": {"available": True}},
    "tags": [{"key": "team", "value": "research"}, {"key": "gpuplan-token", "value": "t0000000000000000001"}],
    "is_reserved": False,
}
GUARANTEED = ("id", "status", "ssh_key_names", "file_system_names", "region", "instance_type", "actions")


def launch_body(**attrs: Value) -> dict[str, JsonValue]:
    want = Want(Address("clusters", "train", None, 0), Kind.NODE, {"ssh_keys": ["team"], **attrs}, "train-0-abc")
    return to_launch(want, MARK, "gpu_1x_a10", "us-east-1", "team", [])


def items(value: JsonValue) -> list[JsonValue]:
    assert isinstance(value, list)
    return value


def test_an_instance_in_our_words() -> None:
    seen = Instance.model_validate(SAMPLE).to_observed(NOW)

    assert Status.RUNNING is seen.status
    assert {
        "region": "us-south-2",
        "instance_type": "gpu_1x_h100_sxm5",
        "labels": {"team": "research"},
    } == seen.attrs
    assert ("192.222.50.17", "172.26.133.9") == (seen.facts["public_ip"], seen.facts["private_ip"])
    assert seen.mark is not None
    assert MARK.token == seen.mark.token


def test_an_instance_of_which_only_the_guaranteed_is_told() -> None:
    seen = Instance.model_validate({name: SAMPLE[name] for name in GUARANTEED}).to_observed(NOW)

    assert (None, None) == (seen.facts["public_ip"], seen.mark)


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("booting", Status.STARTING),
        ("active", Status.RUNNING),
        ("unhealthy", Status.FAILED),
        ("terminating", Status.TERMINATING),
        ("terminated", Status.TERMINATED),
        ("preempted", Status.TERMINATED),
        ("resting", Status.UNKNOWN),
    ],
)
def test_status_words(word: str, status: Status) -> None:
    assert status is Instance.model_validate({**SAMPLE, "status": word}).to_observed(NOW).status


@pytest.mark.parametrize(
    ("described", "gpu"),
    [
        ("B200 (180 GB SXM6)", "B200-SXM"),
        ("H100 (80 GB SXM5)", "H100-80GB-SXM"),
        ("H100 (80 GB PCIe)", "H100-80GB-PCIE"),
        ("GH200 (96 GB)", "GH200-96GB"),
        ("A100 (80 GB SXM4)", "A100-80GB-SXM"),
        ("A100 (40 GB SXM4)", "A100-40GB-SXM"),
        ("A100 (40 GB PCIe)", "A100-40GB-PCIE"),
        ("A10 (24 GB PCIe)", "A10"),
        ("A6000 (48 GB)", "A6000"),
        ("RTX 6000 (24 GB)", "RTX6000"),
        ("Tesla V100 (16 GB)", "V100-16GB"),
        ("Z900 (512 GB)", ""),
        ("N/A", ""),
    ],
)
def test_gpu_names(described: str, gpu: str) -> None:
    type = InstanceType.model_validate({"gpu_description": described, "specs": {"gpus": 1}})

    assert gpu == type.gpu


def test_only_grace_machines_are_arm64() -> None:
    cards = ["GH200 (96 GB)", "GB200 (186 GB)", "H100 (80 GB SXM5)", "B200 (180 GB SXM6)"]

    assert ["arm64", "arm64", "x86_64", "x86_64"] == [InstanceType(gpu_description=card).architecture for card in cards]


def test_an_offer_is_for_a_machine_in_a_region_with_capacity() -> None:
    sale = {"instance_type": SAMPLE["instance_type"], "regions_with_capacity_available": [SAMPLE["region"]]}
    (offer,) = to_offers(Sale.model_validate(sale), "lambda", NOW)

    assert ("H100-80GB-SXM", 1, "us-south-2", Decimal("4.29")) == (
        offer.gpu,
        offer.gpu_count,
        offer.region,
        offer.price_per_hour,
    )


def test_an_unknown_gpu_is_offered_by_its_type_alone() -> None:
    type = InstanceType.model_validate({"name": "z", "gpu_description": "Z900 (512 GB)", "specs": {"gpus": 8}})
    (offer,) = to_offers(Sale(instance_type=type), "lambda", NOW)

    assert ("", 0, "Z900 (512 GB)", Stock.NONE) == (
        offer.gpu,
        offer.gpu_count,
        offer.facts["unknown_gpu"],
        offer.stock,
    )


def test_a_launch_carries_the_mark_twice() -> None:
    body = launch_body()

    assert "train-0-abc-t0000000000000000001" == body["name"]
    assert {"key": "gpuplan-address", "value": "clusters.train.nodes[0]"} in items(body["tags"])
    assert "user_data" not in body


@pytest.mark.parametrize(
    ("image", "told"),
    [
        ("lambda-stack-24-04", {"family": "lambda-stack-24-04"}),
        ("43336648-096d-4cba-9aa2-f9bb7727639d", {"id": "43336648-096d-4cba-9aa2-f9bb7727639d"}),
    ],
)
def test_an_image_is_an_id_or_a_family(image: str, told: JsonValue) -> None:
    assert told == launch_body(image=image)["image"]


@pytest.mark.parametrize("attrs", [{"labels": {"Team": "x"}}, {"labels": {"team": "x" * 129}}])
def test_a_label_without_room_is_refused(attrs: dict[str, Value]) -> None:
    with pytest.raises(ValueError, match="label"):
        launch_body(**attrs)


@pytest.mark.parametrize("path", ["/mnt/sets", "/data/a_b", "/dat"])
def test_a_mount_point_out_of_bounds_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=path):
        launch_body(volumes=[{"volume": "1", "mount": path}])


def test_a_filesystem_name_begins_with_a_letter() -> None:
    want = Want(Address("volumes", "9"), Kind.VOLUME, {"region": "us-east-1"}, "9-lives")

    assert "fs-9-lives-t0000000000000000001" == to_filesystem(want, MARK)["name"]


@pytest.mark.parametrize(
    ("written", "ports"),
    [
        ({"port": 22, "from": "10.0.0.1"}, [22, 22]),
        ({"port": "8000-8010", "protocol": "udp"}, [8000, 8010]),
        ({"protocol": "tcp"}, [1, 65535]),
        ({"protocol": "icmp"}, None),
    ],
)
def test_a_rule_comes_back_as_it_was_written(written: dict[str, JsonValue], ports: JsonValue) -> None:
    body = to_rule(written)

    assert ports == body.get("port_range")
    assert written == FirewallRule.model_validate(body).as_written()


def test_a_rule_of_others_is_told_as_it_is() -> None:
    rule = FirewallRule(protocol="tcp", port_range=(80, 90), source_network="10.0.0.0/8", description="web")

    assert {"port": "80-90", "protocol": "tcp", "from": "10.0.0.0/8"} == rule.as_written()


@pytest.mark.parametrize("rule", [{"port": 22, "from": "::/0"}, {"port": "ssh"}])
def test_a_rule_that_lambda_cannot_have_is_refused(rule: dict[str, JsonValue]) -> None:
    with pytest.raises(ValueError):
        to_rule(rule)


def test_a_key_is_meant_by_id_name_or_text_whatever_the_comment() -> None:
    key = Key(id="1", name="team", public_key="ssh-ed25519 AAAA a@b\n")

    assert all(key.is_meant_by(text) for text in ("1", "team", "ssh-ed25519 AAAA", " ssh-ed25519  AAAA c@d"))
    assert not any(key.is_meant_by(text) for text in ("2", "ssh-ed25519 BBBB a@b", "ssh-ed25519"))


def test_a_name_of_several_words_is_no_public_key() -> None:
    assert Key(id="1", name="My SSH key").is_meant_by("My SSH key")
    assert not is_public_key("My SSH key")


def refused(status: int, code: str, *, route: str = "/instances/{id}", effect: Effect = Effect.NONE) -> object:
    body = f'{{"error": {{"code": "{code}", "message": "m"}}}}' if code else "<html>nginx</html>"
    call = Call("GET" if effect is Effect.NONE else "POST", route, route, "look", effect)
    error = error_of(PROFILE, call, Response(status, {}, body.encode()), "lambda", NOW)
    assert isinstance(error, ProviderError)
    return type(error)


def test_errors_are_told_by_their_code() -> None:
    once, again = Effect.ONCE, Effect.REPEATABLE

    assert AuthFailed is refused(401, "global/invalid-api-key")
    assert AuthFailed is refused(403, "global/account-inactive")
    assert AuthFailed is refused(403, "global/invalid-address", route=LAUNCH, effect=once)
    assert NoCapacity is refused(400, "instance-operations/launch/insufficient-capacity", route=LAUNCH, effect=once)
    assert InvalidRequest is refused(
        400, "instance-operations/launch/file-system-in-wrong-region", route=LAUNCH, effect=once
    )
    assert QuotaExceeded is refused(400, "global/quota-exceeded", route=LAUNCH, effect=once)
    assert InvalidRequest is refused(404, "global/object-does-not-exist", route=LAUNCH, effect=once)
    assert NotFound is refused(400, "global/object-does-not-exist")
    assert NotFound is refused(404, "global/not-found", route="/ssh-keys/{id}", effect=again)
    assert NotFound is refused(500, "global/unknown", route=TERMINATE, effect=again)
    assert Conflict is refused(400, "filesystems/filesystem-in-use", route="/filesystems/{id}", effect=again)
    assert Conflict is refused(409, "global/conflict", effect=again)
    assert OutcomeUnknown is refused(409, "global/internal-error", route="/firewall-rulesets", effect=once)
    assert OutcomeUnknown is refused(400, "provider/internal-unavailable", route=LAUNCH, effect=once)
    assert Unavailable is refused(400, "provider/internal-unavailable")
    assert RateLimited is refused(429, "")


def test_a_404_that_is_not_lambdas_is_not_an_absence() -> None:
    assert ProtocolMismatch is refused(404, "")


def test_the_key_is_found_in_the_file_of_other_tools(tmp_path: Path) -> None:
    folder = tmp_path / ".lambda_cloud"
    folder.mkdir()
    (folder / "lambda_keys").write_text("api_key = secret_team_abc.def\n")

    found = find_credentials(PROFILE.credentials, {}, {"HOME": str(tmp_path)}, provider="lambda")

    assert "secret_team_abc.def" == found["key"].reveal()
