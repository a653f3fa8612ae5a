"""Read what providers answer: paths into JSON, and the base of models for it."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.alias_generators import to_camel

from gpuplan.core.values import JsonValue


def dig(value: JsonValue, path: str) -> JsonValue:
    """The value at a dotted path, numbers counting into lists; None where there is nothing."""
    for step in path.split(".") if path else ():
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, Sequence) and not isinstance(value, str) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


class Payload(BaseModel):
    """A part of an answer. Unknown fields are ignored, numbers may stand for texts, and null means 'not told':
    the field keeps its default."""

    model_config = ConfigDict(extra="ignore", frozen=True, coerce_numbers_to_str=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_not_told(cls, value: Any) -> Any:
        if isinstance(value, dict) and None in value.values():
            return {name: item for name, item in value.items() if item is not None}
        return value


class CamelPayload(Payload):
    """A payload of an API that writes `dataCenterId` where we write `data_center_id`."""

    model_config = ConfigDict(alias_generator=to_camel)
