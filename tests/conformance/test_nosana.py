"""`nosana` against its emulator: the contract, for both ways to it, and what takes a port: logs of jobs that run."""

from collections.abc import Mapping

import pytest

from gpuplan.core.desired import Kind
from gpuplan.core.errors import Conflict
from gpuplan.core.observed import Status
from gpuplan.core.ports import CanExtend, CanLog, CanStop
from gpuplan.testing.contracts.nosana import NosanaContract, NosanaSidecarContract
from gpuplan.testing.http_bench import HttpBench
from tests.conformance.api_documents import VARIABLE, ApiDocument

NULL = "it may be null, says the document beside the types it may have, which its readers take for one of them"
DEVIATIONS: Mapping[str, str] = {
    "POST /api/deployments/create: sends strategy: not in the document": "it is in one of several forms of the body",
    'GET /api/deployments/{deployment}/jobs/{job}: answers $.jobResult: type "object"': NULL,
    "GET /api/deployments/{deployment}/header: parameter includeTime: not in the document": "newer: without it the "
    "proof for a host never grows old",
    "GET /api/jobs/{address}: answers $.benchmarkProcessedAt: "
    'anyOf [{"type": "object", "additionalProperties": false}, {"type": "string"}]': NULL,
}
"""What does not fit the document made from the official client's types, and why it is right all the same."""


class TestNosana(NosanaContract):
    """Its own API."""

    def test_the_host_of_a_job_that_runs_tells_its_log(self, bench: HttpBench) -> None:
        assert ["warming up", "ready"] == _log_of_a_node(bench, 2)

    def test_an_account_that_has_a_name_outlives_its_key(self, bench: HttpBench) -> None:
        async def account(key: str, name: str) -> str:
            endpoint = f"{bench.emulator.url}/nosana/api"
            return (await bench.open({"endpoint": endpoint, "key": key, "account": name}).health()).id

        async def compare() -> None:
            assert await account("key-of-one", "llama") == await account("key-of-two", "llama")
            assert await account("key-of-one", "llama") != await account("key-of-one", "alpaca")

        bench.run(compare())

    def test_the_official_document_judges_both_sides(
        self, bench: HttpBench, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """What the adapter sends and what the emulator answers, over the whole life of a deployment."""
        document = ApiDocument.named("nosana.json")
        bench.run(_everything(bench))
        if document is None:
            with capsys.disabled():
                print(f"\nnosana: {len(bench.emulator.exchanges)} exchanges not judged, {VARIABLE} is not set")
            return
        # Markets and hosts have addresses of their own.
        ours = [each for each in bench.emulator.exchanges if each.request.path.startswith("/nosana/api/")]

        assert set(DEVIATIONS) == document.judge(ours, "/nosana")


class TestNosanaSidecar(NosanaSidecarContract):
    """By a sidecar."""

    def test_a_sidecar_tells_the_log_of_a_job_that_runs_without_words_of_its_own(self, bench: HttpBench) -> None:
        assert ["container started", "warming up", "ready"] == _log_of_a_node(bench, 5)


def _log_of_a_node(bench: HttpBench, tail: int) -> list[str]:
    told: list[str] = []

    async def read() -> None:
        made = await bench.make(Kind.NODE)
        assert isinstance(bench.provider, CanLog)
        told.extend([line async for line in bench.provider.logs(Kind.NODE, made.remote_id, follow=False, tail=tail)])

    bench.run(read())
    return told


async def _everything(bench: HttpBench) -> None:
    """All that the checks of the contract do not come by: a lease, a health check, an ending, logs, refusals."""
    await bench.live_through()
    provider = bench.provider
    assert isinstance(provider, CanExtend)
    assert isinstance(provider, CanStop)
    assert isinstance(provider, CanLog)
    leased = await bench.make(Kind.NODE, options={"lease_hours": 2, "health_path": "/api", "cuda": ["12.8"]})
    assert leased.seen.expires_at is not None
    extended = await provider.extend(Kind.NODE, leased.remote_id, leased.seen.expires_at.replace(year=2027))
    assert extended.expires_at is not None
    assert [line async for line in provider.logs(Kind.NODE, leased.remote_id, follow=False, tail=None)]
    await provider.stop(Kind.NODE, leased.remote_id)
    await bench.until(leased, Status.STOPPED)
    assert [line async for line in provider.logs(Kind.NODE, leased.remote_id, follow=False, tail=None)]
    draft = await bench.send(*bench.ask(Kind.NODE))
    with pytest.raises(Conflict):
        await provider.stop(Kind.NODE, draft.remote_id)
    for made in reversed(list(bench.made.values())):
        await bench.until_gone(made.kind, made.remote_id)
