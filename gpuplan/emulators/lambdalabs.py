"""Lambda Cloud API 1.10: instances. https://docs.lambda.ai/api/cloud

Companion resources are in `lambdalabs_companions`, the price list in `lambdalabs_catalog`.
"""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from math import ceil

from gpuplan.core.capabilities import RateLimit
from gpuplan.core.encoding import decode_time, encode_time
from gpuplan.core.values import JsonValue
from gpuplan.emulators import lambdalabs_catalog as catalog
from gpuplan.emulators.http import Json, Request, Response, Routes
from gpuplan.emulators.lambdalabs_answers import (
    Refused,
    error,
    found,
    key_of,
    missing,
    objects,
    text,
    texts,
    wrong,
)
from gpuplan.emulators.lambdalabs_companions import COMPANIONS, filesystem_mounts, key_text, rulesets_of
from gpuplan.emulators.site import EmulatorType, Site
from gpuplan.emulators.world import Login, Thing

NODE = "node"
KNOBS: Mapping[str, JsonValue] = {
    "boot_seconds": 280,
    "address_seconds": 60,
    "terminate_seconds": 30,
    "terminated_seconds": 60,
    "visible_after_seconds": 0,
    "launch_limited": True,
    "launches_per_minute": 5,
    "instance_limit": 20000,
    "catalogue_lies": False,
    "shows_tags": True,
    "has_private_addresses": True,
    "account_active": True,
    "billing_address_valid": True,
    "twice_terminated_code": "global/unknown",
    "keys_are_unique": False,
}
"""`visible_after_seconds` is how long a get answers 404 after the launch. What a second terminate of one instance
answers is not documented; clients have met `global/unknown`."""
NAME_LENGTH, USER_DATA_LENGTH = 64, 1_000_000
HOSTNAME = r"^[a-z0-9][0-9a-z-]{0,62}$"
TAG_KEY, TAG_KEY_LENGTH, TAG_VALUE_LENGTH = r"^[a-z][a-z0-9-:]+$", 55, 128
ACTIONS = ("migrate", "rebuild", "restart", "cold_reboot", "terminate")
PUBLIC_KEY = re.compile(r"(?:ssh-(?:ed25519|rsa)|ecdsa-sha2-\S+) [A-Za-z0-9+/=]+")
ROUTES = Routes()

Ids = Mapping[str, str]


@ROUTES.on("POST", "/api/v1/instance-operations/launch")
def launch(site: Site, request: Request, ids: Ids) -> Response:
    _check_pace(site, request.account)
    body = request.json()
    region = text(body, "region_name", required=True)
    type = catalog.TYPES.get(text(body, "instance_type_name", required=True))
    if type is None:
        raise missing("Instance type")
    if region not in catalog.REGIONS:
        raise missing("Region")
    names = texts(body, "ssh_key_names")
    if len(names) != 1:
        raise wrong("Exactly one SSH key must be specified")
    keys = [key_text(site, request.account, names[0])]
    name = text(body, "name", limit=NAME_LENGTH)
    hostname = text(body, "hostname", pattern=HOSTNAME)
    user_data = text(body, "user_data", limit=USER_DATA_LENGTH)
    tags = _tags(body)
    mounts = filesystem_mounts(site, request.account, body, region)
    rulesets = rulesets_of(site, request.account, body, region)
    _check_image(body, type, region)
    _check_account(site, request.account, body)
    if region not in type.regions or not site.take(type.shelf, region):
        code = "instance-operations/launch/insufficient-capacity"
        raise Refused(400, code, "Not enough capacity to fulfill launch request.")
    address = site.world.fresh_address()
    hidden: Json = {
        "type": type.name,
        "region": region,
        "address": address,
        "active_at": encode_time(site.now + timedelta(seconds=site.seconds("boot_seconds"))),
        "tags": tags,
        "mounts": [dict(mount) for mount in mounts],
        "rulesets": list[JsonValue](rulesets),
        "user_data": user_data,
        "jupyter": site.digits(32),
    }
    shown: Json = {"ssh_key_names": list[JsonValue](names), "hostname": hostname or address.replace(".", "-")}
    if name:
        shown["name"] = name
    keys += PUBLIC_KEY.findall(user_data)
    thing = site.add(
        NODE,
        site.uuid().replace("-", ""),
        request.account,
        shown,
        name=name,
        price=catalog.price(site, type, region),
        hidden=hidden,
        login=Login(address, 22, ("ubuntu",), tuple(keys)),
    )
    return found({"instance_ids": [thing.id]})


@ROUTES.on("GET", "/api/v1/instances")
def list_all(site: Site, request: Request, ids: Ids) -> Response:
    """Those that are being terminated are listed, those that are terminated are not."""
    gone = [thing for thing in site.world.gone[site.type.name, NODE].values() if thing.account == request.account]
    leaving = [thing for thing in gone if _since_deletion(site, thing) < site.seconds("terminate_seconds")]
    # A one-click cluster has members of its own; there is none here.
    things = [] if request.one("cluster_id") else [*site.listed(NODE, request.account), *leaving]
    return found([show(site, thing) for thing in things])


@ROUTES.on("GET", "/api/v1/instances/{id}")
def get(site: Site, request: Request, ids: Ids) -> Response:
    return found(show(site, _instance(site, request, ids["id"])))


@ROUTES.on("POST", "/api/v1/instances/{id}")
def rename(site: Site, request: Request, ids: Ids) -> Response:
    thing = _instance(site, request, ids["id"])
    body = request.json()
    if body.get("name") is not None:
        thing.body["name"] = name = text(body, "name", limit=NAME_LENGTH)
        site.rename(thing, name)
    return found(show(site, thing))


@ROUTES.on("POST", "/api/v1/instance-operations/terminate")
def terminate(site: Site, request: Request, ids: Ids) -> Response:
    things = _named(site, request)
    code = str(site.knob("twice_terminated_code"))
    if code and any(thing.deleted_at is not None for thing in things):
        raise Refused(500, code, "An unknown error occurred.")
    for thing in things:
        if thing.deleted_at is None:
            destroy(site, thing)
    return found({"terminated_instances": [show(site, thing) for thing in things]})


@ROUTES.on("POST", "/api/v1/instance-operations/restart")
def restart(site: Site, request: Request, ids: Ids) -> Response:
    things = _named(site, request)
    if any(status(site, thing) != "active" for thing in things):
        raise Refused(409, "global/conflict", "The request conflicts with the current state of the resource.")
    return found({"restarted_instances": [show(site, thing) for thing in things]})


def show(site: Site, thing: Thing) -> Json:
    """An instance as get and list show it. What it does not have yet is left out."""
    region, now = str(thing.hidden["region"]), status(site, thing)
    mounts = _mounts(thing)
    instance: Json = {
        "id": thing.id,
        "status": now,
        "file_system_names": [mount["name"] for mount in mounts],
        "region": catalog.show_region(region),
        "instance_type": catalog.show_type(site, catalog.TYPES[str(thing.hidden["type"])], region),
        "actions": _actions(now),
        "is_reserved": False,
    }
    if mounts:
        told = ("mount_point", "file_system_id")
        instance["file_system_mounts"] = [{name: mount[name] for name in told} for mount in mounts]
    tags = thing.hidden["tags"]
    if isinstance(tags, Mapping) and tags and site.knob("shows_tags") is True:
        instance["tags"] = [{"key": key, "value": value} for key, value in tags.items()]
    rulesets = thing.hidden["rulesets"]
    if isinstance(rulesets, list) and rulesets:
        instance["firewall_rulesets"] = [{"id": ruleset} for ruleset in rulesets]
    if thing.age(site.now) >= site.seconds("address_seconds"):
        address = str(thing.hidden["address"])
        instance["ip"] = address
        if site.knob("has_private_addresses") is True:
            instance["private_ip"] = address.replace("198.18.", "172.26.")
    if now == "active":
        token = str(thing.hidden["jupyter"])
        instance["jupyter_token"] = token
        instance["jupyter_url"] = f"https://jupyter-{thing.id}.lambdaspaces.com/?token={token}"
    # The status is the clock's, unless someone set it; that of an instance on its way out is beyond anyone's reach.
    return {**instance, **thing.body, "status": now}


def status(site: Site, thing: Thing) -> str:
    if thing.deleted_at is not None:
        is_leaving = _since_deletion(site, thing) < site.seconds("terminate_seconds")
        return str(thing.hidden.get("end") or ("terminating" if is_leaving else "terminated"))
    if "status" in thing.body:
        return str(thing.body["status"])
    return "active" if site.now >= decode_time(str(thing.hidden["active_at"])) else "booting"


def destroy(site: Site, thing: Thing) -> None:
    site.put_back(catalog.TYPES[str(thing.hidden["type"])].shelf, str(thing.hidden["region"]))
    site.remove(thing)


def preempt(site: Site, thing: Thing) -> None:
    thing.hidden["end"] = "preempted"
    destroy(site, thing)


def break_down(site: Site, thing: Thing) -> None:
    thing.body["status"] = "unhealthy"


def bill(thing: Thing, now: datetime) -> Decimal:
    """By the minute, from the first health check that passed."""
    if thing.kind != NODE:
        return thing.cost(now)
    used = thing.billed_until(now) - decode_time(str(thing.hidden["active_at"]))
    return thing.prices[-1][1] * max(0, ceil(used / timedelta(minutes=1))) / 60


def _instance(site: Site, request: Request, id: str) -> Thing:
    """One that lives, or that is terminated but still known. Raises Refused."""
    thing = site.thing(NODE, id, request.account)
    if thing is not None and thing.age(site.now) >= site.seconds("visible_after_seconds"):
        return thing
    memory = site.seconds("terminate_seconds") + site.seconds("terminated_seconds")
    gone = site.gone(NODE, id, request.account, memory)
    if gone is None:
        raise missing("Specified instance")
    return gone


def _named(site: Site, request: Request) -> list[Thing]:
    """The instances a request names; one that is not there fails all. Raises Refused."""
    ids = texts(request.json(), "instance_ids")
    if not ids:
        raise wrong("instance_ids: List should have at least 1 item")
    return [_instance(site, request, id) for id in ids]


def _tags(body: Json) -> Json:
    tags: Json = {}
    for tag in objects(body, "tags"):
        key = text(tag, "key", limit=TAG_KEY_LENGTH, pattern=TAG_KEY, required=True)
        tags[key] = text(tag, "value", limit=TAG_VALUE_LENGTH)
    return tags


def _check_image(body: Json, type: catalog.Type, region: str) -> None:
    image = body.get("image")
    if image is None:
        return
    field = next((name for name in ("id", "family") if isinstance(image, Mapping) and name in image), "")
    if not isinstance(image, Mapping) or not field:
        raise wrong("image: Input should have an id or a family")
    if not catalog.has_image(type, region, field, str(image[field])):
        raise missing("Image")


def _check_account(site: Site, account: str, body: Json) -> None:
    if site.knob("billing_address_valid") is not True:
        raise Refused(403, "global/invalid-address", "Your billing address is invalid.")
    quantity = body.get("quantity")
    if isinstance(quantity, int) and quantity > 1:
        raise wrong("Requested too many instances.")
    if len(site.things(NODE, account)) >= site.count("instance_limit"):
        raise Refused(400, "global/quota-exceeded", "Quota exceeded.")


def _check_pace(site: Site, account: str) -> None:
    """One launch every twelve seconds, on average over a minute; by the clock of the caller."""
    if site.knob("launch_limited") is not True:
        return
    now, recent = site.world.time.monotonic(), site.world.recent[f"{site.type.name} launches", account]
    recent[:] = [moment for moment in recent if moment > now - 60]
    if len(recent) >= site.count("launches_per_minute"):
        raise Refused(429, "global/rate-limited", "Too many launch requests.")
    recent.append(now)


def _since_deletion(site: Site, thing: Thing) -> float:
    return (site.now - thing.deleted_at).total_seconds() if thing.deleted_at else 0.0


def _mounts(thing: Thing) -> list[Json]:
    mounts = thing.hidden["mounts"]
    return [dict(mount) for mount in mounts if isinstance(mount, Mapping)] if isinstance(mounts, list) else []


def _actions(now: str) -> Json:
    """What can be done with an instance in a status."""
    why = {"booting": "vm-has-not-launched", "terminating": "vm-is-terminating", "terminated": "vm-is-terminating"}
    blocked: Json = {"available": False, "reason_code": why.get(now, ""), "reason_description": f"It is {now}."}
    return {
        name: dict(blocked) if now in why and (now != "booting" or name != "terminate") else {"available": True}
        for name in ACTIONS
    }


def _check_activity(site: Site, request: Request) -> None:
    if site.knob("account_active") is not True:
        raise Refused(403, "global/account-inactive", "Your account is inactive.")


EMULATOR = EmulatorType(
    name="lambda",
    title="Lambda Cloud API 1.10",
    routes=ROUTES.merged(COMPANIONS),
    error=error,
    key=key_of,
    knobs=KNOBS,
    # About one request in a second; for how long one may be faster is not documented.
    rate_limit=RateLimit(requests=20, per_seconds=15.0),
    status=lambda site, thing: status(site, thing) if thing.kind == NODE else "active",
    bill=bill,
    is_up=lambda site, thing: status(site, thing) == "active",
    break_down=break_down,
    preempt=preempt,
    gate=_check_activity,
)
