"""One run's hold on the state: the lock, the journal, and the state as it is with every durable entry folded in.

`workflow` opens it, the engine writes to it as `core.ports.Ledger`, `workflow` commits and closes it. `read_state` is
for commands that only look.

Entries are folded into `state` once they are durable and not before: what it shows, a crash cannot take back; `ahead`
is what it will be. All entries that come while one append is on its way to the disk go out together in the next one
(group commit), in the order in which they came. A crash keeps the beginning of an append at most, so no entry outlives
one that came before it. After a failed append nobody knows where the journal ends, so every later write fails with the
same error.
"""

import asyncio
import secrets
from contextlib import suppress
from dataclasses import dataclass, field, replace

from gpuplan.core.errors import StateError, StateStale
from gpuplan.core.ports import Clock, StateBackend
from gpuplan.core.state import Entry, LockInfo, State
from gpuplan.state.codec import KEY_BYTES
from gpuplan.state.journal import Folding, replay
from gpuplan.state.lock import acquire, lost
from gpuplan.state.stale import check_base


@dataclass(slots=True)
class _Batch:
    """Entries that go out in one append, and the task that brings them there."""

    entries: list[Entry] = field(default_factory=list)
    sent: "asyncio.Task[None] | None" = None


async def read_state(backend: StateBackend) -> State | None:
    """The state without a lock: snapshot and journal as they are now; None when there is none yet."""
    stored = await backend.load()
    return None if stored.snapshot is None else replay(stored.snapshot, stored.journal)


class Session:
    """Made by `open`. `close` it whatever happens: that releases the lock."""

    def __init__(self, backend: StateBackend, clock: Clock, *, held: LockInfo, base: State) -> None:
        self._backend = backend
        self._clock = clock
        self._held = held
        self._serial = base.serial
        self._folding = Folding(base)
        self._ahead = Folding(base)
        self._next_seq = base.next_seq
        self._batch = _Batch()
        self._last: asyncio.Task[None] | None = None
        """Brings the latest batch to the disk; when it is done, all before it are."""
        self._one_append = asyncio.Lock()
        self._changed = False
        self._failure: BaseException | None = None
        self._heartbeat = asyncio.create_task(self._keep_lock())

    @classmethod
    async def open(
        cls,
        backend: StateBackend,
        clock: Clock,
        *,
        request: LockInfo,
        create_project: str,
        patience_seconds: float = 0.0,
    ) -> "Session":
        """Lock, load, and fold what a crashed run left in the journal into a snapshot of its own.

        A state that does not exist yet is born: serial 0, a random lineage and key. Raises StateLocked when another
        run holds it for longer than the patience.
        """
        held = await acquire(backend, request, patience_seconds=patience_seconds, clock=clock)
        try:
            base = await _settled(backend, held, clock, create_project)
            if not base.project:
                # Born by a command that reads no spec, such as `workspace new`.
                base = replace(base, project=create_project)
        except BaseException:
            # Also when interrupted: a lock that nobody uses would only be in the way.
            await backend.unlock(held)
            raise
        return cls(backend, clock, held=held, base=base)

    @property
    def state(self) -> State:
        """Everything that is durable now; a view that changes with the next write."""
        return self._folding.view(self._serial)

    @property
    def ahead(self) -> State:
        """`state` with everything submitted; a view that changes with the next submission."""
        return self._ahead.view(self._serial)

    @property
    def held(self) -> LockInfo:
        return self._held

    def next_seq(self) -> int:
        """The number of the next intent; each call gives another."""
        seq = self._next_seq
        self._next_seq += 1
        return seq

    async def write(self, *entries: Entry) -> None:
        """Durable, folded and in order when it returns; entries of one call stay together.

        Cancelling the caller does not take the entries back. Raises StateStale once the lock is lost, StateError when
        the backend cannot write.
        """
        self.submit(*entries)
        if entries:
            await self.settle()

    def submit(self, *entries: Entry) -> None:
        """Give entries their place in the journal; they are durable once a later `settle` or `write` returns.

        Raises what an earlier write failed with.
        """
        self._raise_failure()
        if not entries:
            return
        batch = self._batch
        batch.entries.extend(entries)
        for entry in entries:
            self._ahead.fold(entry)
        if batch.sent is None:
            batch.sent = self._last = asyncio.create_task(self._send(batch))
            batch.sent.add_done_callback(_retrieve)

    async def settle(self) -> None:
        """Return when everything submitted is durable; raises as `write` does."""
        if self._last is not None:
            await asyncio.shield(self._last)

    async def commit(self) -> State:
        """Make a snapshot of everything submitted, with the next serial; nothing happens if nothing was."""
        await self.settle()
        async with self._one_append:
            self._raise_failure()
            if self._changed:
                await self._guarded_commit()
        return self.state

    async def close(self) -> None:
        """Stop renewing the lock and release it. What was submitted but not committed stays in the journal."""
        self._heartbeat.cancel()
        await asyncio.wait({self._heartbeat} if self._last is None else {self._heartbeat, self._last})
        async with self._one_append:
            with suppress(StateStale):
                # A lock that is someone else's by now needs no release.
                await self._backend.unlock(self._held)

    async def _send(self, batch: _Batch) -> None:
        # One turn of the loop: an operation that these entries set going adds its intent to them, so that a chain of
        # operations costs one append for each and not two.
        await self._clock.sleep(0)
        async with self._one_append:
            # From here on new entries belong to the next append.
            self._batch = _Batch()
            self._raise_failure()
            try:
                await self._backend.append(batch.entries, base=self.state, held=self._held)
            except BaseException as exc:
                # Whatever it was, the end of the journal is not known any more.
                self._failure = exc
                raise
            for entry in batch.entries:
                self._folding.fold(entry)
            self._changed = True

    async def _guarded_commit(self) -> None:
        try:
            await self._backend.commit(self._folding.view(self._serial + 1), held=self._held)
        except BaseException as exc:
            # The snapshot may have changed hands or not; the journal still has everything.
            self._failure = exc
            raise
        self._serial += 1
        self._changed = False

    async def _keep_lock(self) -> None:
        lease = self._held.expires_at - self._held.created_at
        while True:
            await self._clock.sleep(lease.total_seconds() / 3)
            renewed = replace(self._held, expires_at=self._clock.now() + lease)
            try:
                self._held = await self._backend.renew(renewed)
            except StateStale as exc:
                self._failure = exc
                return
            except StateError:
                # The next beat may get through; past the lease anyone may take over, so we stop before.
                if self._held.expires_at <= self._clock.now():
                    self._failure = lost(self._held, None)
                    return

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


def _retrieve(sent: "asyncio.Task[None]") -> None:
    """Nobody may be waiting for this batch; the session keeps its failure for whoever writes next."""
    if not sent.cancelled():
        sent.exception()


async def _settled(backend: StateBackend, held: LockInfo, clock: Clock, project: str) -> State:
    """The state to work on: new, as it is stored, or with a left-over journal folded in."""
    stored = await backend.load()
    if stored.snapshot is None:
        born = State(lineage=clock.token(), serial=0, key=secrets.token_bytes(KEY_BYTES), project=project)
        await backend.commit(born, held=held)
        return born
    if not stored.journal:
        return stored.snapshot
    # A new serial: a plan made before that run must not be applied after it.
    state = replay(stored.snapshot, stored.journal)
    settled = replace(state, serial=state.serial + 1)
    await backend.commit(settled, held=held)
    return settled


async def push_state(backend: StateBackend, clock: Clock, *, request: LockInfo, pushed: State) -> State:
    """Put a state that was pulled and edited in place of the stored one (`state push`), under the next serial.

    Where nothing is stored it is taken as it is. Raises LineageMismatch when what is stored is another state,
    StateStale when it has moved on since the pull.
    """
    held = await acquire(backend, request, patience_seconds=0, clock=clock)
    try:
        stored = await backend.load()
        if stored.snapshot is not None:
            current = await _settled(backend, held, clock, stored.snapshot.project)
            check_base(pushed.lineage, pushed.serial, (current.lineage, current.serial))
            pushed = replace(pushed, serial=current.serial + 1)
        await backend.commit(pushed, held=held)
    finally:
        await backend.unlock(held)
    return pushed
