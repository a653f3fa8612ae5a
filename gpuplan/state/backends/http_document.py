"""The one document that an HTTP state server keeps: snapshot, journal, fence and lease together.

On the outside it looks like an empty Terraform state whose serial grows with every write, because some servers look
into what they keep. What counts is under `gpuplan`.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime

from gpuplan.core.state import LockInfo
from gpuplan.state.codec import corrupt
from gpuplan.state.decoding import Fields, expect_fields, expect_number, expect_text
from gpuplan.state.encoding import to_json
from gpuplan.state.lock import decode_lock, encode_lock

_FORMAT = 1
_TERRAFORM_FORMAT = 4
_FIELDS = frozenset({"fence", "format", "journal", "lineage", "lock", "serial", "snapshot"})
_NEVER = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class HttpDocument:
    """`lineage` and `serial` are those of the snapshot; `writes` counts how often this was written."""

    name: str
    """The lineage of the document itself: the same as long as it lives."""
    writes: int = 0
    fence: int = 0
    lock: LockInfo | None = None
    """The last run that held the lock here, with its lease as it was renewed last."""
    lineage: str = ""
    serial: int = 0
    snapshot: bytes | None = None
    journal: bytes | None = None

    @property
    def stored(self) -> tuple[str, int] | None:
        return None if self.snapshot is None else (self.lineage, self.serial)


def encode_document(document: HttpDocument) -> bytes:
    inner = {
        "fence": document.fence,
        "format": _FORMAT,
        "journal": _text(document.journal),
        "lineage": document.lineage,
        "lock": None if document.lock is None else json.loads(encode_lock(document.lock)),
        "serial": document.serial,
        "snapshot": _text(document.snapshot),
    }
    outer = {
        "gpuplan": inner,
        "lineage": document.name,
        "outputs": {},
        "resources": [],
        "serial": document.writes,
        "terraform_version": "1.0.0",
        "version": _TERRAFORM_FORMAT,
    }
    return to_json(outer).encode() + b"\n"


def decode_document(content: bytes, where: str) -> HttpDocument | None:
    """None where nothing was written yet. Raises StateCorrupt, also for what is somebody else's."""
    try:
        outer = json.loads(content) if content.strip() else {}
        if outer == {}:
            return None
        if not isinstance(outer, dict) or "gpuplan" not in outer:
            raise ValueError("what is there is no state of gpuplan's; a Terraform state stays untouched")
        fields = expect_fields(outer["gpuplan"], _FIELDS)
        if fields["format"] != _FORMAT:
            raise ValueError(f"its format is {fields['format']!r}, this gpuplan reads {_FORMAT}")
        lock = fields["lock"]
        return HttpDocument(
            name=expect_text(outer, "lineage"),
            writes=expect_number(outer, "serial"),
            fence=expect_number(fields, "fence"),
            lock=None if lock is None else decode_lock(json.dumps(lock).encode()),
            lineage=expect_text(fields, "lineage"),
            serial=expect_number(fields, "serial"),
            snapshot=_bytes(fields, "snapshot"),
            journal=_bytes(fields, "journal"),
        )
    except (ValueError, KeyError, RecursionError) as exc:
        raise corrupt(where, str(exc)) from exc


@dataclass(frozen=True, slots=True)
class ServerLock:
    """A lock as the server has it. `id` is that of the run, with a number behind it once it had to be taken anew."""

    id: str
    info: LockInfo

    @property
    def run(self) -> str:
        """The id of the run's own lock."""
        return self.id.partition(".")[0]


def encode_terraform_lock(lock: ServerLock) -> bytes:
    """What the protocol says of a lock. All that gpuplan says of it is in `Info`."""
    held = lock.info
    return to_json(
        {
            "Created": held.created_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "ID": lock.id,
            "Info": encode_lock(held).decode().strip(),
            "Operation": held.operation,
            "Path": "",
            "Version": held.version,
            "Who": f"{held.who}@{held.host}",
        }
    ).encode()


def decode_terraform_lock(content: bytes, now: datetime) -> ServerLock | None:
    """Who holds the lock, as far as the server tells; None when it does not.

    One that is not gpuplan's, or of which the server kept only the id, has no lease that could end.
    """
    try:
        fields = json.loads(content)
        if not isinstance(fields, dict) or not isinstance(fields.get("ID"), str):
            return None
    except (ValueError, RecursionError):
        return None
    try:
        return ServerLock(fields["ID"], decode_lock(str(fields["Info"]).encode()))
    except (ValueError, KeyError, RecursionError):
        return ServerLock(fields["ID"], _unknown(fields, now))


def _unknown(fields: Fields, now: datetime) -> LockInfo:
    who, _, host = str(fields.get("Who") or "somebody").partition("@")
    return LockInfo(
        id=str(fields["ID"]),
        operation=str(fields.get("Operation") or "another program"),
        who=who,
        host=host or "unknown host",
        pid=0,
        started_at=0.0,
        created_at=now,
        expires_at=_NEVER,
        version=str(fields.get("Version") or "unknown"),
    )


def _text(content: bytes | None) -> str | None:
    return None if content is None else content.decode("ascii")


def _bytes(fields: Fields, name: str) -> bytes | None:
    return None if fields[name] is None else expect_text(fields, name).encode("ascii")
