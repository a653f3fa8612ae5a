"""Questions that change nothing, bounded in time: one adapter that never answers must not hold up all others.

Called by `refresh`, `recover` and `run`, and by whoever in `workflow` asks a provider. Requests have time limits of
their own below; this one is for what has none, and for retries without end.
"""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from gpuplan.core.errors import Failure, Unavailable

READ_SECONDS = 300.0
SECONDS_PER_PAGE = 5.0
"""Added for every page that a listing is known to have."""

T = TypeVar("T")


async def in_time(call: Awaitable[T], *, provider: str, doing: str, pages: int = 0) -> T:
    """What the call returns. Raises Unavailable when it takes too long, in the time of the loop."""
    seconds = READ_SECONDS + pages * SECONDS_PER_PAGE
    try:
        async with asyncio.timeout(seconds):
            return await call
    except TimeoutError as exc:
        raise Unavailable(Failure(provider, doing, facts=(f"no answer in {seconds:.0f} s",))) from exc
