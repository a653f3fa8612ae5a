"""A state that lives as long as its `MemoryStore`: for tests, benchmarks and programs that keep no files.

It keeps the same bytes as the file backend would, so whatever cannot be written to a file cannot be written here.
Several backends on one store compete for its lock as several processes would.
"""

from collections.abc import Sequence
from dataclasses import replace

from gpuplan.core.ports import Clock, Stored
from gpuplan.core.state import Entry, LockInfo, State
from gpuplan.state.codec import encode_state
from gpuplan.state.lock import is_dead, locked, lost, no_such_lock
from gpuplan.state.stale import check_base, check_successor
from gpuplan.state.stored import KEPT_SNAPSHOTS, stored_of
from gpuplan.state.wal import Framing


class MemoryStore:
    """What outlives a backend. `bytes_written` counts snapshots and journals alike."""

    def __init__(self) -> None:
        self.snapshot: bytes | None = None
        self.stored: tuple[str, int] | None = None
        self.journal = bytearray()
        self.framing: Framing | None = None
        self.kept: dict[int, bytes] = {}
        self.holder: LockInfo | None = None
        self.fence = 0
        self.bytes_written = 0


class MemoryBackend:
    def __init__(self, clock: Clock, store: MemoryStore | None = None) -> None:
        self._clock = clock
        self._store = store or MemoryStore()

    @property
    def location(self) -> str:
        return "memory"

    async def load(self) -> Stored:
        store = self._store
        return stored_of(store.snapshot, bytes(store.journal) or None, self.location)

    async def lock(self, request: LockInfo) -> LockInfo:
        store = self._store
        if store.holder is not None and not is_dead(store.holder, self._clock.now()):
            raise locked(store.holder)
        store.fence += 1
        store.holder = replace(request, fence=store.fence)
        return store.holder

    async def renew(self, held: LockInfo) -> LockInfo:
        self._check(held)
        self._store.holder = held
        return held

    async def unlock(self, held: LockInfo) -> None:
        self._check(held)
        self._store.holder = None

    async def holder(self) -> LockInfo | None:
        return self._store.holder

    async def break_lock(self, lock_id: str) -> None:
        holder = self._store.holder
        if holder is None or holder.id != lock_id:
            raise no_such_lock(self.location, holder)
        self._store.holder = None

    async def append(self, entries: Sequence[Entry], *, base: State, held: LockInfo) -> None:
        if not entries:
            return
        store = self._store
        self._check(held)
        check_base(base.lineage, base.serial, store.stored)
        if store.framing is None:
            store.framing, header = Framing.begin(base)
            store.journal += header
        framed = store.framing.frame(entries)
        store.journal += framed
        store.bytes_written += len(framed)

    async def commit(self, state: State, *, held: LockInfo) -> None:
        store = self._store
        self._check(held)
        check_successor(state, store.stored)
        content = encode_state(state)
        self._keep()
        store.snapshot, store.stored = content, (state.lineage, state.serial)
        store.journal, store.framing = bytearray(), None
        store.bytes_written += len(content)

    async def discard(self, *, held: LockInfo) -> None:
        store = self._store
        self._check(held)
        self._keep()
        store.snapshot = store.stored = store.framing = None
        store.journal = bytearray()

    async def history(self) -> Sequence[int]:
        return sorted(self._store.kept, reverse=True)

    async def close(self) -> None:
        """Nothing to release: the store is the caller's."""

    def _keep(self) -> None:
        store = self._store
        if store.snapshot is not None and store.stored is not None:
            store.kept[store.stored[1]] = store.snapshot
            for serial in sorted(store.kept)[:-KEPT_SNAPSHOTS]:
                del store.kept[serial]

    def _check(self, held: LockInfo) -> None:
        holder = self._store.holder
        if holder is None or (holder.id, holder.fence) != (held.id, held.fence):
            raise lost(held, holder)
