"""The lock of a file state: a file with the holder in it, and a fence that never repeats.

Every method is one step under the guard of `LocalBackend`, except `holder` and `check`, which only look.
"""

from dataclasses import replace
from datetime import datetime
from pathlib import Path

from gpuplan.core.state import LockInfo
from gpuplan.state.backends.disk import Disk
from gpuplan.state.codec import corrupt
from gpuplan.state.lock import decode_lock, encode_lock, is_dead, locked, lost, no_such_lock


class LocalLock:
    def __init__(self, disk: Disk, path: Path, fence: Path) -> None:
        self._disk = disk
        self._path = path
        self._fence = fence

    def holder(self) -> LockInfo | None:
        """Raises StateCorrupt when the file is damaged: nobody can tell then who holds it."""
        try:
            content = self._disk.read(self._path)
        except FileNotFoundError:
            return None
        try:
            return decode_lock(content)
        except (ValueError, RecursionError) as exc:
            raise corrupt(str(self._path), str(exc), "remove this file if no gpuplan runs on this state") from exc

    def check(self, held: LockInfo) -> None:
        """Raises StateStale when the lock is not ours any more."""
        holder = self.holder()
        if holder is None or (holder.id, holder.fence) != (held.id, held.fence):
            raise lost(held, holder)

    def take(self, request: LockInfo, now: datetime) -> LockInfo:
        """Raises StateLocked while a living run holds it."""
        holder = self.holder()
        if holder is not None and not is_dead(holder, now):
            raise locked(holder)
        fence = 1 + max(self._last_fence(), 0 if holder is None else holder.fence)
        self._write(self._fence, b"%d\n" % fence)
        held = replace(request, fence=fence)
        self._write(self._path, encode_lock(held))
        return held

    def renew(self, held: LockInfo) -> None:
        self.check(held)
        self._write(self._path, encode_lock(held))

    def release(self, held: LockInfo) -> None:
        self.check(held)
        self._disk.remove(self._path)

    def remove(self, lock_id: str, location: str) -> None:
        holder = self.holder()
        if holder is None or holder.id != lock_id:
            raise no_such_lock(location, holder)
        self._disk.remove(self._path)

    def _last_fence(self) -> int:
        try:
            content = self._disk.read(self._fence)
        except FileNotFoundError:
            return 0
        if not content.strip().isdigit():
            raise corrupt(str(self._fence), "it holds no number")
        return int(content)

    def _write(self, path: Path, content: bytes) -> None:
        aside = self._fence.with_suffix(f".new{path.suffix}")
        descriptor = self._disk.create(aside)
        try:
            self._disk.write(descriptor, content)
            self._disk.sync(descriptor)
        finally:
            self._disk.close(descriptor)
        self._disk.replace(aside, path)
