"""What is pure in the adapter for Akash: manifests and their hash, GPU names, options, what answers mean."""

import json
from typing import Any

import pytest

from gpuplan.core.kinds import NodeAttrs
from gpuplan.core.observed import Status
from gpuplan.providers.akash import PROVIDER
from gpuplan.providers.akash_manifest import hash_of, to_manifest
from gpuplan.providers.akash_sdl import START_SSHD, Unfit, gpu_of, keys_of, to_model, to_sdl
from gpuplan.providers.akash_tables import Flavour, Options, defaults
from gpuplan.providers.akash_wire import Detail

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGpBYoKqHmF3jr7xkmI9YvNMM2bIXcSJ8vMfQ2vFKq1t ana@example.com"


def test_a_manifest_is_that_of_the_official_sdk_byte_for_byte() -> None:
    sdl = to_sdl(
        NodeAttrs.of(
            {
                "gpu": "H100-80GB-SXM:1",
                "cpu": 8,
                "memory_gb": 32,
                "disk_gb": 100,
                "image": "pytorch/pytorch:2.4.0-cuda12.4-cudnn9-runtime",
                "env": {"GPUPLAN_ID": "demo-node-0"},
                "ports": ["8080/http"],
            }
        ),
        "gpuplan-demo-node-0",
        hourly=60,
    )
    resources: Any = sdl["profiles"]["compute"]["node"]["resources"]  # type: ignore[index,call-overload]  # as it was made above
    resources["gpu"]["attributes"]["vendor"]["nvidia"][0]["ram"] = "80Gi"
    manifest = to_manifest(sdl).replace("32000000000", "34359738368").replace("100000000000", "107374182400")

    assert "64Noq4cCK+7V6+jPQ+q2/NmPI+qEoFwqEj15udkw8KM=" == hash_of(manifest)


def test_what_html_would_take_for_its_own_is_escaped_in_the_hash_alone() -> None:
    sdl = to_sdl(NodeAttrs.of({"env": {"A": "x<y&z>é"}}), "g", hourly=1)

    assert "A=x<y&z>é" in json.dumps(sdl, ensure_ascii=False)
    assert "A=x\\u003cy\\u0026z\\u003eé" in to_manifest(sdl)


@pytest.mark.parametrize(
    ("gpu", "model"),
    [
        ("H100-80GB", {"model": "h100"}),
        ("H100-80GB-SXM", {"model": "h100", "interface": "sxm"}),
        ("A100-80GB", {"model": "a100", "ram": "80Gi"}),
        ("A100-40GB-PCIE", {"model": "a100", "ram": "40Gi", "interface": "pcie"}),
        ("V100-16GB", {"model": "v100", "ram": "16Gi"}),
        ("RTX4090", {"model": "rtx4090"}),
        ("A6000", {"model": "rtxa6000"}),
        ("RTXPRO6000", {"model": "pro6000se"}),
        ("L40S", {"model": "l40s"}),
    ],
)
def test_a_gpu_is_asked_for_in_as_few_words_as_will_do(gpu: str, model: dict[str, str]) -> None:
    assert model == to_model(gpu)


@pytest.mark.parametrize(
    ("told", "gpu"),
    [
        (("h100", "80Gi", "SXM5"), "H100-80GB-SXM"),
        (("h100", "80Gi", "PCIe"), "H100-80GB-PCIE"),
        (("a100", "40Gi", "SXM4"), "A100-40GB-SXM"),
        (("h200", "141Gi", "SXM"), "H200-SXM"),
        (("rtx4090", "24Gi", "PCIe"), "RTX4090"),
        (("rtxa6000", "48Gi", "PCIe"), "A6000"),
        (("pro6000we", "96Gi", "PCIe"), "RTXPRO6000"),
        (("t4", "16Gi", "PCIe"), "T4"),
        (("p2000", "5Gi", "PCIe"), ""),
    ],
)
def test_a_gpu_that_akash_tells_has_a_canonical_name_or_none(told: tuple[str, str, str], gpu: str) -> None:
    assert gpu == gpu_of(*told)


def test_an_image_without_a_server_for_ssh_gets_one_before_its_command() -> None:
    asked = NodeAttrs.of({"image": "ubuntu:24.04", "command": ["python", "train.py"], "ssh_keys": [KEY]})
    service: Any = to_sdl(asked, "g", hourly=1)["services"]

    assert ["sh", "-c"] == service["node"]["command"]
    assert [f'{START_SSHD}exec "$@"', "sh", "python", "train.py"] == service["node"]["args"]
    assert [f"SSH_PUBKEY={KEY}"] == service["node"]["env"]


def test_without_an_image_it_is_one_of_akash_with_a_server_for_ssh() -> None:
    service: Any = to_sdl(NodeAttrs.of({"ssh_keys": [KEY]}), "g", hourly=1)["services"]

    assert service["node"]["image"].startswith("ghcr.io/akash-network/")
    assert "args" not in service["node"]


def test_a_name_of_a_key_is_no_key() -> None:
    with pytest.raises(Unfit, match="team"):
        keys_of(NodeAttrs.of({"ssh_keys": ["team"]}))


def test_the_most_that_is_paid_is_told_for_a_block() -> None:
    sdl: Any = to_sdl(NodeAttrs.of({}), "g", hourly=60)

    assert {"denom": "uact", "amount": 100000} == sdl["profiles"]["placement"]["g"]["pricing"]["node"]


def test_a_disk_that_outlives_restarts_is_mounted() -> None:
    sdl: Any = to_sdl(NodeAttrs.of({"options": {"persistent_gb": 200}}), "g", hourly=1)
    root, data = sdl["profiles"]["compute"]["node"]["resources"]["storage"]

    assert {"size": "50G"} == root
    assert {"persistent": True, "class": "beta3"} == data["attributes"]
    assert "/workspace" == sdl["services"]["node"]["params"]["storage"]["data"]["mount"]


@pytest.mark.parametrize(
    ("environ", "flavour"),
    [
        ({}, Flavour.CONSOLE),
        ({"AKASH_API_KEY": "k"}, Flavour.CONSOLE),
        ({"AKASH_SIDECAR_URL": "http://sidecar:3000/akash"}, Flavour.SIDECAR),
        ({"AKASH_SIDECAR_URL": "http://sidecar:3000/akash", "AKASH_API_KEY": "k"}, Flavour.CONSOLE),
        ({"AKASH_SIDECAR_URL": "http://sidecar:3000/akash", "AKT_CONSOLE_API_KEY": "k"}, Flavour.CONSOLE),
    ],
)
def test_a_sidecar_is_the_way_where_there_is_one_and_no_key(environ: dict[str, str], flavour: Flavour) -> None:
    assert flavour is Options.model_validate(defaults(environ)).flavour


def test_where_the_environment_says_nothing_the_defaults_are_those_that_sidecars_have() -> None:
    options = Options()

    assert "http://localhost:3000/akash" == options.sidecar_url
    assert "https://rpc.akash.forbole.com:443" == options.node
    assert "https://api.akashnet.net" == options.chain_url


def test_the_environment_sets_how_long_a_node_may_take() -> None:
    environ = {
        "DEFAULT_READINESS_TIMEOUT": "300",
        "DEFAULT_POLLING_INTERVAL": "20",
        "EPHEMERAL_FAILURE_THRESHOLD_MINUTES": "5",
        "AKASH_NODE": "https://rpc.example.com:443",
    }
    options = Options.model_validate(defaults(environ))
    can = PROVIDER.capabilities(options)

    assert (300, 20, 300) == (can.ready_timeout_seconds, can.poll_interval_seconds, can.ephemeral_failure_seconds)
    assert "https://rpc.example.com:443" == options.node


def test_a_registry_without_a_user_is_refused() -> None:
    with pytest.raises(ValueError, match="registry_username"):
        Options(registry_host="ghcr.io")


DETAIL: dict[str, Any] = {
    "deployment": {
        "id": {"owner": "akash1own", "dseq": "1785312000123"},
        "state": "active",
        "hash": "64Noq4cCK+7V6+jPQ+q2/NmPI+qEoFwqEj15udkw8KM=",
        "created_at": "27311195",
    },
    "leases": [
        {
            "id": {"owner": "akash1own", "dseq": "1785312000123", "gseq": 1, "oseq": 1, "provider": "akash1prov"},
            "state": "active",
            "price": {"denom": "uact", "amount": "3790.000000000000000000"},
            "created_at": "27311205",
            "closed_on": "0",
            "status": {
                "forwarded_ports": {
                    "node": [{"host": "provider.example.com", "port": 22, "externalPort": 31822, "proto": "TCP"}]
                },
                "ips": None,
                "services": {"node": {"name": "node", "available": 1, "total": 1, "uris": ["k3v0.example.com"]}},
            },
        }
    ],
    "escrow_account": {
        "state": {
            "owner": "akash1own",
            "state": "open",
            "settled_at": "27311208",
            "funds": [{"denom": "uact", "amount": "4988630.000000000000000000"}],
        }
    },
}


def told(**lease: Any) -> tuple[Status, str]:
    seen = Detail.model_validate({**DETAIL, "leases": [{**DETAIL["leases"][0], **lease}]}).to_observed("akash")
    return seen.status, seen.detail


def test_a_deployment_is_told_in_our_words() -> None:
    seen = Detail.model_validate(DETAIL).to_observed("akash")

    assert Status.RUNNING is seen.status
    assert DETAIL["deployment"]["hash"] == seen.witness
    assert ("provider.example.com", 31822) == (seen.facts["ssh_host"], seen.facts["ssh_port"])
    assert "http://k3v0.example.com" == seen.facts["endpoint"]
    assert 2.274 == seen.facts["price_per_hour"]
    # 13 blocks after its creation 1,316 blocks were paid for.
    assert "2026-07-29T10:12:54+00:00" == seen.facts["ends_at"]


@pytest.mark.parametrize(
    ("lease", "status"),
    [
        ({"status": None}, Status.STARTING),
        ({"status": {"forwarded_ports": None, "ips": None, "services": None}}, Status.STARTING),
        ({"status": {"services": {"node": {"available": 0, "total": 1, "uris": None}}}}, Status.STARTING),
        ({"status": {"services": {"node": {"available": 1, "total": 1, "uris": []}}}}, Status.STARTING),
        ({"state": "reclaiming"}, Status.RUNNING),
        ({"state": "insufficient_funds", "status": None}, Status.FAILED),
        ({"state": "closed", "status": None, "reason": "lease_closed_reason_unstable"}, Status.FAILED),
        ({"state": "invalid", "status": None}, Status.FAILED),
        ({"state": "quantum"}, Status.UNKNOWN),
    ],
)
def test_what_a_lease_is_decides_what_a_node_is(lease: dict[str, Any], status: Status) -> None:
    assert status is told(**lease)[0]


def test_a_price_in_another_token_is_not_guessed() -> None:
    seen = Detail.model_validate(
        {**DETAIL, "leases": [{**DETAIL["leases"][0], "price": {"denom": "uakt", "amount": "10"}}]}
    ).to_observed("akash")

    assert "price_per_hour" not in seen.facts
