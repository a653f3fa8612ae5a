"""YAML text to nodes with marks, by libyaml where it is there.

Called by `source` for the values, and once more by `sources` when a position is asked for.
"""

import re
from typing import NamedTuple

import yaml
from yaml.composer import Composer
from yaml.nodes import Node, ScalarNode
from yaml.parser import Parser
from yaml.reader import Reader, ReaderError
from yaml.scanner import Scanner

from gpuplan.core.diagnostics import Diagnostic, Label, Span

PLAIN = "?"
"""The tag of an unquoted scalar without a tag of its own; of a quoted one: `TEXT`; of a collection: empty."""
TEXT = "!"


class _Untyped:
    """Leaves the meaning of scalars open: PyYAML's own resolver costs more than the parse, and reads `no` as false."""

    def resolve(self, kind: type[Node], value: object, implicit: tuple[bool, bool] | bool) -> str:
        if kind is ScalarNode:
            return PLAIN if isinstance(implicit, tuple) and implicit[0] else TEXT
        return ""

    def descend_resolver(self, parent: Node | None, index: object) -> None: ...

    def ascend_resolver(self) -> None: ...


class PythonParser(_Untyped, Reader, Scanner, Parser, Composer):
    """Where PyYAML was built without libyaml."""

    def __init__(self, text: bytes) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)


if yaml.__with_libyaml__:
    from yaml._yaml import CParser

    class NativeParser(_Untyped, CParser):
        """libyaml."""

    _Parser: type[NativeParser] | type[PythonParser] = NativeParser
else:
    _Parser = PythonParser


class _Wording(NamedTuple):
    id: str
    summary: str
    label: str
    hint: str | None = None


_TAB = _Wording("yaml-tab", "a tab stands where YAML wants spaces", "this is a tab", "indent with spaces")
_QUOTE = "a text that begins like this needs quotes"
_FLOW = 'inside `{ }` and `[ ]` an expression needs quotes: `"${vars.name}"`'
_PROBLEMS: tuple[tuple[str, _Wording], ...] = (
    ("tab character", _TAB),
    ("mapping values are not allowed", _Wording(
        "yaml-colon", "a `:` stands where no key can be", "no key can be here",
        "put a text with `: ` into quotes, or align this line with its neighbours")),
    ("cannot start any token", _Wording("yaml-character", "no value begins with this character", "here", _QUOTE)),
    ("unexpected end of stream", _Wording(
        "yaml-unclosed", "a quote is never closed", "opened here, still open at the end of the file")),
    ("',' or", _Wording("yaml-flow", "a `{` or `[` is not closed where it should be", "no `,` and no end before this")),
    ("expected key", _Wording(
        "yaml-indentation", "a line is indented unlike its neighbours", "does not belong to the lines above",
        "keys of one map begin in the same column")),
    ("expected <block end>", _Wording(
        "yaml-indentation", "a line is indented unlike its neighbours", "does not belong to the lines above",
        "keys of one map begin in the same column")),
    ("could not find expected ':'", _Wording("yaml-key", "a line has no `:` after its key", "before this")),
    ("undefined alias", _Wording(
        "yaml-alias", "an alias has no anchor", "no `&` of this name stands before it",
        "a text that begins with `*` needs quotes")),
    ("second occurrence", _Wording("yaml-anchor", "an anchor is there twice", "the second")),
    ("found another document", _Wording(
        "yaml-documents", "a spec is one document", "another one begins here", "make it a file of its own")),
    ("unknown escape", _Wording(
        "yaml-escape", "no such escape in a quoted text", "here", "double the backslash, or use single quotes")),
    ("undefined tag handle", _Wording("yaml-tag", "a spec has no tags", "a tag", "remove it")),
    ("maximum nesting depth", _Wording("yaml-depth", "the file is nested too deeply", "here")),
    ("alphabetic or numeric", _Wording("yaml-character", "no value begins with this character", "here", _QUOTE)),
    ("node content", _Wording("yaml-character", "no value begins with this character", "here", _QUOTE)),
)  # fmt: skip


class Unreadable(Exception):
    """The text is not YAML; carries the one diagnostic a parser gives."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(diagnostic.summary)
        self.diagnostic = diagnostic


def compose(name: str, content: bytes, parser: type["NativeParser"] | type[PythonParser] = _Parser) -> Node | None:
    """The root node; None for a file without any value. `content` is UTF-8. Raises Unreadable."""
    try:
        return parser(content).get_single_node()
    except yaml.MarkedYAMLError as exc:
        raise Unreadable(_syntax(name, content, exc)) from exc
    except ReaderError as exc:
        raise Unreadable(_character(name, content, exc)) from exc
    except RecursionError as exc:
        deep = _Wording("yaml-depth", "the file is nested too deeply", "in this file")
        raise Unreadable(_diagnostic(deep, Span(name, 1, 1))) from exc


def split_lines(text: str) -> list[str]:
    """The lines as YAML counts them."""
    return re.split("\r\n|[\n\r\x85\u2028\u2029]", text)


def _syntax(name: str, content: bytes, exc: yaml.MarkedYAMLError) -> Diagnostic:
    problem = exc.problem or ""
    mark = exc.problem_mark or exc.context_mark
    lines = split_lines(content.decode())
    line, column = (mark.line, mark.column) if mark else (0, 0)
    text = lines[line] if line < len(lines) else ""
    wording = next((wording for part, wording in _PROBLEMS if part in problem), None)
    if wording is None:
        wording = _Wording("yaml-syntax", "this is not YAML", problem.removeprefix("found "))
    if text[column : column + 1] == "\t" and wording.id == "yaml-character":
        wording = _TAB
    if wording.id == "yaml-flow" and text[max(0, column - 1) : column + 1] == "${":
        wording = wording._replace(hint=_FLOW)
    if wording.id in ("yaml-unclosed", "yaml-flow") and exc.context_mark is not None:
        opened = Span(name, exc.context_mark.line + 1, exc.context_mark.column + 1)
        if wording.id == "yaml-unclosed":
            return _diagnostic(wording, opened)
        return _diagnostic(wording, Span(name, line + 1, column + 1), Label(opened, "opened here"))
    return _diagnostic(wording, Span(name, line + 1, column + 1))


def _character(name: str, content: bytes, exc: ReaderError) -> Diagnostic:
    before = content.decode()[: int(exc.position)]
    lines = split_lines(before)
    wording = _Wording(
        "control-character",
        "a control character is in the file",
        f"character {int(exc.character):#06x}",
        "write it as an escape in double quotes, or remove it",
    )
    return _diagnostic(wording, Span(name, len(lines), len(lines[-1]) + 1))


def _diagnostic(wording: _Wording, span: Span, *more: Label) -> Diagnostic:
    return Diagnostic(wording.id, wording.summary, (Label(span, wording.label), *more), hint=wording.hint)
