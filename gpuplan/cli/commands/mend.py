"""`gpuplan state verify | recover | rekey`: look into a damaged state, mend it, write it anew under another key."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpuplan.cli.call import Call
    from gpuplan.state.mending import Inspection


def verify(call: "Call") -> int:
    """Exit code 1 for damage."""
    from gpuplan.workflow.mending import inspect_state

    found, location = call.await_(inspect_state(call.project, call.clock))
    if call.console.json:
        import json

        rows = [{"where": each.where, "what": each.what, "damage": each.is_damage} for each in found.findings]
        call.console.out(json.dumps({"location": location, "damaged": found.is_damaged, "findings": rows}, indent=2))
    else:
        _show_findings(call, found)
        if found.mended is not None:
            call.console.note("This shows what can be saved:\n    gpuplan state recover")
        elif not found.is_damaged:
            call.console.note(f"`{location}` is sound.")
    return 1 if found.is_damaged else 0


def recover(call: "Call") -> int:
    from gpuplan.cli.commands.carry_out import is_approved
    from gpuplan.cli.render.text import clean
    from gpuplan.workflow.mending import inspect_state, recover_state

    found, location = call.await_(inspect_state(call.project, call.clock))
    _show_findings(call, found)
    if found.mended is None:
        call.console.note("Nothing here can be mended." if found.is_damaged else f"`{location}` is sound.")
        return 1 if found.is_damaged else 0
    call.console.note("To mend it:")
    for step in found.mended.steps:
        call.console.note(f"  - {clean(step)}")
    call.console.note("What would be lost:" if found.mended.lost else "Nothing would be lost.")
    for line in found.mended.lost:
        call.console.note(f"  - {clean(line)}")
    question, meaning = "Mend it like this?", "What is there now stays beside the earlier snapshots."
    if not call.args.auto_approve and not call.await_(is_approved(call.console, "state recover", question, meaning)):
        call.console.note("Nothing was changed.")
        return 1
    patience = call.args.lock_timeout
    state = call.await_(recover_state(call.project, call.clock, found, patience_seconds=patience))
    call.console.note(f"The state is at serial {state.serial} now. See what is missing in it:")
    call.console.note("    gpuplan orphans\n    gpuplan plan")
    return 0


def rekey(call: "Call") -> int:
    from gpuplan.workflow.mending import rekey_state

    state, is_encrypted = call.await_(rekey_state(call.project, call.clock, patience_seconds=call.args.lock_timeout))
    how = "encrypted under the present key" if is_encrypted else "in the clear"
    call.console.note(f"The state is at serial {state.serial} now, {how}. Earlier snapshots remain as they are.")
    return 0


def _show_findings(call: "Call", found: "Inspection") -> None:
    from gpuplan.cli.render.text import clean

    for each in found.findings:
        call.console.out(f"{'damage' if each.is_damage else 'note'}: {clean(each.where)}: {clean(each.what)}")
