"""`gpuplan forward ADDRESS [LOCAL:]PORT`: a port of this machine is a port of a node, until Ctrl-C."""

import argparse
from typing import TYPE_CHECKING

from gpuplan.cli.call import address
from gpuplan.cli.parser import Parser

if TYPE_CHECKING:
    from gpuplan.cli.call import Call


def arguments(parser: Parser) -> None:
    parser.add_argument("address", metavar="ADDRESS", type=address, help="clusters.train.nodes[0]")
    parser.add_argument("ports", metavar="[LOCAL:]PORT", type=_ports, help="8888 or 9000:8888; 0:8888 takes a free one")


def run(call: "Call") -> int:
    call.await_(_forward(call))
    return 0


async def _forward(call: "Call") -> None:
    import asyncio
    import json

    from gpuplan.workflow.visiting import visited

    local_port, port = call.args.ports
    async with (
        visited(call.project, call.args.address, call.clock) as channel,
        channel.forward(port, local_port) as taken,
    ):
        if call.console.json:
            call.console.out(json.dumps({"host": "127.0.0.1", "port": taken}))
        else:
            call.console.note(f"127.0.0.1:{taken} is port {port} of {call.args.address} until Ctrl-C.")
        await asyncio.Event().wait()


def _ports(text: str) -> tuple[int, int]:
    """(port here, port there)."""
    here, _, there = text.rpartition(":")
    if not all(part.isdigit() and int(part) < 65536 for part in (here or there, there)) or int(there) == 0:
        raise argparse.ArgumentTypeError(f"`{text}` is not a port, nor LOCAL:PORT")
    return int(here or there), int(there)
