"""Vast.ai API: search, instances, users. https://docs.vast.ai/api-reference

Offers are in `vast_market`, SSH keys and volumes in `vast_companions`, what an instance shows in `vast_instances`.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from gpuplan.core.encoding import encode_time
from gpuplan.core.values import JsonValue
from gpuplan.emulators import vast_market as market
from gpuplan.emulators.http import Json, Refusal, Request, Response, Routes
from gpuplan.emulators.site import EmulatorType, Site
from gpuplan.emulators.vast_answers import Refused, amount, done, error, json_parameter, page, text, whole
from gpuplan.emulators.vast_companions import COMPANIONS, account_keys, volumes_of
from gpuplan.emulators.vast_instances import (
    actual_status,
    authorized_keys,
    bill,
    halt,
    let_go,
    run,
    show,
    take_gpus,
)
from gpuplan.emulators.vast_market import NODE
from gpuplan.emulators.world import Login, Thing

KNOBS: Mapping[str, JsonValue] = {
    "machines": 480,
    "most_offers": 64,
    "most_per_page": 25,
    "allocate_seconds": 5,
    "load_seconds": 40,
    "stop_seconds": 5,
    "hidden_seconds": 2,
    "log_seconds": 1,
    "volume_seconds": 30,
    "instance_limit": 20000,
    "credit": True,
    "low_bid_creates": True,
    "unpullable": "no-such-image",
    "create_threshold": 4.5,
}
"""`hidden_seconds`: for so long a new instance is null. `low_bid_creates`: a bid that is too low is refused, and leaves
a stopped instance behind. Images whose name has `unpullable` in it cannot be pulled."""
THRESHOLDS: Mapping[tuple[str, str], float] = {
    ("GET", "/api/v0/instances/{id}"): 2.0,
    ("GET", "/api/v1/instances"): 1.0,
    ("PUT", "/api/v0/instances/{id}"): 1.0,
    ("DELETE", "/api/v0/instances/{id}"): 3.0,
    ("PUT", "/api/v0/volumes"): 5.5,
    ("DELETE", "/api/v0/volumes"): 5.5,
    ("GET", "/api/v0/ssh"): 1.0,
    ("POST", "/api/v0/ssh"): 1.0,
    ("DELETE", "/api/v0/ssh/{id}"): 1.0,
}
"""Seconds between two calls of one account."""
CREATE = "/api/v0/asks/{id}"
STATES = ("running", "stopped")
ROUTES = Routes()


@ROUTES.on("GET", "/api/v0/users/current")
def user(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    number = int(hashlib.sha256(request.account.encode()).hexdigest()[:7], 16)
    email = f"user{number}@example.com"
    body: Json = {"id": number, "email": email, "username": f"user{number}", "credit": 100.0, "balance": 0.0}
    return Response(200, {**body, "ssh_key": "", "sid": "s"})


@ROUTES.on("GET", "/api/v0/gpu_names/unique", is_open=True)
def gpu_names(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    return Response(200, {"gpu_names": sorted({model.name for model in market.MODELS})})


@ROUTES.on("POST", "/api/v0/bundles")
def search(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    return Response(200, {"offers": market.search(site, request.json())})


@ROUTES.on("PUT", "/api/v0/search/asks")
def search_as_before(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    query = request.json().get("q")
    return Response(200, {"offers": market.search(site, query if isinstance(query, dict) else {})})


@ROUTES.on("PUT", CREATE)
def create(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    id, body = whole(ids["id"]), request.json()
    image, onstart, label = text(body, "image"), text(body, "onstart"), text(body, "label")
    disk, bid = amount(body, "disk") or 8.0, amount(body, "price")
    env = body.get("env") or {}
    _check(id, body, image, onstart, label, bid)
    if not site.knob("credit"):
        raise Refused(400, "insufficient_credit", "error 400/3467: Your account lacks credit", ask_id=id)
    if len(site.things(NODE, request.account)) >= site.count("instance_limit"):
        raise Refused(400, "insufficient_credit", "error 400/3467: Your balance allows no more instances", ask_id=id)
    if market.FIRST_ASK > id:
        raise Refused(404, "invalid_args", f"error 404/3603: no_such_ask Instance type by id {id} is not available.")
    ask = market.Market(site).find(id)
    if ask is None:
        raise Refused(410, "no_such_ask", f"error 410/3907: no_such_ask Instance type {id} is no longer available.")
    volumes = volumes_of(site, request.account, body, env, ask.machine)
    if not site.take(ask.machine.model.gpu, ask.machine.country):
        raise Refused(410, "no_such_ask", f"error 410/3907: no_such_ask Instance type {id} is no longer available.")
    on_demand, lowest = market.prices(site, ask)
    rate = on_demand if bid is None else bid
    shown: Json = {
        "label": label or None,
        "image_uuid": image or "vastai/base-image:@vastai-automatic-tag",
        "image_runtype": text(body, "runtype") or ("args" if body.get("args") else "ssh"),
        "image_args": body.get("args") or [],
        "extra_env": [[name, str(value)] for name, value in env.items()] if isinstance(env, dict) else [],
        "onstart": onstart or None,
        "is_bid": bid is not None,
        "disk_space": disk,
        "template_id": None,
        "template_hash_id": text(body, "template_hash_id") or None,
        "template_name": None,
    }
    hidden: Json = {
        "machine": ask.machine.number,
        "size": ask.size,
        "intended": "running",
        "since": encode_time(site.now),
        "fresh": True,
        "holds": True,
        "rate": rate,
        "runs": [],
        "volumes": list[JsonValue](volumes),
        "port": 40000 + 64 * (id % 300),
        "jupyter": site.digits(32),
    }
    keys = (*account_keys(site, request.account), *authorized_keys(onstart))
    number = str(30_000_000 + len(site.world.ledger))
    login = Login(ask.machine.address, 40000 + 64 * (id % 300), ("root",), tuple(keys))
    thing = site.add(NODE, number, request.account, shown, name=label, hidden=hidden, login=login)
    run(site, thing)
    if bid is not None and bid < lowest:
        halt(site, thing, "stopped")
        if site.knob("low_bid_creates"):
            raise Refused(400, "invalid_price", f"error 400: the bid is below {lowest}", new_contract=int(number))
        site.remove(thing)
        raise Refused(400, "invalid_price", f"error 400: the bid is below {lowest}")
    if body.get("target_state") == "stopped":
        thing.hidden["intended"] = "stopped"
    return done(new_contract=int(number), instance_api_key=site.digits(64))


@ROUTES.on("GET", "/api/v0/instances/{id}")
def get(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    thing = site.thing(NODE, ids["id"], request.account)
    is_visible = thing is not None and thing.age(site.now) >= site.seconds("hidden_seconds")
    return Response(200, {"instances": show(site, thing) if thing is not None and is_visible else None})


@ROUTES.on("GET", "/api/v1/instances")
def list_all(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    filters = json_parameter(request, "select_filters")
    filters = filters if isinstance(filters, dict) else {}
    if computed := sorted({"dph_total", "num_gpus"} & filters.keys()):
        raise Refused(400, "invalid_request", f"error 400: {computed[0]} cannot be filtered")
    things = site.listed(NODE, request.account)
    if filters:
        stored = {thing.id: {**show(site, thing), "id": None} for thing in things}
        wanted = filters.pop("id", None)
        things = [thing for thing in things if market.passes(stored[thing.id], filters)]
        things = [t for t in things if wanted is None or market.passes({"number": int(t.id)}, {"number": wanted})]
    found, following = page(site, request, things, lambda thing: int(thing.id))
    labels: dict[str, JsonValue] = {}
    for thing in things:
        labels[str(thing.body["label"])] = 1
    rows: list[JsonValue] = [{**show(site, thing), "volume_info": []} for thing in found]
    counts: Json = {"instances_found": len(rows), "total_instances": len(things), "label_counts": labels}
    return done(**counts, instances=rows, next_token=following)


@ROUTES.on("PUT", "/api/v0/instances/{id}")
def change(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    thing, body = _instance(site, request, ids), request.json()
    state, label = text(body, "state"), body.get("label")
    if state and state not in STATES:
        raise Refused(400, "invalid_args", f"error 400: state {state}")
    if isinstance(label, str):
        if len(label) > 1024:
            raise Refused(400, "invalid_args", "error 400: label is too long")
        thing.body["label"] = label
        site.rename(thing, label)
    if state and state != thing.hidden["intended"]:
        thing.hidden |= {"intended": state, "since": encode_time(site.now)}
        if state == "stopped" and not thing.hidden["holds"]:
            thing.hidden["halted"] = "stopped"
        elif state == "stopped":
            let_go(site, thing)
        elif not take_gpus(site, thing):
            return done(msg="Required resources are currently unavailable, state change queued.")
    return done()


@ROUTES.on("PUT", "/api/v0/instances/reboot/{id}")
@ROUTES.on("PUT", "/api/v0/instances/recycle/{id}")
def reboot(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    thing = _instance(site, request, ids)
    thing.hidden["since"] = encode_time(site.now)
    if not thing.hidden["holds"]:
        take_gpus(site, thing)
    return done()


@ROUTES.on("PUT", "/api/v0/instances/bid_price/{id}")
def bid(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    thing = _instance(site, request, ids)
    price = amount(request.json(), "price")
    if price is None or not thing.body["is_bid"]:
        raise Refused(400, "invalid_price", "error 400: no bid")
    thing.hidden["rate"] = price
    return done()


@ROUTES.on("DELETE", "/api/v0/instances/{id}")
def delete(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    thing = _instance(site, request, ids)
    let_go(site, thing)
    site.remove(thing)
    return done()


@ROUTES.on("PUT", "/api/v0/instances/request_logs/{id}")
def request_logs(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    thing = _instance(site, request, ids)
    tail, host = text(request.json(), "tail"), request.headers.get("host", "emulator.invalid")
    lines = ["Starting container", f"image {thing.body['image_uuid']}", str(show(site, thing)["status_msg"]), "ready"]
    kept = lines[-int(tail) :] if tail.isdigit() and int(tail) else lines
    hash = site.digits(32)
    # The log is written by the machine, some time after it was asked for.
    written = site.now.timestamp() + site.seconds("log_seconds")
    thing.hidden["logs"] = {hash: {"at": written, "text": "\n".join(kept) + "\n"}}
    return done(result_url=f"http://{host}/vast/logs/{thing.id}/{hash}.log", msg="Logs requested")


@ROUTES.on("GET", "/logs/{id}/{file}", is_open=True)
def read_logs(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    """The store the logs are uploaded to, where the link is all one needs."""
    thing = site.world.living[site.type.name, NODE].get(ids["id"])
    logs: Any = thing.hidden.get("logs", {}) if thing else {}
    log = logs.get(ids["file"].removesuffix(".log"))
    if log is None or log["at"] > site.now.timestamp():
        return Response(403, "<Error><Code>AccessDenied</Code></Error>")
    return Response(200, str(log["text"]))


def _instance(site: Site, request: Request, ids: Mapping[str, str]) -> Thing:
    thing = site.thing(NODE, str(whole(ids["id"])), request.account)
    if thing is None:
        raise Refused(404, "no_such_instance", f"error 404: Instance {ids['id']} not found.")
    return thing


def _check(id: int, body: Json, image: str, onstart: str, label: str, bid: float | None) -> None:
    """What makes a request one that can never be carried out."""
    problems = {
        "image is required": not image and not text(body, "template_hash_id"),
        "label is too long": len(label) > 256,
        "onstart is too long": len(onstart) > 4048,
        "price must be between 0.001 and 128": bid is not None and not 0.001 <= bid <= 128,
    }
    for problem, holds in problems.items():
        if holds:
            code = "invalid_price" if "price" in problem else "invalid_args"
            raise Refused(400, code, f"error 400/3467: {problem}", ask_id=id)


def preempt(site: Site, thing: Thing) -> None:
    """Outbid; a contract that is not for bids ends."""
    if not thing.body["is_bid"]:
        thing.hidden["intended"] = "stopped"
    halt(site, thing, "stopped")


def _threshold(site: Site, request: Request) -> None:
    found = ROUTES.merged(COMPANIONS).find(request.method, request.path)
    if found is None or site.world.knobs[site.type.name].get("rate_limited") is False:
        return
    where = (request.method, found[0].template)
    seconds = site.seconds("create_threshold") if found[0].template == CREATE else THRESHOLDS.get(where, 0.0)
    now = site.world.time.monotonic()
    recent = site.world.recent[site.type.name, f"{request.bearer} {' '.join(where)}"]
    # One who keeps to the pace may still come a little early.
    if recent and seconds and now < recent[-1] + seconds * 0.9:
        words = f"API requests too frequent endpoint threshold={seconds:g}"
        raise Refusal(Response(429, {"detail": words}))
    recent[:] = [now]


EMULATOR = EmulatorType(
    name="vast",
    title="Vast.ai API",
    routes=ROUTES.merged(COMPANIONS),
    error=error,
    key=lambda request: request.bearer,
    knobs=KNOBS,
    status=lambda site, thing: (actual_status(site, thing) or "scheduling") if thing.kind == NODE else "created",
    bill=bill,
    is_up=lambda site, thing: actual_status(site, thing) == "running",
    stop=lambda site, thing: halt(site, thing, "stopped"),
    break_down=lambda site, thing: halt(site, thing, "exited"),
    preempt=preempt,
    gate=_threshold,
)
