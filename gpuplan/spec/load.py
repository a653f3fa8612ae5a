"""From files to a `Configuration`: the door of this room, called by `workflow`.

Reads, merges, checks the shape, evaluates, expands. Every mistake of a run is reported together, in the order of the
files; only what cannot be told while something else is wrong waits for the next run.
"""

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from gpuplan.core.desired import Configuration
from gpuplan.core.diagnostics import At, Path, Sink
from gpuplan.core.encoding import encode_value
from gpuplan.core.errors import SpecError
from gpuplan.core.ports import ProviderType
from gpuplan.core.secret import Redactor, Secret
from gpuplan.core.values import JsonValue, leaves
from gpuplan.spec import lint
from gpuplan.spec.cel_language import Language
from gpuplan.spec.cycles import find_cycle, tell_cycle
from gpuplan.spec.digest import spec_digest
from gpuplan.spec.expressions import Evaluation, Names, Silenced
from gpuplan.spec.functions import functions
from gpuplan.spec.merge import read_document
from gpuplan.spec.model import Document
from gpuplan.spec.provider_blocks import read_providers
from gpuplan.spec.resources import Expansion
from gpuplan.spec.scalars import as_text
from gpuplan.spec.schema import check
from gpuplan.spec.shapes import Shapes
from gpuplan.spec.source import SourceFile
from gpuplan.spec.sources import Sources
from gpuplan.spec.statements import StatementReader
from gpuplan.spec.variables import Given, read_variables

_LISTS = frozenset({"policies", "moved", "imports", "removed"})

__all__ = ["Given", "Inputs", "SourceFile", "load"]


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything a spec may look at besides its files."""

    workspace: str
    environ: Mapping[str, str] = field(repr=False)
    given: Mapping[str, Given] = field(repr=False)
    """Variables by name; who wins among flags, environment and files has been decided."""
    read_file: Callable[[str, str], bytes]
    """(path as written, name of the file that asks) to content. Raises OSError."""
    provider_types: Mapping[str, ProviderType]


def load(files: Sequence[SourceFile], inputs: Inputs) -> Configuration:
    """The configuration the files describe, warnings inside. Raises SpecError with all findings; its `locator` finds
    their positions."""
    sources = Sources()
    sink = Sink()
    try:
        with _collector_paused():
            configuration = _load(files, inputs, sources, sink)
    except Silenced:
        configuration = None
    if configuration is None or sink.errors:
        found = dict.fromkeys(map(sources.shown, sorted(sink, key=sources.order)))
        error = SpecError(diagnostics=tuple(found))
        error.locator = sources
        raise error
    return configuration


def _load(files: Sequence[SourceFile], inputs: Inputs, sources: Sources, sink: Sink) -> Configuration | None:
    raw = read_document(files, inputs.read_file, sources, sink)
    tokens = [token for file in sources.files for token in lint.tokens_in(file.content.decode(errors="replace"))]
    for token in tokens:
        sources.hide(token)
    if raw is None:
        return None
    for secret, diagnostic in lint.literal_secrets(raw) if tokens else ():
        sources.hide(secret)
        sink.add(diagnostic)
    document, broken = _checked(raw, sink)
    names = _names(document, raw, inputs, sources, sink)
    providers = read_providers(document.providers, _section(raw, "providers"), inputs.provider_types, names, sink)
    shapes = Shapes(raw, names, providers, sink, broken)
    names.directory = shapes
    expansion = Expansion(document, shapes, providers, names, sink)
    expansion.run(broken)
    statements = StatementReader(document, raw, names, shapes, expansion.instances, sink).read()
    _check_locals(names, raw, sink)
    if sink.errors:
        return None
    if (cycle := find_cycle(expansion.instances)) is not None:
        sink.add(tell_cycle(cycle, shapes, names))
        return None
    parts = {
        "providers": {name: [block.type, providers.options.get(name)] for name, block in providers.blocks.items()},
        "outputs": {name: output.value for name, output in statements.outputs.items()},
        "policies": raw.get("policies"),
        "rest": repr((statements.max_hourly, statements.moved, statements.imports, statements.removed)),
    }
    return Configuration(
        project=document.project,
        instances=expansion.instances,
        providers=providers.blocks,
        digest=spec_digest(document.project, expansion.instances, parts),
        locator=sources,
        outputs=statements.outputs,
        moved=statements.moved,
        imports=statements.imports,
        removed=statements.removed,
        policies=statements.policies,
        max_hourly=statements.max_hourly,
        warnings=(*sink.warnings, *lint.unused(raw, expansion.instances, names)),
        variables={
            name: encode_value(names.variables[name])
            for name in inputs.given
            if name in document.variables and not document.variables[name].sensitive
        },
        redactor=Redactor(leaf.reveal() for leaf in leaves(names.variables) if isinstance(leaf, Secret)),
    )


Broken = dict[tuple[str, str], set[str]]
"""Blocks that cannot be read, by section and name, with the fields that were found wrong."""


def _checked(raw: dict[str, JsonValue], sink: Sink) -> tuple[Document, Broken]:
    """The document as models, without the blocks that are wrong, so that the rest can be read."""
    for section, value in raw.items():
        # `clusters:` with nothing under it is an empty section, and `runpod:` a provider without options.
        if value is None and section in Document.model_fields:
            raw[section] = [] if section in _LISTS else {}
    for name, block in _section(raw, "providers").items():
        if block is None:
            raw["providers"] = {**_section(raw, "providers"), name: {}}
    document = check(Document, raw, ())
    if not isinstance(document, tuple):
        return document, {}
    sink.extend(document)
    broken: Broken = {}
    usable: dict[str, JsonValue] = {**raw}
    for diagnostic in document:
        where = diagnostic.labels[0].where
        _leave_out(usable, where.path if isinstance(where, At) else (), broken)
    rest = check(Document, {"version": 1, "project": "unknown", **usable}, ())
    if isinstance(rest, tuple):
        raise Silenced("nothing of it can be read")
    return rest, broken


def _leave_out(document: dict[str, JsonValue], path: Path, broken: Broken) -> None:
    if not path:
        return
    section, *rest = map(str, path)
    block = document.get(section)
    if not rest or not isinstance(block, dict):
        document.pop(section, None)
        return
    name, *fields = rest
    document[section] = {key: value for key, value in block.items() if key != name}
    broken.setdefault((section, name), set()).update(fields[:1])


def _names(document: Document, raw: Mapping[str, JsonValue], inputs: Inputs, sources: Sources, sink: Sink) -> Names:
    declared = _section(raw, "variables")
    given = {n: value for n, value in inputs.given.items() if n in document.variables or n not in declared}
    variables = read_variables(document.variables, given, sink)
    for leaf in leaves(variables):
        if isinstance(leaf, Secret):
            sources.hide(leaf.reveal())
    for variable in document.variables.values():
        if variable.sensitive and isinstance(variable.default, (str, int, float)):
            sources.hide(as_text(variable.default))
    names = Names(variables, _section(raw, "locals"), inputs.environ)
    names.broken = frozenset(declared.keys() - variables.keys())
    names.language = Language(functions(lambda path: inputs.read_file(path, sources.file_of(names.language.at))))
    return names


def _check_locals(names: Names, raw: Mapping[str, JsonValue], sink: Sink) -> None:
    """Report what is wrong with locals that nobody has asked for yet."""
    for name, value in _section(raw, "locals").items():
        if f"locals.{name}" not in names.used:
            try:
                Evaluation(names, {}).value(value, ("locals", name))
            except Silenced:
                continue
            except SpecError as exc:
                sink.extend(exc.diagnostics)


def _section(raw: Mapping[str, JsonValue], name: str) -> dict[str, JsonValue]:
    found = raw.get(name)
    return found if isinstance(found, dict) else {}


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Without Python's cycle collector, which would walk hundreds of thousands of new objects again and again: it
    takes four fifths of the time to read a large spec, and there are no cycles to find."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
