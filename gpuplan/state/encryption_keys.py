"""Keys that states and saved plans are encrypted with: out of a passphrase, or out of what a command prints.

Called by `encryption`, and by `workflow`, which says where keys come from. Nothing is derived, run or imported before
something has to be read or written. AES-256-GCM; a text names the key it is for, so a wrong key and damage differ:

    1.4bd1c79ce8c1f2a0.<nonce, cipher text and tag in Base64>
"""

import base64
import binascii
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gpuplan.core.diagnostics import Diagnostic
from gpuplan.core.errors import StateEncrypted, StateError
from gpuplan.core.secret import Secret
from gpuplan.state.codec import corrupt

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PASSPHRASE = "GPUPLAN_STATE_PASSPHRASE"
OLD_PASSPHRASE = "GPUPLAN_STATE_OLD_PASSPHRASE"
COMMAND = "GPUPLAN_STATE_KEY_COMMAND"
OLD_COMMAND = "GPUPLAN_STATE_OLD_KEY_COMMAND"

_KEY_BYTES = 32
_ID_BYTES = 8
_NONCE_BYTES = 12
_LEAST_PRINTED_BYTES = 32
_MOST_PRINTED_BYTES = 4096
_LEAST_PASSPHRASE = 12
_COMMAND_SECONDS = 120
_SCRYPT_COST = 2**17
"""128 MiB and a third of a second for each guess."""
_TEXT = re.compile(r"1\.([0-9a-f]{16})\.([A-Za-z0-9+/]+={0,2})")


@dataclass(frozen=True, slots=True)
class KeySource:
    """Where a key comes from; `name` is for messages."""

    name: str
    derive: Callable[[str], bytes] = field(repr=False)
    """By salt: the key, and behind it what tells it from others."""


class Keyring:
    """One key to write with, and others that may still be needed to read."""

    def __init__(self, write: KeySource | None = None, old: Sequence[KeySource] = ()) -> None:
        self._write = write
        self._sources = [*([] if write is None else [write]), *old]
        self._derived: dict[tuple[str, str], bytes] = {}

    @property
    def writes(self) -> bool:
        """Whether what is written is encrypted."""
        return self._write is not None

    def encrypt(self, content: bytes, *, salt: str, bound: str) -> str:
        """`bound` is what the text belongs to: under anything else it does not decrypt."""
        assert self._write is not None
        material, nonce = self._material(self._write, salt), os.urandom(_NONCE_BYTES)
        sealed = nonce + _cipher(material[:_KEY_BYTES]).encrypt(nonce, content, bound.encode())
        return f"1.{material[_KEY_BYTES:].hex()}.{base64.b64encode(sealed).decode()}"

    def decrypt(self, text: str, *, salt: str, bound: str, where: str) -> bytes:
        """Raises StateEncrypted without the right key, StateCorrupt for what is not as it was written."""
        match = _TEXT.fullmatch(text)
        try:
            sealed = base64.b64decode(match[2], validate=True) if match else b""
        except binascii.Error:
            sealed = b""
        if match is None or len(sealed) <= _NONCE_BYTES:
            raise corrupt(where, "what is encrypted in it does not have the form it should")
        key = self._key(match[1], salt, where)
        from cryptography.exceptions import InvalidTag

        try:
            return _cipher(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound.encode())
        except InvalidTag as exc:
            raise corrupt(where, "what is encrypted in it was changed, or belongs elsewhere") from exc

    def _key(self, wanted: str, salt: str, where: str) -> bytes:
        for source in self._sources:
            material = self._material(source, salt)
            if material[_KEY_BYTES:].hex() == wanted:
                return material[:_KEY_BYTES]
        raise _unreadable(where, [source.name for source in self._sources])

    def _material(self, source: KeySource, salt: str) -> bytes:
        # The salt of a state never changes, so this happens once in a command.
        if (source.name, salt) not in self._derived:
            self._derived[source.name, salt] = source.derive(salt)
        return self._derived[source.name, salt]


def keys_of(
    environ: Mapping[str, str],
    folder: Path,
    *,
    command: str = "",
    old_commands: Sequence[str] = (),
    is_required: bool = False,
) -> Keyring:
    """What the environment says, else what the spec does (`command`, `old_commands`). Raises StateError.

    `is_required`: there has to be a key to write with.
    """
    if environ.get(PASSPHRASE) and environ.get(COMMAND):
        raise _error("two-keys", f"both `{PASSPHRASE}` and `{COMMAND}` are set", hint="unset one of them")
    write = _source(environ, PASSPHRASE, COMMAND, folder)
    if write is None and command:
        write = _printed("the command under `encryption`", command, environ, folder)
    if write is None and is_required:
        raise _error(
            "encryption-key-missing",
            "the state is to be encrypted, and there is no key",
            f"neither `{PASSPHRASE}` nor `{COMMAND}` is set, and the spec names no `command`",
            "nothing was changed",
            hint="say where the key comes from; docs/state.md has examples",
        )
    old = [
        _printed(f"old command {number} under `encryption`", text, environ, folder)
        for number, text in enumerate(old_commands, 1)
    ]
    earlier = [
        source
        for names in ((OLD_PASSPHRASE, ""), ("", OLD_COMMAND))
        if (source := _source(environ, *names, folder)) is not None
    ]
    return Keyring(write, [*earlier, *old])


def _source(environ: Mapping[str, str], passphrase: str, command: str, folder: Path) -> KeySource | None:
    if text := environ.get(passphrase):
        return _stretched(passphrase, Secret(text))
    if text := environ.get(command):
        return _printed(command, text, environ, folder)
    return None


def _stretched(name: str, passphrase: Secret) -> KeySource:
    def derive(salt: str) -> bytes:
        text = passphrase.reveal()
        if len(text) < _LEAST_PASSPHRASE:
            raise _error(
                "weak-passphrase",
                f"`{name}` is too short",
                f"it has {len(text)} characters; a passphrase has at least {_LEAST_PASSPHRASE}",
                hint="choose five words by chance, or let a program choose",
            )
        with _extra():
            from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

        stretch = Scrypt(salt=_salt(salt), length=_KEY_BYTES + _ID_BYTES, n=_SCRYPT_COST, r=8, p=1)
        return stretch.derive(text.encode())

    return KeySource(name, derive)


def _printed(name: str, command: str, environ: Mapping[str, str], folder: Path) -> KeySource:
    printed: list[Secret] = []

    def derive(salt: str) -> bytes:
        with _extra():
            from cryptography.hazmat.primitives.hashes import SHA256
            from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        if not printed:
            printed.append(Secret(_run(name, command, environ, folder).decode("latin-1")))
        expand = HKDF(algorithm=SHA256(), length=_KEY_BYTES + _ID_BYTES, salt=_salt(salt), info=b"gpuplan")
        return expand.derive(printed[0].reveal().encode("latin-1"))

    return KeySource(name, derive)


def _run(name: str, command: str, environ: Mapping[str, str], folder: Path) -> bytes:
    """What it prints on standard output, which is never shown. No shell takes part."""
    import subprocess

    try:
        arguments = shlex.split(command)
        done = subprocess.run(
            arguments, cwd=folder, env=dict(environ), capture_output=True, timeout=_COMMAND_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as exc:
        raise _no_key(name, f"it did not end within {_COMMAND_SECONDS} s") from exc
    except (OSError, ValueError, IndexError) as exc:
        raise _no_key(name, f"it cannot be run: {getattr(exc, 'strerror', None) or exc}") from exc
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["it printed nothing"]
        raise _no_key(name, f"it ended with status {done.returncode}", f"it says: {said[0][:200]}")
    key = done.stdout.strip(b"\r\n")
    if not _LEAST_PRINTED_BYTES <= len(key) <= _MOST_PRINTED_BYTES:
        raise _no_key(
            name,
            f"it printed {len(key)} bytes; a key has {_LEAST_PRINTED_BYTES} to {_MOST_PRINTED_BYTES}",
            hint="make one with `openssl rand -base64 32`",
        )
    return key


def _salt(salt: str) -> bytes:
    return b"gpuplan state 1 " + salt.encode()


def _cipher(key: bytes) -> "AESGCM":
    with _extra():
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)


@contextmanager
def _extra() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as exc:
        raise _error(
            "encryption-extra-missing",
            "encryption needs a package that is not installed",
            f"it imports `{exc.name}`",
            hint="install what it needs",
            commands=("pip install 'gpuplan[encryption]'",),
        ) from exc


def _unreadable(where: str, tried: Sequence[str]) -> StateEncrypted:
    summary = f"`{where}` is encrypted under another key" if tried else f"`{where}` is encrypted, and there is no key"
    found = Diagnostic(
        id=StateEncrypted.id,
        summary=summary,
        facts=(*(f"it is not the one of {name}" for name in tried), "nothing was changed"),
        hint=f"set `{OLD_PASSPHRASE}` or `{OLD_COMMAND}` to a key it was written with"
        if tried
        else f"set `{PASSPHRASE}` or `{COMMAND}`",
    )
    return StateEncrypted(diagnostics=(found,))


def _no_key(name: str, *facts: str, hint: str = "mend the command; it prints a key and nothing else") -> StateError:
    return _error("encryption-key-command", f"{name} gives no key", *facts, "nothing was changed", hint=hint)


def _error(error_id: str, summary: str, *facts: str, hint: str, commands: tuple[str, ...] = ()) -> StateError:
    found = Diagnostic(id=error_id, summary=summary, facts=facts, hint=hint, commands=commands)
    return StateError(diagnostics=(found,))
