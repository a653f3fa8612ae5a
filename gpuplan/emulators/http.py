"""Requests and responses as emulators see them, and the table that leads one to the function that answers it."""

import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias
from urllib.parse import unquote

from gpuplan.core.values import JsonValue

if TYPE_CHECKING:
    from gpuplan.emulators.site import Site

Json: TypeAlias = dict[str, JsonValue]


class NotJson(ValueError):
    """The body of a request does not parse, or is no object."""


@dataclass(frozen=True, slots=True)
class Request:
    """`path` is behind the provider's mount and still quoted; header names are lower-case."""

    method: str
    path: str
    query: Mapping[str, Sequence[str]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""
    account: str = ""
    """Whose key it came with; filled in by the emulator's own check."""

    def json(self) -> Json:
        """The body; an absent one is an empty object. Raises NotJson."""
        if not self.content:
            return {}
        try:
            body = json.loads(self.content)
        except ValueError as exc:
            raise NotJson(str(exc)) from exc
        if not isinstance(body, dict):
            raise NotJson("not an object")
        return body

    def one(self, name: str) -> str:
        """A parameter of the URL; empty when it is not there."""
        values = self.query.get(name, ())
        return values[0] if values else ""

    @property
    def bearer(self) -> str:
        scheme, _, key = self.headers.get("authorization", "").partition(" ")
        return key.strip() if scheme.lower() == "bearer" else ""


@dataclass(frozen=True, slots=True)
class Response:
    """`body` is sent as JSON, a text as it is; None sends nothing."""

    status: int = 200
    body: JsonValue | bytes = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_seconds: float = 0
    """For so long the provider itself takes its time: a call that waits for something."""
    flow: "Flow | None" = None
    """What follows the body, as it comes."""
    session: "Session | None" = None
    """What is said over the connection from here on; to who asked for a WebSocket."""

    @property
    def content(self) -> bytes:
        if self.body is None:
            return b""
        if isinstance(self.body, bytes):
            return self.body
        return self.body.encode() if isinstance(self.body, str) else json.dumps(self.body).encode()

    @property
    def content_type(self) -> str:
        return "application/json" if not isinstance(self.body, (str, bytes)) else "text/html; charset=utf-8"


FLOW_SECONDS = 0.25
"""How often a flow is asked for more."""
Flow: TypeAlias = Callable[[], Sequence[bytes] | None]
"""Asked again and again for what there is now; None: that was all."""


class Socket(Protocol):
    """The provider's end of a WebSocket."""

    async def receive(self) -> bytes | None:
        """The next message; None once the client has left."""
        ...

    async def send(self, message: bytes | str) -> None:
        """Nobody hears it once the client has left."""
        ...


Session: TypeAlias = Callable[[Socket, Path], Awaitable[None]]
"""Talks to a client until one of them has enough; the folder is that of all the nodes' files."""


class Refusal(Exception):
    """A request the provider turns down, with the response that says so; raised anywhere while it is answered."""

    def __init__(self, response: Response) -> None:
        super().__init__(str(response.body))
        self.response = response


class Cut(StrEnum):
    """What happens to a response on its way."""

    NONE = "none"
    DROP = "drop"
    TRUNCATE = "truncate"
    HANG = "hang"


@dataclass(frozen=True, slots=True)
class Delivery:
    """A response, and how it travels."""

    response: Response
    delay_seconds: float = 0
    cut: Cut = Cut.NONE


Answerer: TypeAlias = "Callable[[Site, Request, Mapping[str, str]], Response]"
"""What answers one route: the provider's side of the world, the request, and the ids in its path."""


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    template: str
    pattern: re.Pattern[str]
    answer: Answerer
    is_open: bool
    """Answers without a key."""


class Routes:
    """The routes of one provider, each with the function that answers it."""

    def __init__(self) -> None:
        self._routes: list[Route] = []

    def on(self, method: str, template: str, *, is_open: bool = False) -> Callable[[Answerer], Answerer]:
        """Register the function below for `method template`; `{name}` in the template takes one part of the path."""

        def register(answer: Answerer) -> Answerer:
            pattern = re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(template)) + "/?")
            self._routes.append(Route(method, template, pattern, answer, is_open))
            return answer

        return register

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]] | None:
        for route in self._routes:
            if route.method == method and (match := route.pattern.fullmatch(path)):
                return route, {name: unquote(value) for name, value in match.groupdict().items()}
        return None

    def merged(self, *others: "Routes") -> "Routes":
        """These and those of other modules of the same provider, in this order."""
        merged = Routes()
        for routes in (self, *others):
            merged._routes.extend(routes._routes)
        return merged
