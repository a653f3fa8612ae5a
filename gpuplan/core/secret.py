"""Secrets: values that may be sent to a provider and must be shown to nobody."""

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass

SHOWN = "(sensitive)"
_LONG = 16
"""A line inside a secret of several lines that is shorter than this may stand in anything."""


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """A sensitive text. Printing, formatting or logging it shows `(sensitive)`; `reveal()` is for adapters only."""

    _value: str

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return SHOWN

    def __str__(self) -> str:
        return SHOWN


@dataclass(frozen=True, slots=True)
class Sealed:
    """What the state keeps of a secret: a keyed digest, enough to notice a change and nothing more."""

    digest: str

    def __str__(self) -> str:
        return SHOWN


def seal(secret: Secret, *, key: bytes, salt: str) -> Sealed:
    """Digest a secret with the key of the state; `salt` (address, attribute) keeps equal secrets from looking equal."""
    mac = hmac.new(key, digestmod=hashlib.sha256)
    mac.update(salt.encode())
    mac.update(b"\0")
    mac.update(secret.reveal().encode())
    return Sealed(mac.hexdigest())


class Redactor:
    """Replaces every known secret in a text, whole or as a part of a line; grows while secrets become known."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        for secret in secrets:
            self.add(secret)

    def add(self, secret: str) -> None:
        # Very short texts would blank out half of every log and protect nothing.
        if len(secret) >= 4 and secret not in self._secrets:
            self._secrets.add(secret)
            # Logs are lines: a key that takes several is recognised by each of them.
            lines = (line.strip() for line in secret.splitlines())
            self._secrets.update(line for line in lines if len(line) >= _LONG and not line.startswith("-----"))
            self._pattern = None

    def __call__(self, text: str) -> str:
        if not self._secrets:
            return text
        if self._pattern is None:
            longest_first = sorted(self._secrets, key=lambda s: (-len(s), s))
            self._pattern = re.compile("|".join(map(re.escape, longest_first)))
        return self._pattern.sub("********", text)
