"""Hetzner Cloud API v1: servers. https://docs.hetzner.cloud

What a server is at a moment is in `hetzner_servers`, actions in `hetzner_actions`, companion resources in
`hetzner_companions` and `hetzner_networks`, the price list in `hetzner_catalog` and `hetzner_shop`.
"""

import re
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal

from gpuplan.core.capabilities import RateLimit
from gpuplan.core.values import JsonValue
from gpuplan.emulators import hetzner_catalog as catalog
from gpuplan.emulators.hetzner_actions import ACTIONS, NETWORK, NODE, VOLUME, begin, is_locked
from gpuplan.emulators.hetzner_answers import (
    Refused,
    chosen,
    error,
    flag,
    items,
    objects,
    page,
    unfit,
)
from gpuplan.emulators.hetzner_companions import (
    COMPANIONS,
    check_free,
    check_unprotected,
    fresh_id,
    named,
    own,
    rename,
)
from gpuplan.emulators.hetzner_networks import NETWORKS, join_network
from gpuplan.emulators.hetzner_orders import image_in, read_order, type_in
from gpuplan.emulators.hetzner_servers import address_of, bill, place_of, show, sold_as, status, will_be
from gpuplan.emulators.hetzner_shop import SHOP
from gpuplan.emulators.http import Json, Request, Response, Routes
from gpuplan.emulators.site import EmulatorType, Site
from gpuplan.emulators.world import Login, Thing

KNOBS: Mapping[str, JsonValue] = {
    "page_size": 25,
    "most_per_page": 50,
    "currency": "USD",
    "init_seconds": 10,
    "boot_seconds": 25,
    "power_seconds": 1,
    "shutdown_seconds": 6,
    "ignores_shutdown": False,
    "resize_seconds": 30,
    "network_seconds": 2,
    "delete_seconds": 1,
    "release_seconds": 5,
    "volume_seconds": 3,
    "server_limit": 20000,
    "create_fails_with": "",
}
"""`create_fails_with` is the code with which a creation fails after it was accepted; `release_seconds` is how long a
firewall counts as used by a server that is gone."""
HOURLY_REQUESTS = RateLimit(requests=3600, per_seconds=3600)
PUBLIC_KEY = re.compile(r"(?:ssh-(?:ed25519|rsa)|ecdsa-sha2-\S+) [A-Za-z0-9+/=]+")
SERVERS = Routes()

Ids = Mapping[str, str]


@SERVERS.on("POST", "/v1/servers")
def create(site: Site, request: Request, ids: Ids) -> Response:
    account, order = request.account, read_order(site, request)
    id, seconds = fresh_id(site), site.seconds("init_seconds")
    places = [join_network(site, network, order.place, seconds) for network in order.networks]
    if not site.take(order.sold.name, order.place.name):
        raise Refused(412, "resource_unavailable", "error during placement")
    for volume in order.volumes:
        volume.hidden["server"] = id
    hidden: Json = {
        "type": order.sold.name,
        "location": order.place.name,
        "image": order.image,
        "firewalls": [firewall.id for firewall in order.firewalls],
        "networks": [*places],
        "placement_group": order.group.id if order.group else None,
        "ipv4": site.world.fresh_address() if order.has_ipv4 else "",
        "ipv6": f"2001:db8:{int(id) % 65536:x}::" if order.has_ipv6 else "",
    }
    fields: Json = {"name": order.name, "labels": order.labels, "protection": {"delete": False, "rebuild": False}}
    price = catalog.hourly(site, order.sold, order.place.name) + (catalog.IPV4_HOURLY if order.has_ipv4 else 0)
    server = site.add(NODE, id, account, fields, name=order.name, price=price, hidden=hidden)
    texts = [str(key.body["public_key"]) for key in order.keys] + PUBLIC_KEY.findall(order.user_data)
    server.login = Login(address_of(server), 22, ("root",), tuple(texts))
    actions = _begin_creation(site, server, is_started=order.is_started)
    password = None if order.keys else site.digits(20, "abcdefghjkmnpqrstuvwxyz23456789")
    answer: Json = {"server": show(site, server), "action": actions[0], "next_actions": [*actions[1:]]}
    return Response(201, {**answer, "root_password": password})


def _begin_creation(site: Site, server: Thing, *, is_started: bool) -> list[Json]:
    """The actions of a creation, and what the server's status will be meanwhile."""
    init, boot = site.seconds("init_seconds"), site.seconds("boot_seconds")
    if code := str(site.knob("create_fails_with")):
        will_be(site, server, (0, "initializing"))
        return [begin(site, server, "create_server", init, code=code, text="error during placement")]
    if not is_started:
        will_be(site, server, (0, "initializing"), (init, "off"))
        return [begin(site, server, "create_server", init)]
    will_be(site, server, (0, "initializing"), (init, "starting"), (boot, "running"))
    return [begin(site, server, "create_server", init), begin(site, server, "start_server", boot)]


@SERVERS.on("GET", "/v1/servers")
def list_all(site: Site, request: Request, ids: Ids) -> Response:
    found = chosen(request, [*site.listed(NODE, request.account), *_gone(site, request.account)])
    wanted = request.query.get("status", ())
    found = [server for server in found if not wanted or status(site, server) in wanted]
    return page(site, request, "servers", found, lambda server: show(site, server))


@SERVERS.on("GET", "/v1/servers/{id}")
def get(site: Site, request: Request, ids: Ids) -> Response:
    leaving = next((server for server in _gone(site, request.account) if server.id == ids["id"]), None)
    return Response(200, {"server": show(site, leaving or own(site, NODE, ids["id"], request.account))})


@SERVERS.on("PUT", "/v1/servers/{id}")
def update(site: Site, request: Request, ids: Ids) -> Response:
    server = own(site, NODE, ids["id"], request.account)
    rename(site, server, request.json())
    return Response(200, {"server": show(site, server)})


@SERVERS.on("DELETE", "/v1/servers/{id}")
def delete(site: Site, request: Request, ids: Ids) -> Response:
    if any(server.id == ids["id"] for server in _gone(site, request.account)):
        raise Refused(423, "locked", "server is locked")
    server = own(site, NODE, ids["id"], request.account)
    check_unprotected(server)
    check_free(site, server)
    destroy(site, server)
    return Response(200, {"action": begin(site, server, "delete_server", site.seconds("delete_seconds"))})


@SERVERS.on("POST", "/v1/servers/{id}/actions/{action}")
def act(site: Site, request: Request, ids: Ids) -> Response:
    server, body = own(site, NODE, ids["id"], request.account), request.json()
    check_free(site, server)
    if ids["action"] in POWER:
        return Response(201, {"action": switch(site, server, ids["action"])})
    match ids["action"]:
        case "change_type":
            action = _change_type(site, server, body)
        case "rebuild":
            server.hidden["image"] = image_in(body, sold_as(server))
            will_be(site, server, (0, "rebuilding"), (site.seconds("boot_seconds"), "running"))
            action = begin(site, server, "rebuild_server", site.seconds("boot_seconds"))
            return Response(201, {"action": action, "root_password": None})
        case "attach_to_network":
            action = _attach(site, server, named(site, NETWORK, body.get("network"), request.account))
        case "detach_from_network":
            action = _detach(site, server, named(site, NETWORK, body.get("network"), request.account))
        case "change_protection":
            wanted = flag(body, "delete", False)
            if wanted != flag(body, "rebuild", wanted):
                raise unfit("rebuild", "must be the same as delete")
            server.body["protection"] = {"delete": wanted, "rebuild": wanted}
            action = begin(site, server, "change_protection", 0)
        case _:
            return error(404, "not found")
    return Response(201, {"action": action})


POWER = {
    "poweron": "start_server",
    "poweroff": "stop_server",
    "shutdown": "shutdown_server",
    "reboot": "reboot_server",
    "reset": "reset_server",
}


def switch(site: Site, server: Thing, action: str) -> Json:
    """Power, or a signal to the system: of a shutdown the action says only that the signal was sent."""
    seconds, current = site.seconds("power_seconds"), status(site, server)
    if action == "poweron" and current != "running":
        will_be(site, server, (0, "starting"), (seconds, "running"))
    if action == "poweroff" and current != "off":
        will_be(site, server, (0, "stopping"), (seconds, "off"))
    if action == "shutdown" and current == "running" and site.knob("ignores_shutdown") is not True:
        will_be(site, server, (0, "running"), (site.seconds("shutdown_seconds"), "off"))
    return begin(site, server, POWER[action], seconds)


def destroy(site: Site, server: Thing) -> None:
    """It is out of the account at once; what was attached to it stays."""
    site.put_back(str(server.hidden["type"]), str(server.hidden["location"]))
    for volume in site.things(VOLUME, server.account):
        if volume.hidden["server"] == server.id:
            volume.hidden["server"] = ""
    site.remove(server)


def break_down(site: Site, server: Thing) -> None:
    """The machine stops, as after a kernel panic that powers it off."""
    will_be(site, server, (0, "off"))


def headers(site: Site, request: Request) -> Mapping[str, str]:
    """Every answer tells what is left of the hour's requests, and an id to ask the support with."""
    used = len(site.world.recent[site.type.name, request.bearer])
    return {
        "RateLimit-Limit": str(HOURLY_REQUESTS.requests),
        "RateLimit-Remaining": str(max(0, HOURLY_REQUESTS.requests - used)),
        "RateLimit-Reset": str(int(site.now.timestamp()) + used),
        "X-Correlation-Id": site.digits(16),
    }


def _change_type(site: Site, server: Thing, body: Json) -> Json:
    wanted, current = type_in(body), sold_as(server)
    if status(site, server) != "off":
        raise Refused(422, "server_not_stopped", "server is not stopped")
    disk = int(str(server.hidden.get("disk_gb", current.disk_gb)))
    if wanted.architecture != current.architecture or wanted.disk_gb < disk or wanted is current:
        raise Refused(422, "invalid_server_type", "server type does not fit for the given server")
    location = str(server.hidden["location"])
    if not site.take(wanted.name, location):
        raise Refused(412, "resource_unavailable", "error during placement")
    site.put_back(current.name, location)
    server.hidden |= {"type": wanted.name, "disk_gb": wanted.disk_gb if flag(body, "upgrade_disk", False) else disk}
    address = catalog.IPV4_HOURLY if server.hidden["ipv4"] else Decimal(0)
    server.prices.append((site.now, catalog.hourly(site, wanted, location) + address))
    seconds = site.seconds("resize_seconds")
    will_be(site, server, (0, "migrating"), (seconds, "running"))
    return begin(site, server, "change_server_type", seconds)


def _attach(site: Site, server: Thing, network: Thing) -> Json:
    if any(each["network"] == network.id for each in objects(server.hidden, "networks")):
        raise Refused(422, "server_already_attached", "server is already attached to this network")
    if is_locked(site, network):
        raise Refused(409, "conflict", "network was changed during the request, please retry")
    seconds = site.seconds("network_seconds")
    place = join_network(site, network, place_of(server), seconds)
    server.hidden["networks"] = [*items(server.hidden, "networks"), place]
    begin(site, network, "attach_to_network", seconds)
    return begin(site, server, "attach_to_network", seconds)


def _detach(site: Site, server: Thing, network: Thing) -> Json:
    left = [each for each in objects(server.hidden, "networks") if each["network"] != network.id]
    if len(left) == len(items(server.hidden, "networks")):
        raise unfit("network", "server is not attached to this network")
    server.hidden["networks"] = list[JsonValue](left)
    return begin(site, server, "detach_from_network", site.seconds("network_seconds"))


def _gone(site: Site, account: str) -> list[Thing]:
    """Servers on their way out."""
    lag = timedelta(seconds=site.seconds("delete_seconds"))
    servers = site.world.gone[site.type.name, NODE].values()
    # Who was deleted last comes last.
    recent: list[Thing] = []
    for server in reversed(servers):
        if server.deleted_at is None or site.now - server.deleted_at >= lag:
            break
        if server.account == account and "actions" in server.hidden and _was_deleted(server):
            recent.append(server)
    return recent


def _was_deleted(server: Thing) -> bool:
    """By a call, that is: what vanishes is not there from one moment to the next."""
    return any(action["command"] == "delete_server" for action in objects(server.hidden, "actions"))


EMULATOR = EmulatorType(
    name="hetzner",
    title="Hetzner Cloud API v1",
    routes=ACTIONS.merged(SERVERS, COMPANIONS, NETWORKS, SHOP),
    error=error,
    key=lambda request: request.bearer,
    knobs=KNOBS,
    rate_limit=HOURLY_REQUESTS,
    status=lambda site, thing: status(site, thing) if thing.kind == NODE else "available",
    bill=bill,
    is_up=lambda site, thing: status(site, thing) == "running",
    stop=lambda site, thing: will_be(site, thing, (0, "off")),
    break_down=break_down,
    preempt=destroy,
    headers=headers,
)
