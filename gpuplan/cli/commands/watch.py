"""`gpuplan watch`: stay, tell what drifts and what comes back, keep leases alive; with --apply, make it so."""

from typing import TYPE_CHECKING

from gpuplan.cli.commands.planning_flags import guard_flags, run_flags
from gpuplan.cli.parser import Parser, duration, positive, usage_error

if TYPE_CHECKING:
    import asyncio

    from gpuplan.cli.call import Call
    from gpuplan.engine.outcome import Stop
    from gpuplan.workflow.planning import Planned

_EVERY_SECONDS = 60.0


def arguments(parser: Parser) -> None:
    parser.flag("--every", metavar="TIME", type=duration, default=_EVERY_SECONDS, help="between two looks; default 1m")
    parser.flag("--rounds", metavar="N", type=positive, help="end after so many looks")
    parser.flag("--apply", action="store_true", help="in every round, do what the spec asks for")
    parser.flag("--auto-approve", action="store_true", help="needed with --apply: nobody is asked")
    guard_flags(parser)
    run_flags(parser)


def run(call: "Call") -> int:
    args = call.args
    if args.apply and not args.auto_approve:
        raise usage_error(
            "`gpuplan watch --apply` asks nobody before it changes something",
            hint="say that this is meant",
            commands=("gpuplan watch --apply --auto-approve",),
        )
    call.await_(_watch(call))
    return 0


async def _watch(call: "Call") -> None:
    import asyncio
    import signal

    from gpuplan.cli.render.progress import lines
    from gpuplan.core.plan import PlanOptions
    from gpuplan.engine.outcome import Limits, Stop
    from gpuplan.workflow.applying import Run
    from gpuplan.workflow.watching import Rounds, watch

    args, ended, stop = call.args, asyncio.Event(), Stop()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _end, ended, stop)
    run = Run(
        clock=call.clock,
        emit=lines(call.console, call.clock),
        approve=_approve,
        limits=Limits(parallelism=args.parallelism),
        stop=stop,
        patience_seconds=args.lock_timeout,
    )
    limits = PlanOptions(max_destroy=0 if args.no_destroy else args.max_destroy, max_hourly=args.max_hourly)
    rounds = Rounds(args.every, args.apply, limits, args.rounds)
    if not call.console.json:
        call.console.note(f"Watching `{call.project.workspace}`. Ctrl-C ends it; what is in flight is awaited.")
    await watch(call.project, rounds, run, ended)


def _end(ended: "asyncio.Event", stop: "Stop") -> None:
    """First Ctrl-C or SIGTERM: no further round, nothing new starts. Second: leave now."""
    if ended.is_set():
        stop.now()
    ended.set()
    stop.request()


async def _approve(planned: "Planned") -> bool:
    return True
