"""What `nosana` is asked by the conformance kit, once for each way to it."""

from typing import ClassVar

from gpuplan.core.desired import Kind
from gpuplan.core.values import Attrs
from gpuplan.providers.nosana import PROVIDER
from gpuplan.testing.bench import Bench
from gpuplan.testing.http_bench import HttpBench
from gpuplan.testing.http_conformance import HttpProviderConformance

NODE: Attrs = {
    "gpu": "H100-80GB-SXM:1",
    "image": "pytorch/pytorch:2.8.0-cuda12.8-cudnn9-runtime",
    "command": "jupyter lab --ip 0.0.0.0 --port 8888",
    "env": {"SEED": "1"},
    "ports": [8888],
}


class NosanaContract(HttpProviderConformance):
    provider_type = PROVIDER
    options: ClassVar = {"flavour": "api"}
    asks: ClassVar = {Kind.NODE: NODE}
    changes: ClassVar = {
        Kind.NODE: {"image": "ubuntu:24.04", "command": ["sleep", "infinity"], "env": {"SEED": "2"}, "ports": [8000]}
    }
    looks_per_node = 1
    shelf: ClassVar = {"gpu": "H100-80GB-SXM", "region": "global"}
    missing_id = "7fK3c9ZsK1V2hVq1gYJ7rXrV6wq4tq9n3o6p1YdT5bQx"
    page_knobs: ClassVar = {"most_per_page": 2}
    quota_knobs: ClassVar = {"credits": 0, "refuses_without_credits": True}
    create_route = "/api/deployments/create"
    public_path = "/api"

    async def fill(self, bench: Bench) -> Attrs:
        """That a market has no host to spare is noticed after a while only; one that is no more, at once."""
        assert isinstance(bench, HttpBench)
        bench.emulator.knobs("nosana", {"retired": "nvidia-h100"})
        return self.asks[bench.main]


class NosanaSidecarContract(NosanaContract):
    """A sidecar lists nothing, and what it launches cannot be changed."""

    options: ClassVar = {"flavour": "sidecar"}
    changes: ClassVar = {}
    page_knobs: ClassVar = {}
    quota_knobs: ClassVar = {"credits": 0}
    create_route = "/nosana/jobs/launch"
    public_path = ""
    listing_calls = 5
