"""The two streams of a command, and what is known about them. The only place that writes to either."""

import os
import sys
from collections.abc import Mapping
from typing import TextIO


class Console:
    """Data goes to `out`, everything else to `note`. A reader that went away is nobody's problem: what is written then
    is dropped, so that a closed pipe never interrupts an apply."""

    def __init__(
        self, stdin: TextIO, stdout: TextIO, stderr: TextIO, environ: Mapping[str, str], *, no_color: bool, json: bool
    ) -> None:
        self._stdin = stdin
        self._streams = {"out": stdout, "note": stderr}
        plain = no_color or bool(environ.get("NO_COLOR")) or environ.get("TERM") == "dumb"
        self.json = json
        self.out_is_terminal = stdout.isatty()
        self.out_color = not plain and self.out_is_terminal
        self.note_color = not plain and stderr.isatty()
        self.live = self.note_color and not json
        """Whether progress may be drawn in place."""

    @property
    def stdin(self) -> TextIO:
        return self._stdin

    @property
    def can_ask(self) -> bool:
        """Whether a person can read a question and answer it."""
        return self._stdin.isatty() and self._streams["note"].isatty() and not self.json

    def out(self, text: str, *, end: str = "\n") -> None:
        self._write("out", text + end)

    def note(self, text: str, *, end: str = "\n") -> None:
        self._write("note", text + end)

    def _write(self, name: str, text: str) -> None:
        stream = self._streams[name]
        try:
            stream.write(text)
            stream.flush()
        except BrokenPipeError:
            self._streams[name] = _nowhere(stream)


def _nowhere(stream: TextIO) -> TextIO:
    """Point the broken stream's descriptor at nothing, so that the interpreter's last flush is silent too."""
    hole = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - lives as long as the process
    if stream in (sys.stdout, sys.stderr):
        os.dup2(hole.fileno(), stream.fileno())
    return hole
