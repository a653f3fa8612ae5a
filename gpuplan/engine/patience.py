"""How long an operation keeps asking, and how long it pauses in between.

Called by every operation that sends something.
"""

from gpuplan.core.errors import ProviderError, RateLimited
from gpuplan.core.ports import Clock
from gpuplan.engine.outcome import Stop

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0


class Patience:
    """Full-jitter exponential backoff until a deadline. One per operation."""

    def __init__(self, clock: Clock, stop: Stop, *, seconds: float) -> None:
        self._clock = clock
        self._stop = stop
        self._bound = FIRST_PAUSE_SECONDS
        self.deadline = clock.monotonic() + seconds
        """In the clock's monotonic time."""

    async def pause(self, error: ProviderError) -> None:
        """Wait before the next try, or raise `error` if there is no time for one or nothing new may start."""
        pause = self._clock.jitter() * self._bound
        if isinstance(error, RateLimited) and error.retry_after_seconds is not None:
            pause += error.retry_after_seconds
        self._bound = min(self._bound * 2, LONGEST_PAUSE_SECONDS)
        if self._stop.requested or self._clock.monotonic() + pause >= self.deadline:
            raise error
        await self._clock.sleep(pause)
