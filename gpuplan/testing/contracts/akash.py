"""What `akash` is asked by the conformance kit, once for each of the two ways to it."""

from typing import ClassVar

from gpuplan.core.desired import Kind
from gpuplan.providers.akash import PROVIDER
from gpuplan.testing.contracts import PUBLIC_KEY
from gpuplan.testing.http_conformance import HttpProviderConformance


class AkashContract(HttpProviderConformance):
    provider_type = PROVIDER
    asks: ClassVar = {
        Kind.NODE: {
            "gpu": "H100-80GB-SXM:2",
            "cpu": 16,
            "memory_gb": 64,
            "disk_gb": 100,
            "region": "us-west",
            "image": "pytorch/pytorch:2.8.0-cuda12.8-cudnn9-runtime",
            "env": {"SEED": "1"},
            "ports": [8000, "8080/http"],
            "ssh_keys": [PUBLIC_KEY],
            "labels": {"team": "research"},
        }
    }
    changes: ClassVar = {Kind.NODE: {"image": "ubuntu:24.04", "command": "nvidia-smi", "env": {"SEED": "2", "A": "1"}}}
    shelf: ClassVar = {"gpu": "H100-80GB-SXM", "region": "us-west"}
    missing_id = "1700000000000"
    page_knobs: ClassVar = {"page_size": 2}
    quota_knobs: ClassVar = {"balance": 5}
    unknown_status: ClassVar = {"state": "quantum"}
    create_route = "/v1/deployments"
    looks_per_node = 4
    crowd: ClassVar = {"region": None}
    crowd_knobs: ClassVar = {"balance": 1000, "scale": 1}


class AkashSidecarContract(HttpProviderConformance):
    """A sidecar lists nothing, and has no offers."""

    provider_type = PROVIDER
    options: ClassVar = {"flavour": "sidecar"}
    asks: ClassVar = {Kind.NODE: {"gpu": "H100-80GB-SXM:2", "region": "us-west", "image": "ubuntu:24.04"}}
    shelf: ClassVar = {"gpu": "H100-80GB-SXM", "region": "us-west"}
    missing_id = "1700000000000"
    unknown_status: ClassVar = {"state": "quantum"}
    create_route = "/akash/deployments/create"
    public_path = "/akash"
    reads = ("health", "list", "get")
    listing_calls = 5
