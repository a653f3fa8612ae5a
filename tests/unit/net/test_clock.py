import asyncio
import re
from datetime import UTC

from gpuplan.net.clock import SystemClock


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
