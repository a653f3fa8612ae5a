"""The pipes of a running command, carried from and to the channel of an SSH session. Used by `nodes`.

asyncssh can do that itself, with asyncio's pipe transports. A write transport that is resumed and ended in one step, as
happens when a client is done while the command is still reading, drops what it has not written and closes a file
descriptor that the selector still watches; the next pipe with that number is then never read.
"""

import asyncio
import os
import subprocess
from collections.abc import Callable
from contextlib import suppress
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    import asyncssh

_BLOCK = 65536
_FULL_PIPE = 1 << 20
"""Bytes that a pipe can hold at most, where nobody but root may ask for more."""


async def carry(
    process: "asyncssh.SSHServerProcess[bytes]", child: subprocess.Popen[bytes], ended: asyncio.Future[int]
) -> int:
    """Let a client and a command talk until it has `ended`, and all it said is passed on. Returns its status."""
    assert child.stdin and child.stdout and child.stderr
    feeding = asyncio.create_task(_feed(process.stdin, child.stdin))
    try:
        _, _, status = await asyncio.gather(
            _tell(child.stdout, process.stdout, ended), _tell(child.stderr, process.stderr, ended), ended
        )
    finally:
        feeding.cancel()
    return status


async def _feed(source: "asyncssh.SSHReader[bytes]", pipe: IO[bytes]) -> None:
    """Give a command its input, until that ends or the command takes no more of it."""
    import asyncssh

    loop, file = asyncio.get_running_loop(), pipe.fileno()
    os.set_blocking(file, False)
    with pipe, suppress(OSError, asyncssh.Error):
        while block := await _read(source):
            left = memoryview(block)
            while left:
                try:
                    left = left[os.write(file, left) :]
                except BlockingIOError:
                    await _ready(file, loop.add_writer, loop.remove_writer)


async def _read(source: "asyncssh.SSHReader[bytes]") -> bytes:
    """The next block. A signal or a break is raised where it came in between; without a terminal nobody gets it."""
    import asyncssh

    while True:
        with suppress(asyncssh.SignalReceived, asyncssh.BreakReceived, asyncssh.TerminalSizeChanged):
            return await source.read(_BLOCK)


async def _tell(pipe: IO[bytes], target: "asyncssh.SSHWriter[bytes]", ended: asyncio.Future[int]) -> None:
    """Pass on all that a command says until it has `ended`. What it left running may hold the pipe for ever, and is
    not waited for."""
    import asyncssh

    loop, file = asyncio.get_running_loop(), pipe.fileno()
    os.set_blocking(file, False)
    with pipe, suppress(OSError, asyncssh.Error):
        while not ended.done():
            try:
                block = os.read(file, _BLOCK)
            except BlockingIOError:
                await _ready(file, loop.add_reader, loop.remove_reader, ended)
                continue
            if not block:
                return
            target.write(block)
            await target.drain()
        # Whatever it said before it ended is in the pipe by now, and one read takes all of it.
        target.write(os.read(file, _FULL_PIPE))
        await target.drain()


async def _ready(
    file: int,
    watch: Callable[[int, Callable[[], None]], None],
    unwatch: Callable[[int], bool],
    *others: asyncio.Future[int],
) -> None:
    """Wait until a file descriptor can be used, or for what else may come first."""
    usable = asyncio.get_running_loop().create_future()
    watch(file, lambda: None if usable.done() else usable.set_result(0))
    try:
        await asyncio.wait([usable, *others], return_when=asyncio.FIRST_COMPLETED)
    finally:
        unwatch(file)
