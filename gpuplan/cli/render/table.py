"""Tables for terminals and files: columns as wide as what is in them, headings in capitals."""

from collections.abc import Iterable, Sequence

from gpuplan.cli.render.text import clean, pad, width


def render_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """One line for each row under the headings; ends with a line end."""
    lines = [[clean(cell) for cell in row] for row in [[heading.upper() for heading in headings], *rows]]
    widths = [max(width(line[column]) for line in lines) for column in range(len(headings))]
    return "".join(
        "  ".join(pad(cell, columns) for cell, columns in zip(line, widths, strict=True)).rstrip() + "\n"
        for line in lines
    )
