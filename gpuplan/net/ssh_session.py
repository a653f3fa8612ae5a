"""One command on a node, as asyncssh sees it: bytes out, bytes in, and how it ended. Used by `ssh_channel`."""

import asyncio
import contextlib
import signal
from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import Any

import asyncssh

_ENOUGH = 1 << 20
"""Bytes that may wait to be read before the node is asked to pause."""
LAST_WORDS_SECONDS = 0.5
"""How long after its end a command's output is waited for: what it left running may hold the streams open for ever."""
STDOUT, STDERR = 0, 1


class Session(asyncssh.SSHClientSession[bytes]):
    """Made by asyncssh when the channel is open."""

    def __init__(self) -> None:
        self.status: int | None = None
        """Exit status as a shell tells it; None while it runs, and for ever when the connection broke."""
        self.trouble: Exception | None = None
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._blocks: deque[tuple[int, bytes]] = deque()
        self._waiting = 0
        self._changed = asyncio.Event()
        self._is_over = False
        self._may_write = asyncio.Event()
        self._may_write.set()

    def connection_made(self, chan: "asyncssh.SSHClientChannel[bytes]") -> None:
        self._channel = chan

    def data_received(self, data: bytes, datatype: Any) -> None:  # as asyncssh declares it
        self._blocks.append((STDERR if datatype == asyncssh.EXTENDED_DATA_STDERR else STDOUT, data))
        self._waiting += len(data)
        if self._waiting >= _ENOUGH and self._channel is not None:
            self._channel.pause_reading()
        self._changed.set()

    def exit_status_received(self, status: int) -> None:
        self.status = status
        self._changed.set()

    def exit_signal_received(self, signal_name: str, core_dumped: bool, msg: str, lang: str) -> None:
        known = signal.Signals.__members__.get(f"SIG{signal_name}")
        self.status = 128 + (known or signal.SIGKILL)
        self._changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.trouble = exc
        self._is_over = True
        self._changed.set()
        self._may_write.set()

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    async def send(self, blocks: Iterable[bytes]) -> None:
        """Write as fast as the node takes it. What is sent after its end goes nowhere."""
        assert self._channel is not None
        for block in blocks:
            await self._may_write.wait()
            try:
                self._channel.write(block)
            except BrokenPipeError:
                return

    def end_input(self) -> None:
        assert self._channel is not None
        with contextlib.suppress(BrokenPipeError):
            self._channel.write_eof()

    async def output(self, *, patience_seconds: float | None) -> AsyncIterator[tuple[int, bytes]]:
        """Blocks with the stream they come from, until the command is over: its streams have ended, or it has and
        nothing came for `patience_seconds`."""
        while True:
            while self._blocks:
                stream, block = self._blocks.popleft()
                self._waiting -= len(block)
                if self._waiting < _ENOUGH and self._channel is not None and not self._is_over:
                    self._channel.resume_reading()
                yield stream, block
            if self._is_over:
                return
            self._changed.clear()
            try:
                async with asyncio.timeout(None if self.status is None else patience_seconds):
                    await self._changed.wait()
            except TimeoutError:
                return
