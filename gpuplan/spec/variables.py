"""Variables: what was given from outside, checked against what the spec declares.

Called by `load` before anything is evaluated.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from gpuplan.core.diagnostics import At, Diagnostic, Label, Severity, Sink
from gpuplan.core.nearest import did_you_mean
from gpuplan.core.secret import SHOWN
from gpuplan.core.values import JsonValue, Value
from gpuplan.spec.model import Variable
from gpuplan.spec.pending import sensitive_value
from gpuplan.spec.scalars import Template, as_text
from gpuplan.spec.schema import kind_of
from gpuplan.spec.source import SourceFile, read_any


@dataclass(frozen=True, slots=True)
class Given:
    """A variable's value as it came from outside; `source` is what the user would look for: `--var`, a file's name.
    `parse`: the value is a text that still has to be read as the variable's type."""

    value: str | JsonValue = field(repr=False)
    source: str
    parse: bool
    ambient: bool = False
    """It is set for whoever may want it, as environment variables are: a spec need not have such a variable."""


_TYPES: Mapping[str, tuple[str, tuple[type, ...]]] = {
    "string": ("text", (str,)),
    "integer": ("a whole number", (int,)),
    "number": ("a number", (int, float)),
    "boolean": ("true or false", (bool,)),
    "list": ("a list", (list, tuple)),
    "map": ("a map", (dict,)),
}


class _Rejected(Exception):
    def __init__(self, id: str, expected: str, hint: str | None = None) -> None:
        super().__init__(expected)
        self.id = id
        self.hint = hint


def read_variables(declared: Mapping[str, Variable], given: Mapping[str, Given], sink: Sink) -> dict[str, Value]:
    """The value of every variable that has a good one. What is wrong goes to `sink`."""
    for name, outside in given.items():
        if name not in declared and not outside.ambient:
            sink.add(_undeclared(name, outside, declared))
        elif name not in declared and (hint := did_you_mean(name, declared)):
            # Of another project, most likely; but a slip must not go unnoticed.
            summary = f"`{outside.source}` sets no variable of this spec"
            sink.add(Diagnostic("undeclared-variable", summary, hint=hint, severity=Severity.WARNING))
    values: dict[str, Value] = {}
    for name, variable in declared.items():
        try:
            value = _value(name, variable, given.get(name), sink)
        except _Missing:
            continue
        values[name] = sensitive_value(value) if variable.sensitive else value
    return values


def type_of(variable: Variable) -> str:
    """The declared type, else that of the default, else string."""
    if variable.type is not None:
        return variable.type
    default = variable.default
    if isinstance(default, bool):
        return "boolean"
    names = (name for name, (_, types) in _TYPES.items() if isinstance(default, types))
    return next(names, "string")


class _Missing(Exception):
    """There is no value to go on with; the reason is in the sink."""


def _value(name: str, variable: Variable, given: Given | None, sink: Sink) -> JsonValue:
    if given is None:
        return _default(name, variable, sink)
    value = given.value
    try:
        if given.parse and isinstance(value, str):
            value = _parsed(type_of(variable), value)
        _check(variable, value)
    except _Rejected as exc:
        shown = SHOWN if variable.sensitive else f"`{_short(given.value)}`"
        sink.add(
            Diagnostic(
                exc.id,
                f"variable `{name}` must be {exc}",
                (Label(At(("variables", name), key=True), "declared here"),),
                facts=(f"{given.source} gives {shown}",),
            )
        )
        raise _Missing from exc
    return value


def _default(name: str, variable: Variable, sink: Sink) -> JsonValue:
    at = At(("variables", name, "default"))
    default: JsonValue = variable.default  # type: ignore[assignment]  # read from YAML: it is nothing else
    if "default" not in variable.model_fields_set:
        where = Label(At(("variables", name), key=True), "declared here, without a default")
        sink.add(
            Diagnostic(
                "missing-variable",
                f"variable `{name}` has no value",
                (where,),
                hint="set it in one of three ways",
                commands=(
                    f"--var {name}=...",
                    f"export GPUPLAN_VAR_{name}=...",
                    f"{name}: ...  # in a *.vars.yaml file",
                ),
            )
        )
        raise _Missing
    if default is None:
        return None
    try:
        if _has_template(default):
            raise _Rejected("wrong-type", "a plain value", "use `locals` to compute one")
        _check(variable, default)
    except _Rejected as exc:
        label = "sensitive" if variable.sensitive else f"this is {kind_of(default)}"
        sink.add(Diagnostic(exc.id, f"variable `{name}` must be {exc}", (Label(at, label),), hint=exc.hint))
        raise _Missing from exc
    return default


def _parsed(type: str, text: str) -> JsonValue:
    if type == "string":
        return text
    sink = Sink()
    value = read_any(SourceFile("value", text.encode()), sink)
    if len(sink):
        _reject_type(type)
    return value


def _check(variable: Variable, value: JsonValue) -> None:
    type = type_of(variable)
    if not isinstance(value, _TYPES[type][1]) or (isinstance(value, bool) and type != "boolean"):
        _reject_type(type)
    _check_bounds(variable, value)
    if variable.enum is not None and value not in variable.enum:
        raise _Rejected("not-one-of", f"one of {', '.join(f'`{_short(item)}`' for item in variable.enum)}")
    if variable.pattern is not None and isinstance(value, str) and not _matches(variable.pattern, value):
        raise _Rejected("wrong-form", f"a text that matches `{variable.pattern}`")


def _check_bounds(variable: Variable, value: JsonValue) -> None:
    size = value if isinstance(value, (int, float)) else len(value) if isinstance(value, (str, list, dict)) else 0
    unit = "" if isinstance(value, (int, float)) else " long"
    if variable.minimum is not None and size < variable.minimum:
        raise _Rejected("out-of-range", f"at least {variable.minimum:g}{unit}")
    if variable.maximum is not None and size > variable.maximum:
        raise _Rejected("out-of-range", f"at most {variable.maximum:g}{unit}")


def _reject_type(type: str) -> NoReturn:
    raise _Rejected("wrong-type", _TYPES[type][0])


def _matches(pattern: str, text: str) -> bool:
    try:
        return re.fullmatch(pattern, text) is not None
    except re.error as exc:
        raise _Rejected("wrong-form", f"checked by a regular expression, and `{pattern}` is none: {exc}") from exc


def _undeclared(name: str, value: Given, declared: Mapping[str, Variable]) -> Diagnostic:
    hint = did_you_mean(name, declared) or f"declare it: `variables: {{{name}: {{}}}}`"
    return Diagnostic(
        "undeclared-variable", f"the spec declares no variable `{name}`", facts=(f"{value.source} sets it",), hint=hint
    )


def _has_template(value: JsonValue) -> bool:
    find: Callable[[JsonValue], bool] = _has_template
    if isinstance(value, dict):
        return any(map(find, value.values()))
    return any(map(find, value)) if isinstance(value, list) else isinstance(value, Template)


def _short(value: object) -> str:
    text = as_text(value) if isinstance(value, (str, bool, int, float)) else str(value)
    return text if len(text) <= 40 else text[:39] + "…"
