"""Several streams as one."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gpuplan.net.merging import merge
from gpuplan.testing.clock import FakeClock


def merged(*streams: AsyncIterator[str], until: int = 99) -> list[str]:
    async def main() -> list[str]:
        found: list[str] = []
        async for item in merge(streams):
            found.append(item)
            if len(found) == until:
                break
        return found

    return FakeClock().run(main())


async def every(seconds: float, *items: str) -> AsyncIterator[str]:
    for item in items:
        await asyncio.sleep(seconds)
        yield item


async def broken() -> AsyncIterator[str]:
    yield "last words"
    raise ConnectionError("it broke")


def test_whatever_comes_first_is_told_first() -> None:
    assert ["a", "x", "b", "c", "y"] == merged(every(2, "a", "b", "c"), every(3.5, "x", "y"))


def test_one_that_ends_does_not_end_the_others() -> None:
    assert ["x", "a", "b"] == merged(every(5, "a", "b"), every(1, "x"))
    assert [] == merged()


def test_an_error_of_one_is_raised() -> None:
    with pytest.raises(ConnectionError):
        merged(broken(), every(1, "a"))


def test_who_stops_listening_ends_them_all() -> None:
    ended: list[str] = []

    async def told() -> AsyncIterator[str]:
        try:
            while True:
                await asyncio.sleep(1)
                yield "tick"
        finally:
            ended.append("ended")

    async def main() -> None:
        stream = merge([told(), told()])
        await anext(stream)
        await stream.aclose()

    FakeClock().run(main())

    assert ["ended", "ended"] == ended
