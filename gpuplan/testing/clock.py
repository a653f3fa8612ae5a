"""A clock that moves only while everyone sleeps: hours of waiting pass in no time, in the same order every time.

    clock = FakeClock()
    clock.run(apply(..., clock=clock))

Inside `run` the event loop itself lives in virtual time, so that `asyncio.timeout` obeys the clock too. Work in other
threads and open sockets hold the clock still while they last.
"""

import asyncio
import random
import selectors
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Executor
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Args = TypeVarTuple("Args")

_SOCKET_PATIENCE_SECONDS = 0.02
"""Real time that open sockets get to answer before virtual time moves."""


class FakeClock:
    """A `core.ports.Clock` for tests. Tokens and jitter are the same in every run with the same seed."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC), *, seed: int = 0) -> None:
        self._start = start
        self._seconds = 0.0
        self._tokens = 0
        self._random = random.Random(seed)

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._seconds)

    def monotonic(self) -> float:
        return self._seconds

    def advance(self, seconds: float) -> None:
        """Let time pass while nothing runs."""
        self._seconds += seconds

    async def sleep(self, seconds: float) -> None:
        if not isinstance(asyncio.get_running_loop(), _VirtualLoop):
            raise RuntimeError("a fake clock only moves inside FakeClock.run")
        await asyncio.sleep(seconds)  # noqa: TID251  the loop's time is this clock's

    def token(self) -> str:
        self._tokens += 1
        return f"t{self._tokens:019d}"

    def jitter(self) -> float:
        return self._random.random()

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Like `asyncio.run`, in this clock's time. Raises RuntimeError when every task waits and none sleeps."""
        with asyncio.Runner(loop_factory=lambda: _VirtualLoop(self)) as runner:
            return runner.run(main)


class _VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is the clock's."""

    def __init__(self, clock: FakeClock) -> None:
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

    def __init__(self, clock: FakeClock) -> None:
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
            events = self._real.select(None if timeout is None else _SOCKET_PATIENCE_SECONDS)
            if events:
                return events
        if timeout is None:
            raise RuntimeError("every task waits and none of them sleeps: nothing will ever happen")
        self._clock.advance(timeout)
        return []

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
