"""A node behind the exec and the port-forward of a Kubernetes API server: `core.ports.Channel` over WebSockets.

Every message begins with the number of its channel. Used by adapters whose nodes are pods.
"""

import asyncio
import json
import posixpath
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path

from gpuplan.core.errors import Failure, InvalidRequest, OutcomeUnknown, ProviderError, Unsupported
from gpuplan.core.ports import ExecResult
from gpuplan.core.values import JsonValue
from gpuplan.net.exchange import Lost, Socket
from gpuplan.net.lines import LineSplitter, Tail
from gpuplan.net.payload import dig
from gpuplan.net.ssh_archive import BLOCK, giving, packed, taking, unpacked
from gpuplan.net.ssh_script import Script, fed, leashed
from gpuplan.net.threads import run_blocking

STDIN, STDOUT, STDERR, ERROR, CLOSE = 0, 1, 2, 3, 255
_CLOSES = "v5.channel.k8s.io"
"""The protocol that can end a command's input while the command goes on."""
_HERE = "."
"""Commands begin in the working directory of their container."""

Execute = Callable[[Sequence[str], str], AbstractAsyncContextManager[Socket]]
"""Opens a socket to a command; the text is what for."""
Forward = Callable[[int, str], AbstractAsyncContextManager[Socket]]
"""Opens a socket to a port of the node."""


class PodChannel:
    """`name` is the node's, for messages. Nothing is held open between commands."""

    def __init__(
        self, execute: Execute, forward: Forward, *, provider: str, name: str, redact: Callable[[str], str]
    ) -> None:
        self._execute = execute
        self._forward = forward
        self._provider = provider
        self._name = name
        self._redact = redact

    async def run(
        self,
        command: str,
        *,
        env: Mapping[str, str],
        stdin: bytes = b"",
        each_line: Callable[[str], None] | None = None,
    ) -> ExecResult:
        tail, ending = Tail(self._redact), _Ending()
        async with self._running(command, env, stdin) as socket:
            async for line in _lines(socket, ending):
                tail.add(line)
                if each_line is not None:
                    each_line(line)
        return ExecResult(self._status(ending, "run a command on"), tail.text)

    async def stream(self, command: str, *, env: Mapping[str, str]) -> AsyncIterator[str]:
        ending = _Ending()
        async with self._running(command, env, b"") as socket:
            async for line in _lines(socket, ending):
                yield line
        self._status(ending, "run a command on")

    async def put(self, source: Path, target: str) -> None:
        to = f"copy `{source}` onto"
        try:
            script = await run_blocking(taking, source, target)
            blocks = await run_blocking(packed, source)
        except OSError as exc:
            fact = f"`{source}`: {(exc.strerror or str(exc)).lower()}"
            raise InvalidRequest(self._failure(to, fact)) from exc
        async with self._session(self._script(fed, script, {}), to) as socket:
            await self._feed(socket, blocks)
            await self._copied(socket, to, lambda block: None)

    async def get(self, source: str, target: Path) -> None:
        to = f"copy `{source}` from"
        name, short = (
            posixpath.basename(source.rstrip("/")),
            self._failure(to, "it came short; nothing was written here"),
        )
        script = self._script(leashed, giving(source), {})
        async with unpacked(name, target, short) as keep, self._session(script, to) as socket:
            await self._copied(socket, to, keep)

    @asynccontextmanager
    async def forward(self, port: int, local_port: int = 0) -> AsyncIterator[int]:
        to = f"forward a port to port {port} of"
        opening = f"{to} {self._name}"

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # A connection that breaks is the business of who made it: the next one may hold.
            with suppress(ProviderError, OSError):
                async with self._forward(port, opening) as socket:
                    await _carry(socket, reader, writer)
            writer.close()

        try:
            server = await asyncio.start_server(serve, "127.0.0.1", local_port)
        except OSError as exc:
            fact = f"port {local_port} of this machine: {(exc.strerror or str(exc)).lower()}"
            raise InvalidRequest(self._failure(to, fact)) from exc
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()

    async def close(self) -> None:
        """Nothing is held open."""

    @asynccontextmanager
    async def _running(self, command: str, env: Mapping[str, str], stdin: bytes) -> AsyncIterator[Socket]:
        to = "run a command on"
        async with self._session(self._script(fed if stdin else leashed, command, env), to) as socket:
            if stdin:
                await self._feed(socket, (stdin[at : at + BLOCK] for at in range(0, len(stdin), BLOCK)))
            yield socket

    @asynccontextmanager
    async def _session(self, script: Script, to: str) -> AsyncIterator[Socket]:
        """A command that has its script; its input ends with the block, and it with that."""
        async with self._execute(("sh", "-c", script.words), f"{to} {self._name}") as socket:
            await socket.send(bytes([STDIN]) + script.text)
            yield socket

    def _script(self, kind: Callable[..., Script], command: str, env: Mapping[str, str]) -> Script:
        try:
            return kind(command, env=env, workspace=_HERE)
        except ValueError as exc:
            raise InvalidRequest(self._failure("run a command on", str(exc))) from exc

    async def _feed(self, socket: Socket, blocks: Iterator[bytes]) -> None:
        if socket.protocol != _CLOSES:
            fact = "its API server is too old to end the input of a command (1.30 is the first that can)"
            raise Unsupported(self._failure("send input to a command on", fact))
        for block in blocks:
            await socket.send(bytes([STDIN]) + block)
        await socket.send(bytes([CLOSE, STDIN]))

    async def _copied(self, socket: Socket, to: str, keep: Callable[[bytes], object]) -> None:
        """Wait for a copy. Raises what was said when it did not work."""
        said, ending = b"", _Ending()
        async for channel, block in _output(socket, ending):
            if channel == STDOUT:
                keep(block)
            else:
                said += block
        if self._status(ending, to):
            tail = Tail(self._redact)
            for line in said.decode(errors="replace").splitlines():
                tail.add(line)
            raise InvalidRequest(self._failure(to, message=tail.text))

    def _status(self, ending: "_Ending", to: str) -> int:
        if ending.refused:
            raise InvalidRequest(self._failure(to, message=ending.refused))
        if ending.status is None:
            raise OutcomeUnknown(self._failure(to, "the connection ended before the command did"))
        return ending.status

    def _failure(self, to: str, *facts: str, message: str = "") -> Failure:
        return Failure(self._provider, f"{to} {self._name}", message=message, facts=facts)


class _Ending:
    """How a command ended; no status where that was not told. `refused`: it could not be run at all."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.refused = ""

    def read(self, message: bytes) -> None:
        told: JsonValue = json.loads(message)
        if dig(told, "status") == "Success":
            self.status = 0
        elif dig(told, "reason") == "NonZeroExitCode":
            causes = dig(told, "details.causes")
            codes = (
                [dig(cause, "message") for cause in causes if dig(cause, "reason") == "ExitCode"]
                if isinstance(causes, list)
                else []
            )
            self.status = int(str(codes[0])) if codes else 1
        else:
            self.refused = str(dig(told, "message") or "it could not be run")


async def _output(socket: Socket, ending: _Ending) -> AsyncIterator[tuple[int, bytes]]:
    while (message := await socket.receive()) is not None:
        if message[:1] == bytes([ERROR]):
            ending.read(message[1:])
            return
        if len(message) > 1 and message[0] in (STDOUT, STDERR):
            yield message[0], message[1:]


async def _lines(socket: Socket, ending: _Ending) -> AsyncIterator[str]:
    """Of both streams, each line whole."""
    splitters = {STDOUT: LineSplitter(), STDERR: LineSplitter()}
    async for channel, block in _output(socket, ending):
        for line in splitters[channel].feed(block):
            yield line
    for splitter in splitters.values():
        for line in splitter.end():
            yield line


async def _carry(socket: Socket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Bytes both ways until one side has enough. Channel 0 is data, 1 is what went wrong; each begins with the port."""

    async def up() -> None:
        while block := await reader.read(BLOCK):
            await socket.send(bytes([0]) + block)

    async def down() -> None:
        begun: set[int] = set()
        while (message := await socket.receive()) is not None:
            channel, content = message[0], message[1:]
            if channel not in begun:
                begun.add(channel)
            elif channel == 0:
                writer.write(content)
                await writer.drain()
            else:
                return

    tasks = [asyncio.ensure_future(up()), asyncio.ensure_future(down())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception) and not isinstance(outcome, (Lost, OSError)):
                raise outcome
