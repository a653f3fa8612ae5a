"""`gpuplan ssh-config`: a file for OpenSSH's `Include`, with every node under its name."""

from typing import TYPE_CHECKING

from gpuplan.cli.call import address
from gpuplan.cli.parser import Parser

if TYPE_CHECKING:
    from gpuplan.cli.call import Call


def arguments(parser: Parser) -> None:
    parser.add_argument("address", metavar="ADDRESS", nargs="*", type=address, help="only these; all nodes without one")
    parser.flag("-o", "--out", metavar="FILE", help="write it there, for `Include FILE` in ~/.ssh/config")


def run(call: "Call") -> int:
    from gpuplan.cli.commands.hostfile import print_nodes

    return print_nodes(call, "openssh")
