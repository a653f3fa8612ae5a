"""The `state:` block of a spec, read by itself: where the state is has to be known before anything else is looked at.

Called by `workflow` when it opens a state. Of a large spec only the block is parsed, and where there is none not even
the parser is imported: `load` checks the rest.
"""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gpuplan.core.diagnostics import At, Diagnostic, Label, Path, Sink
from gpuplan.core.errors import GpuplanError, SpecError
from gpuplan.core.values import JsonValue

if TYPE_CHECKING:
    from pydantic import BaseModel

    from gpuplan.spec.merge import ReadFile
    from gpuplan.spec.sources import Sources

SECTION = "state"
ENCRYPTION = "encryption"
DEFAULT_TYPE = "file"
_BLOCK = re.compile(rb"""^(?:state|"state"|'state')[ \t]*:""", re.M)
_ELSEWHERE = re.compile(rb"""^(?:["']?include["']?[ \t]*:|<<)|\A(?:\s|\#[^\n]*\n|---)*\{""", re.M)
"""What can bring a block that no line begins with: another file, an alias, a document on one line."""
_SECRET = re.compile("key|secret|password|token", re.I)
_NEXT_SECTION = re.compile(rb"^[^\s#\]}]", re.M)


class StateBlock:
    """What a spec says of its state. `locator` finds the positions of what is wrong with it."""

    def __init__(self, block: Mapping[str, JsonValue], sources: "Sources") -> None:
        self._block = block
        self._sources = sources

    @property
    def kind(self) -> str:
        """The type of backend. Raises SpecError."""
        written = self._block.get("type", DEFAULT_TYPE)
        if isinstance(written, str):
            return written
        raise _error(
            self._sources, Diagnostic("wrong-type", "`type` must be text", (Label(At((SECTION, "type")), "is not"),))
        )

    def options(self, model: "type[BaseModel]", below: Mapping[str, str]) -> "BaseModel":
        """What the backend's own model makes of the rest, laid over `below`. Raises SpecError with every mistake."""
        written = {name: value for name, value in self._block.items() if name not in ("type", ENCRYPTION)}
        return self._checked(model, {**below, **written}, (SECTION,))

    @property
    def is_encrypted(self) -> bool:
        """Whether the spec asks for encryption."""
        return ENCRYPTION in self._block

    def encryption(self, model: "type[BaseModel]") -> "BaseModel":
        """What `model` makes of `encryption:`. Raises SpecError with every mistake."""
        written = self._block[ENCRYPTION]
        path = (SECTION, ENCRYPTION)
        if written is not None and not isinstance(written, Mapping):
            label = Label(At(path), "is none")
            hint = "write `encryption: {}` where the key comes from the environment"
            raise _error(self._sources, Diagnostic("wrong-type", "`encryption` must be a map", (label,), hint=hint))
        return self._checked(model, written or {}, path)

    def _checked(self, model: "type[BaseModel]", written: Mapping[str, JsonValue], path: Path) -> "BaseModel":
        from gpuplan.spec.schema import check

        checked = check(model, written, path)
        if isinstance(checked, tuple):
            raise _error(self._sources, *checked)
        return checked

    def placed(self, error: GpuplanError) -> SpecError:
        """The same error with the position of `type`."""
        here = Label(At((SECTION, "type") if "type" in self._block else (SECTION,)), "asked for here")
        return _error(
            self._sources,
            *(Diagnostic(d.id, d.summary, d.labels or (here,), d.facts, d.hint, d.commands) for d in error.diagnostics),
        )


def read_state_block(files: Mapping[str, bytes], read_file: "ReadFile") -> StateBlock | None:
    """None where the spec says nothing of its state; `files` in the order in which they merge.

    Raises SpecError where it cannot be read.
    """
    blocks = [name for name, content in files.items() if _BLOCK.search(content)]
    elsewhere = any(_ELSEWHERE.search(content) for content in files.values())
    if not blocks and not elsewhere:
        return None
    from gpuplan.spec.sources import Sources

    sources = Sources()
    found = None if elsewhere or len(blocks) > 1 else _read_alone(blocks[0], files[blocks[0]], sources)
    if found is None:
        found = _read_whole(files, read_file, sources)
    if SECTION not in found or found[SECTION] is None:
        return None
    raw = found[SECTION]
    if not isinstance(raw, Mapping):
        label = Label(At((SECTION,)), "is none")
        raise _error(
            sources, Diagnostic("wrong-type", "`state` must be a map", (label,), hint="write `state: {type: s3, ...}`")
        )
    for name, value in raw.items():
        # It does not belong here, and the message that says so must not show it.
        if _SECRET.search(name) and isinstance(value, str):
            sources.hide(value)
    if (expression := _expression(raw, (SECTION,))) is not None:
        raise _error(sources, _not_literal(expression))
    return StateBlock(raw, sources)


def _read_alone(name: str, content: bytes, sources: "Sources") -> Mapping[str, JsonValue] | None:
    """The block without the rest of the file; None where it cannot be understood alone."""
    from gpuplan.spec.source import SourceFile, read_values

    match = _BLOCK.search(content)
    assert match is not None
    rest = _NEXT_SECTION.search(content, match.end())
    before = content.count(b"\n", 0, match.start())
    file = SourceFile(name, b"\n" * before + content[match.start() : rest.start() if rest else None])
    sink = Sink()
    document = read_values(file, sink)
    if document is None or sink.errors:
        return None
    sources.add(SourceFile(name, content))
    return document


def _read_whole(files: Mapping[str, bytes], read_file: "ReadFile", sources: "Sources") -> Mapping[str, JsonValue]:
    from gpuplan.spec.merge import read_document
    from gpuplan.spec.source import SourceFile

    sink = Sink()
    document = read_document([SourceFile(*file) for file in files.items()], read_file, sources, sink)
    if document is None or sink.errors:
        raise _error(sources, *sink.errors)
    return document


def _expression(value: JsonValue, path: Path) -> Path | None:
    """Where the first text is that would have to be evaluated."""
    from gpuplan.spec.scalars import Template

    if isinstance(value, Template):
        return path
    parts: Sequence[tuple[str | int, JsonValue]] = ()
    if isinstance(value, Mapping):
        parts = list(value.items())
    elif isinstance(value, Sequence) and not isinstance(value, str):
        parts = list(enumerate(value))
    return next((found for key, item in parts if (found := _expression(item, (*path, key))) is not None), None)


def _not_literal(path: Path) -> Diagnostic:
    return Diagnostic(
        "state-not-literal",
        "where the state is must be written out",
        (Label(At(path), "is an expression"),),
        ("it is looked at before anything is evaluated",),
        "use `--state` or GPUPLAN_STATE where it differs from place to place",
    )


def _error(sources: "Sources", *diagnostics: Diagnostic) -> SpecError:
    error = SpecError(diagnostics=tuple(map(sources.shown, diagnostics)))
    error.locator = sources
    return error
