"""Disks on which something happens at one chosen call: a kill, a full disk, an I/O error, the loss of power."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from gpuplan.state.backends.disk import OsDisk


class TrippedDisk:
    """A real disk that counts its calls and, from call number `at` on, lets `trip` decide what happens instead.

    `trip` gets the name of the call, and ends the process or raises; if it returns, the call goes through. A write is
    half done by then. `at` 0 never trips.
    """

    def __init__(self, trip: Callable[[str], None], *, at: int) -> None:
        self._disk = OsDisk()
        self._trip = trip
        self._at = at
        self.calls: list[str] = []

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if 0 < self._at <= len(self.calls):
            self._trip(name)

    def make_folder(self, path: Path) -> None:
        self._call("make_folder")
        self._disk.make_folder(path)

    def read(self, path: Path) -> bytes:
        self._call("read")
        return self._disk.read(path)

    def version(self, path: Path) -> tuple[int, int, int] | None:
        self._call("version")
        return self._disk.version(path)

    def names(self, folder: Path) -> list[str]:
        self._call("names")
        return self._disk.names(folder)

    def create(self, path: Path) -> int:
        self._call("create")
        return self._disk.create(path)

    def write(self, descriptor: int, content: bytes) -> None:
        half = len(content) // 2
        self._disk.write(descriptor, content[:half])
        self._call("write")
        self._disk.write(descriptor, content[half:])

    def sync(self, descriptor: int) -> None:
        self._call("sync")
        self._disk.sync(descriptor)

    def close(self, descriptor: int) -> None:
        # Closing cannot be refused: the descriptor is gone either way.
        self._disk.close(descriptor)

    def link(self, source: Path, target: Path) -> None:
        self._call("link")
        self._disk.link(source, target)

    def replace(self, source: Path, target: Path) -> None:
        self._call("replace")
        self._disk.replace(source, target)

    def remove(self, path: Path) -> None:
        self._call("remove")
        self._disk.remove(path)

    def sync_folder(self, path: Path) -> None:
        self._call("sync_folder")
        self._disk.sync_folder(path)

    def exclusive(self, path: Path) -> AbstractContextManager[bool]:
        self._call("exclusive")
        return self._disk.exclusive(path)


class PowerLoss(BaseException):
    """The machine is gone; nothing that ran on it goes on, so nobody may catch this as an error."""


class _File:
    """`durable` is what a sync brought to the disk; `content` what programs see."""

    def __init__(self, stamp: int) -> None:
        self.content = bytearray()
        self.durable = b""
        self.stamp = stamp


class VolatileDisk:
    """A disk in memory that forgets, when the power goes, whatever was not synced, or keeps any part of it.

    Content counts as written after `sync`, names after `sync_folder`. The power goes at call number `at`; 0: never.
    """

    def __init__(self, *, at: int = 0) -> None:
        self._at = at
        self._names: dict[Path, _File] = {}
        self._durable_names: dict[Path, _File] = {}
        self._unsynced: list[tuple[Path, _File | None]] = []
        self._open: dict[int, _File] = {}
        self._guarded: set[Path] = set()
        self.calls = 0

    def after_power_loss(self, choose: Callable[[int], int]) -> "VolatileDisk":
        """What is on the disk when the machine is back. `choose(n)` picks one of n outcomes, 0 .. n - 1."""
        survivor = VolatileDisk()
        names = dict(self._durable_names)
        for path, file in self._unsynced:
            if choose(2):
                _point(names, path, file)
        for path, file in names.items():
            kept = _File(file.stamp)
            kept.content += _survived(file, choose)
            kept.durable = bytes(kept.content)
            survivor._names[path] = survivor._durable_names[path] = kept
        return survivor

    def make_folder(self, path: Path) -> None:
        self._call()

    def read(self, path: Path) -> bytes:
        self._call()
        return bytes(self._found(path).content)

    def version(self, path: Path) -> tuple[int, int, int] | None:
        self._call()
        file = self._names.get(path)
        return None if file is None else (file.stamp, len(file.content), 0)

    def names(self, folder: Path) -> list[str]:
        self._call()
        return [path.name for path in self._names if path.parent == folder]

    def create(self, path: Path) -> int:
        self._call()
        file = self._names.get(path)
        if file is None:
            file = _File(self.calls)
            self._rename(path, file)
        file.content.clear()
        self._open[self.calls] = file
        return self.calls

    def write(self, descriptor: int, content: bytes) -> None:
        half = len(content) // 2
        self._open[descriptor].content += content[:half]
        self._call()
        self._open[descriptor].content += content[half:]

    def sync(self, descriptor: int) -> None:
        self._call()
        file = self._open[descriptor]
        file.durable = bytes(file.content)

    def close(self, descriptor: int) -> None:
        del self._open[descriptor]

    def link(self, source: Path, target: Path) -> None:
        self._call()
        self._rename(target, self._found(source))

    def replace(self, source: Path, target: Path) -> None:
        self._call()
        self._rename(target, self._found(source))
        self._rename(source, None)

    def remove(self, path: Path) -> None:
        self._call()
        if path in self._names:
            self._rename(path, None)

    def sync_folder(self, path: Path) -> None:
        self._call()
        for name, file in self._unsynced:
            if name.parent == path:
                _point(self._durable_names, name, file)
        self._unsynced = [(name, file) for name, file in self._unsynced if name.parent != path]

    @contextmanager
    def exclusive(self, path: Path) -> Iterator[bool]:
        self._call()
        if path in self._guarded:
            yield False
            return
        self._guarded.add(path)
        try:
            yield True
        finally:
            self._guarded.remove(path)

    def _call(self) -> None:
        self.calls += 1
        if 0 < self._at <= self.calls:
            raise PowerLoss

    def _found(self, path: Path) -> _File:
        if path not in self._names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return self._names[path]

    def _rename(self, path: Path, file: _File | None) -> None:
        _point(self._names, path, file)
        self._unsynced.append((path, file))


def _point(names: dict[Path, _File], path: Path, file: _File | None) -> None:
    if file is None:
        names.pop(path, None)
    else:
        names[path] = file


def _survived(file: _File, choose: Callable[[int], int]) -> bytes:
    """Synced content, and of what came after it nothing, a part, or all with a hole of zeros."""
    if not file.content.startswith(file.durable):
        return [b"", file.durable, bytes(file.content)][choose(3)]
    end = len(file.durable) + choose(len(file.content) - len(file.durable) + 1)
    kept = bytearray(file.content[:end])
    if end - len(file.durable) > 64 and choose(2):
        hole = len(file.durable) + choose(end - len(file.durable) - 32)
        kept[hole : hole + 32] = bytes(32)
    return bytes(kept)
