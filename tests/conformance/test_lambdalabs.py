"""`lambda` against its emulator: the contract, and both sides against the official document."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from gpuplan.core.desired import Kind
from gpuplan.core.errors import Conflict, InvalidRequest, NoCapacity, QuotaExceeded
from gpuplan.core.ports import CanUpdate
from gpuplan.testing.contracts.lambdalabs import PUBLIC_KEY, LambdaContract
from gpuplan.testing.http_bench import HttpBench
from tests.conformance.api_documents import VARIABLE, ApiDocument

DEVIATIONS: Mapping[str, str] = {}
"""What does not fit the official document 1.10.0, and why it is right all the same."""


class TestLambda(LambdaContract):
    def test_the_official_document_judges_both_sides(
        self, bench: HttpBench, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """What the adapter sends and what the emulator answers, over the whole life of every kind of object."""
        document = ApiDocument.named("lambda.json")
        bench.run(_everything(bench))
        if document is None:
            with capsys.disabled():
                print(f"\nlambda: {len(bench.emulator.exchanges)} exchanges not judged, {VARIABLE} is not set")
            return

        assert set(DEVIATIONS) == document.judge(bench.emulator.exchanges, "/lambda")


async def _everything(bench: HttpBench) -> None:
    """All that the checks of the contract do not come by: companions in use, several keys, every refusal."""
    # Of limits the document says nothing.
    bench.emulator.knobs("lambda", {"rate_limited": False, "launch_limited": False})
    await bench.live_through()
    volume, network, key = [await bench.make(kind) for kind in (Kind.VOLUME, Kind.NETWORK, Kind.SSH_KEY)]
    node = await bench.make(
        Kind.NODE,
        ssh_keys=[key.remote_id, PUBLIC_KEY],
        volumes=[{"volume": volume.remote_id, "mount": "/data/sets"}],
        networks=[network.remote_id],
        env={"MODE": "a b"},
    )
    assert isinstance(bench.provider, CanUpdate)
    change = replace(network.want, attrs={**network.want.attrs, "rules": []}, update=frozenset({"rules"}))
    await bench.provider.update(change, network.remote_id, bench.links)
    for used in (volume, network):
        with pytest.raises(Conflict):
            await bench.provider.delete(used.kind, used.remote_id, bench.links)
    with pytest.raises(InvalidRequest):
        elsewhere = {"region": "us-south-2", "volumes": node.want.attrs["volumes"]}
        await bench.send(*bench.ask(Kind.NODE, **elsewhere))
    with pytest.raises(InvalidRequest):
        await bench.send(*bench.ask(Kind.NODE, image="no-such-family"))
    bench.emulator.stock(provider="lambda", gpu="A10", region="us-east-1", available=0)
    with pytest.raises(NoCapacity):
        await bench.send(*bench.ask(Kind.NODE, instance_type="gpu_1x_a10"))
    bench.emulator.knobs("lambda", {"instance_limit": 0})
    with pytest.raises(QuotaExceeded):
        await bench.send(*bench.ask(Kind.NODE))
    for made in reversed(list(bench.made.values())):
        await bench.until_gone(made.kind, made.remote_id)
