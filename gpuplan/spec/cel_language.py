"""CEL, the language inside `${ }`, behind one function. Imports `celpy` when the first expression needs it.

Called by `expressions` and `statements` for whatever is more than a plain path. `celpy` keeps maps in the order in
which they were written, so an expression has the same result in every run.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING

from gpuplan.core.diagnostics import At, Diagnostic, Label
from gpuplan.core.errors import SpecError
from gpuplan.core.nearest import did_you_mean
from gpuplan.core.units import format_duration
from gpuplan.core.values import JsonValue
from gpuplan.spec.functions import NAMES, Function
from gpuplan.spec.templates import ROOTS

if TYPE_CHECKING:
    import celpy
    from celpy.celparser import CELParseError
    from celpy.evaluation import CELEvalError, CELFunction

Run = Callable[[Mapping[str, JsonValue]], JsonValue]

_WORDS = ("size", "string", "int", "double", "has", "matches", "contains", "startsWith", "endsWith", "map", "filter")
_CONVERT = "CEL converts nothing by itself: use int(x), double(x) or string(x)"
_FAILURES: Mapping[type[Exception], str] = {
    ZeroDivisionError: "division by zero",
    IndexError: "an index lies outside of its list",
    ValueError: "a value cannot be converted",
}


class UndefinedName(SpecError):
    """An expression asked for a name that it was not given."""

    def __init__(self, name: str, diagnostic: Diagnostic) -> None:
        super().__init__(diagnostics=(diagnostic,))
        self.name = name


class _FunctionFailed(ValueError):
    """One of our own functions did not like its argument; the message is for the user."""


class Language:
    """Compiles expressions; `functions` are known to all of them."""

    def __init__(self, functions: Mapping[str, Function]) -> None:
        self._functions = {name: _adapted(function) for name, function in functions.items()}
        self._programs: dict[str, celpy.Runner] = {}
        self.at: At | None = None
        """Where the expression is written that runs now."""

    def compile(self, code: str, at: At) -> Run:
        """A function from names to the result. Both compiling and running raise SpecError."""
        from celpy.celparser import CELParseError
        from celpy.evaluation import CELEvalError

        try:
            program = self._program(code)
        except CELParseError as exc:
            raise _error("expression-syntax", "an expression cannot be read", at, _syntax(exc), None) from exc

        def run(names: Mapping[str, JsonValue]) -> JsonValue:
            self.at = at
            try:
                result = program.evaluate({name: _to_cel(value) for name, value in names.items()})
            except CELEvalError as exc:
                raise _translated(exc, at) from exc
            return _plain(result)

        return run

    def _program(self, code: str) -> "celpy.Runner":
        """Compiled once: a thousand clusters often say the same."""
        program = self._programs.get(code)
        if program is None:
            syntax = _environment().compile(code)
            program = self._programs[code] = _environment().program(syntax, functions=self._functions)
        return program


@cache
def _environment() -> "celpy.Environment":
    import celpy

    return celpy.Environment()


def _adapted(function: Function) -> "CELFunction":
    """A function of plain values as one of CEL's values."""

    def call(*arguments: object) -> "celpy.celtypes.Value":
        try:
            return _to_cel(function(*map(_plain, arguments)))
        except (ValueError, TypeError) as exc:
            raise _FunctionFailed(str(exc)) from exc

    return call


def _to_cel(value: JsonValue) -> "celpy.celtypes.Value":
    from celpy.adapter import json_to_cel

    # The package takes lists and dicts only, not every sequence and mapping.
    return json_to_cel(json.loads(json.dumps(value)))


def _plain(value: object) -> JsonValue:
    """CEL's types are subclasses of Python's, its booleans of int."""
    match value:
        case None | bool():
            return value
        case int():
            return bool(value) if type(value).__name__ == "BoolType" else int(value)
        case float():
            return float(value)
        case str():
            return str(value)
        case bytes():
            return value.decode(errors="replace")
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case timedelta():
            return format_duration(value.total_seconds())
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case Sequence():
            return [_plain(item) for item in value]
    return str(value)


def _syntax(exc: "CELParseError") -> str:
    """What the parser tripped over, without its positions in a text the user did not write."""
    token = getattr(exc.__context__, "token", None)
    found = getattr(exc.__context__, "char", None) if token is None else str(token)
    if not found or getattr(token, "type", "") == "$END":
        return "the end is not expected here"
    return f"`{found}` is not expected here"


def _translated(exc: "CELEvalError", at: At) -> SpecError:
    text = str(exc.args[0])
    kind: object = exc.args[1] if len(exc.args) > 1 else None
    details: Sequence[object] = exc.args[2] if len(exc.args) > 2 and exc.args[2] else ()
    if (unknown := re.match(r"undeclared reference to '([^']*)'", text)) is not None:
        hint = did_you_mean(unknown[1], (*ROOTS, *NAMES, *_WORDS)) or f"there are: {', '.join(ROOTS)}"
        summary = f"an expression knows no `{unknown[1]}`"
        return UndefinedName(unknown[1], Diagnostic("unknown-reference", summary, (Label(at, "used here"),), hint=hint))
    missing = re.match(r"no such member in mapping: '([^']*)'", text)
    if missing is not None or (kind is KeyError and details):
        key = missing[1] if missing else str(details[0])
        hint = f"ask first: `has(x.{key}) ? x.{key} : ...`"
        return _error("unknown-reference", f"a value has no `{key}`", at, "asked for here", hint)
    if kind is _FunctionFailed:
        return _error("expression-failed", "an expression cannot be computed", at, str(details[0]), None)
    if kind is TypeError or "no matching overload" in text:
        return _error("expression-type", "an expression mixes types", at, "in this expression", _CONVERT)
    said = _FAILURES.get(kind, text) if isinstance(kind, type) else text
    return _error("expression-failed", "an expression cannot be computed", at, said, None)


def _error(id: str, summary: str, at: At, label: str, hint: str | None) -> SpecError:
    return SpecError(diagnostics=(Diagnostic(id, summary, (Label(at, label),), hint=hint),))
