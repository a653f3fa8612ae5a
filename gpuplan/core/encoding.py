"""Attribute values as JSON, for state and plan files.

Values that JSON lacks become an object with a `$` key; an object of the user's that has such a key goes inside `$map`.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from gpuplan.core.address import Address
from gpuplan.core.secret import Sealed, Secret
from gpuplan.core.values import UNKNOWN, Deferred, JsonValue, Ref, Unknown, Value


def encode_value(value: Value) -> JsonValue:
    """JSON for any value. A bare `Secret` is refused: it must have been sealed, or replaced by what may be shown."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, Mapping):
        mapping = {key: encode_value(item) for key, item in value.items()}
        return {"$map": mapping} if any(key.startswith("$") for key in mapping) else mapping
    match value:
        case Ref(address, remote_id):
            return {"$ref": str(address), "id": remote_id}
        case Sealed(digest):
            return {"$sealed": digest}
        case Unknown() | Deferred():
            return {"$unknown": True}
        case Secret():
            raise TypeError("a secret must be sealed before it is written")
    return [encode_value(item) for item in value]


def decode_value(value: JsonValue) -> Value:
    """The inverse. Raises ValueError for an unknown `$` object."""
    if isinstance(value, Mapping):
        if "$ref" in value:
            remote_id = value.get("id")
            return Ref(Address.parse(str(value["$ref"])), None if remote_id is None else str(remote_id))
        if "$sealed" in value:
            return Sealed(str(value["$sealed"]))
        if "$unknown" in value:
            return UNKNOWN
        if "$map" in value:
            plain = value["$map"]
            if not isinstance(plain, Mapping):
                raise ValueError("`$map` must hold an object")
            return {key: decode_value(item) for key, item in plain.items()}
        strange = next((key for key in value if key.startswith("$")), None)
        if strange is not None:
            raise ValueError(f"unknown value kind `{strange}`")
        return {key: decode_value(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [decode_value(item) for item in value]
    return value


def encode_time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def decode_time(text: str) -> datetime:
    """Raises ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"`{text}` has no time zone")
    return moment
