"""`kubernetes` against its emulator: the contract, and the official document as a judge."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from gpuplan.core.desired import Kind
from gpuplan.core.ports import CanLog, CanUpdate, HasChannel
from gpuplan.core.secret import Secret
from gpuplan.testing.contracts.kubernetes import KubernetesContract
from gpuplan.testing.http_bench import HttpBench
from tests.conformance.api_documents import VARIABLE, ApiDocument

STATUS = "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.Status"
UNPROBED = "the server has null where nothing was ever probed, and the document forgets to say that it may"
DEVIATIONS: Mapping[str, str] = {
    'DELETE /apis/apps/v1/namespaces/{namespace}/statefulsets/{name}: answers $.status: type "string"': "a foreground "
    "deletion answers with the object, which goes on for a while; the document only knows the `Status` of others",
    'GET /api/v1/namespaces/{namespace}/pods: answers $.items[].status.conditions[].lastProbeTime: type "string"': (
        UNPROBED
    ),
    'GET /api/v1/pods: answers $.items[].status.conditions[].lastProbeTime: type "string"': UNPROBED,
    "GET /api/v1/namespaces/{namespace}/pods/{name}/exec: answers 101: not in the document": "a WebSocket is no answer "
    "that the language of the document could describe",
}
"""What does not fit the official document of version 1.36.2, and why it is right all the same."""


class TestKubernetes(KubernetesContract):
    def test_the_official_document_judges_both_sides(
        self, bench: HttpBench, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """What the adapter sends and what the emulator answers, over the whole life of every kind of object."""
        document = ApiDocument.named("kubernetes.json", errors=STATUS)
        bench.run(_everything(bench))
        if document is None:
            with capsys.disabled():
                print(f"\nkubernetes: {len(bench.emulator.exchanges)} exchanges not judged, {VARIABLE} is not set")
            return

        assert set(DEVIATIONS) == document.judge(bench.emulator.exchanges, "/kubernetes")


async def _everything(bench: HttpBench) -> None:
    """All that the checks of the contract do not come by: volumes, secrets, ports, spot, logs, commands, an absence."""
    await bench.live_through()
    volume = await bench.make(Kind.VOLUME)
    mounted = [{"volume": volume.remote_id, "mount": "/workspace"}]
    cluster = await bench.make(
        Kind.GROUP,
        nodes=1,
        volumes=mounted,
        env={"PLAIN": "1", "TOKEN": Secret("a-secret-token")},
        ports=[8000, "9000/udp"],
        shm_gb=16,
        disk_gb=50,
        options={"queue": "gpus", "capabilities": ["IPC_LOCK"], "tolerations": [{"key": "a", "operator": "Exists"}]},
    )
    await bench.make(Kind.GROUP, spot={}, zone="eu-west-b", nodes=1)
    assert isinstance(bench.provider, CanLog)
    assert [line async for line in bench.provider.logs(Kind.GROUP, cluster.remote_id, follow=False, tail=2)]
    assert isinstance(bench.provider, HasChannel)
    assert 0 == (await (await bench.provider.channel(cluster.remote_id)).run("true", env={})).status
    assert isinstance(bench.provider, CanUpdate)
    attrs = {**cluster.want.attrs, "image": "python:3.13", "nodes": 2}
    want = replace(cluster.want, attrs=attrs, update=frozenset({"image", "nodes"}))
    await bench.provider.update(want, cluster.remote_id, bench.links)
    assert await bench.provider.get(Kind.GROUP, bench.missing_id) is None
    for made in reversed(list(bench.made.values())):
        await bench.until_gone(made.kind, made.remote_id)
