"""The SSH endpoints of emulated nodes: real servers with a real shell in a scratch folder.

One gateway stands in front of all of them: who jumps over it to a node's own address and port gets that node's server,
where the keys count that were declared for the node, once it is up. What runs there runs as the user who runs the
emulator.
"""

import asyncio
import contextlib
import os
import pty
import re
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpuplan.emulators.desk import Desk
from gpuplan.emulators.site import Site
from gpuplan.emulators.world import Thing

if TYPE_CHECKING:
    import asyncssh

_BLOCK = 65536


class Gateway:
    """The SSH server all emulated nodes are behind. `folder` gets one folder for every node that is visited."""

    def __init__(self, desk: Desk, folder: Path) -> None:
        self._desk = desk
        self._folder = folder
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def listening(self, knocks: socket.socket) -> AsyncIterator[None]:
        """Serve connections that come in on a listening socket, until the block ends."""
        knocks.setblocking(False)
        self._keep(self._open_the_door(knocks))
        try:
            yield
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            knocks.close()

    @cached_property
    def _host_key(self) -> "asyncssh.SSHKey":
        # Few who run an emulator ever log in: the library is loaded for the first who does.
        import asyncssh

        return asyncssh.generate_private_key("ssh-ed25519")

    async def _open_the_door(self, knocks: socket.socket) -> None:
        while True:
            connection, _ = await asyncio.get_running_loop().sock_accept(knocks)
            self._keep(self._serve(connection, _gateway_server(self._reach)))

    async def _serve(self, connection: socket.socket, options: dict[str, Any]) -> None:
        """Speak SSH on a connection until it ends."""
        import asyncssh

        with contextlib.suppress(OSError, asyncssh.Error):
            server = await asyncssh.run_server(
                connection, server_host_keys=[self._host_key], encoding=None, login_timeout=30, **options
            )
            await server.wait_closed()

    def _reach(self, host: str, port: int) -> Callable[..., Coroutine[Any, Any, None]] | None:
        """What carries the bytes between a client and the node at that address; None when nobody answers there."""
        thing = self._desk.world.login(host, port)
        if thing is None:
            return None
        emulator = self._desk.types[thing.provider]
        return partial(self._visit, thing) if emulator.is_up(Site(emulator, self._desk.world), thing) else None

    async def _visit(
        self, thing: Thing, reader: "asyncssh.SSHReader[bytes]", writer: "asyncssh.SSHWriter[bytes]"
    ) -> None:
        home = self._folder / re.sub(r"[^A-Za-z0-9-]", "_", f"{thing.provider}-{thing.id}")
        home.mkdir(exist_ok=True)
        ours, its = socket.socketpair()
        self._keep(self._serve(its, _node_server(thing, home)))
        inner_reader, inner_writer = await asyncio.open_connection(sock=ours)
        try:
            await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))
        finally:
            inner_writer.close()
            writer.close()

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _gateway_server(reach: Callable[[str, int], Callable[..., Coroutine[Any, Any, None]] | None]) -> dict[str, Any]:
    """Options of the server that anyone may jump over, and that has no shell of its own."""
    import asyncssh

    class Server(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:
            return False

        def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> Any:
            return reach(dest_host, dest_port) or False

    return {"server_factory": Server}


def _node_server(thing: Thing, home: Path) -> dict[str, Any]:
    """Options of a node's own server: its users, its keys, a shell and file transfer in its folder."""
    import asyncssh

    users = thing.login.users if thing.login else ()
    keys = [key for key in thing.login.keys if key.strip()] if thing.login else []

    class Server(asyncssh.SSHServer):
        def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
            self._connection = conn

        def begin_auth(self, username: str) -> bool:
            if username in users and keys:
                self._connection.set_authorized_keys(asyncssh.import_authorized_keys("\n".join(keys)))
            return True

    return {
        "server_factory": Server,
        "process_factory": partial(_run, home),
        "sftp_factory": lambda channel: asyncssh.SFTPServer(channel, chroot=str(home).encode()),
        "allow_scp": True,
    }


async def _run(home: Path, process: "asyncssh.SSHServerProcess[bytes]") -> None:
    """Run a command, or a login shell, in the node's folder."""
    environment = {**os.environ, **process.env, "HOME": str(home), "PWD": str(home)}
    command = ["/bin/sh", "-c", process.command] if process.command else ["/bin/sh"]
    terminal = process.get_terminal_type()
    pipes: dict[str, int] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    if terminal:
        ours, its = pty.openpty()
        pipes = dict.fromkeys(pipes, its)
        environment["TERM"] = terminal
    child = await asyncio.to_thread(_start, command, home, environment, pipes)
    if terminal:
        os.close(its)
        await process.redirect(stdin=os.dup(ours), stdout=ours)
    else:
        await process.redirect(stdin=child.stdin, stdout=child.stdout, stderr=child.stderr)
    try:
        status = await asyncio.to_thread(child.wait)
        if not terminal:
            await process.stdout.drain()
        process.exit(status if status >= 0 else 128 - status)
        await process.wait_closed()
    finally:
        if child.poll() is None:
            child.kill()


def _start(
    command: list[str], home: Path, environment: dict[str, str], pipes: dict[str, int]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        cwd=home,
        env=environment,
        start_new_session=True,
        stdin=pipes["stdin"],
        stdout=pipes["stdout"],
        stderr=pipes["stderr"],
    )


async def _copy(source: Any, target: Any) -> None:
    """Bytes from one stream to another, until the first ends; both kinds of streams have the same two methods."""
    with contextlib.suppress(OSError, BrokenPipeError):
        while block := await source.read(_BLOCK):
            target.write(block)
            await target.drain()
        if target.can_write_eof():
            target.write_eof()
