"""The write-ahead journal as bytes: one framed line per record, and what a crash may have left of the last append.

    1c291ca3+3f {"format": 1, "lineage": "kq...", "serial": 4}
    |       ||  the record
    |       |length of the record, hexadecimal
    |       `+` begins an append, `.` continues it
    checksum of the rest of the line and of its place in this journal

Used by every backend that keeps its journal as one growing text. An append is acknowledged only when all of it is
durable, and the next one begins only then: so what is unreadable inside the last append was never acknowledged and may
be dropped, while anything unreadable before it is damage.
"""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from gpuplan.core.state import Entry, State
from gpuplan.state.codec import MAX_BYTES, corrupt, decode_entry, decode_header, encode_entry, encode_header
from gpuplan.state.decoding import Decoder
from gpuplan.state.encoding import Encoder

_FRAME = re.compile(rb"([0-9a-f]{8})([+.])([0-9a-f]+) ")
_UNWRITTEN = b"\0" * 16
"""File systems show blocks that never reached the disk as zeros; no record contains one."""


@dataclass(frozen=True, slots=True)
class Journal:
    """A journal that was read. `sound` is how many of its bytes are acknowledged records."""

    lineage: str
    serial: int
    entries: Sequence[Entry]
    sound: int
    lines: int


class Framing:
    """Turns entries into framed lines, continuing where a journal stands."""

    def __init__(self, seed: int, lines: int) -> None:
        self._seed = seed
        self._lines = lines
        self._encoder = Encoder()

    @classmethod
    def begin(cls, base: State) -> tuple["Framing", bytes]:
        """For a new journal of this snapshot, with its first line."""
        header = _line(encode_header(base), "+", 0)
        return cls(_seed(header), 1), header

    @classmethod
    def resume(cls, content: bytes, journal: Journal) -> "Framing":
        """For a journal that was read from `content`."""
        return cls(_seed(content[: content.index(b"\n") + 1]), journal.lines)

    def frame(self, entries: Sequence[Entry]) -> bytes:
        """The bytes of one append."""
        first = self._lines
        lines = [
            _line(encode_entry(entry, self._encoder), "." if number else "+", self._seed + first + number)
            for number, entry in enumerate(entries)
        ]
        self._lines += len(lines)
        return b"".join(lines)


def read_journal(content: bytes, where: str) -> Journal:
    """Read what an append acknowledged; drop what a crash left unfinished at the end.

    Raises StateCorrupt with the line for any other damage.
    """
    if len(content) > MAX_BYTES:
        raise corrupt(where, f"it has {len(content)} bytes; a journal has at most {MAX_BYTES}")
    lines = content.split(b"\n")
    end = lines.pop()
    if not lines:
        raise corrupt(f"{where}:1", "its first line is not complete")
    try:
        lineage, serial = decode_header(_record(lines[0], 0))
    except ValueError as exc:
        raise corrupt(f"{where}:1", str(exc)) from exc
    seed, decoder = _seed(lines[0] + b"\n"), Decoder()
    entries: list[Entry] = []
    sound = len(lines[0]) + 1
    for number, line in enumerate(lines[1:], 1):
        try:
            record = _record(line, seed + number)
        except ValueError as exc:
            if _is_unfinished(line, [*lines[number + 1 :], end]):
                return Journal(lineage, serial, entries, sound, number)
            raise corrupt(f"{where}:{number + 1}", str(exc)) from exc
        entries.append(_decoded(record, f"{where}:{number + 1}", decoder))
        sound += len(line) + 1
    if end and not _is_unfinished(end, []):
        raise corrupt(f"{where}:{len(lines) + 1}", "the line goes on behind its record")
    return Journal(lineage, serial, entries, sound, len(lines))


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a journal that may be damaged; `entry` None: it cannot be read, `problem` says why."""

    number: int
    entry: Entry | None
    problem: str = ""
    is_torn: bool = False
    """It can be the end of an append that was never acknowledged."""


def read_lines(content: bytes, where: str) -> tuple[str, int, list[Line]]:
    """Lineage and serial of the snapshot that a journal continues, and each line by itself, whatever the others are.

    Raises StateCorrupt where its first line cannot be read, or it is too long.
    """
    if len(content) > MAX_BYTES:
        raise corrupt(where, f"it has {len(content)} bytes; a journal has at most {MAX_BYTES}")
    lines = content.split(b"\n")
    end = lines.pop()
    if not lines:
        raise corrupt(f"{where}:1", "its first line is not complete")
    try:
        lineage, serial = decode_header(_record(lines[0], 0))
    except ValueError as exc:
        raise corrupt(f"{where}:1", str(exc)) from exc
    seed, decoder, found = _seed(lines[0] + b"\n"), Decoder(), []
    for number, line in enumerate(lines[1:], 1):
        try:
            found.append(Line(number + 1, decode_entry(_record(line, seed + number), decoder)))
        except ValueError as exc:
            torn = _is_unfinished(line, [*lines[number + 1 :], end])
            found.append(Line(number + 1, None, str(exc), torn))
    if end:
        torn = _is_unfinished(end, [])
        found.append(Line(len(lines) + 1, None, "the line has no end", torn))
    return lineage, serial, found


def entries_since(snapshot: State | None, journal: Journal, where: str) -> Sequence[Entry]:
    """The entries that are not in the snapshot yet: none when the crash came between the two steps of a commit.

    Raises StateCorrupt when the journal belongs to another snapshot.
    """
    if snapshot is None:
        raise corrupt(where, f"it continues serial {journal.serial}, and there is no snapshot")
    if journal.lineage == snapshot.lineage and journal.serial == snapshot.serial:
        return journal.entries
    if journal.lineage == snapshot.lineage and journal.serial + 1 == snapshot.serial:
        return ()
    raise corrupt(
        where,
        f"it continues serial {journal.serial} of lineage {journal.lineage}",
        f"the snapshot has serial {snapshot.serial} of lineage {snapshot.lineage}",
    )


def _decoded(record: str, where: str, decoder: Decoder) -> Entry:
    try:
        return decode_entry(record, decoder)
    except ValueError as exc:
        raise corrupt(where, str(exc)) from exc


def _line(record: str, flag: str, seed: int) -> bytes:
    framed = f"{flag}{len(record):x} {record}".encode("ascii")
    return b"%08x%s\n" % (_checksum(framed, seed), framed)


def _record(line: bytes, seed: int) -> str:
    match = _FRAME.match(line)
    if match is None or int(match[1], 16) != _checksum(line[8:], seed):
        raise ValueError("the line does not fit its checksum")
    if len(line) - match.end() != int(match[3], 16):
        raise ValueError("the line does not have the length it names")
    return line[match.end() :].decode("ascii")


def _checksum(framed: bytes, seed: int) -> int:
    return zlib.crc32(framed, seed & 0xFFFFFFFF)


def _seed(header: bytes) -> int:
    # Lines of another journal, and lines that changed places, must not fit.
    return zlib.crc32(header)


def _is_unfinished(line: bytes, later: Sequence[bytes]) -> bool:
    """Whether a line that does not verify can be the end of an append that was never acknowledged."""
    if any(_begins_append(other) for other in later):
        return False
    if _UNWRITTEN in line:
        return True
    match = _FRAME.match(line)
    # A longer line than it says has swallowed its line end, and with it an acknowledged record.
    return not any(later) and (match is None or len(line) <= match.end() + int(match[3], 16))


def _begins_append(line: bytes) -> bool:
    match = _FRAME.match(line)
    return match is not None and match[2] == b"+" and len(line) == match.end() + int(match[3], 16)
