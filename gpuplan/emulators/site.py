"""One provider in the emulated world: what its module declares, and what its answering functions work with."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal

from gpuplan.core.capabilities import RateLimit
from gpuplan.core.values import JsonValue
from gpuplan.emulators.faults import deliver, strike
from gpuplan.emulators.http import Cut, Delivery, Json, NotJson, Refusal, Request, Response, Routes
from gpuplan.emulators.world import Login, Shelf, Thing, Visit, World

REFUSED_KEYS = ("invalid", "wrong", "revoked")
"""Keys that begin like this are nobody's; every other key is an account of its own."""


@dataclass(frozen=True, slots=True)
class EmulatorType:
    """What a provider's module declares as `EMULATOR`."""

    name: str
    """Of the provider type, and of the mount: `/vultr`."""
    title: str
    routes: Routes
    error: Callable[[int, str], Response]
    """An error as this provider words it."""
    key: Callable[[Request], str]
    """The key a request came with; empty when there is none."""
    asked: Callable[[Request], str] = lambda request: request.path
    """Which route a request asks for, where its path does not tell."""
    knobs: Mapping[str, JsonValue] = field(default_factory=dict)
    """What can be turned, with the values that come nearest to the real provider."""
    rate_limit: RateLimit | None = None
    status: "Callable[[Site, Thing], str]" = lambda site, thing: str(thing.body.get("status", ""))
    bill: Callable[[Thing, datetime], Decimal] = Thing.cost
    is_up: "Callable[[Site, Thing], bool]" = lambda site, thing: True
    """Whether SSH would reach it."""
    stop: "Callable[[Site, Thing], None] | None" = None
    break_down: "Callable[[Site, Thing], None] | None" = None
    preempt: "Callable[[Site, Thing], None]" = lambda site, thing: site.world.remove(thing)
    gate: "Callable[[Site, Request], None]" = lambda site, request: None
    """What else must hold of every request that needs a key. Raises Refusal."""
    headers: "Callable[[Site, Request], Mapping[str, str]]" = lambda site, request: {}
    """Headers of every answer: request ids, what is left of a limit."""


@dataclass(frozen=True, slots=True)
class Site:
    """A provider's side of the world while it answers one request."""

    type: EmulatorType
    world: World

    @property
    def now(self) -> datetime:
        return self.world.time.now()

    def knob(self, name: str) -> JsonValue:
        return self.world.knobs[self.type.name].get(name, self.type.knobs[name])

    def seconds(self, name: str) -> float:
        value = self.knob(name)
        return float(value) if isinstance(value, (int, float, str)) else 0.0

    def count(self, name: str) -> int:
        return int(self.seconds(name))

    def things(self, kind: str, account: str) -> list[Thing]:
        """What this account has, in the order of creation."""
        return list(self.world.owned(self.type.name, kind, account))

    def named(self, kind: str, name: str, account: str) -> Thing | None:
        """The first of that name."""
        return self.world.named(self.type.name, kind, account, name)

    def rename(self, thing: Thing, name: str) -> None:
        self.world.rename(thing, name)

    def listed(self, kind: str, account: str) -> list[Thing]:
        """What a listing already shows of it."""
        delay = self.world.list_delay_seconds.get(self.type.name, 0.0)
        now = self.now
        return [thing for thing in self.things(kind, account) if thing.age(now) >= delay]

    def thing(self, kind: str, id: str, account: str) -> Thing | None:
        found = self.world.living[self.type.name, kind].get(id)
        return found if found is not None and found.account == account else None

    def gone(self, kind: str, id: str, account: str, seconds: float) -> Thing | None:
        """One that was deleted less than so many seconds ago."""
        found = self.world.gone[self.type.name, kind].get(id)
        if found is None or found.account != account or found.deleted_at is None:
            return None
        return found if (self.now - found.deleted_at).total_seconds() < seconds else None

    def add(
        self,
        kind: str,
        id: str,
        account: str,
        body: Json,
        *,
        name: str = "",
        price: Decimal | None = None,
        hidden: Json | None = None,
        login: Login | None = None,
    ) -> Thing:
        """A new object. `price` in USD per hour from now on."""
        prices = [] if price is None else [(self.now, price)]
        thing = Thing(self.type.name, kind, id, name, account, self.now, body, hidden or {}, prices, login=login)
        self.world.add(thing)
        return thing

    def remove(self, thing: Thing) -> None:
        self.world.remove(thing)

    def shelf(self, gpu: str, region: str) -> Shelf:
        return self.world.shelf(self.type.name, gpu, region)

    def take(self, gpu: str, region: str) -> bool:
        """One from the shelf; False: there is none left."""
        shelf = self.shelf(gpu, region)
        if shelf.available is not None:
            if shelf.available <= 0:
                return False
            shelf.available -= 1
        return True

    def put_back(self, gpu: str, region: str) -> None:
        shelf = self.shelf(gpu, region)
        if shelf.available is not None:
            shelf.available += 1

    def uuid(self) -> str:
        return str(uuid.UUID(int=self.world.random.getrandbits(128), version=4))

    def digits(self, length: int, alphabet: str = "0123456789abcdef") -> str:
        return "".join(self.world.random.choice(alphabet) for _ in range(length))

    def visit(self, request: Request) -> Delivery:
        """Answer a request, through the faults, and write down that it came."""
        found = self.type.routes.find(request.method, self.type.asked(request))
        route = found[0].template if found else request.path
        fault, delay = strike(self.world.faults, self.type.name, request.method, route, self.world.random)
        delivery = deliver(fault, delay, lambda: self._answer(request), self.type.error)
        # What the provider itself takes is time of its world.
        taken = delivery.delay_seconds + delivery.response.delay_seconds / self.world.time.speed
        status = delivery.response.status if delivery.cut is Cut.NONE else 0
        self.world.visits.append(Visit(self.type.name, request.method, route, status, self.now))
        headers = {**self.type.headers(self, request), **delivery.response.headers}
        return replace(delivery, response=replace(delivery.response, headers=headers), delay_seconds=taken)

    def _answer(self, request: Request) -> Response:
        found = self.type.routes.find(request.method, self.type.asked(request))
        if found is None:
            return self.type.error(404, "Not found")
        route, ids = found
        key = self.type.key(request)
        if not route.is_open and (not key or key.startswith(REFUSED_KEYS)):
            return self.type.error(401, "Invalid API token.")
        if (wait := self._too_fast(key)) is not None:
            limited = self.type.error(429, "Too many requests")
            return replace(limited, headers={**limited.headers, "Retry-After": f"{wait:g}"})
        try:
            if not route.is_open:
                self.type.gate(self, request)
            return route.answer(self, replace(request, account=key), ids)
        except Refusal as refusal:
            return refusal.response
        except NotJson as exc:
            return self.type.error(400, f"Invalid JSON: {exc}")

    def _too_fast(self, key: str) -> float | None:
        """Seconds to wait, for one who asks more often than the provider lets him."""
        limit = self.type.rate_limit
        if limit is None or self.world.knobs[self.type.name].get("rate_limited") is False:
            return None
        now = self.world.time.monotonic()
        recent = self.world.recent[self.type.name, key]
        while recent and recent[0] <= now - limit.per_seconds:
            recent.pop(0)
        if len(recent) >= limit.requests:
            return max(1.0, round(recent[0] + limit.per_seconds - now, 3))
        recent.append(now)
        return None
