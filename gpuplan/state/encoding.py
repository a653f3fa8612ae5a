"""Records as JSON text, one line each; `codec` puts snapshots and journal lines together from these.

The lines are composed by hand: keys sorted, ASCII only. That is three times as fast as a general encoder, and records
are what a run writes thousands of. Their shapes are those of `document`; a test holds the two together.
"""

import json
import math
from collections.abc import Iterable, Mapping
from json.encoder import encode_basestring_ascii
from typing import assert_never

from gpuplan.core.address import Address
from gpuplan.core.encoding import encode_time, encode_value
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
    OutputsSet,
    Recorded,
    Renamed,
)
from gpuplan.core.values import Attrs

_MEMO_SIZE = 4096

_strict_json = json.JSONEncoder(sort_keys=True, allow_nan=False).encode


def to_json(document: object) -> str:
    """One line of ASCII JSON with sorted keys. Numbers that JSON lacks (a provider's `NaN`) become null."""
    try:
        return _strict_json(document)
    except ValueError:
        return _strict_json(_finite(document))


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def text(value: str) -> str:
    return encode_basestring_ascii(value)


class Encoder:
    """Writes the records of one file; remembers the text of attributes and dependencies that many of them share."""

    def __init__(self) -> None:
        self._attrs: dict[int, tuple[Attrs, str]] = {}
        self._dependencies: dict[frozenset[Address], str] = {}

    def entry(self, entry: Entry) -> str:
        match entry:
            case Begun(intent):
                return f'{{"begun": {self.intent(intent)}}}'
            case Noted(address, None):
                return f'{{"gone": {text(str(address))}}}'
            case Noted(_, recorded):
                assert recorded is not None
                return f'{{"noted": {self.recorded(recorded)}}}'
            case Ended(seq, outcome):
                return f'{{"ended": {{"outcome": {text(outcome)}, "seq": {seq}}}}}'
            case OutputsSet(values):
                return f'{{"outputs": {to_json(dict(values))}}}'
            case Renamed(source, target):
                return f'{{"renamed": {{"source": {text(str(source))}, "target": {text(str(target))}}}}}'
            case Buried(address, None):
                return f'{{"lifted": {text(str(address))}}}'
            case Buried(_, expired):
                assert expired is not None
                return f'{{"buried": {self.expired(expired)}}}'
            case Encrypted(content):
                return f'{{"encrypted": {text(content)}}}'
            case _:
                assert_never(entry)

    def recorded(self, recorded: Recorded) -> str:
        return (
            f'{{"account": {text(recorded.account)}, '
            f'"address": {text(str(recorded.address))}, '
            f'"attrs": {self._attrs_text(recorded.attrs)}, '
            f'"create_before_destroy": {"true" if recorded.create_before_destroy else "false"}, '
            f'"created_at": {text(encode_time(recorded.created_at))}, '
            f'"depends_on": {self._dependencies_text(recorded.depends_on)}, '
            f'"deposed": {_list(map(_deposed, recorded.deposed))}, '
            f'"facts": {to_json(dict(recorded.facts))}, '
            f'"kind": {text(recorded.kind)}, '
            f'"phase": {text(recorded.phase)}, '
            f'"provider": {text(recorded.provider)}, '
            f'"remote_id": {text(recorded.remote_id)}, '
            f'"token": {text(recorded.token)}}}'
        )

    def expired(self, expired: Expired) -> str:
        return (
            f'{{"address": {text(str(expired.address))}, '
            f'"attrs": {self._attrs_text(expired.attrs)}, '
            f'"expired_at": {text(encode_time(expired.expired_at))}, '
            f'"provider": {text(expired.provider)}, '
            f'"ttl_seconds": {to_json(expired.ttl_seconds)}}}'
        )

    def intent(self, intent: Intent) -> str:
        return (
            f'{{"account": {text(intent.account)}, '
            f'"action": {text(intent.action)}, '
            f'"address": {text(str(intent.address))}, '
            f'"begun_at": {text(encode_time(intent.begun_at))}, '
            f'"draft": {"null" if intent.draft is None else self.recorded(intent.draft)}, '
            f'"kind": {text(intent.kind)}, '
            f'"operation": {text(intent.operation)}, '
            f'"provider": {text(intent.provider)}, '
            f'"remote_id": {text(intent.remote_id)}, '
            f'"seq": {intent.seq}, '
            f'"token": {text(intent.token)}, '
            f'"witness": {text(intent.witness)}}}'
        )

    def _attrs_text(self, attrs: Attrs) -> str:
        # Attributes never change in place, so their identity stands for them as long as we hold on to them.
        known = self._attrs.get(id(attrs))
        if known is None:
            if len(self._attrs) >= _MEMO_SIZE:
                self._attrs.clear()
            known = (attrs, to_json({name: encode_value(value) for name, value in attrs.items()}))
            self._attrs[id(attrs)] = known
        return known[1]

    def _dependencies_text(self, depends_on: frozenset[Address]) -> str:
        known = self._dependencies.get(depends_on)
        if known is None:
            if len(self._dependencies) >= _MEMO_SIZE:
                self._dependencies.clear()
            known = self._dependencies[depends_on] = to_json(sorted(map(str, depends_on)))
        return known


def _deposed(deposed: Deposed) -> str:
    return (
        f'{{"account": {text(deposed.account)}, '
        f'"kind": {text(deposed.kind)}, '
        f'"provider": {text(deposed.provider)}, '
        f'"remote_id": {text(deposed.remote_id)}, '
        f'"token": {text(deposed.token)}}}'
    )


def _list(items: Iterable[str]) -> str:
    return f"[{', '.join(items)}]"
