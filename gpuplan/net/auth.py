"""How requests prove who sends them. Every attempt is signed afresh, so that a repeated one carries a new time."""

import base64
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from gpuplan.core.secret import Secret
from gpuplan.net.exchange import Outgoing, Response


@dataclass(frozen=True, slots=True)
class Signing:
    """What signing may use: the credentials by name, the time, and the wire for those who trade a key for a token."""

    keys: Mapping[str, Secret]
    now: datetime
    send: Callable[[Outgoing], Awaitable[Response]]

    def key(self, name: str) -> str:
        return self.keys[name].reveal()


class Auth(Protocol):
    async def sign(self, outgoing: Outgoing, signing: Signing) -> Outgoing:
        """The request with its proof."""
        ...


@dataclass(frozen=True, slots=True)
class Bearer:
    """`Authorization: Bearer KEY`; a key that begins with `verbatim` brings its own scheme."""

    key: str = "key"
    verbatim: str = ""

    async def sign(self, outgoing: Outgoing, signing: Signing) -> Outgoing:
        key = signing.key(self.key)
        own_scheme = bool(self.verbatim) and key.startswith(self.verbatim)
        return _with(outgoing, {"Authorization": key if own_scheme else f"Bearer {key}"})


@dataclass(frozen=True, slots=True)
class KeyHeaders:
    """Credentials in headers of their own: header to name of the credential. One that is not there is left out."""

    headers: Mapping[str, str]

    async def sign(self, outgoing: Outgoing, signing: Signing) -> Outgoing:
        return _with(
            outgoing, {header: signing.key(name) for header, name in self.headers.items() if name in signing.keys}
        )


@dataclass(frozen=True, slots=True)
class Basic:
    """User and password by name; an empty `password` sends none."""

    user: str = "key"
    password: str = ""

    async def sign(self, outgoing: Outgoing, signing: Signing) -> Outgoing:
        password = signing.key(self.password) if self.password else ""
        pair = base64.b64encode(f"{signing.key(self.user)}:{password}".encode()).decode()
        return _with(outgoing, {"Authorization": f"Basic {pair}"})


@dataclass(frozen=True, slots=True)
class Nobody:
    """No proof at all."""

    async def sign(self, outgoing: Outgoing, signing: Signing) -> Outgoing:
        return outgoing


def _with(outgoing: Outgoing, headers: Mapping[str, str]) -> Outgoing:
    return replace(outgoing, headers={**outgoing.headers, **headers})
