"""The sections that are no resources: outputs, budget, policies, moved, imports, removed.

Called by `load` after the resources.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import TypeVar

from gpuplan.core.address import Address
from gpuplan.core.desired import SECTIONS, Desired, Import, Moved, Output, Policy, Removed
from gpuplan.core.diagnostics import At, Path, Sink
from gpuplan.core.errors import SpecError
from gpuplan.core.nearest import did_you_mean
from gpuplan.core.units import parse_money
from gpuplan.core.values import JsonValue, is_static
from gpuplan.spec.expressions import Evaluation, Names, Silenced, fail
from gpuplan.spec.model import Document, ImportBlock, MovedBlock, PolicyBlock, RemovedBlock
from gpuplan.spec.pending import Input, compute, is_sensitive
from gpuplan.spec.schema import kind_of
from gpuplan.spec.shapes import Shapes
from gpuplan.spec.templates import TemplateError, parse_expression

T = TypeVar("T")
B = TypeVar("B")

_OUTPUT_FIELDS = frozenset({"value", "sensitive", "description"})


@dataclass(frozen=True, slots=True)
class Statements:
    outputs: Mapping[str, Output]
    max_hourly: Decimal | None
    policies: tuple[Policy, ...]
    moved: tuple[Moved, ...]
    imports: tuple[Import, ...]
    removed: tuple[Removed, ...]


class StatementReader:
    """Reads them one by one; what is wrong goes to the sink."""

    def __init__(
        self,
        document: Document,
        raw: Mapping[str, JsonValue],
        names: Names,
        shapes: Shapes,
        instances: Mapping[Address, Desired],
        sink: Sink,
    ) -> None:
        self._document = document
        self._raw = raw
        self._names = names
        self._shapes = shapes
        self._instances = instances
        self._sink = sink

    def read(self) -> Statements:
        document = self._document
        outputs = {name: self._collected(partial(self._output, name)) for name in document.outputs}
        return Statements(
            outputs={name: output for name, output in outputs.items() if output is not None},
            max_hourly=self._collected(self._max_hourly),
            policies=self._each("policies", document.policies, self._policy),
            moved=self._each("moved", document.moved, self._moved),
            imports=self._each("imports", document.imports, self._import),
            removed=self._each("removed", document.removed, self._removed),
        )

    def _each(self, section: str, blocks: Iterable[B], read: Callable[[B, Path], T]) -> tuple[T, ...]:
        found: list[T] = []
        for index, block in enumerate(blocks):
            if (one := self._collected(partial(read, block, (section, index)))) is not None:
                found.append(one)
        return tuple(found)

    def _collected(self, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except Silenced:
            return None
        except SpecError as exc:
            self._sink.extend(exc.diagnostics)
            return None

    def _output(self, name: str) -> Output:
        path: Path = ("outputs", name)
        raw = self._written(path)
        declared = False
        if isinstance(raw, dict) and "value" in raw and raw.keys() <= _OUTPUT_FIELDS:
            sensitive = raw.get("sensitive", False)
            if not isinstance(sensitive, bool):
                at = At((*path, "sensitive"))
                fail("wrong-type", "`sensitive` must be true or false", at, label=f"this is {kind_of(sensitive)}")
            declared = sensitive
            raw, path = raw["value"], (*path, "value")
        value = Evaluation(self._names, {}).value(raw, path)
        return Output(value, declared or is_sensitive(value), path)

    def _max_hourly(self) -> Decimal | None:
        budget = self._document.budget
        if budget is None or budget.max_hourly is None:
            return None
        at = At(("budget", "max_hourly"))
        value = Evaluation(self._names, {}).value(self._written(at.path), at.path)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or value < 0:
            fail("wrong-type", "`max_hourly` must be an amount of money", at, label=f"this gives {kind_of(value)}")
        return parse_money(value)

    def _policy(self, block: PolicyBlock, path: Path) -> Policy:
        at = At((*path, "deny"))
        try:
            expression = parse_expression(block.deny)
        except TemplateError as exc:
            fail("expression-syntax", "an expression cannot be read", at, label=str(exc))
        cuts = expression.cuts
        evaluation = Evaluation(self._names, {})
        inputs = [Input(cut.name, evaluation.value_at(cut.path, at), cut.asks) for cut in cuts]
        if not all(is_static(entry.value) for entry in inputs):
            fail("not-known-yet", "a policy must be known when planning", at, label="uses a fact of a resource")
        run = self._names.language.compile(expression.code or expression.text, at)

        def denies(view: Mapping[str, JsonValue]) -> bool:
            answer = compute(run, [*inputs, Input("resource", view, "value")])
            if not isinstance(answer, bool):
                fail("expression-type", "a policy says true or false", at, label=f"this gives {kind_of(answer)}")
            return answer

        return Policy(denies, block.message, path)

    def _moved(self, block: MovedBlock, path: Path) -> Moved:
        source, target = Address.parse(block.source), Address.parse(block.to)
        self._check_section(source, At((*path, "from")))
        if source.kind != target.kind:
            fail("wrong-form", f"`{source}` cannot become `{target}`", At((*path, "to")), label="another kind of thing")
        if self._is_declared(source):
            fail(
                "conflicting-fields",
                f"`{source}` has moved, and is still in the spec",
                At((*path, "from")),
                label="moved from here",
                hint="rename it in its section as well",
            )
        return Moved(source, self._shapes.check(target, At((*path, "to"))), path)

    def _import(self, block: ImportBlock, path: Path) -> Import:
        at = At((*path, "to"))
        target = self._shapes.check(Address.parse(block.to), at)
        if target not in self._instances:
            example = next((str(address) for address in self._instances if target.covers(address)), "")
            hint = f"say which one: `{example}`" if example else None
            fail("wrong-form", f"`{target}` is not one instance", at, label="an import names one", hint=hint)
        remote_id = Evaluation(self._names, {}).value(self._written((*path, "id")), (*path, "id"))
        if not isinstance(remote_id, (str, int)):
            fail("wrong-type", "`id` must be text", At((*path, "id")), label=f"this gives {kind_of(remote_id)}")
        return Import(target, str(remote_id), path)

    def _removed(self, block: RemovedBlock, path: Path) -> Removed:
        source = Address.parse(block.source)
        at = At((*path, "from"))
        self._check_section(source, at)
        if self._is_declared(source):
            fail(
                "conflicting-fields",
                f"`{source}` is removed, and is still in the spec",
                at,
                label="removed here",
                hint="delete it from its section as well",
            )
        return Removed(source, block.destroy, path)

    def _written(self, path: Path) -> JsonValue:
        """The raw value: a checked model no longer tells an expression from a text."""
        value: JsonValue = self._raw
        for part in path:
            assert isinstance(value, (dict, list))
            value = value[part]  # type: ignore[index]  # a path that was checked fits
        return value

    def _check_section(self, address: Address, at: At) -> None:
        if address.kind not in SECTIONS:
            fail("unknown-reference", f"there is no `{address.kind}`", at, hint=did_you_mean(address.kind, SECTIONS))

    def _is_declared(self, address: Address) -> bool:
        """Whether some instance of the spec lies at that address or within it."""
        if address.name not in self._shapes.names(address.kind):
            return False
        if address.key is None and address.node is None:
            return True
        return any(address.covers(instance) for instance in self._instances)
