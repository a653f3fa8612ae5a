"""`gpuplan apply`: do what a saved plan says, or plan, show, ask and do it."""

from typing import TYPE_CHECKING

from gpuplan.cli.commands.planning_flags import guard_flags, mode_flags, mode_of, plan_options, run_flags, scope_flags
from gpuplan.cli.parser import Parser, duration, usage_error

if TYPE_CHECKING:
    from gpuplan.cli.call import Call

_PLANNING = ("target", "exclude", "replace", "refresh_only", "destroy")
"""Flags that a plan was made with, once it is made."""


def arguments(parser: Parser) -> None:
    parser.add_argument("plan", metavar="PLANFILE", nargs="?", help="a plan that `gpuplan plan --out` saved")
    parser.flag("--auto-approve", action="store_true", help="do not ask")
    scope_flags(parser)
    mode_flags(parser)
    guard_flags(parser)
    parser.flag("--deadline", metavar="TIME", type=duration, help="start nothing new after that time: 50m")
    run_flags(parser)


def run(call: "Call") -> int:
    from gpuplan.cli.commands.carry_out import carry_out
    from gpuplan.workflow.applying import apply_project, apply_saved

    options = plan_options(call.args, mode_of(call.args))
    if call.args.plan is None:
        approved = call.args.auto_approve
        return carry_out(call, "apply", lambda run: apply_project(call.project, options, run), approved=approved)
    given = next((name for name in _PLANNING if getattr(call.args, name)), None)
    if given is not None:
        flag = given.replace("_", "-")
        raise usage_error(f"`--{flag}` belongs to the plan, and this plan is made already", commands=("gpuplan plan",))
    text = saved_plan(call, call.args.plan)
    # It was shown when it was made; whoever names it has approved it.
    return carry_out(
        call, "apply", lambda run: apply_saved(call.project, text, options, run), shown=False, approved=True
    )


def saved_plan(call: "Call", name: str) -> str:
    """The text of a saved plan."""
    from gpuplan.workflow.saved import plain_text

    try:
        text = call.path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise usage_error(f"`{name}` cannot be read as a saved plan", hint="name a file of `plan --out`") from exc
    return plain_text(call.project, text, name)
