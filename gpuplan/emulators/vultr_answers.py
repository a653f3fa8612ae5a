"""Vultr's envelopes: errors without codes, objects under their name, listings with cursors, bodies that are checked."""

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import TypeVar

from gpuplan.core.values import JsonValue
from gpuplan.emulators.http import Json, Refusal, Request, Response
from gpuplan.emulators.site import Site

T = TypeVar("T")

TAG_LENGTH = 50


class Refused(Refusal):
    """A refusal in Vultr's words."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(error(status, text))


def error(status: int, text: str) -> Response:
    return Response(status, {"error": text, "status": status})


def page(
    site: Site, request: Request, key: str, items: Sequence[T], show: Callable[[T], Json], id_of: Callable[[T], str]
) -> Response:
    """One page of a listing. The cursor names the first object of the next page, in a way nobody should rely on."""
    size = min(int(request.one("per_page") or site.count("page_size")), site.count("most_per_page"))
    start = _start(request.one("cursor"), [id_of(item) for item in items])
    end = start + size
    following = _cursor("next", id_of(items[end])) if end < len(items) else ""
    previous = _cursor("prev", id_of(items[max(0, start - size)])) if start else ""
    meta: JsonValue = {"total": len(items), "links": {"next": following, "prev": previous}}
    return Response(200, {key: [show(item) for item in items[start:end]], "meta": meta})


def body_of(request: Request) -> Json:
    """The body, which must be said to be JSON. Raises Refused, NotJson."""
    if request.content and "json" not in request.headers.get("content-type", ""):
        raise Refused(400, "Invalid Content-Type: expected application/json")
    return request.json()


def text(body: Json, name: str) -> str:
    value = body.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Refused(400, f"Invalid {name}: must be a string")
    return value


def number(body: Json, name: str) -> int:
    """A whole number; one in a text counts too, as Vultr's own Node client sends it. 0 when absent."""
    value = body.get(name)
    if value is None or value == "":
        return 0
    if isinstance(value, bool) or not (isinstance(value, int) or (isinstance(value, str) and value.isdigit())):
        raise Refused(400, f"Invalid {name}.")
    return int(value)


def texts(body: Json, name: str) -> list[str]:
    value = body.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise Refused(400, f"Invalid {name}: must be an array of strings")
    return [str(item) for item in value]


def flag(body: Json, name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise Refused(400, f"Invalid {name}: must be a boolean")
    return value is True


def tags_of(body: Json) -> list[str]:
    tags = texts(body, "tags")
    if any(len(tag) > TAG_LENGTH for tag in tags):
        raise Refused(400, f"Invalid tags: a tag may not exceed {TAG_LENGTH} characters")
    return tags


def base64_of(body: Json, name: str) -> str:
    """A text that must be base64; what it decodes to."""
    try:
        return base64.b64decode(text(body, name), validate=True).decode(errors="replace")
    except binascii.Error as exc:
        raise Refused(400, f"Invalid {name}: must be base64 encoded") from exc


def _cursor(direction: str, id: str) -> str:
    return base64.b64encode(f"{direction}__{id}".encode()).decode()


def _start(cursor: str, ids: Sequence[str]) -> int:
    if not cursor:
        return 0
    try:
        id = base64.b64decode(cursor).decode().partition("__")[2]
    except ValueError as exc:
        raise Refused(400, "Invalid cursor.") from exc
    return ids.index(id) if id in ids else len(ids)
