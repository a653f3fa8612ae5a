"""`hetzner` against its emulator: the contract, and the official document."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from gpuplan.core.desired import Kind
from gpuplan.core.errors import Conflict
from gpuplan.core.observed import Status
from gpuplan.core.ports import CanStop, CanUpdate
from gpuplan.core.values import Value
from gpuplan.testing.bench import Made
from gpuplan.testing.contracts.hetzner import HetznerContract
from gpuplan.testing.http_bench import HttpBench
from tests.conformance.api_documents import VARIABLE, ApiDocument

GONE = "servers have no `datacenter` any more since July 2026, only their `location`"
DEVIATIONS: Mapping[str, str] = {
    f"{call}: answers {where}: 'datacenter' is a required property": GONE
    for call, where in {
        "POST /servers": "$.server",
        "GET /servers": "$.servers[]",
        "GET /servers/{id}": "$.server",
        "PUT /servers/{id}": "$.server",
    }.items()
}
"""What does not fit the official document of May 2026, and why it is right all the same."""


class TestHetzner(HetznerContract):
    def test_the_official_document_judges_both_sides(
        self, bench: HttpBench, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """What the adapter sends and what the emulator answers, over the whole life of every kind of object."""
        document = ApiDocument.named("hetzner.json")
        bench.run(_everything(bench))
        if document is None:
            with capsys.disabled():
                print(f"\nhetzner: {len(bench.emulator.exchanges)} exchanges not judged, {VARIABLE} is not set")
            return

        assert set(DEVIATIONS) == document.judge(bench.emulator.exchanges, "/hetzner/v1")


async def _everything(bench: HttpBench) -> None:
    """All that the checks of the contract do not come by: private networks, attached volumes, another server type, a
    creation that fails after it was accepted, and a name that is taken."""
    await bench.live_through()
    volume = await bench.make(Kind.VOLUME)
    network = await bench.make(Kind.NETWORK, rules=[], cidr="10.7.0.0/16", region="fsn1")
    firewall = await bench.make(Kind.NETWORK)
    key = await bench.make(Kind.SSH_KEY)
    node = await bench.make(
        Kind.NODE,
        ssh_keys=[key.remote_id],
        volumes=[{"volume": volume.remote_id, "mount": "/data"}],
        networks=[network.remote_id, firewall.remote_id],
        env={"A": "1"},
    )
    with pytest.raises(Conflict):
        await bench.provider.create(node.want, node.mark, bench.links)
    node = await change(bench, node, networks=[])
    node = await change(bench, node, networks=[network.remote_id])
    node = await change(bench, node, networks=[network.remote_id, firewall.remote_id])
    assert isinstance(bench.provider, CanStop)
    await bench.until(replace(node, seen=await bench.provider.stop(Kind.NODE, node.remote_id)), Status.STOPPED)
    await change(bench, node, instance_type="cpx32")
    bench.emulator.knobs("hetzner", {"create_fails_with": "resource_unavailable"})
    failing = await bench.send(*bench.ask(Kind.NODE))
    bench.emulator.advance(300)
    await bench.provider.list(Kind.NODE, frozenset({failing.remote_id}))
    for made in reversed(list(bench.made.values())):
        await bench.until_gone(made.kind, made.remote_id)


async def change(bench: HttpBench, made: Made, **attrs: Value) -> Made:
    """Change one thing, and wait until it is done."""
    assert isinstance(bench.provider, CanUpdate)
    want = replace(made.want, attrs={**made.want.attrs, **attrs}, update=frozenset(attrs))
    seen = await bench.provider.update(want, made.remote_id, bench.links)
    return await bench.until(Made(want, made.mark, seen), Status.RUNNING)
