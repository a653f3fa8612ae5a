"""`gpuplan offers`: a price board across the configured accounts."""

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from gpuplan.cli.parser import Parser, choice, positive

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gpuplan.cli.call import Call
    from gpuplan.core.diagnostics import Diagnostic
    from gpuplan.workflow.market import Board

_SORTS = ("price", "region", "gpu", "provider")


class GpuAsked(NamedTuple):
    """None: any number of them."""

    name: str
    number: int | None


def arguments(parser: Parser) -> None:
    parser.flag("--gpu", metavar="NAME[:COUNT]", type=gpu, help="only this GPU, and that many in a node")
    parser.flag("--region", metavar="REGION", default="", help="only regions that begin like this: eu")
    parser.flag("--provider", metavar="NAME", default="", help="ask only this provider of the spec")
    parser.flag("--spot", action="store_true", help="only what can be taken away again")
    parser.flag("--sort", metavar="KEY", type=choice(*_SORTS), default="price", help=", ".join(_SORTS))
    parser.flag("--fresh", action="store_true", help="ask again, whatever was told a moment ago")
    parser.flag("--limit", metavar="N", type=positive, help="only the first N")


def gpu(text: str) -> GpuAsked:
    """A flag's type: `H100-80GB:8`, or any spelling of the name."""
    import argparse

    from gpuplan.core.gpus import nearest_gpus, parse_gpu

    try:
        asked = parse_gpu(text)
    except KeyError as exc:
        near = ", ".join(f"`{name}`" for name in nearest_gpus(text.partition(":")[0]))
        meant = f"; did you mean {near}?" if near else ""
        raise argparse.ArgumentTypeError(f"no GPU is called `{exc.args[0]}`{meant}") from exc
    return GpuAsked(asked.name, asked.count if ":" in text else None)


def run(call: "Call") -> int:
    from gpuplan.cli.render.offers import offers_json, offers_table
    from gpuplan.workflow.market import Wanted, price_board

    args = call.args
    wanted = Wanted(region=args.region, account=args.provider, spot=args.spot)
    if args.gpu is not None:
        wanted = replace(wanted, gpu=args.gpu.name, gpu_count=args.gpu.number)
    board = call.await_(price_board(call.project, wanted, args.sort, clock=call.clock, fresh=args.fresh))
    shown = board.offers[: args.limit]
    call.warn(_problems(board), board.configuration.locator)
    if board.silent and not board.answered:
        return 1
    if call.console.json:
        call.console.out(offers_json(shown, call.clock.now(), board.remembered), end="")
    elif shown:
        call.console.out(offers_table(shown), end="")
    else:
        nobody = "None of the accounts has a price list."
        call.console.note("Nothing like this is on offer." if board.answered else nobody)
    if not call.console.json and (more := len(board.offers) - len(shown)):
        call.console.note(f"{more} more: leave out `--limit` to see them.")
    if not call.console.json:
        for name, at in board.remembered.items():
            age = (call.clock.now() - at).total_seconds()
            call.console.note(f"`{name}` told this {age:.0f}s ago; `--fresh` asks again.")
    return 0


def _problems(board: "Board") -> "Iterable[Diagnostic]":
    """Why some accounts are not on the board: warnings, unless nobody is."""
    from gpuplan.core.diagnostics import Severity

    severity = Severity.WARNING if board.answered else Severity.ERROR
    for name in sorted(board.silent):
        for found in board.silent[name].diagnostics:
            yield replace(found, severity=severity)
