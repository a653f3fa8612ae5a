"""A clock that runs a thousand times as fast as real time, for what happens over real sockets.

A `FakeClock` cannot wait for another process or thread to answer; this one really waits, only not for long. Emulators
that share it boot, bill and limit on the same time.
"""

import random
from datetime import UTC, datetime

from gpuplan.net.clock import ScaledClock


class HurriedClock(ScaledClock):
    """A `core.ports.Clock`. Tokens and jitter are the same in every run with the same seed."""

    def __init__(
        self, *, speed: float = 1000.0, start: datetime = datetime(2026, 1, 1, tzinfo=UTC), seed: int = 0
    ) -> None:
        super().__init__(start, speed)
        self._tokens = 0
        self._random = random.Random(seed)

    def token(self) -> str:
        self._tokens += 1
        return f"t{self._tokens:019d}"

    def jitter(self) -> float:
        return self._random.random()
