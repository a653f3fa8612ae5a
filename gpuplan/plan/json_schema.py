"""The JSON Schema of saved plans, generated from `shapes` into `schemas/plan.v1.json`.

Called by whoever regenerates the published schemas, and by the test that keeps them up to date.
"""

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaValue

from gpuplan.plan.document import FORMAT
from gpuplan.plan.shapes import PlanDocument


def plan_schema() -> JsonSchemaValue:
    """The schema as JSON-ready data."""
    schema = TypeAdapter(PlanDocument).json_schema()
    schema["properties"]["format"] = {"const": FORMAT}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A saved gpuplan plan", **schema}
