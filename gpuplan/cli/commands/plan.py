"""`gpuplan plan`: what would change, in which order, why, and what it costs."""

from typing import TYPE_CHECKING

from gpuplan.cli.commands.planning_flags import guard_flags, mode_flags, mode_of, plan_options, run_flags, scope_flags
from gpuplan.cli.parser import Parser

if TYPE_CHECKING:
    from gpuplan.cli.call import Call
    from gpuplan.workflow.planning import Planned

_CHANGES = 2


def arguments(parser: Parser) -> None:
    parser.flag("-o", "--out", metavar="FILE", help="save the plan, for `gpuplan apply FILE`")
    scope_flags(parser)
    mode_flags(parser)
    parser.flag("--detailed-exitcode", action="store_true", help="exit 2 when there are changes")
    guard_flags(parser)
    run_flags(parser)


def run(call: "Call") -> int:
    from gpuplan.cli.render.plan import PlanView, render_plan
    from gpuplan.cli.render.progress import remarks
    from gpuplan.workflow.planning import plan_project

    mode = mode_of(call.args)
    options = plan_options(call.args, mode)
    planned = call.await_(
        plan_project(
            call.project, options, clock=call.clock, emit=remarks(call.console), patience_seconds=call.args.lock_timeout
        )
    )
    plan, locator = planned.plan, planned.configuration.locator
    call.warn(plan.warnings, locator)
    if call.console.json:
        call.console.out(_saved(call, planned), end="")
    else:
        view = PlanView(locator, planned.output_changes, call.console.out_color, call.project.emulator)
        call.console.out(render_plan(plan, view), end="")
    if (name := call.args.out) is not None:
        from gpuplan.workflow.saved import kept_text

        call.write(name, kept_text(call.project, _saved(call, planned)))
        call.console.note(f"\nSaved the plan to `{name}`. To do exactly this, run:\n    gpuplan apply {name}")
    return _CHANGES if call.args.detailed_exitcode and planned.has_changes else 0


def _saved(call: "Call", planned: "Planned") -> str:
    # Most plans are only looked at.
    from gpuplan.workflow.saved import save_plan

    return save_plan(planned.plan, call.project, planned.configuration)
