"""The state as people and programs read it. Called by `show` and `state show`."""

import json
from collections.abc import Iterable, Iterator, Mapping

from gpuplan.cli.render.outputs import render_outputs
from gpuplan.cli.render.table import render_table
from gpuplan.cli.render.text import cell, clean, pad, width
from gpuplan.cli.render.value import flat, plain_json, show
from gpuplan.core.encoding import decode_value, encode_time
from gpuplan.core.state import Intent, Phase, Recorded, State
from gpuplan.core.values import JsonValue, Value


def render_state(state: State) -> str:
    """Every instance with its attributes and facts, then the outputs."""
    blocks = [_block(recorded) for recorded in _ordered(state)]
    if state.outputs:
        blocks.append(render_outputs(shown_outputs(state)))
    if not blocks:
        return "The state is empty.\n"
    return "\n".join(blocks)


def render_records(records: Iterable[Recorded]) -> str:
    return "\n".join(map(_block, records))


def state_markdown(state: State) -> str:
    """A table of what is there."""
    lines = ["| address | kind | provider | id | phase |", "|---|---|---|---|---|"]
    for recorded in _ordered(state):
        known = (recorded.address, recorded.kind.value, recorded.provider, recorded.remote_id, recorded.phase.value)
        lines.append(f"| {' | '.join(cell(str(value)) for value in known)} |")
    return "\n".join(lines) + "\n"


def state_json(state: State) -> JsonValue:
    """Without the key and the journal: for reading, not for `state push`."""
    return {
        "lineage": state.lineage,
        "serial": state.serial,
        "project": state.project,
        "instances": records_json(_ordered(state)),
        "outputs": {name: plain_json(value) for name, value in shown_outputs(state).items()},
    }


def records_json(records: Iterable[Recorded]) -> list[JsonValue]:
    return [
        {
            "address": str(recorded.address),
            "kind": recorded.kind.value,
            "provider": recorded.provider,
            "account": recorded.account,
            "id": recorded.remote_id,
            "phase": recorded.phase.value,
            "created_at": encode_time(recorded.created_at),
            "attrs": {name: plain_json(value) for name, value in recorded.attrs.items()},
            "facts": dict(recorded.facts),
            "depends_on": sorted(map(str, recorded.depends_on)),
        }
        for recorded in records
    ]


def shown_outputs(state: State) -> Mapping[str, Value]:
    """The outputs as values: what is sensitive is sealed."""
    return {name: decode_value(value) for name, value in state.outputs.items()}


def _ordered(state: State) -> list[Recorded]:
    return sorted(state.instances.values(), key=lambda recorded: recorded.address.order)


def intents_table(intents: Iterable[Intent]) -> str:
    """What is open, with the token that the object carries if there is one."""
    rows = (
        (
            str(each.seq),
            each.action,
            str(each.address),
            each.provider,
            f"{each.begun_at:%Y-%m-%d %H:%M:%S} UTC",
            each.token,
        )
        for each in intents
    )
    return render_table(("intent", "to", "address", "provider", "begun at", "token"), rows)


def intents_json(intents: Iterable[Intent]) -> str:
    rows = [
        {
            "seq": each.seq,
            "action": each.action,
            "address": str(each.address),
            "provider": each.provider,
            "begun_at": encode_time(each.begun_at),
            "token": each.token,
            "id": each.remote_id,
        }
        for each in intents
    ]
    return json.dumps(rows, indent=2) + "\n"


def _block(recorded: Recorded) -> str:
    phase = "" if recorded.phase is Phase.READY else f" ({recorded.phase.value})"
    rows = list(_rows(recorded))
    longest = max(width(name) for name, _ in rows)
    lines = [f"# {clean(str(recorded.address))}{phase}"]
    lines += [f"    {pad(name, longest)} = {text}" for name, text in rows]
    return "\n".join(lines) + "\n"


def _rows(recorded: Recorded) -> Iterator[tuple[str, str]]:
    yield "provider", clean(recorded.provider)
    yield "id", show(recorded.remote_id)
    for deposed in recorded.deposed:
        yield "still to be deleted", show(deposed.remote_id)
    for path, value in (*flat(recorded.attrs), *flat(recorded.facts)):
        yield clean(path), show(value)
