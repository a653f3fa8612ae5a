"""A process that dies, in process: at a request of the provider in memory, or at a write of the state.

Used by the crash-point tests and the world machine. A real SIGKILL is for end-to-end tests.
"""

from collections.abc import Callable, Sequence

from gpuplan.core.ports import StateBackend, Stored
from gpuplan.core.state import Entry, LockInfo, State


class Crash(BaseException):
    """The process is gone. Not an Exception: nothing may catch it and go on."""


class CrashingBackend:
    """A state backend that asks before, within and after each durable write whether the process still lives.

    `survives` is called with that word, `within` once for each entry that more are appended behind; what it raises is
    where the process ends. An append that is cut leaves the entries up to there.
    """

    def __init__(self, backend: StateBackend, survives: Callable[[str], None]) -> None:
        self._backend = backend
        self._survives = survives

    @property
    def location(self) -> str:
        return self._backend.location

    async def load(self) -> Stored:
        return await self._backend.load()

    async def lock(self, request: LockInfo) -> LockInfo:
        return await self._backend.lock(request)

    async def renew(self, held: LockInfo) -> LockInfo:
        return await self._backend.renew(held)

    async def unlock(self, held: LockInfo) -> None:
        await self._backend.unlock(held)

    async def holder(self) -> LockInfo | None:
        return await self._backend.holder()

    async def break_lock(self, lock_id: str) -> None:
        await self._backend.break_lock(lock_id)

    async def append(self, entries: Sequence[Entry], *, base: State, held: LockInfo) -> None:
        self._survives("before")
        for written in range(1, len(entries)):
            try:
                self._survives("within")
            except BaseException:
                await self._backend.append(entries[:written], base=base, held=held)
                raise
        await self._backend.append(entries, base=base, held=held)
        self._survives("after")

    async def commit(self, state: State, *, held: LockInfo) -> None:
        self._survives("before")
        await self._backend.commit(state, held=held)
        self._survives("after")

    async def discard(self, *, held: LockInfo) -> None:
        self._survives("before")
        await self._backend.discard(held=held)
        self._survives("after")

    async def history(self) -> Sequence[int]:
        return await self._backend.history()

    async def close(self) -> None:
        await self._backend.close()
