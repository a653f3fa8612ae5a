"""The course of every command that changes something: show the plan, ask, run, say what came of it."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from gpuplan.cli.call import Call
from gpuplan.cli.console import Console
from gpuplan.cli.parser import usage_error
from gpuplan.core.events import Event, RunStarted
from gpuplan.core.plan import Mode
from gpuplan.core.ports import Emit
from gpuplan.engine.outcome import Limits, Stop
from gpuplan.workflow.applying import Applied, Run
from gpuplan.workflow.planning import Planned

DONE, FAILED, INTERRUPTED = 0, 1, 130

_QUESTIONS = {
    Mode.NORMAL: (
        "Do you want to perform these actions?",
        "gpuplan will perform the actions described above.",
    ),
    Mode.DESTROY: (
        "Do you really want to destroy all of this?",
        "gpuplan will delete everything shown above. There is no undo.",
    ),
    Mode.REFRESH_ONLY: (
        "Do you want to write these changes into the state?",
        "Nothing is sent to any provider.",
    ),
}


def carry_out(
    call: Call, operation: str, start: Callable[[Run], Awaitable[Applied]], *, shown: bool = True, approved: bool
) -> int:
    """Run to the exit code. `shown`: print the plan first; `approved`: do not ask."""
    return call.await_(_Course(call, operation, shown=shown, approved=approved).run(start))


class _Course:
    """One run of such a command."""

    def __init__(self, call: Call, operation: str, *, shown: bool, approved: bool) -> None:
        self._call = call
        self._operation = operation
        self._shown = shown
        self._approved = approved
        self._stop = Stop()
        self._begun = False
        """Whether there is anything in flight that Ctrl-C must leave in good order."""

    async def run(self, start: Callable[[Run], Awaitable[Applied]]) -> int:
        from gpuplan.cli.render.progress import progress

        args = self._call.args
        with progress(self._call.console, self._call.clock) as emit, self._signals():
            run = Run(
                clock=self._call.clock,
                emit=self._telling(emit),
                approve=self._approve,
                limits=Limits(parallelism=args.parallelism, deadline_seconds=getattr(args, "deadline", None)),
                stop=self._stop,
                operation=self._operation,
                patience_seconds=args.lock_timeout,
            )
            applied = await start(run)
        return self._conclude(applied)

    def _telling(self, emit: Emit) -> Emit:
        def tell(event: Event) -> None:
            self._begun = self._begun or isinstance(event, RunStarted)
            emit(event)

        return tell

    async def _approve(self, planned: Planned) -> bool:
        call, plan = self._call, planned.plan
        call.warn(plan.warnings, planned.configuration.locator)
        if self._shown and not call.console.json:
            from gpuplan.cli.render.plan import PlanView, render_plan

            locator, emulator = planned.configuration.locator, call.project.emulator
            view = PlanView(locator, planned.output_changes, call.console.out_color, emulator)
            call.console.out(render_plan(plan, view))
        if self._approved or not planned.has_changes:
            return True
        return await is_approved(call.console, self._operation, *_QUESTIONS[plan.mode])

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """First Ctrl-C or SIGTERM: nothing new starts. Second: leave now; the journal settles the rest next time."""
        loop, main = asyncio.get_running_loop(), asyncio.current_task()
        assert main is not None

        def interrupt() -> None:
            if not self._begun:
                main.cancel()
            elif self._stop.requested:
                self._stop.now()
            else:
                self._stop.request()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, interrupt)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    def _conclude(self, applied: Applied) -> int:
        console, outcome = self._call.console, applied.outcome
        if outcome is None:
            console.note(f"{self._operation.capitalize()} cancelled. Nothing was changed.")
            return FAILED
        from gpuplan.cli.render.outcome import failures, next_step, outcome_summary
        from gpuplan.cli.render.outputs import render_outputs
        from gpuplan.cli.render.state import shown_outputs

        locator = applied.planned.configuration.locator
        self._call.warn(failures(outcome, applied.planned.configuration), locator, end="")
        if not console.json:
            console.out("\n" + outcome_summary(outcome, applied.planned.plan.mode))
            if outcome.complete and applied.state.outputs:
                console.out("\n" + render_outputs(shown_outputs(applied.state)), end="")
        if (step := next_step(outcome)) is not None:
            self._call.warn([step], locator, end="")
        if outcome.interrupted:
            return INTERRUPTED
        return DONE if outcome.complete else FAILED


async def is_approved(console: Console, operation: str, question: str, meaning: str) -> bool:
    """Ask the person at the terminal. Raises UsageError when there is none."""
    if not console.can_ask:
        raise usage_error(
            f"`gpuplan {operation}` asks before it changes anything, and nobody is here to answer",
            hint="approve it on the command line",
            commands=(f"gpuplan {operation} --auto-approve",),
        )
    console.note(f"{question}\n  {meaning}\n  Only `yes` will be accepted.\n\n  Enter a value: ", end="")
    answer = await _line_of(console.stdin)
    console.note("")
    return answer.strip() == "yes"


async def _line_of(stdin: TextIO) -> str:
    """One line, read without blocking the event loop: the lock must be renewed while a person thinks."""
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[str] = loop.create_future()

    def read() -> None:
        loop.remove_reader(stdin.fileno())
        answered.set_result(stdin.readline())

    loop.add_reader(stdin.fileno(), read)
    try:
        return await answered
    finally:
        loop.remove_reader(stdin.fileno())
