"""The HTTP backend keeps the promises of all, on a server whose faithfulness Terraform judges."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gpuplan.core.errors import StateCorrupt, StateError, StateLocked
from gpuplan.core.ports import StateBackend
from gpuplan.state.backends.http import BACKEND
from gpuplan.state.registry import Opening, place_of_url
from gpuplan.testing.backend_place import PlaceClock
from gpuplan.testing.state_samples import asks
from tests.backends.configured import Configured
from tests.backends.http_server import ENVIRON, FOREIGN_LOCK, States, http_server


class HttpPlace(Configured):
    environ = ENVIRON
    keeps = 0

    def url(self, folder: Path, port: int) -> str:
        return f"http://127.0.0.1:{port}/{folder.name}"


class TestServerThatAnswers423(HttpPlace):
    @pytest.fixture(autouse=True)
    def served(self, http_423: States) -> None:
        self.server = ("127.0.0.1", http_423.server_port)


class TestServerThatAnswers409(HttpPlace):
    @pytest.fixture(autouse=True)
    def served(self, http_409: States) -> None:
        self.server = ("127.0.0.1", http_409.server_port)


def opened(server: States, folder: Path, clock: PlaceClock, name: str = "state") -> StateBackend:
    place = place_of_url(f"http://127.0.0.1:{server.server_port}/{name}", ENVIRON)
    backend = place.open(Opening("default", clock, ENVIRON, folder))
    clock.opened.append(backend)
    return backend


@pytest.fixture
def clock() -> PlaceClock:
    return PlaceClock(datetime(2026, 1, 1, tzinfo=UTC))


def test_lock_of_another_program_is_never_taken_over(tmp_path: Path, clock: PlaceClock) -> None:
    with http_server() as server:
        server.locks["/state"] = json.dumps(FOREIGN_LOCK).encode()
        clock.advance(10**7)

        async def scenario() -> None:
            backend = opened(server, tmp_path, clock)
            with pytest.raises(StateLocked, match="`OperationTypeApply` of ana@laptop holds the state"):
                await backend.lock(asks(clock))
            await backend.break_lock(FOREIGN_LOCK["ID"])
            await backend.unlock(await backend.lock(asks(clock)))

        clock.run(scenario())
        assert {} == server.locks


def test_state_of_terraform_stays_untouched(tmp_path: Path, clock: PlaceClock) -> None:
    with http_server() as server:
        server.documents["/state"] = terraforms = b'{"version": 4, "serial": 7, "lineage": "x", "resources": []}'

        async def scenario() -> None:
            backend = opened(server, tmp_path, clock)
            with pytest.raises(StateCorrupt, match="does not verify"):
                await backend.lock(asks(clock))

        clock.run(scenario())
        assert {"/state": terraforms} == server.documents
        assert {} == server.locks


def test_server_that_does_not_compare_ids_is_refused_before_anything_begins(tmp_path: Path, clock: PlaceClock) -> None:
    with http_server(guarded=False) as server:

        async def scenario() -> None:
            backend = opened(server, tmp_path, clock)
            with pytest.raises(StateError) as caught:
                await backend.lock(asks(clock))
            assert "state-refused" == caught.value.diagnostics[0].id

        clock.run(scenario())
        assert {} == server.locks


def test_another_workspace_needs_a_place_in_the_address(tmp_path: Path, clock: PlaceClock) -> None:
    one = place_of_url("http://127.0.0.1:1/state", {})
    with pytest.raises(StateError, match="refused"):
        one.open(Opening("staging", clock, {}, tmp_path))

    each = place_of_url("http://127.0.0.1:1/states/{workspace}", {})
    backend = each.open(Opening("staging", clock, {}, tmp_path))
    assert "http://127.0.0.1:1/states/staging" == backend.location
    clock.run(backend.close())


def test_address_comes_from_the_environment_where_the_spec_names_none() -> None:
    assert {"address": "https://states/x", "lock_method": "PUT"} == BACKEND.environ(
        {"GPUPLAN_HTTP_ADDRESS": "https://states/x", "GPUPLAN_HTTP_LOCK_METHOD": "PUT", "GPUPLAN_HTTP_PASSWORD": "s"}
    )
