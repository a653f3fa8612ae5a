"""Vast.ai's SSH keys and volumes. A volume is a part of one machine's disk, and mounted on that machine alone."""

import re
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal

from gpuplan.core.encoding import encode_time
from gpuplan.core.values import JsonValue
from gpuplan.emulators import vast_market as market
from gpuplan.emulators.http import Json, Request, Response, Routes
from gpuplan.emulators.site import Site
from gpuplan.emulators.vast_answers import Refused, amount, done, text, whole
from gpuplan.emulators.vast_market import FIRST_VOLUME_ASK, NODE, Machine
from gpuplan.emulators.world import Thing

KEY, VOLUME = "ssh_key", "volume"
COMPANIONS = Routes()


@COMPANIONS.on("POST", "/api/v0/ssh")
def add_key(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    key = text(request.json(), "ssh_key").strip()
    if not key:
        raise Refused(400, "no_ssh_key", "error 400: no ssh_key")
    id = str(900_000 + len(site.world.ledger))
    thing = site.add(KEY, id, request.account, {"key": key}, name=key.rpartition(" ")[2])
    return done(key={**_key(thing), "public_key": key})


@COMPANIONS.on("GET", "/api/v0/ssh")
def list_keys(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    keys = site.listed(KEY, request.account)
    if not keys:
        return Response(404, {"success": False, "error": "no_keys", "msg": "no keys yet"})
    return Response(200, [{**_key(thing), "key": thing.body["key"]} for thing in keys])


@COMPANIONS.on("DELETE", "/api/v0/ssh/{id}")
def delete_key(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    thing = site.thing(KEY, ids["id"], request.account)
    if thing is None:
        raise Refused(400, "no_ssh_key", "error 400: no such key")
    site.remove(thing)
    return done()


@COMPANIONS.on("POST", "/api/v0/instances/{id}/ssh")
def attach_key(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    thing = site.thing(NODE, ids["id"], request.account)
    if thing is None or thing.login is None:
        raise Refused(404, "no_such_instance", f"error 404: Instance {ids['id']} not found.")
    thing.login = replace(thing.login, keys=(*thing.login.keys, text(request.json(), "ssh_key")))
    return done(msg="SSH key added to instance.")


@COMPANIONS.on("POST", "/api/v0/volumes/search")
def search_volumes(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    query = request.json()
    filters = {name: value for name, value in query.items() if isinstance(value, dict)}
    rows: list[JsonValue] = []
    for number in range(site.count("machines")):
        row = _volume_offer(market.machine_of(number))
        if market.passes(row, filters):
            rows.append(row)
    return Response(200, {"offers": rows[: site.count("most_offers")]})


@COMPANIONS.on("PUT", "/api/v0/volumes")
def create_volume(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    body = request.json()
    number, size = int(amount(body, "id") or 0) - FIRST_VOLUME_ASK, amount(body, "size") or 15
    if not 0 <= number < site.count("machines"):
        raise Refused(404, "no_such_ask", "error 404: no_such_ask Volume offer is not available.")
    name = text(body, "name")
    if name and not re.fullmatch("[A-Za-z0-9_]{1,64}", name):
        raise Refused(400, "invalid_args", "error 400: name may have letters, digits and underscores")
    if size > 400:
        raise Refused(400, "invalid_args", "error 400: size is more than there is")
    id = str(20_000_000 + len(site.world.ledger))
    price = Decimal(str(market.disk_price(size)))
    hidden: Json = {"machine_number": number, "created": encode_time(site.now)}
    shown: Json = {"label": name or None, "disk_space": size}
    # The names of the ledger have dashes where these have underscores.
    site.add(VOLUME, id, request.account, shown, name=name.replace("_", "-"), price=price, hidden=hidden)
    return done(volume_name=f"V.{id}")


@COMPANIONS.on("GET", "/api/v0/volumes")
def list_volumes(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    rows: list[JsonValue] = [_show_volume(site, thing) for thing in site.listed(VOLUME, request.account)]
    return Response(200, {"volumes": rows})


@COMPANIONS.on("DELETE", "/api/v0/volumes")
def delete_volume(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    id = request.one("id") or str(request.json().get("id", ""))
    thing = site.thing(VOLUME, str(whole(id)), request.account)
    if thing is None:
        raise Refused(404, "no_such_volume", f"error 404: no volume {id}")
    if _users(site, thing) or _was_used(site, thing):
        raise Refused(400, "invalid_args", f"error 400: volume {id} is in use")
    site.remove(thing)
    return done()


def account_keys(site: Site, account: str) -> list[str]:
    return [str(thing.body["key"]) for thing in site.things(KEY, account)]


def volumes_of(site: Site, account: str, body: Json, env: JsonValue, machine: Machine) -> list[str]:
    """The volumes an instance mounts, which must be on its machine."""
    named = body.get("volume_info")
    wanted = [str(named.get("volume_id"))] if isinstance(named, dict) and not named.get("create_new") else []
    for name in env if isinstance(env, dict) else {}:
        if found := re.match(r"-v V\.(\d+):/", name):
            wanted.append(found[1])
    for id in wanted:
        thing = site.thing(VOLUME, id, account)
        if thing is None or thing.hidden["machine_number"] != machine.number:
            raise Refused(400, "invalid_args", f"error 400: volume {id} is not on machine {machine.id}")
    return wanted


def _key(thing: Thing) -> Json:
    return {"id": int(thing.id), "user_id": 456, "created_at": encode_time(thing.created_at), "deleted_at": None}


def _volume_offer(machine: Machine) -> Json:
    row = market.described(machine, 1)
    kept = (
        "machine_id",
        "host_id",
        "geolocation",
        "cpu_name",
        "cpu_arch",
        "driver_version",
        "cuda_max_good",
        "inet_up",
        "inet_down",
        "reliability2",
        "verification",
        "verified",
        "disk_name",
        "disk_bw",
        "storage_cost",
    )
    offer = FIRST_VOLUME_ASK + machine.number
    return {
        **{name: row[name] for name in kept},
        "id": offer,
        "ask_contract_id": offer,
        "disk_space": 400.0,
        "duration": 3456000.0,
    }


def _show_volume(site: Site, thing: Thing) -> Json:
    number = thing.hidden["machine_number"]
    assert isinstance(number, int)
    machine, users = market.machine_of(number), _users(site, thing)
    return {
        **thing.body,
        "id": int(thing.id),
        "machine_id": machine.id,
        "public_ipaddr": machine.address,
        "geolocation": machine.place,
        "status": "in-use" if users else "created",
        "instances": [{"id": int(user.id)} for user in users],
        "start_date": thing.created_at.timestamp(),
        "end_date": thing.created_at.timestamp() + 30 * 86400.0,
    }


def _users(site: Site, thing: Thing) -> list[Thing]:
    return [node for node in site.things(NODE, thing.account) if _mounts(node, thing)]


def _was_used(site: Site, thing: Thing) -> bool:
    """By an instance that was deleted only just now."""
    gone = site.world.gone[site.type.name, NODE].values()
    users = [node for node in gone if _mounts(node, thing)]
    lag = site.seconds("volume_seconds")
    return any(node.deleted_at and (site.now - node.deleted_at).total_seconds() < lag for node in users)


def _mounts(node: Thing, volume: Thing) -> bool:
    mounted = node.hidden["volumes"]
    return isinstance(mounted, list) and volume.id in mounted
