"""`gpuplan logs ADDRESS`: what a node wrote."""

from typing import TYPE_CHECKING

from gpuplan.cli.call import address
from gpuplan.cli.parser import Parser, count

if TYPE_CHECKING:
    from gpuplan.cli.call import Call


def arguments(parser: Parser) -> None:
    parser.add_argument("address", metavar="ADDRESS", type=address, help="clusters.train.nodes[0]")
    parser.flag("-F", "--follow", action="store_true", help="go on until the node ends, or Ctrl-C")
    parser.flag("-n", "--tail", metavar="N", type=count, help="only the last N lines")


def run(call: "Call") -> int:
    call.await_(_print(call))
    return 0


async def _print(call: "Call") -> None:
    from gpuplan.cli.render.text import clean
    from gpuplan.workflow.looking import log_lines

    raw = not call.console.out_is_terminal
    lines = log_lines(call.project, call.args.address, follow=call.args.follow, tail=call.args.tail, clock=call.clock)
    async for line in lines:
        # A file gets what the node wrote; a terminal must not obey it.
        call.console.out(line if raw else clean(line.replace("\t", "    ")))
