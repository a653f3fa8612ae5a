"""Attribute values as people read them: one line each, secrets never.

Called by every view that shows attributes.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal

from gpuplan.cli.render.text import clean
from gpuplan.core.encoding import encode_value
from gpuplan.core.secret import SHOWN, Sealed, Secret
from gpuplan.core.values import UNKNOWN, Attrs, Deferred, JsonValue, Ref, Unknown, Value

_LONGEST = 200
"""Characters of a text that are shown; a start-up script does not belong in a table."""


def show(value: Value) -> str:
    """The value on one line, in the notation of JSON, with what JSON cannot say in parentheses."""
    if isinstance(value, str):
        return _text(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (Secret, Sealed)):
        return SHOWN
    if isinstance(value, (Deferred, Unknown)):
        return str(UNKNOWN)
    if isinstance(value, Ref):
        return f"{value.address} {UNKNOWN}" if value.remote_id is None else str(value.address)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{clean(name)}: {show(item)}" for name, item in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ", ".join(map(show, value)) + "]"
    return clean(str(value))


def flat(attrs: Attrs) -> Iterator[tuple[str, Value]]:
    """Attributes by path, mappings opened: `env.TOKEN`. In the order of their names."""
    for name in sorted(attrs):
        yield from _open(name, attrs[name])


def plain_json(value: Value) -> JsonValue:
    """As encoded in the state, but a secret is only `(sensitive)`: its digest helps nobody who reads."""
    if isinstance(value, (Secret, Sealed)):
        return SHOWN
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return {name: plain_json(item) for name, item in value.items()}
    if isinstance(value, Sequence):
        return [plain_json(item) for item in value]
    return encode_value(value)


def money(amount: Decimal | None) -> str:
    """USD per hour, with all the decimals it takes, at least the cents: the cheapest things cost fractions of one."""
    if amount is None:
        return "unknown"
    digits = f"{amount:.4f}" if not amount or round(amount, 4) else f"{amount:.6f}"
    whole, _, fraction = digits.partition(".")
    return f"{whole}.{fraction.rstrip('0').ljust(2, '0')}"


def spent(amount: Decimal | None) -> str:
    """USD that were spent so far, in cents."""
    return "unknown" if amount is None else f"{amount:.2f}"


def _open(path: str, value: Value) -> Iterator[tuple[str, Value]]:
    if isinstance(value, Mapping) and value:
        for name in sorted(value):
            yield from _open(f"{path}.{name}", value[name])
    elif value is not None:
        yield path, value


def _text(value: str) -> str:
    shown = value if len(value) <= _LONGEST else value[:_LONGEST]
    quoted = clean(json.dumps(shown, ensure_ascii=False))
    return quoted if shown is value else f'{quoted[:-1]}…" ({len(value)} characters)'
