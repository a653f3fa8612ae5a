"""What happens during a run, as it happens: lines, a live display on a terminal, or one JSON event per line.

Called by `apply`, `destroy` and `import` through the `Emit` they hand to `workflow`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import assert_never

from gpuplan.cli.console import Console
from gpuplan.cli.render.json import event_line
from gpuplan.cli.render.text import clean
from gpuplan.core.events import (
    DriftBegan,
    DriftEnded,
    Event,
    IntentSettled,
    Interrupted,
    Looked,
    OperationFailed,
    OperationFinished,
    OperationProgress,
    OperationSkipped,
    OperationStarted,
    RefreshFinished,
    RefreshStarted,
    RoundFailed,
    RunFinished,
    RunStarted,
)
from gpuplan.core.ports import Clock, Emit
from gpuplan.core.units import format_duration

_WORDS: Mapping[str, tuple[str, str]] = {
    "create": ("Creating", "Creation"),
    "update": ("Modifying", "Modification"),
    "delete": ("Destroying", "Destruction"),
    "start": ("Starting", "Start"),
    "stop": ("Stopping", "Stop"),
    "extend": ("Extending", "Extension"),
    "adopt": ("Importing", "Import"),
    "forget": ("Removing from the state", "Removal"),
    "read": ("Waiting until it is ready", "Waiting"),
}


@contextmanager
def progress(console: Console, clock: Clock) -> Iterator[Emit]:
    """The way of showing that fits the console."""
    if console.live and not console.json:
        from gpuplan.cli.render.live import live

        with live(console) as emit:
            yield emit
    else:
        yield lines(console, clock)


def lines(console: Console, clock: Clock) -> Emit:
    """A line for each event: words for people, JSON for programs."""

    def emit(event: Event) -> None:
        if console.json:
            console.out(event_line(event, clock.now()))
        elif (line := describe(event)) is not None:
            console.out(line)

    return emit


def remarks(console: Console) -> Emit:
    """For commands that only look: what a crashed run left behind and, on a terminal, that it is being looked."""

    def emit(event: Event) -> None:
        match event:
            case IntentSettled():
                console.note(describe(event) or "")
            case RefreshStarted(accounts=accounts, instances=instances) if console.live and instances:
                console.note(f"Looking at {instances} instances, {accounts} providers...")
            case _:
                pass

    return emit


def describe(event: Event) -> str | None:
    """One line for an event; None for what a reader of lines need not see."""
    match event:
        case OperationStarted(action=action, address=address):
            return f"{clean(str(address))}: {_words(action)[0]}..."
        case OperationProgress(address=address, text=text):
            return f"{clean(str(address))}: {clean(text)}"
        case OperationFinished(action=action, address=address, remote_id=remote_id, seconds=seconds):
            known = f" [id={clean(remote_id)}]" if remote_id and action not in ("delete", "forget") else ""
            return f"{clean(str(address))}: {_words(action)[1]} complete after {format_duration(seconds)}{known}"
        case OperationFailed(action=action, address=address, message=message, seconds=seconds):
            after = format_duration(seconds)
            return f"{clean(str(address))}: {_words(action)[1]} did not succeed after {after}: {clean(message)}"
        case OperationSkipped(address=address, because=because):
            return f"{clean(str(address))}: skipped, it needs `{clean(because)}`"
        case IntentSettled(address=address, text=text):
            return f"{clean(str(address))}: {clean(text)}"
        case Interrupted(in_flight=in_flight):
            waiting = f"waiting for {in_flight} in flight" if in_flight else "nothing is in flight"
            return f"Interrupted: nothing new starts, {waiting}. Once more leaves now; what is open is settled later."
        case DriftBegan(kind=kind, subject=subject, text=text):
            return f"{clean(subject)}: {kind}: {clean(text)}"
        case DriftEnded(kind=kind, subject=subject):
            return f"{clean(subject)}: no longer {kind}"
        case RoundFailed(message=message):
            return f"This round ended early: {clean(message)}"
        case RunStarted() | RunFinished() | RefreshStarted() | RefreshFinished() | Looked():
            return None
        case _:
            assert_never(event)


def doing(action: str) -> str:
    """`creating`, for an operation at work."""
    return _words(action)[0].lower()


def _words(action: str) -> tuple[str, str]:
    return _WORDS.get(action, (action.capitalize(), action.capitalize()))
