"""`gpuplan graph`: what needs what, as DOT or Mermaid: the resources of the spec, or the operations of a saved plan."""

from typing import TYPE_CHECKING

from gpuplan.cli.commands.apply import saved_plan
from gpuplan.cli.parser import Parser, choice

if TYPE_CHECKING:
    from gpuplan.cli.call import Call


def arguments(parser: Parser) -> None:
    parser.add_argument("plan", metavar="PLANFILE", nargs="?", help="a saved plan; default: the resources of the spec")
    parser.flag("--format", metavar="FORMAT", type=choice("dot", "mermaid"), default="dot", help="dot or mermaid")


def run(call: "Call") -> int:
    from gpuplan.cli.render.graph import dot, mermaid, of_operations, of_resources
    from gpuplan.workflow.project import load_spec
    from gpuplan.workflow.saved import read_saved

    if call.args.plan is None:
        graph = of_resources(load_spec(call.project))
    else:
        _, _, plan = read_saved(call.project, saved_plan(call, call.args.plan))
        graph = of_operations(plan)
    call.console.out(mermaid(graph) if call.args.format == "mermaid" else dot(graph), end="")
    return 0
