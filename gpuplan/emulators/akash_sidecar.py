"""The other way to Akash: a sidecar with a wallet of its own, as clients of InferiaLLM use it.

https://github.com/InferiaAI/InferiaLLM. The chain behind it, which tells everybody everything, is here too.
"""

from collections.abc import Mapping
from typing import Any

from gpuplan.core.values import JsonValue
from gpuplan.emulators import akash_life as life
from gpuplan.emulators.akash_life import NODE
from gpuplan.emulators.akash_market import hosts
from gpuplan.emulators.akash_sdl import BadSdl, read_sdl
from gpuplan.emulators.http import Json, Refusal, Request, Response, Routes
from gpuplan.emulators.site import REFUSED_KEYS, Site
from gpuplan.emulators.world import Thing

KNOBS: Mapping[str, JsonValue] = {"serves_status": True, "close_is_noop": False, "wait_seconds": 20, "wallet": True}
"""`serves_status`: has the two calls that its published form has not. `close_is_noop`: says that it closes, and does
nothing. `wallet`: has one."""
DEPOSIT_USD = 5.0
SIDECAR = Routes()
Ids = Mapping[str, str]


@SIDECAR.on("GET", "/health", is_open=True)
def health(site: Site, request: Request, ids: Ids) -> Response:
    modules: Json = {"akash": "loaded", "nosana": "disabled", "credentials": ["default"]}
    return Response(200, {"status": "ok", "service": "depin-sidecar", "modules": modules, "config_source": "env"})


@SIDECAR.on("POST", "/akash/deployments/create", is_open=True)
def create(site: Site, request: Request, ids: Ids) -> Response:
    """Takes the first bid that comes; where there is none, the deployment stays."""
    account, body = _account(request), request.json()
    if not isinstance(body.get("sdl"), str):
        raise _refused(400, "Missing SDL")
    if not site.knob("wallet"):
        raise _refused(500, "Akash SDK not initialized (check mnemonic)")
    try:
        sdl = read_sdl(str(body["sdl"]))
    except BadSdl as exc:
        raise _refused(500, str(exc)) from exc
    thing = life.start(site, account, sdl, DEPOSIT_USD)
    asks: Any = thing.hidden["asks"]
    if not asks:
        raise _refused(500, "No bids found")
    provider = asks[0]["provider"]
    life.take(site, thing, provider, at_once=True)
    life.tell(site, thing, str(thing.hidden["manifest"]))
    made: Json = {
        "deploymentId": thing.id,
        "leaseId": f"{thing.id}-{provider}",
        "status": "active",
        "txHash": site.digits(64, "0123456789ABCDEF"),
        "exposeUrl": f"http://{provider}.ingress.akash:80",
    }
    return Response(200, made, delay_seconds=site.seconds("wait_seconds") + 2 * site.seconds("tx_seconds"))


@SIDECAR.on("POST", "/akash/deployments/close", is_open=True)
def close(site: Site, request: Request, ids: Ids) -> Response:
    """Success, also for ids that nobody knows."""
    account, id = _account(request), request.json().get("deploymentId")
    if not isinstance(id, str):
        raise _refused(400, "Missing deploymentId")
    thing = site.thing(NODE, id, account)
    if thing is not None and not site.knob("close_is_noop"):
        life.close(site, thing)
    return Response(200, {"success": True})


@SIDECAR.on("GET", "/akash/deployments/status/{id}", is_open=True)
def status(site: Site, request: Request, ids: Ids) -> Response:
    account = _account(request)
    if not site.knob("serves_status"):
        return _not_served(request)
    thing = site.thing(NODE, ids["id"], account)
    if thing is None:
        if site.gone(NODE, ids["id"], account, float("inf")):
            return Response(200, {"state": "closed"})
        raise _refused(404, "Deployment not found")
    state = thing.body.get("state") or ("active" if life.living_lease(thing) else "failed")
    lease = life.lease_of(thing)
    url = f"http://{lease['provider']}.ingress.akash:80" if lease else ""
    return Response(200, {"state": state, "exposeUrl": url})


@SIDECAR.on("GET", "/akash/network/stats", is_open=True)
def stats(site: Site, request: Request, ids: Ids) -> Response:
    _account(request)
    if not site.knob("serves_status"):
        return _not_served(request)
    gpus = sum(sum(host.gpus.values()) for host in hosts().values())
    return Response(200, {"total_providers": len(hosts()), "available_gpus": gpus, "avg_price_per_hour": 1.2})


@SIDECAR.on("GET", "/akash/deployments/{id}/logs", is_open=True)
def logs(site: Site, request: Request, ids: Ids) -> Response:
    _account(request)
    return Response(200, {"logs": ["[SYSTEM] Akash deployment logs", f"Deployment {ids['id']}", "not streamed yet"]})


@SIDECAR.on("GET", "/@chain/akash/deployment/v1beta4/deployments/list", is_open=True)
def chain_list(site: Site, request: Request, ids: Ids) -> Response:
    """The chain itself: it hides nothing from anybody."""
    things = [thing for thing in _all(site) if life.owner_of(thing.account) == request.one("filters.owner")]
    wanted = request.one("filters.state")
    rows = [_on_chain(site, thing) for thing in things]
    kept = [row for row, state in rows if wanted in ("", state)]
    size, skip = int(request.one("pagination.limit") or 100), int(request.one("pagination.key") or 0)
    following = str(skip + size) if skip + size < len(kept) else None
    page: list[JsonValue] = [*kept[skip : skip + size]]
    return Response(200, {"deployments": page, "pagination": {"next_key": following, "total": "0"}})


@SIDECAR.on("GET", "/@chain/akash/deployment/v1beta4/deployments/info", is_open=True)
def chain_info(site: Site, request: Request, ids: Ids) -> Response:
    for thing in _all(site):
        if thing.id == request.one("id.dseq") and life.owner_of(thing.account) == request.one("id.owner"):
            return Response(200, _on_chain(site, thing)[0])
    return Response(404, {"code": 5, "message": "deployment not found", "details": []})


def _all(site: Site) -> list[Thing]:
    name = site.type.name
    return [*site.world.living[name, NODE].values(), *site.world.gone[name, NODE].values()]


def _on_chain(site: Site, thing: Thing) -> tuple[Json, str]:
    """A deployment as the chain tells it, and its state."""
    shown = life.show(site, thing, with_status=False)
    deployment: Any = shown["deployment"]
    number: Json = {**deployment["id"], "gseq": 1}
    group: Json = {"id": number, "state": "open", "group_spec": {"name": thing.hidden["group"]}}
    row: Json = {"deployment": deployment, "groups": [group], "escrow_account": shown["escrow_account"]}
    return row, str(deployment["state"])


def _account(request: Request) -> str:
    """Whose key it came with. Raises Refusal."""
    key = request.headers.get("x-internal-api-key", "") or request.headers.get("x-internal-key", "")
    if not key:
        raise _refused(401, "Missing X-Internal-API-Key header")
    if key.startswith(REFUSED_KEYS):
        raise _refused(403, "Invalid internal API key")
    return key


def _refused(status: int, message: str) -> Refusal:
    return Refusal(Response(status, {"error": message}))


def _not_served(request: Request) -> Response:
    page = f"<html><body><pre>Cannot {request.method} {request.path}</pre></body></html>"
    return Response(404, page)
