"""The rentals beside Lium's own API: three calls, as clients of the shim at api.lium.ai make them.

Nobody has documented them; where clients accept several forms, knobs choose.
"""

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal

from gpuplan.core.gpus import canonical_gpu, gpu_satisfies
from gpuplan.core.values import JsonValue
from gpuplan.emulators.http import Json, Request, Response, Routes
from gpuplan.emulators.lium_answers import Misformed, Refused, moment, text, whole
from gpuplan.emulators.lium_life import end, is_pod
from gpuplan.emulators.lium_market import NODE, RENTALS, Host, Market, in_use
from gpuplan.emulators.site import Site
from gpuplan.emulators.world import Login, Thing

KNOBS: Mapping[str, JsonValue] = {
    "matching_seconds": 20,
    "provisioning_seconds": 60,
    "address_seconds": 10,
    "ending_seconds": 0,
    "remembered_seconds": 3600,
    "shape": "mixed",
    "tells_more": False,
    "fails": "",
}
"""`shape` of answers: `rental` (wrapped in that, with the words rental_id, datacenter, public_ip, and the miner as a
number), `data` (with id, region, ip, and a text), `bare` (as `data`, unwrapped), or `mixed`: the first to a POST, the
second to a GET. `tells_more`: an end, a price, an SSH port too. With `fails` a rental ends so before it is ready."""
RENTALS_ROUTES = Routes()


@RENTALS_ROUTES.on("POST", "/v1/rentals")
def create(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    body = request.json()
    name, gpu = text(body, "name", required=True), text(body, "gpu_type", required=True)
    for field in ("hotkey", "coldkey"):
        text(body, field, required=True)
    if "ssh_pubkey" not in body:
        raise Misformed("ssh_pubkey", "Field required")
    hours, key = whole(body, "duration_hours", 1, 8760), text(body, "ssh_pubkey")
    if hours is None:
        raise Misformed("duration_hours", "Field required")
    if site.seconds("balance") <= 0:
        raise Refused(402, "insufficient_funds", "The wallet is not funded")
    host = _match(site, gpu)
    port = 20000 + 40 * (len(site.world.ledger) % 1000) if site.knob("tells_more") else 22
    hidden: Json = {"api": RENTALS, "host": host.number, "gpus": 1, "hours": hours, "body": request.content.decode()}
    login = Login(site.world.fresh_address(), port, ("root",), (key,))
    shown: Json = {"name": name, "gpu_type": gpu}
    id = f"lium-{9001 + len(site.world.ledger)}"
    price = Decimal(str(Market(site).price(host)))
    rental = site.add(NODE, id, request.account, shown, name=name, price=price, hidden=hidden, login=login)
    return Response(201, show(site, rental, "rental"))


@RENTALS_ROUTES.on("GET", "/v1/rentals/{id}")
def get(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    return Response(200, show(site, _rental(site, request, ids), "data"))


@RENTALS_ROUTES.on("DELETE", "/v1/rentals/{id}")
def delete(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    rental = _rental(site, request, ids)
    if not site.seconds("ending_seconds"):
        end(site, rental)
    else:
        rental.hidden.setdefault("ends_at", site.now.timestamp() + site.seconds("ending_seconds"))
    return Response(204)


def is_forgotten(site: Site, rental: Thing) -> bool:
    """Whether nothing tells any more that it ever was."""
    hours, ends_at = rental.hidden["hours"], rental.hidden.get("ends_at")
    assert isinstance(hours, int)
    is_ended = isinstance(ends_at, float) and site.now.timestamp() >= ends_at
    return is_ended or rental.age(site.now) > hours * 3600 + site.seconds("remembered_seconds")


def status(site: Site, rental: Thing) -> str:
    if "status" in rental.body:
        return str(rental.body["status"])
    age, hours = rental.age(site.now), rental.hidden["hours"]
    assert isinstance(hours, int)
    if "ends_at" in rental.hidden:
        ends_at = rental.hidden["ends_at"]
        assert isinstance(ends_at, float)
        return "ending" if site.now.timestamp() < ends_at else "ended"
    if age >= hours * 3600:
        return "expired"
    if age < site.seconds("matching_seconds"):
        return "matching"
    if age < site.seconds("matching_seconds") + site.seconds("provisioning_seconds"):
        return "provisioning"
    return str(site.knob("fails")) or "active"


def show(site: Site, rental: Thing, told_in: str) -> Json:
    """One of the forms that clients of the shim read."""
    shape, now, host = site.knob("shape"), status(site, rental), in_use(rental)
    login = rental.login
    assert login is not None
    up_at = site.seconds("matching_seconds") + site.seconds("provisioning_seconds") + site.seconds("address_seconds")
    address = login.host if rental.age(site.now) >= up_at and now == "active" else None
    form = told_in if shape == "mixed" else str(shape)
    first = form == "rental"
    region = host.place[2].lower()
    shown: Json = {
        "rental_id" if first else "id": rental.id,
        "datacenter" if first else "region": region,
        "public_ip" if first else "ip": address,
        "private_ip": f"10.20.{host.number // 250}.{host.number % 250 + 1}" if address else None,
        "miner_uid": host.number if first else str(host.number),
        **rental.body,
        "status": now,
    }
    if site.knob("tells_more"):
        hours = rental.hidden["hours"]
        assert isinstance(hours, int)
        ends_at = rental.created_at + timedelta(hours=hours)
        price = float(rental.prices[0][1])
        shown |= {"expires_at": f"{moment(ends_at)}Z", "ssh_port": login.port, "price_per_hour": price}
    return shown if form == "bare" else {form: shown}


def _match(site: Site, gpu: str) -> Host:
    """A miner with such a GPU to spare. Raises Refused."""
    market, wanted = Market(site), canonical_gpu(gpu) or gpu
    for host in market.hosts():
        is_fit = host.model.gpu == wanted or gpu_satisfies(host.model.gpu, wanted)
        if is_fit and market.free(host) and host.least and site.take(host.model.gpu, host.country):
            return host
    raise Refused(409, "no_miner", f"no miner available for {gpu}")


def _rental(site: Site, request: Request, ids: Mapping[str, str]) -> Thing:
    rental = site.thing(NODE, ids["id"], request.account)
    if rental is None or is_pod(rental):
        raise Refused(404, "not_found", "rental not found")
    return rental
