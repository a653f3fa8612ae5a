"""`alibaba` against its emulator: the contract, and the shapes of the official SDK."""

from collections.abc import Mapping

import pytest

from gpuplan.core.desired import Kind
from gpuplan.core.ports import CanLog
from gpuplan.testing.contracts.alibaba import PUBLIC_KEY, AlibabaContract
from gpuplan.testing.http_bench import HttpBench
from tests.conformance.alibaba_document import ActionShapes
from tests.conformance.api_documents import VARIABLE

DEVIATIONS: Mapping[str, str] = {
    "DescribeVSwitches: not in the document": "an action of the product Vpc, and the document is that of Ecs",
    "GetCallerIdentity: not in the document": "an action of the product Sts, and the document is that of Ecs",
    "RunInstances sends no HpcClusterId": "the SDK's generator marks it so; no client, the SDK included, sends it",
}
"""What does not fit the shapes of SDK 7.11.8, and why it is right all the same."""


class TestAlibaba(AlibabaContract):
    def test_the_official_document_judges_both_sides(
        self, bench: HttpBench, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """What the adapter sends and what the emulator answers, over the whole life of every kind of object."""
        shapes = ActionShapes.read()
        bench.run(_everything(bench))
        if shapes is None:
            with capsys.disabled():
                print(f"\nalibaba: {len(bench.emulator.exchanges)} exchanges not judged, {VARIABLE} is not set")
            return

        assert set(DEVIATIONS) == shapes.judge(bench.emulator.exchanges)


async def _everything(bench: HttpBench) -> None:
    """All that the checks of the contract do not come by: spot, a key pair that is used, a role, the console."""
    await bench.live_through()
    key = await bench.make(Kind.SSH_KEY)
    node = await bench.make(
        Kind.NODE,
        ssh_keys=[key.remote_id, PUBLIC_KEY],
        spot={"max_price": 1.5},
        env={"A": "1"},
        disk_gb=200,
        options={"disk_level": "PL1", "ram_role": "trainer", "spot_hours": 0},
    )
    assert isinstance(bench.provider, CanLog)
    assert [line async for line in bench.provider.logs(Kind.NODE, node.remote_id, follow=False, tail=None)]
    for made in reversed(list(bench.made.values())):
        await bench.until_gone(made.kind, made.remote_id)
