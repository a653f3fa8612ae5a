"""A layer before any backend, behind which snapshots and journals are encrypted; lineage, serial and lock are not.

`workflow` puts it before every backend it opens. What a backend holds may be readable, encrypted, or written with
different keys, entry by entry: everything is read that there is a key for, and whatever is written next is written with
the present one. Without a key it passes everything through, and says so where something cannot be read.

What is encrypted is bound to its place: lineage and serial, for a journal also how many appends came before. A whole
earlier state put back by who may write there is not noticed.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from gpuplan.core.errors import StateEncrypted, StateMoved
from gpuplan.core.ports import StateBackend, Stored
from gpuplan.core.state import Encrypted, Entry, LockInfo, State
from gpuplan.state.codec import KEY_BYTES, corrupt, decode_entry, decode_state, encode_entry, encode_state
from gpuplan.state.decoding import Decoder
from gpuplan.state.encoding import Encoder, to_json
from gpuplan.state.encryption_keys import Keyring


class EncryptedBackend:
    """A `core.ports.StateBackend` over another one."""

    def __init__(self, inner: StateBackend, keys: Keyring) -> None:
        self.inner = inner
        self._keys = keys
        self._appended: tuple[int, int] | None = None
        """Serial of the snapshot, and how many entries its journal has as the backend below counts."""

    @property
    def location(self) -> str:
        return self.inner.location

    async def load(self) -> Stored:
        try:
            stored = await self.inner.load()
        except StateMoved as exc:
            with suppress(StateEncrypted):
                # Where it is now is readable without a key.
                exc.left = await asyncio.to_thread(readable_state, exc.left, self._keys, self.location)
            raise
        if stored.snapshot is None:
            return stored
        self._appended = stored.snapshot.serial, len(stored.journal)
        return await asyncio.to_thread(readable, stored, self._keys, self.location)

    async def lock(self, request: LockInfo) -> LockInfo:
        self._appended = None
        return await self.inner.lock(request)

    async def renew(self, held: LockInfo) -> LockInfo:
        return await self.inner.renew(held)

    async def unlock(self, held: LockInfo) -> None:
        await self.inner.unlock(held)

    async def holder(self) -> LockInfo | None:
        return await self.inner.holder()

    async def break_lock(self, lock_id: str) -> None:
        await self.inner.break_lock(lock_id)

    async def append(self, entries: Sequence[Entry], *, base: State, held: LockInfo) -> None:
        if not entries or not self._keys.writes:
            self._appended = None
            await self.inner.append(entries, base=base, held=held)
            return
        number = await self._number(base)
        encrypted = await asyncio.to_thread(_encrypted_entries, entries, base, number, self._keys)
        # Until it is acknowledged nobody knows whether it is there.
        self._appended = None
        await self.inner.append([encrypted], base=_outside(base, ""), held=held)
        self._appended = base.serial, number + 1

    async def commit(self, state: State, *, held: LockInfo) -> None:
        if self._keys.writes:
            state = await asyncio.to_thread(encrypted_state, state, self._keys)
        self._appended = None
        await self.inner.commit(state, held=held)
        self._appended = state.serial, 0

    async def discard(self, *, held: LockInfo) -> None:
        self._appended = None
        await self.inner.discard(held=held)

    async def history(self) -> Sequence[int]:
        return await self.inner.history()

    async def close(self) -> None:
        await self.inner.close()

    async def _number(self, base: State) -> int:
        """How many entries the journal of this snapshot has."""
        if self._appended is None or self._appended[0] != base.serial:
            stored = await self.inner.load()
            return len(stored.journal)
        return self._appended[1]


def encrypted_state(state: State, keys: Keyring) -> State:
    """The same state, as it may be kept anywhere."""
    text = keys.encrypt(encode_state(state), salt=state.lineage, bound=_bound(state))
    return _outside(state, text)


def readable(stored: Stored, keys: Keyring, where: str) -> Stored:
    """What a backend holds, in the clear. Raises StateEncrypted, StateCorrupt."""
    if stored.snapshot is None:
        return stored
    snapshot = readable_state(stored.snapshot, keys, where)
    entries: list[Entry] = []
    for number, entry in enumerate(stored.journal):
        if isinstance(entry, Encrypted):
            entries += readable_entries(entry, snapshot, number, keys, f"the journal of {where}")
        else:
            entries.append(entry)
    return Stored(snapshot, tuple(entries))


def readable_state(state: State, keys: Keyring, where: str) -> State:
    """A snapshot in the clear. Raises StateEncrypted, StateCorrupt."""
    if not state.encrypted:
        return state
    content = keys.decrypt(state.encrypted, salt=state.lineage, bound=_bound(state), where=where)
    return decode_state(content, where)


def _encrypted_entries(entries: Sequence[Entry], base: State, number: int, keys: Keyring) -> Encrypted:
    encoder = Encoder()
    content = "\n".join(encode_entry(entry, encoder) for entry in entries).encode("ascii")
    return Encrypted(keys.encrypt(content, salt=base.lineage, bound=_bound_entry(base, number)))


def readable_entries(entry: Encrypted, base: State, number: int, keys: Keyring, where: str) -> list[Entry]:
    """The entries of one append, the `number`th after this snapshot. Raises StateEncrypted, StateCorrupt."""
    content = keys.decrypt(entry.text, salt=base.lineage, bound=_bound_entry(base, number), where=where)
    decoder = Decoder()
    try:
        return [decode_entry(line, decoder) for line in content.decode("ascii").split("\n")]
    except ValueError as exc:
        raise corrupt(where, f"append {number + 1}: {exc}") from exc


def _outside(state: State, text: str) -> State:
    """What everyone may see of a state."""
    return State(
        lineage=state.lineage,
        serial=state.serial,
        key=bytes(KEY_BYTES),
        project=state.project,
        moved_to=state.moved_to,
        encrypted=text,
    )


def _bound(state: State) -> str:
    return to_json(["snapshot", state.lineage, state.serial, state.project, state.moved_to])


def _bound_entry(base: State, number: int) -> str:
    return to_json(["journal", base.lineage, base.serial, number])
