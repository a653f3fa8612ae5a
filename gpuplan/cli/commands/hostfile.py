"""`gpuplan hostfile`: the nodes in the form another program takes."""

from typing import TYPE_CHECKING

from gpuplan.cli.call import address
from gpuplan.cli.parser import Parser, choice

if TYPE_CHECKING:
    from gpuplan.cli.call import Call

FORMATS = ("openssh", "ansible", "mpi", "torchrun", "hosts-yaml")


def arguments(parser: Parser) -> None:
    parser.add_argument("address", metavar="ADDRESS", nargs="*", type=address, help="only these; all nodes without one")
    parser.flag("--format", metavar="FORMAT", type=choice(*FORMATS), default="openssh", help=", ".join(FORMATS))
    parser.flag("-o", "--out", metavar="FILE", help="write it there instead of to standard output")


def run(call: "Call") -> int:
    return print_nodes(call, call.args.format)


def print_nodes(call: "Call", format: str) -> int:
    """Print the nodes, and say on standard error which of them the format has no place for."""
    from gpuplan.cli.render.hosts import RENDERERS, missing
    from gpuplan.workflow.visiting import reached_nodes

    nodes = call.await_(reached_nodes(call.project, call.args.address, call.clock))
    text = RENDERERS[format](nodes)
    if call.args.out:
        call.write(call.args.out, text)
    else:
        call.console.out(text, end="")
    for line in missing(format, nodes):
        call.console.note(line)
    return 0
