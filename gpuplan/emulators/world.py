"""The world behind all emulators: objects, stock, clock, and a ledger of everything that ever existed.

Nothing here knows a provider. Emulators see it through `site.Site`, tests and drills through `control`.
"""

import random
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from gpuplan.core.ports import Clock
from gpuplan.core.values import JsonValue
from gpuplan.emulators.faults import Fault
from gpuplan.emulators.http import Json


@dataclass(frozen=True, slots=True)
class Login:
    """Where SSH reaches a node, who may log in, and with which public keys."""

    host: str
    port: int
    users: tuple[str, ...]
    keys: tuple[str, ...]


@dataclass(slots=True, eq=False)
class Thing:
    """One object of a provider. `body` is what the provider shows of it, `hidden` what it keeps to itself."""

    provider: str
    kind: str
    """`node`, or a companion: `ssh_key`, `volume`, `network` and so on."""
    id: str
    name: str
    """Changed by `World.rename` alone."""
    account: str
    created_at: datetime
    body: Json
    hidden: Json = field(default_factory=dict)
    prices: list[tuple[datetime, Decimal]] = field(default_factory=list)
    """USD per hour, from a time on."""
    deleted_at: datetime | None = None
    login: Login | None = None

    def age(self, now: datetime) -> float:
        """Seconds since it was created."""
        return (now - self.created_at).total_seconds()

    def billed_until(self, now: datetime) -> datetime:
        return min(now, self.deleted_at) if self.deleted_at else now

    def cost(self, now: datetime) -> Decimal:
        """USD so far, by the second."""
        total = Decimal(0)
        until = self.billed_until(now)
        ends = [since for since, _ in self.prices[1:]] + [until]
        for (since, price), end in zip(self.prices, ends, strict=False):
            seconds = max(0.0, (min(end, until) - since).total_seconds())
            total += price * Decimal(str(seconds)) / 3600
        return total


@dataclass(slots=True)
class Shelf:
    """What there is of one GPU in one region. None: no limit; the list price."""

    available: int | None = None
    price: Decimal | None = None
    spot_price: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Visit:
    """One API call that was received."""

    provider: str
    method: str
    route: str
    status: int
    """0: no answer was sent."""
    at: datetime


class WorldTime:
    """The emulators' clock: the clock of this process, faster or slower, and moved ahead at will."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._speed = 1.0
        self._since = clock.monotonic()
        self._then = clock.now()
        self._origin = self._then - timedelta(seconds=self._since)

    def now(self) -> datetime:
        return self._then + timedelta(seconds=(self._clock.monotonic() - self._since) * self._speed)

    def monotonic(self) -> float:
        """Seconds since some moment before the world began."""
        return (self.now() - self._origin).total_seconds()

    def advance(self, seconds: float) -> None:
        self._then = self.now() + timedelta(seconds=seconds)
        self._since = self._clock.monotonic()

    @property
    def speed(self) -> float:
        return self._speed

    def set_speed(self, speed: float) -> None:
        self.advance(0)
        self._speed = speed


class World:
    """Everything that can be said of the emulated providers at one moment. Synchronous, single-threaded, repeatable."""

    def __init__(self, clock: Clock, *, seed: int = 0) -> None:
        self.clock = clock
        self._seed = seed
        self.reset()

    def reset(self) -> None:
        """Empty, with the clock at its natural speed."""
        self.time = WorldTime(self.clock)
        self.random = random.Random(self._seed)
        self.ledger: list[Thing] = []
        self.living: defaultdict[tuple[str, str], dict[str, Thing]] = defaultdict(dict)
        self.gone: defaultdict[tuple[str, str], dict[str, Thing]] = defaultdict(dict)
        self._owned: defaultdict[tuple[str, str, str], dict[str, Thing]] = defaultdict(dict)
        self._named: defaultdict[tuple[str, str, str, str], dict[str, Thing]] = defaultdict(dict)
        self.shelves: dict[tuple[str, str, str], Shelf] = {}
        self.faults: list[Fault] = []
        self.visits: list[Visit] = []
        self.list_delay_seconds: dict[str, float] = {}
        self.knobs: defaultdict[str, dict[str, JsonValue]] = defaultdict(dict)
        self.recent: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
        """When each account called last, for rate limits."""
        self.drawers: dict[tuple[str, str], object] = {}
        """What an emulator keeps of an account besides its objects, by provider and account."""
        self._addresses = 0

    def add(self, thing: Thing) -> None:
        self.ledger.append(thing)
        for shelf in self._shelves_of(thing):
            shelf[thing.id] = thing

    def remove(self, thing: Thing) -> None:
        """It is no more; what its provider says of it from now on is up to its emulator."""
        if thing.id in self.living[thing.provider, thing.kind]:
            for shelf in self._shelves_of(thing):
                shelf.pop(thing.id, None)
            thing.deleted_at = self.time.now()
            self.gone[thing.provider, thing.kind][thing.id] = thing

    def rename(self, thing: Thing, name: str) -> None:
        """Give an object another name."""
        known = self._named[thing.provider, thing.kind, thing.account, thing.name].pop(thing.id, None)
        thing.name = name
        if known is not None:
            self._named[thing.provider, thing.kind, thing.account, name][thing.id] = thing

    def owned(self, provider: str, kind: str, account: str) -> Collection[Thing]:
        """What an account has, in the order of creation."""
        return self._owned[provider, kind, account].values()

    def named(self, provider: str, kind: str, account: str, name: str) -> Thing | None:
        """The first that an account has of that name."""
        return next(iter(self._named[provider, kind, account, name].values()), None)

    def _shelves_of(self, thing: Thing) -> tuple[dict[str, Thing], ...]:
        """Where a living object is looked up: by provider, by account, by name."""
        provider, kind, account = thing.provider, thing.kind, thing.account
        return (
            self.living[provider, kind],
            self._owned[provider, kind, account],
            self._named[provider, kind, account, thing.name],
        )

    def find(self, id: str) -> Thing | None:
        """A living object of any provider and kind."""
        return next((things[id] for things in self.living.values() if id in things), None)

    def shelf(self, provider: str, gpu: str, region: str) -> Shelf:
        """The stock of a GPU in a region: its own, else that of all regions, else plenty."""
        for key in ((provider, gpu, region), (provider, gpu, "")):
            if key in self.shelves:
                return self.shelves[key]
        return Shelf()

    def fresh_address(self) -> str:
        """An IPv4 address that is nobody's: out of the range reserved for benchmarks."""
        self._addresses += 1
        return f"198.18.{self._addresses // 250}.{self._addresses % 250 + 1}"

    def login(self, host: str, port: int) -> Thing | None:
        """The node that SSH reaches there."""
        for things in self.living.values():
            for thing in things.values():
                if thing.login is not None and (thing.login.host, thing.login.port) == (host, port):
                    return thing
        return None
