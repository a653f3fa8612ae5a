import asyncio

import pytest

from gpuplan.engine.slots import Slots
from gpuplan.testing.clock import FakeClock


def slots(parallelism: int, freed: list[int] | None = None, **limits: int) -> Slots:
    record = [] if freed is None else freed
    return Slots(parallelism, lambda provider: limits.get(provider, 99), lambda: record.append(1))


def test_both_limits_count() -> None:
    places = slots(2, a=1)
    places.take("a")

    assert not places.has_room("a")
    assert places.has_room("b")
    places.take("b")
    assert not places.has_room("b")


def test_a_place_that_is_given_back_can_be_taken_again() -> None:
    freed: list[int] = []
    places = slots(1, freed)
    places.take("a")

    places.give_back("a")

    assert places.has_room("a")
    assert [1] == freed


def test_whoever_rests_leaves_the_place_to_others() -> None:
    places = slots(1)

    async def main() -> None:
        places.take("a")
        async with places.resting("a"):
            assert places.has_room("b")
        assert not places.has_room("b")

    FakeClock().run(main())


def test_whoever_comes_back_goes_before_who_has_not_begun() -> None:
    clock, freed = FakeClock(), list[int]()
    places = slots(1, freed)

    async def resting() -> None:
        places.take("a")
        async with places.resting("a"):
            await clock.sleep(1)

    async def main() -> None:
        task = asyncio.create_task(resting())
        await clock.sleep(0.5)
        places.take("b")
        await clock.sleep(1)
        assert not task.done()
        freed.clear()
        places.give_back("b")
        await task

    clock.run(main())

    assert [] == freed
    assert not places.has_room("a")


def test_a_failure_while_resting_comes_back_too() -> None:
    places = slots(1)

    async def main() -> None:
        places.take("a")
        async with places.resting("a"):
            raise ValueError

    with pytest.raises(ValueError):
        FakeClock().run(main())
    assert not places.has_room("a")


def test_who_was_cancelled_does_not_come_back() -> None:
    clock = FakeClock()
    places = slots(1)

    async def resting() -> None:
        places.take("a")
        async with places.resting("a"):
            await clock.sleep(100)

    async def main() -> None:
        task = asyncio.create_task(resting())
        await clock.sleep(1)
        task.cancel()
        await asyncio.wait({task})

    clock.run(main())

    assert places.has_room("a")


def test_a_full_provider_does_not_hold_up_who_comes_back_elsewhere() -> None:
    clock = FakeClock()
    places = slots(3, a=1)

    async def resting(provider: str) -> None:
        places.take(provider)
        async with places.resting(provider):
            await clock.sleep(1)
        places.give_back(provider)

    async def main() -> None:
        first = asyncio.create_task(resting("a"))
        second = asyncio.create_task(resting("b"))
        await clock.sleep(0.5)
        places.take("a")
        await clock.sleep(1)
        assert not first.done()
        assert second.done()
        places.give_back("a")
        await first

    clock.run(main())
