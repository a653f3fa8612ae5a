"""The other API of Fly.io, at `api.fly.io`: logs, and the few GraphQL questions that clients ask besides.

No GraphQL is parsed: what a question is about is told by the field it begins with.
"""

import re
from collections.abc import Callable, Mapping

from gpuplan.core.encoding import encode_time
from gpuplan.core.values import JsonValue
from gpuplan.emulators.fly_answers import ADDRESS, SECRET, Refused, app_of, inner, inside, items, text, ulid
from gpuplan.emulators.fly_apps import assign, digest, release, set_secret
from gpuplan.emulators.fly_catalog import REGIONS
from gpuplan.emulators.fly_machines import events, machine_of
from gpuplan.emulators.http import Json, Request, Response, Routes
from gpuplan.emulators.site import Site
from gpuplan.emulators.world import Thing

PLATFORM = Routes()
Ids = Mapping[str, str]
LINES_PER_CALL = 100
_FIELD = re.compile(r"\{\s*(\w+)")


@PLATFORM.on("GET", "/@api/api/v1/apps/{app}/logs")
def logs(site: Site, request: Request, ids: Ids) -> Response:
    """The latest lines, or those after a token; of one machine, where it is named."""
    app, since = app_of(site, request, ids), int(request.one("next_token") or 0)
    machines = inside(site, "node", app)
    if id := request.one("instance"):
        machines = [machine_of(site, app, id, is_living=False)]
    found = sorted(line for machine in machines for line in _lines(site, machine))
    lines = [line for line in found if line[0] > since][-LINES_PER_CALL:]
    rows: list[JsonValue] = [
        {
            "id": str(at),
            "attributes": {"timestamp": at, "message": message, "level": "info", "instance": id, "region": region},
        }
        for at, message, id, region in lines
    ]
    return Response(200, {"data": rows, "meta": {"next_token": str(lines[-1][0] if lines else since)}})


@PLATFORM.on("POST", "/@api/graphql")
def graphql(site: Site, request: Request, ids: Ids) -> Response:
    """Errors come with status 200, too."""
    body = request.json()
    asked = _FIELD.search(text(body, "query"))
    answer = QUESTIONS.get(asked[1]) if asked else None
    variables = inner(body, "variables")
    try:
        if asked is None or answer is None:
            raise Refused(400, "no such field")
        return Response(200, {"data": {asked[1]: answer(site, request, inner(variables, "input") or variables)}})
    except Refused as refusal:
        return Response(200, {"data": None, "errors": [{"message": text(refusal.response.body, "error")}]})


def _app(site: Site, request: Request, asked: Json) -> JsonValue:
    app = _app_named(site, request, asked, "name")
    nodes: list[JsonValue] = [_address(address) for address in inside(site, ADDRESS, app)]
    slug = app.hidden["org_slug"]
    return {
        "name": app.id,
        "status": "deployed",
        "organization": {"name": slug, "slug": slug},
        "ipAddresses": {"nodes": nodes},
    }


def _organization(site: Site, request: Request, asked: Json) -> JsonValue:
    slug = asked["slug"]
    return {"id": digest(request.account)[:16], "slug": slug, "name": slug, "type": "PERSONAL", "viewerRole": "admin"}


def _platform(site: Site, request: Request, asked: Json) -> JsonValue:
    regions: list[JsonValue] = [
        {"name": name, "code": code, "latitude": latitude, "longitude": longitude, "gatewayAvailable": True}
        for code, (name, _, latitude, longitude) in REGIONS.items()
    ]
    return {"requestRegion": site.knob("nearest"), "regions": regions}


def _allocate(site: Site, request: Request, asked: Json) -> JsonValue:
    app = _app_named(site, request, asked, "appId")
    address = assign(site, app, text(asked, "type"), text(asked, "region"))
    return {"ipAddress": _address(address)}


def _release(site: Site, request: Request, asked: Json) -> JsonValue:
    app = _app_named(site, request, asked, "appId")
    release(site, app, text(asked, "ip"))
    return {"app": {"name": app.id}}


def _set_secrets(site: Site, request: Request, asked: Json) -> JsonValue:
    app = _app_named(site, request, asked, "appId")
    for secret in items(asked, "secrets"):
        set_secret(site, app, text(secret, "key"), text(secret, "value"))
    return {"release": _version(site)}


def _unset_secrets(site: Site, request: Request, asked: Json) -> JsonValue:
    app, keys = _app_named(site, request, asked, "appId"), asked.get("keys")
    for secret in inside(site, SECRET, app):
        if isinstance(keys, list) and secret.name in keys:
            site.remove(secret)
    return {"release": _version(site)}


QUESTIONS: Mapping[str, Callable[[Site, Request, Json], JsonValue]] = {
    "app": _app,
    "organization": _organization,
    "platform": _platform,
    "allocateIpAddress": _allocate,
    "releaseIpAddress": _release,
    "setSecrets": _set_secrets,
    "unsetSecrets": _unset_secrets,
}


def _app_named(site: Site, request: Request, asked: Json, name: str) -> Thing:
    return app_of(site, request, {"app": text(asked, name)})


def _address(address: Thing) -> Json:
    shown = address.body
    type, at = address.hidden["type"], shown["created_at"]
    return {"id": address.id, "address": address.id, "type": type, "region": shown["region"], "createdAt": at}


def _version(site: Site) -> Json:
    return {"id": ulid(site), "version": 1, "reason": "change_secrets", "createdAt": encode_time(site.now)}


def _lines(site: Site, machine: Thing) -> list[tuple[int, str, str, str]]:
    """Time in nanoseconds, text, machine, region; some lines with each start of the machine."""
    lines: list[tuple[int, str, str, str]] = []
    for event in items({"events": events(site, machine)}, "events"):
        at = int(str(event["timestamp"])) * 1_000_000
        said = [f"line {number}" for number in range(1, 21)] if event["status"] == "started" else []
        for number, message in enumerate([f"Machine {event['type']}: {event['status']}", *said]):
            lines.append((at + number, message, machine.id, str(machine.body["region"])))
    return lines
