"""What `lium` is asked by the conformance kit, once for each of its two APIs."""

from typing import ClassVar

from gpuplan.core.desired import Kind
from gpuplan.providers.lium import PROVIDER
from gpuplan.testing.contracts import PUBLIC_KEY
from gpuplan.testing.http_conformance import HttpProviderConformance


class LiumContract(HttpProviderConformance):
    provider_type = PROVIDER
    options: ClassVar = {"flavour": "pods"}
    asks: ClassVar = {
        Kind.NODE: {"gpu": "H100-80GB-SXM:2", "region": "US", "ssh_keys": [PUBLIC_KEY]},
        Kind.SSH_KEY: {"public_key": PUBLIC_KEY},
        Kind.VOLUME: {},
    }
    changes: ClassVar = {
        Kind.NODE: {
            "image": "pytorch/pytorch:2.8.0-cuda12.8-cudnn9-runtime",
            "command": "nvidia-smi",
            "env": {"A": "1"},
        }
    }
    shelf: ClassVar = {"gpu": "H100-80GB-SXM", "region": "US"}
    crowd: ClassVar = {"region": None}
    crowd_knobs: ClassVar = {"hosts": 30, "balance": 1000}
    quota_knobs: ClassVar = {"balance": 0}
    public_path = "/api"


class LiumRentalsContract(HttpProviderConformance):
    """Rentals cannot be listed, and their prices are written down in the adapter."""

    provider_type = PROVIDER
    options: ClassVar = {"flavour": "rentals"}
    asks: ClassVar = {Kind.NODE: {"gpu": "RTX4090:1", "ssh_keys": [PUBLIC_KEY]}}
    shelf: ClassVar = {"gpu": "RTX4090"}
    missing_id = "lium-0"
    quota_knobs: ClassVar = {"balance": 0}
    public_path = "/v1"
    reads = ("health", "list", "get")
    listing_calls = 5
