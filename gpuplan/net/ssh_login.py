"""One login: the keys that are tried, and what is thought of the host key. Used by `ssh`."""

from collections.abc import Sequence

import asyncssh

from gpuplan.core.ports import SshTarget

_HOST_KEYS = (
    "ssh-ed25519",
    *("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    *("rsa-sha2-512", "rsa-sha2-256"),
)
"""The kinds of key a host is asked for, in this order; no certificates, which would hide the key."""
_KEEPALIVE_SECONDS = 15
_KEEPALIVES = 4
"""After so many without an answer a connection counts as lost."""
CONNECT_SECONDS = 15.0
LOGIN_SECONDS = 30.0


class Login(asyncssh.SSHClient):
    """Our side of one connection while it is made."""

    def __init__(self, keys: Sequence[asyncssh.SSHKeyPair], *, is_first_contact: bool) -> None:
        self._keys = keys
        self._is_first_contact = is_first_contact
        self.host_key = ""
        """The key that was offered and that is not on record, as `TYPE BASE64`."""

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Called for a key that is not on record."""
        self.host_key = key.export_public_key("openssh").decode().strip()
        return self._is_first_contact

    def public_key_auth_requested(self) -> Sequence[asyncssh.SSHKeyPair]:
        keys, self._keys = self._keys, ()
        return keys


def login_options(target: SshTarget, login: Login, known: Sequence[str]) -> asyncssh.SSHClientConnectionOptions:
    """Nothing of the user's own SSH configuration: the same spec must mean the same for everybody."""
    return asyncssh.SSHClientConnectionOptions(
        config=None,
        client_factory=lambda: login,
        username=target.user,
        client_keys=None,
        agent_path=None,
        preferred_auth="publickey",
        known_hosts=([asyncssh.import_public_key(key) for key in known], [], []),
        server_host_key_algs=_asked_kinds(known),
        gss_kex=False,
        gss_auth=False,
        connect_timeout=CONNECT_SECONDS,
        login_timeout=LOGIN_SECONDS,
        keepalive_interval=_KEEPALIVE_SECONDS,
        keepalive_count_max=_KEEPALIVES,
    )


def _asked_kinds(known: Sequence[str]) -> list[str]:
    """Those on record first: a host that has several keys must show the same one every time. The others too, so that
    one that has none of those is seen to be another host."""
    recorded = {key.partition(" ")[0].replace("ssh-rsa", "rsa-sha2") for key in known}
    return sorted(_HOST_KEYS, key=lambda kind: not any(kind.startswith(each) for each in recorded))


def fingerprint(key: str) -> str:
    """As OpenSSH shows it: `ssh-ed25519 SHA256:...`."""
    return f"{key.partition(' ')[0]} {asyncssh.import_public_key(key).get_fingerprint()}"
