import asyncio
import re
from datetime import UTC, datetime

from gpuplan.net.clock import ScaledClock, SystemClock


def test_tokens_fit_into_names_and_differ() -> None:
    tokens = {SystemClock().token() for _ in range(1000)}

    assert 1000 == len(tokens)
    assert all(re.fullmatch(r"[a-z][a-z0-9]{19}", token) for token in tokens)


def test_jitter_lies_between_nothing_and_one() -> None:
    assert all(0 <= SystemClock().jitter() < 1 for _ in range(100))


def test_it_tells_the_time_in_utc() -> None:
    assert UTC is SystemClock().now().tzinfo


def test_sleeping_takes_time() -> None:
    clock = SystemClock()
    before = clock.monotonic()

    asyncio.run(clock.sleep(0.001))

    assert clock.monotonic() > before


def test_a_scaled_clock_begins_where_it_is_told_and_sleeps_shorter() -> None:
    start = datetime(2030, 1, 1, tzinfo=UTC)
    clock, real = ScaledClock(start, speed=10_000), SystemClock()
    before = real.monotonic()

    asyncio.run(clock.sleep(100))

    assert clock.monotonic() >= 100
    assert 100 <= (clock.now() - start).total_seconds()
    assert real.monotonic() - before < 100
