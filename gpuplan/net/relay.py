"""Carry a loopback port of this machine to another one. Used by `local`, whose nodes listen on this machine."""

import asyncio
from contextlib import suppress
from types import TracebackType

_HOST = "127.0.0.1"
_BLOCK = 65536


class Relay:
    """Connections to the one port reach the other, as long as the block lasts. Made by `relayed`."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._tasks: set[asyncio.Task[None]] = set()
        self.server: asyncio.Server | None = None

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(OSError):
                far_reader, far_writer = await asyncio.open_connection(_HOST, self._port)
                try:
                    await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
                finally:
                    far_writer.close()
        finally:
            self._tasks.discard(task)
            writer.close()

    async def __aenter__(self) -> "Relay":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.server is not None
        self.server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def relayed(port: int, local_port: int) -> Relay:
    """Listen on `local_port` for what is meant for `port`. Raises OSError when that port is taken."""
    relay = Relay(port)
    relay.server = await asyncio.start_server(relay.carry, _HOST, local_port)
    return relay


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while block := await reader.read(_BLOCK):
            writer.write(block)
            await writer.drain()
        writer.write_eof()
