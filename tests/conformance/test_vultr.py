"""`vultr` against its emulator: the contract, and the traps of this provider."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from gpuplan.core.desired import Kind
from gpuplan.core.ports import CanUpdate
from gpuplan.testing.contracts.vultr import VultrContract
from gpuplan.testing.http_bench import HttpBench
from tests.conformance.api_documents import VARIABLE, ApiDocument

DEVIATIONS: Mapping[str, str] = {
    "GET /blocks/{block-id}: answers 404: not in the document": "it has 404 for deleting a block, and looking at one "
    "that is gone cannot answer anything else",
}
"""What does not fit the official document of December 2023, and why it is right all the same."""


class TestVultr(VultrContract):
    def test_the_official_document_judges_both_sides(
        self, bench: HttpBench, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """What the adapter sends and what the emulator answers, over the whole life of every kind of object."""
        document = ApiDocument.named("vultr.json")
        bench.run(_everything(bench))
        if document is None:
            with capsys.disabled():
                print(f"\nvultr: {len(bench.emulator.exchanges)} exchanges not judged, {VARIABLE} is not set")
            return

        assert set(DEVIATIONS) == document.judge(bench.emulator.exchanges, "/vultr/v2")


async def _everything(bench: HttpBench) -> None:
    """All that the checks of the contract do not come by: bare metal, a VPC, attached volumes, a change of networks."""
    await bench.live_through()
    region = {"region": "ewr"}
    volume = await bench.make(Kind.VOLUME)
    vpc = await bench.make(Kind.NETWORK, rules=[], cidr="10.7.0.0/24", **region)
    firewall = await bench.make(Kind.NETWORK)
    key = await bench.make(Kind.SSH_KEY)
    node = await bench.make(
        Kind.NODE,
        instance_type="vc2-1c-1gb",
        gpu=None,
        image=None,
        ssh_keys=[key.remote_id],
        volumes=[{"volume": volume.remote_id, "mount": "/data"}],
        networks=[vpc.remote_id],
    )
    assert isinstance(bench.provider, CanUpdate)
    want = replace(
        node.want, attrs={**node.want.attrs, "networks": [firewall.remote_id]}, update=frozenset({"networks"})
    )
    await bench.provider.update(want, node.remote_id, bench.links)
    await bench.make(Kind.NODE, instance_type="vbm-4c-32gb", gpu=None, image="2136")
    for made in reversed(list(bench.made.values())):
        await bench.until_gone(made.kind, made.remote_id)
