"""Akash by the API of its Console: deployments, bids, leases. https://akash.network/docs/api-documentation/console-api

What a deployment is at a time is in `akash_life`, the providers in `akash_market`, SDLs and manifests in `akash_sdl`,
logs and events in `akash_proxy`, the other way to Akash in `akash_sidecar`.
"""

from collections.abc import Mapping
from typing import Any

from gpuplan.core.values import JsonValue
from gpuplan.emulators import akash_life as life
from gpuplan.emulators.akash_answers import Misformed, Refused, error, inner, text, wrapped
from gpuplan.emulators.akash_life import NODE, owner_of
from gpuplan.emulators.akash_market import MARKET
from gpuplan.emulators.akash_proxy import PROXY
from gpuplan.emulators.akash_sdl import BadSdl, Tree, hash_of, manifest_of, read_sdl
from gpuplan.emulators.akash_sidecar import KNOBS as SIDECAR_KNOBS
from gpuplan.emulators.akash_sidecar import SIDECAR
from gpuplan.emulators.http import Json, Request, Response, Routes
from gpuplan.emulators.site import EmulatorType, Site
from gpuplan.emulators.world import Thing

KNOBS: Mapping[str, JsonValue] = {
    "tx_seconds": 6,
    "bid_seconds": 15,
    "bid_gap_seconds": 2,
    "bidders": 100,
    "pull_seconds": 60,
    "address_seconds": 10,
    "balance": 1000.0,
    "page_size": 1000,
    "scale": 1,
    "offline": [],
    "silent": False,
    "trial": False,
    "mispairs": True,
    "unpullable": "no-such-image",
    **SIDECAR_KNOBS,
}
"""`bidders`: no more than so many bid. `scale`: so many times the GPUs. `offline`: numbers of providers. `silent`: no
provider answers the Console. `trial`: the account is one on trial. `mispairs`: a listing attaches leases to wrong
deployments."""
LEAST_DEPOSIT = 0.5
ROUTES = Routes()
Ids = Mapping[str, str]


@ROUTES.on("GET", "/v1/user/me")
def me(site: Site, request: Request, ids: Ids) -> Response:
    number = owner_of(request.account)[6:18]
    unknown = ("stripeCustomerId", "bio", "youtubeUsername", "twitterUsername", "githubUsername")
    user: Json = {"id": f"user-{number}", "userId": f"auth0|{number}", "username": "ana", "email": "ana@example.com"}
    return wrapped({**user, "emailVerified": True, "subscribedToNewsletter": False, **dict.fromkeys(unknown)})


@ROUTES.on("GET", "/v1/balances")
def balances(site: Site, request: Request, ids: Ids) -> Response:
    locked = sum(_usd(thing) for thing in site.things(NODE, request.account))
    free = max(0.0, site.seconds("balance") - locked)
    amounts = {"balance": free, "deployments": locked, "total": free + locked}
    return wrapped({name: round(amount * 1_000_000) for name, amount in amounts.items()})


@ROUTES.on("POST", "/v1/deployments")
def create(site: Site, request: Request, ids: Ids) -> Response:
    data = inner(request.json())
    sdl, deposit = _sdl(data), data.get("deposit")
    if isinstance(deposit, bool) or not isinstance(deposit, (int, float)):
        raise Refused(400, "deposit is required")
    if deposit < LEAST_DEPOSIT:
        raise Refused(400, "Failed to create deployment: Deposit too low")
    if site.knob("trial"):
        _try_out(site, request.account, sdl)
    _pay(site, request.account, deposit)
    thing = life.start(site, request.account, sdl, deposit)
    signed: Json = {"code": 0, "transactionHash": site.digits(64, "0123456789ABCDEF"), "rawLog": ""}
    made: Json = {"dseq": thing.id, "manifest": thing.hidden["manifest"], "signTx": signed}
    return wrapped(made, 201, site.seconds("tx_seconds"))


@ROUTES.on("GET", "/v1/deployments")
def list_deployments(site: Site, request: Request, ids: Ids) -> Response:
    """Active ones alone; which lease belongs to which, it gets wrong."""
    things = site.listed(NODE, request.account)
    skip, limit = _count(request, "skip", 0, 0), min(_count(request, "limit", 1000, 1), site.count("page_size"))
    rows: list[Any] = [life.show(site, thing, with_status=False) for thing in things[skip : skip + limit]]
    if site.knob("mispairs") and len(rows) > 1:
        leases = [row["leases"] for row in rows]
        for row, others in zip(rows, [*leases[1:], leases[0]], strict=True):
            row["leases"] = others
    is_paged = bool(request.one("skip") and request.one("limit"))
    more = is_paged and skip + limit < len(things)
    pages: Json = {"total": len(things), "skip": skip, "limit": limit, "hasMore": more}
    return wrapped({"deployments": rows, "pagination": pages})


@ROUTES.on("GET", "/v1/deployments/{dseq}")
def get(site: Site, request: Request, ids: Ids) -> Response:
    """Of a closed one too."""
    return _detail(site, _known(site, request.account, ids["dseq"]))


@ROUTES.on("PUT", "/v1/deployments/{dseq}")
def update(site: Site, request: Request, ids: Ids) -> Response:
    thing, sdl = _living(site, request.account, ids["dseq"]), _sdl(inner(request.json()))
    manifest = manifest_of(sdl)
    before: Any = thing.hidden["sdl"]
    if _fixed(before) != _fixed(sdl):
        raise Refused(400, "Invalid SDL: groups of a deployment cannot change")
    changed = hash_of(manifest) != hash_of(str(thing.hidden["manifest"]))
    thing.hidden |= {"manifest": manifest, "sdl": sdl}
    if life.living_lease(thing) is not None:
        life.tell(site, thing, manifest)
    return _detail(site, thing, site.seconds("tx_seconds") if changed else 0)


@ROUTES.on("DELETE", "/v1/deployments/{dseq}")
def delete(site: Site, request: Request, ids: Ids) -> Response:
    thing = _known(site, request.account, ids["dseq"])
    if thing.deleted_at is not None:
        return wrapped({"success": True})
    life.close(site, thing)
    return wrapped({"success": True}, seconds=site.seconds("tx_seconds"))


@ROUTES.on("GET", "/v1/bids")
def list_bids(site: Site, request: Request, ids: Ids) -> Response:
    return _bids(site, request, request.one("dseq"))


@ROUTES.on("GET", "/v1/bids/{dseq}")
def bids_of(site: Site, request: Request, ids: Ids) -> Response:
    return _bids(site, request, ids["dseq"])


@ROUTES.on("POST", "/v1/leases")
def create_leases(site: Site, request: Request, ids: Ids) -> Response:
    """A lease that is there already is not made again; its provider is told once more what to run."""
    body: Any = request.json()
    manifest = text(body, "manifest")
    orders = body.get("leases")
    if not isinstance(orders, list) or not orders:
        raise Misformed("leases", "Required")
    order = orders[0]
    thing = _living(site, request.account, order["dseq"])
    lease, taken = life.living_lease(thing), False
    if lease is None and life.lease_of(thing) is None:
        life.take(site, thing, order["provider"])
        taken = True
    elif lease is None or lease["provider"] != order["provider"]:
        message = "Cannot create lease: The associated order has already been matched or closed."
        raise Refused(400, message)
    life.tell(site, thing, manifest)
    return _detail(site, thing, 2 * site.seconds("tx_seconds") if taken else 1)


@ROUTES.on("POST", "/v1/deposit-deployment")
def deposit(site: Site, request: Request, ids: Ids) -> Response:
    data = inner(request.json())
    thing, usd = _living(site, request.account, text(data, "dseq")), data.get("deposit")
    if isinstance(usd, bool) or not isinstance(usd, (int, float)) or usd < LEAST_DEPOSIT:
        raise Refused(400, "Deposit too low")
    _pay(site, request.account, usd)
    life.settle(site, thing)
    for name, more in (("funds", usd * 1_000_000), ("usd", usd)):
        before = thing.hidden[name]
        assert isinstance(before, (int, float))
        thing.hidden[name] = before + more
    return _detail(site, thing, site.seconds("tx_seconds"))


@ROUTES.on("POST", "/v1/create-jwt-token")
def create_token(site: Site, request: Request, ids: Ids) -> Response:
    ttl = inner(request.json()).get("ttl")
    if not isinstance(ttl, int) or ttl <= 0:
        raise Misformed("ttl", "Number must be greater than 0")
    # Whoever shows it is known by it.
    return wrapped({"token": f"eyJ.{request.account}.{site.digits(16)}"}, 201)


@ROUTES.on("GET", "/v1/deployment/{owner}/{dseq}", is_open=True)
def public(site: Site, request: Request, ids: Ids) -> Response:
    """What everybody may see."""
    name = site.type.name
    thing = site.world.living[name, NODE].get(ids["dseq"]) or site.world.gone[name, NODE].get(ids["dseq"])
    if thing is None or owner_of(thing.account) != ids["owner"]:
        return Response(404, {"message": "Deployment not found"})
    shown: Any = life.show(site, thing, with_status=False)
    state = shown["deployment"]["state"]
    number: Json = {"owner": ids["owner"], "dseq": thing.id, "gseq": 1}
    spec: Json = {
        "name": thing.hidden["group"],
        "requirements": {"signed_by": {"all_of": [], "any_of": []}, "attributes": []},
        "resources": [],
    }
    group: Json = {"id": number, "state": "open" if state == "active" else "closed", "group_spec": spec}
    return Response(
        200,
        {
            "owner": ids["owner"],
            "dseq": thing.id,
            "balance": 0,
            "denom": "uact",
            "status": state,
            "totalMonthlyCostUDenom": 0,
            "leases": [],
            "events": [],
            "other": {
                "deployment": shown["deployment"],
                "groups": [{**group, "created_at": shown["deployment"]["created_at"]}],
                "escrow_account": shown["escrow_account"],
            },
        },
    )


def _bids(site: Site, request: Request, dseq: str) -> Response:
    thing = _known(site, request.account, dseq)
    rows: list[JsonValue] = []
    for bid in life.bids(site, thing):
        number: Json = {"owner": owner_of(thing.account), "dseq": thing.id, "gseq": 1, "oseq": 1, "bseq": 0}
        amount: Json = {"denom": "uact", "amount": "500000"}
        provider = bid["provider"]
        account: Json = {
            "owner": provider,
            "state": "open" if bid["state"] in ("open", "active") else "closed",
            "transferred": [],
            "settled_at": str(bid["height"]),
            "funds": [amount],
            "deposits": [{"owner": provider, "height": str(bid["height"]), "source": "balance", "balance": amount}],
        }
        row: Json = {
            "id": {**number, "provider": provider},
            "state": bid["state"],
            "price": {"denom": "uact", "amount": f"{bid['price']:.18f}"},
            "created_at": str(bid["height"]),
            "resources_offer": [],
        }
        where = f"{number['owner']}/{thing.id}/1/1/{provider}"
        rows.append({"bid": row, "escrow_account": {"id": {"scope": "bid", "xid": where}, "state": account}})
    return wrapped(rows)


def _detail(site: Site, thing: Thing, seconds: float = 0) -> Response:
    return wrapped(life.show(site, thing, with_status=True), seconds=seconds)


def _known(site: Site, account: str, dseq: str) -> Thing:
    """Of those that are closed too. Raises Refused."""
    thing = site.thing(NODE, dseq, account) or site.gone(NODE, dseq, account, float("inf"))
    if thing is None:
        raise Refused(404, "Deployment not found")
    return thing


def _living(site: Site, account: str, dseq: str) -> Thing:
    thing = _known(site, account, dseq)
    if thing.deleted_at is not None:
        raise Refused(400, "Deployment closed")
    return thing


def _sdl(data: Json) -> Tree:
    try:
        return read_sdl(text(data, "sdl"))
    except BadSdl as exc:
        raise Refused(400, str(exc)) from exc


def _fixed(sdl: Tree) -> tuple[JsonValue, ...]:
    """What a group has that cannot change: names, resources, endpoints."""
    doors = [(item["port"], item.get("as")) for service in sdl["services"].values() for item in service["expose"]]
    return (list(sdl["profiles"]["placement"]), sdl["profiles"]["compute"], str(sorted(doors, key=str)))


def _pay(site: Site, account: str, usd: float) -> None:
    """Raises Refused."""
    if usd > site.seconds("balance") - sum(_usd(thing) for thing in site.things(NODE, account)):
        raise Refused(402, "Not enough balance to cover the deployment deposit. Please add funds.")


def _try_out(site: Site, account: str, sdl: Tree) -> None:
    """What is not for those who have not paid yet. Raises Refused."""
    if "h100" in str(sdl["profiles"]["compute"]):
        raise Refused(403, "GPU h100 is not available on trial accounts")
    for thing in site.things(NODE, account):
        if life.lease_of(thing) is None:
            life.close(site, thing)


def _usd(thing: Thing) -> float:
    value = thing.hidden["usd"]
    assert isinstance(value, (int, float))
    return value


def _count(request: Request, name: str, default: int, least: int) -> int:
    value = request.one(name)
    if value and (not value.isdigit() or int(value) < least):
        raise Misformed(name, "Invalid number")
    return int(value) if value else default


def _gate(site: Site, request: Request) -> None:
    if request.headers.get("x-api-key") and request.headers.get("authorization"):
        raise Refused(400, "Send either an API key or a token")
    for thing in site.things(NODE, _key(request)):
        life.pass_time(site, thing)


def _key(request: Request) -> str:
    return request.headers.get("x-api-key", "") or request.headers.get("x-internal-api-key", "") or request.bearer


def _preempt(site: Site, thing: Thing) -> None:
    life.end_lease(site, thing, "lease_closed_reason_decommission")


def _break_down(site: Site, thing: Thing) -> None:
    life.end_lease(site, thing, "lease_closed_reason_unstable")


EMULATOR = EmulatorType(
    name="akash",
    title="Akash Console API, and a sidecar beside it",
    routes=ROUTES.merged(MARKET, PROXY, SIDECAR),
    error=error,
    key=_key,
    knobs=KNOBS,
    status=life.state_of,
    is_up=life.is_up,
    break_down=_break_down,
    preempt=_preempt,
    gate=_gate,
)
