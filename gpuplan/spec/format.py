"""`gpuplan fmt`: spaces put in order, and nothing else.

Two spaces for every level, none at the ends of lines, one empty line at most, one line end at the end. Comments, order,
quotes and flow style stay as written. The result is parsed again: a text that would not mean the same stays as it was.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode, SequenceNode

from gpuplan.spec.compose import Unreadable, compose

_STEP = 2
_MOST_ROUNDS = 4
"""Spaces that went may show others that can go."""
_STRANGE_BREAKS = re.compile("[\r\x85\u2028\u2029]")
_DASH = re.compile(r"( *)-( +)(?=\S)")

Meaning: TypeAlias = "tuple[str, str] | tuple[str, tuple[Meaning, ...]] | None"


class _Move(NamedTuple):
    """A line whose content begins in column `before` and shall begin in `after`."""

    before: int
    after: int


class _TooOdd(Exception):
    """A layout that is not rearranged."""


def format_source(text: str) -> str:
    """The text in canonical layout; unchanged when it is not YAML. Idempotent."""
    formatted = text.replace("\r\n", "\n")
    meaning = _meaning(formatted)
    if meaning is None or _STRANGE_BREAKS.search(formatted):
        return text
    for _ in range(_MOST_ROUNDS):
        before, formatted = formatted, _once(formatted, meaning)
        if formatted == before:
            return formatted
    return text


def _once(text: str, meaning: Meaning) -> str:
    for arrange in (_indented, str):
        try:
            arranged = _tidied(arrange(text))
        except _TooOdd:
            continue
        if _meaning(arranged) == meaning:
            return arranged
    return text


def _indented(text: str) -> str:
    root = _root(text)
    assert root is not None
    layout = _Layout(text.split("\n"))
    layout.place(root, 0)
    return "\n".join(layout.moved(_protected(root)))


class _Layout:
    """Where every line goes: `moves` for the lines that begin an entry, `contents` for those of block scalars."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        self._moves: dict[int, _Move] = {}
        self._contents: dict[int, _Move] = {}

    def place(self, node: Node, column: int) -> None:
        """Note where the lines of a block collection shall begin, its entries in `column`."""
        if not isinstance(node, CollectionNode) or node.flow_style:
            return
        if isinstance(node, SequenceNode):
            for item in node.value:
                self._place_item(item, node.start_mark.column, column)
            return
        for key, value in node.value:
            mark = key.start_mark
            if not self._lines[mark.line][: mark.column].strip():
                self._moves[mark.line] = _Move(mark.column, column)
            elif mark.line not in self._moves:
                raise _TooOdd
            self._place_content(value, column + _STEP)
            is_flush = isinstance(value, SequenceNode) and value.start_mark.column == node.start_mark.column
            self.place(value, column if is_flush else column + _STEP)

    def moved(self, kept: set[int]) -> Iterator[str]:
        last = _Move(0, 0)
        open_columns: dict[int, _Move] = {}
        for number, line in enumerate(self._lines):
            if number in self._moves:
                move = self._moves[number]
                open_columns = {c: m for c, m in open_columns.items() if c < move.before} | {move.before: move}
                text, last = _entry(line, move)
                yield text
            elif number in self._contents:
                yield _content(line, self._contents[number])
            elif not line.strip():
                yield line
            elif line.lstrip().startswith("#") and number not in kept:
                column = len(line) - len(line.lstrip())
                following = next((self._moves[n] for n in range(number, len(self._lines)) if n in self._moves), last)
                yield _shifted(line, following if following.before == column else open_columns.get(column, last))
            else:
                yield _shifted(line, last)

    def _place_item(self, item: Node, before: int, column: int) -> None:
        line = item.start_mark.line
        dash = _DASH.match(self._lines[line])
        if dash is None or dash.end() != item.start_mark.column or len(dash[1]) != before:
            raise _TooOdd
        self._moves[line] = _Move(before, column)
        self._place_content(item, column + _STEP)
        self.place(item, column + _STEP)

    def _place_content(self, value: Node, column: int) -> None:
        """A block scalar's lines, unless its header says itself how far they are indented."""
        if not isinstance(value, ScalarNode) or value.style not in ("|", ">"):
            return
        start, end = value.start_mark.line, value.end_mark.line + (value.end_mark.column > 0)
        header = self._lines[start][value.start_mark.column :].partition("#")[0]
        first = next((line for line in self._lines[start + 1 : end] if line.strip()), None)
        if first is None or any(character.isdigit() for character in header):
            return
        move = _Move(len(first) - len(first.lstrip(" ")), column)
        self._contents |= {number: move for number in range(start + 1, end)}


def _protected(root: Node) -> set[int]:
    """Lines that are inside of a scalar: their spaces and comment signs are content."""
    inside: set[int] = set()
    for node in _scalars(root):
        inside.update(range(node.start_mark.line + 1, node.end_mark.line + (node.end_mark.column > 0)))
    return inside


def _scalars(node: Node) -> Iterator[ScalarNode]:
    if isinstance(node, ScalarNode):
        yield node
    elif isinstance(node, MappingNode):
        for pair in node.value:
            for part in pair:
                yield from _scalars(part)
    else:
        for item in node.value:
            yield from _scalars(item)


def _entry(line: str, move: _Move) -> tuple[str, _Move]:
    """The line of an entry, and how its content moves, which a dash with many spaces moves further."""
    content = line[move.before :]
    dash = _DASH.match(content)
    if dash is None:
        return " " * move.after + content, move
    text = f"{' ' * move.after}- {content[dash.end() :]}"
    return text, _Move(move.before + dash.end(), move.after + _STEP)


def _content(line: str, move: _Move) -> str:
    return " " * move.after + line[move.before :] if len(line) > move.before else ""


def _shifted(line: str, move: _Move) -> str:
    column = len(line) - len(line.lstrip(" "))
    return " " * max(0, column + move.after - move.before) + line.lstrip(" ")


def _tidied(text: str) -> str:
    root = _root(text)
    if root is None:
        raise _TooOdd
    kept = _protected(root)
    result: list[str] = []
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if number in kept:
            result.append(line)
        elif (stripped := line.rstrip(" \t")) or (result and result[-1]):
            result.append(stripped)
    if len(lines) - 1 not in kept:
        while result and not result[-1]:
            result.pop()
        result.append("")
    return "\n".join(result)


def _root(text: str) -> Node | None:
    try:
        return compose("", text.encode())
    except (Unreadable, UnicodeEncodeError):
        return None


def _meaning(text: str) -> Meaning:
    root = _root(text)
    return None if root is None else _meant(root, frozenset())


def _meant(node: Node, within: frozenset[int]) -> Meaning:
    if isinstance(node, ScalarNode):
        return (node.tag, node.value)
    if id(node) in within:
        return (node.tag, "itself")
    parts = [part for pair in node.value for part in pair] if isinstance(node, MappingNode) else node.value
    return (f"{type(node).__name__} {node.tag}", tuple(_meant(part, within | {id(node)}) for part in parts))
