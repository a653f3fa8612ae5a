"""What `runpod` is asked by the conformance kit."""

from typing import ClassVar

from gpuplan.core.desired import Kind
from gpuplan.providers.runpod import PROVIDER
from gpuplan.testing.bench import Bench, Made
from gpuplan.testing.contracts import PUBLIC_KEY
from gpuplan.testing.http_conformance import HttpProviderConformance

IMAGE = "runpod/pytorch:1.0.2-cu1281-torch280-ubuntu2404"


class RunPodContract(HttpProviderConformance):
    provider_type = PROVIDER
    asks: ClassVar = {
        Kind.NODE: {
            "gpu": "RTX4090:1",
            "instance_type": "NVIDIA GeForce RTX 4090",
            "region": "EU-RO-1",
            "image": IMAGE,
            "command": "echo hello; sleep infinity",
            "disk_gb": 40,
            "env": {"SEED": "1"},
            "ports": ["8888/http", 22, 8000],
        },
        Kind.SSH_KEY: {"public_key": PUBLIC_KEY},
        Kind.VOLUME: {"size_gb": 100, "region": "EU-RO-1", "type": "STANDARD"},
    }
    changes: ClassVar = {
        Kind.NODE: {
            "image": "ubuntu:24.04",
            "command": ["sleep", "infinity"],
            "disk_gb": 60,
            "env": {"SEED": "2", "DEBUG": "1"},
            "ports": [8000],
            "labels": {"team": "research"},
        },
        Kind.VOLUME: {"size_gb": 200},
    }
    shelf: ClassVar = {"gpu": "RTX4090", "region": "EU-RO-1"}
    missing_id = "nosuchpod00000"
    page_knobs: ClassVar = {"page_size": 2}
    quota_knobs: ClassVar = {"has_funds": False}

    async def vanish(self, bench: Bench, made: Made) -> None:
        if made.kind is Kind.SSH_KEY:
            # The emulator knows no ids of keys: another user of the account takes it off the list.
            await bench.provider.delete(made.kind, made.remote_id, bench.links)
        else:
            await super().vanish(bench, made)
