"""The provider in memory behind the real transport: from the wire up to the plan, what is made of lost answers and of
server errors is the product's own code.

Used by the world machine. `Trouble` is what a network and a server do to one request.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from enum import Enum, auto
from functools import partial
from typing import TypeVar

from gpuplan.core.capabilities import Capabilities
from gpuplan.core.desired import Kind
from gpuplan.core.errors import ProviderError
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Observed
from gpuplan.core.offers import Offer, OfferQuery
from gpuplan.core.ports import Account, Clock, ExecResult, Links, Listed, Want
from gpuplan.core.secret import Redactor
from gpuplan.net.auth import Nobody
from gpuplan.net.exchange import Call, Lost, NeverSent, Outgoing, Response
from gpuplan.net.profile import Effect, Host, HttpProfile
from gpuplan.net.transport import Border, Retry
from gpuplan.testing.crashes import Crash
from gpuplan.testing.memory import MemoryProvider, SteppedMemoryProvider
from gpuplan.testing.memory_channels import MemoryChannel

T = TypeVar("T")

_PROFILE = HttpProfile(hosts={"": Host("http://world")}, auth=Nobody(), credentials={})


class Trouble(Enum):
    """What happens to one request. The names tell whether the effect has happened by then."""

    CRASH_BEFORE = auto()
    CRASH_AFTER = auto()
    NEVER_SENT = auto()
    LIMITED_BEFORE = auto()
    REJECTED_BEFORE = auto()
    ERROR_BEFORE = auto()
    ERROR_AFTER = auto()
    LOST_BEFORE = auto()
    LOST_AFTER = auto()
    GARBAGE_AFTER = auto()


AFTER = {Trouble.CRASH_AFTER, Trouble.ERROR_AFTER, Trouble.LOST_AFTER, Trouble.GARBAGE_AFTER}
"""What happens once the effect has."""

Network = Callable[[str, Effect], Trouble | None]
"""Called with the verb of each request that is sent."""


class _Wire:
    """Carries the one request that is on its way, unless the network makes trouble."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.requests: dict[str, tuple[str, Effect, Callable[[], Awaitable[None]]]] = {}

    async def send(self, outgoing: Outgoing, timeout_seconds: float) -> Response:
        verb, effect, perform = self.requests[outgoing.url]
        trouble = self._network(verb, effect)
        if trouble is None or trouble in AFTER:
            await perform()
        return Response(200, {}, b"{}") if trouble is None else _answer(trouble)

    def stream(
        self, outgoing: Outgoing, timeout_seconds: float
    ) -> AbstractAsyncContextManager[tuple[Response, AsyncIterator[str]]]:
        raise AssertionError("nothing streams here")

    async def close(self) -> None: ...


def _answer(trouble: Trouble) -> Response:
    match trouble:
        case Trouble.CRASH_BEFORE | Trouble.CRASH_AFTER:
            raise Crash
        case Trouble.NEVER_SENT:
            raise NeverSent("connection refused")
        case Trouble.LOST_BEFORE | Trouble.LOST_AFTER:
            raise Lost("no answer in 30 s")
        case Trouble.LIMITED_BEFORE:
            return Response(429, {"retry-after": "3"}, b"")
        case Trouble.REJECTED_BEFORE:
            return Response(422, {}, b'{"message": "no"}')
        case Trouble.ERROR_BEFORE | Trouble.ERROR_AFTER:
            return Response(500, {}, b"<html>oops</html>")
        case Trouble.GARBAGE_AFTER:
            return Response(200, {}, b"<html>what?</html>")


class RemoteProvider:
    """One account of a world in memory, as far away as a real one."""

    def __init__(self, near: MemoryProvider, clock: Clock, network: Network) -> None:
        self.near = near
        self._wire = _Wire(network)
        border = Border(
            self._wire,
            _PROFILE,
            provider=near.name,
            endpoints={"": ""},
            keys={},
            clock=clock,
            redactor=Redactor(),
        )
        self._sender = Retry(border, clock, _PROFILE.retries)

    @property
    def capabilities(self) -> Capabilities:
        return self.near.capabilities

    async def health(self) -> Account:
        return await self._send("health", Effect.NONE, self.near.health)

    async def offers(self, query: OfferQuery) -> Sequence[Offer]:
        return await self._send("offers", Effect.NONE, lambda: self.near.offers(query))

    async def list(self, kind: Kind, known: frozenset[str]) -> Listed:
        return await self._send("list", Effect.NONE, lambda: self.near.list(kind, known))

    async def get(self, kind: Kind, remote_id: str) -> Observed | None:
        return await self._send("get", Effect.NONE, lambda: self.near.get(kind, remote_id))

    async def create(self, want: Want, mark: Mark, links: Links) -> Observed:
        return await self._send("create", Effect.ONCE, lambda: self.near.create(want, mark, links))

    async def delete(self, kind: Kind, remote_id: str, links: Links) -> None:
        await self._send("delete", Effect.REPEATABLE, lambda: self.near.delete(kind, remote_id, links))

    async def update(self, want: Want, remote_id: str, links: Links) -> Observed:
        return await self._send("update", Effect.REPEATABLE, lambda: self.near.update(want, remote_id, links))

    async def stop(self, kind: Kind, remote_id: str) -> Observed:
        return await self._send("stop", Effect.REPEATABLE, lambda: self.near.stop(kind, remote_id))

    async def start(self, kind: Kind, remote_id: str) -> Observed:
        return await self._send("start", Effect.REPEATABLE, lambda: self.near.start(kind, remote_id))

    async def extend(self, kind: Kind, remote_id: str, until: datetime) -> Observed:
        return await self._send("extend", Effect.REPEATABLE, lambda: self.near.extend(kind, remote_id, until))

    async def channel(self, remote_id: str, member: int | None = None) -> MemoryChannel:
        return MemoryChannel(self.near.name, partial(self.run, remote_id))

    async def run(self, remote_id: str, command: str, env: Mapping[str, str]) -> ExecResult:
        return await self._send("run", Effect.ONCE, lambda: self.near.run(remote_id, command, env))

    async def close(self) -> None:
        await self.near.close()

    async def _send(self, verb: str, effect: Effect, ask: Callable[[], Awaitable[T]]) -> T:
        """Send it through retry and classification; what the provider says comes back beside the response."""
        answers: list[T | ProviderError] = []

        async def perform() -> None:
            try:
                answers.append(await ask())
            except ProviderError as error:
                answers.append(error)

        path = f"/{verb}/{len(self._wire.requests)}"
        self._wire.requests[path] = verb, effect, perform
        await self._sender.send(Call("POST", path, path, f"{verb} something", effect))
        answer = answers[-1]
        if isinstance(answer, ProviderError):
            raise answer
        return answer


class SteppedRemoteProvider(RemoteProvider):
    """With creations in several steps."""

    def __init__(self, near: SteppedMemoryProvider, clock: Clock, network: Network) -> None:
        super().__init__(near, clock, network)
        self._stepped = near

    async def advance(self, want: Want, mark: Mark, observed: Observed, links: Links) -> Observed:
        return await self._send(
            "advance", Effect.REPEATABLE, lambda: self._stepped.advance(want, mark, observed, links)
        )


def remote_provider(near: MemoryProvider, clock: Clock, network: Network) -> RemoteProvider:
    if isinstance(near, SteppedMemoryProvider):
        return SteppedRemoteProvider(near, clock, network)
    return RemoteProvider(near, clock, network)
