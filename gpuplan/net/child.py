"""A child process of this machine whose output is heard line by line. Used by `local`, whose nodes are this machine."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from gpuplan.net.lines import LineSplitter

_BLOCK = 65536


class Child:
    """`status` is as a shell tells it; None while it runs."""

    def __init__(self, running: asyncio.subprocess.Process) -> None:
        self._running = running

    @property
    def status(self) -> int | None:
        code = self._running.returncode
        return code if code is None or code >= 0 else 128 - code

    async def lines(self) -> AsyncIterator[str]:
        """What it prints on either stream, until it ends."""
        assert self._running.stdout is not None
        splitter = LineSplitter()
        while block := await self._running.stdout.read(_BLOCK):
            for line in splitter.feed(block):
                yield line
        for line in splitter.end():
            yield line
        await self._running.wait()


@asynccontextmanager
async def begun(
    argv: Sequence[str], *, folder: Path, environ: Mapping[str, str], first_words: bytes
) -> AsyncIterator[Child]:
    """Start a child that reads `first_words`; its standard input ends with the block, or with us, and so must it.

    Raises OSError.
    """
    running = await asyncio.create_subprocess_exec(
        *argv,
        cwd=folder,
        env=dict(environ),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    assert running.stdin is not None and running.stdout is not None
    try:
        running.stdin.write(first_words)
        yield Child(running)
    finally:
        running.stdin.close()
        # A child that nobody listens to any more could not end before its output is read.
        while await running.stdout.read(_BLOCK):
            pass
        await running.wait()
