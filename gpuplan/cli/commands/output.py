"""`gpuplan output [NAME]`: the outputs as the last apply computed them."""

from typing import TYPE_CHECKING

from gpuplan.cli.parser import Parser, usage_error
from gpuplan.core.nearest import nearest

if TYPE_CHECKING:
    from gpuplan.cli.call import Call


def arguments(parser: Parser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="only this one; a text is printed as it is")


def run(call: "Call") -> int:
    from gpuplan.cli.render.outputs import render_outputs
    from gpuplan.cli.render.state import shown_outputs
    from gpuplan.cli.render.value import plain_json, show
    from gpuplan.workflow.ledger import look_at_state

    state = call.await_(look_at_state(call.project, call.clock))
    outputs = {} if state is None else shown_outputs(state)
    name = call.args.name
    if name is not None and name not in outputs:
        near = nearest(name, outputs)
        hint = f"did you mean `{near}`?" if near else "outputs appear in the state with the next apply"
        raise usage_error(f"the state has no output `{name}`", hint=hint)
    if call.console.json:
        import json

        call.console.out(json.dumps(plain_json(outputs if name is None else outputs[name]), indent=2, sort_keys=True))
    elif name is not None:
        value = outputs[name]
        call.console.out(value if isinstance(value, str) else show(value))
    elif outputs:
        call.console.out(render_outputs(outputs), end="")
    else:
        call.console.note("The state has no outputs.")
    return 0
