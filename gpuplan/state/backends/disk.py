"""The few file system calls that `LocalBackend` makes, each one durable step.

A protocol, so that a test can stop a process, or let the disk fail, at every single one of them.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol


class Disk(Protocol):
    """Every method may raise OSError. Files are made for their owner alone."""

    def make_folder(self, path: Path) -> None:
        """Make it, and what is missing above it, durably; there already is fine."""
        ...

    def read(self, path: Path) -> bytes:
        """Raises FileNotFoundError when there is none."""
        ...

    def version(self, path: Path) -> tuple[int, int, int] | None:
        """Differs when another file has taken this place; None when there is none."""
        ...

    def names(self, folder: Path) -> list[str]: ...

    def create(self, path: Path) -> int:
        """An empty file under this name, replacing its content if there is one; the descriptor to write with."""
        ...

    def write(self, descriptor: int, content: bytes) -> None:
        """All of it."""
        ...

    def sync(self, descriptor: int) -> None:
        """Return when everything written is on the disk."""
        ...

    def close(self, descriptor: int) -> None: ...

    def link(self, source: Path, target: Path) -> None:
        """The same content under a second name; a copy where the file system has no links."""
        ...

    def replace(self, source: Path, target: Path) -> None: ...

    def remove(self, path: Path) -> None:
        """Not there is fine."""
        ...

    def sync_folder(self, path: Path) -> None: ...

    def exclusive(self, path: Path) -> AbstractContextManager[bool]:
        """Be the only process inside, by this file; yields False while another one is."""
        ...


class OsDisk:
    """The real one."""

    def make_folder(self, path: Path) -> None:
        if path.is_dir():
            return
        self.make_folder(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
        self.sync_folder(path.parent)

    def read(self, path: Path) -> bytes:
        return path.read_bytes()

    def version(self, path: Path) -> tuple[int, int, int] | None:
        try:
            found = path.stat()
        except FileNotFoundError:
            return None
        return (found.st_ino, found.st_mtime_ns, found.st_size)

    def names(self, folder: Path) -> list[str]:
        try:
            return [path.name for path in folder.iterdir()]
        except FileNotFoundError:
            return []

    def create(self, path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def write(self, descriptor: int, content: bytes) -> None:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]

    def sync(self, descriptor: int) -> None:
        full = getattr(fcntl, "F_FULLFSYNC", None)
        if full is None:
            # Enough, and a quarter cheaper for an append: it brings the length along, and all else that reading the
            # content back takes. Left out are times; the name is the folder's, see `sync_folder`.
            os.fdatasync(descriptor)
        else:
            # On macOS fsync leaves the data in the drive's cache.
            fcntl.fcntl(descriptor, full)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def link(self, source: Path, target: Path) -> None:
        try:
            target.hardlink_to(source)
        except OSError as exc:
            if exc.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK):
                raise
            descriptor = self.create(target)
            try:
                self.write(descriptor, source.read_bytes())
            finally:
                self.close(descriptor)

    def replace(self, source: Path, target: Path) -> None:
        source.replace(target)

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def sync_folder(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    @contextmanager
    def exclusive(self, path: Path) -> Iterator[bool]:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield _try_flock(descriptor)
        finally:
            os.close(descriptor)


def _try_flock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
