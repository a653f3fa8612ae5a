"""Nosana's way with answers: keys in base58, addresses of workloads, errors of three shapes, pages with cursors."""

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

from gpuplan.core.values import JsonValue
from gpuplan.emulators.http import Json, Refusal, Request, Response
from gpuplan.emulators.site import Site

NODE = "node"
"""The kind of a deployment in the world: it is what others call a node."""
NOBODY = "11111111111111111111111111111111"
"""The host of a job that has none yet."""
LIMITS = ("10", "20", "50", "100")
KEY_LENGTHS = (43, 44)
_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

T = TypeVar("T")


class Refused(Refusal):
    """A refusal in Nosana's words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(Response(status, {"error": message}))


class WrongState(Refused):
    """It is no conflict there, but an error of the server."""

    def __init__(self) -> None:
        super().__init__(500, "Deployment is in the incorrect state.")


def error(status: int, text: str) -> Response:
    """Errors that are not about one object: a bare text for who is not let in, HTML from what stands in front."""
    if status == 401:
        return Response(401, b'"Unauthorized"', {"Content-Type": "application/json"})
    if status >= 502:
        return Response(status, f"<html><head><title>{status} {text}</title></head><body></body></html>")
    return Response(status, {"error": "Internal server error." if status == 500 else text})


def base58(content: bytes) -> str:
    number, text = int.from_bytes(content, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = _ALPHABET[digit] + text
    return "1" * (len(content) - len(content.lstrip(b"\0"))) + text


def fresh_key(site: Site) -> str:
    """An address on the chain that is nobody's."""
    while len(key := base58(site.world.random.randbytes(32))) not in KEY_LENGTHS:
        pass
    return key


def vault_of(account: str) -> str:
    """The account's own address."""
    return base58(hashlib.sha256(f"vault {account}".encode()).digest())


def url_of(deployment: str, vault: str, op: str) -> str:
    """Where the world reaches an op: the same for all its ports, its replicas and all its restarts."""
    inner = _digest(f"{deployment}:{vault}", 45)
    return f"https://{_digest(f'{op}:0:{inner}', 44)}.node.k8s.prd.nos.ci"


def moment(time: datetime) -> str:
    return f"{time.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def page(
    site: Site, request: Request, name: str, items: Sequence[T], key: Callable[[T], str], show: Callable[[T], Json]
) -> Response:
    """One page of `items`, which are in the order of their creation. Raises Refused."""
    limit = request.one("limit") or "10"
    if limit not in LIMITS:
        raise Refused(400, "Bad Request")
    size = site.count("most_per_page") or int(limit)
    rows = list(items) if request.one("sort_order") == "asc" else list(reversed(items))
    keys = [key(row) for row in rows]
    after = _read_cursor(request.one("cursor"))
    begin = keys.index(after) + 1 if after in keys else 0
    chosen = rows[begin : begin + size]
    has_more = begin + size < len(rows)
    pagination: Json = {
        "cursor_next": _cursor(key(chosen[-1])) if has_more else None,
        "cursor_prev": _cursor(keys[max(0, begin - size)]) if begin else None,
        "total_items": len(rows),
    }
    return Response(200, {name: [show(row) for row in chosen], "pagination": pagination})


def words(request: Request, name: str) -> list[str]:
    """A parameter that is a list with commas."""
    return [word for word in request.one(name).split(",") if word]


def inner(value: JsonValue, *path: str) -> JsonValue:
    """The value at a path of fields; None where there is none."""
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    return value


def _digest(text: str, length: int) -> str:
    return base58(hashlib.sha512(text.encode()).digest())[:length]


def _cursor(id: str) -> str:
    return base64.b64encode(json.dumps({"sort_field_value": id, "_id": id, "direction": "next"}).encode()).decode()


def _read_cursor(text: str) -> str:
    if not text:
        return ""
    try:
        return str(json.loads(base64.b64decode(text))["_id"])
    except (ValueError, KeyError, TypeError) as exc:
        raise Refused(400, "Bad Request") from exc
