"""A clock that runs a thousand times as fast as real time, for what happens over real sockets.

A `FakeClock` cannot wait for another process or thread to answer; this one really waits, only not for long. Emulators
that share it boot, bill and limit on the same time.
"""

import asyncio
import random
import time
from datetime import UTC, datetime, timedelta


class HurriedClock:
    """A `core.ports.Clock`. Tokens and jitter are the same in every run with the same seed."""

    def __init__(
        self, *, speed: float = 1000.0, start: datetime = datetime(2026, 1, 1, tzinfo=UTC), seed: int = 0
    ) -> None:
        self._speed = speed
        self._start = start
        self._began = time.monotonic()
        self._tokens = 0
        self._random = random.Random(seed)

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return (time.monotonic() - self._began) * self._speed

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self._speed)  # noqa: TID251  a clock is where sleeping ends

    def token(self) -> str:
        self._tokens += 1
        return f"t{self._tokens:019d}"

    def jitter(self) -> float:
        return self._random.random()
