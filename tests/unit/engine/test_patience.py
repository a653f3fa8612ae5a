import asyncio

import pytest

from gpuplan.core.errors import Failure, OutcomeUnknown, RateLimited, Unavailable
from gpuplan.engine.patience import GRACE_SECONDS, LONGEST_PAUSE_SECONDS, Patience
from gpuplan.testing.clock import FakeClock

BUSY = Unavailable(Failure("here", "create node"))


def test_pauses_grow_but_not_for_ever() -> None:
    clock = FakeClock()
    patience = Patience(clock, seconds=10_000)
    pauses = []

    async def main() -> None:
        for _ in range(60):
            before = clock.monotonic()
            await patience.pause(BUSY)
            pauses.append(clock.monotonic() - before)

    clock.run(main())

    assert max(pauses[:1]) <= 1
    assert max(pauses[:3]) <= 4
    assert max(pauses[3:]) > 4
    assert max(pauses) <= LONGEST_PAUSE_SECONDS


def test_it_waits_as_long_as_the_provider_asks() -> None:
    clock = FakeClock()

    clock.run(Patience(clock, seconds=100).pause(RateLimited(BUSY.failure, retry_after_seconds=50)))

    assert clock.monotonic() >= 50


def test_the_error_is_raised_when_there_is_no_time_for_another_try() -> None:
    clock = FakeClock()

    with pytest.raises(RateLimited):
        clock.run(Patience(clock, seconds=100).pause(RateLimited(BUSY.failure, retry_after_seconds=100)))

    assert 0 == clock.monotonic()


def test_an_answer_that_never_comes_is_an_unknown_outcome() -> None:
    clock = FakeClock()
    patience = Patience(clock, seconds=100)

    with pytest.raises(OutcomeUnknown) as error:
        clock.run(patience.answer(asyncio.sleep(10_000), provider="here", doing="create node"))

    assert 100 + GRACE_SECONDS == clock.monotonic()
    assert ("no answer in 160 s",) == error.value.diagnostics[0].facts
