"""Volumes of the emulated Fly.io, and their snapshots."""

from collections.abc import Mapping
from decimal import Decimal

from gpuplan.core.encoding import encode_time
from gpuplan.emulators.fly_answers import (
    NODE,
    VOLUME,
    Refused,
    app_of,
    gone_from,
    inside,
    number,
    seconds_gone,
    text,
)
from gpuplan.emulators.fly_apps import org_page
from gpuplan.emulators.fly_catalog import GB_MONTH, MONTH_HOURS, region_list
from gpuplan.emulators.http import Json, Request, Response, Routes
from gpuplan.emulators.site import Site
from gpuplan.emulators.world import Thing

VOLUMES = Routes()
Ids = Mapping[str, str]
_LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz"


@VOLUMES.on("GET", "/v1/apps/{app}/volumes")
def list_all(site: Site, request: Request, ids: Ids) -> Response:
    """Names may come twice, and what is on its way out is still shown."""
    app = app_of(site, request, ids)
    listed = {thing.id for thing in site.listed(VOLUME, app.account)}
    leaving = [v for v in gone_from(site, VOLUME, app) if seconds_gone(site, v) < site.seconds("destroy_seconds")]
    living = [volume for volume in inside(site, VOLUME, app) if volume.id in listed]
    return Response(200, [show(site, volume) for volume in [*living, *leaving]])


@VOLUMES.on("POST", "/v1/apps/{app}/volumes")
def create(site: Site, request: Request, ids: Ids) -> Response:
    app, body = app_of(site, request, ids), request.json()
    name, size = text(body, "name"), number(body, "size_gb", 3)
    if not name or len(name) > 30 or not name.replace("_", "").isalnum() or name != name.lower():
        raise Refused(422, "invalid volume name: at most 30 lower-case letters, numbers and underscores")
    if not 1 <= size <= 500:
        raise Refused(422, "invalid size_gb: from 1 to 500")
    region = region_list(text(body, "region"), site)[0]
    if not site.take("volume", region):
        raise Refused(400, "no capacity")
    shown: Json = {
        "name": name,
        "size_gb": size,
        "region": region,
        "zone": site.digits(4),
        "encrypted": body.get("encrypted", True),
        "fstype": text(body, "fstype") or "ext4",
        "created_at": encode_time(site.now),
        "snapshot_retention": number(body, "snapshot_retention", 5),
        "auto_backup_enabled": body.get("auto_backup_enabled", True),
        "blocks": 0,
        "host_status": "ok",
    }
    hidden: Json = {"app": app.id, "snapshots": [], "from": text(body, "snapshot_id")}
    id = f"vol_{site.digits(16, _LETTERS)}"
    volume = site.add(VOLUME, id, app.account, shown, name=name, price=_hourly(size), hidden=hidden)
    return Response(200, show(site, volume))


@VOLUMES.on("GET", "/v1/apps/{app}/volumes/{id}")
def get(site: Site, request: Request, ids: Ids) -> Response:
    app = app_of(site, request, ids)
    found = [volume for volume in gone_from(site, VOLUME, app) if volume.id == ids["id"]]
    return Response(200, show(site, found[0] if found else volume_of(site, app, ids["id"])))


@VOLUMES.on("PUT", "/v1/apps/{app}/volumes/{id}")
def update(site: Site, request: Request, ids: Ids) -> Response:
    volume, body = volume_of(site, app_of(site, request, ids), ids["id"]), request.json()
    volume.body |= {name: body[name] for name in ("snapshot_retention", "auto_backup_enabled") if name in body}
    return Response(200, show(site, volume))


@VOLUMES.on("PUT", "/v1/apps/{app}/volumes/{id}/extend")
def extend(site: Site, request: Request, ids: Ids) -> Response:
    volume = volume_of(site, app_of(site, request, ids), ids["id"])
    present = number(volume.body, "size_gb", 0)
    size = number(request.json(), "size_gb", 0)
    if size < present:
        raise Refused(422, f"invalid size_gb: volumes only grow, and this one has {present}")
    volume.body["size_gb"] = size
    volume.prices.append((site.now, _hourly(size)))
    return Response(200, {"volume": show(site, volume), "needs_restart": user_of(site, volume) is not None})


@VOLUMES.on("DELETE", "/v1/apps/{app}/volumes/{id}")
def delete(site: Site, request: Request, ids: Ids) -> Response:
    volume = volume_of(site, app_of(site, request, ids), ids["id"])
    user = user_of(site, volume)
    if user is not None:
        raise Refused(412, f"failed_precondition: volume is currently bound to machine: {user.id}")
    site.put_back("volume", str(volume.body["region"]))
    site.remove(volume)
    return Response(200, show(site, volume))


@VOLUMES.on("GET", "/v1/apps/{app}/volumes/{id}/snapshots")
def snapshots(site: Site, request: Request, ids: Ids) -> Response:
    return Response(200, volume_of(site, app_of(site, request, ids), ids["id"]).hidden["snapshots"])


@VOLUMES.on("POST", "/v1/apps/{app}/volumes/{id}/snapshots")
def snapshot(site: Site, request: Request, ids: Ids) -> Response:
    volume = volume_of(site, app_of(site, request, ids), ids["id"])
    taken = volume.hidden["snapshots"]
    assert isinstance(taken, list)
    taken.append({"id": f"vs_{site.digits(16, _LETTERS)}", "status": "created", "created_at": encode_time(site.now)})
    return Response(200)


@VOLUMES.on("GET", "/v1/orgs/{org}/volumes")
def list_org(site: Site, request: Request, ids: Ids) -> Response:
    found = site.listed(VOLUME, request.account)
    page, more = org_page(site, request, ids["org"], found, lambda volume: show(site, volume))
    answer: Json = {"volumes": page, "last_updated_at": encode_time(site.now)}
    return Response(200, {**answer, "next_cursor": more} if more else answer)


def volume_of(site: Site, app: Thing, id: str) -> Thing:
    """Raises Refused for one that is not in the app."""
    volume = site.thing(VOLUME, id, app.account)
    if volume is None or volume.hidden["app"] != app.id:
        raise Refused(404, "volume not found")
    return volume


def user_of(site: Site, volume: Thing) -> Thing | None:
    """The machine that mounts it, one that is being destroyed too."""
    id = str(volume.hidden.get("machine", ""))
    leaving = site.gone(NODE, id, volume.account, site.seconds("destroy_seconds"))
    return site.thing(NODE, id, volume.account) or leaving


def status(site: Site, volume: Thing) -> str:
    if volume.deleted_at is None:
        return str(volume.body.get("state", "created"))
    return "destroying" if seconds_gone(site, volume) < site.seconds("destroy_seconds") else "destroyed"


def show(site: Site, volume: Thing) -> Json:
    user = user_of(site, volume)
    attached: Json = {"attached_machine_id": user.id} if user is not None else {}
    return {"id": volume.id, **attached, **volume.body, "state": status(site, volume)}


def _hourly(size_gb: int) -> Decimal:
    return GB_MONTH * size_gb / MONTH_HOURS
