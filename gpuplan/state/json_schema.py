"""The JSON Schema of state files, generated from `document` into `schemas/state.v1.json`.

Called by whoever regenerates the published schemas, and by the test that keeps them up to date.
"""

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaValue

from gpuplan.core.state import FORMAT
from gpuplan.state.document import EncryptedStateDocument, EntryDocument, HeaderDocument, StateDocument


def state_schema() -> JsonSchemaValue:
    """The schema as JSON-ready data. It describes a snapshot; the lines of a journal are its `$defs/Header` and
    `$defs/Entry`."""
    by_name, shared = TypeAdapter.json_schemas(
        [
            ("Snapshot", "validation", TypeAdapter(StateDocument | EncryptedStateDocument)),
            ("Header", "validation", TypeAdapter(HeaderDocument)),
            ("Entry", "validation", TypeAdapter(EntryDocument)),
        ]
    )
    definitions = dict(shared["$defs"])
    for shape in (StateDocument, EncryptedStateDocument, HeaderDocument):
        definitions[shape.__name__]["properties"]["format"] = {"const": FORMAT}
    for shape in definitions.values():
        if shape["type"] == "object":
            shape["additionalProperties"] = False
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A gpuplan state",
        "$ref": "#/$defs/Snapshot",
        "$defs": {
            **definitions,
            "Snapshot": by_name["Snapshot", "validation"],
            "Header": by_name["Header", "validation"],
            "Entry": by_name["Entry", "validation"],
        },
    }
