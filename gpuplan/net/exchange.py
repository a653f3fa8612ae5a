"""What travels: a call as the adapter means it, the request as it leaves, the response as it came.

Everything above the wire speaks these types; only `wire` knows the HTTP library.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, runtime_checkable

from gpuplan.core.values import JsonValue
from gpuplan.net.profile import Effect

Query: TypeAlias = Mapping[str, str | int | bool | Sequence[str] | None]
"""Parameters of a URL; None leaves one out, a sequence repeats it."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a provider's API. `route` is the path with `{names}` in it, for logs and rules; `path` is filled in.

    `to` says what it is for, as an infinitive without `to`: it ends up in error messages.
    """

    method: str
    route: str
    path: str
    to: str
    effect: Effect
    host: str = ""
    query: Query = field(default_factory=dict)
    body: Mapping[str, JsonValue] | Sequence[JsonValue] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    key: str = ""
    """The idempotency key: with it, the provider carries out a repeated call once."""
    gpu: str = ""
    timeout_seconds: float | None = None
    plain: bool = False
    """The answer is text, not JSON."""

    @property
    def is_repeatable(self) -> bool:
        """Whether sending it twice does no more than sending it once."""
        return self.effect is not Effect.ONCE or bool(self.key)

    @property
    def is_absolute(self) -> bool:
        """A whole URL, such as a download link: it is fetched without credentials."""
        return self.path.startswith(("http://", "https://"))


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request ready to leave; `content` is byte for byte what is signed and sent."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    content: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Response:
    """`headers` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    content: bytes = field(repr=False)

    @property
    def text(self) -> str:
        return self.content.decode(errors="replace")


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that is no error. `body` is None where there was none."""

    status: int
    headers: Mapping[str, str]
    body: JsonValue


class NeverSent(Exception):
    """The request certainly did not reach the provider."""


class Lost(Exception):
    """It was sent, or may have been, and no whole answer came back."""


class Wire(Protocol):
    """Carries one request. Raises NeverSent or Lost, and nothing else."""

    async def send(self, outgoing: Outgoing, timeout_seconds: float) -> Response: ...

    def stream(
        self, outgoing: Outgoing, timeout_seconds: float
    ) -> AbstractAsyncContextManager[tuple[Response, AsyncIterator[str]]]:
        """The lines of an answer as they come. An error has its content in the response instead, and no lines."""
        ...

    async def close(self) -> None: ...


class Socket(Protocol):
    """Our end of a WebSocket. Raises Lost, and nothing else."""

    @property
    def protocol(self) -> str:
        """The subprotocol that was agreed on."""
        ...

    async def send(self, message: bytes | str) -> None:
        """A text is sent as one, bytes as what they are: there are servers that understand one of them alone."""
        ...

    async def receive(self) -> bytes | None:
        """The next message; None once the other side has closed as it should."""
        ...


@runtime_checkable
class SocketWire(Protocol):
    """A wire that carries WebSockets too."""

    def socket(
        self, outgoing: Outgoing, protocols: Sequence[str], timeout_seconds: float
    ) -> AbstractAsyncContextManager[Socket | Response]:
        """A socket, or the response that refuses one. Raises NeverSent or Lost."""
        ...


class Sender(Protocol):
    """One layer of the transport."""

    async def send(self, call: Call) -> Answer: ...
