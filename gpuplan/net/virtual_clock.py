"""A clock that moves only while everyone waits: hours pass in no time, in the same order every time.

    clock = VirtualClock(datetime.now(UTC))
    clock.run(apply(..., clock=clock))

Inside `run` the event loop itself lives in virtual time, so that `asyncio.timeout` obeys the clock too. Rehearsals run
on it, and tests on `testing.clock.FakeClock`.
"""

import asyncio
import random
import selectors
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Executor
from datetime import datetime, timedelta
from math import inf
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Args = TypeVarTuple("Args")


class VirtualClock:
    """A `core.ports.Clock`. Tokens and jitter are the same in every run with the same seed.

    Work in other threads holds it still. While sockets are open it goes as real time does, so that whoever answers
    there is given the time; with `socket_patience_seconds` it waits no longer than that before it moves on. `speed` is
    how fast it goes where nothing holds it: without end, it jumps.
    """

    def __init__(
        self, start: datetime, *, seed: int = 0, speed: float = inf, socket_patience_seconds: float | None = None
    ) -> None:
        self._start = start
        self._seconds = 0.0
        self._tokens = 0
        self._random = random.Random(seed)
        self.speed = speed
        self.socket_patience_seconds = socket_patience_seconds

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._seconds)

    def monotonic(self) -> float:
        return self._seconds

    def advance(self, seconds: float) -> None:
        """Let time pass while nothing runs."""
        self._seconds += seconds

    async def sleep(self, seconds: float) -> None:
        if not isinstance(asyncio.get_running_loop(), VirtualLoop):
            raise RuntimeError(f"a virtual clock only moves inside {type(self).__name__}.run")
        await asyncio.sleep(seconds)  # noqa: TID251  the loop's time is this clock's

    def token(self) -> str:
        self._tokens += 1
        return f"t{self._tokens:019d}"

    def jitter(self) -> float:
        return self._random.random()

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Like `asyncio.run`, in this clock's time. Raises RuntimeError when every task waits and none sleeps."""
        with asyncio.Runner(loop_factory=lambda: VirtualLoop(self)) as runner:
            return runner.run(main)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is the clock's."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._virtual = _VirtualSelector(clock)
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._clock.monotonic()

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Args], T], *args: *Args
    ) -> "asyncio.Future[T]":
        future = super().run_in_executor(executor, func, *args)
        self._virtual.threads += 1
        future.add_done_callback(self._thread_is_back)
        return future

    def _thread_is_back(self, future: "asyncio.Future[T]") -> None:
        self._virtual.threads -= 1

    async def shutdown_default_executor(self, *args: Any) -> None:
        # It waits for a thread of its own.
        self._virtual.threads += 1
        try:
            await super().shutdown_default_executor(*args)
        finally:
            self._virtual.threads -= 1


class _VirtualSelector(selectors.BaseSelector):
    """Where the loop would block until the next timer, the clock moves there instead."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._real = selectors.DefaultSelector()
        self.threads = 0
        """How many jobs run in threads: the clock waits for them."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = self._real.select(0)
        if events or (timeout is not None and timeout <= 0):
            return events
        if self.threads:
            return self._real.select(None)
        # One entry is the loop's own wake-up pipe.
        if len(self.get_map()) > 1:
            return self._select_among_sockets(timeout)
        if timeout is None:
            raise RuntimeError("every task waits and none of them sleeps: nothing will ever happen")
        if self._clock.speed < inf:
            return self._paced(timeout, self._clock.speed)
        self._clock.advance(timeout)
        return []

    def _select_among_sockets(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        patience = self._clock.socket_patience_seconds
        if patience is None:
            return self._paced(timeout, 1.0)
        events = self._real.select(None if timeout is None else patience)
        if not events:
            assert timeout is not None
            self._clock.advance(timeout)
        return events

    def _paced(self, timeout: float | None, speed: float) -> list[tuple[selectors.SelectorKey, int]]:
        """Really wait, at most until the timer is due."""
        begun = time.monotonic()
        events = self._real.select(None if timeout is None else timeout / speed)
        passed = (time.monotonic() - begun) * speed
        self._clock.advance(passed if events or timeout is None else timeout)
        return events

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()
