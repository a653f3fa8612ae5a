"""SSH servers on this machine that tests log in to: OpenSSH's where there is one, and asyncssh's own.

Every server runs real shells in a folder of its own.
"""

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

import asyncssh

from gpuplan.core.ports import SshTarget
from gpuplan.emulators.nodes import run_shell
from gpuplan.net.ssh import HostName, SshClient


def _sshd() -> str | None:
    """OpenSSH's server, where it is installed; root also needs the user it separates its privileges with."""
    found = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    has_user = any(user.pw_name == "sshd" for user in pwd.getpwall())
    return found if os.getuid() or has_user else None


SSHD = _sshd()
SERVERS = ["asyncssh", "sshd"] if SSHD else ["asyncssh"]
"""What there is to log in to on this machine."""
USER = pwd.getpwuid(os.getuid()).pw_name
_PATIENCE_SECONDS = 20


@dataclass
class Server:
    """Where one listens, and what it lets in."""

    folder: Path
    port: int
    kind: str
    has_sftp: bool = True
    connections: list[asyncssh.SSHServerConnection] = field(default_factory=list)

    @property
    def target(self) -> SshTarget:
        return SshTarget("127.0.0.1", self.port, USER)

    @property
    def workspace(self) -> str:
        return str(self.folder / "work space")


@dataclass
class Visitor:
    """Somebody with a home and a key in it."""

    home: Path
    secrets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        folder = self.home / ".ssh"
        folder.mkdir(parents=True, mode=0o700)
        self.key = asyncssh.generate_private_key("ssh-ed25519")
        self.key.write_private_key(folder / "id_ed25519")
        (folder / "id_ed25519").chmod(0o600)

    @property
    def environ(self) -> dict[str, str]:
        return {"HOME": str(self.home)}

    @property
    def public_key(self) -> str:
        return self.key.export_public_key("openssh").decode()

    def client(self, **environ: str) -> SshClient:
        return SshClient({**self.environ, **environ}, redact=self._redact)

    def _redact(self, text: str) -> str:
        for secret in self.secrets:
            text = text.replace(secret, "********")
        return text


def host(name: str = "clusters.a.nodes[0]", remote_id: str = "node-1") -> HostName:
    return HostName.of_node("here", name, "account", remote_id, None)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@asynccontextmanager
async def server(
    kind: str, folder: Path, public_key: str, *, sftp: bool = True, port: int = 0, host_key: str = "ssh-ed25519"
) -> AsyncIterator[Server]:
    """One server for as long as the block lasts. `kind` is one of SERVERS."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "home").mkdir(exist_ok=True)
    make = _openssh if kind == "sshd" else _asyncssh
    async with make(folder, public_key, sftp, port, host_key) as made:
        yield made


@asynccontextmanager
async def _openssh(folder: Path, public_key: str, sftp: bool, port: int, host_key: str) -> AsyncIterator[Server]:
    port = port or free_port()
    keys, host_key_file, config = folder / "authorized_keys", folder / "host_key", folder / "sshd_config"
    keys.write_text(public_key)
    host_key_file.unlink(missing_ok=True)
    asyncssh.generate_private_key(host_key).write_private_key(host_key_file)
    host_key_file.chmod(0o600)
    lines = [
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f"HostKey {host_key_file}",
        f"AuthorizedKeysFile {keys}",
        "StrictModes no",
        "UsePAM no",
        "PidFile none",
        "PasswordAuthentication no",
        *(["Subsystem sftp internal-sftp"] if sftp else []),
    ]
    config.write_text("\n".join(lines) + "\n")
    with suppress(OSError):
        # Where it separates its privileges, when it has any.
        Path("/run/sshd").mkdir(exist_ok=True)
    assert SSHD is not None
    with (folder / "log").open("w") as log:
        running = _begun([SSHD, "-D", "-e", "-f", str(config)], log)
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while not await _answers(port):
                assert running.poll() is None, (folder / "log").read_text()
        yield Server(folder, port, "sshd", sftp)
    finally:
        running.kill()
        running.wait()


def _begun(command: list[str], log: IO[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log)


async def _answers(port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return False
    banner = await reader.readline()
    writer.close()
    return banner.startswith(b"SSH-")


@asynccontextmanager
async def _asyncssh(folder: Path, public_key: str, sftp: bool, port: int, host_key: str) -> AsyncIterator[Server]:
    made = Server(folder, port, "asyncssh", sftp)
    accepted = asyncssh.import_authorized_keys(public_key)

    class Door(asyncssh.SSHServer):
        def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
            made.connections.append(conn)
            self._connection = conn

        def begin_auth(self, username: str) -> bool:
            self._connection.set_authorized_keys(accepted)
            return True

        def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
            return True

    listener = await asyncssh.create_server(
        Door,
        "127.0.0.1",
        port,
        server_host_keys=[asyncssh.generate_private_key(host_key)],
        process_factory=partial(run_shell, folder / "home"),
        sftp_factory=_files(folder / "home") if sftp else None,
        encoding=None,
    )
    made.port = listener.get_port()
    try:
        yield made
    finally:
        listener.close()
        for connection in made.connections:
            connection.abort()
        await listener.wait_closed()


def _files(home: Path) -> Callable[[Any], asyncssh.SFTPServer]:
    class Files(asyncssh.SFTPServer):
        """Paths are those of this machine; relative ones begin at the home."""

        def map_path(self, path: bytes) -> bytes:
            return os.path.join(os.fsencode(home), path)  # noqa: PTH118  bytes, as the library has them

    return Files
