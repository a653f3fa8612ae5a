"""Answers that go on: flows of an emulator, and its sessions over WebSockets, for `serve`."""

import asyncio
from pathlib import Path
from typing import Any

from starlette.types import Receive, Send

from gpuplan.core.ports import Clock
from gpuplan.emulators.desk import Desk
from gpuplan.emulators.http import FLOW_SECONDS, Request, Response

_SUBPROTOCOL = "sec-websocket-protocol"


async def flow(receive: Receive, send: Send, response: Response, clock: Clock) -> None:
    """Send what there is of a flow, as long as there is more and the client listens."""
    headers = {"Content-Type": response.content_type, **response.headers}
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": response.status, "headers": pairs})
    await send({"type": "http.response.body", "body": response.content, "more_body": True})
    leaving = asyncio.ensure_future(_gone(receive))
    try:
        while response.flow is not None and not leaving.done() and (blocks := response.flow()) is not None:
            if blocks:
                await send({"type": "http.response.body", "body": b"".join(blocks), "more_body": True})
            await clock.sleep(FLOW_SECONDS)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    finally:
        leaving.cancel()


async def converse(desk: Desk, request: Request, receive: Receive, send: Send, folder: Path) -> None:
    """Answer one who asks for a WebSocket: a session, or a refusal."""
    await receive()
    response = desk.answer(request).response
    if response.session is None:
        headers = {"Content-Type": response.content_type, **response.headers}
        pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "websocket.http.response.start", "status": response.status, "headers": pairs})
        await send({"type": "websocket.http.response.body", "body": response.content})
        return
    lowered = {name.lower(): value for name, value in response.headers.items()}
    await send({"type": "websocket.accept", "subprotocol": lowered.get(_SUBPROTOCOL)})
    socket = _AsgiSocket(receive, send)
    await response.session(socket, folder)
    if not socket.is_gone:
        await send({"type": "websocket.close", "code": 1000})


class _AsgiSocket:
    """A `http.Socket`."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self.is_gone = False

    async def receive(self) -> bytes | None:
        message: dict[str, Any] = dict(await self._receive())
        if message["type"] != "websocket.receive":
            self.is_gone = True
            return None
        data = message.get("bytes")
        return data if data is not None else str(message.get("text", "")).encode()

    async def send(self, message: bytes | str) -> None:
        if not self.is_gone:
            await self._send({"type": "websocket.send", "text" if isinstance(message, str) else "bytes": message})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
