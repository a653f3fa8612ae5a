"""What RunPod's documentation shows, in our words."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from gpuplan.core.gpus import known_gpus
from gpuplan.core.observed import Status
from gpuplan.core.offers import Stock
from gpuplan.core.secret import Secret
from gpuplan.providers.runpod_offers import CpuType, GpuType, gpu_of, to_cpu_offers, to_gpu_offers
from gpuplan.providers.runpod_wire import Key, NetworkVolume, Pod, age_seconds, fingerprint, tells_failed_pull

NOW = datetime(2026, 11, 20, 13, tzinfo=UTC)
IMAGE = "runpod/pytorch:1.0.2-cu1281-torch280-ubuntu2404"
PROXY = {"host": "ssh.runpod.io", "port": 22, "username": "7h9k2m4n6p-64411eb2", "command": "ssh ..."}
DIRECT = {"host": "195.26.233.3", "port": 34446, "username": "root", "command": "ssh root@195.26.233.3 -p 34446"}
POD: dict[str, Any] = {
    "id": "7h9k2m4n6p", "name": "gp-train-0-7f3a", "image": IMAGE, "args": "", "disk": 50,
    "ports": ["22/tcp", "8888/http"], "env": {"SEED": "0"}, "registry": None, "status": "RUNNING",
    "actions": ["stop", "restart", "terminate"], "mounts": {"persistent": {"size": 20, "path": "/workspace"}},
    "gpu": {"id": "NVIDIA GeForce RTX 4090", "count": 1}, "cloud": "SECURE", "dataCenterId": "US-KS-2",
    "cudaVersion": "12.8", "ssh": {"proxy": PROXY, "direct": DIRECT}, "template": None, "cost": 0.44, "locked": False,
    "globalNetworking": {"enabled": False},
    "runtime": {
        "uptime": 3600, "gpus": [{"util": 97, "memoryUtil": 61}], "cpu": {"util": 12}, "memory": {"util": 20},
        "ports": [
            {"private": 22, "public": 34446, "type": "tcp", "ip": "195.26.233.3"},
            {"private": 8888, "public": 60021, "type": "http", "ip": "100.65.0.119"},
        ],
    },
    "createdAt": "2026-11-20T12:00:00Z", "startedAt": "2026-11-20T12:59:00Z",
}  # fmt: skip
CARD: dict[str, Any] = {
    "id": "NVIDIA H100 80GB HBM3", "name": "H100 SXM", "pool": "ADA_80_PRO", "manufacturer": "NVIDIA", "memory": 80,
    "secure": True, "community": True, "price": {"secure": 2.69, "community": 2.39, "serverless": 4.18},
    "maxCount": {"secure": 8, "community": 8}, "availability": "LOW",
    "dataCenters": [{"id": "US-KS-2", "name": "US Kansas 2", "availability": "LOW"}],
    "cudaVersions": [{"version": "12.8", "available": True}, {"version": "12.4", "available": False}],
}  # fmt: skip


def pod(**changes: Any) -> Pod:
    return Pod.model_validate({**POD, **changes})


def test_a_running_pod_is_told_in_our_words() -> None:
    seen = pod().to_observed(NOW)

    assert (Status.RUNNING, "") == (seen.status, seen.detail)
    assert {
        "gpu": "RTX4090:1",
        "instance_type": "NVIDIA GeForce RTX 4090",
        "region": "US-KS-2",
        "image": IMAGE,
        "command": None,
        "disk_gb": 50,
        "ports": ["8888/http"],
        "env": {"SEED": Secret("0")},
        "volumes": [],
    } == seen.attrs
    assert ("195.26.233.3", 34446, 0.44) == tuple(seen.facts[k] for k in ("public_ip", "ssh_port", "price_per_hour"))
    assert {"22": "195.26.233.3:34446", "8888": "https://7h9k2m4n6p-8888.proxy.runpod.net"} == seen.facts["endpoints"]


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("PROVISIONING", Status.PENDING),
        ("STARTING", Status.STARTING),
        ("RUNNING", Status.RUNNING),
        ("EXITED", Status.STOPPED),
        ("ERROR", Status.FAILED),
        ("TERMINATED", Status.TERMINATED),
        ("HIBERNATING", Status.UNKNOWN),
    ],
)
def test_every_status_word_has_a_meaning(word: str, status: Status) -> None:
    assert status is pod(status=word).to_observed(NOW).status


def test_an_empty_runtime_and_missing_parts_are_understood() -> None:
    created = pod(status="PROVISIONING", runtime={}, ssh={"proxy": PROXY, "direct": None}, startedAt=None)
    bare = Pod.model_validate({"id": "x"})

    assert Status.PENDING is created.to_observed(NOW).status
    assert {"8888": "https://7h9k2m4n6p-8888.proxy.runpod.net"} == created.to_observed(NOW).facts["endpoints"]
    assert Status.UNKNOWN is bare.to_observed(NOW).status


def test_a_pod_without_a_public_ssh_port_is_up_after_a_while() -> None:
    running = pod(ssh={"proxy": PROXY, "direct": None})

    assert Status.STARTING is running.to_observed(NOW).status
    assert Status.RUNNING is running.to_observed(NOW + timedelta(minutes=10)).status
    assert Status.RUNNING is pod(ssh={"proxy": PROXY, "direct": None}, ports=[]).to_observed(NOW).status


def test_arguments_that_no_shell_understands_stay_a_text() -> None:
    assert 'say "hello' == pod(args=' say "hello ').to_observed(NOW).attrs["command"]


def test_a_volume_and_its_mount_are_told_alike() -> None:
    volume = NetworkVolume.model_validate(
        {"id": "agv6w2qcg7", "name": "data", "size": 50, "dataCenter": "EU-RO-1", "type": "STANDARD"}
    )
    mounting = pod(mounts={"network": [{"volumeId": "agv6w2qcg7", "path": "/data"}]})

    assert {"size_gb": 50, "region": "EU-RO-1", "type": "STANDARD"} == volume.to_observed(NOW).attrs
    assert [{"volume": "agv6w2qcg7", "mount": "/data"}] == mounting.to_observed(NOW).attrs["volumes"]


def test_a_key_of_somebody_else_goes_by_its_fingerprint() -> None:
    line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGpBYoKqHmF3jr7xkmI9YvNMM2bIXcSJ8vMfQ2vFKq1t ana@example.com"

    assert fingerprint(line) == Key(line).id
    assert fingerprint(line).startswith("SHA256:")
    assert len("SHA256:") + 43 == len(fingerprint(line))
    assert (line, None) == (Key(line).public_key, Key(line).to_observed(NOW).mark)
    assert fingerprint("nonsense") != fingerprint("other nonsense")


@pytest.mark.parametrize(
    ("id", "name"),
    [
        ("NVIDIA B300 SXM6 AC", "B300"),
        ("NVIDIA B200", "B200"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA H200 NVL", "H200NVL"),
        ("NVIDIA H100 80GB HBM3", "H100-80GB-SXM"),
        ("NVIDIA H100 PCIe", "H100-80GB-PCIE"),
        ("NVIDIA H100 NVL", "H100-94GB-NVL"),
        ("NVIDIA A100-SXM4-80GB", "A100-80GB-SXM"),
        ("NVIDIA A100 80GB PCIe", "A100-80GB-PCIE"),
        ("NVIDIA A100-SXM4-40GB", "A100-40GB-SXM"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA RTX A6000", "A6000"),
        ("NVIDIA RTX 4000 Ada Generation", "RTX4000Ada"),
        ("NVIDIA RTX 4000 SFF Ada Generation", "RTX4000Ada"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX6000Ada"),
        ("NVIDIA GeForce RTX 3080 Ti", "RTX3080Ti"),
        ("NVIDIA GeForce RTX 5090", "RTX5090"),
        ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", "RTXPRO6000"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition MIG 1g.24gb", ""),
        ("AMD Instinct MI300X OAM", "MI300X"),
        ("Tesla V100-SXM2-32GB", "V100-32GB-SXM"),
        ("unknown", ""),
    ],
)
def test_gpu_ids_have_canonical_names(id: str, name: str) -> None:
    assert name == gpu_of(id)
    assert name == "" or name in known_gpus()


def test_a_price_is_for_all_gpus_of_a_pod_and_by_cloud() -> None:
    board = {4: [GpuType.model_validate(CARD)]}
    (secure,) = to_gpu_offers(board, "secure", 3, "runpod", NOW)
    (community,) = to_gpu_offers(board, "community", 3, "runpod", NOW)

    assert (Decimal("8.07"), Decimal("7.17")) == (secure.price_per_hour, community.price_per_hour)
    assert ("US-KS-2", Stock.LOW, "secure/3/NVIDIA H100 80GB HBM3") == (secure.region, secure.stock, secure.ref)


def test_what_is_not_sold_there_is_no_offer_and_what_is_sold_out_is_one_without_stock() -> None:
    def offers(**changes: Any) -> list[tuple[str, Stock]]:
        board = {8: [GpuType.model_validate({**CARD, **changes})]}
        return [(offer.region, offer.stock) for offer in to_gpu_offers(board, "secure", 8, "runpod", NOW)]

    assert [] == offers(secure=False)
    assert [] == offers(price={"secure": 0, "community": 1})
    assert [] == offers(maxCount={"secure": 4, "community": 8})
    assert [("", Stock.NONE)] == offers(dataCenters=None, availability="NONE")


def test_a_flavor_is_sold_in_its_sizes() -> None:
    flavor = CpuType.model_validate(
        {"id": "cpu3c", "vcpu": {"min": 2, "max": 8}, "ramGbPerVcpu": 2.5, "price": {"securePerVcpu": 0.04}}
    )
    offers = list(to_cpu_offers([flavor], "runpod", NOW))

    assert ["cpu3c-2", "cpu3c-4", "cpu3c-8"] == [offer.instance_type for offer in offers]
    assert (4, 10, Decimal("0.16")) == (offers[1].cpu, offers[1].memory_gb, offers[1].price_per_hour)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("error pulling image: manifest for acme/x:1 not found: manifest unknown", True),
        ("pull access denied for acme/x, repository does not exist or may require 'docker login'", True),
        ("1.0.2 Pulling from runpod/pytorch", False),
        ("start container", False),
    ],
)
def test_a_pull_that_failed_is_told_from_one_that_goes_on(line: str, told: bool) -> None:
    assert told is tells_failed_pull(line)


def test_ages_count_from_times_and_from_nothing_else() -> None:
    assert [3600, 0, 0] == [age_seconds(text, NOW) for text in ("2026-11-20T12:00:00Z", "", "2026-11-20T12:00:00")]


def test_a_mark_is_read_from_the_variable_before_the_name() -> None:
    token = "t0000000000000000001"
    named = pod(name=f"train-0-{token}").to_observed(NOW)
    marked = pod(env={"GPUPLAN_MARK": f"gpuplan-token={token} gpuplan-project=llama"}).to_observed(NOW)

    assert named.mark is not None and marked.mark is not None
    assert (named.mark, "llama") == (replace(marked.mark, project=""), marked.mark.project)
