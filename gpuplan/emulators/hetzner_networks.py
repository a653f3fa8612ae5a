"""Hetzner's private networks and firewalls, and how servers come into them."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from ipaddress import IPv4Network, ip_network

from gpuplan.core.values import JsonValue
from gpuplan.emulators import hetzner_catalog as catalog
from gpuplan.emulators.hetzner_actions import FIREWALL, NETWORK, NODE, at, begin
from gpuplan.emulators.hetzner_answers import (
    Refused,
    error,
    flag,
    items,
    labels_in,
    labels_of,
    number,
    objects,
    selects,
    text,
    unfit,
)
from gpuplan.emulators.hetzner_companions import add, named, offer_collection, own, show_plainly
from gpuplan.emulators.http import Json, Request, Response, Routes
from gpuplan.emulators.site import Site
from gpuplan.emulators.world import Thing

NETWORKS = Routes()

Ids = Mapping[str, str]


MOST_RULES = 50


@NETWORKS.on("POST", "/v1/networks")
def create_network(site: Site, request: Request, ids: Ids) -> Response:
    body = request.json()
    whole = _private_range(text(body, "ip_range", required=True))
    subnets: list[JsonValue] = []
    for subnet in objects(body, "subnets"):
        subnets.append(_subnet(subnet, whole, subnets))
    fields: Json = {
        "ip_range": str(whole),
        "subnets": subnets,
        "routes": items(body, "routes"),
        "labels": labels_in(body),
        "protection": {"delete": False},
        "expose_routes_to_vswitch": flag(body, "expose_routes_to_vswitch", False),
    }
    network = add(site, request.account, NETWORK, text(body, "name", required=True), fields, hidden={"addresses": 0})
    return Response(201, {"network": show_network(site, network)})


@NETWORKS.on("POST", "/v1/networks/{id}/actions/{action}")
def act_on_network(site: Site, request: Request, ids: Ids) -> Response:
    network, body = own(site, NETWORK, ids["id"], request.account), request.json()
    whole, subnets = _private_range(str(network.body["ip_range"])), items(network.body, "subnets")
    match ids["action"]:
        case "add_subnet":
            network.body["subnets"] = [*subnets, _subnet(body, whole, subnets)]
        case "delete_subnet":
            gone = text(body, "ip_range", required=True)
            network.body["subnets"] = [s for s in objects(network.body, "subnets") if s["ip_range"] != gone]
        case "change_protection":
            network.body["protection"] = {"delete": flag(body, "delete", False)}
        case _:
            return error(404, "not found")
    return Response(201, {"action": begin(site, network, ids["action"], 1)})


def join_network(site: Site, network: Thing, place: catalog.Location, seconds: float) -> Json:
    """The place of a server in a network, from some seconds on. Raises Refused."""
    subnets = [s for s in objects(network.body, "subnets") if s["network_zone"] == place.zone]
    used = number(network.hidden, "addresses")
    for subnet in subnets:
        addresses = ip_network(str(subnet["ip_range"]))
        if used + 2 < addresses.num_addresses:
            network.hidden["addresses"] = used + 1
            return {"network": network.id, "ip": str(addresses[used + 2]), "at": at(site, seconds)}
    raise Refused(422, "no_subnet_available", "no subnet or IP available for the server within the network")


@NETWORKS.on("POST", "/v1/firewalls")
def create_firewall(site: Site, request: Request, ids: Ids) -> Response:
    body = request.json()
    fields: Json = {"rules": _rules(body), "labels": labels_in(body)}
    targets = objects(body, "apply_to")
    for target in targets:
        _check_target(site, target, request.account)
    firewall = add(site, request.account, FIREWALL, text(body, "name", required=True), fields, hidden={"selectors": []})
    actions: list[JsonValue] = [begin(site, firewall, "set_firewall_rules", 1)]
    for target in targets:
        actions.append(_apply(site, firewall, target))
    return Response(201, {"firewall": show_firewall(site, firewall), "actions": actions})


@NETWORKS.on("POST", "/v1/firewalls/{id}/actions/{action}")
def act_on_firewall(site: Site, request: Request, ids: Ids) -> Response:
    firewall, body = own(site, FIREWALL, ids["id"], request.account), request.json()
    actions: list[JsonValue] = []
    match ids["action"]:
        case "set_rules":
            firewall.body["rules"] = _rules(body)
            actions.append(begin(site, firewall, "set_firewall_rules", 1))
        case "apply_to_resources":
            for target in objects(body, "apply_to"):
                _check_target(site, target, request.account)
                actions.append(_apply(site, firewall, target))
        case "remove_from_resources":
            for target in objects(body, "remove_from"):
                _check_target(site, target, request.account)
                actions.append(_remove(site, firewall, target))
        case _:
            return error(404, "not found")
    return Response(201, {"actions": actions})


@NETWORKS.on("DELETE", "/v1/firewalls/{id}")
def delete_firewall(site: Site, request: Request, ids: Ids) -> Response:
    firewall = own(site, FIREWALL, ids["id"], request.account)
    if items(firewall.hidden, "selectors") or _servers_behind(site, firewall):
        raise Refused(422, "resource_in_use", f"firewall {firewall.name} is still in use")
    site.remove(firewall)
    return Response(204)


def firewalls_of(site: Site, server: Thing) -> list[Thing]:
    """Those that protect a server, applied to it or by a label selector."""
    direct, labels = items(server.hidden, "firewalls"), labels_of(server)
    found = site.things(FIREWALL, server.account)
    return [f for f in found if f.id in direct or any(selects(str(s))(labels) for s in items(f.hidden, "selectors"))]


def show_network(site: Site, network: Thing) -> Json:
    joined: list[JsonValue] = [
        int(server.id)
        for server in site.things(NODE, network.account)
        if any(each["network"] == network.id for each in objects(server.hidden, "networks"))
    ]
    return {"servers": joined, "load_balancers": [], **show_plainly(site, network)}


def show_firewall(site: Site, firewall: Thing) -> Json:
    applied: list[JsonValue] = [
        {"type": "server", "server": {"id": int(server.id)}}
        for server in site.things(NODE, firewall.account)
        if firewall.id in items(server.hidden, "firewalls")
    ]
    for selector in items(firewall.hidden, "selectors"):
        fits = selects(str(selector))
        resources: list[JsonValue] = [
            {"type": "server", "server": {"id": int(server.id)}}
            for server in site.things(NODE, firewall.account)
            if fits(labels_of(server))
        ]
        applied.append(
            {"type": "label_selector", "label_selector": {"selector": selector}, "applied_to_resources": resources}
        )
    return {"applied_to": applied, **show_plainly(site, firewall)}


offer_collection(NETWORKS, NETWORK, "/v1/networks", "network", show_network)


offer_collection(NETWORKS, FIREWALL, "/v1/firewalls", "firewall", show_firewall, deletable=False)


def _private_range(written: str) -> IPv4Network:
    try:
        found = IPv4Network(written)
    except ValueError as exc:
        raise unfit("ip_range", "is not a network") from exc
    if not found.is_private or found.prefixlen > 24:
        raise unfit("ip_range", "must be a private network of at least /24")
    return found


def _subnet(asked: Json, whole: IPv4Network, others: Sequence[JsonValue]) -> Json:
    zone = text(asked, "network_zone", required=True)
    if zone not in {place.zone for place in catalog.LOCATIONS}:
        raise unfit("network_zone", "does not exist")
    if text(asked, "type") not in ("cloud", "server"):
        raise unfit("type", "must be cloud")
    used = [IPv4Network(str(other["ip_range"])) for other in others if isinstance(other, Mapping)]
    written = text(asked, "ip_range")
    wanted = IPv4Network(written) if written else next(whole.subnets(new_prefix=24))
    if not wanted.subnet_of(whole) or any(wanted.overlaps(other) for other in used):
        raise unfit("ip_range", "is outside of the network or overlaps with another subnet")
    gateway = str(whole[1])
    return {"type": "cloud", "ip_range": str(wanted), "network_zone": zone, "gateway": gateway, "vswitch_id": None}


def _rules(body: Json) -> list[JsonValue]:
    rules = objects(body, "rules")
    if len(rules) > MOST_RULES:
        raise unfit("rules", f"a firewall has at most {MOST_RULES} rules")
    return [_rule(rule) for rule in rules]


def _rule(rule: Json) -> Json:
    direction, protocol, port = text(rule, "direction"), text(rule, "protocol"), text(rule, "port")
    if direction not in ("in", "out") or protocol not in ("tcp", "udp", "icmp", "esp", "gre"):
        raise unfit("rules", "direction or protocol is not known")
    if bool(port) != (protocol in ("tcp", "udp")):
        raise unfit("rules.port", "is required for tcp and udp, and for these only")
    if port and not all(end.isdigit() and 0 < int(end) < 65536 for end in port.split("-")):
        raise unfit("rules.port", "is not a port or a range of ports")
    for name in ("source_ips", "destination_ips"):
        for network in items(rule, name):
            try:
                ip_network(str(network))
            except ValueError as exc:
                raise unfit(f"rules.{name}", f"'{network}' is not in CIDR notation") from exc
    return {
        "direction": direction,
        "protocol": protocol,
        "port": port or None,
        "source_ips": items(rule, "source_ips"),
        "destination_ips": items(rule, "destination_ips"),
        "description": rule.get("description") or None,
    }


def _check_target(site: Site, target: Json, account: str) -> None:
    if text(target, "type") == "label_selector":
        selects(text(_part(target, "label_selector"), "selector"))
    elif site.thing(NODE, text(_part(target, "server"), "id"), account) is None:
        raise Refused(422, "firewall_resource_not_found", "firewall resource not found")


def _apply(site: Site, firewall: Thing, target: Json) -> Json:
    if text(target, "type") == "label_selector":
        selector = text(_part(target, "label_selector"), "selector")
        firewall.hidden["selectors"] = [*items(firewall.hidden, "selectors"), selector]
    else:
        server = named(site, NODE, _part(target, "server")["id"], firewall.account)
        if firewall.id in items(server.hidden, "firewalls"):
            raise Refused(422, "firewall_already_applied", "firewall is already applied to the server")
        server.hidden["firewalls"] = [*items(server.hidden, "firewalls"), firewall.id]
    return begin(site, firewall, "apply_firewall", 1)


def _remove(site: Site, firewall: Thing, target: Json) -> Json:
    if text(target, "type") == "label_selector":
        selector = text(_part(target, "label_selector"), "selector")
        firewall.hidden["selectors"] = [s for s in items(firewall.hidden, "selectors") if s != selector]
    else:
        server = named(site, NODE, _part(target, "server")["id"], firewall.account)
        if firewall.id not in items(server.hidden, "firewalls"):
            managed = "firewall is applied via a label selector and cannot be removed manually"
            raise Refused(422, "firewall_managed_by_label_selector", managed)
        server.hidden["firewalls"] = [f for f in items(server.hidden, "firewalls") if f != firewall.id]
    return begin(site, firewall, "remove_firewall", 1)


def _part(target: Json, name: str) -> Json:
    part = target.get(name)
    return part if isinstance(part, dict) else {}


def _servers_behind(site: Site, firewall: Thing) -> list[Thing]:
    """Servers it is applied to, those among them that were deleted a moment ago."""
    lag = timedelta(seconds=site.seconds("release_seconds"))
    gone = site.world.gone[site.type.name, NODE].values()
    leaving = [server for server in gone if server.deleted_at and site.now - server.deleted_at < lag]
    everyone = [*site.things(NODE, firewall.account), *leaving]
    return [server for server in everyone if firewall.id in items(server.hidden, "firewalls")]
