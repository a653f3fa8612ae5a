"""What a request for a server asks for, checked before anything is made."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gpuplan.core.values import JsonValue
from gpuplan.emulators import hetzner_catalog as catalog
from gpuplan.emulators.hetzner_actions import FIREWALL, GROUP, KEY, NETWORK, NODE, VOLUME
from gpuplan.emulators.hetzner_answers import Refused, flag, items, labels_in, missing, objects, taken, text, unfit
from gpuplan.emulators.hetzner_companions import check_attachable, check_room, named
from gpuplan.emulators.http import Json, Request
from gpuplan.emulators.site import Site
from gpuplan.emulators.world import Thing

HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*")
USER_DATA_BYTES = 32 * 1024


@dataclass(frozen=True, slots=True)
class Order:
    name: str
    sold: catalog.ServerType
    place: catalog.Location
    image: int
    labels: Json
    user_data: str
    keys: Sequence[Thing]
    volumes: Sequence[Thing]
    networks: Sequence[Thing]
    firewalls: Sequence[Thing]
    group: Thing | None
    has_ipv4: bool
    has_ipv6: bool
    is_started: bool


def read_order(site: Site, request: Request) -> Order:
    """Raises Refused for what cannot be made, save for lack of room."""
    body, account = request.json(), request.account
    sold = type_in(body)
    has_ipv4, has_ipv6 = _public_net(body)
    order = Order(
        name=text(body, "name", required=True),
        sold=sold,
        place=_location(body, sold),
        image=image_in(body, sold),
        labels=labels_in(body),
        user_data=text(body, "user_data"),
        keys=[named(site, KEY, key, account) for key in items(body, "ssh_keys")],
        volumes=[named(site, VOLUME, volume, account) for volume in items(body, "volumes")],
        networks=[named(site, NETWORK, network, account) for network in items(body, "networks")],
        firewalls=[named(site, FIREWALL, each.get("firewall"), account) for each in objects(body, "firewalls")],
        group=named(site, GROUP, body["placement_group"], account) if body.get("placement_group") else None,
        has_ipv4=has_ipv4,
        has_ipv6=has_ipv6,
        is_started=flag(body, "start_after_create", True),
    )
    _check(site, order, account)
    return order


def _check(site: Site, order: Order, account: str) -> None:
    if not HOST_NAME.fullmatch(order.name):
        raise unfit("name", "must be a valid hostname")
    if len(order.user_data.encode()) > USER_DATA_BYTES:
        raise unfit("user_data", "is too long")
    if not (order.has_ipv4 or order.has_ipv6 or order.networks):
        raise unfit("public_net", "a server without public network needs a private one")
    if len(site.things(NODE, account)) >= site.count("server_limit"):
        details: JsonValue = {"limits": [{"name": "server_limit"}]}
        raise Refused(403, "resource_limit_exceeded", "server limit exceeded", details)
    if site.named(NODE, order.name, account):
        raise taken("server name", "name")
    for volume in order.volumes:
        check_attachable(volume, order.place.name)
    if order.group is not None:
        check_room(site, order.group)


def type_in(body: Json) -> catalog.ServerType:
    """Raises Refused for a server type that is not there, or not any more."""
    reference = text(body, "server_type", required=True)
    sold = catalog.type_of(reference)
    if sold is None:
        raise Refused(404, "not_found", f"server type not found: {reference}")
    if sold.gone_since:
        raise unfit("server_type", "server type is deprecated")
    return sold


def _location(body: Json, sold: catalog.ServerType) -> catalog.Location:
    if body.get("datacenter"):
        raise unfit("datacenter", "was removed, use location")
    place = catalog.location_of(text(body, "location") or "fsn1")
    if place is None:
        raise Refused(404, "not_found", f"location not found: {text(body, 'location')}")
    if place.name not in sold.locations:
        raise Refused(422, "invalid_input", f"unsupported location for server type: {sold.name} in {place.name}")
    return place


def image_in(body: Json, sold: catalog.ServerType) -> int:
    """By id, or by a name of the server's architecture."""
    reference = text(body, "image", required=True)
    image = catalog.IMAGES.get(int(reference)) if reference.isdigit() else None
    if image is not None and image["architecture"] != sold.architecture:
        raise unfit("image", "image and server type have different architectures")
    by_name = (i for i in catalog.IMAGES.values() if (i["name"], i["architecture"]) == (reference, sold.architecture))
    found = image or next(by_name, None)
    if found is None:
        raise Refused(404, "not_found", f"image not found: {reference}")
    return int(str(found["id"]))


def _public_net(body: Json) -> tuple[bool, bool]:
    """Whether it is to have a public IPv4 and a public IPv6 address. There are no addresses of one's own."""
    asked = body.get("public_net")
    wanted = asked if isinstance(asked, dict) else {}
    for family in ("ipv4", "ipv6"):
        if wanted.get(family):
            raise missing("primary_ip", str(wanted[family]))
    return flag(wanted, "enable_ipv4", True), flag(wanted, "enable_ipv6", True)
