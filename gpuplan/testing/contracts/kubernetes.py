"""What `kubernetes` is asked by the conformance kit."""

from typing import ClassVar

from gpuplan.core.desired import Kind
from gpuplan.providers.kubernetes import PROVIDER
from gpuplan.testing.bench import Made
from gpuplan.testing.http_conformance import HttpProviderConformance


class KubernetesContract(HttpProviderConformance):
    provider_type = PROVIDER
    asks: ClassVar = {
        Kind.GROUP: {
            "nodes": 2,
            "gpu": "H100-80GB-SXM:1",
            "cpu": 4,
            "memory_gb": 32,
            "image": "nvcr.io/nvidia/pytorch:25.01-py3",
            "command": "sleep infinity",
            "labels": {"team": "research"},
        },
        Kind.VOLUME: {"size_gb": 100, "type": "standard"},
    }
    changes: ClassVar = {
        Kind.GROUP: {"nodes": 3, "image": "nvcr.io/nvidia/pytorch:25.02-py3", "labels": {"team": "production"}},
        Kind.VOLUME: {"size_gb": 200},
    }
    options: ClassVar = {"capacity_wait": "0s"}
    missing_id = "default/gpuplan-conformance-missing"
    shelf: ClassVar = {"gpu": "H100-80GB-SXM", "region": "eu-west"}
    knobs: ClassVar = {"binding": "Immediate"}
    crowd_knobs: ClassVar = {"machines": 1}
    page_knobs: ClassVar = {"most_per_page": 2}
    quota_knobs: ClassVar = {"quota": {"count/statefulsets.apps": 1}}
    unknown_status: ClassVar = {"status": {"phase": "Quantum"}}
    create_method = "PATCH"
    listing_calls = 2

    def own_id(self, made: Made) -> str:
        return str(made.seen.facts["uid"])

    def told_by(self, made: Made) -> str:
        """How a cluster is, its pods tell."""
        nodes = made.seen.facts["nodes"]
        assert isinstance(nodes, list)
        return str(nodes[0]["id"])
