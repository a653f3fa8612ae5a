"""A node over SSH: one connection, over which everything goes that is done there. Made by `ssh`."""

import asyncio
import posixpath
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import asyncssh

from gpuplan.core.errors import InvalidRequest, NotFound, OutcomeUnknown
from gpuplan.core.ports import ExecResult
from gpuplan.net.lines import LineSplitter, Tail
from gpuplan.net.ssh_archive import BLOCK, MISSING, giving, is_folder, packed, taking, unpacked
from gpuplan.net.ssh_errors import Node, copying, working
from gpuplan.net.ssh_script import Script, fed, leashed
from gpuplan.net.ssh_session import LAST_WORDS_SECONDS, STDERR, STDOUT, Session
from gpuplan.net.threads import run_blocking

SESSIONS = 8
"""Commands at once over one connection: OpenSSH allows ten sessions, and file transfer takes one too."""
_CLOSING_SECONDS = 5
_NO_SFTP = (asyncssh.ChannelOpenError, asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection, asyncssh.SFTPEOFError)


class SshChannel:
    """`core.ports.Channel` over an open connection, which is closed with it."""

    def __init__(
        self,
        connection: asyncssh.SSHClientConnection,
        node: Node,
        *,
        workspace: str,
        redact: Callable[[str], str],
    ) -> None:
        self._connection = connection
        self._node = node
        self._workspace = workspace
        self._redact = redact
        self._sessions = asyncio.Semaphore(SESSIONS)

    async def run(
        self,
        command: str,
        *,
        env: Mapping[str, str],
        stdin: bytes = b"",
        each_line: Callable[[str], None] | None = None,
    ) -> ExecResult:
        tail = Tail(self._redact)
        async with self._running(command, env, stdin) as session:
            async for line in _lines(session):
                tail.add(line)
                if each_line is not None:
                    each_line(line)
        return ExecResult(self._status(session), tail.text)

    async def stream(self, command: str, *, env: Mapping[str, str]) -> AsyncIterator[str]:
        async with self._running(command, env, b"") as session:
            async for line in _lines(session):
                yield line
        self._status(session)

    def _status(self, session: Session) -> int:
        if session.status is None:
            facts = ("the connection ended before the command did",)
            raise OutcomeUnknown(self._node.failure("run a command on", *facts)) from session.trouble
        return session.status

    @asynccontextmanager
    async def _running(self, command: str, env: Mapping[str, str], stdin: bytes) -> AsyncIterator[Session]:
        try:
            script = (fed if stdin else leashed)(command, env=env, workspace=self._workspace)
        except ValueError as exc:
            raise InvalidRequest(self._node.failure("run a command on", str(exc))) from exc
        async with self._session(script) as session:
            feeding = asyncio.create_task(_feed(session, stdin)) if stdin else None
            try:
                yield session
            finally:
                if feeding is not None:
                    feeding.cancel()
                    await asyncio.wait([feeding])

    @asynccontextmanager
    async def _session(self, script: Script) -> AsyncIterator[Session]:
        """A command that has its script; it is ended with the block."""
        async with self._sessions:
            with working(self._node, "run a command on"):
                session = Session()
                channel, _ = await self._connection.create_session(lambda: session, script.words, encoding=None)
            try:
                await session.send([script.text])
                yield session
            finally:
                # Lets go of the leash: what still runs there is ended.
                channel.close()

    async def put(self, source: Path, target: str) -> None:
        to = f"copy `{source}` onto"
        with copying(self._node, to):
            recurse = await run_blocking(is_folder, source)
            try:
                async with self._connection.start_sftp_client() as sftp:
                    await sftp.makedirs(self._workspace, exist_ok=True)
                    await sftp.put(str(source), self._place(target), recurse=recurse, preserve=True)
                    return
            except _NO_SFTP:
                # The node may have no SFTP server at all. What else is wrong shows again.
                pass
            await self._put_by_shell(source, target)

    async def get(self, source: str, target: Path) -> None:
        to = f"copy `{source}` from"
        with copying(self._node, to):
            try:
                async with self._connection.start_sftp_client() as sftp:
                    place = self._place(source)
                    await sftp.get(place, str(target), recurse=await sftp.isdir(place), preserve=True)
                    return
            except _NO_SFTP:
                pass
            await self._get_by_shell(source, target)

    def _place(self, path: str) -> str:
        """A path of the node, as its file server takes it: relative ones begin at the user's home there."""
        return path[2:] or "." if path.startswith("~/") else posixpath.join(self._workspace, path)

    async def _put_by_shell(self, source: Path, target: str) -> None:
        script = fed(taking(source, target), env={}, workspace=self._workspace)
        async with self._session(script) as session:
            blocks = await run_blocking(packed, source)
            await session.send(blocks)
            session.end_input()
            await self._ended(session, f"copy `{source}` onto", lambda block: None)

    async def _get_by_shell(self, source: str, target: Path) -> None:
        to = f"copy `{source}` from"
        script = leashed(giving(source), env={}, workspace=self._workspace)
        name, short = (
            posixpath.basename(source.rstrip("/")),
            self._node.failure(to, "it came short; nothing was written here"),
        )
        async with unpacked(name, target, short) as keep, self._session(script) as session:
            await self._ended(session, to, keep)

    async def _ended(self, session: Session, to: str, keep: Callable[[bytes], object]) -> None:
        """Wait for a copy by the shell. Raises what it said when it did not work."""
        said = b""
        # It leaves nothing running, so its streams end, however slow the way is.
        async for stream, block in session.output(patience_seconds=None):
            if stream == STDOUT:
                keep(block)
            else:
                said += block
        if session.status is None:
            raise asyncssh.ConnectionLost("the connection ended before the copy did")
        if session.status == MISSING:
            raise NotFound(self._node.failure(to))
        if session.status:
            tail = Tail(self._redact)
            for line in said.decode(errors="replace").splitlines():
                tail.add(line)
            raise InvalidRequest(self._node.failure(to, message=tail.text))

    @asynccontextmanager
    async def forward(self, port: int, local_port: int = 0) -> AsyncIterator[int]:
        to = f"forward a port to port {port} of"
        try:
            listener = await self._connection.forward_local_port("127.0.0.1", local_port, "127.0.0.1", port)
        except OSError as exc:
            fact = f"port {local_port} of this machine: {(exc.strerror or str(exc)).lower()}"
            raise InvalidRequest(self._node.failure(to, fact)) from exc
        try:
            yield listener.get_port()
        finally:
            listener.close()

    async def close(self) -> None:
        self._connection.close()
        await _within(_CLOSING_SECONDS, self._connection.wait_closed())


async def _feed(session: Session, stdin: bytes) -> None:
    """Beside reading: a command may not take more before it is rid of what it has printed."""
    await session.send(stdin[at : at + BLOCK] for at in range(0, len(stdin), BLOCK))
    session.end_input()


async def _within(seconds: float, work: Awaitable[None]) -> None:
    """A node that is gone must not hold up who leaves it."""
    try:
        async with asyncio.timeout(seconds):
            await work
    except TimeoutError:
        return


async def _lines(session: Session) -> AsyncIterator[str]:
    """Of both streams, each line whole."""
    splitters = {STDOUT: LineSplitter(), STDERR: LineSplitter()}
    async for stream, block in session.output(patience_seconds=LAST_WORDS_SECONDS):
        for line in splitters[stream].feed(block):
            yield line
    for splitter in splitters.values():
        for line in splitter.end():
            yield line
