"""The JSON Schema of the spec, for editors and CI: generated into `schemas/spec.v1.json`.

Called by `init`, by whoever regenerates the published schemas, and by the test that keeps them up to date.
"""

from pydantic.json_schema import JsonSchemaValue

from gpuplan.spec.fields import EXPRESSION_SCHEMA
from gpuplan.spec.model import Document

_EXPRESSION = {"$ref": "#/$defs/Expression"}


def spec_schema() -> JsonSchemaValue:
    """The schema as JSON-ready data. Options of providers are open in it: each adapter's own model checks them."""
    schema = _readable(Document.model_json_schema(by_alias=True))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "$defs": {"Expression": EXPRESSION_SCHEMA, **schema["$defs"]},
        "title": "A gpuplan spec",
    }


def _readable(schema: JsonSchemaValue) -> JsonSchemaValue:
    """Without pydantic's titles, which repeat every name, without null, which no field takes, and with one definition
    of an expression."""
    kept: JsonSchemaValue = {}
    for key, value in schema.items():
        if key in ("properties", "$defs"):
            kept[key] = {name: _readable(part) for name, part in value.items()}
        elif key == "anyOf":
            kept |= _choice(value)
        elif isinstance(value, dict) and key != "default":
            kept[key] = _readable(value)
        elif not (key == "title" or (key == "default" and value is None)):
            kept[key] = value
    return kept


def _choice(parts: list[JsonSchemaValue]) -> JsonSchemaValue:
    flat: list[JsonSchemaValue] = []
    for part in parts:
        if part == EXPRESSION_SCHEMA:
            flat.append(_EXPRESSION)
        elif part != {"type": "null"}:
            readable = _readable(part)
            flat += readable["anyOf"] if readable.keys() == {"anyOf"} else [readable]
    return flat[0] if len(flat) == 1 else {"anyOf": flat}
