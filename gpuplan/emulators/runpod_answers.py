"""RunPod's manners: errors as problem documents, bodies checked field by field, listings with cursors."""

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import TypeAlias

from gpuplan.core.values import JsonValue
from gpuplan.emulators.http import Json, Refusal, Request, Response
from gpuplan.emulators.site import Site
from gpuplan.emulators.world import Thing

Check: TypeAlias = Callable[[str, JsonValue], list[str]]
"""What is wrong with the value at a path: nothing, or one complaint after the other."""
WORDS = {401: "missing bearer token", 403: "access denied", 404: "resource not found", 429: "rate limit exceeded"}
"""RunPod's own words for what the site refuses by itself."""


class Refused(Refusal):
    """A refusal in RunPod's words."""

    def __init__(self, status: int, detail: str, errors: Sequence[str] = ()) -> None:
        super().__init__(problem(status, detail, errors))


def problem(status: int, detail: str, errors: Sequence[str] = ()) -> Response:
    body: Json = {"title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    if errors:
        body["errors"] = list[JsonValue](errors)
    return Response(status, body, {"Content-Type": "application/problem+json"})


def error(status: int, text: str) -> Response:
    return problem(status, WORDS.get(status, text))


def rate_headers(site: Site, request: Request) -> Mapping[str, str]:
    """What is left of the minute; keyless callers are not counted."""
    key, limit = site.type.key(request), site.type.rate_limit
    if not key or limit is None:
        return {}
    now = site.world.time.monotonic()
    recent = [moment for moment in site.world.recent[site.type.name, key] if moment > now - limit.per_seconds]
    rest, resets = max(0, limit.requests - len(recent)), round(recent[0] + limit.per_seconds - now) if recent else 0
    return {
        "RateLimit": f'"minute";r={rest};t={resets}',
        "RateLimit-Policy": f'"minute";q={limit.requests};w={limit.per_seconds:g}',
    }


def page(site: Site, request: Request, name: str, things: Sequence[Thing], show: Callable[[Thing], Json]) -> Response:
    """One page of a listing; the cursor names the last object of the page before."""
    size = int(request.one("limit") or site.count("page_size"))
    start = _start(request.one("cursor"), [thing.id for thing in things])
    shown = things[start : start + size]
    has_more = start + size < len(things)
    following = base64.b64encode(shown[-1].id.encode()).decode() if has_more else None
    pagination: JsonValue = {"hasNextPage": has_more, "nextCursor": following}
    return Response(200, {name: [show(thing) for thing in shown], "pagination": pagination})


def checked(request: Request, fields: Mapping[str, Check], required: Sequence[str] = ()) -> Json:
    """The body, if it is what the contract says. Raises Refused, with every complaint."""
    body = request.json()
    complaints = complaints_of("$", body, fields, required)
    if complaints:
        raise Refused(422, "Request validation failed.", complaints)
    return body


def complaints_of(path: str, body: JsonValue, fields: Mapping[str, Check], required: Sequence[str]) -> list[str]:
    if not isinstance(body, Mapping):
        return [f"{path}: must be an object"]
    found = [f"{path}: missing property {name}" for name in required if name not in body]
    found += [f"{path}.{name}: additional property is not permitted" for name in body if name not in fields]
    return found + [
        complaint for name in body if name in fields for complaint in fields[name](f"{path}.{name}", body[name])
    ]


def text(pattern: str = "") -> Check:
    def check(path: str, value: JsonValue) -> list[str]:
        if not isinstance(value, str):
            return [f"{path}: must be a string"]
        return [] if re.search(pattern, value) else [f"{path}: does not match pattern"]

    return check


def one_of(*words: str) -> Check:
    return lambda path, value: [] if value in words else [f"{path}: must be one of {', '.join(words)}"]


def whole(least: int, most: int = 1_000_000) -> Check:
    def check(path: str, value: JsonValue) -> list[str]:
        is_number = isinstance(value, int) and not isinstance(value, bool)
        return [] if is_number and least <= int(str(value)) <= most else [f"{path}: must be from {least} to {most}"]

    return check


def flag(path: str, value: JsonValue) -> list[str]:
    return [] if isinstance(value, bool) else [f"{path}: must be a boolean"]


def texts(pattern: str = "") -> Check:
    def check(path: str, value: JsonValue) -> list[str]:
        if not isinstance(value, list):
            return [f"{path}: must be an array"]
        one = text(pattern)
        return [complaint for number, item in enumerate(value) for complaint in one(f"{path}[{number}]", item)]

    return check


def variables(path: str, value: JsonValue) -> list[str]:
    if not isinstance(value, Mapping):
        return [f"{path}: must be an object"]
    if len(value) > 50:
        return [f"{path}: must have at most 50 properties"]
    return [f"{path}.{name}: must be a string" for name, item in value.items() if not isinstance(item, str)]


def nothing_or(check: Check) -> Check:
    return lambda path, value: [] if value is None else check(path, value)


def part(fields: Mapping[str, Check], required: Sequence[str] = ()) -> Check:
    return lambda path, value: complaints_of(path, value, fields, required)


def parts(fields: Mapping[str, Check], required: Sequence[str], most: int) -> Check:
    def check(path: str, value: JsonValue) -> list[str]:
        if not isinstance(value, list) or len(value) > most:
            return [f"{path}: must be an array of at most {most}"]
        return [
            c for number, item in enumerate(value) for c in complaints_of(f"{path}[{number}]", item, fields, required)
        ]

    return check


def own(site: Site, kind: str, id: str, account: str) -> Thing:
    thing = site.thing(kind, id, account)
    if thing is None:
        raise Refused(404, WORDS[404])
    return thing


def inner(body: JsonValue, name: str) -> Json:
    """A part of a body, empty where there is none."""
    value = body.get(name) if isinstance(body, Mapping) else None
    return dict(value) if isinstance(value, Mapping) else {}


def items(body: JsonValue, name: str) -> list[JsonValue]:
    value = body.get(name) if isinstance(body, Mapping) else None
    return list(value) if isinstance(value, list) else []


def _start(cursor: str, ids: Sequence[str]) -> int:
    if not cursor:
        return 0
    try:
        id = base64.b64decode(cursor, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as exc:
        raise Refused(400, "invalid cursor") from exc
    return ids.index(id) + 1 if id in ids else len(ids)
