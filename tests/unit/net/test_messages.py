"""`Api.messages`, over real WebSockets: one thing is said, and what comes back is heard."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from websockets.asyncio.server import ServerConnection, serve

from gpuplan.core.errors import Unavailable
from gpuplan.core.secret import Redactor
from gpuplan.net.api import AccountFacts, Api
from gpuplan.net.auth import Nobody
from gpuplan.net.profile import Effect, Host, HttpProfile
from gpuplan.net.transport import Border
from gpuplan.net.wire import HttpxWire
from gpuplan.testing.clock import FakeClock

QUIET_SECONDS = 0.05


async def two_and_an_end(connection: ServerConnection) -> None:
    said = await connection.recv()
    assert isinstance(said, str)
    await connection.send(said)
    await connection.send(b"second")


async def two_and_silence(connection: ServerConnection) -> None:
    await two_and_an_end(connection)
    await connection.wait_closed()


async def a_break(connection: ServerConnection) -> None:
    await two_and_an_end(connection)
    connection.transport.abort()


async def hear(talk: Callable[[ServerConnection], Awaitable[None]], quiet_seconds: float | None) -> list[bytes]:
    async with serve(talk, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        clock, wire = FakeClock(), HttpxWire(concurrency=1, is_local=True)
        profile = HttpProfile(hosts={"": Host(url)}, auth=Nobody(), credentials={})
        border = Border(wire, profile, provider="acme", endpoints={"": url}, keys={}, clock=clock, redactor=Redactor())
        api = Api(border, border, AccountFacts("acme", url, {}), clock, None)
        try:
            messages = api.messages("/log", say="first", quiet_seconds=quiet_seconds, effect=Effect.NONE, to="listen")
            return [message async for message in messages]
        finally:
            await api.close()


@pytest.mark.parametrize(("talk", "quiet"), [(two_and_an_end, None), (two_and_silence, QUIET_SECONDS)])
def test_messages_end_when_the_other_side_closes_or_falls_silent(
    talk: Callable[[ServerConnection], Awaitable[None]], quiet: float | None
) -> None:
    assert [b"first", b"second"] == asyncio.run(hear(talk, quiet))


def test_a_socket_that_breaks_is_an_error() -> None:
    with pytest.raises(Unavailable):
        asyncio.run(hear(a_break, None))
