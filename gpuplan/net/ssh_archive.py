"""Files and folders on their way through a shell, where a node has no SFTP server. Used by `ssh_channel`."""

import tarfile
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

from gpuplan.net.threads import run_blocking

BLOCK = 65536
_IN_MEMORY = 1 << 23


def packed(source: Path) -> Iterator[bytes]:
    """What `cat` takes of a file, and `tar` of a folder. Raises OSError before the first block."""
    if not source.is_dir():
        return _blocks(source.open("rb"))
    kept = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115  closed by whoever reads it to its end
    with tarfile.open(fileobj=kept, mode="w") as archive:
        archive.add(source, arcname=".")
    kept.seek(0)
    return _blocks(kept)


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while block := file.read(BLOCK):
            yield block


@asynccontextmanager
async def unpacked(name: str, target: Path) -> AsyncIterator[Callable[[bytes], object]]:
    """Takes the word `file` or `folder`, a line end and the content; at the end of the block it is at its place:
    in `target` under `name` where that is a folder, else as `target`."""
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as kept:
        yield kept.write
        kept.seek(0)
        await run_blocking(_place, kept, target / name if target.is_dir() else target)


def _place(kept: IO[bytes], place: Path) -> None:
    if kept.readline() == b"folder\n":
        place.mkdir(exist_ok=True)
        with tarfile.open(fileobj=kept) as archive:
            # Nothing that leaves the folder: who packed it is a machine of somebody else's.
            archive.extractall(place, filter="data")
        return
    with place.open("wb") as file:
        for block in _blocks(kept):
            file.write(block)
