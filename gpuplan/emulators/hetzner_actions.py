"""Hetzner's actions: everything that takes its time has one, and while one runs its object is locked.

An action is kept with the object it is about, and its id tells which that is.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

from gpuplan.core.encoding import decode_time, encode_time
from gpuplan.core.values import JsonValue
from gpuplan.emulators.hetzner_answers import missing, page, unfit
from gpuplan.emulators.http import Json, Request, Response, Routes
from gpuplan.emulators.site import Site
from gpuplan.emulators.world import Thing

NODE, KEY, VOLUME, NETWORK, FIREWALL, GROUP = "node", "ssh_key", "volume", "network", "firewall", "placement_group"
COLLECTIONS: Mapping[str, str] = {NODE: "servers", VOLUME: "volumes", NETWORK: "networks", FIREWALL: "firewalls"}
"""Of the kinds that have actions."""
RESOURCES: Mapping[str, str] = {NODE: "server", VOLUME: "volume", NETWORK: "network", FIREWALL: "firewall"}
PER_OBJECT = 10_000
ACTIONS = Routes()


def begin(site: Site, thing: Thing, command: str, seconds: float, *, code: str = "", text: str = "") -> Json:
    """Start an action; with a `code` it will fail. What it does is the caller's."""
    kept = _kept(thing)
    action: Json = {
        "id": int(thing.id) * PER_OBJECT + len(kept) + 1,
        "command": command,
        "started": encode_time(site.now),
        "ends": encode_time(site.now + timedelta(seconds=seconds)),
        "error": {"code": code, "message": text} if code else None,
    }
    thing.hidden["actions"] = [*kept, action]
    return show_action(site, thing, action)


def is_locked(site: Site, thing: Thing) -> bool:
    return any(site.now < decode_time(str(action["ends"])) for action in _kept(thing))


def show_action(site: Site, thing: Thing, action: Json) -> Json:
    started, ends = decode_time(str(action["started"])), decode_time(str(action["ends"]))
    is_over = site.now >= ends
    share = 1.0 if ends <= started else (site.now - started) / (ends - started)
    status = "running" if not is_over else "error" if action["error"] else "success"
    return {
        "id": action["id"],
        "command": action["command"],
        "status": status,
        "progress": 100 if is_over else int(share * 100),
        "started": action["started"],
        "finished": action["ends"] if is_over else None,
        "resources": [{"id": int(thing.id), "type": RESOURCES[thing.kind]}],
        "error": action["error"] if is_over else None,
    }


@ACTIONS.on("GET", "/v1/actions")
def named_actions(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    """There is no listing of all: ids have to be named."""
    if not request.query.get("id"):
        raise unfit("id", "is required")
    return _page(
        site, request, [a for id in request.query["id"] if (a := _find(site, request.account, id)) is not None]
    )


@ACTIONS.on("GET", "/v1/actions/{id}")
def one_action(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    action = _find(site, request.account, ids["id"])
    if action is None:
        raise missing("action", ids["id"])
    return Response(200, {"action": action})


def _offer_actions(kind: str, collection: str) -> None:
    """The calls about actions that each of these collections has; they go before those about its objects."""

    @ACTIONS.on("GET", f"/v1/{collection}/actions")
    def all_actions(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
        return _page(site, request, _all(site, request.account, kind))

    @ACTIONS.on("GET", f"/v1/{collection}/actions/{{id}}")
    def one_of_all(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
        return one_action(site, request, ids)

    @ACTIONS.on("GET", f"/v1/{collection}/{{thing}}/actions")
    def actions_of(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
        thing = site.thing(kind, ids["thing"], request.account)
        if thing is None:
            raise missing(RESOURCES[kind], ids["thing"])
        return _page(site, request, [show_action(site, thing, action) for action in _kept(thing)])

    @ACTIONS.on("GET", f"/v1/{collection}/{{thing}}/actions/{{id}}")
    def action_of(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
        return one_action(site, request, ids)


for _kind, _collection in COLLECTIONS.items():
    _offer_actions(_kind, _collection)


def _page(site: Site, request: Request, actions: Sequence[Json]) -> Response:
    wanted = request.query.get("status", ())
    found = [action for action in actions if not wanted or action["status"] in wanted]
    for order in reversed(request.query.get("sort", ())):
        key, _, direction = order.partition(":")
        if key not in ("id", "command", "status", "started", "finished", "progress"):
            raise unfit("sort", f"'{order}' is not allowed")
        found.sort(key=_by(key), reverse=direction == "desc")
    return page(site, request, "actions", found, dict)


def _by(key: str) -> Callable[[Json], tuple[int, str]]:
    def order(action: Json) -> tuple[int, str]:
        value = action[key]
        return (value, "") if isinstance(value, int) else (0, str(value))

    return order


def _find(site: Site, account: str, id: str) -> Json | None:
    if not id.isdigit():
        return None
    owner, at = divmod(int(id), PER_OBJECT)
    for kind in COLLECTIONS:
        thing = site.world.living[site.type.name, kind].get(str(owner)) or site.world.gone[site.type.name, kind].get(
            str(owner)
        )
        if thing is not None and thing.account == account and 0 < at <= len(kept := _kept(thing)):
            return show_action(site, thing, kept[at - 1])
    return None


def _all(site: Site, account: str, kind: str) -> list[Json]:
    ever = [*site.things(kind, account), *site.world.gone[site.type.name, kind].values()]
    mine = [thing for thing in ever if thing.account == account]
    return [show_action(site, thing, action) for thing in mine for action in _kept(thing)]


def _kept(thing: Thing) -> list[Json]:
    actions = thing.hidden.get("actions")
    return [dict(action) for action in actions if isinstance(action, Mapping)] if isinstance(actions, list) else []


def at(site: Site, seconds: float) -> JsonValue:
    """A moment from now, as it is kept."""
    return encode_time(site.now + timedelta(seconds=seconds))


def is_past(site: Site, moment: JsonValue) -> bool:
    return decode_time(str(moment)) <= site.now
