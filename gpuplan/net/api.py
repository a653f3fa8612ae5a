"""One provider's HTTP API as its adapter uses it: a call is one line, and says what it is for.

Everything an adapter does not see (signing, limits, repetition, errors, pages) happens below. Answers come back as
values of the type that was asked for; one that does not fit is a ProtocolMismatch.
"""

import hashlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, TypeVar, Unpack, overload
from urllib.parse import quote

from pydantic import TypeAdapter, ValidationError

from gpuplan.core.errors import Failure, NotFound, ProtocolMismatch
from gpuplan.core.ports import Clock, SshTarget
from gpuplan.core.secret import Redactor, Secret
from gpuplan.core.values import JsonValue
from gpuplan.net.exchange import Answer, Call, Query, Sender, Socket
from gpuplan.net.paging import walk
from gpuplan.net.payload import dig
from gpuplan.net.profile import EFFECTS, Effect, Paging

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")

_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}
_PLACE = re.compile(r"\{[^}]*\}")


class CallOptions(TypedDict, total=False):
    """What a call may say besides its route and its purpose."""

    query: Query
    json: Mapping[str, JsonValue] | Sequence[JsonValue]
    """The body; sent as a form where the profile says so."""
    effect: Effect
    """Where the method tells something else than the truth: a POST that only reads, a PUT that creates."""
    key: str
    """The idempotency key."""
    gpu: str
    """The GPU that was asked for, told when there is none."""
    host: str
    headers: Mapping[str, str]
    timeout_seconds: float


class Lines(Protocol):
    """What can hand over an answer piece by piece: the transport's lowest layer."""

    def lines(self, call: Call) -> AsyncGenerator[str, None]: ...

    def socket(self, call: Call, protocols: Sequence[str]) -> AbstractAsyncContextManager[Socket]: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class AccountFacts:
    """What an adapter may know of the account it speaks for."""

    provider: str
    """The name of the provider block."""
    endpoint: str
    keys: Mapping[str, Secret]
    emulator: str | None = None
    redactor: Redactor = field(default_factory=Redactor, repr=False)


class Api:
    """Made by `http_provider`, one per account. `to` is what the call is for: `create clusters.train.nodes[0]`."""

    def __init__(self, sender: Sender, lines: Lines, account: AccountFacts, clock: Clock, pages: Paging | None) -> None:
        self._sender = sender
        self._lines = lines
        self._account = account
        self._pages = pages
        self._remembered: dict[str, Any] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self.clock = clock

    @property
    def provider(self) -> str:
        return self._account.provider

    @property
    def endpoint(self) -> str:
        return self._account.endpoint

    @property
    def is_emulated(self) -> bool:
        """Whether an emulator stands in for the provider: its nodes are folders of one machine."""
        return self._account.emulator is not None

    def key(self, name: str) -> str:
        """A credential that goes into the body of a request. Raises KeyError for one that was not found."""
        return self._account.keys[name].reveal()

    def redact(self, text: str) -> str:
        """Without any secret that is known by now."""
        return self._account.redactor(text)

    @overload
    async def call(self, method: str, route: str, *path: str, to: str, **options: Unpack[CallOptions]) -> None: ...

    @overload
    async def call(
        self,
        method: str,
        route: str,
        *path: str,
        to: str,
        answer: type[T],
        at: str = "",
        **options: Unpack[CallOptions],
    ) -> T: ...

    async def call(
        self,
        method: str,
        route: str,
        *path: str,
        to: str,
        answer: type[T] | None = None,
        at: str = "",
        **options: Unpack[CallOptions],
    ) -> T | None:
        """Send one request; each `{}` of the route takes one of `path`. `at` is where in the answer the value is."""
        call = _call(method, route, path, to, options)
        received = await self._sender.send(call)
        return None if answer is None else self._read(call, received, dig(received.body, at), answer)

    async def find(
        self,
        method: str,
        route: str,
        *path: str,
        to: str,
        answer: type[T],
        at: str = "",
        **options: Unpack[CallOptions],
    ) -> T | None:
        """As `call`; None is certain absence: the provider says so, or has null where the object would be."""
        call = _call(method, route, path, to, options)
        try:
            received = await self._sender.send(call)
        except NotFound:
            return None
        return None if _is_null(received.body, at) else self._read(call, received, dig(received.body, at), answer)

    async def remove(
        self, route: str, *path: str, to: str, method: str = "DELETE", **options: Unpack[CallOptions]
    ) -> None:
        """Delete; what is gone already is success."""
        try:
            await self._sender.send(_call(method, route, path, to, {"effect": Effect.REPEATABLE, **options}))
        except NotFound:
            return

    async def pages(
        self,
        route: str,
        *path: str,
        to: str,
        items: str,
        answer: type[T],
        method: str = "GET",
        paging: Paging | None = None,
        **options: Unpack[CallOptions],
    ) -> AsyncIterator[T]:
        """Every item of a listing, page after page. `paging` where this one differs from the profile's."""
        call = _call(method, route, path, to, {"effect": Effect.NONE, **options})
        async for item in walk(self._sender, call, paging or self._pages, items, self.provider):
            yield self._read(call, None, item, answer)

    async def text(self, route: str, *path: str, to: str, **options: Unpack[CallOptions]) -> str:
        """A plain text. A route that is a whole URL is fetched without credentials."""
        received = await self._sender.send(_call("GET", route, path, to, options, plain=True))
        return str(received.body)

    async def lines(
        self, route: str, *path: str, to: str, quiet_seconds: float | None = None, **options: Unpack[CallOptions]
    ) -> AsyncIterator[str]:
        """The lines of an answer as they come. One that stays open ends after so many quiet seconds, where they are
        given; the first line may take five times as long."""
        import asyncio

        patience = None if quiet_seconds is None else 5 * quiet_seconds
        async with aclosing(self._lines.lines(_call("GET", route, path, to, options, plain=True))) as lines:
            with suppress(TimeoutError, StopAsyncIteration):
                while True:
                    async with asyncio.timeout(patience):
                        line = await anext(lines)
                    patience = quiet_seconds
                    yield line

    def socket(
        self, route: str, *path: str, to: str, protocols: Sequence[str], **options: Unpack[CallOptions]
    ) -> AbstractAsyncContextManager[Socket]:
        """A WebSocket that speaks one of these subprotocols, the best first; without any, messages of no protocol.
        Lost on the way it raises as any call does: by what it is for, `effect`."""
        return self._lines.socket(_call("GET", route, path, to, options), protocols)

    async def messages(
        self,
        route: str,
        *path: str,
        to: str,
        say: bytes | str,
        quiet_seconds: float | None = None,
        **options: Unpack[CallOptions],
    ) -> AsyncIterator[bytes]:
        """What is heard over a WebSocket after one thing was said, until the other side closes it; for one that stays
        open, `quiet_seconds` are as in `lines`."""
        import asyncio

        patience = None if quiet_seconds is None else 5 * quiet_seconds
        async with self.socket(route, *path, to=to, protocols=(), **options) as socket:
            await socket.send(say)
            with suppress(TimeoutError):
                while True:
                    async with asyncio.timeout(patience):
                        message = await socket.receive()
                    if message is None:
                        return
                    patience = quiet_seconds
                    yield message

    async def together(self, work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
        """Several calls at once, within the account's limits; the results in order. The first error ends them all, and
        is raised as it is."""
        import asyncio

        tasks = [asyncio.ensure_future(each) for each in work]
        try:
            return await asyncio.gather(*tasks)
        except BaseException:
            # Also when cancelled: a call that nobody awaits could still change something.
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            raise

    def merged(self, streams: Sequence[AsyncIterator[T]]) -> AsyncIterator[T]:
        """Whatever comes next from any of several streams, until all have ended."""
        from gpuplan.net.merging import merge

        return merge(streams)

    async def remembered(self, name: str, read: Callable[[], Awaitable[T]]) -> T:
        """What `read` answers, asked once for as long as the account is open: tables that do not change meanwhile."""
        import asyncio

        async with self._locks.setdefault(name, asyncio.Lock()):
            if name not in self._remembered:
                self._remembered[name] = await read()
        known: T = self._remembered[name]
        return known

    def alone(self, name: str) -> AbstractAsyncContextManager[None]:
        """One at a time: for a change that reads a whole, and then writes it back."""
        import asyncio

        return self._locks.setdefault(name, asyncio.Lock())

    def account_id(self, told: str = "") -> str:
        """A lasting name of the account: a digest of what the provider tells about it, else of the keys themselves."""
        parts = [told] if told else [f"{name}={key.reveal()}" for name, key in sorted(self._account.keys.items())]
        text = "\0".join(["gpuplan account", self.endpoint, *parts])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def ssh_target(self, host: str, port: int = 22, user: str = "root") -> SshTarget:
        """Where SSH reaches a node; an emulated one is behind the emulator's own SSH server, at the port after its
        own, and all it has is a folder."""
        if self._account.emulator is None:
            return SshTarget(host, port, user)
        address = re.search(r"//\[?(?P<host>[^\]/]+?)\]?:(?P<port>\d+)", self._account.emulator)
        jump = SshTarget(address["host"], int(address["port"]) + 1, "emulator") if address else None
        return SshTarget(host, port, user, jump=jump, workspace="workspace")

    async def close(self) -> None:
        await self._lines.close()

    def _read(self, call: Call, received: Answer | None, value: JsonValue, answer: type[T]) -> T:
        try:
            known: T = _adapter(answer).validate_python(value)
        except ValidationError as exc:
            # Never the value itself: it may hold what the user entrusted to the provider.
            first = exc.errors(include_url=False, include_input=False, include_context=False)[0]
            where = ".".join(str(step) for step in first["loc"]) or "the answer"
            status = received.status if received else None
            failure = Failure(self.provider, call.to, f"in the answer, {where}: {first['msg']}", status)
            raise ProtocolMismatch(failure) from exc
        return known


def _call(method: str, route: str, path: Sequence[str], to: str, options: CallOptions, *, plain: bool = False) -> Call:
    parts = iter(path)
    filled = _PLACE.sub(lambda _: quote(next(parts), safe=""), route)
    return Call(
        method=method,
        route="(download)" if filled.startswith("http") else route,
        path=filled,
        to=to,
        effect=options.get("effect") or EFFECTS.get(method, Effect.ONCE),
        host=options.get("host", ""),
        query=options.get("query", {}),
        body=options.get("json"),
        headers=options.get("headers", {}),
        key=options.get("key", ""),
        gpu=options.get("gpu", ""),
        timeout_seconds=options.get("timeout_seconds"),
        plain=plain,
    )


def _is_null(body: JsonValue, at: str) -> bool:
    """Whether there is null at the end of a path; a path that leads nowhere is something else."""
    parent, _, last = at.rpartition(".")
    holder = dig(body, parent)
    return isinstance(holder, Mapping) and last in holder and holder[last] is None


def _adapter(answer: type[T]) -> TypeAdapter[T]:
    """Building one compiles its validator: once per type."""
    if answer not in _ADAPTERS:
        _ADAPTERS[answer] = TypeAdapter(answer)
    return _ADAPTERS[answer]
