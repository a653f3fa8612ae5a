"""How long an operation keeps asking, and how long it pauses in between.

Called by every operation that sends something.
"""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from gpuplan.core.errors import Failure, OutcomeUnknown, ProviderError, RateLimited
from gpuplan.core.ports import Clock

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
GRACE_SECONDS = 60.0
"""An answer that is on its way may come this long after the deadline; what comes later is lost."""

T = TypeVar("T")


class Patience:
    """Full-jitter exponential backoff until a deadline. One per operation."""

    def __init__(self, clock: Clock, *, seconds: float) -> None:
        self._clock = clock
        self._bound = FIRST_PAUSE_SECONDS
        self.deadline = clock.monotonic() + seconds
        """In the clock's monotonic time."""

    async def answer(self, call: Awaitable[T], *, provider: str, doing: str) -> T:
        """What a call returns. An adapter that never answers must not hold up the run: that is OutcomeUnknown."""
        left = max(0.0, self.deadline - self._clock.monotonic()) + GRACE_SECONDS
        try:
            async with asyncio.timeout(left):
                return await call
        except TimeoutError as exc:
            raise OutcomeUnknown(Failure(provider, doing, facts=(f"no answer in {left:.0f} s",))) from exc

    async def pause(self, error: ProviderError) -> None:
        """Wait before the next try, or raise `error` if there is no time for one."""
        pause = self._clock.jitter() * self._bound
        if isinstance(error, RateLimited) and error.retry_after_seconds is not None:
            pause += error.retry_after_seconds
        self._bound = min(self._bound * 2, LONGEST_PAUSE_SECONDS)
        if self._clock.monotonic() + pause >= self.deadline:
            raise error
        await self._clock.sleep(pause)
