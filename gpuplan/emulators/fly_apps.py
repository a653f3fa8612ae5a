"""Fly.io around machines: tokens, apps, their addresses and secrets, and the listings of a whole organisation."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

from gpuplan.core.encoding import encode_time
from gpuplan.core.values import JsonValue
from gpuplan.emulators.fly_answers import (
    ADDRESS,
    APP,
    NODE,
    SECRET,
    VOLUME,
    Refused,
    app_of,
    inner,
    inside,
    is_true,
    text,
    ulid,
)
from gpuplan.emulators.fly_catalog import MONTH_HOURS
from gpuplan.emulators.http import Json, Request, Response, Routes
from gpuplan.emulators.site import Site
from gpuplan.emulators.world import Thing

APPS = Routes()
Ids = Mapping[str, str]
ADDRESS_PRICES = {"v4": Decimal(2) / MONTH_HOURS}
"""Of one that is the app's own; the others cost nothing."""


@APPS.on("GET", "/v1/tokens/current")
def token(site: Site, request: Request, ids: Ids) -> Response:
    tokens: list[JsonValue] = [
        {
            "token_id": digest(request.account),
            "org_slug": slug,
            "organization": "Personal" if slug == "personal" else slug,
            "apps": [],
            **({"user": f"user-{digest(request.account)[8:16]}"} if site.knob("tokens_name_users") is True else {}),
        }
        for slug in slugs(site)
    ]
    return Response(200, {"tokens": tokens})


@APPS.on("GET", "/v1/apps")
def list_apps(site: Site, request: Request, ids: Ids) -> Response:
    slug = request.one("org_slug")
    if not slug:
        raise Refused(400, "invalid_argument: org_slug is required")
    found = [app for app in site.listed(APP, request.account) if app.hidden["org_slug"] == slug]
    return Response(200, {"total_apps": len(found), "apps": [show_app(site, app) for app in found]})


@APPS.on("POST", "/v1/apps")
def create_app(site: Site, request: Request, ids: Ids) -> Response:
    """Older clients call the name `app_name`."""
    body = request.json()
    name, slug = text(body, "name") or text(body, "app_name"), text(body, "org_slug")
    if slug not in slugs(site):
        raise Refused(404, "organization not found")
    if not name or name != name.lower() or len(name) > 63:
        raise Refused(422, "Validation failed: Name may only contain lower-case letters, numbers and dashes")
    if name in site.world.living[site.type.name, APP]:
        raise Refused(422, "Validation failed: Name has already been taken", "name_taken")
    hidden: Json = {"org_slug": slug, "network": text(body, "network") or "default", "id": ulid(site)}
    app = site.add(APP, name, request.account, {}, name=name, hidden=hidden)
    created = int(site.now.timestamp() * 1000)
    return Response(201, {"id": app.hidden["id"], "created_at": created})


@APPS.on("GET", "/v1/apps/{app}")
def get_app(site: Site, request: Request, ids: Ids) -> Response:
    return Response(200, show_app(site, app_of(site, request, ids)))


@APPS.on("DELETE", "/v1/apps/{app}")
def delete_app(site: Site, request: Request, ids: Ids) -> Response:
    """With all that is in it; machines are in the way, unless it is forced."""
    app = app_of(site, request, ids)
    if inside(site, NODE, app) and not is_true(request, "force"):
        raise Refused(412, "failed_precondition: app still has machines")
    for kind in (NODE, VOLUME, ADDRESS, SECRET):
        for thing in inside(site, kind, app):
            site.remove(thing)
    site.remove(app)
    return Response(202)


@APPS.on("GET", "/v1/apps/{app}/ip_assignments")
def list_addresses(site: Site, request: Request, ids: Ids) -> Response:
    app = app_of(site, request, ids)
    return Response(200, {"ips": [address.body for address in inside(site, ADDRESS, app)]})


@APPS.on("POST", "/v1/apps/{app}/ip_assignments")
def assign_address(site: Site, request: Request, ids: Ids) -> Response:
    body = request.json()
    return Response(200, assign(site, app_of(site, request, ids), text(body, "type"), text(body, "region")).body)


@APPS.on("DELETE", "/v1/apps/{app}/ip_assignments/{ip}")
def release_address(site: Site, request: Request, ids: Ids) -> Response:
    release(site, app_of(site, request, ids), ids["ip"])
    return Response(204)


def assign(site: Site, app: Thing, type: str, region: str = "") -> Thing:
    """One more address for an app."""
    fresh, shared = site.world.fresh_address(), type == "shared_v4"
    if type not in ("v4", "v6", "private_v6", "shared_v4"):
        raise Refused(400, f"invalid_argument: unknown type {type}")
    if not inside(site, ADDRESS, app) or not shared:
        # A documentation prefix: nobody has such an address.
        ip = fresh if "4" in type else f"2001:db8:{site.digits(4)}:{site.digits(4)}::1"
        where = region or "global"
        shown: Json = {"ip": ip, "region": where, "shared": shared, "created_at": encode_time(site.now)}
        hidden: Json = {"app": app.id, "type": type}
        price = ADDRESS_PRICES.get(type)
        return site.add(ADDRESS, ip, app.account, shown, name=ip, price=price, hidden=hidden)
    return inside(site, ADDRESS, app)[0]


def release(site: Site, app: Thing, ip: str) -> None:
    found = next((address for address in inside(site, ADDRESS, app) if address.id == ip), None)
    if found is None:
        raise Refused(404, "ip address not found")
    site.remove(found)


@APPS.on("GET", "/v1/apps/{app}/secrets")
def list_secrets(site: Site, request: Request, ids: Ids) -> Response:
    app = app_of(site, request, ids)
    return Response(200, {"secrets": [secret.body for secret in inside(site, SECRET, app)]})


@APPS.on("POST", "/v1/apps/{app}/secrets")
def set_secrets(site: Site, request: Request, ids: Ids) -> Response:
    app, values = app_of(site, request, ids), inner(request.json(), "values")
    for name, value in values.items():
        set_secret(site, app, name, str(value))
    version = len(values)
    shown: list[JsonValue] = [secret.body for secret in inside(site, SECRET, app)]
    return Response(200, {"secrets": shown, "version": version, "Version": version})


@APPS.on("POST", "/v1/apps/{app}/secrets/{name}")
def set_one_secret(site: Site, request: Request, ids: Ids) -> Response:
    secret = set_secret(site, app_of(site, request, ids), ids["name"], text(request.json(), "value"))
    return Response(201, {**secret.body, "version": 1, "Version": 1})


@APPS.on("GET", "/v1/apps/{app}/secrets/{name}")
def get_secret(site: Site, request: Request, ids: Ids) -> Response:
    return Response(200, _secret(site, app_of(site, request, ids), ids["name"]).body)


@APPS.on("DELETE", "/v1/apps/{app}/secrets/{name}")
def delete_secret(site: Site, request: Request, ids: Ids) -> Response:
    site.remove(_secret(site, app_of(site, request, ids), ids["name"]))
    return Response(200, {"version": 1, "Version": 1})


def set_secret(site: Site, app: Thing, name: str, value: str) -> Thing:
    """Values are never shown again; machines get them when they start the next time."""
    found = next((secret for secret in inside(site, SECRET, app) if secret.name == name), None)
    if found is None:
        hidden: Json = {"app": app.id}
        found = site.add(SECRET, ulid(site), app.account, {"name": name}, name=name, hidden=hidden)
        found.body["created_at"] = encode_time(site.now)
    found.body |= {"digest": digest(value)[:16], "updated_at": encode_time(site.now)}
    return found


def _secret(site: Site, app: Thing, name: str) -> Thing:
    found = next((secret for secret in inside(site, SECRET, app) if secret.name == name), None)
    if found is None:
        raise Refused(404, "secret not found")
    return found


def show_app(site: Site, app: Thing) -> Json:
    machines = len(inside(site, NODE, app))
    return {
        "id": app.hidden["id"],
        "name": app.id,
        "status": "deployed" if machines else "pending",
        "machine_count": machines,
        "volume_count": len(inside(site, VOLUME, app)),
        "network": app.hidden["network"],
        "internal_numeric_id": int(digest(app.id)[:8], 16),
        "organization": {"name": app.hidden["org_slug"], "slug": app.hidden["org_slug"]},
    }


def org_page(
    site: Site, request: Request, slug: str, things: Sequence[Thing], show: Callable[[Thing], Json]
) -> tuple[list[JsonValue], str]:
    """One page of what all apps of an organisation have, and the cursor of the next."""
    apps = {app.id for app in site.things(APP, request.account) if app.hidden["org_slug"] == slug}
    found = [thing for thing in things if thing.hidden["app"] in apps]
    limit, cursor = request.one("limit") or "1000", request.one("cursor")
    if not limit.isdigit() or not 0 < int(limit) <= 1000:
        raise Refused(400, "invalid_argument: limit must be from 1 to 1000")
    start = next((n + 1 for n, thing in enumerate(found) if thing.id == cursor), 0)
    shown = found[start : start + int(limit)]
    more = shown[-1].id if shown and start + int(limit) < len(found) else ""
    return [{**show(thing), "app_name": thing.hidden["app"]} for thing in shown], more


def slugs(site: Site) -> list[str]:
    return str(site.knob("organizations")).split(",")


def digest(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()
