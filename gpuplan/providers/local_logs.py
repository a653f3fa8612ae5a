"""A node's log file, line by line from its end or its beginning; used by `local`."""

import os
from pathlib import Path

_CHUNK = 65536


class LogReader:
    """Reads on where it stopped; blocks only on the file."""

    def __init__(self, path: Path, tail: int | None) -> None:
        """Begin `tail` lines before the end; None: at the beginning."""
        self._path = path
        self._position: int | None = 0 if tail is None else None
        self._tail = tail or 0
        self.rest = ""
        """A last line that has no end yet."""

    def more(self) -> list[str] | None:
        """The next lines, without their ends; None when there is nothing more for now."""
        try:
            with self._path.open("rb") as log:
                if self._position is None:
                    self._position = _start_of_tail(log.fileno(), self._tail)
                log.seek(self._position)
                chunk = log.read(_CHUNK)
        except FileNotFoundError:
            return None
        if not chunk:
            return None
        whole, end, part = chunk.rpartition(b"\n")
        if not end and len(chunk) < _CHUNK:
            # The beginning of a line: read it again once it has an end.
            self.rest = part.decode(errors="replace")
            return None
        text = whole if end else part
        self._position += len(text) + len(end)
        self.rest = part.decode(errors="replace") if end else ""
        return text.decode(errors="replace").split("\n")


def _start_of_tail(log: int, lines: int) -> int:
    """Where the last `lines` lines begin."""
    position = os.fstat(log).st_size
    # The end of the last line does not begin another one.
    wanted = lines if lines == 0 or position == 0 or os.pread(log, 1, position - 1) != b"\n" else lines + 1
    if lines == 0:
        return position
    while position > 0:
        step = min(_CHUNK, position)
        block = os.pread(log, step, position - step)
        if block.count(b"\n") >= wanted:
            for _ in range(wanted - 1):
                block = block[: block.rindex(b"\n")]
            return position - step + block.rindex(b"\n") + 1
        wanted -= block.count(b"\n")
        position -= step
    return 0
