"""One server of each kind for all tests of this folder."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from gpuplan.emulators.catalog import emulator_types
from gpuplan.emulators.desk import Desk
from gpuplan.emulators.serve import serving
from gpuplan.emulators.world import World
from gpuplan.net.clock import SystemClock
from tests.backends.http_server import States, http_server
from tests.backends.postgres_server import postgres_server
from tests.backends.s3_server import s3_server


@pytest.fixture(scope="session")
def s3() -> Iterator[int]:
    with s3_server() as port:
        yield port


@pytest.fixture(scope="session")
def postgres() -> Iterator[int]:
    with postgres_server() as port:
        yield port


@pytest.fixture(scope="session")
def http_423() -> Iterator[States]:
    with http_server(refusal=423) as server:
        yield server


@pytest.fixture(scope="session")
def http_409() -> Iterator[States]:
    with http_server(refusal=409) as server:
        yield server


@pytest.fixture(scope="session")
def kubernetes() -> Iterator[int]:
    world = World(SystemClock())
    with serving(Desk(world, emulator_types(["kubernetes"]))) as url:
        port = urlsplit(url).port
        assert port is not None
        yield port
