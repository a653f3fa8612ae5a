"""A state among objects that can be replaced only by who has seen them last: what S3 and Kubernetes have in common.

    head                                      the lock, and the names of what counts; replaced by compare-and-set
    snapshots/<serial>.<fence>.<n>            a snapshot; the ten before it stay
    journals/<serial>.<fence>.<n>/<number>    what one run has appended since that snapshot, one object per append

Rules that keep it whole:

- An object other than the head is written once, under a name that holds the fence of its writer. It counts from the
  moment the head names it.
- The first append of a run begins a journal of its own, with what a valid one held. So the segments of a run that
  stalled and lost its lock land in a journal that nobody reads.
- An append is acknowledged only after the head was seen, once the segment was there, with the lock still ours.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from gpuplan.core.ports import Clock, Stored
from gpuplan.core.state import Entry, LockInfo, State
from gpuplan.state.backends.head import Head, Version, decode_head, encode_head
from gpuplan.state.codec import corrupt, encode_state
from gpuplan.state.lock import is_dead, locked, lost, no_such_lock
from gpuplan.state.raw import RawState
from gpuplan.state.stale import check_base, check_successor
from gpuplan.state.stored import KEPT_SNAPSHOTS, StateUnreachable, continued, stored_of, unreachable
from gpuplan.state.wal import Framing

_TRIES = 12
_PAUSE_SECONDS = 0.1
_AT_ONCE = 8
"""Segments that are asked for together when a journal is read."""


class Changed(Exception):
    """The head is not the one that was expected."""


class Objects(Protocol):
    """The objects of one workspace. Every method may raise StateUnreachable, and StateError for what is refused.

    Reads see every write that has returned. Names are lower-case letters, digits, `.`, `-` and `/`.
    """

    @property
    def location(self) -> str:
        """For messages, without credentials."""
        ...

    async def look(self) -> tuple[bytes, str] | None:
        """The head and its version; None when there is none."""
        ...

    async def swap(self, content: bytes, expect: str | None) -> str:
        """Replace the head if its version is still this one, or if there still is none; returns the new version.

        Raises Changed.
        """
        ...

    async def read(self, name: str) -> bytes | None: ...

    async def write(self, name: str, content: bytes) -> None:
        """Durable when it returns. Writing the same again is no error."""
        ...

    async def remove(self, names: Sequence[str]) -> None:
        """Not there is fine."""
        ...

    async def names(self) -> Sequence[str]:
        """Every object but the head."""
        ...

    async def close(self) -> None: ...


@dataclass(slots=True)
class _Writer:
    """The journal this run appends to."""

    name: str
    framing: Framing
    serial: int
    fence: int
    segments: int


class ObjectBackend:
    """A `core.ports.StateBackend`."""

    def __init__(self, objects: Objects, clock: Clock) -> None:
        self._objects = objects
        self._clock = clock
        self._writer: _Writer | None = None
        self._made = 0
        self._seen: tuple[Head, str | None] | None = None
        self._one_change = asyncio.Lock()

    @property
    def location(self) -> str:
        return self._objects.location

    async def load(self) -> Stored:
        head, _ = await self._look()
        while True:
            stored = await self._read(head)
            if stored is not None and not head.journal:
                return stored
            # A commit may have come in between; then what was read does not belong together.
            now, _ = await self._look()
            if now.contents == head.contents:
                break
            head = now
        if stored is None:
            raise corrupt(self.location, "its head names objects that are not there")
        return stored

    async def lock(self, request: LockInfo) -> LockInfo:
        left_by_a_crash = False

        def take(head: Head) -> Head:
            nonlocal left_by_a_crash
            if head.holder is not None and not is_dead(head.holder, self._clock.now()):
                raise locked(head.holder)
            left_by_a_crash = head.holder is not None
            return replace(head, fence=head.fence + 1, holder=replace(request, fence=head.fence + 1))

        head = await self._change(take, None)
        assert head.holder is not None
        if left_by_a_crash:
            named = {version.name for version in (head.snapshot, *head.earlier) if version is not None}
            await self._tidy([], left=lambda name: name not in named and not _belongs(name, head.journal))
        return head.holder

    async def renew(self, held: LockInfo) -> LockInfo:
        await self._change(lambda head: replace(head, holder=held), held)
        return held

    async def unlock(self, held: LockInfo) -> None:
        await self._change(lambda head: replace(head, holder=None), held)

    async def holder(self) -> LockInfo | None:
        head, _ = await self._look()
        return head.holder

    async def break_lock(self, lock_id: str) -> None:
        def remove(head: Head) -> Head:
            if head.holder is None or head.holder.id != lock_id:
                raise no_such_lock(self.location, head.holder)
            return replace(head, holder=None)

        await self._change(remove, None)

    async def append(self, entries: Sequence[Entry], *, base: State, held: LockInfo) -> None:
        if not entries:
            return
        writer = self._writer
        if writer is None or (writer.serial, writer.fence) != (base.serial, held.fence):
            await self._begin(entries, base, held)
            return
        # Until the segment is acknowledged nobody knows where this journal ends; another append begins its own.
        self._writer = None
        await self._objects.write(_segment(writer.name, writer.segments), writer.framing.frame(entries))
        head, _ = await self._look()
        _check_held(head, held)
        writer.segments += 1
        self._writer = writer

    async def commit(self, state: State, *, held: LockInfo) -> None:
        name = self._name("snapshots", state.serial, held)
        await self._objects.write(name, encode_state(state))

        def put_in_place(head: Head) -> Head:
            check_successor(state, head.stored)
            kept = _earlier(head)
            return replace(head, snapshot=Version(state.lineage, state.serial, name), journal="", earlier=kept)

        await self._replace_contents(put_in_place, held)

    async def discard(self, *, held: LockInfo) -> None:
        await self._replace_contents(
            lambda head: replace(head, snapshot=None, journal="", earlier=_earlier(head)), held
        )

    async def history(self) -> Sequence[int]:
        head, _ = await self._look()
        return [each.serial for each in head.earlier]

    async def raw(self) -> RawState:
        now, _ = await self._look()
        while True:
            head = now
            snapshot = None if head.snapshot is None else await self._objects.read(head.snapshot.name)
            segments = await self._segments(head.journal) if head.journal else []
            kept = {each.serial: await self._objects.read(each.name) for each in head.earlier}
            found = {serial: content for serial, content in kept.items() if content is not None}
            now, _ = await self._look()
            # As in `load`.
            if now.contents == head.contents:
                return RawState(snapshot, b"".join(segments) if segments else None, found)

    async def put_back(self, state: State, *, held: LockInfo) -> None:
        """What was there becomes an earlier snapshot."""
        name = self._name("snapshots", state.serial, held)
        await self._objects.write(name, encode_state(state))
        restored = Version(state.lineage, state.serial, name)
        await self._replace_contents(
            lambda head: replace(head, snapshot=restored, journal="", earlier=_earlier(head)), held
        )

    async def close(self) -> None:
        await self._objects.close()

    async def _begin(self, entries: Sequence[Entry], base: State, held: LockInfo) -> None:
        """The first append of a run."""
        head, _ = await self._look()
        _check_held(head, held)
        check_base(base.lineage, base.serial, head.stored)
        segments = await self._segments(head.journal) if head.journal else []
        framing, content = continued(base, b"".join(segments), self.location)
        name = self._name("journals", base.serial, held)
        await self._objects.write(_segment(name, 0), content + framing.frame(entries))
        await self._change(lambda found: replace(found, journal=name), held)
        self._writer = _Writer(name, framing, base.serial, held.fence, 1)
        await self._tidy([_segment(head.journal, number) for number in range(len(segments))])

    async def _replace_contents(self, change: Callable[[Head], Head], held: LockInfo) -> None:
        """Change which snapshot counts, then remove what does not count any more."""
        before = Head()

        def noting(head: Head) -> Head:
            nonlocal before
            before = head
            return change(head)

        after = await self._change(noting, held)
        writer, self._writer = self._writer, None
        unused = [each.name for each in before.earlier if each not in after.earlier]
        if writer is not None and before.journal == writer.name:
            unused += [_segment(writer.name, number) for number in range(writer.segments)]
            await self._tidy(unused)
        elif before.journal:
            await self._tidy(unused, left=lambda name: _belongs(name, before.journal))
        else:
            await self._tidy(unused)

    async def _change(self, change: Callable[[Head], Head], held: LockInfo | None) -> Head:
        """Replace the head by what `change` makes of it; with `held`, only while that lock is ours."""
        async with self._one_change:
            if held is None or (self._seen is not None and not _is_held(self._seen[0], held)):
                self._seen = None
            for attempt in range(_TRIES):
                head, version = self._seen or await self._look()
                if held is not None:
                    _check_held(head, held)
                wanted = change(head)
                if await self._swap(wanted, version, attempt):
                    return wanted
        raise unreachable(self.location, "others are writing all the time")

    async def _swap(self, wanted: Head, version: str | None, attempt: int) -> bool:
        """Whether the head is the wanted one now."""
        self._seen = None
        try:
            self._seen = wanted, await self._objects.swap(encode_head(wanted), version)
            return True
        except Changed:
            pass
        except StateUnreachable:
            if attempt == _TRIES - 1:
                raise
            await self._clock.sleep(_PAUSE_SECONDS * 2 ** min(attempt, 4))
        # It may be our own write that is there, its answer lost.
        self._seen = await self._look()
        return self._seen[0] == wanted

    async def _look(self) -> tuple[Head, str | None]:
        found = await self._objects.look()
        return (Head(), None) if found is None else (decode_head(found[0], self.location), found[1])

    async def _read(self, head: Head) -> Stored | None:
        """What the head names; None when some of it is not there."""
        if head.snapshot is None:
            return stored_of(None, None, self.location)
        content = await self._objects.read(head.snapshot.name)
        segments = await self._segments(head.journal) if head.journal else []
        if content is None or bool(head.journal) != bool(segments):
            return None
        return stored_of(content, b"".join(segments) if segments else None, self.location)

    async def _segments(self, journal: str) -> list[bytes]:
        """All there are. They are asked for by number: no listing needs to be up to date."""
        found: list[bytes] = []
        while True:
            numbers = range(len(found), len(found) + _AT_ONCE)
            asked = await asyncio.gather(*(self._objects.read(_segment(journal, number)) for number in numbers))
            for content in asked:
                if content is None:
                    return found
                found.append(content)

    async def _tidy(self, unused: list[str], *, left: Callable[[str], bool] | None = None) -> None:
        """Remove what does not count any more, and what is `left` among all there are."""
        with suppress(StateUnreachable):
            # It only takes room, and the next run that takes a lock over removes it.
            if left is not None:
                unused = [*unused, *filter(left, await self._objects.names())]
            await self._objects.remove(unused)

    def _name(self, kind: str, serial: int, held: LockInfo) -> str:
        self._made += 1
        return f"{kind}/{serial}.{held.fence}.{self._made}"


def _segment(journal: str, number: int) -> str:
    return f"{journal}/{number}"


def _belongs(name: str, journal: str) -> bool:
    return bool(journal) and name.startswith(f"{journal}/")


def _earlier(head: Head) -> tuple[Version, ...]:
    """The earlier snapshots once the present one is one of them."""
    return head.earlier if head.snapshot is None else (head.snapshot, *head.earlier)[:KEPT_SNAPSHOTS]


def _is_held(head: Head, held: LockInfo) -> bool:
    return head.holder is not None and (head.holder.id, head.holder.fence) == (held.id, held.fence)


def _check_held(head: Head, held: LockInfo) -> None:
    if not _is_held(head, held):
        raise lost(held, head.holder)
