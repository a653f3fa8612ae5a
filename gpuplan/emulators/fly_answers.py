"""Fly.io's way with answers: errors with a code now and then, machines behind an app, calls at a pace of their own."""

from collections.abc import Mapping

from gpuplan.core.capabilities import RateLimit
from gpuplan.core.values import JsonValue
from gpuplan.emulators.http import Json, Refusal, Request, Response
from gpuplan.emulators.site import Site
from gpuplan.emulators.world import Thing

APP, NODE, VOLUME, ADDRESS, SECRET = "app", "node", "volume", "ip_address", "secret"
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
WORDS = {401: "authenticate: token validation error", 404: "not found", 429: "rate limit exceeded"}
ACTION_PACE, READ_PACE = RateLimit(requests=3, per_seconds=3.0), RateLimit(requests=10, per_seconds=2.0)
"""Of one action on one machine, and of looking at one machine."""


class Refused(Refusal):
    """A refusal in Fly's words; `code` is there for few of them."""

    def __init__(self, status: int, text: str, code: str = "") -> None:
        super().__init__(Response(status, {"error": text, **({"status": code} if code else {})}))


def error(status: int, text: str) -> Response:
    if status >= 502:
        return Response(status, "upstream connect error")
    body: Json = {"error": WORDS.get(status, text)}
    return Response(status, body if status < 500 else {**body, "status": "unknown"})


def key_of(request: Request) -> str:
    """A token under either of its schemes."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme in ("Bearer", "FlyV1") else ""


def request_headers(site: Site, request: Request) -> Mapping[str, str]:
    return {"fly-request-id": f"{ulid(site)}-ord"}


def ulid(site: Site) -> str:
    return f"01{site.digits(24, _CROCKFORD)}"


def keep_pace(site: Site, request: Request) -> None:
    """Each action on each machine, and creating in each app, has a pace of its own. Raises Refused."""
    found = site.type.routes.find(request.method, request.path)
    if found is None or site.world.knobs[site.type.name].get("rate_limited") is False:
        return
    route, ids = found
    is_read = request.method == "GET"
    if "/machines" not in route.template or "app" not in ids or (is_read and "id" not in ids):
        return
    pace, now = READ_PACE if is_read else ACTION_PACE, site.world.time.monotonic()
    what = f"{key_of(request)} {request.method} {route.template} {ids['app']} {ids.get('id', '')}"
    recent = site.world.recent[site.type.name, what]
    recent[:] = [moment for moment in recent if moment > now - pace.per_seconds]
    if len(recent) >= pace.requests:
        raise Refusal(Response(429, {"error": WORDS[429]}, {"Retry-After": "1"}))
    recent.append(now)


def app_of(site: Site, request: Request, ids: Mapping[str, str]) -> Thing:
    """The app of the path. Raises Refused for none, and for one of somebody else."""
    app = site.world.living[site.type.name, APP].get(ids["app"])
    if app is None:
        raise Refused(404, "app not found")
    if app.account != request.account:
        raise Refused(403, "unauthorized")
    if app.age(site.now) < site.seconds("app_lag_seconds"):
        raise Refused(site.count("app_lag_status"), "app not found")
    return app


def inside(site: Site, kind: str, app: Thing) -> list[Thing]:
    """What an app has, in the order of creation."""
    return [thing for thing in site.things(kind, app.account) if thing.hidden["app"] == app.id]


def gone_from(site: Site, kind: str, app: Thing) -> list[Thing]:
    """What it had not long ago, and still tells of."""
    gone = site.world.gone[site.type.name, kind]
    return [thing for thing in gone.values() if thing.hidden["app"] == app.id and remembers(site, thing)]


def remembers(site: Site, thing: Thing) -> bool:
    return seconds_gone(site, thing) < site.seconds("forget_seconds")


def seconds_gone(site: Site, thing: Thing) -> float:
    return (site.now - thing.deleted_at).total_seconds() if thing.deleted_at else 0.0


def inner(body: JsonValue, name: str) -> Json:
    """A part of a body, empty where there is none."""
    value = body.get(name) if isinstance(body, Mapping) else None
    return dict(value) if isinstance(value, Mapping) else {}


def items(body: JsonValue, name: str) -> list[Json]:
    value = body.get(name) if isinstance(body, Mapping) else None
    return [dict(item) for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def number(body: JsonValue, name: str, otherwise: int) -> int:
    """A whole number of a body. Raises Refused for anything else there."""
    value = body.get(name) if isinstance(body, Mapping) else None
    if value is None:
        return otherwise
    if isinstance(value, bool) or not isinstance(value, int):
        raise Refused(400, f"invalid_argument: {name} must be a whole number")
    return value


def text(body: JsonValue, name: str) -> str:
    value = body.get(name) if isinstance(body, Mapping) else None
    if value is not None and not isinstance(value, str):
        raise Refused(400, f"invalid_argument: {name} must be a string")
    return value or ""


def is_true(request: Request, *names: str) -> bool:
    return any(request.one(name) == "true" for name in names)
