"""What `fly` is asked by the conformance kit."""

from typing import ClassVar

from gpuplan.core.desired import Kind
from gpuplan.providers.fly import PROVIDER
from gpuplan.testing.http_conformance import HttpProviderConformance


class FlyContract(HttpProviderConformance):
    provider_type = PROVIDER
    asks: ClassVar = {
        Kind.NODE: {
            "instance_type": "performance-2x",
            "cpu": 2,
            "memory_gb": 8,
            "disk_gb": 20,
            "region": "ord",
            "image": "registry.fly.io/llama:v3",
            "command": "echo hello; exec sleep 1000",
            "env": {"SEED": "1"},
            "ports": [8000, "8080/http"],
            "restart": "always",
            "labels": {"team": "research"},
        },
        Kind.VOLUME: {"size_gb": 50, "region": "ord"},
    }
    changes: ClassVar = {
        Kind.NODE: {
            "instance_type": "performance-4x",
            "cpu": 4,
            "memory_gb": 16,
            "image": "ubuntu:24.04",
            "command": ["sleep", "1001"],
            "env": {"SEED": "2", "DEBUG": "1"},
            "ports": [9000, 8000],
            "restart": "never",
            "labels": {"team": "production", "tier": "gold"},
        },
        Kind.VOLUME: {"size_gb": 100},
    }
    shelf: ClassVar = {"gpu": "performance-2x", "region": "ord"}
    missing_id = "no-such-app/e784e90a000000"
    quota_knobs: ClassVar = {"machine_limit": 1}
    unknown_status: ClassVar = {"state": "quantum"}
    create_route = "/v1/apps/{app}/machines"
