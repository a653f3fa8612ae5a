"""Text that is safe to print: control characters made visible, widths as a terminal counts them.

Called by every renderer for whatever did not come from gpuplan itself: specs, providers, files, the command line.
"""

import unicodedata

BOLD = "1"
RED = "1;31"
GREEN = "32"
YELLOW = "33"
BLUE = "1;34"
DIM = "2"


def clean(text: str) -> str:
    """Spell out whatever a terminal would obey instead of show: escape sequences, line ends, direction marks."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _spelled(char) for char in text)


def clean_lines(text: str) -> list[str]:
    """The lines of a text that may span several, each of them clean; one line at least."""
    return [clean(line.replace("\t", "    ")) for line in text.splitlines()] or [""]


def cell(text: str) -> str:
    """A text inside a Markdown table: no sign in it means anything."""
    escaped = clean(text).replace("\\", "\\\\").replace("|", "\\|").replace("`", "\\`")
    return escaped.replace("<", "&lt;").replace(">", "&gt;")


def width(text: str) -> int:
    """Columns a clean text takes: East Asian wide characters take two, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(_columns(char) for char in text)


def pad(text: str, columns: int) -> str:
    """Fill up with spaces to that many columns."""
    return text + " " * (columns - width(text))


def paint(text: str, style: str, *, color: bool) -> str:
    """Wrap in an ANSI style where colour is wanted."""
    return f"\x1b[{style}m{text}\x1b[0m" if color and text else text


def _spelled(char: str) -> str:
    code = ord(char)
    if char in "\n\r\t":
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}[char]
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _columns(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
