"""`fly` against its emulator: the contract, and the official document."""

from collections.abc import Mapping

import pytest

from gpuplan.core.desired import Kind
from gpuplan.core.ports import CanLog
from gpuplan.testing.contracts.fly import FlyContract
from gpuplan.testing.http_bench import HttpBench
from tests.conformance.api_documents import VARIABLE, ApiDocument

NO_ERRORS = "the document tells errors of few calls; this is how clients know them"
DEVIATIONS: Mapping[str, str] = {
    "DELETE /apps/{app_name}/machines/{machine_id}: answers 400: not in the document": NO_ERRORS,
    "DELETE /apps/{app_name}/volumes/{volume_id}: answers 404: not in the document": NO_ERRORS,
    "GET /apps/{app_name}: answers 404: not in the document": NO_ERRORS,
}
"""What does not fit the official document of May 2026, and why it is right all the same."""


class TestFly(FlyContract):
    @pytest.mark.parametrize(
        ("organization", "names_users", "is_one"),
        [("personal", True, False), ("personal", False, False), ("acme", False, True)],
    )
    def test_everyones_own_organisation_goes_by_the_same_slug(
        self, bench: HttpBench, organization: str, names_users: bool, is_one: bool
    ) -> None:
        endpoint = f"{bench.emulator.url}/fly"
        bench.emulator.knobs("fly", {"organizations": organization, "tokens_name_users": names_users})
        keys = ("key-of-one", "key-of-one", "key-of-two")
        opened = [bench.open({"endpoint": endpoint, "key": key}) for key in keys]

        async def ids() -> None:
            told = [(await account.health()).id for account in opened]
            assert told[0] == told[1]
            assert is_one == (told[1] == told[2])

        bench.run(ids())

    def test_the_official_document_judges_both_sides(
        self, bench: HttpBench, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """What the adapter sends and what the emulator answers, over the whole life of every kind of object."""
        document = ApiDocument.named("fly.json")
        bench.run(_everything(bench))
        if document is None:
            with capsys.disabled():
                print(f"\nfly: {len(bench.emulator.exchanges)} exchanges not judged, {VARIABLE} is not set")
            return

        # Logs are not of this API.
        judged = [each for each in bench.emulator.exchanges if not each.request.path.startswith("/fly/@api/")]
        assert set(DEVIATIONS) == document.judge(judged, "/fly/v1")


async def _everything(bench: HttpBench) -> None:
    """All that the checks of the contract do not come by: mounts, keys, files, labels alone, a second version, logs."""
    await bench.live_through()
    volume = await bench.make(Kind.VOLUME)
    node = await bench.make(
        Kind.NODE,
        volumes=[{"volume": volume.remote_id, "mount": "/data"}],
        ssh_keys=["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGpBYoKqHmF3jr7xkmI9YvNMM2bIXcSJ8vMfQ2vFKq1t ana"],
        options={"swap_mb": 512, "persist_disk": "restart", "secret_files": {"/etc/token": "TOKEN"}},
    )
    assert isinstance(bench.provider, CanLog)
    assert [line async for line in bench.provider.logs(Kind.NODE, node.remote_id, follow=False, tail=10)]
    for made in reversed(list(bench.made.values())):
        await bench.until_gone(made.kind, made.remote_id)
