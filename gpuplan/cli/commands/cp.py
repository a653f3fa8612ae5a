"""`gpuplan cp FROM TO`: copy between this machine and a node. A side on a node is written `ADDRESS:PATH`."""

from typing import TYPE_CHECKING

from gpuplan.cli.parser import Parser, usage_error

if TYPE_CHECKING:
    from gpuplan.cli.call import Call
    from gpuplan.core.address import Address


def arguments(parser: Parser) -> None:
    parser.add_argument("source", metavar="FROM", help="a file or a folder: PATH, or ADDRESS:PATH on a node")
    parser.add_argument("target", metavar="TO", help="where to: ADDRESS:PATH, or PATH")


def run(call: "Call") -> int:
    call.await_(_copy(call))
    return 0


async def _copy(call: "Call") -> None:
    from gpuplan.workflow.visiting import visited

    source, target = _remote(call.args.source), _remote(call.args.target)
    if (source is None) == (target is None):
        raise usage_error(
            "one side must be on a node, and one on this machine",
            hint="write a node's side as ADDRESS:PATH",
            commands=("gpuplan cp data.csv 'clusters.train.nodes[0]:data.csv'",),
        )
    if source is not None:
        address, path = source
        async with visited(call.project, address, call.clock) as channel:
            await channel.get(path, call.path(call.args.target))
    elif target is not None:
        address, path = target
        async with visited(call.project, address, call.clock) as channel:
            await channel.put(call.path(call.args.source), path)


def _remote(text: str) -> "tuple[Address, str] | None":
    """The address and the path of a side on a node; None for one of this machine. A key may have colons in it."""
    from gpuplan.core.address import Address

    colon = text.find(":")
    while colon > 0:
        try:
            return Address.parse(text[:colon]), text[colon + 1 :] or "."
        except ValueError:
            colon = text.find(":", colon + 1)
    return None
