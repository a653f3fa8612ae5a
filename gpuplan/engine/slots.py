"""How many operations are at work at once, overall and per provider.

Called by `executor`, which takes a place for each operation it starts, and by operations that rest while they wait.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class Slots:
    """`limit_of` gives the limit of one provider; `freed` is called when a place is free that nobody waits for."""

    def __init__(self, parallelism: int, limit_of: Callable[[str], int], freed: Callable[[], None]) -> None:
        self._free = parallelism
        self._limit_of = limit_of
        self._left: dict[str, int] = {}
        self._returning: dict[str, deque[asyncio.Future[None]]] = {}
        self._freed = freed

    def has_room(self, provider: str) -> bool:
        return self._free > 0 and self._left_of(provider) > 0

    def take(self, provider: str) -> None:
        """Only after `has_room`."""
        self._left[provider] = self._left_of(provider) - 1
        self._free -= 1

    def give_back(self, provider: str) -> None:
        self._left[provider] = self._left_of(provider) + 1
        self._free += 1
        self._serve()

    @asynccontextmanager
    async def resting(self, provider: str) -> AsyncIterator[None]:
        """Give the place back for as long as the block lasts. Who comes back goes before who has not begun."""
        self.give_back(provider)
        try:
            yield
        except Exception:  # whatever it is, the operation goes on working on it; only who is cancelled stays away
            await self._take_again(provider)
            raise
        await self._take_again(provider)

    async def _take_again(self, provider: str) -> None:
        if self.has_room(provider):
            self.take(provider)
            return
        turn = asyncio.get_running_loop().create_future()
        self._returning.setdefault(provider, deque()).append(turn)
        await turn

    def _serve(self) -> None:
        for provider, turns in self._returning.items():
            while turns and self.has_room(provider):
                turn = turns.popleft()
                if not turn.cancelled():
                    self.take(provider)
                    turn.set_result(None)
        if self._free > 0:
            self._freed()

    def _left_of(self, provider: str) -> int:
        left = self._left.get(provider)
        return self._limit_of(provider) if left is None else left
