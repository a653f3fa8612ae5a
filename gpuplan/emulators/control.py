"""The control API under `/_emulator`: what tests, drills and scenario files do to the world.

A synchronous function like any emulator, so that it works in process and over a port alike.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import TypeAlias

from gpuplan.core.encoding import encode_time
from gpuplan.core.gpus import canonical_gpu
from gpuplan.core.values import JsonValue
from gpuplan.emulators.faults import Fault, FaultKind
from gpuplan.emulators.http import Json, NotJson, Request, Response
from gpuplan.emulators.site import EmulatorType, Site
from gpuplan.emulators.world import Shelf, Thing, World
from gpuplan.net.marks import from_name, from_tags

PREFIX = "/_emulator"

Types: TypeAlias = Mapping[str, EmulatorType]


class NotUnderstood(ValueError):
    """A control call says something this emulator does not know; the message says what it would take."""


def control(world: World, types: Types, request: Request) -> Response:
    """Answer one control call."""
    name, _, id = request.path.removeprefix(f"{PREFIX}/").partition("/")
    try:
        if name in READS and request.method == "GET":
            return Response(200, READS[name](world, types, request.one("provider")))
        if name == "calls" and request.method == "DELETE":
            world.visits.clear()
            return Response(204)
        if name == "faults" and request.method == "DELETE":
            world.faults.clear()
            return Response(204)
        if name == "nodes" and id and request.method == "POST":
            return change_node(world, types, id, request.json())
        if name in WRITES and request.method == "POST":
            WRITES[name](world, types, request.json())
            return Response(204)
    except (NotUnderstood, NotJson) as exc:
        return Response(400, {"error": str(exc)})
    return Response(404, {"error": f"no control call {request.method} {request.path}"})


def ledger(world: World, types: Types, provider: str) -> list[Json]:
    """Every object that ever existed, the deleted ones too."""
    return [_row(world, types, thing) for thing in world.ledger if provider in ("", thing.provider)]


def calls(world: World, types: Types, provider: str) -> JsonValue:
    """Every API call that was received."""
    return {
        "calls": [
            {
                "provider": visit.provider,
                "method": visit.method,
                "route": visit.route,
                "status": visit.status,
                "at": encode_time(visit.at),
            }
            for visit in world.visits
            if provider in ("", visit.provider)
        ]
    }


def add_fault(world: World, types: Types, body: Json) -> None:
    try:
        kind = FaultKind(str(body.get("kind")))
    except ValueError as exc:
        raise NotUnderstood(f"`kind` is one of {', '.join(FaultKind)}") from exc
    probability = _number(body, "probability")
    times = _number(body, "times")
    if times is None and probability is None:
        times = 1
    world.faults.append(
        Fault(
            kind,
            _known(types, str(body.get("provider") or "")),
            str(body.get("method") or "").upper(),
            str(body.get("route") or ""),
            None if times is None else int(times),
            1.0 if probability is None else probability,
            int(_number(body, "status") or 500),
            _number(body, "retry_after"),
            _number(body, "delay_s") or 0.0,
        )
    )


def read_clock(world: World, types: Types, provider: str) -> JsonValue:
    """What time it is there, and how fast it goes: for whoever wants to wait by the same clock."""
    return {"now": encode_time(world.time.now()), "speed": world.time.speed}


def turn_clock(world: World, types: Types, body: Json) -> None:
    speed, advance = _number(body, "speed"), _number(body, "advance_s")
    if speed is None and advance is None:
        raise NotUnderstood("say `speed` or `advance_s`")
    if speed is not None:
        world.time.set_speed(speed)
    if advance is not None:
        world.time.advance(advance)


def set_stock(world: World, types: Types, body: Json) -> None:
    """`gpu` is a canonical name or any alias of it, or an instance type of the provider; empty `region`: all."""
    provider, gpu = _known(types, str(body.get("provider") or "")), str(body.get("gpu") or "")
    if not provider or not gpu:
        raise NotUnderstood("say which `provider` and which `gpu`")
    key = (provider, canonical_gpu(gpu) or gpu, str(body.get("region") or ""))
    shelf = world.shelves.setdefault(key, Shelf())
    if "available" in body:
        available = _number(body, "available")
        shelf.available = None if available is None else int(available)
    shelf.price = _money(body, "price") or shelf.price
    shelf.spot_price = _money(body, "spot_price") or shelf.spot_price


def set_consistency(world: World, types: Types, body: Json) -> None:
    world.list_delay_seconds[_known(types, str(body.get("provider") or ""))] = _number(body, "list_delay_s") or 0.0


def turn_knobs(world: World, types: Types, body: Json) -> None:
    """`{provider, NAME: value}`: how long things take, page sizes, and what else an emulator lets one turn."""
    provider = _known(types, str(body.get("provider") or ""))
    if provider not in types:
        raise NotUnderstood("say which `provider`")
    for name, value in body.items():
        if name not in (*types[provider].knobs, "provider", "rate_limited"):
            known = ", ".join(sorted(types[provider].knobs))
            raise NotUnderstood(f"`{name}` is no knob of {provider}: it has {known}")
        world.knobs[provider][name] = value


def reset(world: World, types: Types, body: Json) -> None:
    world.reset()


def change_node(world: World, types: Types, id: str, body: Json) -> Response:
    """Change an object behind everyone's back."""
    thing = world.find(id)
    if thing is None:
        return Response(404, {"error": f"no living object `{id}`"})
    site = Site(types[thing.provider], world)
    if isinstance(fields := body.get("set"), Mapping):
        thing.body.update(fields)
    for name, change in CHANGES.items():
        if body.get(name) is True:
            change(site, thing)
    return Response(200, _row(world, types, thing))


def preempt(site: Site, thing: Thing) -> None:
    site.type.preempt(site, thing)


def vanish(site: Site, thing: Thing) -> None:
    site.remove(thing)


def stop(site: Site, thing: Thing) -> None:
    if site.type.stop is None:
        raise NotUnderstood(f"{site.type.name} cannot stop a node")
    site.type.stop(site, thing)


def break_down(site: Site, thing: Thing) -> None:
    if site.type.break_down is None:
        raise NotUnderstood(f"{site.type.name} knows no unhealthy node")
    site.type.break_down(site, thing)


READS: Mapping[str, Callable[[World, Types, str], JsonValue]] = {
    "ledger": lambda world, types, provider: {"objects": ledger(world, types, provider)},
    "calls": calls,
    "clock": read_clock,
}
WRITES: Mapping[str, Callable[[World, Types, Json], None]] = {
    "faults": add_fault,
    "clock": turn_clock,
    "stock": set_stock,
    "consistency": set_consistency,
    "knobs": turn_knobs,
    "reset": reset,
}
CHANGES: Mapping[str, Callable[[Site, Thing], None]] = {
    "preempt": preempt,
    "vanish": vanish,
    "stop": stop,
    "unhealthy": break_down,
}


def _row(world: World, types: Types, thing: Thing) -> Json:
    emulator, now = types[thing.provider], world.time.now()
    mark = from_tags(_texts({**thing.body, **thing.hidden})) or from_name(thing.name)
    gone = thing.deleted_at is not None
    return {
        "provider": thing.provider,
        "kind": thing.kind,
        "id": thing.id,
        "name": thing.name,
        "token": mark.token if mark else "",
        "address": str(mark.address) if mark and mark.address else "",
        "status": "deleted" if gone else emulator.status(Site(emulator, world), thing),
        "created_at": encode_time(thing.created_at),
        "deleted_at": encode_time(thing.deleted_at) if thing.deleted_at else None,
        "billed_usd": round(float(emulator.bill(thing, now)), 6),
    }


def _texts(value: JsonValue) -> list[str]:
    """Every text in an object, labels as `name=value`."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        labels = [f"{name}={item}" for name, item in value.items() if isinstance(item, str)]
        return labels + [text for item in value.values() for text in _texts(item)]
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return []


def _known(types: Types, provider: str) -> str:
    if provider and provider not in types:
        raise NotUnderstood(f"no emulator of `{provider}`: there are {', '.join(sorted(types))}")
    return provider


def _number(body: Json, name: str) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise NotUnderstood(f"`{name}` is a number")
    return float(value)


def _money(body: Json, name: str) -> Decimal | None:
    value = body.get(name)
    try:
        return None if value is None else Decimal(str(value))
    except InvalidOperation as exc:
        raise NotUnderstood(f"`{name}` is an amount of USD") from exc
