"""Where a service is found, by the facts of its node."""

import pytest

from gpuplan.core.values import Facts
from gpuplan.providers.workloads_units import mapped


@pytest.mark.parametrize(
    ("facts", "url"),
    [
        ({}, "http://198.18.0.1:8000"),
        ({"ports": {"8000/tcp": 31000}}, "http://198.18.0.1:31000"),
        ({"endpoints": {"8000": "https://pod-8000.proxy.example"}}, "https://pod-8000.proxy.example"),
        ({"endpoints": {"8000": "203.0.113.5:10100"}}, "http://203.0.113.5:10100"),
    ],
)
def test_endpoint_is_where_the_provider_maps_the_port(facts: Facts, url: str) -> None:
    assert url == mapped(facts, 8000, "198.18.0.1")
