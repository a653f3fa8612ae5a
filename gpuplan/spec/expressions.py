"""What `${ }` means: values that are known now, references, and expressions that wait.

Called by `resources`, `outputs` and whoever else has a raw value of the spec. `Names` is what a whole spec knows;
an `Evaluation` reads raw values in one place of it and notes which resources they refer to.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NoReturn, Protocol

from gpuplan.core.address import Address
from gpuplan.core.desired import SECTIONS
from gpuplan.core.diagnostics import At, Diagnostic, Label, Path
from gpuplan.core.errors import SpecError
from gpuplan.core.nearest import did_you_mean, nearest
from gpuplan.core.values import Deferred, JsonValue, Ref, Value, is_static, leaves
from gpuplan.spec.cel_language import Language
from gpuplan.spec.pending import Computed, Input, Joined, Lookup, Missing, Plain, Within, compute, join, walk
from gpuplan.spec.scalars import Template
from gpuplan.spec.templates import Cut, Expression, PathExpression, TemplateError, parse_template


class Silenced(SpecError):
    """Cannot be computed because of something that has been reported already."""


class Target(Protocol):
    """A resource as references see it: which instances it has."""

    def resolve(self, steps: Sequence[Plain], at: At) -> tuple[Address, Sequence[Plain]]:
        """The address the first steps name, and the steps that lead into it. Raises SpecError."""
        ...

    def literal(self, address: Address, steps: Sequence[Plain]) -> tuple[Value] | None:
        """The attribute, where the spec itself says it."""
        ...


class Directory(Protocol):
    def names(self, section: str) -> Collection[str]: ...

    def target(self, section: str, name: str) -> Target: ...


class Names:
    """The roots of expressions. `locals` are evaluated when they are first asked for."""

    def __init__(
        self, variables: Mapping[str, Value], raw_locals: Mapping[str, JsonValue], environ: Mapping[str, str]
    ) -> None:
        self.variables = variables
        self.environ = environ
        self.broken: frozenset[str] = frozenset()
        """Declared variables without a usable value: that has been said once, and is not said again at every use."""
        self.used: set[str] = set()
        """`vars.x` and `locals.y` that some expression asked for."""
        self.declared_locals = raw_locals
        self._locals: dict[str, tuple[Value, frozenset[Address]]] = {}
        self._open: list[str] = []
        self.directory: Directory | None = None
        self.language = Language({})

    def local(self, name: str, at: At) -> tuple[Value, frozenset[Address]]:
        """A local and what it refers to. Raises SpecError when it leads back to itself."""
        if name not in self.declared_locals:
            fail("unknown-reference", f"there is no local `{name}`", at, hint=did_you_mean(name, self.declared_locals))
        self.used.add(f"locals.{name}")
        if name in self._open:
            circle = " → ".join((*self._open[self._open.index(name) :], name))
            fail("locals-cycle", "locals lead back to themselves", At(("locals", name)), label=circle)
        if name not in self._locals:
            self._open.append(name)
            try:
                evaluation = Evaluation(self, {})
                value = evaluation.value(self.declared_locals[name], ("locals", name))
            finally:
                self._open.pop()
            self._locals[name] = value, frozenset(evaluation.refs)
        return self._locals[name]

    def environment(self, name: str, at: At) -> str:
        value = self.environ.get(name)
        if value is None:
            fail("missing-environment", f"the environment has no `{name}`", at, hint="set it, or declare a variable")
        return value


class Evaluation:
    """Reads raw values where `bound` gives `each` and `count`; `refs` collects what they refer to."""

    def __init__(self, names: Names, bound: Mapping[str, Value]) -> None:
        self._names = names
        self._bound = bound
        self.refs: set[Address] = set()

    def value(self, raw: JsonValue, path: Path) -> Value:
        """The value, with `Ref` and `Deferred` for what is not known yet; shares what has no expression in it. Raises
        SpecError for all expressions in it that cannot be read."""
        if isinstance(raw, str):
            return self._text(raw, At(path)) if isinstance(raw, Template) else raw
        if not isinstance(raw, (dict, list)):
            return raw
        changed: dict[str | int, Value] = {}
        errors: list[SpecError] = []
        for key, item in raw.items() if isinstance(raw, dict) else enumerate(raw):
            if item.__class__ is str or item.__class__ is int:
                continue
            try:
                if (new := self.value(item, (*path, key))) is not item:
                    changed[key] = new
            except SpecError as exc:
                errors.append(exc)
        if errors:
            raise together(errors)
        if not changed:
            return raw
        if isinstance(raw, list):
            return [changed.get(index, item) for index, item in enumerate(raw)]
        return {key: changed.get(key, item) for key, item in raw.items()}

    def _text(self, text: str, at: At) -> Value:
        try:
            parts = parse_template(text)
        except TemplateError as exc:
            fail("expression-syntax", "an expression cannot be read", at, label=str(exc), hint="`$${` is a plain `${`")
        if len(parts) == 1 and isinstance(parts[0], Expression):
            return self._expression(parts[0], at)
        values = [part if isinstance(part, str) else self._expression(part, at) for part in parts]
        if all(is_static(value) for value in values):
            return join(values, at)
        return Deferred(text, _references(values), Joined(tuple(values), at))

    def _expression(self, expression: Expression, at: At) -> Value:
        if expression.path is not None and not (expression.code and self._is_difference(expression.path)):
            return self.value_at(expression.path, at)
        run = self._names.language.compile(expression.code, at)
        inputs = tuple(self._cut(cut, at) for cut in expression.cuts)
        if all(is_static(entry.value) for entry in inputs):
            return compute(run, inputs)
        refs = _references(entry.value for entry in inputs)
        return Deferred(expression.text, refs, Computed(expression.code, inputs, run, at))

    def _cut(self, cut: Cut, at: At) -> Input:
        """What CEL sees of a path: a whole resource is a map."""
        try:
            value = self.value_at(cut.path, at)
        except Missing as exc:
            return Input(cut.name, None, cut.asks, exc)
        if isinstance(value, Ref) and cut.path.root in SECTIONS:
            value = Deferred(cut.path.text, frozenset({value.address}), Lookup(value.address, (), at))
        return Input(cut.name, value, cut.asks)

    def _is_difference(self, path: PathExpression) -> bool:
        """Whether the dash in `vars.n-1` is a minus: there is no such name."""
        declared = {"vars": self._names.variables, "locals": self._names.declared_locals, "env": self._names.environ}
        return str(path.steps[0]) not in declared.get(path.root, ())

    def value_at(self, path: PathExpression, at: At) -> Value:
        """What a path leads to. Raises SpecError."""
        steps = [self._step(step, at) for step in path.steps]
        if path.root in SECTIONS:
            return self._resource(path, steps, at)
        if not steps:
            fail("unknown-reference", f"`{path.root}` stands alone", at, hint=f"write `{path.root}.name`")
        if path.root in ("each", "count"):
            if path.root not in self._bound:
                needs = "for_each" if path.root == "each" else "count"
                fail("unknown-reference", f"there is no `{path.text}` here", at, label=f"needs `{needs}`")
            return walk(self._bound[path.root], steps, path.root, at)
        name, *rest = steps
        value = self._named(path.root, str(name), at)
        if isinstance(value, Deferred) and rest:
            return Deferred(path.text, value.refs, Within(value, tuple(rest), at))
        return walk(value, rest, f"{path.root}.{name}", at)

    def _named(self, root: str, name: str, at: At) -> Value:
        if root == "env":
            return self._names.environment(name, at)
        if root == "locals":
            value, refs = self._names.local(name, at)
            self.refs |= refs
            return value
        self._names.used.add(f"vars.{name}")
        if name in self._names.broken:
            raise Silenced("the variable has no value")
        if name not in self._names.variables:
            hint = did_you_mean(name, self._names.variables) or f"declare it: `variables: {{{name}: {{}}}}`"
            fail("unknown-reference", f"there is no variable `{name}`", at, hint=hint)
        return self._names.variables[name]

    def _resource(self, path: PathExpression, steps: Sequence[Plain], at: At) -> Value:
        directory = self._names.directory
        if directory is None:
            fail("not-known-yet", "no resource can be referred to here", at)
        known = directory.names(path.root)
        if not steps:
            hint = f"write `{path.root}.{next(iter(known))}`" if known else f"`{path.root}` is empty"
            fail("unknown-reference", f"`{path.root}` stands alone", at, hint=hint)
        name = str(steps[0])
        if name not in known:
            meant = nearest(name, known)
            full = f"did you mean `{path.root}.{meant}`?" if meant else None
            fail("unknown-reference", f"there is no `{path.root}.{name}`", at, hint=full)
        target = directory.target(path.root, name)
        address, rest = target.resolve(steps[1:], at)
        self.refs.add(address)
        if not rest:
            return Ref(address)
        literal = target.literal(address, rest)
        if literal is not None:
            return literal[0]
        inner = (*(("nodes", address.node) if address.node is not None else ()), *rest)
        return Deferred(path.text, frozenset({address}), Lookup(address.block, inner, at))

    def _step(self, step: object, at: At) -> Plain:
        if isinstance(step, (str, int)):
            return step
        assert isinstance(step, PathExpression)
        value = self.value_at(step, at)
        if isinstance(value, (str, int)) and not isinstance(value, bool):
            return value
        fail("expression-type", f"`{step.text}` is neither a key nor an index", at)


def fail(id: str, summary: str, at: At, *, label: str = "used here", hint: str | None = None) -> NoReturn:
    """Raise the SpecError of one finding."""
    raise SpecError(diagnostics=(Diagnostic(id, summary, (Label(at, label),), hint=hint),))


def together(errors: Sequence[SpecError]) -> SpecError:
    """One error with the findings of several."""
    found = [finding for error in errors if not isinstance(error, Silenced) for finding in error.diagnostics]
    return SpecError(diagnostics=tuple(found)) if found else Silenced("reported already")


def _references(values: Iterable[Value]) -> frozenset[Address]:
    refs: set[Address] = set()
    for leaf in leaves(list(values)):
        if isinstance(leaf, Ref):
            refs.add(leaf.address)
        elif isinstance(leaf, Deferred):
            refs |= leaf.refs
    return frozenset(refs)
