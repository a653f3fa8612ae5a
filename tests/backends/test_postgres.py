"""The PostgreSQL backend keeps the promises of all, on a real server."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gpuplan.core.errors import StateError
from gpuplan.state.registry import Opening, place_of_url
from gpuplan.testing.backend_place import PlaceClock
from tests.backends.configured import Configured, check_workspaces
from tests.backends.postgres_server import ENVIRON


class TestPostgres(Configured):
    environ = ENVIRON

    @pytest.fixture(autouse=True)
    def served(self, postgres: int) -> None:
        self.server = ("127.0.0.1", postgres)

    def url(self, folder: Path, port: int) -> str:
        schema = re.sub("[^a-z0-9]", "_", folder.name.lower())
        return f"postgres://127.0.0.1:{port}/postgres/s_{schema[-60:]}"


@pytest.fixture
def clock() -> PlaceClock:
    return PlaceClock(datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("database", "environ"), [("nowhere", ENVIRON), ("postgres", {**ENVIRON, "PGPASSWORD": "another"})]
)
def test_what_the_server_refuses_is_told_without_the_password(
    postgres: int, clock: PlaceClock, database: str, environ: Mapping[str, str]
) -> None:
    place = place_of_url(f"postgres://127.0.0.1:{postgres}/{database}/refusals", environ)
    backend = place.open(Opening("default", clock, environ, Path()))

    with pytest.raises(StateError) as caught:
        clock.run(backend.load())

    assert "state-refused" == caught.value.diagnostics[0].id
    assert environ["PGPASSWORD"] not in str(caught.value.diagnostics)


def test_server_that_is_not_there_is_unreachable(clock: PlaceClock) -> None:
    place = place_of_url("postgres://127.0.0.1:1/postgres/nowhere?timeout=1", ENVIRON)

    with pytest.raises(StateError, match="did not answer"):
        clock.run(place.open(Opening("default", clock, ENVIRON, Path())).load())


def test_workspaces_with_a_state_are_listed(postgres: int, clock: PlaceClock) -> None:
    place = place_of_url(f"postgres://127.0.0.1:{postgres}/postgres/workspaces", ENVIRON)

    clock.run(check_workspaces(place, clock, ENVIRON))
