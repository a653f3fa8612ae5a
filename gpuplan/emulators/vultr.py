"""Vultr API v2: instances and bare metal. https://www.vultr.com/api/

Companion resources are in `vultr_companions`, the price list in `vultr_catalog`.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from math import ceil

from gpuplan.core.capabilities import RateLimit
from gpuplan.core.encoding import decode_time, encode_time
from gpuplan.core.values import JsonValue
from gpuplan.emulators import vultr_catalog as catalog
from gpuplan.emulators.http import Answerer, Json, Request, Response, Routes
from gpuplan.emulators.site import EmulatorType, Site
from gpuplan.emulators.vultr_answers import Refused, base64_of, body_of, error, flag, number, page, tags_of, text, texts
from gpuplan.emulators.vultr_companions import COMPANIONS, detach_blocks, firewall_group, key_texts, vpcs_of
from gpuplan.emulators.world import Login, Thing

INSTANCE, METAL = "instances", "bare-metals"
NODE = "node"
ENVELOPES = {INSTANCE: ("instance", "instances"), METAL: ("bare_metal", "bare_metals")}
BULK_IDS = {INSTANCE: "instance_ids", METAL: "baremetal_ids"}
KNOBS: Mapping[str, JsonValue] = {
    "allow_listed": True,
    "page_size": 100,
    "most_per_page": 500,
    "boot_seconds": 45,
    "ready_seconds": 90,
    "metal_boot_seconds": 600,
    "halt_seconds": 8,
    "lock_seconds": 20,
    "linger_seconds": 15,
    "quota_lag_seconds": 120,
    "vpc_detach_seconds": 30,
    "block_seconds": 5,
    "instance_limit": 20000,
    "never_ok": False,
    "no_capacity_text": "The requested plan is not available in the selected region",
}
"""`ready_seconds` count from the creation until `server_status` is `ok`, which with `never_ok` it never is. How
Vultr words a lack of capacity is not documented."""

ROUTES = Routes()


def answers(method: str, template: str) -> Callable[[Callable[..., Response]], Callable[..., Response]]:
    """Register for both families of machines, `{family}` being the name of the collection."""

    def register(answer: Callable[..., Response]) -> Callable[..., Response]:
        for family in (INSTANCE, METAL):
            ROUTES.on(method, template.replace("{family}", family))(_for(family, answer))
        return answer

    return register


def _for(family: str, answer: Callable[..., Response]) -> Answerer:
    return lambda site, request, ids: answer(site, request, family, **ids)


@answers("POST", "/v2/{family}")
def create(site: Site, request: Request, family: str) -> Response:
    body = body_of(request)
    region, plan = text(body, "region"), catalog.PLANS.get(text(body, "plan"))
    if region not in catalog.REGIONS:
        raise Refused(400, "Invalid region.")
    if plan is None or plan.is_metal != (family == METAL):
        raise Refused(400, "Invalid plan.")
    system = _boot_source(body)
    keys = key_texts(site, request.account, texts(body, "sshkey_id"))
    user_data = base64_of(body, "user_data")
    vpcs = vpcs_of(site, request.account, texts(body, "attach_vpc"), region)
    group = firewall_group(site, request.account, text(body, "firewall_group_id")) if family == INSTANCE else ""
    tags = tags_of(body)
    _check_limit(site, request.account)
    if not catalog.is_available(site, plan, region) or not site.take(plan.shelf, region):
        raise Refused(400, f"Server add failed: {site.knob('no_capacity_text')}")
    label = text(body, "label")
    address = site.world.fresh_address()
    keys += re.findall(r"(?:ssh-(?:ed25519|rsa)|ecdsa-sha2-\S+) [A-Za-z0-9+/=]+", user_data)
    user = "linuxuser" if text(body, "user_scheme") == "limited" else "root"
    shown: Json = {
        "id": site.uuid(),
        "os": catalog.SYSTEMS[system][0].replace(" LTS", ""),
        "region": region,
        "plan": plan.id,
        "date_created": site.now.isoformat(timespec="seconds"),
        "label": label,
        "hostname": text(body, "hostname") or "vultr",
        "os_id": system,
        "app_id": number(body, "app_id"),
        "image_id": text(body, "image_id"),
        "snapshot_id": text(body, "snapshot_id"),
        "tags": list[JsonValue](tags),
        "user_scheme": "limited" if user == "linuxuser" else "root",
    }
    if family == INSTANCE:
        shown |= {"firewall_group_id": group, "features": ["ipv6"] if flag(body, "enable_ipv6") else []}
    hidden: Json = {
        "family": family,
        "address": address,
        "vpcs": list[JsonValue](vpcs),
        "user_data": text(body, "user_data"),
        "user": user,
    }
    thing = site.add(
        NODE,
        str(shown["id"]),
        request.account,
        shown,
        name=label,
        price=catalog.price(site, plan, region),
        hidden=hidden,
        login=Login(address, 22, (user,), tuple(keys)),
    )
    # Shown once, and valid for ten minutes.
    return Response(202, {ENVELOPES[family][0]: {**show(site, thing), "default_password": f"v5{{{site.digits(12)}"}})


@answers("GET", "/v2/{family}")
def list_all(site: Site, request: Request, family: str) -> Response:
    machines = [thing for thing in site.listed(NODE, request.account) if thing.hidden["family"] == family]
    if family == INSTANCE:
        machines = [thing for thing in machines if _passes(thing, request)]
    return page(site, request, ENVELOPES[family][1], machines, lambda thing: show(site, thing), lambda thing: thing.id)


@answers("GET", "/v2/{family}/{id}")
def get(site: Site, request: Request, family: str, id: str) -> Response:
    return Response(200, {ENVELOPES[family][0]: show(site, _machine(site, request, family, id))})


@answers("PATCH", "/v2/{family}/{id}")
def update(site: Site, request: Request, family: str, id: str) -> Response:
    thing = _machine(site, request, family, id)
    body = body_of(request)
    if label := text(body, "label"):
        thing.body["label"] = label
        site.rename(thing, label)
    if body.get("tags") is not None:
        thing.body["tags"] = list[JsonValue](tags_of(body))
    if text(body, "user_data"):
        base64_of(body, "user_data")
        thing.hidden["user_data"] = text(body, "user_data")
    region = str(thing.body["region"])
    attached = [str(item) for item in _items(thing.hidden["vpcs"])]
    attached += [
        vpc for vpc in vpcs_of(site, request.account, texts(body, "attach_vpc"), region) if vpc not in attached
    ]
    thing.hidden["vpcs"] = [vpc for vpc in attached if vpc not in texts(body, "detach_vpc")]
    if family == INSTANCE and (group := text(body, "firewall_group_id")):
        thing.body["firewall_group_id"] = firewall_group(site, request.account, group)
    if any(body.get(name) for name in ("os_id", "app_id", "image_id")):
        system = _boot_source(body)
        thing.body |= {"os_id": system, "os": catalog.SYSTEMS[system][0].replace(" LTS", "")}
    if family == INSTANCE and (wanted := text(body, "plan")):
        _resize(site, thing, wanted)
    return Response(202, {ENVELOPES[family][0]: show(site, thing), "job_ids": [site.uuid()]})


@answers("DELETE", "/v2/{family}/{id}")
def delete(site: Site, request: Request, family: str, id: str) -> Response:
    if site.gone(NODE, id, request.account, site.seconds("linger_seconds")):
        raise Refused(400, "Server is already pending destruction.")
    thing = _machine(site, request, family, id)
    if thing.age(site.now) < site.seconds("lock_seconds"):
        raise Refused(500, "Unable to destroy server: Unable to remove VM: Server is currently locked")
    destroy(site, thing)
    return Response(204)


@answers("POST", "/v2/{family}/{id}/{action}")
def power(site: Site, request: Request, family: str, id: str, action: str) -> Response:
    if action not in ("start", "halt", "reboot"):
        return error(404, "Not found")
    switch(site, _machine(site, request, family, id), action)
    return Response(204)


@answers("POST", "/v2/{family}/{action}")
def bulk_power(site: Site, request: Request, family: str, action: str) -> Response:
    if action not in ("start", "halt", "reboot"):
        return error(404, "Not found")
    for id in texts(body_of(request), BULK_IDS[family]):
        switch(site, _machine(site, request, family, id), action)
    return Response(204)


@answers("GET", "/v2/{family}/{id}/vpcs")
def list_vpcs(site: Site, request: Request, family: str, id: str) -> Response:
    thing = _machine(site, request, family, id)
    ids = [str(item) for item in _items(thing.hidden["vpcs"])]
    address = _private(thing)
    return page(
        site, request, "vpcs", ids, lambda id: {"id": id, "mac_address": 98964710703335, "ip_address": address}, str
    )


@answers("GET", "/v2/{family}/{id}/user-data")
def user_data(site: Site, request: Request, family: str, id: str) -> Response:
    return Response(200, {"user_data": {"data": _machine(site, request, family, id).hidden["user_data"]}})


@answers("GET", "/v2/{family}/{id}/ipv4")
def addresses(site: Site, request: Request, family: str, id: str) -> Response:
    thing = _machine(site, request, family, id)
    address = str(thing.hidden["address"])
    shown: Json = {"ip": address, "netmask": "255.255.254.0", "gateway": "198.18.0.1", "type": "main_ip"}
    return page(site, request, "ipv4s", [address], lambda ip: {**shown, "reverse": ip}, str)


def switch(site: Site, thing: Thing, action: str) -> None:
    """Power on or off; the power goes some seconds later."""
    if action == "halt":
        thing.hidden.setdefault("halted_at", encode_time(site.now))
    else:
        thing.hidden.pop("halted_at", None)


def destroy(site: Site, thing: Thing) -> None:
    plan = catalog.PLANS[str(thing.body["plan"])]
    site.put_back(plan.shelf, str(thing.body["region"]))
    detach_blocks(site, thing)
    site.remove(thing)


def show(site: Site, thing: Thing) -> Json:
    """A machine as get and list show it."""
    is_metal = thing.hidden["family"] == METAL
    plan = catalog.PLANS[str(thing.body["plan"])]
    is_pending = _status(site, thing) == "pending"
    network: Json = {
        "main_ip": ("" if is_metal else "0.0.0.0") if is_pending else thing.hidden["address"],
        "netmask_v4": "" if is_pending else "255.255.254.0",
        "gateway_v4": "0.0.0.0" if is_pending else "198.18.0.1",
        "v6_network": "",
        "v6_main_ip": "",
        "v6_network_size": 0,
    }
    machine: Json = {"status": _status(site, thing), **network}
    if is_metal:
        machine |= {
            "ram": f"{plan.ram_mb} MB",
            "disk": f"{plan.disks}x {plan.disk_gb}GB SSD",
            "cpu_count": plan.cpus,
            "mac_address": 2199756823533,
        }
        return {**machine, **thing.body}
    attached = [str(item) for item in _items(thing.hidden["vpcs"])]
    vpcs: JsonValue = [{"id": vpc, "version": 1, "subnet": _private(thing)} for vpc in attached]
    machine |= {
        "ram": plan.ram_mb,
        "disk": 0 if is_pending else plan.disk_gb,
        "vcpu_count": plan.cpus,
        "power_status": _power(site, thing),
        "server_status": _server_status(site, thing),
        "allowed_bandwidth": 10240,
        "internal_ip": _private(thing) if attached and not is_pending else "",
        "vpc_only": False,
        "vpcs": vpcs,
        "kvm": "" if is_pending else f"https://my.vultr.com/subs/vps/novnc/api.php?data={thing.id[:8]}",
        "pending_charges": round(float(bill(thing, site.now)), 2),
    }
    return {**machine, **thing.body}


def bill(thing: Thing, now: datetime) -> Decimal:
    """Begun hours count, at least one, and a month costs no more than its cap; stopped or not."""
    if thing.kind != NODE:
        return thing.cost(now)
    plan = catalog.PLANS[str(thing.body["plan"])]
    hours = ceil((thing.billed_until(now) - thing.created_at) / timedelta(hours=1))
    months, rest = divmod(max(1, hours), 730)
    billed = months * plan.month_hours + min(rest, plan.month_hours)
    return thing.prices[-1][1] * billed


def is_up(site: Site, thing: Thing) -> bool:
    return _status(site, thing) == "active" and _power(site, thing) == "running"


def break_down(site: Site, thing: Thing) -> None:
    thing.body["status"] = "suspended"


def _machine(site: Site, request: Request, family: str, id: str) -> Thing:
    thing = site.thing(NODE, id, request.account)
    if thing is None or thing.hidden["family"] != family:
        if site.gone(NODE, id, request.account, site.seconds("linger_seconds")):
            raise Refused(400, "Server is pending destruction")
        raise Refused(404, "Invalid instance ID." if family == INSTANCE else "Invalid server")
    return thing


def _boot_source(body: Json) -> int:
    """The operating system; marketplace images and applications have one of their own."""
    given = [name for name in ("os_id", "app_id", "image_id", "snapshot_id", "iso_id") if body.get(name)]
    if len(given) != 1:
        raise Refused(400, "Please choose exactly one of os_id, app_id, image_id, snapshot_id or iso_id")
    if given[0] == "os_id":
        system = number(body, "os_id")
        if system not in catalog.SYSTEMS:
            raise Refused(400, "Invalid os_id.")
        return system
    known = {str(app[key]) for app in catalog.APPLICATIONS for key in ("id", "image_id") if app[key]}
    if given[0] in ("app_id", "image_id") and str(body[given[0]]) not in known:
        raise Refused(400, f"Invalid {given[0]}.")
    return 186


def _check_limit(site: Site, account: str) -> None:
    """Deleted machines go on counting for a while."""
    lag = timedelta(seconds=site.seconds("quota_lag_seconds"))
    gone = site.world.gone[site.type.name, NODE].values()
    leaving = [t for t in gone if t.account == account and t.deleted_at and site.now - t.deleted_at < lag]
    if len(site.things(NODE, account)) + len(leaving) >= site.count("instance_limit"):
        text = "You have reached the maximum number of active instances for this account."
        raise Refused(400, f"Server add failed: {text}")


def _resize(site: Site, thing: Thing, wanted: str) -> None:
    plan, current = catalog.PLANS.get(wanted), catalog.PLANS[str(thing.body["plan"])]
    if plan is None or plan.is_metal or plan.type != current.type or plan.ram_mb < current.ram_mb:
        raise Refused(400, "Invalid plan.")
    thing.body["plan"] = plan.id
    thing.prices.append((site.now, catalog.price(site, plan, str(thing.body["region"]))))


def _passes(thing: Thing, request: Request) -> bool:
    shown = thing.body
    exact = all(request.one(name) in ("", shown[name]) for name in ("label", "region", "hostname", "firewall_group_id"))
    address = request.one("main_ip") in ("", thing.hidden["address"])
    tag = request.one("tag").lower()
    return exact and address and (not tag or tag in [str(item).lower() for item in _items(shown["tags"])])


def _status(site: Site, thing: Thing) -> str:
    if "status" in thing.body:
        return str(thing.body["status"])
    boot = "boot_seconds" if thing.hidden["family"] == INSTANCE else "metal_boot_seconds"
    return "pending" if thing.age(site.now) < site.seconds(boot) else "active"


def _power(site: Site, thing: Thing) -> str:
    halted = thing.hidden.get("halted_at")
    if not isinstance(halted, str):
        return "running"
    since = (site.now - decode_time(halted)).total_seconds()
    return "stopped" if since >= site.seconds("halt_seconds") else "running"


def _server_status(site: Site, thing: Thing) -> str:
    if _status(site, thing) == "pending":
        return "none" if thing.age(site.now) < site.seconds("lock_seconds") else "locked"
    is_ready = thing.age(site.now) >= site.seconds("ready_seconds") and site.knob("never_ok") is not True
    return "ok" if is_ready else "installingbooting"


def _private(thing: Thing) -> str:
    return str(thing.hidden["address"]).replace("198.18.", "10.1.")


def _items(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) else []


def _check_address(site: Site, request: Request) -> None:
    """A key answers only to addresses on its access control list, and a new key has an empty one."""
    if site.knob("allow_listed") is False:
        raise Refused(401, "Unauthorized IP address: 192.0.2.1")


EMULATOR = EmulatorType(
    name="vultr",
    title="Vultr API v2",
    routes=ROUTES.merged(COMPANIONS),
    error=error,
    key=lambda request: request.bearer,
    knobs=KNOBS,
    rate_limit=RateLimit(requests=30, per_seconds=1.0),
    status=lambda site, thing: _status(site, thing) if thing.kind == NODE else "active",
    bill=bill,
    is_up=is_up,
    stop=lambda site, thing: switch(site, thing, "halt"),
    break_down=break_down,
    preempt=destroy,
    gate=_check_address,
)
