"""Parts of a page that a command writes: each stands between two markers of its own, and is replaced alone."""

from pathlib import Path


def put_section(page: Path, section: str, text: str) -> None:
    """Replace one section. Raises ValueError when the page has no place for it."""
    begin, end = f"<!-- {section}: begin -->", f"<!-- {section}: end -->"
    written = page.read_text(encoding="utf-8")
    head, found, rest = written.partition(begin)
    _, closed, tail = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{page} has no section `{section}`: put `{begin}` and `{end}` where it belongs")
    page.write_text(f"{head}{begin}\n\n{text.strip()}\n\n{end}{tail}", encoding="utf-8")
