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
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from gpuplan.emulators.desk import Desk
from gpuplan.emulators.pipes import carry
from gpuplan.emulators.site import Site
from gpuplan.emulators.world import Thing

if TYPE_CHECKING:
    import asyncssh

_BLOCK = 65536
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_WAITERS = ThreadPoolExecutor(512, "gpuplan-node")
"""One thread for every command that runs on an emulated node."""

P = ParamSpec("P")
T = TypeVar("T")


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

    async def _open_the_door(self, knocks: socket.socket) -> None:
        while True:
            connection, _ = await asyncio.get_running_loop().sock_accept(knocks)
            self._keep(self._serve(connection, _host_key("gateway"), _gateway_server(self._reach)))

    async def _serve(self, connection: socket.socket, host_key: "asyncssh.SSHKey", options: dict[str, Any]) -> None:
        """Speak SSH on a connection until it ends."""
        import asyncssh

        with contextlib.suppress(OSError, asyncssh.Error):
            server = await asyncssh.run_server(
                connection, server_host_keys=[host_key], encoding=None, login_timeout=30, **options
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
        self._keep(self._serve(its, _host_key(f"{thing.provider} {thing.id}"), _node_server(thing, home)))
        inner_reader, inner_writer = await asyncio.open_connection(sock=ours)
        ways = [asyncio.ensure_future(_copy(reader, inner_writer)), asyncio.ensure_future(_copy(inner_reader, writer))]
        try:
            # Whichever side goes first: what is left would be waited for by nobody.
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            inner_writer.close()
            writer.close()

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


@lru_cache(maxsize=4096)
def _host_key(name: str) -> "asyncssh.SSHKey":
    """The same for a name in every world: to whoever rehearses twice, the same node must not look like another one."""
    import asyncssh
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = Ed25519PrivateKey.from_private_bytes(sha256(f"gpuplan emulator {name}".encode()).digest())
    return asyncssh.import_private_key(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))


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

        def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
            # What a node runs listens on this machine; nothing beyond it is forwarded to.
            return dest_host in _LOOPBACK

    return {
        "server_factory": Server,
        "process_factory": partial(run_shell, home),
        "sftp_factory": lambda channel: asyncssh.SFTPServer(channel, chroot=str(home).encode()),
        "allow_scp": True,
    }


async def run_shell(
    home: Path, process: "asyncssh.SSHServerProcess[bytes]", environ: Mapping[str, str] | None = None
) -> None:
    """Run the command of an SSH session, or a login shell, in a node's folder. `environ` is what the node itself
    puts into every environment."""
    environment = {**os.environ, **process.env, **(environ or {}), "HOME": str(home), "PWD": str(home)}
    command = ["/bin/sh", "-c", process.command] if process.command else ["/bin/sh"]
    terminal = process.get_terminal_type()
    pipes: dict[str, int] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    if terminal:
        ours, its = pty.openpty()
        pipes = dict.fromkeys(pipes, its)
        environment["TERM"] = terminal
    child = await _in_thread(_start, command, home, environment, pipes)
    ended = asyncio.ensure_future(_in_thread(child.wait))
    try:
        if terminal:
            os.close(its)
            await process.redirect(stdin=os.dup(ours), stdout=ours)
            status = await ended
        else:
            status = await carry(process, child, ended)
        process.exit(status if status >= 0 else 128 - status)
        await process.wait_closed()
    finally:
        if child.poll() is None:
            child.kill()


async def _in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """As `asyncio.to_thread`, for more commands at once than that has threads."""
    return await asyncio.get_running_loop().run_in_executor(_WAITERS, partial(work, *args, **kwargs))


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
