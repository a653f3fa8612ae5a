"""What `vast` is asked by the conformance kit."""

from typing import ClassVar

from gpuplan.core.desired import Kind
from gpuplan.providers.vast import PROVIDER
from gpuplan.testing.contracts import PUBLIC_KEY
from gpuplan.testing.http_conformance import HttpProviderConformance


class VastContract(HttpProviderConformance):
    provider_type = PROVIDER
    asks: ClassVar = {
        Kind.NODE: {
            "gpu": "RTX4090:1",
            "region": "CA",
            "disk_gb": 60,
            "image": "vastai/base-image:cuda-12.8.1-auto",
            "env": {"HF_HOME": "/workspace"},
            "ports": [8000],
            "labels": {"team": "research"},
        },
        Kind.SSH_KEY: {"public_key": PUBLIC_KEY},
        Kind.VOLUME: {"size_gb": 50, "zone": "15000"},
    }
    changes: ClassVar = {Kind.NODE: {"labels": {"team": "production", "tier": "gold & more"}}}
    shelf: ClassVar = {"gpu": "RTX4090", "region": "CA"}
    missing_id = "99999999"
    knobs: ClassVar = {"machines": 48, "rate_limited": False}
    crowd: ClassVar = {"region": None}
    crowd_knobs: ClassVar = {"machines": 30}
    page_knobs: ClassVar = {"most_per_page": 2}
    quota_knobs: ClassVar = {"instance_limit": 1}
    unknown_status: ClassVar = {"actual_status": "quantum"}
    create_method = "PUT"
