"""Several streams as one, for whoever follows more than one node."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

T = TypeVar("T")


async def merge(streams: Sequence[AsyncIterator[T]]) -> AsyncIterator[T]:
    """Whatever comes next from any of them, until all have ended. The first error ends it, and is raised."""
    queue: asyncio.Queue[T | _End] = asyncio.Queue(maxsize=len(streams) or 1)
    tasks = [asyncio.ensure_future(_pour(stream, queue)) for stream in streams]
    try:
        left = len(tasks)
        while left:
            item = await queue.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                left -= 1
                continue
            yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _End:
    """Of one stream."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


async def _pour(stream: AsyncIterator[T], queue: "asyncio.Queue[T | _End]") -> None:
    try:
        async for item in stream:
            await queue.put(item)
    except Exception as exc:
        # It belongs to whoever reads, whatever it is.
        await queue.put(_End(exc))
    else:
        await queue.put(_End())
