"""The state as files in a folder; the default backend.

    <workspace>.json            the snapshot
    <workspace>.journal         what happened since; there only during a run and after a crash
    <workspace>.lock            who works on it; there only during a run
    .backup/<workspace>.N.json  earlier snapshots, by serial
    .work/                      the guard, the last fence given, and files that are not complete yet

Made for the processes of one machine. Two rules keep it whole:

- Whatever replaces a file (commit, the first append of a run, every step of the lock) happens under the guard, a file
  lock that the kernel drops when its owner dies, and checks there that the lock is still ours.
- A run appends only to a journal file that it made itself, and acknowledges only after it has seen, once the records
  were on the disk, that the lock was still its own. So a run that stalled and lost its lock can at most write to a
  file that nobody reads any more, and is told so.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from gpuplan.core.diagnostics import Diagnostic
from gpuplan.core.errors import StateError
from gpuplan.core.ports import Clock, Stored
from gpuplan.core.state import Entry, LockInfo, State
from gpuplan.state.backends.disk import Disk, OsDisk
from gpuplan.state.backends.local_files import LocalFiles
from gpuplan.state.backends.local_lock import LocalLock
from gpuplan.state.codec import encode_state
from gpuplan.state.raw import RawState
from gpuplan.state.workspace import check_workspace, is_workspace

_GUARD_TRIES = 500
_GUARD_TRY_SECONDS = 0.02

Result = TypeVar("Result")


def workspaces(folder: Path) -> tuple[str, ...]:
    """Names of the workspaces that have a state in this folder."""
    found = (path.stem for path in folder.glob("*.json"))
    return tuple(sorted(name for name in found if is_workspace(name)))


class LocalBackend:
    """One workspace in one folder. Only threads and the guard are here; what they do is in `LocalFiles`."""

    def __init__(self, folder: Path, workspace: str, clock: Clock, *, disk: Disk | None = None) -> None:
        """Touches nothing yet. Raises StateError for a name that could leave the folder."""
        check_workspace(workspace)
        disk = disk or OsDisk()
        work = folder / ".work"
        self._clock = clock
        self._disk = disk
        self._guard = work / f"{workspace}.guard"
        self._lock = LocalLock(disk, folder / f"{workspace}.lock", work / f"{workspace}.fence")
        self._files = LocalFiles(disk, folder, workspace, self._lock)

    @property
    def location(self) -> str:
        return str(self._files.snapshot)

    async def load(self) -> Stored:
        return await self._look(self._files.load)

    async def history(self) -> Sequence[int]:
        return await self._look(self._files.kept)

    async def holder(self) -> LockInfo | None:
        return await self._look(self._lock.holder)

    async def lock(self, request: LockInfo) -> LockInfo:
        def take() -> LockInfo:
            held = self._lock.take(request, self._clock.now())
            self._files.sweep()
            return held

        await self._act(self._files.make_folders)
        return await self._alone(take)

    async def renew(self, held: LockInfo) -> LockInfo:
        await self._alone(lambda: self._lock.renew(held))
        return held

    async def unlock(self, held: LockInfo) -> None:
        def release() -> None:
            self._files.close()
            self._lock.release(held)

        await self._alone(release)

    async def break_lock(self, lock_id: str) -> None:
        await self._act(self._files.make_folders)
        await self._alone(lambda: self._lock.remove(lock_id, self.location))

    async def append(self, entries: Sequence[Entry], *, base: State, held: LockInfo) -> None:
        if not entries:
            return
        if self._files.is_appending(base, held):
            await self._act(lambda: self._files.extend(entries, held))
        else:
            await self._alone(lambda: self._files.begin(entries, base, held))

    async def commit(self, state: State, *, held: LockInfo) -> None:
        complete = await self._act(lambda: self._files.write_aside(encode_state(state), held))
        await self._alone(lambda: self._files.put_in_place(complete, state, held))

    async def discard(self, *, held: LockInfo) -> None:
        await self._alone(lambda: self._files.take_away(held))

    async def raw(self) -> RawState:
        return await self._look(self._files.raw)

    async def put_back(self, state: State, *, held: LockInfo) -> None:
        complete = await self._act(lambda: self._files.write_aside(encode_state(state), held))
        await self._alone(lambda: self._files.put_back(complete, held))

    async def close(self) -> None:
        self._files.close()

    async def _look(self, step: Callable[[], Result]) -> Result:
        with self._translated("state-unreadable", "read"):
            return await asyncio.to_thread(step)

    async def _act(self, step: Callable[[], Result]) -> Result:
        with self._translated("state-unwritable", "written"):
            return await asyncio.to_thread(step)

    async def _alone(self, step: Callable[[], Result]) -> Result:
        """Run a step alone among all processes that work on this state."""

        def guarded() -> tuple[Result] | None:
            with self._disk.exclusive(self._guard) as inside:
                return (step(),) if inside else None

        for _ in range(_GUARD_TRIES):
            if (result := await self._act(guarded)) is not None:
                return result[0]
            await self._clock.sleep(_GUARD_TRY_SECONDS)
        raise StateError(
            diagnostics=(
                Diagnostic(
                    id="state-busy",
                    summary=f"another process is in the middle of a write to `{self.location}`",
                    facts=("it did not finish within 10 s; it may be stopped", "nothing was changed"),
                    hint="continue or end that process, then run the command again",
                ),
            )
        )

    @contextmanager
    def _translated(self, error_id: str, verb: str) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            path = f" ({exc.filename})" if exc.filename else ""
            raise StateError(
                diagnostics=(
                    Diagnostic(
                        id=error_id,
                        summary=f"`{self.location}` cannot be {verb}",
                        facts=(f"the system says: {exc.strerror}{path}", "everything recorded before is kept"),
                        hint="mend that, then run the command again: what was left open is settled then",
                    ),
                )
            ) from exc
