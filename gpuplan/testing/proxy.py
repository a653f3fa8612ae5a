"""A network that fails once, at a chosen moment: a proxy on loopback between a program under test and a real server.

    with FaultyProxy(("127.0.0.1", 5432), at=7, fault=Fault.CUT_AFTER) as proxy:
        ...  # connect to 127.0.0.1:proxy.port

A *step* is a piece of data that a client sends, as it arrives; they are counted over all connections.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from threading import Event, Thread
from types import TracebackType

_SLOW_SECONDS = 0.3
_PIECE = 65536


class Fault(StrEnum):
    """What happens at the chosen step. `AFTER`: the server has done what it was asked, and nobody hears of it."""

    CUT = "cut"
    CUT_AFTER = "cut-after"
    HANG = "hang"
    HANG_AFTER = "hang-after"
    DELAY = "delay"
    CALL = "call"
    """`called` is run, and then the connection is cut."""
    CALL_AFTER = "call-after"

    @property
    def is_after(self) -> bool:
        return self.value.endswith("after")


class FaultyProxy:
    """Listens while the block lasts. `at` 0: nothing ever fails."""

    def __init__(
        self, server: tuple[str, int], *, at: int, fault: Fault = Fault.CUT, called: Callable[[], None] = lambda: None
    ) -> None:
        self._server = server
        self._at = at
        self._fault = fault
        self._called = called
        self._listening = Event()
        self._over = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._connections: set[asyncio.Task[None] | None] = set()
        """The loop itself does not keep a task that waits for ever."""
        self.steps = 0
        self.port = 0

    def __enter__(self) -> "FaultyProxy":
        self._thread.start()
        self._listening.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        listener = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.port = listener.sockets[0].getsockname()[1]
        self._listening.set()
        async with listener:
            await self._over.wait()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(asyncio.current_task())
        there, to_server = await asyncio.open_connection(*self._server)
        muted = asyncio.Event()
        up = asyncio.create_task(self._forward(reader, to_server, muted))
        down = asyncio.create_task(self._answer(there, writer, muted))
        try:
            # Cancelled when the proxy ends, which is no news to anyone.
            with suppress(asyncio.CancelledError):
                await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (up, down):
                task.cancel()
            writer.close()
            to_server.close()

    async def _forward(
        self, reader: asyncio.StreamReader, to_server: asyncio.StreamWriter, muted: asyncio.Event
    ) -> None:
        with suppress(OSError):
            while piece := await reader.read(_PIECE):
                self.steps += 1
                if self.steps == self._at:
                    if self._fault.is_after:
                        muted.set()
                    elif not await self._goes_on():
                        return
                to_server.write(piece)
                await to_server.drain()

    async def _goes_on(self) -> bool:
        """Do what happens before the effect; whether the piece is forwarded then."""
        match self._fault:
            case Fault.DELAY:
                await asyncio.sleep(_SLOW_SECONDS)  # noqa: TID251  a real network is slow in real time
                return True
            case Fault.HANG:
                await asyncio.Event().wait()
            case Fault.CALL:
                self._called()
        return False

    async def _answer(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter, muted: asyncio.Event) -> None:
        with suppress(OSError):
            while piece := await there.read(_PIECE):
                if muted.is_set():
                    if self._fault is Fault.HANG_AFTER:
                        await asyncio.Event().wait()
                    if self._fault is Fault.CALL_AFTER:
                        self._called()
                    return
                writer.write(piece)
                await writer.drain()
