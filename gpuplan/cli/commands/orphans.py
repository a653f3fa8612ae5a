"""`gpuplan orphans ...`: what carries our mark and is in no state; list it, adopt it, destroy it."""

from typing import TYPE_CHECKING

from gpuplan.cli.call import address
from gpuplan.cli.commands.planning_flags import lock_flag
from gpuplan.cli.parser import Parser, choice, usage_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpuplan.cli.call import Call
    from gpuplan.core.address import Address
    from gpuplan.core.errors import GpuplanError
    from gpuplan.workflow.adoption import Orphan
    from gpuplan.workflow.orphans import Found

_TAKES = {"list": "", "adopt": "ADDRESS ... | --all", "destroy": "ID ... | --all"}
_DONE, _FAILED = 0, 1


def arguments(parser: Parser) -> None:
    parser.epilog = "; ".join(f"orphans {verb} {takes}".strip() for verb, takes in _TAKES.items())
    parser.add_argument(
        "action", metavar="ACTION", nargs="?", default="list", type=choice(*_TAKES), help=", ".join(_TAKES)
    )
    parser.add_argument("names", metavar="NAME", nargs="*", help="addresses to adopt, ids to destroy")
    parser.flag("--all", action="store_true", help="adopt or destroy all of them")
    parser.flag("--auto-approve", action="store_true", help="do not ask before destroying")
    lock_flag(parser)


def run(call: "Call") -> int:
    action, names, everything = call.args.action, call.args.names, call.args.all
    if (action == "list" and (names or everything)) or (action != "list" and bool(names) == everything):
        raise usage_error(f"`gpuplan orphans {action}` takes {_TAKES[action] or 'nothing'}")
    match action:
        case "adopt":
            return _adopt(call)
        case "destroy":
            return _destroy(call)
        case _:
            return _list(call)


def _list(call: "Call") -> int:
    from gpuplan.cli.render.orphans import orphans_json, orphans_table
    from gpuplan.workflow.orphans import list_orphans

    found = call.await_(list_orphans(call.project, clock=call.clock))
    if call.console.json:
        call.console.out(orphans_json(found.orphans), end="")
    elif found.orphans:
        call.console.out(orphans_table(found.orphans), end="")
    elif not found.silent:
        call.console.note("There are no orphans.")
    return _tell_silent(call, found)


def _adopt(call: "Call") -> int:
    from gpuplan.workflow.orphans import adopt_orphans

    wanted = [_address(name) for name in call.args.names]
    status = _DONE

    async def choose(found: "Found") -> "Sequence[Orphan]":
        nonlocal status
        status = _tell_silent(call, found)
        homeless = [orphan.observed.remote_id for orphan in found.orphans if orphan.address is None]
        placed = [orphan for orphan in found.orphans if orphan.address is not None]
        if not wanted:
            if homeless:
                call.console.note(f"Left alone: {', '.join(homeless)}. No mark tells where they belong.")
            return placed
        for name in wanted:
            if not any(name.covers(orphan.address) for orphan in placed if orphan.address):
                places = {
                    each for orphan in placed if orphan.address for each in (orphan.address.block, orphan.address)
                }
                raise _no_such_orphan(str(name), sorted(map(str, places)))
        return [orphan for orphan in placed if orphan.address and any(name.covers(orphan.address) for name in wanted)]

    adopted = call.await_(
        adopt_orphans(call.project, choose, clock=call.clock, patience_seconds=call.args.lock_timeout)
    )
    for orphan in adopted:
        call.console.note(f"`{orphan.address}` is {orphan.observed.remote_id} at `{orphan.provider}`.")
    call.console.note(f"Adopted {_count(adopted)}." if adopted else "There is nothing to adopt.")
    return status


def _destroy(call: "Call") -> int:
    from gpuplan.cli.commands.carry_out import is_approved
    from gpuplan.cli.render.orphans import orphans_table
    from gpuplan.workflow.orphans import destroy_orphans

    status = _DONE

    async def choose(found: "Found") -> "Sequence[Orphan]":
        nonlocal status
        status = _tell_silent(call, found)
        chosen = _named(found.orphans, call.args.names)
        if chosen and not call.args.auto_approve:
            call.console.note(orphans_table(chosen))
            operation = f"orphans destroy {' '.join(call.args.names) or '--all'}"
            question = "Do you really want to destroy all of this?"
            if not await is_approved(call.console, operation, question, "There is no undo."):
                status = _FAILED
                return ()
        return chosen

    swept = call.await_(
        destroy_orphans(call.project, choose, clock=call.clock, patience_seconds=call.args.lock_timeout)
    )
    call.warn([found for failure in swept.failures for found in failure.diagnostics], None, end="")
    gone = len(swept.chosen) - len(swept.failures)
    call.console.note(f"Destroyed {gone} of {_count(swept.chosen)}." if swept.chosen else "Nothing was destroyed.")
    return _FAILED if swept.failures else status


def _named(orphans: "Sequence[Orphan]", ids: "Sequence[str]") -> "Sequence[Orphan]":
    known = {orphan.observed.remote_id for orphan in orphans}
    for id in ids:
        if id not in known:
            raise _no_such_orphan(id, sorted(known))
    return [orphan for orphan in orphans if not ids or orphan.observed.remote_id in ids]


def _tell_silent(call: "Call", found: "Found") -> int:
    """Name the accounts that could not be asked. What nobody could look at may have orphans too."""
    problems = [problem for name in sorted(found.silent) for problem in found.silent[name].diagnostics]
    call.warn(problems, found.configuration.locator)
    return _FAILED if problems else _DONE


def _address(text: str) -> "Address":
    import argparse

    try:
        return address(text)
    except argparse.ArgumentTypeError as exc:
        raise usage_error(str(exc)) from exc


def _count(orphans: "Sequence[Orphan]") -> str:
    return "1 orphan" if len(orphans) == 1 else f"{len(orphans)} orphans"


def _no_such_orphan(name: str, known: "Sequence[str]") -> "GpuplanError":
    from gpuplan.core.diagnostics import Diagnostic
    from gpuplan.core.errors import GpuplanError
    from gpuplan.core.nearest import did_you_mean

    found = Diagnostic(
        id="no-such-orphan",
        summary=f"no orphan is called `{name}`",
        facts=("nothing was changed",),
        hint=did_you_mean(name, known) or "see which there are",
        commands=() if did_you_mean(name, known) else ("gpuplan orphans",),
    )
    return GpuplanError(diagnostics=(found,))
