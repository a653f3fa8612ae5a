"""The private keys that are tried at a node: the one that was named, else those of the agent and the usual files.

Used by `ssh`. Passphrases are asked for nowhere: an encrypted key works once an agent has it.
"""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import asyncssh

from gpuplan.core.errors import Failure, NoCredentials
from gpuplan.net.ssh import KEY_VARIABLE
from gpuplan.net.threads import run_blocking

USUAL_FILES = ("id_ed25519", "id_ecdsa", "id_rsa")


class Keyring:
    """Files are read once, the agent is asked at every login."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._home = Path(environ.get("HOME") or Path.home())
        self._named = environ.get(KEY_VARIABLE, "")
        self._agent_path = environ.get("SSH_AUTH_SOCK", "")
        self._agent: asyncssh.SSHAgentClient | None = None
        self._read: dict[str, asyncssh.SSHKey | None] = {}
        self._usual: list[asyncssh.SSHKey] | None = None
        self._reading = asyncio.Lock()
        self.encrypted: list[str] = []
        """Usual files that were left out, for the message when a node accepts nothing."""

    async def keys(self, key_file: str | None, *, provider: str, to: str) -> Sequence[asyncssh.SSHKeyPair]:
        """What to try, in this order. Raises NoCredentials."""
        named = key_file or self._named
        async with self._reading:
            if named:
                return await self._one(named, Failure(provider, to))
            if self._usual is None:
                self._usual = await run_blocking(self._usual_keys)
        found = [*await self._agents(), *asyncssh.load_keypairs(self._usual)]
        if not found:
            raise NoCredentials(self._without(Failure(provider, to)))
        return found

    async def _one(self, name: str, failure: Failure) -> Sequence[asyncssh.SSHKeyPair]:
        if name not in self._read:
            try:
                self._read[name] = await run_blocking(_read_key, self._path(name))
            except (OSError, asyncssh.KeyImportError) as exc:
                reason = exc.strerror if isinstance(exc, OSError) else "it is no private key"
                facts = (f"the key `{name}` cannot be used: {str(reason).lower()}",)
                raise NoCredentials(_with(failure, facts, "name a file with a private key")) from exc
        key = self._read[name]
        if key is not None:
            return asyncssh.load_keypairs([key])
        public = _public_half(self._path(name))
        held = [pair for pair in await self._agents() if pair.public_data == public]
        if not held:
            facts = (f"the key `{name}` is encrypted, and no agent has it",)
            raise NoCredentials(_with(failure, facts, f"give it to an agent: ssh-add {name}"))
        return held

    async def _agents(self) -> Sequence[asyncssh.SSHKeyPair]:
        """The agent's keys; none without an agent."""
        if not self._agent_path:
            return []
        try:
            if self._agent is None:
                self._agent = await asyncssh.connect_agent(self._agent_path)
            return await self._agent.get_keys()
        except (OSError, ValueError):
            # A socket that a dead agent left behind is as good as none.
            return []

    async def close(self) -> None:
        if self._agent is not None:
            self._agent.close()
            await self._agent.wait_closed()

    def _usual_keys(self) -> list[asyncssh.SSHKey]:
        found = []
        for name in USUAL_FILES:
            path = self._home / ".ssh" / name
            try:
                key = _read_key(path)
            except (OSError, asyncssh.KeyImportError):
                # Not there, or of a kind that OpenSSH alone reads.
                continue
            if key is None:
                self.encrypted.append(f"~/.ssh/{name}")
            else:
                found.append(key)
        return found

    def _path(self, name: str) -> Path:
        return self._home / name[2:] if name.startswith("~/") else Path(name)

    def _without(self, failure: Failure) -> Failure:
        looked = ", ".join(f"~/.ssh/{name}" for name in USUAL_FILES)
        facts = (f"there is no agent with a key, and none in {looked}", *self.left_out)
        return _with(failure, facts, f"name the key: {KEY_VARIABLE}=FILE")

    @property
    def left_out(self) -> tuple[str, ...]:
        """Facts about keys that were not tried."""
        return tuple(
            f"{name} is encrypted, and gpuplan asks for no passphrase: `ssh-add {name}`" for name in self.encrypted
        )


def _with(failure: Failure, facts: tuple[str, ...], hint: str) -> Failure:
    return Failure(failure.provider, failure.operation, facts=facts, hint=hint)


def _read_key(path: Path) -> asyncssh.SSHKey | None:
    """None: it is encrypted. Raises OSError, KeyImportError."""
    content = path.read_bytes()
    try:
        return asyncssh.import_private_key(content)
    except asyncssh.KeyImportError as exc:
        if "passphrase" in str(exc).lower():
            return None
        raise


def _public_half(path: Path) -> bytes:
    """The public key of an encrypted one, which lies beside it; empty without one."""
    try:
        return asyncssh.read_public_key(path.with_name(f"{path.name}.pub")).public_data
    except (OSError, asyncssh.KeyImportError):
        return b""
