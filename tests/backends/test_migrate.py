"""A state moves between any two backends and back, and a move that dies at any step is simply repeated."""

import itertools
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from gpuplan.core.errors import StateError, StateMoved
from gpuplan.core.ports import StateBackend
from gpuplan.core.state import State
from gpuplan.net.clock import SystemClock
from gpuplan.state.lock import LEASE
from gpuplan.state.registry import Opening, Place, place_of_url
from gpuplan.state.session import Session, read_state
from gpuplan.testing.backend_place import PlaceClock
from gpuplan.testing.crashes import Crash, CrashingBackend
from gpuplan.testing.state_samples import PROJECT, asks, begun, noted
from gpuplan.workflow.migrating import migrate_state
from gpuplan.workflow.project import Project
from tests.backends import http_server, postgres_server, s3_server
from tests.backends.http_server import States
from tests.backends.kubeconfig import kubeconfig

KINDS = ["file", "s3", "postgres", "http", "kubernetes"]


@pytest.fixture
def environ(kubernetes: int, tmp_path: Path) -> Mapping[str, str]:
    config = tmp_path / "kubeconfig"
    config.write_text(json.dumps(kubeconfig({kubernetes})))
    own = {"KUBECONFIG": str(config)}
    return {**s3_server.ENVIRON, **postgres_server.ENVIRON, **http_server.ENVIRON, **own}


@pytest.fixture
def urls(s3: int, postgres: int, http_423: States) -> Mapping[str, str]:
    name = f"m{uuid4().hex}"
    return {
        "file": "state",
        "s3": f"s3://{s3_server.BUCKET}/{name}?endpoint=http://127.0.0.1:{s3}",
        "postgres": f"postgres://127.0.0.1:{postgres}/postgres/{name}",
        "http": f"http://127.0.0.1:{http_423.server_port}/{name}",
        "kubernetes": f"kubernetes://default/{name}",
    }


class Town:
    """A project, and the places its state may be in."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self.clock = PlaceClock(SystemClock().now())
        self.project = Project(folder, environ=environ)

    def place(self, url: str) -> Place:
        return place_of_url(url, self.project.environ)

    def open(self, place: Place) -> StateBackend:
        backend = place.open(Opening("default", self.clock, self.project.environ, self.project.folder))
        self.clock.opened.append(backend)
        return backend

    async def write(self, place: Place, *numbers: int) -> None:
        """A run that dies before it commits: an open intent and a journal are left."""
        session = await Session.open(self.open(place), self.clock, request=asks(self.clock), create_project=PROJECT)
        await session.write(*(noted(number) for number in numbers), begun(session.next_seq()))
        await session.close()

    async def read(self, place: Place) -> State | None:
        return await read_state(self.open(place))

    async def migrate(self, source: Place, target: Place, *, overwrite: bool = False) -> None:
        await migrate_state(self.project, self.clock, source=source, target=target, overwrite=overwrite)


@pytest.fixture
def town(tmp_path: Path, environ: Mapping[str, str]) -> Town:
    return Town(tmp_path, environ)


@pytest.mark.parametrize(("source", "target"), list(itertools.permutations(KINDS, 2)))
def test_state_moves_there_and_back(town: Town, urls: Mapping[str, str], source: str, target: str) -> None:
    here, there = town.place(urls[source]), town.place(urls[target])

    async def scenario() -> None:
        await town.write(here, 1, 2)
        before = await town.read(here)
        assert before is not None

        await town.migrate(here, there)

        moved = await town.read(there)
        assert replace(before, serial=before.serial + 1) == moved
        with pytest.raises(StateMoved) as caught:
            await town.read(here)
        assert there.url == caught.value.left.moved_to
        await town.write(there, 3)

        await town.migrate(there, here)

        after = await town.read(here)
        assert after is not None
        assert 3 == len(after.instances)
        assert 2 == len(after.intents)
        with pytest.raises(StateMoved):
            await town.read(there)
        assert await town.open(here).holder() is None
        assert await town.open(there).holder() is None

    town.clock.run(scenario())


def dying(place: Place, at: int) -> tuple[Place, list[str]]:
    """The same place, through a process that dies at its durable write number `at`."""
    steps: list[str] = []

    def survives(moment: str) -> None:
        steps.append(moment)
        if len(steps) == at:
            raise Crash

    kind = place.type
    return replace(
        place, type=replace(kind, open=lambda options, opening: CrashingBackend(kind.open(options, opening), survives))
    ), steps


@pytest.mark.parametrize("dies", ["source", "target"])
def test_move_that_dies_at_any_step_is_repeated(town: Town, dies: str) -> None:
    for at in itertools.count(1):
        here, there = town.place(f"here-{at}"), town.place(f"there-{at}")
        town.clock.run(town.write(here, 1, 2))
        before = town.clock.run(town.read(here))
        assert before is not None
        broken, steps = dying(here if dies == "source" else there, at)
        try:
            town.clock.run(town.migrate(broken, there) if dies == "source" else town.migrate(here, broken))
        except Crash:
            town.clock.advance(2 * LEASE.total_seconds())
            places = [place for place in (here, there) if stays(town, place)]
            assert places, f"step {at}"
            if here in places:
                town.clock.run(town.migrate(here, there))
        moved = town.clock.run(town.read(there))
        assert moved is not None
        assert before.instances == moved.instances
        assert before.intents == moved.intents
        assert not stays(town, here)
        if len(steps) < at:
            break


def stays(town: Town, place: Place) -> bool:
    """Whether the state is there."""
    try:
        return town.clock.run(town.read(place)) is not None
    except StateMoved:
        return False


def test_another_state_is_not_overwritten(town: Town) -> None:
    here, there = town.place("here"), town.place("there")

    async def scenario() -> None:
        await town.write(here, 1)
        await town.write(there, 2)
        other = await town.read(there)
        for overwrite in (False, True):
            with pytest.raises(StateError, match="holds another state"):
                await town.migrate(here, there, overwrite=overwrite)
        assert other == await town.read(there)

    town.clock.run(scenario())


def test_older_copy_is_overwritten_only_when_asked(town: Town) -> None:
    here, there = town.place("here"), town.place("there")

    async def scenario() -> None:
        await town.write(here, 1)
        await town.migrate(here, there)
        await town.migrate(there, here)
        held = await town.open(there).lock(asks(town.clock))
        backend = town.open(there)
        await backend.discard(held=held)
        old = await town.read(here)
        assert old is not None
        await backend.commit(old, held=held)
        await backend.unlock(held)
        await town.write(here, 2)

        with pytest.raises(StateError, match="holds this state already"):
            await town.migrate(here, there)
        await town.migrate(here, there, overwrite=True)
        moved = await town.read(there)
        assert moved is not None
        assert 2 == len(moved.instances)

    town.clock.run(scenario())


@pytest.mark.parametrize(
    ("source", "target", "message"), [("here", "there", "no state in"), ("here", "here", "already")]
)
def test_nothing_to_move_is_told(town: Town, source: str, target: str, message: str) -> None:
    with pytest.raises(StateError, match=message):
        town.clock.run(town.migrate(town.place(source), town.place(target)))
