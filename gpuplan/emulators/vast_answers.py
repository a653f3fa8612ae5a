"""Vast.ai's way with answers: errors that come under three statuses, a list page by page, bodies that are checked."""

import base64
import json
from collections.abc import Callable, Sequence
from typing import TypeVar

from gpuplan.core.values import JsonValue
from gpuplan.emulators.http import Json, Refusal, Request, Response
from gpuplan.emulators.site import Site

T = TypeVar("T")


class Refused(Refusal):
    """A refusal in Vast's words; `more` goes into the body."""

    def __init__(self, status: int, code: str, text: str, **more: JsonValue) -> None:
        super().__init__(Response(status, {"success": False, "error": code, "msg": text, **more}))


def error(status: int, text: str) -> Response:
    """Errors that are not about one object. A key that is nobody's is told with status 404."""
    if status == 401:
        return Response(404, {"success": False, "error": "auth_error", "msg": "Invalid user key"})
    if status == 429:
        return Response(429, {"detail": "API requests too frequent endpoint threshold=1.0"})
    if status >= 502:
        return Response(status, f"<html><head><title>{status} {text}</title></head><body></body></html>")
    codes = {404: "not_found", 400: "invalid_args"}
    return Response(status, {"success": False, "error": codes.get(status, "server_error"), "msg": text})


def done(**more: JsonValue) -> Response:
    return Response(200, {"success": True, **more})


def text(body: Json, name: str) -> str:
    value = body.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Refused(400, "invalid_args", f"error 400/3467: {name} must be a string")
    return value


def amount(body: Json, name: str) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Refused(400, "invalid_args", f"error 400/3467: {name} must be a number")
    return float(value)


def whole(text: str, code: str = "invalid_args") -> int:
    if not text.isdigit():
        raise Refused(400, code, f"error 400/3467: {text} is not an id")
    return int(text)


def json_parameter(request: Request, name: str) -> JsonValue:
    """A parameter of the URL that holds JSON; None when it is not there."""
    given = request.one(name)
    if not given:
        return None
    try:
        value: JsonValue = json.loads(given)
    except ValueError as exc:
        raise Refused(400, "invalid_request", f"error 400: {name} is not JSON") from exc
    return value


def page(site: Site, request: Request, items: Sequence[T], id_of: Callable[[T], int]) -> tuple[Sequence[T], str | None]:
    """One page of a listing, and the token of the next."""
    limit = request.one("limit") or "25"
    size = min(int(limit) if limit.isdigit() and int(limit) > 0 else 5, site.count("most_per_page"))
    start, token = 0, request.one("after_token")
    if token:
        try:
            last = int(base64.b64decode(token, validate=True))
        except ValueError as exc:
            raise Refused(400, "invalid_token", "error 400: after_token is not one of ours") from exc
        start = next((n + 1 for n, item in enumerate(items) if id_of(item) == last), len(items))
    found = items[start : start + size]
    is_last = start + size >= len(items) or not found
    return found, None if is_last else base64.b64encode(str(id_of(found[-1])).encode()).decode()
