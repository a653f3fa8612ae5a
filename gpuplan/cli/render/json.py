"""Events as JSON, one per line, and the schema they follow: `schemas/event.v1.json`.

Called for `--json` of everything that runs for a while.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import get_args, get_type_hints

from gpuplan.core.address import Address
from gpuplan.core.encoding import encode_time
from gpuplan.core.events import Event
from gpuplan.core.values import JsonValue

_TYPES: Mapping[type, str] = {str: "string", int: "integer", float: "number", Address: "string"}


def json_text(document: JsonValue) -> str:
    """As people read it, ending with a line end."""
    return json.dumps(document, indent=2) + "\n"


def event_line(event: Event, at: datetime) -> str:
    """One line, without its end: `event` says which one, `at` when, the rest are its fields."""
    fields: dict[str, JsonValue] = {"event": event_name(type(event)), "at": encode_time(at)}
    for name in type(event).__dataclass_fields__:
        value = getattr(event, name)
        fields[name] = str(value) if isinstance(value, Address) else value
    return json.dumps(fields)


def event_name(kind: type) -> str:
    """`operation_started` for OperationStarted."""
    return "".join(f"_{char.lower()}" if char.isupper() else char for char in kind.__name__).lstrip("_")


def event_schema() -> Mapping[str, JsonValue]:
    """The JSON Schema of one line, made from the classes in `core.events`."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "gpuplan event, version 1",
        "description": "One line of what `gpuplan apply --json` prints.",
        "oneOf": [_one(kind) for kind in get_args(Event)],
    }


def _one(kind: type) -> JsonValue:
    properties: dict[str, JsonValue] = {
        "event": {"const": event_name(kind)},
        "at": {"type": "string", "format": "date-time"},
    }
    for name, hint in get_type_hints(kind).items():
        properties[name] = {"type": _TYPES[hint]}
    schema: dict[str, JsonValue] = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    if kind.__doc__ and not kind.__doc__.startswith(kind.__name__):
        schema["description"] = " ".join(kind.__doc__.split())
    return schema
