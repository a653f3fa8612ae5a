"""`gpuplan workspace ...`: separate states of one spec."""

from typing import TYPE_CHECKING

from gpuplan.cli.parser import Parser, choice, usage_error
from gpuplan.core.nearest import nearest

if TYPE_CHECKING:
    from gpuplan.cli.call import Call

_TAKES = {"list": "", "show": "", "new": "NAME", "select": "NAME", "delete": "NAME"}


def arguments(parser: Parser) -> None:
    parser.epilog = "; ".join(f"workspace {verb} {takes}".strip() for verb, takes in _TAKES.items())
    parser.add_argument("action", metavar="ACTION", type=choice(*_TAKES), help=", ".join(_TAKES))
    parser.add_argument("name", metavar="NAME", nargs="?", help="a workspace")


def run(call: "Call") -> int:
    action, name = call.args.action, call.args.name
    if bool(name) != bool(_TAKES[action]):
        raise usage_error(f"`gpuplan workspace {action}` takes {_TAKES[action] or 'nothing'}")
    match action:
        case "show":
            call.console.out(call.project.workspace)
        case "list":
            _list(call)
        case "new":
            _create(call, name)
        case "select":
            _select(call, name)
        case _:
            _delete(call, name)
    return 0


def _known(call: "Call") -> list[str]:
    from gpuplan.workflow.ledger import known_workspaces

    return call.await_(known_workspaces(call.project, call.clock))


def _list(call: "Call") -> None:
    names, current = _known(call), call.project.workspace
    if call.console.json:
        import json

        call.console.out(json.dumps([{"name": name, "selected": name == current} for name in names], indent=2))
    else:
        call.console.out("".join(f"{'*' if name == current else ' '} {name}\n" for name in names), end="")


def _create(call: "Call", name: str) -> None:
    from gpuplan.workflow.ledger import create_workspace
    from gpuplan.workflow.project import select_workspace

    if name in _known(call):
        raise usage_error(f"there is a workspace `{name}` already", commands=(f"gpuplan workspace select {name}",))
    call.await_(create_workspace(call.project, call.clock, name))
    select_workspace(call.project.folder, name)
    call.console.note(f"Created the workspace `{name}`, and selected it.")


def _select(call: "Call", name: str) -> None:
    from gpuplan.workflow.project import select_workspace

    _check_known(call, name)
    select_workspace(call.project.folder, name)
    call.console.note(f"The workspace is `{name}` now.")


def _delete(call: "Call", name: str) -> None:
    from gpuplan.workflow.ledger import delete_workspace

    _check_known(call, name)
    if name == call.project.workspace:
        raise usage_error(f"`{name}` is the selected workspace", hint="select another one first")
    call.await_(delete_workspace(call.project, call.clock, name))
    call.console.note(f"Deleted the workspace `{name}`.")


def _check_known(call: "Call", name: str) -> None:
    known = _known(call)
    if name not in known:
        near = nearest(name, known)
        raise usage_error(
            f"there is no workspace `{name}`",
            hint=f"did you mean `{near}`?" if near else "create it",
            commands=() if near else (f"gpuplan workspace new {name}",),
        )
