"""Several calls at once, none of which outlives the others."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def together(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Their results in order. The first exception ends them all and is raised as it is, not in a group."""
    waiting = list(works)
    if len(waiting) == 1:
        return [await waiting[0]]
    tasks = [asyncio.ensure_future(work) for work in waiting]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        # Also when cancelled: a call that nobody awaits could still change something.
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        raise
