"""What commands on nodes print, as lines that can be kept and shown. Used by every channel and by the logs it fills."""

import re
from collections import deque
from collections.abc import Callable, Iterator

LONGEST_LINE = 65536
"""Bytes after which a line without an end is taken for one."""
_TAIL_LINES = 20
_TAIL_LINE_LENGTH = 400
_OBEYED = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")
"""What terminals take as an order: control sequences and strings, and single escapes."""


class LineSplitter:
    """One stream of a command. Of a line that was written over, as progress bars are, only the last writing is left."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, block: bytes) -> Iterator[str]:
        """The lines that end in this block."""
        *ended, self._rest = (self._rest + block).split(b"\n")
        yield from map(_read, ended)
        if len(self._rest) >= LONGEST_LINE:
            yield from self.end()

    def end(self) -> Iterator[str]:
        """The last line, where its end is missing."""
        if self._rest:
            yield _read(self._rest)
        self._rest = b""


def _read(line: bytes) -> str:
    return line.rstrip(b"\r").rpartition(b"\r")[2].decode(errors="replace")


def defused(line: str) -> str:
    """The line without anything that a terminal would obey instead of show."""
    if line.isprintable():
        return line
    return "".join(char if char.isprintable() or char == "\t" else "?" for char in _OBEYED.sub("", line))


class Tail:
    """The last lines of a command, fit to be shown: redacted, defused and cut."""

    def __init__(self, redact: Callable[[str], str]) -> None:
        self._redact = redact
        self._lines: deque[str] = deque(maxlen=_TAIL_LINES)

    def add(self, line: str) -> None:
        self._lines.append(line[-_TAIL_LINE_LENGTH:])

    @property
    def text(self) -> str:
        # All of it at once: a secret may span lines.
        return "\n".join(defused(line) for line in self._redact("\n".join(self._lines)).split("\n"))
