"""Every built-in state backend keeps the promises of all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gpuplan.state.backends.local import LocalBackend
from gpuplan.state.backends.memory import MemoryBackend, MemoryStore
from gpuplan.testing.backend_conformance import BackendConformance
from gpuplan.testing.backend_place import Place
from gpuplan.testing.durable_conformance import DurableBackendConformance


class TestLocal(DurableBackendConformance):
    @contextmanager
    def open_place(self, folder: Path) -> Iterator[Place]:
        yield lambda clock: LocalBackend(folder / "state", "default", clock)

    def source(self, folder: Path) -> str:
        return f"""\
from pathlib import Path
from gpuplan.state.backends.local import LocalBackend
backend = LocalBackend(Path({str(folder / "state")!r}), "default", clock)"""


class TestMemory(BackendConformance):
    @contextmanager
    def open_place(self, folder: Path) -> Iterator[Place]:
        store = MemoryStore()
        yield lambda clock: MemoryBackend(clock, store)
