"""The HTTP library behind its seam: what is certain and what is not, over real sockets of this machine."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from gpuplan.net.exchange import Lost, NeverSent, Outgoing, Response
from gpuplan.net.wire import HttpxWire

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def exchange(answer: Answer, *, timeout: float = 5) -> Response:
    """What comes back from a server that answers one connection so."""

    async def main() -> Response:
        served = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            await answer(reader, writer)
            writer.close()
            await writer.wait_closed()
            served.set()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        wire = HttpxWire(concurrency=1, is_local=True)
        try:
            return await wire.send(Outgoing("POST", f"http://127.0.0.1:{port}/nodes", {}, b"{}"), timeout)
        finally:
            await wire.close()
            server.close()
            await served.wait()

    return asyncio.run(main())


def saying(text: bytes) -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(text)
        await writer.drain()

    return answer


def test_an_answer_comes_back_with_lower_case_headers() -> None:
    response = exchange(saying(b"HTTP/1.1 201 Created\r\nX-Request-ID: r1\r\nContent-Length: 2\r\n\r\nhi"))

    assert (201, "r1", b"hi") == (response.status, response.headers["x-request-id"], response.content)


def test_a_redirect_is_not_followed() -> None:
    moved = b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere.invalid/\r\nContent-Length: 0\r\n\r\n"

    assert 302 == exchange(saying(moved)).status


@pytest.mark.parametrize(
    "text",
    [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", b"not HTTP at all\r\n\r\n"],
    ids=["dropped", "truncated", "gibberish"],
)
def test_an_answer_that_does_not_arrive_whole_is_lost(text: bytes) -> None:
    with pytest.raises(Lost):
        exchange(saying(text))


def test_an_answer_that_never_comes_is_lost() -> None:
    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    with pytest.raises(Lost):
        exchange(silence, timeout=0.2)


def test_a_closed_port_was_never_reached() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]

    async def main() -> None:
        wire = HttpxWire(concurrency=1, is_local=True)
        try:
            await wire.send(Outgoing("GET", f"http://127.0.0.1:{port}/", {}), 5)
        finally:
            await wire.close()

    with pytest.raises(NeverSent):
        asyncio.run(main())
