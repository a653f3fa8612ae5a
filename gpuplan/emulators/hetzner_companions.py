"""Hetzner Cloud besides servers: keys, volumes, placement groups, and what is alike for every collection."""

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping
from decimal import Decimal

from gpuplan.core.values import JsonValue
from gpuplan.emulators import hetzner_catalog as catalog
from gpuplan.emulators.hetzner_actions import (
    GROUP,
    KEY,
    NETWORK,
    NODE,
    RESOURCES,
    VOLUME,
    at,
    begin,
    is_locked,
    is_past,
)
from gpuplan.emulators.hetzner_answers import (
    Refused,
    chosen,
    error,
    flag,
    items,
    labels_in,
    missing,
    number,
    objects,
    page,
    taken,
    text,
    unfit,
)
from gpuplan.emulators.http import Json, Request, Response, Routes
from gpuplan.emulators.site import Site
from gpuplan.emulators.world import Thing

MOST_IN_GROUP = 10
COMPANIONS = Routes()
WORDS = {**RESOURCES, KEY: "ssh_key", GROUP: "placement_group"}

Ids = Mapping[str, str]
Show = Callable[[Site, Thing], Json]


def add(
    site: Site,
    account: str,
    kind: str,
    name: str,
    body: Json,
    *,
    price: Decimal | None = None,
    hidden: Json | None = None,
) -> Thing:
    """A new object, if nothing of its kind in the project has that name. Raises Refused."""
    if site.named(kind, name, account):
        raise taken("name", "name")
    return site.add(kind, fresh_id(site), account, {"name": name, **body}, name=name, price=price, hidden=hidden)


def fresh_id(site: Site) -> str:
    """Ids are whole numbers."""
    return str(4_700_001 + len(site.world.ledger))


def own(site: Site, kind: str, id: str, account: str) -> Thing:
    """Raises Refused."""
    found = site.thing(kind, id, account)
    if found is None:
        raise missing(WORDS[kind], id)
    return found


def named(site: Site, kind: str, reference: JsonValue, account: str) -> Thing:
    """By id or name. Raises Refused."""
    found = site.thing(kind, str(reference), account)
    if found is None:
        found = site.named(kind, str(reference), account)
    if found is None:
        raise missing(WORDS[kind], str(reference))
    return found


def check_free(site: Site, thing: Thing) -> None:
    if is_locked(site, thing):
        raise Refused(423, "locked", f"{WORDS[thing.kind]} is locked")


def check_unprotected(thing: Thing) -> None:
    protection = thing.body.get("protection")
    if isinstance(protection, Mapping) and protection.get("delete"):
        raise Refused(423, "protected", f"{WORDS[thing.kind]} is delete protected")


@COMPANIONS.on("POST", "/v1/ssh_keys")
def create_key(site: Site, request: Request, ids: Ids) -> Response:
    body = request.json()
    key = text(body, "public_key", required=True).strip()
    fingerprint = _fingerprint(key)
    if any(other.body["fingerprint"] == fingerprint for other in site.things(KEY, request.account)):
        details: JsonValue = {"fields": [{"name": "public_key"}]}
        raise Refused(409, "uniqueness_error", "SSH key with the same fingerprint already exists", details)
    fields: Json = {"fingerprint": fingerprint, "public_key": key, "labels": labels_in(body)}
    thing = add(site, request.account, KEY, text(body, "name", required=True), fields)
    return Response(201, {"ssh_key": show_plainly(site, thing)})


@COMPANIONS.on("POST", "/v1/volumes")
def create_volume(site: Site, request: Request, ids: Ids) -> Response:
    body = request.json()
    size = number(body, "size")
    if not 10 <= size <= 10240:
        raise unfit("size", "must be between 10 and 10240")
    server = named(site, NODE, body["server"], request.account) if body.get("server") else None
    if (server is None) == (not body.get("location")):
        raise unfit("location", "either location or server is required")
    place = catalog.location_of(str(server.hidden["location"]) if server else text(body, "location"))
    if place is None:
        raise missing("location", text(body, "location"))
    if not site.take("volume", place.name):
        raise Refused(422, "no_space_left_in_location", "no volume space left in the given location")
    kind = text(body, "format") or None
    if kind not in (None, "ext4", "xfs"):
        raise unfit("format", "must be one of ext4, xfs")
    fields: Json = {"size": size, "format": kind, "labels": labels_in(body), "protection": {"delete": False}}
    price = catalog.VOLUME_GB_MONTH * size / 730
    hidden: Json = {"location": place.name, "server": server.id if server else "", "sizes": [[at(site, 0), size]]}
    volume = add(site, request.account, VOLUME, text(body, "name", required=True), fields, price=price, hidden=hidden)
    action = begin(site, volume, "create_volume", site.seconds("volume_seconds"))
    following = [begin(site, volume, "attach_volume", site.seconds("volume_seconds"))] if server else []
    return Response(201, {"volume": show_volume(site, volume), "action": action, "next_actions": following})


@COMPANIONS.on("POST", "/v1/volumes/{id}/actions/{action}")
def act_on_volume(site: Site, request: Request, ids: Ids) -> Response:
    volume, body = own(site, VOLUME, ids["id"], request.account), request.json()
    check_free(site, volume)
    seconds = site.seconds("volume_seconds")
    match ids["action"]:
        case "resize":
            if not _size(site, volume) < number(body, "size") <= 10240:
                raise unfit("size", "must be larger than the current size")
            volume.hidden["sizes"] = [*_sizes(volume), [at(site, seconds), number(body, "size")]]
            volume.prices.append((site.now, catalog.VOLUME_GB_MONTH * number(body, "size") / 730))
        case "attach":
            server = named(site, NODE, body.get("server"), request.account)
            check_attachable(volume, str(server.hidden["location"]))
            volume.hidden["server"] = server.id
        case "detach":
            volume.hidden["server"] = ""
        case "change_protection":
            volume.body["protection"] = {"delete": flag(body, "delete", False)}
        case _:
            return error(404, "not found")
    command = {"attach": "attach_volume", "detach": "detach_volume", "resize": "resize_volume"}
    return Response(201, {"action": begin(site, volume, command.get(ids["action"], ids["action"]), seconds)})


def check_attachable(volume: Thing, location: str) -> None:
    """Raises Refused for a volume that a server in that location cannot have."""
    if volume.hidden["server"]:
        raise Refused(422, "volume_already_attached", "volume is already attached to a server")
    if volume.hidden["location"] != location:
        raise unfit("server", "server and volume are in different locations")


@COMPANIONS.on("POST", "/v1/placement_groups")
def create_group(site: Site, request: Request, ids: Ids) -> Response:
    body = request.json()
    if text(body, "type") != "spread":
        raise unfit("type", "must be spread")
    fields: Json = {"type": "spread", "labels": labels_in(body)}
    group = add(site, request.account, GROUP, text(body, "name", required=True), fields)
    return Response(201, {"placement_group": show_group(site, group), "action": None})


def check_room(site: Site, group: Thing) -> None:
    """Raises Refused when a placement group takes no more servers."""
    if len(items(show_group(site, group), "servers")) >= MOST_IN_GROUP:
        raise Refused(422, "placement_error", "error during placement")


def show_plainly(site: Site, thing: Thing) -> Json:
    created = thing.created_at.isoformat(timespec="seconds").replace("+00:00", "Z")
    return {"id": int(thing.id), "created": created, **thing.body}


def show_volume(site: Site, volume: Thing) -> Json:
    place, server = catalog.location_of(str(volume.hidden["location"])), str(volume.hidden["server"])
    assert place is not None
    return {
        "status": "available" if volume.age(site.now) >= site.seconds("volume_seconds") else "creating",
        "server": int(server) if server else None,
        "location": catalog.show_location(place),
        "linux_device": f"/dev/disk/by-id/scsi-0HC_Volume_{volume.id}",
        **show_plainly(site, volume),
        "size": _size(site, volume),
    }


def show_group(site: Site, group: Thing) -> Json:
    members: list[JsonValue] = [
        int(server.id)
        for server in site.things(NODE, group.account)
        if server.hidden.get("placement_group") == group.id
    ]
    return {"servers": members, **show_plainly(site, group)}


def offer_collection(routes: Routes, kind: str, path: str, one: str, show: Show, *, deletable: bool = True) -> None:
    """The calls that are alike for every companion: list, get, change of name and labels, delete."""
    many = path.removeprefix("/v1/")

    @routes.on("GET", path)
    def list_all(site: Site, request: Request, ids: Ids) -> Response:
        things = chosen(request, site.listed(kind, request.account))
        prints = request.query.get("fingerprint", ())
        found = [thing for thing in things if not prints or thing.body.get("fingerprint") in prints]
        return page(site, request, many, found, lambda thing: show(site, thing))

    @routes.on("GET", f"{path}/{{id}}")
    def get(site: Site, request: Request, ids: Ids) -> Response:
        return Response(200, {one: show(site, own(site, kind, ids["id"], request.account))})

    @routes.on("PUT", f"{path}/{{id}}")
    def update(site: Site, request: Request, ids: Ids) -> Response:
        thing = own(site, kind, ids["id"], request.account)
        rename(site, thing, request.json())
        return Response(200, {one: show(site, thing)})

    if deletable:

        @routes.on("DELETE", f"{path}/{{id}}")
        def delete(site: Site, request: Request, ids: Ids) -> Response:
            thing = own(site, kind, ids["id"], request.account)
            check_unprotected(thing)
            if thing.hidden.get("server"):
                raise Refused(422, "resource_in_use", "volume is still attached to a server")
            check_free(site, thing)
            for server in site.things(NODE, request.account) if kind == NETWORK else ():
                left = [each for each in objects(server.hidden, "networks") if each["network"] != thing.id]
                server.hidden["networks"] = list[JsonValue](left)
            site.remove(thing)
            return Response(204)


def rename(site: Site, thing: Thing, body: Json) -> None:
    """Set name and labels; labels replace all that there were."""
    name = text(body, "name")
    if name and name != thing.name:
        if site.named(thing.kind, name, thing.account):
            raise taken("name", "name")
        thing.body["name"] = name
        site.rename(thing, name)
    if body.get("labels") is not None:
        thing.body["labels"] = labels_in(body)


offer_collection(COMPANIONS, KEY, "/v1/ssh_keys", "ssh_key", show_plainly)
offer_collection(COMPANIONS, VOLUME, "/v1/volumes", "volume", show_volume)
offer_collection(COMPANIONS, GROUP, "/v1/placement_groups", "placement_group", show_group)


def _fingerprint(key: str) -> str:
    words = key.split()
    try:
        raw = base64.b64decode(words[1], validate=True) if len(words) > 1 else b""
    except binascii.Error:
        raw = b""
    if not raw:
        raise unfit("public_key", "is not an SSH public key")
    digest = hashlib.md5(raw, usedforsecurity=False).hexdigest()
    return ":".join(digest[at : at + 2] for at in range(0, 32, 2))


def _sizes(volume: Thing) -> list[list[JsonValue]]:
    return [list(entry) for entry in items(volume.hidden, "sizes") if isinstance(entry, list)]


def _size(site: Site, volume: Thing) -> int:
    reached = [size for since, size in _sizes(volume) if is_past(site, since)]
    return int(str(reached[-1]))
