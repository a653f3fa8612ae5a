"""`akash` against its emulator: the contract, for both ways to it, the official document, what needs a real port."""

from collections.abc import Mapping
from datetime import timedelta

import pytest

from gpuplan.core.desired import Kind
from gpuplan.core.observed import Status
from gpuplan.core.ports import CanAdvance, CanExtend, CanLog
from gpuplan.testing.contracts.akash import AkashContract, AkashSidecarContract
from gpuplan.testing.http_bench import HttpBench
from tests.conformance.api_documents import VARIABLE, ApiDocument

DEVIATIONS: Mapping[str, str] = {}
"""What does not fit the official document, and why it is right all the same."""


class TestAkash(AkashContract):
    """The Console's API."""

    def test_the_official_document_judges_both_sides_once_its_pattern_of_numbers_is_mended(
        self, bench: HttpBench, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """What the adapter sends and what the emulator answers, over the whole life of a node."""
        document = ApiDocument.named("akash.json", mended={"^d+$": r"^\d+$"})
        bench.run(_everything(bench))
        if document is None:
            with capsys.disabled():
                print(f"\nakash: {len(bench.emulator.exchanges)} exchanges not judged, {VARIABLE} is not set")
            return
        exchanges = [each for each in bench.emulator.exchanges if each.request.path.startswith("/akash/v1/")]

        assert exchanges
        assert set(DEVIATIONS) == document.judge(exchanges, "/akash")

    def test_an_image_that_cannot_be_pulled_shows_in_events_alone(self, bench: HttpBench) -> None:
        async def story() -> None:
            made = await bench.send(*bench.ask(Kind.NODE, image="acme/no-such-image:1"))
            assert isinstance(bench.provider, CanAdvance)
            seen = made.seen
            told = set()
            for _ in range(12):
                await bench.clock.sleep(20)
                looked = await bench.provider.get(Kind.NODE, seen.remote_id)
                assert looked is not None
                seen = await bench.provider.advance(made.want, made.mark, looked, {})
                told.add(seen.detail)

            assert Status.STARTING is seen.status
            assert "ErrImagePull: manifest unknown" in told

        bench.run(story())

    def test_a_log_is_followed_through_the_proxy_of_the_console_without_the_key(self, bench: HttpBench) -> None:
        async def story() -> None:
            made = await bench.make(Kind.NODE)
            assert isinstance(bench.provider, CanLog)
            logs = bench.provider.logs(Kind.NODE, made.remote_id, follow=True, tail=2)
            lines = [await anext(logs), await anext(logs)]

            assert ["sshd listening on 22", "ready"] == lines

        bench.run(story())
        asked = [each.request for each in bench.emulator.exchanges if each.request.path.startswith("/akash/@proxy")]
        assert asked
        assert not any("x-api-key" in request.headers for request in asked)


class TestAkashSidecar(AkashSidecarContract):
    """A sidecar."""


async def _everything(bench: HttpBench) -> None:
    """The life of a node, and what it does not come by: a longer lease, a listing of strangers."""
    await bench.live_through()
    made = await bench.make(Kind.NODE)
    assert isinstance(bench.provider, CanExtend)
    assert made.seen.expires_at is not None
    await bench.provider.extend(Kind.NODE, made.remote_id, made.seen.expires_at + timedelta(hours=3))
    await bench.listed(Kind.NODE)
    await bench.provider.list(Kind.NODE, frozenset())
    await bench.until_gone(Kind.NODE, made.remote_id)
