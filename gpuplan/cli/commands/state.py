"""`gpuplan state ...`: look at the state, and edit it by hand."""

from typing import TYPE_CHECKING

from gpuplan.cli.call import address
from gpuplan.cli.commands.mend import recover, rekey, verify
from gpuplan.cli.commands.migrate import TAKES as MIGRATE_TAKES
from gpuplan.cli.commands.migrate import migrate, migrate_flags
from gpuplan.cli.commands.planning_flags import lock_flag
from gpuplan.cli.commands.settle import TAKES, settle
from gpuplan.cli.parser import Parser, choice, usage_error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gpuplan.cli.call import Call
    from gpuplan.core.address import Address
    from gpuplan.core.state import Entry, State

_TAKES = {
    "list": "[ADDRESS ...]",
    "show": "ADDRESS",
    "mv": "ADDRESS NEW_ADDRESS",
    "rm": "ADDRESS ...",
    "pull": "",
    "push": "FILE",
    "settle": TAKES,
    "migrate": MIGRATE_TAKES,
    "verify": "",
    "recover": "",
    "rekey": "",
}


def arguments(parser: Parser) -> None:
    parser.epilog = "; ".join(f"state {verb} {takes}".strip() for verb, takes in _TAKES.items())
    parser.add_argument("action", metavar="ACTION", type=choice(*_TAKES), help=", ".join(_TAKES))
    parser.add_argument("names", metavar="NAME", nargs="*", help="addresses; for push a file, `-` for standard input")
    parser.flag("--auto-approve", "--yes", action="store_true", help="settle, recover: do not ask")
    migrate_flags(parser)
    lock_flag(parser)


def run(call: "Call") -> int:
    action, names = call.args.action, list(call.args.names)
    match action, len(names):
        case "list", _:
            return _list(call, [_address(name) for name in names])
        case "show", 1:
            return _show(call, _address(names[0]))
        case "mv", 2:
            return _move(call, _address(names[0]), _address(names[1]))
        case "rm", number if number:
            return _remove(call, [_address(name) for name in names])
        case "pull", 0:
            return _pull(call)
        case "push", 1:
            return _push(call, names[0])
        case "settle", _:
            return settle(call, names)
        case "migrate", 0:
            return migrate(call)
        case "verify", 0:
            return verify(call)
        case "recover", 0:
            return recover(call)
        case "rekey", 0:
            return rekey(call)
        case _:
            raise usage_error(f"`gpuplan state {action}` takes {_TAKES[action] or 'nothing'}")


def _address(text: str) -> "Address":
    import argparse

    try:
        return address(text)
    except argparse.ArgumentTypeError as exc:
        raise usage_error(str(exc)) from exc


def _looked_at(call: "Call") -> "State | None":
    from gpuplan.workflow.ledger import look_at_state

    return call.await_(look_at_state(call.project, call.clock))


def _list(call: "Call", wanted: "list[Address]") -> int:
    from gpuplan.cli.render.text import clean

    state = _looked_at(call)
    records = [] if state is None else sorted(state.instances.values(), key=lambda recorded: recorded.address.order)
    if wanted:
        records = [recorded for recorded in records if any(name.covers(recorded.address) for name in wanted)]
    if call.console.json:
        import json

        listed = [
            {
                "address": str(recorded.address),
                "kind": recorded.kind.value,
                "provider": recorded.provider,
                "id": recorded.remote_id,
                "phase": recorded.phase.value,
            }
            for recorded in records
        ]
        call.console.out(json.dumps(listed, indent=2))
    else:
        call.console.out("".join(f"{clean(str(recorded.address))}\n" for recorded in records), end="")
    return 0


def _show(call: "Call", wanted: "Address") -> int:
    from gpuplan.cli.render.state import records_json, render_records
    from gpuplan.state.edit import covered
    from gpuplan.workflow.ledger import unborn

    state = _looked_at(call) or unborn("")
    records = [state.instances[each] for each in covered(state, wanted)]
    if call.console.json:
        import json

        call.console.out(json.dumps(records_json(records), indent=2))
    else:
        call.console.out(render_records(records), end="")
    return 0


def _move(call: "Call", source: "Address", target: "Address") -> int:
    from gpuplan.state.edit import move

    _edit(call, lambda state: move(state, source, target))
    call.console.note(f"`{source}` is `{target}` now.")
    return 0


def _remove(call: "Call", wanted: "list[Address]") -> int:
    from gpuplan.state.edit import remove

    removed = _edit(call, lambda state: [entry for each in wanted for entry in remove(state, each)])
    what = "1 instance" if removed == 1 else f"{removed} instances"
    call.console.note(f"Forgot {what}. Nothing was stopped.")
    return 0


def _edit(call: "Call", edit: "Callable[[State], Sequence[Entry]]") -> int:
    """Write it under the lock; returns how many instances are gone from the state."""
    from gpuplan.workflow.ledger import edit_state

    operation, patience = f"state {call.args.action}", call.args.lock_timeout
    return call.await_(edit_state(call.project, call.clock, operation, edit, patience_seconds=patience))


def _pull(call: "Call") -> int:
    from gpuplan.state.codec import encode_state, without_digest

    state = _looked_at(call)
    if state is None:
        raise usage_error("there is no state yet", commands=("gpuplan apply",))
    call.console.out(without_digest(encode_state(state)).decode(), end="")
    return 0


def _push(call: "Call", name: str) -> int:
    from gpuplan.state.codec import decode_state
    from gpuplan.workflow.ledger import push

    try:
        content = call.console.stdin.read().encode() if name == "-" else call.path(name).read_bytes()
    except OSError as exc:
        raise usage_error(f"`{name}` cannot be read: {(exc.strerror or str(exc)).lower()}") from exc
    pushed = call.await_(push(call.project, call.clock, decode_state(content, name)))
    call.console.note(f"The state is at serial {pushed.serial} now.")
    return 0
