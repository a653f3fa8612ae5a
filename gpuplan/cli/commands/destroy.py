"""`gpuplan destroy`: delete everything the state has, dependents first."""

from typing import TYPE_CHECKING

from gpuplan.cli.commands.planning_flags import guard_flags, plan_options, run_flags, scope_flags
from gpuplan.cli.parser import Parser, duration

if TYPE_CHECKING:
    from gpuplan.cli.call import Call


def arguments(parser: Parser) -> None:
    parser.flag("--auto-approve", action="store_true", help="do not ask")
    scope_flags(parser)
    guard_flags(parser)
    parser.flag("--deadline", metavar="TIME", type=duration, help="start nothing new after that time: 50m")
    run_flags(parser)


def run(call: "Call") -> int:
    from gpuplan.cli.commands.carry_out import carry_out
    from gpuplan.core.plan import Mode
    from gpuplan.workflow.applying import apply_project

    options = plan_options(call.args, Mode.DESTROY)
    return carry_out(
        call, "destroy", lambda run: apply_project(call.project, options, run), approved=call.args.auto_approve
    )
