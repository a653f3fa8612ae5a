"""CEL, the language inside `${ }`, behind one function. Imports the `cel` package when the first expression needs it.

Called by `expressions` and `policies` for whatever is more than a plain path.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from gpuplan.core.diagnostics import At, Diagnostic, Label
from gpuplan.core.errors import SpecError
from gpuplan.core.units import format_duration
from gpuplan.core.values import JsonValue
from gpuplan.spec.functions import NAMES, Function
from gpuplan.spec.nearest import did_you_mean
from gpuplan.spec.templates import ROOTS

if TYPE_CHECKING:
    import cel

Run = Callable[[Mapping[str, JsonValue]], JsonValue]

_WORDS = ("size", "string", "int", "double", "has", "matches", "contains", "startsWith", "endsWith", "map", "filter")
_SYNTAX = (
    (r"reserved identifier: (.*)", "{} is a reserved word"),
    (r"missing ('.*?') at", "{} is missing"),
    (r"token recognition error at: (.*)", "{} begins nothing"),
    (r"(?:mismatched|extraneous) input ('.*?') expecting", "{} is not expected here"),
    (r"no viable alternative at input ('.*')", "{} is not expected here"),
)
_CONVERT = "CEL converts nothing by itself: use int(x), double(x) or string(x)"


class Language:
    """Compiles expressions; `functions` are known to all of them."""

    def __init__(self, functions: Mapping[str, Function]) -> None:
        self._functions = functions
        self._known: dict[str, Function] | None = None
        self._failure: str | None = None
        self.at: At | None = None
        """Where the expression is written that runs now."""

    def compile(self, code: str, at: At) -> Run:
        """A function from names to the result. Both compiling and running raise SpecError."""
        try:
            program = _compile(code)
        except ValueError as exc:
            label = _syntax(str(exc))
            hint = "variables are under `vars`" if label.startswith("`var`") else None
            raise _error("expression-syntax", "an expression cannot be read", at, label, hint) from exc

        def run(names: Mapping[str, JsonValue]) -> JsonValue:
            return self._run(program, names, at)

        return run

    def _run(self, program: "cel.Program", names: Mapping[str, JsonValue], at: At) -> JsonValue:
        import cel

        if self._known is None:
            self._known = {name: self._guarded(function) for name, function in self._all().items()}
        self._failure, self.at = None, at
        try:
            result = program.execute(cel.Context(dict(names), self._known))
        # The package raises plain built-in errors of many kinds for whatever an expression does wrong.
        except Exception as exc:
            raise _translated(exc, self._failure, at) from exc
        if self._failure is not None:
            raise _error("expression-failed", "an expression cannot be computed", at, self._failure, None)
        return _plain(result)

    def _all(self) -> dict[str, Function]:
        import cel
        from cel.stdlib import add_stdlib_to_context

        context = cel.Context()
        add_stdlib_to_context(context)
        return {**context.functions, **self._functions}

    def _guarded(self, function: Function) -> Function:
        """A function that notes its failure instead of raising: the package would print what it raises."""

        def call(*arguments: JsonValue) -> JsonValue:
            try:
                return function(*arguments)
            # Whatever the standard functions raise for arguments of the wrong kind is the expression's fault.
            except Exception as exc:
                self._failure = self._failure or str(exc)
                return None

        return call


@lru_cache(maxsize=1024)
def _compile(code: str) -> "cel.Program":
    import cel

    return cel.compile(code)


def _plain(value: object) -> JsonValue:
    match value:
        case None | bool() | int() | float() | str():
            return value
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


def _syntax(message: str) -> str:
    """The parser's own words, without its positions in a text the user did not write."""
    found = re.search(r"ERROR: <input>:\d+:\d+: (?:Syntax error: )?([^\n]*)", message)
    text = found[1] if found else ""
    for pattern, wording in _SYNTAX:
        if match := re.match(pattern, text):
            what = match[1].strip("'")
            return wording.format("the end" if what == "<EOF>" else f"`{what}`")
    return "this is not CEL"


def _translated(exc: Exception, failure: str | None, at: At) -> SpecError:
    text = str(exc)
    if failure is not None:
        return _error("expression-failed", "an expression cannot be computed", at, failure, None)
    if isinstance(exc, KeyError):
        missing = str(exc.args[0]) if exc.args else text
        hint = f"ask first: `has(x.{missing}) ? x.{missing} : ...`"
        return _error("unknown-reference", f"a value has no `{missing}`", at, "asked for here", hint)
    if (unknown := re.search(r"Undefined variable or function: '([^']*)'", text)) is not None:
        hint = did_you_mean(unknown[1], (*ROOTS, *NAMES, *_WORDS)) or f"there are: {', '.join(ROOTS)}"
        return _error("unknown-reference", f"an expression knows no `{unknown[1]}`", at, "used here", hint)
    if isinstance(exc, TypeError):
        return _error("expression-type", "an expression mixes types", at, "in this expression", _CONVERT)
    said = text.split(". ")[0].rstrip(".").replace(" in CEL expression", "")
    return _error("expression-failed", "an expression cannot be computed", at, said, None)


def _error(id: str, summary: str, at: At, label: str, hint: str | None) -> SpecError:
    return SpecError(diagnostics=(Diagnostic(id, summary, (Label(at, label),), hint=hint),))
