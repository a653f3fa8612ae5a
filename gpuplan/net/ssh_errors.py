"""The border between asyncssh and the errors of gpuplan: everything is translated here, once. Used by `ssh*`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import asyncssh

from gpuplan.core.errors import (
    AuthFailed,
    Conflict,
    Failure,
    InvalidRequest,
    NotFound,
    OutcomeUnknown,
    ProviderError,
    Unavailable,
)

_FILES: dict[type[asyncssh.SFTPError], type[ProviderError]] = {
    asyncssh.SFTPNoSuchFile: NotFound,
    asyncssh.SFTPNoSuchPath: NotFound,
    asyncssh.SFTPPermissionDenied: InvalidRequest,
}


@dataclass(frozen=True, slots=True)
class Node:
    """Who is spoken of in messages."""

    provider: str
    name: str
    """Its address."""
    place: str
    """`USER@HOST:PORT`."""

    def failure(self, to: str, *facts: str, message: str = "", hint: str | None = None) -> Failure:
        return Failure(self.provider, f"{to} {self.name}", message=message, facts=facts, hint=hint)


@contextmanager
def logging_in(node: Node, facts: Callable[[], tuple[str, ...]]) -> Iterator[None]:
    """What goes wrong on the way to a node, before anything could happen there. `facts` tell of keys left out."""
    to, where = "reach", f"over SSH, as {node.place}"
    try:
        yield
    except asyncssh.PermissionDenied as exc:
        hint = "name the key that the node was made with: GPUPLAN_SSH_KEY=FILE"
        raise AuthFailed(node.failure(to, where, "none of the keys is accepted there", *facts(), hint=hint)) from exc
    except (asyncssh.KeyExchangeFailed, asyncssh.ProtocolNotSupported, asyncssh.IllegalUserName) as exc:
        raise InvalidRequest(node.failure(to, where, _words(exc))) from exc
    except (OSError, asyncssh.Error) as exc:
        raise Unavailable(node.failure(to, where, _words(exc))) from exc


@contextmanager
def working(node: Node, to: str) -> Iterator[None]:
    """What goes wrong before a command has begun."""
    try:
        yield
    except (OSError, asyncssh.Error) as exc:
        raise Unavailable(node.failure(to, _words(exc))) from exc


@contextmanager
def copying(node: Node, to: str) -> Iterator[None]:
    """What goes wrong with files, here or there; a copy can always be repeated."""
    try:
        yield
    except asyncssh.SFTPConnectionLost as exc:
        raise OutcomeUnknown(node.failure(to, _words(exc))) from exc
    except asyncssh.SFTPError as exc:
        raise _FILES.get(type(exc), Conflict)(node.failure(to, message=exc.reason)) from exc
    except OSError as exc:
        if exc.filename is None:
            raise OutcomeUnknown(node.failure(to, _words(exc))) from exc
        raise InvalidRequest(node.failure(to, f"`{_text(exc.filename)}`: {_words(exc)}")) from exc
    except asyncssh.Error as exc:
        raise OutcomeUnknown(node.failure(to, _words(exc))) from exc


def _words(error: OSError | asyncssh.Error) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, asyncssh.Error):
        return error.reason or "the connection ended"
    return (error.strerror or str(error) or "the connection ended").lower()


def _text(name: object) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)
