"""What `vultr` is asked by the conformance kit."""

from typing import ClassVar

from gpuplan.core.desired import Kind
from gpuplan.providers.vultr import PROVIDER
from gpuplan.testing.contracts import PUBLIC_KEY
from gpuplan.testing.http_conformance import HttpProviderConformance


class VultrContract(HttpProviderConformance):
    provider_type = PROVIDER
    asks: ClassVar = {
        Kind.NODE: {
            "gpu": "A100-80GB-PCIE:1",
            "instance_type": "vcg-a100-12c-120g-80vram",
            "region": "ewr",
            "image": "Ubuntu 24.04 LTS x64",
            "labels": {"team": "research"},
        },
        Kind.SSH_KEY: {"public_key": PUBLIC_KEY},
        Kind.VOLUME: {"size_gb": 100, "region": "ewr", "type": "high_perf"},
        Kind.NETWORK: {"rules": [{"port": 22, "from": "0.0.0.0/0"}, {"port": "8000-8010", "protocol": "udp"}]},
    }
    changes: ClassVar = {
        Kind.NODE: {"labels": {"team": "production", "tier": "gold"}},
        Kind.VOLUME: {"size_gb": 200},
        Kind.NETWORK: {"rules": [{"port": 22, "from": "10.0.0.0/8"}]},
    }
    shelf: ClassVar = {"gpu": "A100-80GB-PCIE", "region": "ewr"}
    page_knobs: ClassVar = {"most_per_page": 2}
    quota_knobs: ClassVar = {"instance_limit": 1}
    public_path = "/v2"
    listing_calls = 2
