"""`vast` against its emulator: the contract, and the official document."""

from collections.abc import Mapping

import pytest

from gpuplan.core.desired import Kind
from gpuplan.core.ports import CanLog
from gpuplan.testing.contracts.vast import VastContract
from gpuplan.testing.http_bench import HttpBench
from tests.conformance.api_documents import VARIABLE, ApiDocument

CLIENT = "the official client sends it so"
SHOWN = "the official client reads it so"
DEVIATIONS: Mapping[str, str] = {
    "DELETE /api/v0/volumes: parameter id: not in the document": f"{CLIENT}, where the document has a body",
    "GET /api/v0/gpu_names/unique/: not in the document": "it is public, and the official client asks it",
    'GET /api/v0/instances/{id}: answers $.instances.extra_env[]: type "string"': SHOWN,
    'GET /api/v0/instances/{id}: answers $.instances.ports: type "array"': SHOWN,
    'GET /api/v0/instances/{id}: answers $.instances: type "object"': "null is what an instance is that is not there",
    "GET /api/v0/volumes: parameter owner: not in the document": CLIENT,
    "GET /api/v0/volumes: parameter type: not in the document": CLIENT,
    "POST /api/v0/bundles: sends $.order: minItems 2": f"{CLIENT}: pairs of column and direction, one of them here",
    'POST /api/v0/bundles: sends $.type: enum ["ondemand", "bid", "reserved"]': CLIENT,
    "POST /api/v0/volumes/search: sends disk_space: not in the document": f"{CLIENT}: filters are those of offers",
    "POST /api/v0/volumes/search: sends machine_id: not in the document": f"{CLIENT}: filters are those of offers",
    'PUT /api/v0/asks/{id}: sends $.env: type "string"': f"{CLIENT}: an object; a text is ignored by some servers",
    'PUT /api/v0/asks/{id}: sends $.runtype: enum ["ssh", "jupyter", "args", "ssh_proxy", "ssh_direct", '
    '"jupyter_proxy", "jupyter_': f"{CLIENT}: direct and proxied SSH together have no word in the document",
    "PUT /api/v0/asks/{id}: sends client_id: not in the document": CLIENT,
    "PUT /api/v0/volumes: sends name: not in the document": CLIENT,
}
"""What does not fit the official document of August 2026, and why it is right all the same."""


class TestVast(VastContract):
    def test_the_official_document_judges_both_sides(
        self, bench: HttpBench, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """What the adapter sends and what the emulator answers, over the whole life of every kind of object."""
        document = ApiDocument.named("vast.yaml")
        bench.run(_everything(bench))
        if document is None:
            with capsys.disabled():
                print(f"\nvast: {len(bench.emulator.exchanges)} exchanges not judged, {VARIABLE} is not set")
            return

        # Logs are read from a store that is not Vast's.
        judged = [each for each in bench.emulator.exchanges if not each.request.path.startswith("/vast/logs/")]
        assert set(DEVIATIONS) == document.judge(judged, "/vast")


async def _everything(bench: HttpBench) -> None:
    await bench.live_through()
    node = await bench.make(Kind.NODE, spot=True)
    assert isinstance(bench.provider, CanLog)
    assert [line async for line in bench.provider.logs(Kind.NODE, node.remote_id, follow=False, tail=10)]
    await bench.until_gone(Kind.NODE, node.remote_id)
