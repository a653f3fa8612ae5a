"""Files and folders on their way through a shell, where a node has no file server. Used by `ssh_channel` and
`websocket_channel`.

A copy that came short looks like a smaller file: a file that is sent is counted there, and what is fetched has to end
with a line that is no part of it.
"""

import shlex
import tarfile
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

from gpuplan.core.errors import Failure, OutcomeUnknown
from gpuplan.net.threads import run_blocking

BLOCK = 65536
MISSING = 74
"""Exit status of a copy whose source is not there."""
_IN_MEMORY = 1 << 23
_THE_END = b"\n-- gpuplan: this was all of it --\n"


def is_folder(source: Path) -> bool:
    """Raises OSError for what is not there."""
    source.stat()
    return source.is_dir()


def taking(source: Path, target: str) -> str:
    """What a shell runs to take `packed(source)` as its input. Raises OSError for a source that is not there."""
    name = shlex.quote(source.resolve().name)
    script = f'{_named(target)}; [ -d "$d" ] && d=${{d%/}}/{name}\n'
    if is_folder(source):
        return f'{script}mkdir -p "$d" && tar -xf - -C "$d"'
    found = source.stat()
    script += f'cat >"$d" || exit\n[ $(wc -c <"$d") -ge {found.st_size} ] || {{ echo "it came short" >&2; exit 1; }}\n'
    return f'{script}chmod {found.st_mode & 0o777:o} "$d"'


def giving(source: str) -> str:
    """What a shell runs to give what `unpacked` takes. Ends with status MISSING when the source is not there."""
    return (
        f"{_named(source)}\n"
        f'[ -e "$d" ] || {{ echo "no such file" >&2; exit {MISSING}; }}\n'
        'if [ -d "$d" ]; then echo folder; tar -cf - -C "$d" .; else echo file; cat "$d"; fi || exit\n'
        f"printf %s {shlex.quote(_THE_END.decode())}"
    )


def _named(path: str) -> str:
    home = path.startswith("~/")
    return f"d={'$HOME/' if home else ''}{shlex.quote(path[2:] if home else path)}"


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
async def unpacked(name: str, target: Path, failure: Failure) -> AsyncIterator[Callable[[bytes], object]]:
    """Takes what `giving` gives; at the end of the block it is at its place: in `target` under `name` where that is a
    folder, else as `target`. Raises OutcomeUnknown with `failure` for what came short, and puts nothing there."""
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as kept:
        yield kept.write
        length = kept.tell() - len(_THE_END)
        kept.seek(max(length, 0))
        if kept.read() != _THE_END:
            raise OutcomeUnknown(failure)
        kept.truncate(length)
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
