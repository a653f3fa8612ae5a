"""Real time, and the two things that must differ at every call. The only module that asks the system for either."""

import asyncio
import random
import secrets
import string
import time
from base64 import b32encode
from datetime import UTC, datetime, timedelta


class SystemClock:
    """A `core.ports.Clock`."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def token(self) -> str:
        # A letter first: many providers use the token in names that may not begin with a digit.
        first, rest = secrets.randbelow(26), secrets.token_bytes(12)
        return string.ascii_lowercase[first] + b32encode(rest).decode().lower()[:19]

    def jitter(self) -> float:
        return random.random()


class ScaledClock(SystemClock):
    """Real time, faster or slower: at `start` when it is made, and `speed` seconds a second from then on.

    For work against an emulator whose time goes so: whoever waits there waits by the emulator's clock.
    """

    def __init__(self, start: datetime, speed: float) -> None:
        self._start = start
        self._speed = speed
        self._began = time.monotonic()

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return (time.monotonic() - self._began) * self._speed

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self._speed)
