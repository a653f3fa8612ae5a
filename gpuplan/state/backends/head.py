"""The one object of a state that changes: who holds the lock, which snapshot counts, whose journal continues it.

Everything else that `ObjectBackend` keeps is written once under a name of its own, and means nothing until the head
names it. So a compare-and-set on the head is all that two writers need to be told apart.
"""

import json
from dataclasses import dataclass

from gpuplan.core.state import LockInfo
from gpuplan.state.codec import corrupt
from gpuplan.state.decoding import Fields, expect_fields, expect_list, expect_number, expect_text
from gpuplan.state.encoding import to_json
from gpuplan.state.lock import decode_lock, encode_lock

HEAD_FORMAT = 1
_FIELDS = frozenset({"earlier", "fence", "format", "holder", "journal", "snapshot"})
_VERSION_FIELDS = frozenset({"lineage", "name", "serial"})


@dataclass(frozen=True, slots=True)
class Version:
    """A snapshot that was committed once. `name` is that of the object that holds it."""

    lineage: str
    serial: int
    name: str


@dataclass(frozen=True, slots=True)
class Head:
    """`journal` is the name under which the segments of the journal are found; empty while there is none."""

    fence: int = 0
    holder: LockInfo | None = None
    snapshot: Version | None = None
    journal: str = ""
    earlier: tuple[Version, ...] = ()
    """Newest first."""

    @property
    def contents(self) -> tuple[Version | None, str]:
        """What a reader reads; the lock apart."""
        return self.snapshot, self.journal

    @property
    def stored(self) -> tuple[str, int] | None:
        """Lineage and serial of the snapshot."""
        return None if self.snapshot is None else (self.snapshot.lineage, self.snapshot.serial)


def encode_head(head: Head) -> bytes:
    document = {
        "earlier": [_version(each) for each in head.earlier],
        "fence": head.fence,
        "format": HEAD_FORMAT,
        "holder": None if head.holder is None else json.loads(encode_lock(head.holder)),
        "journal": head.journal,
        "snapshot": None if head.snapshot is None else _version(head.snapshot),
    }
    return to_json(document).encode() + b"\n"


def decode_head(content: bytes, where: str) -> Head:
    """Raises StateCorrupt."""
    try:
        fields = expect_fields(json.loads(content), _FIELDS)
        if fields["format"] != HEAD_FORMAT:
            raise ValueError(f"its format is {fields['format']!r}, this gpuplan reads {HEAD_FORMAT}")
        snapshot, holder = fields["snapshot"], fields["holder"]
        return Head(
            fence=expect_number(fields, "fence"),
            holder=None if holder is None else decode_lock(json.dumps(holder).encode()),
            snapshot=None if snapshot is None else _read_version(snapshot),
            journal=expect_text(fields, "journal"),
            earlier=tuple(_read_version(each) for each in expect_list(fields, "earlier")),
        )
    except (ValueError, RecursionError) as exc:
        raise corrupt(where, str(exc)) from exc


def _version(version: Version) -> Fields:
    return {"lineage": version.lineage, "name": version.name, "serial": version.serial}


def _read_version(raw: object) -> Version:
    fields = expect_fields(raw, _VERSION_FIELDS)
    return Version(
        lineage=expect_text(fields, "lineage"), serial=expect_number(fields, "serial"), name=expect_text(fields, "name")
    )
