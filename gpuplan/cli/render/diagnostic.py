"""Diagnostics as people read them, and as JSON.

Called by the command line for every error and warning; positions become lines here and nowhere earlier.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from gpuplan.cli.render.text import BLUE, BOLD, RED, YELLOW, clean, clean_lines, paint, width
from gpuplan.core.diagnostics import At, Diagnostic, Label, Locator, Severity, Span
from gpuplan.core.values import JsonValue

_BEFORE, _SHOWN = 60, 90
"""Characters of a long source line that are kept before the caret, and in all."""


def render_diagnostics(diagnostics: Iterable[Diagnostic], locator: Locator | None, *, color: bool = False) -> str:
    """Every diagnostic with the lines it points at, separated by empty lines; ends with a line end."""
    return "\n".join(_Block(diagnostic, locator, color).render() for diagnostic in diagnostics)


def diagnostics_json(diagnostics: Iterable[Diagnostic], locator: Locator | None) -> list[JsonValue]:
    """The same fields for programs; a label without a known position has nulls for it."""
    return [
        {
            "id": diagnostic.id,
            "severity": diagnostic.severity.value,
            "summary": diagnostic.summary,
            "labels": [_label_json(label, locator) for label in diagnostic.labels],
            "facts": list(diagnostic.facts),
            "hint": diagnostic.hint,
            "commands": list(diagnostic.commands),
        }
        for diagnostic in diagnostics
    ]


def position(where: At | Span, locator: Locator | None) -> Span | None:
    """The span of a label, where some source has it."""
    if isinstance(where, Span):
        return where
    return locator.locate(where) if locator is not None else None


def _label_json(label: Label, locator: Locator | None) -> JsonValue:
    span = position(label.where, locator)
    return {
        "file": span.file if span else None,
        "line": span.line if span else None,
        "column": span.column if span else None,
        "length": span.length if span else None,
        "text": label.text,
    }


class _Quote(NamedTuple):
    """A label with its position and the source line there; `source` None: the line cannot be shown."""

    span: Span
    text: str
    source: str | None


class _Block:
    """One diagnostic on its way to text. The gutter is as wide as the longest line number, at least two digits."""

    def __init__(self, diagnostic: Diagnostic, locator: Locator | None, color: bool) -> None:
        self._diagnostic = diagnostic
        self._color = color
        self._quotes: list[_Quote] = []
        self._facts: list[str] = []
        for label in diagnostic.labels:
            self._place(label, locator)
        self._facts.extend(diagnostic.facts)
        self._digits = max([2, *(len(str(quote.span.line)) for quote in self._quotes)])
        self._style = RED if diagnostic.severity is Severity.ERROR else YELLOW

    def _place(self, label: Label, locator: Locator | None) -> None:
        span = position(label.where, locator)
        source = locator.line(span.file, span.line) if span is not None and locator is not None else None
        if span is not None:
            self._quotes.append(_Quote(span, label.text, source))
        if source is None and label.text:
            self._facts.append(label.text)

    def render(self) -> str:
        found = self._diagnostic
        head = paint(f"{found.severity.value}[{clean(found.id)}]", self._style, color=self._color)
        lines = [f"{head}{paint(': ' + clean(found.summary), BOLD, color=self._color)}"]
        lines += self._source_lines()
        lines += self._notes(" " * (self._digits + 2 if self._quotes else 2))
        return "\n".join(lines) + "\n"

    def _source_lines(self) -> list[str]:
        lines: list[str] = []
        bar = self._dim(" " * (self._digits + 2) + "|")
        previous: Span | None = None
        for number, quote in enumerate(self._quotes):
            span = quote.span
            if previous is None or previous.file != span.file:
                arrow = "-->" if previous is None else ":::"
                lines += [bar] if previous is not None else []
                place = f"{clean(span.file)}:{span.line}:{span.column}"
                lines.append(f"{self._dim(' ' * (self._digits + 1) + arrow)} {place}")
                lines += [bar] if quote.source is not None else []
            if quote.source is not None:
                again = previous is not None and (previous.file, previous.line) == (span.file, span.line)
                lines += self._quoted(quote, bar, again=again, style=self._style if number == 0 else BLUE)
            previous = span
        if lines and self._quotes[-1].source is not None and self._has_notes():
            lines.append(bar)
        return lines

    def _quoted(self, quote: _Quote, bar: str, *, again: bool, style: str) -> list[str]:
        source, start, end = _window(quote.source or "", quote.span)
        before, inside = _tabless(source[:start]), _tabless(source[start:end])
        marks = " " * width(before) + paint("^" * max(1, width(inside)), style, color=self._color)
        text = paint(" " + clean(quote.text), style, color=self._color) if quote.text else ""
        marked = f"{bar} {marks}{text}"
        if again:
            return [marked]
        number = self._dim(f"{quote.span.line:>{self._digits}}  |")
        return [f"{number} {before}{inside}{_tabless(source[end:])}".rstrip(), marked]

    def _has_notes(self) -> bool:
        return bool(self._facts or self._diagnostic.hint or self._diagnostic.commands)

    def _notes(self, indent: str) -> list[str]:
        lines: list[str] = []
        for fact in self._facts:
            lines += _hanging(f"{indent}{self._dim('=')} ", indent + "  ", clean_lines(fact))
        if self._diagnostic.hint:
            head = paint("hint", BOLD, color=self._color)
            lines += _hanging(f"{indent}{head}: ", indent + "      ", clean_lines(self._diagnostic.hint))
        lines += [f"{indent}    {clean(command)}" for command in self._diagnostic.commands]
        return lines

    def _dim(self, text: str) -> str:
        return paint(text, BLUE, color=self._color)


def _hanging(first: str, rest: str, lines: Sequence[str]) -> list[str]:
    return [(first if number == 0 else rest) + line for number, line in enumerate(lines)]


def _tabless(text: str) -> str:
    return clean(text.replace("\t", "    "))


def _window(source: str, span: Span) -> tuple[str, int, int]:
    """The part of a long line around the span, with where the span begins and ends in it."""
    start = min(max(0, span.column - 1), len(source))
    end = min(start + max(1, span.length), max(len(source), start))
    if len(source) <= _SHOWN:
        return source, start, end
    first = max(0, start - _BEFORE) if start > _SHOWN - 20 else 0
    last = first + _SHOWN
    head, tail = "…" if first else "", "…" if last < len(source) else ""
    shift = len(head) - first
    return f"{head}{source[first:last]}{tail}", start + shift, min(end, last) + shift
