"""An emulated deployment of Akash through its life: bids, lease, container, escrow, and how it looks at a time."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from gpuplan.core.encoding import decode_time, encode_time
from gpuplan.core.values import JsonValue
from gpuplan.emulators.akash_answers import Refused, height
from gpuplan.emulators.akash_market import Ask, Market, address_of, hosts, model_of, order_of
from gpuplan.emulators.akash_sdl import Tree, hash_of, manifest_of
from gpuplan.emulators.http import Json
from gpuplan.emulators.site import Site
from gpuplan.emulators.world import Login, Thing

NODE = "node"
WITHDRAWN_SECONDS, ORPHAN_SECONDS, MANIFEST_SECONDS, GRACE_SECONDS = 300, 600, 300, 600
"""How long a bid waits, a deployment without a lease, a provider for a manifest, and an empty lease to be closed."""
FIRST_PORT = 30000


def owner_of(account: str) -> str:
    return address_of(f"wallet {account}")


def start(site: Site, account: str, sdl: Tree, usd: float) -> Thing:
    """A new deployment, with whoever will bid for it."""
    dseq = str(int(site.now.timestamp() * 1000))
    if site.thing(NODE, dseq, account) or site.gone(NODE, dseq, account, float("inf")):
        raise Refused(400, "Failed to create deployment: Deployment with provided dseq and owner already exists")
    manifest, group, order = manifest_of(sdl), next(iter(sdl["profiles"]["placement"])), order_of(sdl)
    asks = list(Market(site).asks(order))[: site.count("bidders")]
    site.world.random.shuffle(asks)
    hidden: Json = {
        "sdl": sdl,
        "group": group,
        "manifest": manifest,
        "usd": usd,
        "funds": usd * 1_000_000,
        "settled": height(site.now),
        "transferred": 0.0,
        "asks": [_kept(ask, order.gpus) for ask in asks],
        "leases": [],
    }
    return site.add(NODE, dseq, account, {}, name=group, hidden=hidden)


def lease_of(thing: Thing) -> dict[str, Any] | None:
    """The last lease."""
    leases: Any = thing.hidden["leases"]
    return leases[-1] if leases else None


def living_lease(thing: Thing) -> dict[str, Any] | None:
    lease = lease_of(thing)
    return lease if lease is not None and lease["state"] in ("active", "reclaiming") else None


def bids(site: Site, thing: Thing) -> list[dict[str, Any]]:
    """Those that have come in by now. A bid that nobody takes is withdrawn."""
    asks: Any = thing.hidden["asks"]
    lease, age, rows = lease_of(thing), thing.age(site.now), []
    for number, ask in enumerate(asks):
        since = site.seconds("bid_seconds") + number * site.seconds("bid_gap_seconds")
        if age < since:
            continue
        state = "closed" if ask.get("withdrawn") or age >= since + WITHDRAWN_SECONDS else "open"
        if lease is not None:
            taken = "active" if lease["state"] in ("active", "reclaiming") else "closed"
            state = taken if ask["provider"] == lease["provider"] else "lost"
        rows.append({**ask, "state": state, "height": height(thing.created_at + timedelta(seconds=since))})
    return rows


def take(site: Site, thing: Thing, provider: str, *, at_once: bool = False) -> dict[str, Any]:
    """Make a lease of a bid; `at_once`: of one that has yet to come in. Raises Refused."""
    asks: Any = thing.hidden["asks"]
    rows = [{**ask, "state": "open"} for ask in asks] if at_once else bids(site, thing)
    bid = next((row for row in rows if row["provider"] == provider), None)
    if bid is None or bid["state"] != "open":
        raise Refused(400, "Cannot create lease: The selected bid is no longer open. Please choose another bid.")
    host = hosts()[provider]
    if bid["gpu"] and not Market(site).take(host, model_of(bid["gpu"]), bid["gpus"]):
        withdraw(thing, provider)
        raise Refused(400, "Cannot create lease: The selected bid is no longer open. Please choose another bid.")
    settle(site, thing)
    lease: dict[str, Any] = {
        "provider": provider,
        "state": "active",
        "price": bid["price"],
        "gpu": bid["gpu"],
        "gpus": bid["gpus"],
        "created_at": height(site.now),
        "since": encode_time(site.now),
        "closed_on": 0,
        "sent_at": None,
        "port": FIRST_PORT + len(site.world.ledger) * 7 % 2000,
    }
    leases: Any = thing.hidden["leases"]
    leases.append(lease)
    thing.prices.append((site.now, Decimal(str(bid["price"])) * 600 / 1_000_000))
    return lease


def withdraw(thing: Thing, provider: str) -> None:
    asks: Any = thing.hidden["asks"]
    for ask in asks:
        if ask["provider"] == provider:
            ask["withdrawn"] = True


def tell(site: Site, thing: Thing, manifest: str) -> None:
    """Give the provider the manifest. Raises Refused."""
    lease = living_lease(thing)
    assert lease is not None
    if hash_of(manifest) != hash_of(str(thing.hidden["manifest"])):
        raise Refused(422, "manifest version validation failed")
    lease["sent_at"] = encode_time(site.now)
    sdl: Any = thing.hidden["sdl"]
    env = [str(item) for item in sdl["services"][next(iter(sdl["services"]))].get("env") or ()]
    keys = next((item.partition("=")[2] for item in env if item.startswith("SSH_PUBKEY=")), "")
    host = hosts()[lease["provider"]]
    thing.login = Login(host.name, lease["port"], ("root",), tuple(keys.splitlines()))


def settle(site: Site, thing: Thing) -> None:
    """Pay the provider what it has earned so far."""
    now, lease = height(site.now), living_lease(thing)
    if lease is not None:
        owed = min(lease["price"] * (now - _number(thing, "settled")), _number(thing, "funds"))
        thing.hidden["funds"] = _number(thing, "funds") - owed
        thing.hidden["transferred"] = _number(thing, "transferred") + owed
    thing.hidden["settled"] = now


def end_lease(site: Site, thing: Thing, reason: str, state: str = "closed") -> None:
    lease = living_lease(thing)
    if lease is None:
        return
    settle(site, thing)
    if lease["gpu"]:
        Market(site).put_back(hosts()[lease["provider"]], model_of(lease["gpu"]), lease["gpus"])
    lease |= {"state": state, "reason": reason, "closed_on": height(site.now), "ended_at": encode_time(site.now)}
    thing.prices.append((site.now, Decimal(0)))
    thing.login = None


def close(site: Site, thing: Thing) -> None:
    end_lease(site, thing, "lease_closed_owner")
    site.remove(thing)


def pass_time(site: Site, thing: Thing) -> None:
    """What happens by itself."""
    lease = lease_of(thing)
    if lease is None:
        if thing.age(site.now) >= ORPHAN_SECONDS:
            close(site, thing)
        return
    if lease["state"] == "insufficient_funds" and _since(site, lease["ended_at"]) >= GRACE_SECONDS:
        close(site, thing)
    elif living_lease(thing) is not None:
        blocks = height(site.now) - _number(thing, "settled")
        if lease["price"] * blocks >= _number(thing, "funds"):
            end_lease(site, thing, "lease_closed_reason_insufficient_funds", "insufficient_funds")
        elif lease["sent_at"] is None and _since(site, lease["since"]) >= MANIFEST_SECONDS:
            end_lease(site, thing, "lease_closed_reason_manifest_timeout")


def is_pullable(site: Site, thing: Thing) -> bool:
    return str(site.knob("unpullable")) not in str(thing.hidden["manifest"])


def is_up(site: Site, thing: Thing) -> bool:
    lease = living_lease(thing)
    return lease is not None and _runs(site, thing, lease)


def state_of(site: Site, thing: Thing) -> str:
    """One word for the ledger."""
    lease = lease_of(thing)
    if "state" in thing.body or lease is None:
        return str(thing.body.get("state", "bidding"))
    if lease["state"] not in ("active", "reclaiming"):
        return str(lease["state"])
    return "running" if _runs(site, thing, lease) else "starting"


def show(site: Site, thing: Thing, *, with_status: bool) -> Json:
    owner = owner_of(thing.account)
    is_closed = thing.deleted_at is not None
    deployment: Json = {
        "id": {"owner": owner, "dseq": thing.id},
        "state": "closed" if is_closed else thing.body.get("state", "active"),
        "hash": hash_of(str(thing.hidden["manifest"])),
        "created_at": str(height(thing.created_at)),
    }
    leases: Any = thing.hidden["leases"]
    return {
        "deployment": deployment,
        "leases": [_lease(site, thing, lease, with_status=with_status) for lease in leases],
        "escrow_account": _escrow(thing, owner, is_closed=is_closed),
    }


def _lease(site: Site, thing: Thing, lease: dict[str, Any], *, with_status: bool) -> Json:
    row: Json = {
        "id": {
            "owner": owner_of(thing.account),
            "dseq": thing.id,
            "gseq": 1,
            "oseq": 1,
            "provider": lease["provider"],
            "bseq": 0,
        },
        "state": lease["state"],
        "price": {"denom": "uact", "amount": f"{lease['price']:.18f}"},
        "created_at": str(lease["created_at"]),
        "closed_on": str(lease["closed_on"]),
    }
    if "reason" in lease:
        row["reason"] = lease["reason"]
    if with_status:
        silent = lease["state"] not in ("active", "reclaiming") or site.knob("silent")
        row["status"] = None if silent else _status(site, thing, lease)
    return row


def _status(site: Site, thing: Thing, lease: dict[str, Any]) -> Json:
    """What the provider tells. Its ports and addresses come a while after the container."""
    if lease["sent_at"] is None:
        return {"forwarded_ports": {}, "ips": None, "services": {}}
    sdl: Any = thing.hidden["sdl"]
    name, service = next(iter(sdl["services"].items()))
    runs = _runs(site, thing, lease)
    is_told = runs and _since(site, lease["sent_at"]) >= site.seconds("pull_seconds") + site.seconds("address_seconds")
    host, ports, web = hosts()[lease["provider"]].name, [], False
    for number, item in enumerate(service.get("expose", ())):
        protocol = (item.get("proto") or "tcp").upper()
        if protocol == "TCP" and (item.get("as") or item["port"]) == 80:
            web = True
            continue
        port = {"port": item["port"], "externalPort": lease["port"] + number, "proto": protocol}
        ports.append({**port, "host": host, "name": name})
    uris: list[JsonValue] = [f"{thing.id}.ingress.{host}"] if web and is_told else []
    count = 1 if runs else 0
    told: Json = {"name": name, "available": count, "total": 1, "uris": uris, "observed_generation": 1, "replicas": 1}
    told |= {"updated_replicas": 1, "ready_replicas": count, "available_replicas": count}
    forwarded: Json = {name: [*ports]} if is_told and ports else {}
    return {"forwarded_ports": forwarded, "ips": {}, "services": {name: told}}


def _escrow(thing: Thing, owner: str, *, is_closed: bool) -> Json:
    lease = lease_of(thing)
    is_empty = lease is not None and lease["state"] == "insufficient_funds"
    left = 0.0 if is_closed else _number(thing, "funds")
    deposit = {"denom": "uact", "amount": f"{left:.18f}"}
    deposits: list[JsonValue] = [
        {"owner": owner, "height": str(height(thing.created_at)), "source": "grant", "balance": deposit}
    ]
    state: Json = {
        "owner": owner,
        "state": "closed" if is_closed else "overdrawn" if is_empty else "open",
        "transferred": [{"denom": "uact", "amount": f"{_number(thing, 'transferred'):.18f}"}],
        "settled_at": str(thing.hidden["settled"]),
        "funds": [dict(deposit)],
        "deposits": deposits,
    }
    return {"id": {"scope": "deployment", "xid": f"{owner}/{thing.id}"}, "state": state}


def _runs(site: Site, thing: Thing, lease: dict[str, Any]) -> bool:
    return (
        lease["sent_at"] is not None
        and is_pullable(site, thing)
        and _since(site, lease["sent_at"]) >= site.seconds("pull_seconds")
    )


def _since(site: Site, moment: str) -> float:
    then: datetime = decode_time(moment)
    return (site.now - then).total_seconds()


def _kept(ask: Ask, gpus: int) -> Json:
    return {
        "provider": ask.host.address,
        "price": ask.price,
        "gpu": ask.model.gpu if ask.model else "",
        "gpus": gpus,
    }


def _number(thing: Thing, name: str) -> float:
    value = thing.hidden[name]
    assert isinstance(value, (int, float))
    return value
