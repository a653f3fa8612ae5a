"""What an unquoted word of YAML means: the core schema of YAML 1.2, without its rarer spellings.

Called by `source` for every plain scalar. `no`, `on`, `012`, `1:30` and `2025-01-01` stay text.
"""

import re
from collections.abc import Iterator
from typing import Final

from gpuplan.core.diagnostics import Path
from gpuplan.core.values import JsonValue

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)((?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)")
_WORDS: Final[dict[str, None | bool]] = {"": None, "~": None, "null": None, "true": True, "false": False}
_LONGEST_NUMBER = 40

MAYBE_TYPED: Final = frozenset(["", "~", "n", "t", "f", "-", *"0123456789"])
"""First characters of the words that are not simply text."""


class Template(str):
    """A text with `${` in it: it has to be evaluated."""

    __slots__ = ()


class Written(float):
    """A number that would not be printed as it was written (`1.10`); where text is wanted, `text` is meant."""

    __slots__ = ("text",)

    text: str

    def __new__(cls, text: str) -> "Written":
        number = super().__new__(cls, text)
        number.text = text
        return number


def typed(text: str) -> None | bool | int | float | str:
    """The value of a plain scalar."""
    if text in _WORDS:
        return _WORDS[text]
    match = _NUMBER.fullmatch(text) if len(text) <= _LONGEST_NUMBER else None
    if match is None:
        return text
    if not match[1]:
        return int(text)
    number = Written(text)
    if number in (float("inf"), float("-inf")):
        return text
    return float(number) if str(float(number)) == text else number


def as_text(value: bool | int | float | str) -> str:
    """A scalar as the spec writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.text if isinstance(value, Written) else str(value)


def texts_in(raw: JsonValue, path: Path) -> Iterator[tuple[Path, str]]:
    """Every text inside a raw value, with where it stands."""
    if isinstance(raw, dict):
        for key, item in raw.items():
            yield from texts_in(item, (*path, key))
    elif isinstance(raw, list):
        for index, item in enumerate(raw):
            yield from texts_in(item, (*path, index))
    elif isinstance(raw, str):
        yield path, raw
