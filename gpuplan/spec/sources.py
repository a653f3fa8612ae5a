"""Where things are written: the files of a spec, and positions in them by path.

Made by `load`, asked by whoever shows a diagnostic. Files are parsed a second time, with marks, when the first position
is asked for: a spec without mistakes never pays for it.
"""

from collections.abc import Sequence
from dataclasses import replace

from yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode, SequenceNode

from gpuplan.core.diagnostics import At, Diagnostic, Label, Path, Span
from gpuplan.core.secret import Redactor
from gpuplan.spec.compose import Unreadable, compose, split_lines
from gpuplan.spec.source import SourceFile, merged_pairs, span_of


class Sources:
    """A `core.diagnostics.Locator` over merged files; a later file wins over an earlier one."""

    def __init__(self) -> None:
        self._files: dict[str, SourceFile] = {}
        self._trees: dict[str, _Tree | None] = {}
        self._lines: dict[str, list[str]] = {}
        self._redactor = Redactor()

    def add(self, file: SourceFile) -> None:
        self._files[file.name] = file

    @property
    def files(self) -> Sequence[SourceFile]:
        return list(self._files.values())

    def hide(self, secret: str) -> None:
        """Never quote this text; of a text of several lines, none of its lines."""
        for line in split_lines(secret):
            self._redactor.add(line.strip())

    def file_of(self, at: At | None) -> str:
        """The name of the file that has this position."""
        names = list(self._files)
        if len(names) == 1 or at is None:
            return names[-1]
        span = self.locate(at)
        return names[-1] if span is None else span.file

    def locate(self, at: At) -> Span | None:
        best: tuple[int, Span] | None = None
        for name in reversed(self._files):
            tree = self._tree(name)
            if tree is None:
                continue
            depth, span = tree.find(at)
            if span is not None and (best is None or depth > best[0]):
                best = depth, span
        if best is None and not at.path and self._files:
            return Span(next(reversed(self._files)), 1, 1)
        return None if best is None else self._as_shown(best[1])

    def line(self, file: str, line: int) -> str | None:
        lines = self._text(file)
        return self._redactor(lines[line - 1]) if 0 < line <= len(lines) else None

    def order(self, diagnostic: Diagnostic) -> tuple[int, int, int]:
        """Sort key: file by file, from top to bottom; what has no position comes last."""
        for label in diagnostic.labels:
            span = label.where if isinstance(label.where, Span) else self.locate(label.where)
            if span is not None:
                names = list(self._files)
                return (names.index(span.file) if span.file in self._files else -1, span.line, span.column)
        return (len(self._files), 0, 0)

    def shown(self, diagnostic: Diagnostic) -> Diagnostic:
        """The diagnostic with spans that were found while reading moved to where the redacted lines have them."""
        labels = (
            Label(self._as_shown(label.where), label.text) if isinstance(label.where, Span) else label
            for label in diagnostic.labels
        )
        return replace(diagnostic, labels=tuple(labels))

    def _as_shown(self, span: Span) -> Span:
        """The span in the redacted line."""
        lines = self._text(span.file)
        if span.line > len(lines):
            return span
        text, start = lines[span.line - 1], span.column - 1
        before, inside = self._redactor(text[:start]), self._redactor(text[start : start + span.length])
        return Span(span.file, span.line, len(before) + 1, max(1, len(inside)))

    def _text(self, name: str) -> list[str]:
        if name not in self._lines:
            file = self._files.get(name)
            is_text = file is not None and b"\0" not in file.content
            self._lines[name] = split_lines(file.content.decode(errors="replace")) if file and is_text else []
        return self._lines[name]

    def _tree(self, name: str) -> "_Tree | None":
        if name not in self._trees:
            try:
                root = compose(name, self._files[name].content)
            except (Unreadable, UnicodeDecodeError):
                root = None
            self._trees[name] = None if root is None else _Tree(name, root)
        return self._trees[name]


class _Tree:
    """The nodes of one file. Maps are indexed when they are first looked into: thousands of findings may ask."""

    def __init__(self, file: str, root: Node) -> None:
        self._file = file
        self._root = root
        self._entries: dict[int, dict[str, tuple[Node, Node]]] = {}

    def find(self, at: At) -> tuple[int, Span | None]:
        """How much of the path exists, and the span of that part: its key when the rest is missing or asked for."""
        key: Node | None = None
        value = self._root
        for depth, part in enumerate(at.path):
            step = self._step(value, part)
            if step is None:
                return depth, span_of(self._file, key or value) if depth else None
            key, value = step
        if not at.path:
            return 0, None
        is_block = isinstance(value, CollectionNode) and not value.flow_style
        return len(at.path), span_of(self._file, key if key is not None and (at.key or is_block) else value)

    def _step(self, node: Node, part: str | int) -> tuple[Node | None, Node] | None:
        if isinstance(node, SequenceNode) and isinstance(part, int):
            return (None, node.value[part]) if part < len(node.value) else None
        if isinstance(node, MappingNode) and isinstance(part, str):
            entries = self._entries.get(id(node))
            if entries is None:
                # The last one wins, as in the values; what `<<` brings in is weaker than what is written out.
                pairs = (*merged_pairs(node), *node.value)
                entries = self._entries[id(node)] = {pair[0].value: pair for pair in pairs if _is_scalar(pair[0])}
            return entries.get(part)
        return None


def _is_scalar(node: Node) -> bool:
    return isinstance(node, ScalarNode)


def path_text(path: Path) -> str:
    """A path as messages write it: `clusters.train.ports[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else part)
    return text
