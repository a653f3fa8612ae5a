"""The kinds of fields a spec has: what each accepts, in pydantic's compiled validators.

Called by `model` only. `LATER` marks a field that takes an expression as well, `KEEPS` one whose value may stay
unknown, secret or a reference until it is applied.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, PlainValidator, WithJsonSchema
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from gpuplan.core.address import Address
from gpuplan.core.gpus import nearest_gpus, parse_gpu
from gpuplan.core.kinds import parse_port
from gpuplan.core.secret import Secret
from gpuplan.core.units import Constraint, parse_duration
from gpuplan.core.values import Deferred, Ref
from gpuplan.spec.scalars import Template

VALUE = "\0value"
EXPRESSION = "\0expression"
"""Marks in the location of an error: which branch of a field it comes from. No key of a spec can look like them."""

EXPRESSION_SCHEMA: JsonSchemaValue = {"type": "string", "pattern": r"\$\{", "description": "An expression."}


class _OrExpression:
    """Widens a field by texts with `${ }` and by what may come of them."""

    def __init__(self, *results: type) -> None:
        self._results = results

    def __get_pydantic_core_schema__(self, source: type, handler: GetCoreSchemaHandler) -> CoreSchema:
        inner = handler(source)
        expression = core_schema.is_instance_schema((Template, *self._results))
        choices: list[CoreSchema | tuple[CoreSchema, str]] = [(inner, VALUE), (expression, EXPRESSION)]
        return core_schema.union_schema(choices, mode="left_to_right")

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        choices = schema["choices"] if schema["type"] == "union" else []
        inner = choices[0][0] if choices and isinstance(choices[0], tuple) else schema
        return {"anyOf": [handler(inner), EXPRESSION_SCHEMA]}


class _OneOf:
    """Any of these Python types, and nothing is converted."""

    def __init__(self, *types: type) -> None:
        self._types = types

    def __get_pydantic_core_schema__(self, source: type, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.is_instance_schema(self._types)


class _NoNull:
    """A field that may be left out, and has a value where it is written."""

    def __get_pydantic_core_schema__(self, source: type, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        return schema["schema"] if schema["type"] == "nullable" else schema


T = TypeVar("T")
Maybe: TypeAlias = Annotated[T | None, _NoNull()]

LATER = _OrExpression()
KEEPS = _OrExpression(Deferred)
KEEPS_ALL = _OrExpression(Deferred, Secret, Ref)


def _checked(id: str, check: Callable[[Any], object], *, accepts: tuple[type, ...] = (str,)) -> PlainValidator:
    """A validator from a function that raises ValueError; the value stays as it is written."""

    # The value is whatever the file has there: that is what is being found out.
    def validate(value: Any) -> Any:
        if not isinstance(value, accepts) or isinstance(value, (bool, Template)):
            raise PydanticCustomError(f"{id}_type", "has another type")
        try:
            check(value)
        except PydanticCustomError:
            raise
        except ValueError as exc:
            raise PydanticCustomError(id, "{reason}", {"reason": str(exc)}) from exc
        return value

    return PlainValidator(validate)


@lru_cache(maxsize=1024)
def _check_gpu(text: str) -> None:
    try:
        parse_gpu(text)
    except KeyError as exc:
        name = text.partition(":")[0]
        raise PydanticCustomError("gpu_unknown", "unknown", {"name": name, "nearest": nearest_gpus(name)}) from exc


def _check_ports(value: int | str) -> None:
    first, _, last = str(value).partition("-")
    if not all(number.isdigit() and 0 < int(number) < 65536 for number in (first, last or first)):
        raise ValueError(f'`{value}` is neither a port nor a range: write 22 or "8000-8010"')
    if last and int(last) < int(first):
        raise ValueError(f"`{value}` ends before it begins")


def _check_command(value: Any) -> None:
    if isinstance(value, list) and not all(isinstance(item, (str, int, float, Deferred)) for item in value):
        raise ValueError("a command is one text, or a list of texts")


NAME = r"^[A-Za-z_][A-Za-z0-9_-]*$"
_DURATION_SCHEMA = {"type": "string", "pattern": r"^(\d+(\.\d+)?[smhd])+$", "examples": ["90s", "20m", "12h", "7d"]}
_CONSTRAINT_SCHEMA = {
    "anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": r"^>=\s*\d+(\.\d+)?$"}],
    "examples": [32, ">=32"],
}
_PORTS_SCHEMA = {
    "anyOf": [
        {"type": "integer", "minimum": 1, "maximum": 65535},
        {"type": "string", "pattern": r"^\d+(-\d+)?$"},
    ],
    "examples": [22, "8000-8010"],
}
_PORT_SCHEMA = {
    "anyOf": [
        {"type": "integer", "minimum": 1, "maximum": 65535},
        {"type": "string", "pattern": r"^\d+(/(tcp|udp|http))?$"},
    ]
}
_ADDRESS_SCHEMA = {"type": "string", "examples": ["clusters.train", "clusters.train.nodes[0]"]}
_GPU_SCHEMA = {"type": "string", "examples": ["H100-80GB:8", "RTX4090"]}

Name: TypeAlias = Annotated[str, Field(pattern=NAME)]
Flag: TypeAlias = Annotated[bool, Field(strict=True), LATER]
Text: TypeAlias = Annotated[str, Field(strict=True, min_length=1), KEEPS_ALL]
Whole: TypeAlias = Annotated[int, Field(strict=True, ge=1), KEEPS]
Count: TypeAlias = Annotated[int, Field(strict=True, ge=0, le=100_000), LATER]
Money: TypeAlias = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False), LATER]
Scalar: TypeAlias = Annotated[
    str | int | float | bool,
    _OneOf(str, int, float, bool),
    WithJsonSchema({"type": ["string", "number", "boolean"]}),
    KEEPS_ALL,
]
Gpu: TypeAlias = Annotated[str, _checked("gpu", _check_gpu), WithJsonSchema(_GPU_SCHEMA), KEEPS]
Duration: TypeAlias = Annotated[str, _checked("duration", parse_duration), WithJsonSchema(_DURATION_SCHEMA), LATER]
Amount: TypeAlias = Annotated[
    str | int | float,
    _checked("constraint", Constraint.parse, accepts=(str, int, float)),
    WithJsonSchema(_CONSTRAINT_SCHEMA),
    KEEPS,
]
Port: TypeAlias = Annotated[
    int | str, _checked("port", parse_port, accepts=(int, str)), WithJsonSchema(_PORT_SCHEMA), KEEPS
]
Ports: TypeAlias = Annotated[
    int | str, _checked("ports", _check_ports, accepts=(int, str)), WithJsonSchema(_PORTS_SCHEMA), KEEPS
]
AddressText: TypeAlias = Annotated[str, _checked("address", Address.parse), WithJsonSchema(_ADDRESS_SCHEMA)]
Command: TypeAlias = Annotated[
    str | list[str],
    _checked("command", _check_command, accepts=(str, list)),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": ["string", "number"]}}]}),
    KEEPS_ALL,
]
Reference: TypeAlias = Annotated[str, Field(strict=True, min_length=1), KEEPS_ALL]
