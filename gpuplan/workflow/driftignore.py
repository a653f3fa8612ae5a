"""`.driftignore`: known drift that shall not count, each with a reason and an end.

    ignore:
      - address: clusters.train            # a resource, an instance, or a pattern with `*`
        attribute: env.DEBUG               # a path or a pattern with `*`; absent: all of the instance's drift
        reason: the debugger sets it
        until: 2027-01-31                  # the last day on which it counts as known

Called by `drift`. The plan does not look at this file.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date

from gpuplan.core.address import Address
from gpuplan.core.diagnostics import Diagnostic, Severity, Sink
from gpuplan.core.errors import SpecError
from gpuplan.core.plan import Drift, DriftKind
from gpuplan.core.values import JsonValue
from gpuplan.spec.source import SourceFile, read_values

FILE = ".driftignore"
_FIELDS = ("address", "attribute", "reason", "until")


@dataclass(frozen=True, slots=True)
class Ignored:
    """One entry; `number` counts from 1."""

    number: int
    address: str
    attribute: str
    reason: str
    until: date

    def silences(self, drift: Drift) -> bool:
        return drift.address is not None and _covers(self.address, drift.address)

    def silences_path(self, path: str) -> bool:
        if "*" in self.attribute:
            return _pattern(self.attribute).fullmatch(path) is not None
        return path == self.attribute or path.startswith(f"{self.attribute}.")


@dataclass(frozen=True, slots=True)
class Sifted:
    """Drift that counts, how much was silenced, and the entries whose time is over."""

    counts: tuple[Drift, ...]
    silenced: int = 0
    expired: tuple[Ignored, ...] = ()


def read_ignored(content: bytes) -> tuple[Ignored, ...]:
    """The entries of the file. Raises SpecError with every problem."""
    sink = Sink()
    document = read_values(SourceFile(FILE, content), sink)
    if document is not None and (not isinstance(document.get("ignore"), list) or len(document) != 1):
        sink.add(_problem("it has one key, `ignore`, with a list"))
    entries = document.get("ignore") if document is not None else None
    found = []
    for number, entry in enumerate(entries if isinstance(entries, list) else (), 1):
        try:
            found.append(_entry(number, entry))
        except ValueError as exc:
            sink.add(_problem(f"entry {number}: {exc}"))
    if sink.errors:
        raise SpecError(diagnostics=sink.errors)
    return tuple(found)


def sift(drift: Iterable[Drift], ignored: Sequence[Ignored], today: date) -> Sifted:
    """Take out what is known. What could not be seen is never silenced."""
    current = [entry for entry in ignored if today <= entry.until]
    counts: list[Drift] = []
    silenced = 0
    for found in drift:
        left = None if found.kind is not DriftKind.UNREACHABLE and _is_known(found, current) else _rest(found, current)
        silenced += left is not found
        if left is not None:
            counts.append(left)
    return Sifted(tuple(counts), silenced, tuple(entry for entry in ignored if entry.until < today))


def expired_warnings(expired: Iterable[Ignored]) -> list[Diagnostic]:
    return [
        Diagnostic(
            id="driftignore-expired",
            summary=f"entry {entry.number} of `{FILE}` ended on {entry.until}",
            facts=(f"`{entry.address}`: {entry.reason}", "what it silenced counts as drift again"),
            hint="mend the drift, or give the entry another date",
            severity=Severity.WARNING,
        )
        for entry in expired
    ]


def _is_known(drift: Drift, entries: Iterable[Ignored]) -> bool:
    return any(not entry.attribute and entry.silences(drift) for entry in entries)


def _rest(drift: Drift, entries: Sequence[Ignored]) -> Drift | None:
    """The drift without the attributes that are known; the very same one when none is."""
    speaking = [entry for entry in entries if entry.attribute and entry.silences(drift)]
    if drift.kind is not DriftKind.CHANGED or not speaking:
        return drift
    reasons = tuple(r for r in drift.reasons if not any(entry.silences_path(r.path) for entry in speaking))
    if len(reasons) == len(drift.reasons):
        return drift
    return replace(drift, reasons=reasons) if reasons else None


def _covers(pattern: str, address: Address) -> bool:
    if "*" in pattern:
        return _pattern(pattern).fullmatch(str(address)) is not None
    return Address.parse(pattern).covers(address)


def _pattern(text: str) -> re.Pattern[str]:
    """Brackets belong to addresses, so `*` is the only sign with a meaning."""
    return re.compile(".*".join(map(re.escape, text.split("*"))))


def _entry(number: int, entry: JsonValue) -> Ignored:
    if not isinstance(entry, dict):
        raise ValueError("it is a map of `address`, `attribute`, `reason` and `until`")
    unknown = next((name for name in entry if name not in _FIELDS), None)
    if unknown is not None:
        raise ValueError(f"it has no field `{unknown}`; there are {', '.join(_FIELDS)}")
    texts = {}
    for name in _FIELDS:
        value = entry.get(name, "" if name == "attribute" else None)
        if not isinstance(value, str) or (not value and name != "attribute"):
            raise ValueError(f"`{name}` is missing" if value is None else f"`{name}` must be a text")
        texts[name] = value
    if "*" not in texts["address"]:
        Address.parse(texts["address"])
    try:
        until = date.fromisoformat(texts["until"])
    except ValueError as exc:
        raise ValueError(f"`until: {texts['until']}` is not a date like 2027-01-31") from exc
    return Ignored(number, texts["address"], texts["attribute"], texts["reason"], until)


def _problem(fact: str) -> Diagnostic:
    return Diagnostic(id="driftignore", summary=f"`{FILE}` cannot be understood", facts=(fact,))
