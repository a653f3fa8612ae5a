"""`gpuplan cost`: the burn rate of every cluster, and what it has cost so far."""

from typing import TYPE_CHECKING

from gpuplan.cli.parser import Parser

if TYPE_CHECKING:
    from gpuplan.cli.call import Call


def arguments(parser: Parser) -> None:
    """Nothing of its own."""


def run(call: "Call") -> int:
    from gpuplan.cli.render.cost import cost_json, cost_table
    from gpuplan.workflow.ledger import look_at_state, unborn
    from gpuplan.workflow.spending import spending

    state = call.await_(look_at_state(call.project, call.clock)) or unborn("")
    rows = spending(state, call.clock.now())
    if call.console.json:
        call.console.out(cost_json(rows), end="")
    elif rows:
        call.console.out(cost_table(rows), end="")
    else:
        call.console.note("The state has nothing that costs anything.")
    return 0
