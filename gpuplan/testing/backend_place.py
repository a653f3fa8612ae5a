"""Where the checks of a state backend happen: what a kit for it inherits first."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, TypeAlias, TypeVar

import pytest

from gpuplan.core.ports import Clock, StateBackend
from gpuplan.net.virtual_clock import VirtualClock

T = TypeVar("T")

Place: TypeAlias = Callable[[Clock], StateBackend]


class PlaceClock(VirtualClock):
    """A clock that leases are held against: `advance` skips ahead, and while anyone waits for a socket it goes as real
    time does. Each `run` closes the handles that were opened in it."""

    def __init__(self, start: datetime) -> None:
        super().__init__(start)
        self.opened: list[StateBackend] = []

    def run(self, main: Coroutine[Any, Any, T]) -> T:  # whatever the event loop sends in between
        async def closing() -> T:
            try:
                return await main
            finally:
                while self.opened:
                    await self.opened.pop().close()

        return super().run(closing())


class BackendPlace(ABC):
    """Inherit, and say how to open the place."""

    keeps: ClassVar[int] = 10
    """How many earlier snapshots stay."""

    @abstractmethod
    def open_place(self, folder: Path) -> AbstractContextManager[Place]:
        """A place that holds nothing yet; `folder` is empty and private to the check."""

    @pytest.fixture
    def clock(self) -> PlaceClock:
        return PlaceClock(datetime(2026, 1, 1, tzinfo=UTC))

    @pytest.fixture
    def place(self, tmp_path: Path) -> Iterator[Place]:
        with self.open_place(tmp_path) as place:
            yield lambda clock: _opened(place, clock)


def _opened(place: Place, clock: Clock) -> StateBackend:
    backend = place(clock)
    if isinstance(clock, PlaceClock):
        clock.opened.append(backend)
    return backend
