"""The WebSocket library, behind one seam. Imported only when a socket is really opened; called by `wire`."""

import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.typing import Subprotocol

from gpuplan.net.exchange import Lost, NeverSent, Outgoing, Response
from gpuplan.net.tls import Line

_PING_SECONDS = 20.0
_SILENCE_SECONDS = 60.0
"""Without an answer to a ping for so long, the other side is gone."""
_CLOSING_SECONDS = 2.0


class LibrarySocket:
    """A `net.exchange.Socket`."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    @property
    def protocol(self) -> str:
        return str(self._connection.subprotocol or "")

    async def send(self, message: bytes | str) -> None:
        with _translated():
            await self._connection.send(message)

    async def receive(self) -> bytes | None:
        try:
            message = await self._connection.recv()
        except ConnectionClosed as exc:
            if exc.rcvd is not None and exc.rcvd.code == 1000:
                return None
            raise Lost("the connection broke") from exc
        return message.encode() if isinstance(message, str) else message


@asynccontextmanager
async def open_socket(
    outgoing: Outgoing, protocols: Sequence[str], timeout_seconds: float, *, line: Line, trust_env: bool
) -> AsyncIterator[LibrarySocket | Response]:
    """A socket, or the response that refuses one. Raises NeverSent or Lost."""
    is_secure = outgoing.url.startswith("https:")
    # The library hands further arguments on to the event loop, which takes none of these as absent.
    extras: dict[str, Any] = {"server_hostname": line.server_name} if line.server_name else {}
    connecting = connect(
        outgoing.url.replace("http", "ws", 1),
        additional_headers={name: value for name, value in outgoing.headers.items() if name != "Content-Type"},
        user_agent_header=None,
        subprotocols=[Subprotocol(protocol) for protocol in protocols] or None,
        ssl=(line.tls or ssl.create_default_context()) if is_secure else None,
        proxy=line.proxy or (True if trust_env else None),
        compression=None,
        open_timeout=timeout_seconds,
        close_timeout=_CLOSING_SECONDS,
        ping_interval=_PING_SECONDS,
        ping_timeout=_SILENCE_SECONDS,
        max_size=None,
        **extras,
    )
    try:
        with _opening():
            connection = await connecting
    except InvalidStatus as exc:
        told = exc.response
        yield Response(told.status_code, {k.lower(): v for k, v in told.headers.raw_items()}, bytes(told.body or b""))
        return
    try:
        yield LibrarySocket(connection)
    finally:
        await connection.close()


@contextmanager
def _opening() -> Iterator[None]:
    try:
        yield
    except InvalidStatus:
        raise
    except (InvalidURI, ssl.SSLError, ConnectionRefusedError) as exc:
        raise NeverSent(str(exc)) from exc
    except TimeoutError as exc:
        raise Lost("no answer in time") from exc
    except InvalidHandshake as exc:
        raise Lost(str(exc) or "the connection broke") from exc
    except OSError as exc:
        raise NeverSent(str(exc) or "no connection") from exc


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (ConnectionClosed, OSError) as exc:
        raise Lost("the connection broke") from exc
