"""Machines to try the type `ssh` on: real SSH servers on this machine, each with a folder, shells and GPUs of its own.

A machine's GPUs are what the `nvidia-smi` in its `bin` says, which comes first in the PATH there. Servers answer only
while the event loop runs; what was started on a machine goes on in between.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpuplan.core.desired import ProviderBlock
from gpuplan.core.ports import Clock, OpenContext
from gpuplan.core.secret import Redactor
from gpuplan.core.values import JsonValue
from gpuplan.emulators.nodes import run_shell
from gpuplan.net.clock import SystemClock
from gpuplan.providers.ssh import PROVIDER, Ssh

if TYPE_CHECKING:
    import asyncssh

H100 = "NVIDIA H100 80GB HBM3, 81559"
USER = "trainer"


@dataclass
class Machine:
    """One host. `gpus` are lines of nvidia-smi without the id: a name and its MiB."""

    name: str
    folder: Path
    gpus: Sequence[str] = ()
    user: str = USER
    port: int = 0
    host_key: "asyncssh.SSHKey | None" = None
    connections: "list[asyncssh.SSHServerConnection]" = field(default_factory=list)
    _listener: "asyncssh.SSHAcceptor | None" = None

    def __post_init__(self) -> None:
        (self.folder / "bin").mkdir(parents=True, exist_ok=True)
        if self.gpus:
            lines = "".join(f"echo 'GPU-{self.name}-{n}, {gpu}'\n" for n, gpu in enumerate(self.gpus))
            self.stub("nvidia-smi", f"case $* in *--query-gpu=*) {lines or ':'};; esac")

    @property
    def directory(self) -> Path:
        """Where gpuplan keeps its claim."""
        return self.folder / "gpuplan"

    @property
    def entry(self) -> dict[str, JsonValue]:
        """Its line in an inventory."""
        return {
            "name": self.name,
            "host": "127.0.0.1",
            "port": self.port,
            "user": self.user,
            "directory": str(self.directory),
        }

    def stub(self, tool: str, script: str) -> None:
        """Put a program on the machine, in the place of any other of that name."""
        path = self.folder / "bin" / tool
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    async def up(self, public_key: str) -> None:
        """Listen, at the same port as before."""
        import asyncssh

        self.host_key = self.host_key or asyncssh.generate_private_key("ssh-ed25519")
        accepted, connections = asyncssh.import_authorized_keys(public_key), self.connections

        class Door(asyncssh.SSHServer):
            def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
                connections.append(conn)
                self._connection = conn

            def begin_auth(self, username: str) -> bool:
                self._connection.set_authorized_keys(accepted)
                return True

            def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
                return True

        environ = {"PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}", "USER": self.user}
        self._listener = await asyncssh.create_server(
            Door,
            "127.0.0.1",
            self.port,
            server_host_keys=[self.host_key],
            process_factory=partial(run_shell, self.folder, environ=environ),
            encoding=None,
        )
        self.port = self._listener.get_port()

    async def down(self) -> None:
        """Answer no more, and cut off whoever is connected."""
        if self._listener is not None:
            self._listener.close()
            for connection in self.connections:
                connection.abort()
            self.connections.clear()
            await self._listener.wait_closed()
            self._listener = None


@dataclass
class Rig:
    """Several machines, and a user with a key to them."""

    folder: Path
    clock: Clock = field(default_factory=SystemClock)
    machines: dict[str, Machine] = field(default_factory=dict)

    def __post_init__(self) -> None:
        import asyncssh

        ssh = self.home / ".ssh"
        ssh.mkdir(parents=True, mode=0o700)
        key = asyncssh.generate_private_key("ssh-ed25519")
        key.write_private_key(ssh / "id_ed25519")
        (ssh / "id_ed25519").chmod(0o600)
        self.public_key = key.export_public_key("openssh").decode()

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def environ(self) -> Mapping[str, str]:
        return {"HOME": str(self.home), "USER": "alice", "HOSTNAME": "laptop"}

    async def add(self, name: str, *gpus: str, **more: Any) -> Machine:
        machine = self.machines[name] = Machine(name, self.folder / name, gpus, **more)
        await machine.up(self.public_key)
        return machine

    def open(
        self,
        hosts: Sequence[JsonValue] | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        **options: JsonValue,
    ) -> Ssh:
        """An account of these machines, or of an inventory of one's own."""
        listed = hosts if hosts is not None else [machine.entry for machine in self.machines.values()]
        given = {"hosts": listed, "grace": 0.5, **options}
        checked = PROVIDER.options.model_validate({name: value for name, value in given.items() if value is not None})
        context = OpenContext(ProviderBlock("lab", "ssh", {}, ()), self.clock, environ or self.environ, Redactor())
        opened = PROVIDER.open(checked, context)
        assert isinstance(opened, Ssh)
        return opened

    async def close(self) -> None:
        await asyncio.gather(*(machine.down() for machine in self.machines.values()))


@asynccontextmanager
async def rig(folder: Path, **gpus: Sequence[str]) -> AsyncIterator[Rig]:
    """Machines by name with their GPUs, as long as the block lasts."""
    made = Rig(folder)
    try:
        for name, cards in gpus.items():
            await made.add(name, *cards)
        yield made
    finally:
        await made.close()
