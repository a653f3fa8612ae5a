"""The one place where blocking work leaves the event loop: adapters for local files, processes and blocking SDKs."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def run_blocking(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `work` in a thread and return what it returns.

    A cancelled caller leaves at once; the thread finishes what it began, so `work` must be safe to abandon.
    """
    return await asyncio.to_thread(work, *args, **kwargs)
