import asyncio
import socket
import threading

import pytest

from gpuplan.testing.clock import FakeClock


def test_hours_pass_at_once_and_in_order() -> None:
    clock = FakeClock()
    woken: list[tuple[str, float]] = []

    async def sleep(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((name, clock.monotonic()))

    async def main() -> None:
        await asyncio.gather(sleep("late", 3600), sleep("early", 5), sleep("never mind", 0))

    clock.run(main())

    assert [("never mind", 0.0), ("early", 5.0), ("late", 3600.0)] == woken


def test_time_goes_on_from_one_run_to_the_next() -> None:
    clock = FakeClock()

    clock.run(clock.sleep(10))
    clock.advance(5)
    clock.run(clock.sleep(10))

    assert 25 == clock.monotonic()
    assert 25 == (clock.now() - FakeClock().now()).total_seconds()


def test_timeouts_of_the_event_loop_obey_it() -> None:
    clock = FakeClock()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(500):
                await asyncio.Event().wait()

    clock.run(main())

    assert 500 == clock.monotonic()


def test_it_stands_still_while_a_thread_works() -> None:
    clock = FakeClock()
    release = threading.Event()

    async def main() -> None:
        async def timer() -> None:
            await clock.sleep(1)

        work = asyncio.create_task(asyncio.to_thread(release.wait, 10))
        waiting = asyncio.create_task(timer())
        await asyncio.sleep(0)
        threading.Timer(0.02, release.set).start()
        await work
        assert 0 == clock.monotonic()
        await waiting

    clock.run(main())


def test_a_socket_gets_its_answer_before_time_moves() -> None:
    clock = FakeClock()
    here, there = socket.socketpair()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        here.setblocking(False)
        answering = threading.Thread(target=lambda: there.sendall(b"hello"))
        answering.start()
        async with asyncio.timeout(1):
            assert b"hello" == await loop.sock_recv(here, 5)
        answering.join()

    with here, there:
        clock.run(main())

    assert 0 == clock.monotonic()


def test_waiting_for_nothing_is_an_error_instead_of_for_ever() -> None:
    with pytest.raises(RuntimeError, match="nothing will ever happen"):
        FakeClock().run(asyncio.Event().wait())


def test_it_does_not_sleep_outside_of_its_own_loop() -> None:
    with pytest.raises(RuntimeError, match=r"FakeClock\.run"):
        asyncio.run(FakeClock().sleep(1))


def test_tokens_are_fresh_and_the_same_in_every_run() -> None:
    first, second = FakeClock(), FakeClock()

    assert [first.token(), first.token()] == [second.token(), second.token()]
    assert first.token() != first.token()
    assert 20 == len(first.token())
    assert first.jitter() == second.jitter()
