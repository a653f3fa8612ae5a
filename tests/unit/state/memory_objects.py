"""Objects in memory for tests of `ObjectBackend`: they count requests, take their time, and lose answers on demand."""

from collections import Counter
from collections.abc import Sequence

from gpuplan.core.ports import Clock
from gpuplan.state.backends.objects import Changed
from gpuplan.state.stored import unreachable


class Bucket:
    """What outlives a handle."""

    def __init__(self) -> None:
        self.head: tuple[bytes, str] | None = None
        self.contents: dict[str, bytes] = {}
        self.requests: Counter[str] = Counter()
        self.lost_answers: Counter[str] = Counter()
        """How many of the next requests of a kind are carried out without anyone hearing of it."""
        self.bytes_written = 0


class MemoryObjects:
    location = "memory:objects"

    def __init__(self, bucket: Bucket, clock: Clock, *, latency_seconds: float = 0.0) -> None:
        self._bucket = bucket
        self._clock = clock
        self._latency_seconds = latency_seconds

    async def look(self) -> tuple[bytes, str] | None:
        await self._request("look")
        return self._bucket.head

    async def swap(self, content: bytes, expect: str | None) -> str:
        await self._request("swap")
        present = None if self._bucket.head is None else self._bucket.head[1]
        if present != expect:
            raise Changed
        version = str(int(present or "0") + 1)
        self._bucket.head = (content, version)
        self._bucket.bytes_written += len(content)
        self._answer("swap")
        return version

    async def read(self, name: str) -> bytes | None:
        await self._request("read")
        return self._bucket.contents.get(name)

    async def write(self, name: str, content: bytes) -> None:
        await self._request("write")
        self._bucket.contents[name] = content
        self._bucket.bytes_written += len(content)
        self._answer("write")

    async def remove(self, names: Sequence[str]) -> None:
        if names:
            await self._request("remove")
            for name in names:
                self._bucket.contents.pop(name, None)
            self._answer("remove")

    async def names(self) -> Sequence[str]:
        await self._request("names")
        return list(self._bucket.contents)

    async def close(self) -> None:
        """Nothing to release."""

    async def _request(self, kind: str) -> None:
        self._bucket.requests[kind] += 1
        await self._clock.sleep(self._latency_seconds)

    def _answer(self, kind: str) -> None:
        if self._bucket.lost_answers[kind]:
            self._bucket.lost_answers[kind] -= 1
            raise unreachable(self.location, "the connection broke")
