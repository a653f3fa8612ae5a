"""A server of Hetzner Cloud as it is at a moment: its status, its addresses, its bill."""

from datetime import datetime, timedelta
from decimal import Decimal
from math import ceil

from gpuplan.core.values import JsonValue
from gpuplan.emulators import hetzner_catalog as catalog
from gpuplan.emulators.hetzner_actions import GROUP, NODE, VOLUME, at, is_locked, is_past
from gpuplan.emulators.hetzner_answers import items, objects
from gpuplan.emulators.hetzner_companions import show_group
from gpuplan.emulators.hetzner_networks import firewalls_of
from gpuplan.emulators.http import Json
from gpuplan.emulators.site import Site
from gpuplan.emulators.world import Thing


def show(site: Site, server: Thing) -> Json:
    sold, place = sold_as(server), place_of(server)
    group = site.thing(GROUP, str(server.hidden["placement_group"]), server.account)
    volumes = [int(v.id) for v in site.things(VOLUME, server.account) if v.hidden["server"] == server.id]
    created = server.created_at.isoformat(timespec="seconds").replace("+00:00", "Z")
    shown: Json = {
        "id": int(server.id),
        "status": status(site, server),
        "created": created,
        "public_net": _show_public_net(site, server),
        "private_net": _show_private_net(site, server),
        "server_type": catalog.show_type(site, sold),
        "location": catalog.show_location(place),
        "image": catalog.IMAGES[int(str(server.hidden["image"]))],
        "iso": None,
        "rescue_enabled": False,
        "locked": is_locked(site, server),
        "backup_window": None,
        "outgoing_traffic": 0,
        "ingoing_traffic": 0,
        "included_traffic": 21990232555520,
        "volumes": list[JsonValue](volumes),
        "load_balancers": [],
        "primary_disk_size": server.hidden.get("disk_gb", sold.disk_gb),
        "placement_group": show_group(site, group) if group else None,
    }
    return {**shown, **server.body}


def _show_public_net(site: Site, server: Thing) -> Json:
    ipv4, ipv6, id = str(server.hidden["ipv4"]), str(server.hidden["ipv6"]), int(server.id)
    reverse = f"static.{'.'.join(reversed(ipv4.split('.')))}.clients.your-server.de"
    shown: Json = {"ipv4": None, "ipv6": None, "floating_ips": [], "firewalls": []}
    if ipv4:
        shown["ipv4"] = {"id": 2 * id, "ip": ipv4, "blocked": False, "dns_ptr": reverse}
    if ipv6:
        shown["ipv6"] = {"id": 2 * id + 1, "ip": f"{ipv6}/64", "blocked": False, "dns_ptr": []}
    applied = "pending" if status(site, server) == "initializing" else "applied"
    shown["firewalls"] = [{"id": int(f.id), "status": applied} for f in firewalls_of(site, server)]
    return shown


def _show_private_net(site: Site, server: Thing) -> list[JsonValue]:
    return [
        {
            "network": int(str(each["network"])),
            "ip": each["ip"],
            "alias_ips": [],
            "mac_address": f"86:00:00:{int(server.id) % 0xFFFFFF:06x}"[:17],
        }
        for each in objects(server.hidden, "networks")
        if is_past(site, each["at"])
    ]


def status(site: Site, server: Thing) -> str:
    if server.deleted_at is not None:
        return "deleting"
    if "status" in server.body:
        return str(server.body["status"])
    reached = [word for since, word in _timeline(server) if is_past(site, since)]
    return str(reached[-1])


def bill(thing: Thing, now: datetime) -> Decimal:
    """Of servers begun hours count, powered on or not, and a month costs no more than its cap."""
    if thing.kind != NODE:
        return thing.cost(now)
    hours = max(1, ceil((thing.billed_until(now) - thing.created_at) / timedelta(hours=1)))
    months, rest = divmod(hours, 730)
    return thing.prices[-1][1] * (months * catalog.MONTH_HOURS + min(rest, catalog.MONTH_HOURS))


def _timeline(server: Thing) -> list[list[JsonValue]]:
    return [list(entry) for entry in items(server.hidden, "timeline") if isinstance(entry, list)]


def will_be(site: Site, server: Thing, *coming: tuple[float, str]) -> None:
    """What a server's status is from now on: seconds from now, and the word."""
    server.hidden["timeline"] = [[at(site, seconds), word] for seconds, word in coming]


def sold_as(server: Thing) -> catalog.ServerType:
    sold = catalog.type_of(str(server.hidden["type"]))
    assert sold is not None
    return sold


def address_of(server: Thing) -> str:
    """Where SSH reaches it: by its public addresses, else by its private one."""
    networks = objects(server.hidden, "networks")
    ipv6 = f"{server.hidden['ipv6']}1" if server.hidden["ipv6"] else ""
    return str(server.hidden["ipv4"] or ipv6 or (networks[0]["ip"] if networks else ""))


def place_of(server: Thing) -> catalog.Location:
    place = catalog.location_of(str(server.hidden["location"]))
    assert place is not None
    return place
