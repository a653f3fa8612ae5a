"""Hetzner's envelopes: errors with codes, pages with `meta` and `Link`, labels and their selectors, checked bodies."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from gpuplan.core.values import JsonValue
from gpuplan.emulators.http import Json, Refusal, Request, Response
from gpuplan.emulators.site import Site
from gpuplan.emulators.world import Thing

T = TypeVar("T")

CODES: Mapping[int, str] = {
    400: "json_error",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    410: "deprecated_api_endpoint",
    412: "resource_unavailable",
    423: "locked",
    429: "rate_limit_exceeded",
    500: "server_error",
    502: "bad_gateway",
    503: "unavailable",
    504: "timeout",
}
_WORD = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
_PREFIX = r"(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?/)?"
_LABEL = re.compile(_PREFIX + _WORD)
_LABEL_VALUE = re.compile(f"(?:{_WORD})?")
_KEY = rf"{_PREFIX}{_WORD}"
_IN = re.compile(rf"(?P<key>{_KEY})\s+(?P<verb>in|notin)\s*\((?P<values>[^)]*)\)")
_EQUALS = re.compile(rf"(?P<key>{_KEY})\s*(?P<verb>==|=|!=)\s*(?P<value>{_WORD}|)")
_HAS = re.compile(rf"(?P<absent>!?)\s*(?P<key>{_KEY})")


class Refused(Refusal):
    """A refusal in Hetzner's words."""

    def __init__(self, status: int, code: str, text: str, details: JsonValue = None) -> None:
        super().__init__(Response(status, {"error": {"code": code, "message": text, "details": details}}))


def error(status: int, text: str) -> Response:
    code = CODES.get(status, "invalid_input" if status < 500 else "server_error")
    return Response(status, {"error": {"code": code, "message": text, "details": None}})


def unfit(name: str, why: str) -> Refused:
    """A field of a request that does not do."""
    details: JsonValue = {"fields": [{"name": name, "messages": [why]}]}
    return Refused(422, "invalid_input", f"invalid input in field '{name}': {why}", details)


def missing(what: str, id: str) -> Refused:
    return Refused(404, "not_found", f"{what} with ID '{id}' not found")


def taken(what: str, name: str) -> Refused:
    return Refused(409, "uniqueness_error", f"{what} is already used", {"fields": [{"name": name}]})


def page(site: Site, request: Request, key: str, items: Sequence[T], show: Callable[[T], Json]) -> Response:
    """One page of a listing, with where the others are in the body and in the header `Link`."""
    number = _positive(request, "page", 1)
    size = min(_positive(request, "per_page", site.count("page_size")), site.count("most_per_page"))
    last = max(1, -(-len(items) // size))
    near = {"prev": number - 1 if number > 1 else None, "next": number + 1 if number < last else None, "last": last}
    pagination: Json = {
        "page": number,
        "per_page": size,
        "previous_page": near["prev"],
        "next_page": near["next"],
        "last_page": last,
        "total_entries": len(items),
    }
    host = f"https://api.hetzner.cloud{request.path}"
    links = [f'<{host}?page={at}&per_page={size}>; rel="{where}"' for where, at in near.items() if at]
    shown = [show(item) for item in items[(number - 1) * size : number * size]]
    return Response(200, {key: shown, "meta": {"pagination": pagination}}, {"Link": ", ".join(links)})


def chosen(request: Request, things: Sequence[Thing]) -> list[Thing]:
    """Those that the parameters `name` and `label_selector` ask for, in the order of `sort`."""
    names, selector = request.query.get("name", ()), request.one("label_selector")
    fits = selects(selector) if selector else lambda labels: True
    found = [thing for thing in things if (not names or thing.name in names) and fits(labels_of(thing))]
    for order in reversed(request.query.get("sort", ())):
        key, _, direction = order.partition(":")
        if key not in SORTS or direction not in ("", "asc", "desc"):
            raise unfit("sort", f"'{order}' is not allowed")
        found.sort(key=SORTS[key], reverse=direction == "desc")
    return found


SORTS: Mapping[str, Callable[[Thing], str | int]] = {
    "id": lambda thing: int(thing.id),
    "name": lambda thing: thing.name,
    "created": lambda thing: thing.created_at.isoformat(),
}


def labels_of(thing: Thing) -> Mapping[str, JsonValue]:
    labels = thing.body.get("labels")
    return labels if isinstance(labels, Mapping) else {}


def selects(selector: str) -> Callable[[Mapping[str, JsonValue]], bool]:
    """The function that says whether labels fit a selector: `k=v`, `k!=v`, `k`, `!k`, `k in (a,b)`, `k notin (a,b)`."""
    tests = [_test(part.strip()) for part in re.split(r",(?![^(]*\))", selector)]
    return lambda labels: all(test(labels) for test in tests)


def _test(part: str) -> Callable[[Mapping[str, JsonValue]], bool]:
    if match := _IN.fullmatch(part):
        key, verb = match["key"], match["verb"]
        values = {value.strip() for value in match["values"].split(",")}
        return lambda labels: (labels.get(key) in values) == (verb == "in")
    if match := _HAS.fullmatch(part):
        key, absent = match["key"], bool(match["absent"])
        return lambda labels: (key in labels) != absent
    if match := _EQUALS.fullmatch(part):
        key, verb, value = match["key"], match["verb"], match["value"]
        return lambda labels: (labels.get(key) == value) == (verb != "!=")
    raise unfit("label_selector", f"'{part}' is not a selector")


def text(body: Json, name: str, *, required: bool = False) -> str:
    """A text; numbers count where ids may stand for names."""
    value = body.get(name)
    if value is None and not required:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        raise unfit(name, "is required" if value in (None, "") else "must be a string")
    return str(value)


def number(body: Json, name: str) -> int:
    """A whole number; 0 when absent."""
    value = body.get(name)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value):
        raise unfit(name, "must be an integer")
    return int(value)


def flag(body: Json, name: str, default: bool) -> bool:
    value = body.get(name, default)
    if not isinstance(value, bool):
        raise unfit(name, "must be a boolean")
    return value


def items(body: Json, name: str) -> list[JsonValue]:
    value = body.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise unfit(name, "must be an array")
    return value


def objects(body: Json, name: str) -> list[Json]:
    found = items(body, name)
    if not all(isinstance(item, dict) for item in found):
        raise unfit(name, "must be an array of objects")
    return [dict(item) for item in found if isinstance(item, Mapping)]


def labels_in(body: Json) -> Json:
    """The labels of a request, which all keep the rules for labels."""
    labels = body.get("labels")
    if labels is None:
        return {}
    if not isinstance(labels, dict):
        raise unfit("labels", "must be an object")
    for name, value in labels.items():
        if not _LABEL.fullmatch(name) or name.startswith("hetzner.cloud/"):
            raise unfit("labels", f"'{name}' is not a label key")
        if not isinstance(value, str) or not _LABEL_VALUE.fullmatch(value):
            raise unfit("labels", f"'{value}' is not a label value")
    return dict(labels)


def _positive(request: Request, name: str, default: int) -> int:
    value = request.one(name)
    if not value:
        return default
    if not value.isdigit() or int(value) < 1:
        raise unfit(name, "must be a positive integer")
    return int(value)
