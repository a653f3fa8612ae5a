"""Channels over SSH: who logs in where with which key, and whether whoever answers is the node of before.

Called by `workflow.channels`; asyncssh is loaded for the first node that is really visited.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from gpuplan.core.diagnostics import Diagnostic
from gpuplan.core.errors import GpuplanError, HostKeyChanged, ProviderError
from gpuplan.core.ports import Channel, SshTarget
from gpuplan.net.home import state_home
from gpuplan.net.ssh_hosts import KNOWN_HOSTS, KnownHosts, alias_of
from gpuplan.net.threads import run_blocking

if TYPE_CHECKING:
    import asyncssh

    from gpuplan.net.ssh_errors import Node
    from gpuplan.net.ssh_keys import Keyring

KEY_VARIABLE = "GPUPLAN_SSH_KEY"
"""Names the private key that is tried, instead of the agent's and the usual ones."""
_CLOSING_SECONDS = 5


@dataclass(frozen=True, slots=True)
class HostName:
    """Which host is meant: as people call it, and as its key is remembered, whatever address it has."""

    provider: str
    name: str
    """The address of the node."""
    alias: str

    @classmethod
    def of_node(cls, provider: str, name: str, account: str, remote_id: str, member: int | None) -> "HostName":
        return cls(provider, name, node_alias(account, remote_id, member))


def node_alias(account: str, remote_id: str, member: int | None = None) -> str:
    """The name of a node in the file of host keys."""
    return alias_of(account, remote_id, "" if member is None else str(member))


def jump_alias(target: SshTarget) -> str:
    """The name of a host that is only jumped over: it has no account, so its address is all it has."""
    return alias_of("jump", target.host, str(target.port))


def known_hosts(environ: Mapping[str, str]) -> KnownHosts:
    """The host keys that this user's gpuplan has met."""
    return KnownHosts(state_home(environ) / KNOWN_HOSTS)


class SshClient:
    """Logs in with the keys of one user. Connections to jump hosts are shared, those to nodes are the channels'."""

    def __init__(self, environ: Mapping[str, str], *, redact: Callable[[str], str]) -> None:
        self._environ = environ
        self._redact = redact
        self._hosts = known_hosts(environ)
        self._jumps: dict[SshTarget, asyncssh.SSHClientConnection] = {}
        self._jumping: dict[SshTarget, asyncio.Lock] = {}

    async def open(self, target: SshTarget, host: HostName, *, workspace: str) -> Channel:
        """Log in. Raises ProviderError: Unavailable while nobody answers, AuthFailed, HostKeyChanged; GpuplanError
        when asyncssh is not installed."""
        require_asyncssh()
        from gpuplan.net.ssh_channel import SshChannel

        host = replace(host, alias=target.alias or host.alias)
        node = _node(target, host)
        connection = await self._connect(target, host, node)
        return SshChannel(connection, node, workspace=target.workspace or workspace, redact=self._redact)

    async def prepare(self, *, provider: str) -> None:
        """See that there is something to log in with. Raises as `open` does."""
        require_asyncssh()
        await self._keyring.keys(None, provider=provider, to="log in to its nodes")

    async def forget(self, alias: str) -> None:
        await run_blocking(self._hosts.forget, alias)

    async def close(self) -> None:
        for connection in self._jumps.values():
            connection.close()
        for connection in self._jumps.values():
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSING_SECONDS):
                    await connection.wait_closed()
        if "_keyring" in self.__dict__:
            await self._keyring.close()

    @cached_property
    def _keyring(self) -> "Keyring":
        from gpuplan.net.ssh_keys import Keyring

        return Keyring(self._environ)

    async def _connect(self, target: SshTarget, host: HostName, node: "Node") -> "asyncssh.SSHClientConnection":
        import asyncssh

        from gpuplan.net.ssh_errors import logging_in
        from gpuplan.net.ssh_login import Login, login_options

        tunnel = None if target.jump is None else await self._jump(target.jump, host)
        keys = await self._keyring.keys(target.key_file, provider=node.provider, to=f"reach {node.name}")
        known = await run_blocking(self._hosts.keys, host.alias)
        login = Login(keys, is_first_contact=not known)
        try:
            with logging_in(node, lambda: self._keyring.left_out):
                connection = await asyncssh.connect(
                    target.host, target.port, tunnel=tunnel, options=login_options(target, login, known)
                )
        except ProviderError as error:
            if known and login.host_key:
                raise self._changed(node, host, known, login.host_key) from error
            raise
        if not known:
            recorded = await run_blocking(
                self._hosts.record, host.alias, login.host_key, f"{host.provider} {host.name}"
            )
            if login.host_key not in recorded:
                connection.close()
                raise self._changed(node, host, recorded, login.host_key)
        return connection

    async def _jump(self, target: SshTarget, host: HostName) -> "asyncssh.SSHClientConnection":
        """The connection to a jump host, which all nodes behind it share."""
        async with self._jumping.setdefault(target, asyncio.Lock()):
            connection = self._jumps.get(target)
            if connection is None or connection.is_closed():
                jump = replace(host, name=f"the jump host of {host.name}", alias=jump_alias(target))
                connection = self._jumps[target] = await self._connect(target, jump, _node(target, jump))
            return connection

    def _changed(self, node: "Node", host: HostName, known: list[str], offered: str) -> HostKeyChanged:
        from gpuplan.net.ssh_login import fingerprint

        facts = (
            f"over SSH, as {node.place}",
            f"on record: {', '.join(map(fingerprint, known))}",
            f"offered now: {fingerprint(offered)}",
            "somebody else may have answered; nothing was sent",
        )
        hint = f"if you know why it changed, accept it: ssh-keygen -R {host.alias} -f {self._hosts.path}"
        return HostKeyChanged(node.failure("reach", *facts, hint=hint))


def _node(target: SshTarget, host: HostName) -> "Node":
    from gpuplan.net.ssh_errors import Node

    return Node(host.provider, host.name, f"{target.user}@{target.host}:{target.port}")


def require_asyncssh() -> None:
    """Raises GpuplanError that names the extra."""
    from importlib.util import find_spec

    if find_spec("asyncssh") is None:
        found = Diagnostic(
            id="ssh-extra-missing",
            summary="reaching nodes over SSH needs a package that is not installed",
            facts=("there is no module `asyncssh`", "nothing was sent"),
            hint="install what it needs",
            commands=("pip install 'gpuplan[ssh]'",),
        )
        raise GpuplanError(diagnostics=(found,))
