"""`gpuplan show [FILE]`: the state, or a saved plan."""

from typing import TYPE_CHECKING

from gpuplan.cli.commands.apply import saved_plan
from gpuplan.cli.parser import Parser, choice, usage_error

if TYPE_CHECKING:
    from gpuplan.cli.call import Call

FORMATS = ("text", "json", "markdown", "dot", "mermaid", "html")
_OF_STATE = ("text", "json", "markdown")


def arguments(parser: Parser) -> None:
    parser.add_argument(
        "plan", metavar="PLANFILE", nargs="?", help="a plan that `plan --out` saved; default: the state"
    )
    parser.flag("--format", metavar="FORMAT", type=choice(*FORMATS), help=", ".join(FORMATS))


def run(call: "Call") -> int:
    form = call.args.format or ("json" if call.console.json else "text")
    text = _state(call, form) if call.args.plan is None else _plan(call, form)
    call.console.out(text, end="" if text.endswith("\n") else "\n")
    return 0


def _state(call: "Call", form: str) -> str:
    from gpuplan.cli.render.state import render_state, state_json, state_markdown
    from gpuplan.workflow.ledger import look_at_state, unborn

    if form not in _OF_STATE:
        raise usage_error(f"the state has no `{form}` form", hint=f"name a saved plan, or use {', '.join(_OF_STATE)}")
    state = call.await_(look_at_state(call.project, call.clock)) or unborn("")
    match form:
        case "json":
            import json

            return json.dumps(state_json(state), indent=2)
        case "markdown":
            return state_markdown(state)
        case _:
            return render_state(state)


def _plan(call: "Call", form: str) -> str:
    from gpuplan.cli.render.plan import PlanView, render_plan
    from gpuplan.workflow.saved import read_saved

    text = saved_plan(call, call.args.plan)
    _, configuration, plan = read_saved(call.project, text)
    match form:
        case "json":
            return text
        case "text":
            return render_plan(plan, PlanView(configuration.locator, color=call.console.out_color))
        case "markdown":
            from gpuplan.cli.render.pages import plan_markdown

            return plan_markdown(plan, configuration.locator)
        case "html":
            from gpuplan.cli.render.pages import plan_html

            return plan_html(plan, configuration.locator)
    from gpuplan.cli.render.graph import dot, mermaid, of_operations

    return dot(of_operations(plan)) if form == "dot" else mermaid(of_operations(plan))
