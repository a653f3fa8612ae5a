"""`gpuplan import ADDRESS ID`: take over an object that exists already, without changing it."""

from typing import TYPE_CHECKING

from gpuplan.cli.call import address
from gpuplan.cli.commands.planning_flags import run_flags
from gpuplan.cli.parser import Parser

if TYPE_CHECKING:
    from gpuplan.cli.call import Call


def arguments(parser: Parser) -> None:
    parser.add_argument("address", metavar="ADDRESS", type=address, help="the instance in the spec")
    parser.add_argument("id", metavar="ID", help="what the provider calls the object")
    run_flags(parser)


def run(call: "Call") -> int:
    from gpuplan.cli.commands.carry_out import carry_out
    from gpuplan.workflow.applying import import_object

    return carry_out(
        call,
        "import",
        lambda run: import_object(call.project, call.args.address, call.args.id, run),
        approved=True,
    )
