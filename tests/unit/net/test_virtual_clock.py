import asyncio
import socket
from datetime import UTC, datetime

from gpuplan.net.clock import SystemClock
from gpuplan.net.virtual_clock import VirtualClock

START = datetime(2026, 1, 1, tzinfo=UTC)


def test_it_jumps_where_nothing_holds_it() -> None:
    clock, real = VirtualClock(START), SystemClock()
    before = real.monotonic()

    clock.run(clock.sleep(86_400))

    assert 86_400 == clock.monotonic()
    assert real.monotonic() - before < 60


def test_it_goes_as_fast_as_it_is_told() -> None:
    clock, real = VirtualClock(START, speed=1_000), SystemClock()
    before = real.monotonic()

    clock.run(clock.sleep(50))

    assert 50 == clock.monotonic()
    assert real.monotonic() - before >= 0.05


def test_it_goes_as_real_time_does_while_somebody_may_answer_on_a_socket() -> None:
    clock, real = VirtualClock(START), SystemClock()
    ours, its = socket.socketpair()
    before = real.monotonic()

    async def wait_for_an_answer() -> None:
        reader, writer = await asyncio.open_connection(sock=ours)
        answer = asyncio.create_task(reader.read())
        await clock.sleep(0.05)
        its.close()
        await answer
        writer.close()

    clock.run(wait_for_an_answer())

    assert clock.monotonic() >= 0.05
    assert real.monotonic() - before >= 0.05
