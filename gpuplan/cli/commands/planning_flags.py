"""The flags that `plan`, `apply` and `destroy` share, and the options they make."""

from argparse import Namespace
from decimal import Decimal
from typing import TYPE_CHECKING

from gpuplan.cli.call import address
from gpuplan.cli.parser import Parser, boolean, count, duration, positive, usage_error

if TYPE_CHECKING:
    from gpuplan.core.plan import Mode, PlanOptions


def scope_flags(parser: Parser) -> None:
    """What a plan speaks of."""
    parser.flag("--target", metavar="ADDRESS", type=address, action="append", help="only this and what it needs")
    parser.flag("--exclude", metavar="ADDRESS", type=address, action="append", help="all but this and what needs it")
    parser.flag("--replace", metavar="ADDRESS", type=address, action="append", help="replace this instance")
    parser.flag("--refresh", metavar="BOOL", type=boolean, default=True, help="false: take the state at its word")


def mode_flags(parser: Parser) -> None:
    """Which of three plans to make."""
    parser.flag("--destroy", action="store_true", help="delete everything")
    parser.flag("--refresh-only", action="store_true", help="only accept reality into the state")


def guard_flags(parser: Parser) -> None:
    """What a plan must not do."""
    parser.flag("--max-destroy", metavar="N", type=count, help="refuse to destroy more than N objects")
    parser.flag("--no-destroy", action="store_true", help="refuse to destroy anything")
    parser.flag("--max-hourly", metavar="USD", type=usd, help="refuse to cost more than that per hour")


def run_flags(parser: Parser) -> None:
    """How a run goes about it."""
    parser.flag("--parallelism", metavar="N", type=positive, default=32, help="operations at work at once; default 32")
    lock_flag(parser)


def lock_flag(parser: Parser) -> None:
    parser.flag("--lock-timeout", metavar="TIME", type=duration, default=0.0, help="how long to wait for the lock: 5m")


def usd(text: str) -> Decimal:
    import argparse

    from gpuplan.core.units import parse_money

    try:
        return parse_money(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc


def plan_options(args: Namespace, mode: "Mode") -> "PlanOptions":
    """What the flags ask of the plan."""
    from gpuplan.core.plan import PlanOptions

    return PlanOptions(
        mode=mode,
        targets=tuple(args.target or ()),
        excludes=tuple(args.exclude or ()),
        replace=tuple(args.replace or ()),
        refreshed=args.refresh,
        max_destroy=0 if args.no_destroy else args.max_destroy,
        max_hourly=args.max_hourly,
    )


def mode_of(args: Namespace) -> "Mode":
    """By `mode_flags`. Raises UsageError when both are there."""
    from gpuplan.core.plan import Mode

    if args.destroy and args.refresh_only:
        raise usage_error("`--destroy` and `--refresh-only` ask for two different plans", hint="use one of them")
    if args.destroy:
        return Mode.DESTROY
    return Mode.REFRESH_ONLY if args.refresh_only else Mode.NORMAL
