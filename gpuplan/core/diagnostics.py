"""Diagnostics: what is wrong, where, and how to mend it, as values that accumulate.

Rooms make them, `cli/render/diagnostic.py` prints them. Ids are listed in `docs/errors.md`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

Path = tuple[str | int, ...]
"""A position inside the merged spec: `("clusters", "train", "gpu")`. Lines are looked up only for what is shown."""


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of one line of a source file; lines and columns count from 1."""

    file: str
    line: int
    column: int
    length: int = 1


@dataclass(frozen=True, slots=True)
class At:
    """A position by path, resolved to a `Span` when it is shown. `key` points at the key instead of the value."""

    path: Path
    key: bool = False


@dataclass(frozen=True, slots=True)
class Label:
    where: At | Span
    text: str


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding. `summary` is lower case, one line, no full stop; `facts` say what happened and what did not;
    `hint` is one thing to do, `commands` are lines ready to copy."""

    id: str
    summary: str
    labels: tuple[Label, ...] = ()
    facts: tuple[str, ...] = ()
    hint: str | None = None
    commands: tuple[str, ...] = ()
    severity: Severity = Severity.ERROR


class Locator(Protocol):
    """Finds positions in the sources that were read; implemented by `spec.source`."""

    def locate(self, at: At) -> Span | None:
        """The span of the innermost existing part of the path; None when no source has any of it."""
        ...

    def line(self, file: str, line: int) -> str | None:
        """The text of a line, for the quotation above the caret, secrets already redacted."""
        ...


class Sink:
    """Collects the diagnostics of a run, so that all are reported together."""

    def __init__(self) -> None:
        self._items: list[Diagnostic] = []

    def add(self, diagnostic: Diagnostic) -> None:
        self._items.append(diagnostic)

    def extend(self, diagnostics: Iterable[Diagnostic]) -> None:
        self._items.extend(diagnostics)

    def __iter__(self) -> Iterator[Diagnostic]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        return tuple(d for d in self._items if d.severity is Severity.ERROR)

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        return tuple(d for d in self._items if d.severity is Severity.WARNING)
