"""How a machine of the inventory is logged in to, with what `~/.ssh/config` and `~/.ssh/known_hosts` say of it.

Used by `ssh_reach`. Everything here blocks, briefly; asyncssh is loaded where one of the two files is there.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpuplan.core.ports import SshTarget
from gpuplan.net.ssh import jump_alias, require_asyncssh
from gpuplan.providers.ssh_inventory import Host, Login, Options, path_of

_PREFERRED = ("ssh-ed25519", "ecdsa-sha2-", "ssh-rsa")
_LONGEST_WAY = 8
"""Jumps after which a way counts as going in circles."""
SHARED, OWN = "/var/lib/gpuplan", ".gpuplan"


class Targets:
    """One block's machines as `SshTarget`s."""

    def __init__(self, options: Options, environ: Mapping[str, str]) -> None:
        self._options = options
        self._environ = environ
        self._found: dict[str, SshTarget] = {}

    def of(self, host: Host) -> SshTarget:
        """Raises ValueError for a way that cannot be gone."""
        if host.called not in self._found:
            self._found[host.called] = self._target(host, _LONGEST_WAY)
        return self._found[host.called]

    def directory(self, host: Host) -> str:
        """Where claims and nodes lie on it, relative to the home of whoever logs in."""
        return host.directory or (SHARED if self.of(host).user == "root" else OWN)

    def known_key(self, login: Login, target: SshTarget) -> str | None:
        """The host key that the inventory or the user's own file has, as `TYPE BASE64`."""
        if login.host_key:
            return " ".join(login.host_key.split()[:2])
        path = path_of(self._options.known_hosts, self._environ)
        if not path.is_file():
            return None
        require_asyncssh()
        import asyncssh

        known = asyncssh.read_known_hosts(str(path))
        keys: Sequence[Any] = (
            known.match(target.host, "", target.port)[0] or known.match(login.host, "", target.port)[0]
        )
        found = [key.export_public_key("openssh").decode().strip() for key in keys]
        ranked = sorted(
            found, key=lambda key: next((n for n, kind in enumerate(_PREFERRED) if key.startswith(kind)), 9)
        )
        return ranked[0] if ranked else None

    def _target(self, login: Login, left: int) -> SshTarget:
        if not left:
            raise ValueError(f"the way to `{login.host}` goes in circles")
        said = self._said(login.host)
        jump = login.jump
        written = said("ProxyJump")
        if jump is None and isinstance(written, str) and written != "none":
            jump = Login.model_validate({"host": "-", "jump": written}).jump
        keys = said("IdentityFile")
        target = SshTarget(
            host=str(said("Hostname") or login.host),
            port=login.port or int(said("Port") or 22),
            user=login.user or str(said("User") or self._environ.get("USER") or "root"),
            key_file=login.key or (str(keys[0]) if isinstance(keys, list) and keys else None),
            jump=None if jump is None else self._target(jump, left - 1),
        )
        return SshTarget(target.host, target.port, target.user, target.key_file, target.jump, alias=jump_alias(target))

    def _said(self, host: str) -> Any:
        """What the user's configuration says of a host, by keyword."""
        path = self._config
        if path is None or not path.is_file():
            return lambda keyword: None
        require_asyncssh()
        from asyncssh.config import SSHClientConfig

        user: Any = ()
        return SSHClientConfig.load(
            None, [path], False, False, False, self._environ.get("USER", ""), user, host, user
        ).get

    @property
    def _config(self) -> Path | None:
        written = self._options.ssh_config
        if isinstance(written, str):
            return path_of(written, self._environ)
        return path_of("~/.ssh/config", self._environ) if written else None


def _rank(key: str) -> int:
    return next((place for place, kind in enumerate(_PREFERRED) if key.startswith(kind)), len(_PREFERRED))
