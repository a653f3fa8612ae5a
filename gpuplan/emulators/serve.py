"""Put a world of emulators on a port of this machine, with the SSH endpoints of its nodes behind the port after it.

`run` is `gpuplan emulate`; `serving` keeps one in a thread beside a test or a rehearsal.
"""

import asyncio
import signal
import socket
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from starlette.requests import HTTPConnection
from starlette.requests import Request as Incoming
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from gpuplan.emulators.desk import Desk
from gpuplan.emulators.http import Cut, Request, Response
from gpuplan.emulators.nodes import Gateway
from gpuplan.emulators.streams import converse, flow

_TRANSPORT = "gpuplan.transport"
_LARGEST_HEAD = 128 * 1024
"""Bytes of a request's head: some clients put whole scripts into the address."""


class CuttableProtocol(H11Protocol):
    """Hands the connection itself to the application, so that a fault can cut it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        application: ASGIApp = self.app

        async def with_transport(scope: Scope, receive: Receive, send: Send) -> None:
            await application({**scope, _TRANSPORT: self.transport}, receive, send)

        self.app = with_transport


def application(desk: Desk, folder: Path) -> ASGIApp:
    """The ASGI application: every request goes to the desk, on one thread, one after the other."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        incoming = HTTPConnection(scope, receive)
        query: dict[str, list[str]] = {}
        for name, value in incoming.query_params.multi_items():
            query.setdefault(name, []).append(value)
        path = scope.get("raw_path", scope["path"].encode()).decode().partition("?")[0]
        if scope["type"] == "websocket":
            request = Request("GET", path, query, dict(incoming.headers))
            await converse(desk, request, receive, send, folder)
            return
        content = await Incoming(scope, receive).body()
        delivery = desk.answer(Request(scope["method"], path, query, dict(incoming.headers), content))
        if delivery.delay_seconds:
            await desk.world.clock.sleep(delivery.delay_seconds)
        match delivery.cut:
            case Cut.NONE if delivery.response.flow is not None:
                await flow(receive, send, delivery.response, desk.world.clock)
            case Cut.NONE:
                await _send(send, delivery.response)
            case Cut.HANG:
                await _until_the_client_leaves(receive)
            case Cut.DROP:
                scope[_TRANSPORT].abort()
            case Cut.TRUNCATE:
                await _send(send, delivery.response, cut=True)
                scope[_TRANSPORT].close()

    return answer


async def _send(send: Send, response: Response, *, cut: bool = False) -> None:
    content = response.content
    headers = {"Content-Type": response.content_type, **response.headers} if content else dict(response.headers)
    if response.status != 204:
        headers["Content-Length"] = str(len(content) + (8 if cut and len(content) < 2 else 0))
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": response.status, "headers": pairs})
    body = content[: len(content) // 2] if cut else content
    await send({"type": "http.response.body", "body": body, "more_body": cut})


async def _until_the_client_leaves(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@asynccontextmanager
async def served(desk: Desk, *, host: str = "127.0.0.1", port: int = 0, folder: Path) -> AsyncIterator[str]:
    """The emulators on `port` (0: any), SSH on the port after it, the nodes' files in `folder`. Yields the base URL."""
    listening, ssh = _two_ports(host, port)
    config = uvicorn.Config(
        application(desk, folder),
        ws="websockets-sansio",
        lifespan="off",
        log_level="critical",
        access_log=False,
        h11_max_incomplete_event_size=_LARGEST_HEAD,
    )
    config.load()
    state = ServerState()

    def connected() -> asyncio.Protocol:
        return CuttableProtocol(config, state, {})

    async with Gateway(desk, folder).listening(ssh):
        server = await asyncio.get_running_loop().create_server(connected, sock=listening)
        try:
            yield f"http://{host}:{listening.getsockname()[1]}"
        finally:
            server.close()
            for connection in list(state.connections):
                connection.transport.abort()
            for task in list(state.tasks):
                task.cancel()
            await asyncio.gather(*state.tasks, return_exceptions=True)


def run(desk: Desk, *, host: str, port: int, announce: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; `announce` gets the base URL once requests are answered. Raises OSError for a
    port."""

    async def until_told_to_end() -> None:
        ended = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
        with tempfile.TemporaryDirectory(prefix="gpuplan-emulator-") as folder:
            async with served(desk, host=host, port=port, folder=Path(folder)) as url:
                announce(url)
                await ended.wait()

    asyncio.run(until_told_to_end())


@contextmanager
def serving(desk: Desk, *, port: int = 0) -> Iterator[str]:
    """The emulators in a thread of their own, for as long as the block lasts. Yields the base URL."""
    ready = threading.Event()
    urls: list[str] = []
    failures: list[OSError] = []
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def main() -> None:
        with tempfile.TemporaryDirectory(prefix="gpuplan-emulator-") as folder:
            async with served(desk, port=port, folder=Path(folder)) as url:
                urls.append(url)
                ready.set()
                await stop.wait()

    def run() -> None:
        try:
            loop.run_until_complete(main())
        except OSError as exc:
            failures.append(exc)
        finally:
            ready.set()
            loop.close()

    thread = threading.Thread(target=run, name="gpuplan-emulator", daemon=True)
    thread.start()
    ready.wait()
    if failures:
        raise failures[0]
    try:
        yield urls[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


def _two_ports(host: str, port: int) -> tuple[socket.socket, socket.socket]:
    """Two listening sockets with neighbouring numbers. Raises OSError."""
    for _ in range(100):
        first = _listen(host, port)
        try:
            return first, _listen(host, first.getsockname()[1] + 1)
        except (OSError, OverflowError):
            first.close()
            if port:
                raise
    raise OSError(f"no two free ports side by side on {host}")


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named outright, so that connections are recognised as TCP and answer without Nagle's delay.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(512)
    except OSError:
        listening.close()
        raise
    return listening
