"""Checked reading of records out of parsed JSON; `codec` puts snapshots and journal lines together from these.

Every problem is a ValueError in words a user can act on. One `Decoder` per file: records that hold equal attributes,
dependencies or texts share one object, which is what keeps a state of many equal nodes small in memory.
"""

import marshal
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TypeVar

from gpuplan.core.address import Address
from gpuplan.core.desired import Kind
from gpuplan.core.encoding import decode_time, decode_value
from gpuplan.core.state import (
    Begun,
    Buried,
    Deposed,
    Encrypted,
    Ended,
    Entry,
    Expired,
    Intent,
    Noted,
    Outcome,
    OutputsSet,
    Phase,
    Recorded,
    Renamed,
)
from gpuplan.core.values import Attrs, JsonValue

MAX_DEPTH = 64

Fields = dict[str, object]
Read = TypeVar("Read")

_KINDS = {kind.value: kind for kind in Kind}
_PHASES = {phase.value: phase for phase in Phase}
_OUTCOMES = {outcome.value: outcome for outcome in Outcome}

_DEPOSED_FIELDS = frozenset({"account", "kind", "provider", "remote_id", "token"})
_RECORDED_FIELDS = frozenset(
    {
        "account",
        "address",
        "attrs",
        "create_before_destroy",
        "created_at",
        "deposed",
        "depends_on",
        "facts",
        "kind",
        "phase",
        "provider",
        "remote_id",
        "token",
    }
)
_EXPIRED_FIELDS = frozenset({"address", "attrs", "expired_at", "provider", "ttl_seconds"})
_INTENT_FIELDS = frozenset(
    {
        "account",
        "action",
        "address",
        "begun_at",
        "draft",
        "kind",
        "operation",
        "provider",
        "remote_id",
        "seq",
        "token",
        "witness",
    }
)


def quoted(value: object) -> str:
    """A value for a message: on one line, without control characters, cut to a readable length."""
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def expect_fields(raw: object, names: frozenset[str]) -> Fields:
    """An object with exactly these fields."""
    if not isinstance(raw, dict):
        raise ValueError(f"{quoted(raw)} is not an object")
    if raw.keys() != names:
        missing = ", ".join(f"`{name}` is missing" for name in sorted(names - raw.keys()))
        unknown = ", ".join(f"{quoted(name)} is not known" for name in sorted(raw.keys() - names))
        raise ValueError(missing or unknown)
    return raw


def expect_text(fields: Fields, name: str) -> str:
    value = fields[name]
    if not isinstance(value, str):
        raise ValueError(f"`{name}` is {quoted(value)} instead of a text")
    return value


def expect_number(fields: Fields, name: str) -> int:
    value = fields[name]
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"`{name}` is {quoted(value)} instead of a whole number")
    return value


def expect_seconds(fields: Fields, name: str) -> float:
    value = fields[name]
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise ValueError(f"`{name}` is {quoted(value)} instead of a number of seconds")
    return float(value)


def expect_flag(fields: Fields, name: str) -> bool:
    value = fields[name]
    if not isinstance(value, bool):
        raise ValueError(f"`{name}` is {quoted(value)} instead of true or false")
    return value


def expect_list(fields: Fields, name: str) -> list[object]:
    value = fields[name]
    if not isinstance(value, list):
        raise ValueError(f"`{name}` is {quoted(value)} instead of a list")
    return value


def expect_choice(fields: Fields, name: str, choices: Mapping[str, Read]) -> Read:
    value = fields[name]
    choice = choices.get(value) if isinstance(value, str) else None
    if choice is None:
        raise ValueError(f"`{name}` is {quoted(value)}, not one of {', '.join(choices)}")
    return choice


def expect_address(fields: Fields, name: str) -> Address:
    text = expect_text(fields, name)
    try:
        return Address.parse(text)
    except ValueError as exc:
        raise ValueError(f"`{name}` is {quoted(text)} instead of an address") from exc


def expect_time(fields: Fields, name: str) -> datetime:
    text = expect_text(fields, name)
    try:
        return decode_time(text)
    except ValueError as exc:
        raise ValueError(f"`{name}` is {quoted(text)} instead of a time with its zone") from exc


def check_depth(value: dict[str, object] | list[object], room: int = MAX_DEPTH) -> None:
    """Refuse what later recursion over the value could not survive."""
    items = value.values() if isinstance(value, dict) else value
    if room == 0:
        raise ValueError(f"a value is nested more than {MAX_DEPTH} deep")
    for item in items:
        if isinstance(item, (dict, list)):
            check_depth(item, room - 1)


def _fingerprint(raw: object) -> bytes:
    # Unlike equality it tells 1 from 1.0 and from true; version 2 writes no back references, so equal gives equal.
    return marshal.dumps(raw, 2)  # type: ignore[arg-type]  # parsed JSON holds nothing but what it takes


class Decoder:
    """Reads the records of one file."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._attrs: dict[bytes, Attrs] = {}
        self._dependencies: dict[bytes, frozenset[Address]] = {}

    def located(self, where: str, raw: object, read: Callable[[object], Read]) -> Read:
        """`read(raw)`, with `where` and the address in front of whatever is wrong."""
        try:
            return read(raw)
        except ValueError as exc:
            address = raw.get("address") if isinstance(raw, dict) else None
            name = f" ({quoted(address)})" if isinstance(address, str) else ""
            raise ValueError(f"{where}{name}: {exc}") from exc

    def recorded(self, raw: object) -> Recorded:
        fields = expect_fields(raw, _RECORDED_FIELDS)
        deposed = fields["deposed"]
        return Recorded(
            address=expect_address(fields, "address"),
            kind=expect_choice(fields, "kind", _KINDS),
            provider=self._shared_text(fields, "provider"),
            account=self._shared_text(fields, "account"),
            remote_id=expect_text(fields, "remote_id"),
            token=expect_text(fields, "token"),
            attrs=self._shared_attrs(fields["attrs"]),
            facts=self.json_mapping("facts", fields["facts"]),
            depends_on=self._shared_dependencies(fields),
            created_at=expect_time(fields, "created_at"),
            phase=expect_choice(fields, "phase", _PHASES),
            deposed=() if deposed == [] else tuple(map(self._deposed, expect_list(fields, "deposed"))),
            create_before_destroy=expect_flag(fields, "create_before_destroy"),
        )

    def expired(self, raw: object) -> Expired:
        fields = expect_fields(raw, _EXPIRED_FIELDS)
        return Expired(
            address=expect_address(fields, "address"),
            provider=self._shared_text(fields, "provider"),
            attrs=self._shared_attrs(fields["attrs"]),
            ttl_seconds=expect_seconds(fields, "ttl_seconds"),
            expired_at=expect_time(fields, "expired_at"),
        )

    def intent(self, raw: object) -> Intent:
        fields = expect_fields(raw, _INTENT_FIELDS)
        draft = fields["draft"]
        return Intent(
            seq=expect_number(fields, "seq"),
            operation=expect_text(fields, "operation"),
            action=self._shared_text(fields, "action"),
            address=expect_address(fields, "address"),
            kind=expect_choice(fields, "kind", _KINDS),
            provider=self._shared_text(fields, "provider"),
            account=self._shared_text(fields, "account"),
            begun_at=expect_time(fields, "begun_at"),
            token=expect_text(fields, "token"),
            remote_id=expect_text(fields, "remote_id"),
            draft=None if draft is None else self.located("draft", draft, self.recorded),
            witness=expect_text(fields, "witness"),
        )

    def entry(self, raw: object) -> Entry:
        if not isinstance(raw, dict) or len(raw) != 1:
            raise ValueError(f"{quoted(raw)} is not a journal entry")
        ((word, body),) = raw.items()
        match word:
            case "noted":
                recorded = self.recorded(body)
                return Noted(recorded.address, recorded)
            case "begun":
                return Begun(self.intent(body))
            case "ended":
                fields = expect_fields(body, frozenset({"outcome", "seq"}))
                return Ended(expect_number(fields, "seq"), expect_choice(fields, "outcome", _OUTCOMES))
            case "gone":
                return Noted(expect_address(raw, "gone"), None)
            case "renamed":
                fields = expect_fields(body, frozenset({"source", "target"}))
                return Renamed(expect_address(fields, "source"), expect_address(fields, "target"))
            case "buried":
                expired = self.expired(body)
                return Buried(expired.address, expired)
            case "lifted":
                return Buried(expect_address(raw, "lifted"), None)
            case "encrypted":
                return Encrypted(expect_text(raw, "encrypted"))
            case "outputs":
                return OutputsSet(self.json_mapping("outputs", body))
        raise ValueError(f"{quoted(word)} is not a kind of journal entry")

    def json_mapping(self, name: str, raw: object) -> Mapping[str, JsonValue]:
        if not isinstance(raw, dict):
            raise ValueError(f"`{name}` is {quoted(raw)} instead of an object")
        check_depth(raw)
        return raw

    def _deposed(self, raw: object) -> Deposed:
        fields = expect_fields(raw, _DEPOSED_FIELDS)
        return Deposed(
            provider=self._shared_text(fields, "provider"),
            account=self._shared_text(fields, "account"),
            kind=expect_choice(fields, "kind", _KINDS),
            remote_id=expect_text(fields, "remote_id"),
            token=expect_text(fields, "token"),
        )

    def _shared_text(self, fields: Fields, name: str) -> str:
        text = expect_text(fields, name)
        return self._texts.setdefault(text, text)

    def _shared_attrs(self, raw: object) -> Attrs:
        same = _fingerprint(raw)
        attrs = self._attrs.get(same)
        if attrs is None:
            mapping = self.json_mapping("attrs", raw)
            attrs = self._attrs[same] = {name: decode_value(value) for name, value in mapping.items()}
        return attrs

    def _shared_dependencies(self, fields: Fields) -> frozenset[Address]:
        names = expect_list(fields, "depends_on")
        same = _fingerprint(names)
        dependencies = self._dependencies.get(same)
        if dependencies is None:
            dependencies = frozenset(expect_address({"depends_on": name}, "depends_on") for name in names)
            self._dependencies[same] = dependencies
        return dependencies
