"""Which host key each node has: recorded at the first contact, checked from then on.

The file is one that OpenSSH reads. A node stands in it under an alias made of its account and its id there, so that a
new node at an address that another had before is no false alarm. Used by `ssh`; everything here blocks, briefly.
"""

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

KNOWN_HOSTS = "known_hosts"


def alias_of(*identity: str) -> str:
    """The name under which a host stands in the file."""
    return f"gpuplan-{hashlib.sha256(chr(0).join(identity).encode()).hexdigest()[:32]}"


class KnownHosts:
    """`path` need not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._keys: dict[str, list[str]] = {}
        self._read_to = 0
        self._file: tuple[int, int] | None = None
        """Device and number of the file that was read: others may have put another in its place."""

    def keys(self, alias: str) -> list[str]:
        """The keys on record, each as `TYPE BASE64`; none before the first contact."""
        self._catch_up()
        return self._keys.get(alias, [])

    def record(self, alias: str, key: str, comment: str) -> list[str]:
        """Add the key of a first contact. Returns what is on record now: somebody else may have been faster."""
        with self._locked():
            self._catch_up()
            if alias not in self._keys:
                descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    file.write(f"{alias} {key} {' '.join(comment.split())}\n")
                self._catch_up()
            return self._keys[alias]

    def forget(self, alias: str) -> None:
        """The next contact is a first one again."""
        if not self.keys(alias):
            return
        from tempfile import NamedTemporaryFile

        with self._locked():
            lines = self.path.read_text("utf-8").splitlines(keepends=True)
            kept = [line for line in lines if line.partition(" ")[0] != alias]
            with NamedTemporaryFile("w", encoding="utf-8", dir=self.path.parent, delete=False) as fresh:
                fresh.writelines(kept)
            Path(fresh.name).replace(self.path)

    def _catch_up(self) -> None:
        """Read what was added since; a file that is another one, or shorter, from its beginning."""
        with contextlib.suppress(FileNotFoundError), self.path.open("rb") as file:
            status = os.fstat(file.fileno())
            if (status.st_dev, status.st_ino) != self._file or status.st_size < self._read_to:
                self._file, self._read_to, self._keys = (status.st_dev, status.st_ino), 0, {}
            file.seek(self._read_to)
            added = file.read()
            ended = added.rpartition(b"\n")[0]
            if ended:
                self._read_to += len(ended) + 1
            for line in ended.decode(errors="replace").splitlines():
                match line.split(maxsplit=3):
                    case [alias, kind, key, *_] if not alias.startswith(("#", "@")):
                        self._keys.setdefault(alias, []).append(f"{kind} {key}")

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self.path.with_name(f"{self.path.name}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
