"""The Kubernetes backend keeps the promises of all, on the emulator's API server with its Secrets and Leases."""

import json
import random
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gpuplan.core.errors import StateCorrupt
from gpuplan.core.state import OutputsSet
from gpuplan.state.backends.kubernetes_objects import PIECE_BYTES, Naming, content_of
from gpuplan.state.registry import Opening, place_of_url
from gpuplan.state.session import Session, read_state
from gpuplan.testing.backend_place import PlaceClock
from gpuplan.testing.state_samples import PROJECT, asks
from tests.backends.configured import Configured, check_workspaces
from tests.backends.kubeconfig import kubeconfig


class TestKubernetes(Configured):
    @pytest.fixture(autouse=True)
    def served(self, kubernetes: int, tmp_path_factory: pytest.TempPathFactory) -> None:
        self.server = ("127.0.0.1", kubernetes)
        self.config = tmp_path_factory.mktemp("kube") / "config"
        self.ports: set[int] = set()
        self.environ = {"KUBECONFIG": str(self.config)}

    def url(self, folder: Path, port: int) -> str:
        self.ports.add(port)
        self.config.write_text(json.dumps(kubeconfig(self.ports)))
        name = re.sub("[^a-z0-9]", "-", folder.name.lower())[-38:].strip("-")
        return f"kubernetes://default/{name}?context=port-{port}"


@pytest.fixture
def environ(kubernetes: int, tmp_path: Path) -> dict[str, str]:
    config = tmp_path / "config"
    config.write_text(json.dumps(kubeconfig({kubernetes})))
    return {"KUBECONFIG": str(config)}


@pytest.fixture
def clock() -> PlaceClock:
    return PlaceClock(datetime(2026, 1, 1, tzinfo=UTC))


def test_state_beyond_the_size_of_a_secret_is_cut_into_several(environ: dict[str, str], clock: PlaceClock) -> None:
    noise = random.Random(0).randbytes(PIECE_BYTES).hex()

    async def scenario() -> None:
        backend = place_of_url("kubernetes://default/large", environ).open(Opening("default", clock, environ, Path()))
        clock.opened.append(backend)
        session = await Session.open(backend, clock, request=asks(clock), create_project=PROJECT)
        await session.write(OutputsSet({"noise": noise, "again": noise[::-1]}))
        written = await session.commit()
        await session.close()

        assert written == await read_state(backend)

    clock.run(scenario())


def test_pieces_that_do_not_fit_are_damage() -> None:
    naming = Naming("train", "default")
    noise = random.Random(0).randbytes(2 * PIECE_BYTES)
    secrets = naming.secrets("snapshots/1.1.1", noise)

    assert noise == content_of(secrets, "here")
    assert len(secrets) == len({secret["metadata"]["name"] for secret in secrets}) == 3
    for wrong in (secrets[:2], secrets[::-1]):
        with pytest.raises(StateCorrupt):
            content_of(wrong, "here")


def test_workspaces_with_a_state_are_listed(environ: dict[str, str], clock: PlaceClock) -> None:
    clock.run(check_workspaces(place_of_url("kubernetes://default/workspaces", environ), clock, environ))
