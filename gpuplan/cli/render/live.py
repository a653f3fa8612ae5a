"""Live progress on a terminal: finished operations scroll by, those at work stay below with their age.

The only module that knows `rich`; imported only when standard error is a terminal.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console as Screen
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gpuplan.cli.console import Console
from gpuplan.cli.render.progress import describe, doing
from gpuplan.cli.render.text import clean
from gpuplan.core.address import Address
from gpuplan.core.events import (
    Event,
    OperationFailed,
    OperationFinished,
    OperationProgress,
    OperationSkipped,
    OperationStarted,
    RefreshFinished,
    RefreshStarted,
    RunFinished,
    RunStarted,
)
from gpuplan.core.ports import Emit

_SHOWN = 12
"""Operations at work that are listed; the rest are counted."""


class _Board:
    """What is at work now, and how far the run is."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._at_work: dict[str, tuple[Address, str, float]] = {}
        self._total = self._ended = 0
        self._looking = ""

    def take(self, event: Event) -> None:
        match event:
            case RefreshStarted(accounts=accounts, instances=instances):
                self._looking = f"Looking at {instances} instances, {accounts} providers"
            case RefreshFinished():
                self._looking = ""
            case RunStarted(operations=operations):
                self._total = operations
            case OperationStarted(operation=operation, action=action, address=address):
                self._at_work[operation] = (address, doing(action), self._screen.get_time())
            case OperationProgress(operation=operation, text=text) if operation in self._at_work:
                address, _, begun = self._at_work[operation]
                self._at_work[operation] = (address, text, begun)
            case OperationFinished(operation=operation) | OperationFailed(operation=operation):
                self._at_work.pop(operation, None)
                self._ended += 1
            case OperationSkipped():
                self._ended += 1
            case _:
                pass

    def __rich__(self) -> RenderableType:
        if self._looking:
            return Text(f"{self._looking}...", style="dim")
        if not self._total or self._ended >= self._total:
            return Text("")
        table = Table.grid(padding=(0, 2))
        now = self._screen.get_time()
        for address, text, begun in list(self._at_work.values())[:_SHOWN]:
            table.add_row(Text(clean(str(address))), Text(clean(text), style="dim"), Text(f"{now - begun:.0f}s"))
        if len(self._at_work) > _SHOWN:
            table.add_row(Text(f"and {len(self._at_work) - _SHOWN} more", style="dim"))
        bar = Table.grid(padding=(0, 2))
        bar.add_row(
            ProgressBar(self._total, self._ended, width=40, complete_style="green"),
            Text(f"{self._ended} of {self._total}"),
        )
        return Group(table, bar)


@contextmanager
def live(console: Console) -> Iterator[Emit]:
    """Draw on standard error while there is something to watch; lines that stay go above the drawing."""
    screen = Screen(file=sys.stderr, no_color=not console.note_color)
    board = _Board(screen)
    drawing = Live(board, console=screen, refresh_per_second=8, transient=True)

    def emit(event: Event) -> None:
        board.take(event)
        if isinstance(event, (RefreshStarted, RunStarted)):
            drawing.start()
        line = None if isinstance(event, (OperationStarted, OperationProgress)) else describe(event)
        if line is not None:
            screen.print(Text(line), soft_wrap=True)
        if isinstance(event, (RefreshFinished, RunFinished)):
            drawing.stop()

    try:
        yield emit
    finally:
        drawing.stop()
