"""A process that can die at any await, in process: after the nth turn of its event loop nothing of it reaches the world
or the state any more."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple

from gpuplan.core.ports import Clock
from gpuplan.core.state import Entry, LockInfo, State
from gpuplan.emulators.desk import Desk
from gpuplan.emulators.http import Delivery, Request
from gpuplan.emulators.site import EmulatorType
from gpuplan.emulators.world import World
from gpuplan.net.virtual_clock import VirtualClock, VirtualLoop
from gpuplan.state.backends.memory import MemoryBackend, MemoryStore

T = TypeVar("T")
Args = TypeVarTuple("Args")


class Killed(BaseException):
    """The process is gone. Not an Exception: nothing may catch it and go on."""


class Life:
    """Of one process. `last_turn` None: it ends by itself."""

    def __init__(self, last_turn: int | None = None) -> None:
        self._last_turn = last_turn
        self.turns = 0
        self.is_over = False

    def take_turn(self) -> bool:
        """Count one more; True at the last."""
        self.turns += 1
        ends = self.turns == self._last_turn
        self.is_over = self.is_over or ends
        return ends

    def check(self) -> None:
        if self.is_over:
            raise Killed


class MortalLoop(VirtualLoop):
    """Whatever awaits goes on by `call_soon`: each is a turn, and after any of them the process may be dead."""

    def __init__(self, clock: VirtualClock, life: Life) -> None:
        super().__init__(clock)
        self._life = life
        # What a dead process has to say of its tasks interests nobody.
        self.set_exception_handler(lambda loop, context: None)

    def call_soon(
        self, callback: Callable[[*Args], object], *args: *Args, context: Context | None = None
    ) -> asyncio.Handle:
        handle = super().call_soon(callback, *args, context=context)
        if self._life.take_turn():
            self.stop()
        return handle


class MortalDesk(Desk):
    """Emulators that hear nothing from the dead."""

    def __init__(self, world: World, types: Mapping[str, EmulatorType]) -> None:
        super().__init__(world, types)
        self.life = Life()

    def answer(self, request: Request) -> Delivery:
        self.life.check()
        return super().answer(request)


class MortalBackend(MemoryBackend):
    """A state into which the dead write nothing."""

    def __init__(self, clock: Clock, store: MemoryStore, life: Life) -> None:
        super().__init__(clock, store)
        self._life = life

    async def append(self, entries: Sequence[Entry], *, base: State, held: LockInfo) -> None:
        self._life.check()
        await super().append(entries, base=base, held=held)

    async def commit(self, state: State, *, held: LockInfo) -> None:
        self._life.check()
        await super().commit(state, held=held)


def run_until_death(clock: VirtualClock, life: Life, main: Coroutine[Any, Any, T]) -> T | None:
    """What the process returns; None when it died before."""
    try:
        with asyncio.Runner(loop_factory=lambda: MortalLoop(clock, life)) as runner:
            return runner.run(main)
    except (Killed, RuntimeError, asyncio.CancelledError):
        # A loop that was stopped, and tasks that end badly because nothing answers them any more.
        if not life.is_over:
            raise
        return None
