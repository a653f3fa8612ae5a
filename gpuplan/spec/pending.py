"""Expressions that wait for a fact: what a `Deferred` of the spec carries as its `evaluate`.

Built by `expressions`, called by the planner and by the engine with a scope. Each is a value itself: `identity` goes
into the digest of the spec.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gpuplan.core.address import Address
from gpuplan.core.diagnostics import At, Diagnostic, Label
from gpuplan.core.errors import SpecError
from gpuplan.core.nearest import did_you_mean
from gpuplan.core.seal import secret_elsewhere
from gpuplan.core.secret import Sealed, Secret
from gpuplan.core.values import UNKNOWN, Deferred, JsonValue, Ref, Scope, Unknown, Value, has_unknown, leaves, resolve
from gpuplan.spec.cel_language import UndefinedName
from gpuplan.spec.scalars import as_text

Plain = str | int


@dataclass(frozen=True, slots=True)
class Lookup:
    """An attribute or a fact of another resource: `clusters.train.nodes[0].public_ip`."""

    resource: Address
    steps: tuple[Plain, ...]
    at: At

    def __call__(self, scope: Scope) -> Value:
        return walk(scope.view(self.resource), self.steps, str(self.resource), self.at)

    @property
    def identity(self) -> Value:
        return [str(self.resource), *self.steps]


@dataclass(frozen=True, slots=True)
class Within:
    """A part of a value that is itself deferred: a local that holds one."""

    inner: Deferred
    steps: tuple[Plain, ...]
    at: At

    def __call__(self, scope: Scope) -> Value:
        return walk(resolve(self.inner, scope), self.steps, self.inner.text, self.at)

    @property
    def identity(self) -> Value:
        return [self.inner, *self.steps]


@dataclass(frozen=True, slots=True)
class Joined:
    """A text around deferred parts."""

    parts: tuple[Value, ...]
    at: At

    def __call__(self, scope: Scope) -> Value:
        return join([resolve(part, scope) for part in self.parts], self.at)

    @property
    def identity(self) -> Value:
        return list(self.parts)


@dataclass(frozen=True, slots=True)
class Input:
    """A value an expression uses under a name; `asks` as in `templates.Cut`."""

    name: str
    value: Value
    asks: str
    missing: SpecError | None = field(default=None, compare=False)
    """There is no such value; an error only if the expression really uses it."""


@dataclass(frozen=True, slots=True)
class Computed:
    """A CEL expression over values of which some are deferred."""

    code: str
    inputs: tuple[Input, ...]
    run: Callable[[Mapping[str, JsonValue]], JsonValue] = field(repr=False, compare=False)
    at: At

    def __call__(self, scope: Scope) -> Value:
        inputs = [_resolved(entry, scope) for entry in self.inputs]
        if any(isinstance(entry.value, Sealed) and entry.asks != "presence" for entry in inputs):
            raise SpecError(diagnostics=(secret_elsewhere(self.at),))
        return compute(self.run, inputs)

    @property
    def identity(self) -> Value:
        return [self.code, *([i.name, i.asks, i.value] for i in self.inputs)]


class Missing(SpecError):
    """A path that is not there."""


def _resolved(entry: Input, scope: Scope) -> Input:
    try:
        return Input(entry.name, resolve(entry.value, scope), entry.asks, entry.missing)
    except Missing as exc:
        return Input(entry.name, None, entry.asks, exc)


def compute(run: Callable[[Mapping[str, JsonValue]], JsonValue], inputs: Sequence[Input]) -> Value:
    """Run an expression over resolved inputs: `UNKNOWN` while one of them is, secret where one of them is."""
    names: dict[str, JsonValue] = {}
    sensitive = False
    for entry in inputs:
        value = entry.value
        if entry.asks == "presence":
            value = UNKNOWN if isinstance(value, Unknown) else value is not None
        elif entry.missing is not None:
            continue
        elif entry.asks == "size" and _is_incomplete(value):
            value = [0] * len(value) if isinstance(value, (Mapping, Sequence)) else value
        if _is_incomplete(value):
            return UNKNOWN
        sensitive = sensitive or is_sensitive(value)
        names[entry.name] = revealed(value)
    try:
        result = run(names)
    except UndefinedName as exc:
        raise next((entry.missing for entry in inputs if entry.missing and entry.name == exc.name), exc) from exc
    return sensitive_value(result) if sensitive else result


def _is_incomplete(value: Value) -> bool:
    """Whether something in it is unknown, or may be there that is not known yet: a mapping that answers for what it
    lacks."""
    if isinstance(value, Mapping):
        return hasattr(value, "__missing__") or any(map(_is_incomplete, value.values()))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return any(map(_is_incomplete, value))
    return has_unknown(value)


def walk(value: Value, steps: Sequence[Plain], name: str, at: At) -> Value:
    """Follow a path into a value. Raises SpecError for a step that leads nowhere."""
    for step in steps:
        if isinstance(value, Unknown):
            return value
        if isinstance(value, Mapping):
            known = value
            try:
                # Not `get`: a mapping may know that what it lacks is not known yet.
                value = known[str(step)]
            except KeyError as exc:
                hint = did_you_mean(str(step), known)
                raise _missing(f"`{name}` has no `{step}`", at, hint) from exc
        elif isinstance(value, Sequence) and not isinstance(value, str) and isinstance(step, int):
            if step >= len(value):
                raise _missing(f"`{name}` has no `[{step}]`", at, f"it has {len(value)}, counted from 0")
            value = value[step]
        else:
            raise _missing(f"`{name}` has no `{step}`", at, None)
        name = f"{name}[{step}]" if isinstance(step, int) else f"{name}.{step}"
    return value


def join(parts: Sequence[Value], at: At) -> Value:
    """One text of several values. Raises SpecError for a value that is no text."""
    sensitive, text = False, ""
    for part in parts:
        if isinstance(part, Ref):
            part = UNKNOWN if part.remote_id is None else part.remote_id
        if isinstance(part, Unknown):
            return UNKNOWN
        if isinstance(part, Sealed):
            raise SpecError(diagnostics=(secret_elsewhere(at),))
        if isinstance(part, Secret):
            sensitive, part = True, part.reveal()
        if not isinstance(part, (str, bool, int, float)):
            raise SpecError(diagnostics=(_unjoinable(part, at),))
        text += as_text(part)
    return Secret(text) if sensitive else text


def is_sensitive(value: Value) -> bool:
    return any(isinstance(leaf, Secret) for leaf in leaves(value))


def sensitive_value(value: Value) -> Value:
    """A value that came of secrets. A yes or no tells too little to hide; everything else is hidden."""
    if value is None or isinstance(value, (bool, Secret, Sealed, Deferred, Ref, Unknown)):
        return value
    if isinstance(value, Mapping):
        return {key: sensitive_value(item) for key, item in value.items()}
    if isinstance(value, (str, int, float)):
        return Secret(as_text(value))
    return [sensitive_value(item) for item in value] if isinstance(value, Sequence) else value


def revealed(value: Value) -> JsonValue:
    """The plain value of what is fully known; what other resources keep secret is not there."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return float(value)
        case Secret():
            return value.reveal()
        case Ref():
            return value.remote_id
        case Mapping():
            return {key: revealed(item) for key, item in value.items() if not isinstance(item, Sealed)}
        case Sequence():
            return [revealed(item) for item in value if not isinstance(item, Sealed)]
    raise TypeError(f"{type(value).__name__} is not known yet")


def _missing(summary: str, at: At, hint: str | None) -> SpecError:
    return Missing(diagnostics=(Diagnostic("unknown-reference", summary, (Label(at, "asked for here"),), hint=hint),))


def _unjoinable(part: Value, at: At) -> Diagnostic:
    what = "nothing" if part is None else "a map" if isinstance(part, Mapping) else "a list"
    return Diagnostic(
        "expression-type",
        f"{what} cannot be part of a text",
        (Label(at, "in this text"),),
        hint="write it as text with `json(...)`",
    )
