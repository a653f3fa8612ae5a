"""`runpod` against its emulator: the contract, and the traps of this provider."""

from collections.abc import Mapping

import pytest

from gpuplan.core.desired import Kind
from gpuplan.core.errors import Conflict, NotFound
from gpuplan.core.ports import CanLog
from gpuplan.testing.contracts.runpod import RunPodContract
from gpuplan.testing.http_bench import HttpBench
from tests.conformance.api_documents import VARIABLE, ApiDocument

NEWER = "minVcpuCountPerGpu and minRamPerGpu are newer; they are sent where cpu or memory_gb is asked for"
DEVIATIONS: Mapping[str, str] = {
    "POST /v2/pods: sends $.gpu: unevaluatedProperties false": NEWER,
    "POST /v2/pods: sends $: unevaluatedProperties false": f"follows from the one in gpu: {NEWER}",
    "GET /v2/pods: parameter cursor: not in the document": "the document has no pages; where an answer says that there "
    "are more, as clients of the autumn of 2026 expect it to, they are read",
}
"""What does not fit the official document of August 2026, and why it is right all the same."""


class TestRunPod(RunPodContract):
    def test_a_named_account_outlives_its_key(self, bench: HttpBench) -> None:
        endpoint = f"{bench.emulator.url}/runpod"
        keys, names = ("key-of-one", "key-of-two"), ("llama", "alpaca")
        opened = [bench.open({"endpoint": endpoint, "key": key, "account": name}) for name in names for key in keys]

        async def ids() -> None:
            told = [(await account.health()).id for account in opened]
            assert told[0] == told[1] != told[2] == told[3]

        bench.run(ids())

    def test_the_official_document_judges_both_sides(
        self, bench: HttpBench, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """What the adapter sends and what the emulator answers, over the whole life of every kind of object."""
        document = ApiDocument.named("runpod.json")
        bench.run(_everything(bench))
        if document is None:
            with capsys.disabled():
                print(f"\nrunpod: {len(bench.emulator.exchanges)} exchanges not judged, {VARIABLE} is not set")
            return

        assert set(DEVIATIONS) == document.judge(bench.emulator.exchanges, "/runpod")


async def _everything(bench: HttpBench) -> None:
    """All that the checks of the contract do not come by: options, CPU pods, mounts, logs, refusals, pages."""
    await bench.live_through()
    volume = await bench.make(Kind.VOLUME)
    key = await bench.make(Kind.SSH_KEY)
    options = {"min_cuda": "12.4", "start_ssh": True, "global_networking": True, "symmetric_ports": 1}
    node = await bench.make(
        Kind.NODE,
        cpu=">=8",
        memory_gb=">=30",
        ssh_keys=[key.remote_id],
        volumes=[{"volume": volume.remote_id, "mount": "/data"}],
        options=options,
    )
    await bench.make(Kind.NODE, options={"persistent_gb": 20})
    await bench.make(Kind.NODE, gpu=None, instance_type="cpu5g-4")
    assert isinstance(bench.provider, CanLog)
    assert [line async for line in bench.provider.logs(Kind.NODE, node.remote_id, follow=False, tail=10)]
    bench.emulator.knobs("runpod", {"page_size": 2})
    assert 4 == len(await bench.listed(Kind.NODE))
    want, mark = bench.ask(Kind.NODE, instance_type="NVIDIA H9000")
    with pytest.raises(NotFound):
        await bench.provider.create(want, mark, bench.links)
    with pytest.raises(Conflict):
        await bench.provider.delete(Kind.VOLUME, volume.remote_id, bench.links)
    for made in reversed(list(bench.made.values())):
        await bench.until_gone(made.kind, made.remote_id)
