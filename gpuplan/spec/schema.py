"""The shape of a document: every mistake at once, in our own words.

Called by `load` for the whole document, and by `resources` for blocks whose expressions have been evaluated. This is
the one place that knows pydantic's errors.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gpuplan.core.diagnostics import At, Diagnostic, Label, Path
from gpuplan.core.nearest import did_you_mean
from gpuplan.core.secret import Secret
from gpuplan.core.values import Deferred, Ref
from gpuplan.spec.fields import EXPRESSION, VALUE
from gpuplan.spec.model import Document
from gpuplan.spec.scalars import as_text
from gpuplan.spec.sources import path_text

Model = TypeVar("Model", bound=BaseModel)

_EXPECTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "float_parsing": "a number",
    "decimal_parsing": "a number",
    "bool_parsing": "true or false",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "string_sub_type": "text",
    "bool_type": "true or false",
    "dict_type": "a map",
    "model_type": "a map",
    "list_type": "a list",
    "is_instance_of": "text, a number, true or false",
    "gpu_type": "a GPU such as `H100-80GB:8`",
    "duration_type": "a duration such as `20m`",
    "constraint_type": "a number or a text such as `>=32`",
    "port_type": 'a port such as 8000 or "53/udp"',
    "ports_type": 'a port such as 22 or a range such as "8000-8010"',
    "address_type": "an address such as `clusters.train`",
    "command_type": "text or a list of texts",
}
_NOUNS = {
    "clusters": "cluster",
    "volumes": "volume",
    "ssh_keys": "ssh key",
    "networks": "network",
    "services": "service",
    "jobs": "job",
    "variables": "variable",
    "providers": "provider",
    "policies": "policy",
}


class _Problem(NamedTuple):
    path: Path
    type: str
    message: str
    context: Mapping[str, Any]
    value: object
    from_union: bool


def check(model: type[Model], value: object, at: Path, *, evaluated: bool = False) -> Model | tuple[Diagnostic, ...]:
    """The validated model, or everything that is wrong with `value`, which is written at `at`. `evaluated` says that
    expressions have been replaced by what they gave."""
    try:
        return model.model_validate(value)
    except ValidationError as exc:
        problems = [_problem(error, value) for error in exc.errors(include_url=False) if EXPRESSION not in error["loc"]]
        return tuple(_Translation(model, at, evaluated).all(problems))


def kind_of(value: object) -> str:
    """What a value is, for a label under the caret."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true or false"
        case int():
            return "a whole number"
        case float():
            return "a number"
        case str():
            return "text"
        case Mapping():
            return "a map"
        case Secret():
            return "a sensitive value"
        case Ref():
            return "a resource"
        case Deferred():
            return "something known only after apply"
        case Sequence():
            return "a list"
    return "something else"


def _problem(error: ErrorDetails, value: object) -> _Problem:
    """Strip the names of union branches from the location: whatever the value does not have is one."""
    path: list[str | int] = []
    location = [part for part in error["loc"] if part not in (VALUE, EXPRESSION)]
    for index, part in enumerate(location):
        is_last = index == len(location) - 1
        if isinstance(value, Mapping) and (part in value or (is_last and error["type"] == "missing")):
            path.append(part)
            value = value.get(str(part))
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            path.append(part)
            value = value[part]
    context = error.get("ctx", {})
    return _Problem(tuple(path), error["type"], error["msg"], context, value, len(path) < len(location))


class _Translation:
    def __init__(self, model: type[BaseModel], at: Path, evaluated: bool) -> None:
        self._model = model
        self._at = at
        self._verb = "gives" if evaluated else "is"

    def all(self, problems: Iterable[_Problem]) -> Iterable[Diagnostic]:
        groups: dict[Path, list[_Problem]] = {}
        for problem in problems:
            groups.setdefault(problem.path, []).append(problem)
        deeper = {path[:length] for path in groups for length in range(len(path))}
        for path, group in groups.items():
            # One branch of a union went further into the value: that branch was meant.
            if path in deeper and all(problem.from_union for problem in group):
                continue
            yield self._diagnostic(group)

    def _diagnostic(self, group: list[_Problem]) -> Diagnostic:
        first = next((p for p in group if p.type not in _EXPECTED), group[0])
        path = (*self._at, *first.path)
        match first.type:
            case "extra_forbidden":
                return self._unknown_field(path, first.path)
            case "missing":
                return self._missing_field(path)
            case "string_pattern_mismatch" if first.from_union:
                return _bad_name(path)
            case "gpu_unknown":
                return _unknown_gpu(path, first.context)
        if first.type in _EXPECTED:
            return self._wrong_type(path, group)
        return self._wrong_value(path, first)

    def _unknown_field(self, path: Path, inner: Path) -> Diagnostic:
        field = str(path[-1])
        fields = _fields(self._model, inner[:-1])
        label = Label(At(path, key=True), f"not a field of {_noun(path[:-1])}")
        hint = did_you_mean(field, fields)
        if hint is None and 0 < len(fields) <= 8:
            hint = f"it has: {', '.join(fields)}"
        summary = f"`{path_text(path[:-1])}` has no field `{field}`"
        if len(path) == 1:
            summary, label = f"a spec has no section `{field}`", Label(At(path, key=True), "not a section")
        return Diagnostic("unknown-field", summary, (label,), hint=hint)

    def _missing_field(self, path: Path) -> Diagnostic:
        owner = f"`{path_text(path[:-1])}`" if len(path) > 1 else "a spec"
        label = Label(At(path[:-1], key=True), f"`{path[-1]}` is missing here")
        hint = "begin with `version: 1`" if path == ("version",) else f"add `{path[-1]}:`"
        return Diagnostic("missing-field", f"{owner} needs `{path[-1]}`", (label,), hint=hint)

    def _wrong_type(self, path: Path, group: list[_Problem]) -> Diagnostic:
        expected = " or ".join(dict.fromkeys(_EXPECTED[p.type] for p in group if p.type in _EXPECTED))
        value = group[0].value
        label = f"this {self._verb} {kind_of(value)}"
        hint = _example(group[0].type, path[-1], value)
        if value is None and self._verb == "is":
            label, hint = "nothing is written here", "write a value, or remove the line"
        return Diagnostic(
            "wrong-type", f"`{_name(path)}` must be {expected}", (Label(At(path, key=value is None), label),), hint=hint
        )

    def _wrong_value(self, path: Path, problem: _Problem) -> Diagnostic:
        expectation = _expectation(problem)
        if expectation is None:
            # From an adapter's own model, which says it in its own words.
            said = str(problem.context.get("error") or problem.message)
            return Diagnostic("wrong-value", f"`{_name(path)}` does not fit", (Label(At(path), said),))
        id, expected = expectation
        shown = f"this {self._verb} {_shown(problem.value)}"
        hint = None
        if problem.type in ("literal_error", "enum") and isinstance(problem.value, str):
            hint = did_you_mean(problem.value, str(problem.context.get("expected", "")).replace("'", " ").split())
        if path == ("project",):
            hint = "lower-case letters, digits and `-`, at most 40 characters"
        return Diagnostic(id, f"`{_name(path)}` must be {expected}", (Label(At(path), shown),), hint=hint)


def _example(type: str, field: str | int, value: object) -> str | None:
    """How the value would be written that was probably meant."""
    is_scalar = isinstance(value, (str, int, float))
    digits = re.match(r"\d+", value) if isinstance(value, str) else None
    match type:
        case "int_type" | "int_from_float":
            return f"write digits: `{field}: {digits[0] if digits else 2}`"
        case "float_type":
            return f"write digits: `{field}: {digits[0] if digits else '2.10'}`"
        case "bool_type":
            return f"write `{field}: true` or `{field}: false`"
        case "duration_type":
            return f'write a number and a unit: `{field}: "20m"`'
        case "string_type" if isinstance(value, (bool, int, float)):
            return f'put it into quotes: `{field}: "{as_text(value)}"`'
        case "list_type" if is_scalar and not isinstance(field, int):
            return f"put it into brackets: `{field}: [{_shown(value).strip('`')}]`"
    return None


def _expectation(problem: _Problem) -> tuple[str, str] | None:
    context = problem.context
    match problem.type:
        case "greater_than_equal":
            return "out-of-range", f"at least {context['ge']:g}"
        case "greater_than":
            return "out-of-range", f"more than {context['gt']:g}"
        case "less_than_equal":
            return "out-of-range", f"at most {context['le']:g}"
        case "finite_number":
            return "out-of-range", "a finite number"
        case "string_too_short":
            return "out-of-range", "a text that is not empty"
        case "too_short":
            return "out-of-range", "a list with at least one entry"
        case "literal_error" | "enum":
            return "not-one-of", str(context["expected"]).replace("'", "`")
        case "string_pattern_mismatch":
            return "wrong-form", "written in another form"
        case "duration" | "constraint" | "port" | "ports" | "address" | "command" | "gpu":
            words = _EXPECTED[f"{problem.type}_type"]
            return "wrong-form", words
    return None


def _unknown_gpu(path: Path, context: Mapping[str, Any]) -> Diagnostic:
    near: list[str] = context["nearest"]
    hint = f"nearest: {', '.join(near)}" if near else "run `gpuplan offers` to see what there is"
    return Diagnostic(
        "unknown-gpu", f"there is no GPU named `{context['name']}`", (Label(At(path), "not a known GPU"),), hint=hint
    )


def _bad_name(path: Path) -> Diagnostic:
    return Diagnostic(
        "wrong-name",
        f"`{path[-1]}` cannot be a name",
        (Label(At(path, key=True), "names are used in addresses"),),
        hint="letters, digits, `_` and `-`; the first is a letter or `_`",
    )


def _name(path: Path) -> str:
    """A field as its neighbours see it: without the resource it belongs to."""
    return path_text(path[2:]) if len(path) > 2 and isinstance(path[1], str) else path_text(path)


def _noun(path: Path) -> str:
    if not path:
        return "a spec"
    if len(path) == 2 and path[0] in _NOUNS:
        return f"a {_NOUNS[str(path[0])]}"
    named = next((part for part in reversed(path) if isinstance(part, str)), "")
    return f"`{named}`"


def _shown(value: object) -> str:
    if isinstance(value, str):
        return f"`{value[:40]}`"
    return str(value) if isinstance(value, (int, float)) else kind_of(value)


def _fields(model: type[BaseModel], path: Path) -> list[str]:
    """The names a model has for the part of it at `path`."""
    if model is Document:
        path = (*path[:1], *path[2:])
    for part in path:
        if isinstance(part, str) and part in (fields := _by_alias(model)):
            found = _model_in(fields[part])
            if found is None:
                return []
            model = found
    return list(_by_alias(model))


def _by_alias(model: type[BaseModel]) -> dict[str, object]:
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_in(argument) for argument in get_args(annotation))
    return next((model for model in found if model is not None), None)
