"""How requests prove who sends them. Every attempt is signed afresh, so that a repeated one carries a new time."""

import base64
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol, runtime_checkable

from gpuplan.core.secret import Redactor, Secret
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


@runtime_checkable
class Renewable(Protocol):
    """A proof that can be made anew when it is not accepted any more."""

    async def renew(self) -> bool:
        """Whether there may be another one now: then the refused request is sent once more."""
        ...


class Rotating:
    """A value of `Authorization` that somebody else keeps up to date: tokens that are replaced while we work."""

    def __init__(self, read: Callable[[], str | None], renew: Callable[[], bool], redactor: Redactor) -> None:
        """`read` and `renew` may block: they read files and run programs. None: nothing is sent."""
        self._read = read
        self._renew = renew
        self._redactor = redactor

    async def sign(self, outgoing: Outgoing, signing: Signing) -> Outgoing:
        # It brings asyncio, which nobody needs who only reads a spec.
        from gpuplan.net.threads import run_blocking

        value = await run_blocking(self._read)
        if not value:
            return outgoing
        self._redactor.add(value.rpartition(" ")[2])
        return _with(outgoing, {"Authorization": value})

    async def renew(self) -> bool:
        from gpuplan.net.threads import run_blocking

        return await run_blocking(self._renew)


def _with(outgoing: Outgoing, headers: Mapping[str, str]) -> Outgoing:
    return replace(outgoing, headers={**outgoing.headers, **headers})
