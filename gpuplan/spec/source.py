"""One YAML file to plain values, read strictly.

Called by `merge` for every file of a spec. Positions are not kept: `sources` finds them again when one is shown.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from gpuplan.core.diagnostics import Diagnostic, Label, Sink, Span
from gpuplan.core.values import JsonValue
from gpuplan.spec.compose import PLAIN, TEXT, Unreadable, compose, split_lines
from gpuplan.spec.scalars import MAYBE_TYPED, Template, typed

LARGEST_FILE = 10_000_000
"""Bytes."""
DEEPEST = 64
MOST_ALIASED = 100_000
"""Values a file may grow to once its aliases are written out, if that is more than ten times what it has."""

_MERGE = "<<"
_BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of the spec; `name` as messages show it."""

    name: str
    content: bytes = field(repr=False)


def read_values(file: SourceFile, sink: Sink) -> dict[str, JsonValue] | None:
    """The document as plain values, `Template` where a text has to be evaluated. None when it cannot be read at all;
    what is wrong goes to `sink`."""
    if (root := _root(file, sink)) is None:
        return None
    if not isinstance(root, MappingNode):
        here = Label(span_of(file.name, root), "this is a list" if isinstance(root, SequenceNode) else "this is text")
        sink.add(Diagnostic("not-a-map", "a spec file is a map of sections", (here,), hint="begin with `version: 1`"))
        return None
    value = _Builder(file.name, sink).build(root, 0)
    return value if isinstance(value, dict) else None


def read_any(file: SourceFile, sink: Sink) -> JsonValue:
    """Any YAML value, read as strictly as a spec: values of variables, and texts given to `yaml()`."""
    root = _root(file, sink)
    return None if root is None else _Builder(file.name, sink).build(root, 0)


def _root(file: SourceFile, sink: Sink) -> Node | None:
    if (wrong := _wrong_bytes(file)) is not None:
        sink.add(wrong)
        return None
    try:
        root = compose(file.name, file.content)
    except Unreadable as exc:
        sink.add(exc.diagnostic)
        return None
    if root is None or (isinstance(root, ScalarNode) and root.tag == PLAIN and root.value == ""):
        whole = Label(Span(file.name, 1, 1), "nothing but comments" if file.content.strip() else "no bytes at all")
        sink.add(Diagnostic("empty-file", "a spec file is empty", (whole,), hint="begin with `version: 1`"))
        return None
    if b"&" in file.content and not _aliases_bounded(file.name, root, sink):
        return None
    return root


def span_of(file: str, node: Node) -> Span:
    """The first line of a node."""
    start, end = node.start_mark, node.end_mark
    length = end.column - start.column if start.line == end.line else 1
    return Span(file, start.line + 1, start.column + 1, max(1, length))


def merged_pairs(node: MappingNode) -> Iterator[tuple[Node, Node]]:
    """What `<<` brings into a map, the weakest first."""
    for key, value in node.value:
        if _is_merge(key):
            sources = value.value if isinstance(value, SequenceNode) else [value]
            for source in reversed(sources):
                if isinstance(source, MappingNode):
                    yield from merged_pairs(source)
                    yield from (pair for pair in source.value if not _is_merge(pair[0]))


def _is_merge(key: Node) -> bool:
    return key.value == _MERGE and key.tag == PLAIN


class _Builder:
    """Turns nodes into values. Its `build` is the hot path of reading."""

    def __init__(self, file: str, sink: Sink) -> None:
        self._file = file
        self._sink = sink

    def build(self, node: Node, depth: int) -> JsonValue:
        if node.__class__ is ScalarNode:
            text: str = node.value
            tag = node.tag
            if tag == PLAIN:
                if text[:1] in MAYBE_TYPED:
                    return typed(text)
            elif tag != TEXT:
                self._tagged(node)
                return text if tag.endswith(":str") else typed(text)
            return Template(text) if "${" in text else text
        if node.tag:
            self._tagged(node)
        if depth == DEEPEST:
            self._complain("yaml-depth", "the file is nested too deeply", node, f"more than {DEEPEST} levels")
            return None
        depth += 1
        if node.__class__ is SequenceNode:
            return [self.build(item, depth) for item in node.value]
        assert isinstance(node, MappingNode)
        built = {}
        for key, value in node.value:
            if key.__class__ is ScalarNode and (key.tag == TEXT or key.value[:1] not in MAYBE_TYPED):
                built[key.value] = self.build(value, depth)
            else:
                built[self._key(key)] = self.build(value, depth)
        if len(built) != len(node.value):
            self._duplicates(node)
        return self._with_merged(node, built, depth) if _MERGE in built else built

    def _key(self, key: Node) -> str:
        """The text of a key that may not be one."""
        if isinstance(key, ScalarNode):
            if key.tag not in (PLAIN, TEXT):
                self._tagged(key)
            if key.tag != PLAIN or isinstance(typed(key.value), str):
                return str(key.value)
            shown = key.value or "(empty)"
            self._complain("key-not-text", "a key must be text", key, "this is not", hint=f'write `"{shown}":`')
            return shown
        self._complain("key-not-text", "a key must be text", key, "this is not")
        return str(key.start_mark.index)

    def _with_merged(self, node: MappingNode, built: dict[str, JsonValue], depth: int) -> dict[str, JsonValue]:
        merged: dict[str, JsonValue] = {}
        for key, value in node.value:
            if not _is_merge(key):
                continue
            sources = value.value if isinstance(value, SequenceNode) else [value]
            if not all(isinstance(source, MappingNode) for source in sources):
                self._complain("merge-key", "`<<` takes a map or a list of maps", value, "this is neither")
            for inner, source in merged_pairs(node):
                merged[self._key(inner)] = self.build(source, depth)
            del built[_MERGE]
        return {**merged, **built}

    def _duplicates(self, node: MappingNode) -> None:
        first: dict[str, Node] = {}
        for key, _ in node.value:
            if not isinstance(key, ScalarNode):
                continue
            earlier = first.setdefault(key.value, key)
            if earlier is not key:
                labels = (
                    Label(span_of(self._file, key), "the second"),
                    Label(span_of(self._file, earlier), "the first"),
                )
                self._sink.add(Diagnostic("duplicate-key", f"`{key.value}` is there twice", labels))

    def _tagged(self, node: Node) -> None:
        self._complain("yaml-tag", "a spec has no tags", node, "has a tag", hint="remove what begins with `!`")

    def _complain(self, id: str, summary: str, node: Node, label: str, *, hint: str | None = None) -> None:
        self._sink.add(Diagnostic(id, summary, (Label(span_of(self._file, node), label),), hint=hint))


def _wrong_bytes(file: SourceFile) -> Diagnostic | None:
    content = file.content
    start = Span(file.name, 1, 1)
    if len(content) > LARGEST_FILE:
        label = Label(start, f"{len(content) / 1e6:.1f} MB")
        return Diagnostic("file-too-large", f"a spec file is larger than {LARGEST_FILE // 1_000_000} MB", (label,))
    if content.startswith(_BYTE_ORDER_MARKS):
        label = Label(start, "a byte order mark")
        return Diagnostic(
            "byte-order-mark",
            "a spec is UTF-8 without a byte order mark",
            (label,),
            hint="save it as UTF-8 without one",
        )
    if b"\0" in content:
        return Diagnostic("binary-file", "this is not a text file", (Label(start, "it has zero bytes"),))
    try:
        content.decode()
    except UnicodeDecodeError as exc:
        before = split_lines(content[: exc.start].decode())
        label = Label(
            Span(file.name, len(before), len(before[-1]) + 1), f"byte {content[exc.start]:#04x} cannot be here"
        )
        return Diagnostic("not-utf-8", "a spec is UTF-8", (label,), hint="save the file as UTF-8")
    return None


def _aliases_bounded(file: str, root: Node, sink: Sink) -> bool:
    """Whether aliases neither lead back into themselves nor explode."""
    sizes: dict[int, int | None] = {}
    """Of a collection that is still open: None."""
    written_once = 0
    cyclic: list[Node] = []

    def size(node: Node, depth: int) -> int:
        nonlocal written_once
        if isinstance(node, ScalarNode) or depth > DEEPEST:
            written_once += 1
            return 1
        if id(node) in sizes:
            known = sizes[id(node)]
            if known is None:
                cyclic.append(node)
            return known or 1
        sizes[id(node)] = None
        children = [part for pair in node.value for part in pair] if isinstance(node, MappingNode) else node.value
        sizes[id(node)] = total = 1 + sum(size(child, depth + 1) for child in children)
        return total

    written_out = size(root, 0)
    if cyclic:
        sink.add(_alias_trouble(span_of(file, cyclic[0]), "this contains itself"))
        return False
    if written_out > max(MOST_ALIASED, 10 * written_once):
        sink.add(_alias_trouble(Span(file, 1, 1), f"written out, the file has {written_out:,} values"))
        return False
    return True


def _alias_trouble(where: Span, what: str) -> Diagnostic:
    return Diagnostic(
        "alias-explosion",
        "the aliases of a file cannot be written out",
        (Label(where, what),),
        hint="use `locals` and expressions instead of anchors",
    )
