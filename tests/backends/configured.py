"""A backend of any type by its URL, for the suites that every type passes."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from gpuplan.core.ports import Clock, StateBackend
from gpuplan.state.registry import Opening, Place, place_of_url
from gpuplan.testing.backend_place import Place as Handles
from gpuplan.testing.backend_place import PlaceClock
from gpuplan.testing.network_conformance import NetworkBackendConformance
from gpuplan.testing.state_samples import asks, fresh

IMPATIENT = "timeout=0.25"


class Configured(NetworkBackendConformance):
    """Inherit, and say which server, URL and environment."""

    environ: Mapping[str, str] = {}

    @abstractmethod
    def url(self, folder: Path, port: int) -> str:
        """Of a place that belongs to this folder, with the server at that port."""

    @contextmanager
    def open_place(self, folder: Path) -> Iterator[Handles]:
        yield self._place(self.url(folder, self.server[1]))

    def source(self, folder: Path) -> str:
        return self._source(self.url(folder, self.server[1]))

    def through(self, folder: Path, port: int) -> Handles:
        return self._place(_impatient(self.url(folder, port)))

    def source_through(self, folder: Path, port: int) -> str:
        return self._source(_impatient(self.url(folder, port)))

    def _place(self, url: str) -> Handles:
        def opened(clock: Clock) -> StateBackend:
            return place_of_url(url, self.environ).open(Opening("default", clock, self.environ, Path()))

        return opened

    def _source(self, url: str) -> str:
        return f"""\
from pathlib import Path
from gpuplan.state.registry import Opening, place_of_url
place = place_of_url({url!r}, {dict(self.environ)!r})
backend = place.open(Opening("default", clock, {dict(self.environ)!r}, Path()))"""


def _impatient(url: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}{IMPATIENT}"


async def check_workspaces(place: Place, clock: PlaceClock, environ: Mapping[str, str]) -> None:
    """Those that have a state are listed, those that had one are not."""

    def opened(name: str) -> Opening:
        return Opening(name, clock, environ, Path())

    assert () == await place.workspaces(opened("default"))
    for name in ("default", "Staging_2", "gone"):
        backend = place.open(opened(name))
        clock.opened.append(backend)
        held = await backend.lock(asks(clock))
        await backend.commit(fresh(), held=held)
        if name == "gone":
            await backend.discard(held=held)
        await backend.unlock(held)
    assert ("Staging_2", "default") == await place.workspaces(opened("default"))
