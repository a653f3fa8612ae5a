"""Did you mean: the known word a mistyped one is closest to. Called wherever a name turns out to be unknown."""

from collections.abc import Iterable

_FARTHEST = 2


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The closest known word within two edits; None when nothing is near enough to be meant."""
    limit = min(_FARTHEST, len(word) - 1)
    best: tuple[int, str] | None = None
    for candidate in known:
        if abs(len(candidate) - len(word)) <= limit:
            distance = _distance(word, candidate)
            if distance <= limit and (best is None or (distance, candidate) < best):
                best = distance, candidate
    return None if best is None else best[1]


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """The hint, when there is one."""
    meant = nearest(word, known)
    return None if meant is None else f"did you mean `{meant}`?"


def _distance(a: str, b: str) -> int:
    """Insertions, deletions, substitutions and swaps of neighbours."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        last, before, row = before, row, [i]
        for j, right in enumerate(b, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (left != right))
            if i > 1 and j > 1 and left == b[j - 2] and a[i - 2] == right:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1]
