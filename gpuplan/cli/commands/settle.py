"""`gpuplan state settle`: say what became of an intent that nobody can look after any more."""

from typing import TYPE_CHECKING

from gpuplan.cli.parser import count, usage_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpuplan.cli.call import Call
    from gpuplan.core.state import Entry, Intent, State

TAKES = "[SEQ created ID | SEQ never]"


def settle(call: "Call", words: "list[str]") -> int:
    """Without words: list what is open."""
    from gpuplan.workflow.settling import open_intents

    intents = call.await_(open_intents(call.project, call.clock))
    match words:
        case []:
            return _list(call, intents)
        case [seq, "created", remote_id]:
            return _settle(call, intents, _number(seq), remote_id)
        case [seq, "never"]:
            return _settle(call, intents, _number(seq), "")
    raise usage_error(f"`gpuplan state settle` takes {TAKES}")


def _number(text: str) -> int:
    import argparse

    try:
        return count(text)
    except argparse.ArgumentTypeError as exc:
        raise usage_error(str(exc)) from exc


def _list(call: "Call", intents: "Sequence[Intent]") -> int:
    from gpuplan.cli.render.state import intents_json, intents_table

    if call.console.json:
        call.console.out(intents_json(intents), end="")
    elif intents:
        call.console.out(intents_table(intents), end="")
    else:
        call.console.note("No intent is open.")
    return 0


def _settle(call: "Call", intents: "Sequence[Intent]", seq: int, remote_id: str) -> int:
    """`remote_id` is what was created; empty: nothing was."""
    from gpuplan.cli.commands.carry_out import is_approved
    from gpuplan.cli.render.state import intents_table
    from gpuplan.workflow.ledger import edit_state
    from gpuplan.workflow.settling import happened, never_happened

    def edit(state: "State") -> "Sequence[Entry]":
        return happened(state, seq, remote_id) if remote_id else never_happened(state, seq)

    async def decide() -> bool:
        chosen = [intent for intent in intents if intent.seq == seq]
        if chosen and not call.args.auto_approve:
            call.console.note(intents_table(chosen))
            meaning = f"It is recorded as {remote_id}." if remote_id else "The next apply may create it again."
            question = f"Did it create {remote_id}?" if remote_id else "Did it never happen?"
            verdict = f"created {remote_id}" if remote_id else "never"
            if not await is_approved(call.console, f"state settle {seq} {verdict}", question, meaning):
                return False
        patience = call.args.lock_timeout
        await edit_state(call.project, call.clock, "state settle", edit, patience_seconds=patience)
        return True

    if not call.await_(decide()):
        call.console.note("Nothing was changed.")
        return 1
    call.console.note(f"Intent {seq} is closed.")
    return 0
