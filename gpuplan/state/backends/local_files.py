"""Snapshot, journal and earlier snapshots of one workspace as files: the blocking half of `LocalBackend`.

`begin` and `put_in_place` run under its guard. Raises OSError as the disk does; `LocalBackend` gives it words.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpuplan.core.errors import StateError
from gpuplan.core.ports import Stored
from gpuplan.core.state import Entry, LockInfo, State
from gpuplan.state.backends.disk import Disk
from gpuplan.state.backends.local_lock import LocalLock
from gpuplan.state.codec import decode_state
from gpuplan.state.raw import RawState
from gpuplan.state.stale import check_base, check_successor
from gpuplan.state.stored import KEPT_SNAPSHOTS, continued, here
from gpuplan.state.wal import Framing, entries_since, read_journal


@dataclass(frozen=True, slots=True)
class _Writer:
    """The journal file this run appends to."""

    descriptor: int
    framing: Framing
    serial: int
    fence: int


@dataclass(frozen=True, slots=True)
class _Seen:
    """A snapshot we wrote or read: `version` tells whether the file is still that one."""

    version: tuple[int, int, int]
    lineage: str
    serial: int


class LocalFiles:
    def __init__(self, disk: Disk, folder: Path, workspace: str, lock: LocalLock) -> None:
        self._disk = disk
        self._folder = folder
        self._workspace = workspace
        self._lock = lock
        self.snapshot = folder / f"{workspace}.json"
        self._journal = folder / f"{workspace}.journal"
        self._backups = folder / ".backup"
        self._work = folder / ".work"
        self._writer: _Writer | None = None
        self._seen: _Seen | None = None

    def make_folders(self) -> None:
        for folder in (self._folder, self._work, self._backups):
            self._disk.make_folder(folder)

    def load(self) -> Stored:
        """What is on the disk, read without any lock."""
        while True:
            version = self._disk.version(self.snapshot)
            content = self._read(self.snapshot)
            journal = self._read(self._journal)
            # A commit may come between the two; then they do not belong together.
            if self._disk.version(self.snapshot) == version:
                break
        snapshot = None if content is None else decode_state(content, str(self.snapshot))
        if snapshot is not None and version is not None:
            self._seen = _Seen(version, snapshot.lineage, snapshot.serial)
        if snapshot is not None:
            here(snapshot, str(self.snapshot))
        if journal is None:
            return Stored(snapshot, ())
        where = str(self._journal)
        return Stored(snapshot, entries_since(snapshot, read_journal(journal, where), where))

    def is_appending(self, base: State, held: LockInfo) -> bool:
        """Whether this run has its journal file already."""
        writer = self._writer
        return writer is not None and (writer.serial, writer.fence) == (base.serial, held.fence)

    def begin(self, entries: Sequence[Entry], base: State, held: LockInfo) -> None:
        """The first append of a run: a new journal file, with what a valid one held, takes the place of the old."""
        self._lock.check(held)
        check_base(base.lineage, base.serial, self._stored())
        self.close()
        framing, content = continued(base, self._read(self._journal) or b"", str(self._journal))
        content += framing.frame(entries)
        aside = self._aside("journal", held)
        descriptor = self._disk.create(aside)
        try:
            self._disk.write(descriptor, content)
            self._disk.sync(descriptor)
            self._disk.replace(aside, self._journal)
            self._disk.sync_folder(self._folder)
        except OSError:
            self._disk.close(descriptor)
            raise
        self._writer = _Writer(descriptor, framing, base.serial, held.fence)

    def extend(self, entries: Sequence[Entry], held: LockInfo) -> None:
        """Append to the journal file of this run."""
        assert self._writer is not None
        framed = self._writer.framing.frame(entries)
        try:
            self._disk.write(self._writer.descriptor, framed)
            self._disk.sync(self._writer.descriptor)
            self._lock.check(held)
        except (OSError, StateError):
            # Where this file ends is not known any more; another append begins a file of its own.
            self.close()
            raise

    def write_aside(self, content: bytes, held: LockInfo) -> Path:
        """A complete snapshot, on the disk but not in its place yet."""
        aside = self._aside("json", held)
        descriptor = self._disk.create(aside)
        try:
            self._disk.write(descriptor, content)
            self._disk.sync(descriptor)
        finally:
            self._disk.close(descriptor)
        return aside

    def put_in_place(self, complete: Path, state: State, held: LockInfo) -> None:
        """The commit: the snapshot changes hands, then its journal goes."""
        self._lock.check(held)
        stored = self._stored()
        check_successor(state, stored)
        if stored is not None:
            self._keep(stored[1])
        self._disk.replace(complete, self.snapshot)
        self._disk.sync_folder(self._folder)
        self.close()
        self._disk.remove(self._journal)
        self._drop_oldest()
        version = self._disk.version(self.snapshot)
        self._seen = None if version is None else _Seen(version, state.lineage, state.serial)

    def take_away(self, held: LockInfo) -> None:
        """Leave no state: its snapshot becomes an earlier one."""
        self._lock.check(held)
        stored = self._stored()
        if stored is None:
            return
        self._keep(stored[1])
        self.close()
        # In this order: a journal without its snapshot would be damage.
        self._disk.remove(self._journal)
        self._disk.remove(self.snapshot)
        self._disk.sync_folder(self._folder)
        self._drop_oldest()
        self._seen = None

    def raw(self) -> RawState:
        """What is on the disk, whether it can be read or not."""
        while True:
            version = self._disk.version(self.snapshot)
            read = {serial: self._read(self._backup(serial)) for serial in self.kept()}
            kept = {serial: content for serial, content in read.items() if content is not None}
            raw = RawState(self._read(self.snapshot), self._read(self._journal), kept)
            # As in `load`.
            if self._disk.version(self.snapshot) == version:
                return raw

    def put_back(self, complete: Path, held: LockInfo) -> None:
        """Replace what may be damaged; that stays beside the earlier snapshots."""
        self._lock.check(held)
        self.close()
        self._seen = None
        for path in (self.snapshot, self._journal):
            if self._disk.version(path) is not None:
                beside = self._backups / f"{path.name}.damaged-{held.fence}"
                self._disk.remove(beside)
                self._disk.link(path, beside)
        self._disk.sync_folder(self._backups)
        self._disk.replace(complete, self.snapshot)
        self._disk.sync_folder(self._folder)
        self._disk.remove(self._journal)
        self._disk.sync_folder(self._folder)

    def kept(self) -> list[int]:
        """Serials of the earlier snapshots, newest first."""
        pattern = re.compile(rf"{self._workspace}\.(\d+)\.json")
        found = map(pattern.fullmatch, self._disk.names(self._backups))
        return sorted((int(match[1]) for match in found if match is not None), reverse=True)

    def sweep(self) -> None:
        """Remove what crashed runs left half written."""
        pattern = re.compile(rf"{self._workspace}\.\d+\.(json|journal)")
        for name in self._disk.names(self._work):
            if pattern.fullmatch(name):
                self._disk.remove(self._work / name)

    def close(self) -> None:
        if self._writer is not None:
            self._disk.close(self._writer.descriptor)
            self._writer = None

    def _stored(self) -> tuple[str, int] | None:
        """Lineage and serial of the snapshot on the disk, which is read only when it is not the one we have seen."""
        version = self._disk.version(self.snapshot)
        if version is None:
            return None
        if self._seen is None or self._seen.version != version:
            state = decode_state(self._disk.read(self.snapshot), str(self.snapshot))
            self._seen = _Seen(version, state.lineage, state.serial)
        return self._seen.lineage, self._seen.serial

    def _keep(self, serial: int) -> None:
        backup = self._backup(serial)
        self._disk.remove(backup)
        self._disk.link(self.snapshot, backup)

    def _drop_oldest(self) -> None:
        for serial in self.kept()[KEPT_SNAPSHOTS:]:
            self._disk.remove(self._backup(serial))

    def _backup(self, serial: int) -> Path:
        return self._backups / f"{self._workspace}.{serial}.json"

    def _aside(self, kind: str, held: LockInfo) -> Path:
        # The fence in the name keeps a stalled run from writing into the file of the one that took over.
        return self._work / f"{self._workspace}.{held.fence}.{kind}"

    def _read(self, path: Path) -> bytes | None:
        try:
            return self._disk.read(path)
        except FileNotFoundError:
            return None
