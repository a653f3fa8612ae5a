"""The contracts between rooms: what the engine asks of a provider, of the state, and of time.

Fifteen adapters implement `Provider`; whoever adds a verb adds a Protocol here and a field in `Capabilities`.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from gpuplan.core.address import Address
from gpuplan.core.capabilities import Capabilities
from gpuplan.core.desired import Kind, ProviderBlock
from gpuplan.core.events import Event
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Observed
from gpuplan.core.offers import Offer, OfferQuery
from gpuplan.core.secret import Redactor
from gpuplan.core.state import Entry, LockInfo, Recorded, State
from gpuplan.core.values import Attrs, JsonValue

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from pathlib import Path

    from pydantic import BaseModel

API_VERSION = 1

Links: TypeAlias = Mapping[Address, Recorded]
"""The records of the instances an operation refers to, by address: their remote ids and facts."""

Emit: TypeAlias = Callable[[Event], None]


class Clock(Protocol):
    """Time, and the two things that must differ at every call; `FakeClock` moves only when someone sleeps."""

    def now(self) -> datetime:
        """UTC."""
        ...

    def monotonic(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...

    def token(self) -> str:
        """A fresh ownership token: 20 lower-case letters and digits, the first a letter."""
        ...

    def jitter(self) -> float:
        """Uniform in [0, 1)."""
        ...


@dataclass(frozen=True, slots=True)
class Want:
    """One object to create or to change: everything resolved, nothing unknown. Secrets are `Secret` until revealed."""

    address: Address
    kind: Kind
    attrs: Attrs
    name: str
    """A readable name, fresh for every attempt, at most 40 characters of `a-z0-9-`."""
    offer: Offer | None = None
    update: frozenset[str] = frozenset()
    """For an update: the attributes that differ."""


@dataclass(frozen=True, slots=True)
class Account:
    """Who these credentials are. `id` is the provider's account id, else a digest of endpoint and key id."""

    id: str
    endpoint: str = ""
    features: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Listed:
    """The answer to `list`. An id that is missing here counts as missing only if it lies in no unseen scope."""

    objects: Sequence[Observed]
    unseen: tuple[str, ...] = ()
    """Prefixes of remote ids (`region/`) that could not be looked at, each with the reason in `why`."""
    why: str = ""


@runtime_checkable
class Provider(Protocol):
    """One configured account. Every verb returns at once: waiting, retry, pages and limits are the callers'.

    Errors are those of `gpuplan.core.errors`. `remote_id` is opaque outside the adapter and may be composite
    (`region/id`); it is what people pass to `import`.
    """

    @property
    def capabilities(self) -> Capabilities: ...

    async def health(self) -> Account:
        """Credentials work and the API answers."""
        ...

    async def offers(self, query: OfferQuery) -> Sequence[Offer]: ...

    async def list(self, kind: Kind, known: frozenset[str]) -> Listed:
        """Everything of that kind the account has, ours or not. `known` are the ids the state has, for scopes."""
        ...

    async def get(self, kind: Kind, remote_id: str) -> Observed | None:
        """None is certain absence; whatever could not be told raises."""
        ...

    async def create(self, want: Want, mark: Mark, links: Links) -> Observed:
        """Send the first step; return what identifies the object so far. At most one object per token."""
        ...

    async def delete(self, kind: Kind, remote_id: str, links: Links) -> None:
        """Begin to delete; already gone is success. The engine repeats and confirms until `get` says so."""
        ...

    async def close(self) -> None: ...


@runtime_checkable
class CanAdvance(Protocol):
    """Creation in several steps: called by the shared watch until the object runs or has failed."""

    async def advance(self, want: Want, mark: Mark, observed: Observed, links: Links) -> Observed:
        """Take the next step if it is due; safe to repeat. A new `remote_id` supersedes the old one, under which `get`
        and `delete` go on finding the object: whoever crashed in between knows no other."""
        ...


@runtime_checkable
class CanForesee(Protocol):
    """For providers whose listings carry no mark."""

    def witness(self, want: Want, mark: Mark) -> str:
        """What `Observed.witness` of the new object will be. Pure."""
        ...


@runtime_checkable
class CanRehearse(Protocol):
    """Providers that check a request as they would carry it out, and keep nothing of it."""

    async def rehearse(self, want: Want, mark: Mark, remote_id: str) -> None:
        """As `update` of that object, or as `create` where there is none; raises what they would be refused with."""
        ...


@runtime_checkable
class CanUpdate(Protocol):
    async def update(self, want: Want, remote_id: str, links: Links) -> Observed: ...


@runtime_checkable
class CanStop(Protocol):
    async def stop(self, kind: Kind, remote_id: str) -> Observed: ...

    async def start(self, kind: Kind, remote_id: str) -> Observed: ...


@runtime_checkable
class CanExtend(Protocol):
    async def extend(self, kind: Kind, remote_id: str, until: datetime) -> Observed: ...


@runtime_checkable
class CanLog(Protocol):
    def logs(self, kind: Kind, remote_id: str, *, follow: bool, tail: int | None) -> AsyncIterator[str]:
        """Lines without their line ends."""
        ...


@dataclass(frozen=True, slots=True)
class ExecResult:
    status: int
    tail: str
    """The last lines of what it printed."""


class Channel(Protocol):
    """A way onto one node, however it is reached: SSH, the exec of Kubernetes, this very machine.

    Commands are run by `sh` in the node's workspace, which GPUPLAN_WORKSPACE names to them; paths of the node are
    relative to it. What a command runs, and what `env` holds, never shows in a process list of the node. A command ends
    with whoever waits for it.
    Raises ProviderError: Unavailable where the command certainly did not start, OutcomeUnknown where it may have.
    """

    async def run(
        self,
        command: str,
        *,
        env: Mapping[str, str],
        stdin: bytes = b"",
        each_line: "Callable[[str], None] | None" = None,
    ) -> ExecResult:
        """Wait for a command. `each_line` hears every line it prints, on either stream, while it prints, as it is; the
        tail of the result is without secrets and without anything that a terminal would obey."""
        ...

    def stream(self, command: str, *, env: Mapping[str, str]) -> AsyncIterator[str]:
        """The lines a command prints, as they come; it is ended when nobody listens any more."""
        ...

    async def put(self, source: "Path", target: str) -> None:
        """Copy a file or a folder of this machine onto the node: into `target` where that is a folder, else as it."""
        ...

    async def get(self, source: str, target: "Path") -> None:
        """The other way round."""
        ...

    def forward(self, port: int, local_port: int = 0) -> "AbstractAsyncContextManager[int]":
        """Carry a loopback port of this machine to a port of the node, as long as the block lasts: the local port."""
        ...

    async def close(self) -> None: ...


@runtime_checkable
class HasChannel(Protocol):
    """Nodes that are reached without SSH; for those with an `ssh_target`, `net.ssh` makes the channel."""

    async def channel(self, remote_id: str, member: int | None = None) -> Channel:
        """`member` is the index of a node within a group."""


@dataclass(frozen=True, slots=True)
class SshTarget:
    host: str
    port: int = 22
    user: str = "root"
    key_file: str | None = None
    jump: "SshTarget | None" = None
    workspace: str | None = None
    """Where commands run, relative to the user's home; None: at the `workspace_path` of the capabilities."""
    alias: str = ""  # what its host key is remembered under, where that outlives the node


@runtime_checkable
class HasSsh(Protocol):
    def ssh_target(self, observed: Observed, member: int | None = None) -> SshTarget | None: ...


class KeptLog(Protocol):
    """A file on this machine that outlives the run."""

    @property
    def where(self) -> str:
        """For messages."""
        ...

    def add(self, line: str) -> None:
        """Secrets and what a terminal would obey are left out."""
        ...


class Channels(Protocol):
    """Ways onto the nodes of all accounts of a run, and where what happens there is kept.

    Implemented by `workflow.channels` over `HasChannel` and `HasSsh`, by `testing.memory` for a world in memory.
    """

    def open(
        self, recorded: Recorded, observed: Observed, member: int | None = None
    ) -> "AbstractAsyncContextManager[Channel]":
        """One connection per node, shared by all who use it at once. Entering it raises ProviderError: Conflict while
        the node has told no address, Unavailable while nobody answers there."""
        ...

    def log(self, recorded: Recorded, topic: str) -> "AbstractContextManager[KeptLog]":
        """A fresh log of that topic, in the place of an earlier one of the same node."""
        ...

    async def emptied(self, recorded: Recorded) -> None:
        """gpuplan had the node's disk emptied: the host key it had before counts no more."""
        ...


@dataclass(frozen=True, slots=True)
class OpenContext:
    """What a provider is opened with; everything that acts comes from here, so that tests can slip in their own."""

    block: ProviderBlock
    clock: Clock
    environ: Mapping[str, str] = field(repr=False)
    redactor: Redactor
    emulator: str | None = None
    """Base URL of an emulator that stands in for every HTTP provider."""
    folder: str = ""  # of the project: where relative paths of the block begin


@dataclass(frozen=True, slots=True)
class ProviderType:
    """What an entry point of the group `gpuplan.providers` names."""

    name: str
    title: str
    options: "type[BaseModel]"
    capabilities: Callable[["BaseModel"], Capabilities]
    """By the validated options: a flavour may differ."""
    open: Callable[["BaseModel", OpenContext], Provider]
    node_options: "type[BaseModel] | None" = None
    """Model of a cluster's `options:`, the words of this provider alone; None: it has none."""
    api_version: int = API_VERSION
    defaults: Callable[[Mapping[str, str]], Mapping[str, JsonValue]] = lambda environ: {}
    """Options that the environment gives a block that does not write them. Pure."""
    volume_options: "type[BaseModel] | None" = None
    """Model of a volume's `options:`; None: they are not looked into before they are sent."""
    network_options: "type[BaseModel] | None" = None


class Ledger(Protocol):
    """The state as the engine sees it during a run: what was written is durable when `write` returns (group commit).

    Implemented by `state.session.Session`. Raises StateStale once the lock is lost: nothing may start after that.
    """

    @property
    def state(self) -> State:
        """Snapshot plus everything that is durable so far. Do not keep it across an await."""
        ...

    @property
    def ahead(self) -> State:
        """`state` with all that is on its way to the disk: what the next entry has to continue. A crash may take it
        back, and with it whatever was built on it, which comes later in the journal."""
        ...

    def next_seq(self) -> int:
        """The number of the next intent; each call gives another."""
        ...

    async def write(self, *entries: Entry) -> None: ...

    def submit(self, *entries: Entry) -> None:
        """Give entries their place in the journal, and do not wait: they are durable before any that come later, so
        before any effect that is announced later. `settle` waits for them."""
        ...

    async def settle(self) -> None:
        """Return when everything that was submitted is durable."""
        ...


@dataclass(frozen=True, slots=True)
class Stored:
    """What a backend holds. `snapshot` None: there is no state yet. `journal` are the entries since the snapshot."""

    snapshot: State | None
    journal: Sequence[Entry]


class StateBackend(Protocol):
    """Where one workspace's state lives. `append` has one caller at a time; a stale fence is StateStale everywhere."""

    @property
    def location(self) -> str:
        """For messages: a path or URL without credentials."""
        ...

    async def load(self) -> Stored:
        """Raises StateMoved for a state that was migrated away."""
        ...

    async def lock(self, request: LockInfo) -> LockInfo:
        """Take the exclusive lock, or raise StateLocked naming the holder. Returns it with its fence."""
        ...

    async def renew(self, held: LockInfo) -> LockInfo: ...

    async def unlock(self, held: LockInfo) -> None: ...

    async def holder(self) -> LockInfo | None: ...

    async def break_lock(self, lock_id: str) -> None:
        """`unlock ID`: remove a lock by its id; another id is an error that names the real one."""
        ...

    async def append(self, entries: Sequence[Entry], *, base: State, held: LockInfo) -> None:
        """Durable when it returns. `base` is the snapshot the journal belongs to."""
        ...

    async def commit(self, state: State, *, held: LockInfo) -> None:
        """Replace the snapshot by `state` if the stored serial is `state.serial - 1`, and begin a fresh journal."""
        ...

    async def discard(self, *, held: LockInfo) -> None:
        """Take snapshot and journal away, as if there had been no state; the snapshot is kept as an earlier one."""
        ...

    async def history(self) -> Sequence[int]:
        """Serials of the kept earlier snapshots, newest first."""
        ...

    async def close(self) -> None: ...
