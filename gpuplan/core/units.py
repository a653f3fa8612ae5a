"""Durations, constraints and money as the spec writes them: `12h`, `">=32"`, 2.10."""

import re
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_CONSTRAINT = re.compile(r"(>=)?\s*(\d+(?:\.\d+)?)")


def parse_duration(text: str) -> float:
    """Seconds of `90s`, `20m`, `12h`, `7d` or a sequence of them (`1h30m`). Raises ValueError."""
    position, seconds = 0, 0.0
    while match := _DURATION.match(text, position):
        seconds += float(match[1]) * _SECONDS[match[2]]
        position = match.end()
    if position == 0 or position != len(text):
        raise ValueError(f"`{text}` is not a duration: write 90s, 20m, 12h or 7d")
    return seconds


def format_duration(seconds: float) -> str:
    """The shortest way to write it: 5400 is `1h30m`."""
    rest, parts = round(seconds), []
    for unit in ("d", "h", "m", "s"):
        count, rest = divmod(rest, _SECONDS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


class Constraint(NamedTuple):
    """`32` (exactly) or `">=32"` (at least)."""

    amount: float
    at_least: bool

    @classmethod
    def parse(cls, value: str | int | float) -> "Constraint":
        """Raises ValueError for anything but a number or `>=` and a number."""
        match = _CONSTRAINT.fullmatch(str(value).strip())
        if match is None:
            raise ValueError(f"`{value}` is neither a number nor `>=` and a number")
        return cls(float(match[2]), match[1] is not None)

    def allows(self, amount: float) -> bool:
        return amount >= self.amount if self.at_least else amount == self.amount

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else ''}{self.amount:g}"


def parse_money(value: str | int | float) -> Decimal:
    """USD. Raises ValueError."""
    try:
        amount = Decimal(str(value))
    except InvalidOperation as exc:
        raise ValueError(f"`{value}` is not an amount of money") from exc
    if not amount.is_finite() or amount < 0:
        raise ValueError(f"`{value}` is not an amount of money")
    return amount
