"""The world behind the provider in memory: every object that was ever created, and every call.

Tests turn its knobs, change things behind everyone's back, and read what happened.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from gpuplan.core.address import Address
from gpuplan.core.desired import Kind
from gpuplan.core.errors import Failure, ProviderError
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Status
from gpuplan.core.offers import Offer, OfferQuery
from gpuplan.core.ports import Clock, Want
from gpuplan.core.values import Attrs, Facts, Ref, Value, leaves


class Call(NamedTuple):
    """One request. A listing counts as one call per page."""

    verb: str
    provider: str
    kind: Kind | None = None
    remote_id: str = ""
    address: Address | None = None


EFFECTS = frozenset({"create", "advance", "update", "delete", "stop", "start", "extend", "run"})
"""The verbs that change the world; all others only look."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with one call. `error` is raised instead of the effect or, with `after`, once it has happened.

    `hides` says of each object whether a listing leaves it out, or a get knows nothing of it, without a word.
    """

    error: BaseException | None = None
    after: bool = False
    hides: Callable[[str], bool] | None = None


Script = Callable[[Call], Fault | None]


def failed(error: type[ProviderError], call: Call, *, message: str = "", status: int | None = None) -> ProviderError:
    """An error of that type about a call, for scripts."""
    return error(Failure(call.provider, f"{call.verb} {call.kind or ''}".strip(), message=message, status=status))


@dataclass(slots=True)
class MemoryObject:
    """One object of the ledger. `gone_at` is when its deletion is complete; None: it lives."""

    provider: str
    kind: Kind
    remote_id: str
    name: str
    mark: Mark
    attrs: dict[str, Value]
    facts: Facts
    created_at: float
    visible_at: float
    ready_at: float
    steps: int = 0
    """How many times it must still be advanced."""
    halted: Status | None = None
    """STOPPED or FAILED from `ready_at` on, instead of RUNNING."""
    detail: str = ""
    failure: ProviderError | None = None
    gone_at: float | None = None
    supersedes: str = ""
    expires_at: datetime | None = None
    ran: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)
    """Commands that were run on it, with their environment."""

    def status(self, now: float) -> Status:
        if self.gone_at is not None:
            return Status.TERMINATED if now >= self.gone_at else Status.TERMINATING
        if self.steps:
            return Status.PENDING
        if now < self.ready_at:
            return Status.STOPPING if self.halted is Status.STOPPED else Status.STARTING
        return self.halted or Status.RUNNING


@dataclass(slots=True)
class MemoryWorld:
    """All accounts and their objects. The knobs may be turned at any time; seconds everywhere."""

    clock: Clock
    boot_seconds: float = 0
    delete_seconds: float = 0
    stop_seconds: float = 0
    visibility_seconds: float = 0
    """How long listings lack a new object."""
    latency_seconds: float = 0
    """How long each call takes."""
    steps: int = 0
    """How many times a new node must be advanced; each step gives it another id."""
    capacity: Callable[[Want], bool] | None = None
    """Whether there is room for another; None: always."""
    boots: Callable[[Want], ProviderError | str | None] | None = None
    """Why a new node will fail to come up, as an error or in words; None: it comes up."""
    run_status: Callable[[str], int] | None = None
    """The exit status of a command on a node."""
    offers: tuple[Offer, ...] = ()
    accounts: Mapping[str, str] = field(default_factory=dict)
    """Account ids behind providers, where they are not `account-NAME`."""
    unseen: tuple[str, ...] = ()
    """Prefixes of ids that listings cannot look at."""
    script: Script | None = None
    objects: dict[str, MemoryObject] = field(default_factory=dict)
    """Every object ever created, by its latest id."""
    calls: list[Call] = field(default_factory=list)
    queries: list[OfferQuery] = field(default_factory=list)
    """What offers were asked for."""
    _shelves: dict[tuple[str, Kind], dict[str, MemoryObject]] = field(default_factory=lambda: defaultdict(dict))
    _users: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _tokens: dict[str, MemoryObject] = field(default_factory=dict)
    _former: dict[str, str] = field(default_factory=dict)
    """Ids that objects had before, and the ones they have now."""

    def living(self) -> Iterator[MemoryObject]:
        """What exists and is not being deleted."""
        now = self.clock.monotonic()
        for shelf in self._shelves.values():
            yield from (thing for thing in shelf.values() if thing.status(now) not in _LEAVING)

    def count(self, *verbs: str) -> int:
        return sum(call.verb in verbs for call in self.calls)

    def vanish(self, remote_id: str) -> None:
        """It is gone, as after a preemption."""
        self.objects[remote_id].gone_at = self.clock.monotonic()

    def stop(self, remote_id: str) -> None:
        """Somebody stopped it."""
        self.objects[remote_id].halted = Status.STOPPED

    def fail(self, remote_id: str, detail: str = "") -> None:
        """It broke."""
        thing = self.objects[remote_id]
        thing.halted, thing.detail = Status.FAILED, detail

    def edit(self, remote_id: str, **attrs: Value) -> None:
        """Somebody changed it behind our back."""
        self.objects[remote_id].attrs.update(attrs)

    def shelf(self, provider: str, kind: Kind) -> dict[str, MemoryObject]:
        """The objects of one kind in one account that a listing may show; forgets those that are gone."""
        shelf = self._shelves[provider, kind]
        now = self.clock.monotonic()
        for remote_id in [key for key, thing in shelf.items() if thing.gone_at is not None and now >= thing.gone_at]:
            del shelf[remote_id]
        return shelf

    def add(self, thing: MemoryObject) -> None:
        self.objects[thing.remote_id] = self._tokens[thing.mark.token] = thing
        self._shelves[thing.provider, thing.kind][thing.remote_id] = thing
        for used in used_ids(thing.attrs):
            self._users[used].add(thing.remote_id)

    def rename(self, thing: MemoryObject, remote_id: str) -> None:
        """It is known by another id from now on."""
        shelf = self._shelves[thing.provider, thing.kind]
        del self.objects[thing.remote_id], shelf[thing.remote_id]
        self._former |= {former: remote_id for former, now in self._former.items() if now == thing.remote_id}
        self._former[thing.remote_id] = remote_id
        thing.supersedes, thing.remote_id = thing.remote_id, remote_id
        self.objects[remote_id] = shelf[remote_id] = thing
        for used in used_ids(thing.attrs):
            self._users[used].add(remote_id)

    def find(self, remote_id: str) -> MemoryObject | None:
        """By the id it has, or by one that it had."""
        return self.objects.get(self._former.get(remote_id, remote_id))

    def by_token(self, token: str) -> MemoryObject | None:
        return self._tokens.get(token)

    def is_used(self, remote_id: str) -> bool:
        """Whether an object that still exists refers to it."""
        now = self.clock.monotonic()
        users = (self.objects.get(user) for user in self._users[remote_id])
        return any(user is not None and user.status(now) is not Status.TERMINATED for user in users)


_LEAVING = frozenset({Status.TERMINATING, Status.TERMINATED})


def used_ids(attrs: Attrs) -> Iterator[str]:
    """Ids of the objects these attributes refer to."""
    for leaf in leaves(attrs):
        if isinstance(leaf, Ref) and leaf.remote_id is not None:
            yield leaf.remote_id
