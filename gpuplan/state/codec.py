"""State and journal entries as JSON text, and back with every field checked.

Used by all backends and by `state pull | push`. A snapshot is pretty on top and has one instance per line, so that its
diffs can be read; a `digest` at its end covers every byte before it. Text from outside is bounded in size and depth,
and whatever is wrong with it is a `StateCorrupt` that says where.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping

from gpuplan.core.diagnostics import Diagnostic
from gpuplan.core.errors import StateCorrupt, StateError
from gpuplan.core.state import FORMAT, Entry, State
from gpuplan.state.decoding import Decoder, expect_fields, expect_list, expect_number, expect_text, quoted
from gpuplan.state.encoding import Encoder, to_json

MAX_BYTES = 256 * 2**20
KEY_BYTES = 32

Document = dict[str, object]

UPGRADES: Mapping[int, Callable[[Document], Document]] = {}
"""From the format a snapshot was written in to the next one; applied one after the other."""

_STATE_FIELDS = frozenset(
    {"format", "instances", "intents", "key", "lineage", "next_seq", "outputs", "project", "serial"}
)
_ENCRYPTED_FIELDS = frozenset({"encrypted", "format", "lineage", "project", "serial"})
_DIGEST = re.compile(rb'\n  "digest": "([0-9a-f]{64})"\n\}\n\Z')


def corrupt(where: str, *facts: str) -> StateCorrupt:
    """`where` names the file, and the line where there is one."""
    return StateCorrupt(
        diagnostics=(
            Diagnostic(
                id=StateCorrupt.id,
                summary=f"`{where}` does not verify",
                facts=(*facts, "nothing was changed"),
                hint="this says what can be saved, before it does anything",
                commands=("gpuplan state recover",),
            ),
        )
    )


def encode_state(state: State) -> bytes:
    """A whole snapshot. The order of instances is that of their addresses."""
    members = _encrypted_members(state) if state.encrypted else _members(state)
    body = "{\n" + "".join(f'  "{name}": {text},\n' for name, text in members.items())
    content = body[:-1].encode("ascii")
    return content + b'\n  "digest": "' + _digest(content).encode() + b'"\n}\n'


def _encrypted_members(state: State) -> dict[str, str]:
    return {
        "encrypted": to_json(state.encrypted),
        "format": to_json(FORMAT),
        "lineage": to_json(state.lineage),
        **({"moved_to": to_json(state.moved_to)} if state.moved_to else {}),
        "project": to_json(state.project),
        "serial": to_json(state.serial),
    }


def _members(state: State) -> dict[str, str]:
    encoder = Encoder()
    instances = sorted(state.instances.values(), key=lambda recorded: recorded.address.order)
    intents = sorted(state.intents.values(), key=lambda intent: intent.seq)
    outputs = (f"{to_json(name)}: {to_json(value)}" for name, value in sorted(state.outputs.items()))
    expired = sorted(state.expired.values(), key=lambda one: one.address.order)
    return {
        **({"expired": _block("[]", map(encoder.expired, expired))} if expired else {}),
        "format": to_json(FORMAT),
        "instances": _block("[]", map(encoder.recorded, instances)),
        "intents": _block("[]", map(encoder.intent, intents)),
        "key": to_json(state.key.hex()),
        "lineage": to_json(state.lineage),
        **({"moved_to": to_json(state.moved_to)} if state.moved_to else {}),
        "next_seq": to_json(state.next_seq),
        "outputs": _block("{}", outputs),
        "project": to_json(state.project),
        "serial": to_json(state.serial),
    }


def without_digest(content: bytes) -> bytes:
    """The same snapshot, free to be edited: what `state pull` prints and `state push` takes."""
    match = _DIGEST.search(content)
    return content if match is None else content[: match.start()].removesuffix(b",") + b"\n}\n"


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=32).hexdigest()


def _block(brackets: str, lines: Iterable[str]) -> str:
    inner = ",\n    ".join(lines)
    return f"{brackets[0]}\n    {inner}\n  {brackets[1]}" if inner else brackets


def decode_state(content: bytes, where: str) -> State:
    """Read a snapshot; one without a digest (edited by hand) passes, one with a wrong digest does not.

    Raises StateCorrupt, and StateError when it was written by a newer gpuplan.
    """
    document = _current_format(_parse(content, where), where)
    try:
        _check_digest(content, document)
        state = _state(document)
    except (ValueError, RecursionError) as exc:
        raise corrupt(where, str(exc)) from exc
    if problems := verify(state):
        raise corrupt(where, *problems[:5])
    return state


def _parse(content: bytes, where: str) -> Document:
    if len(content) > MAX_BYTES:
        raise corrupt(where, f"it has {len(content)} bytes; a state has at most {MAX_BYTES}")
    try:
        document: object = json.loads(content.decode("utf-8"))
    except json.JSONDecodeError as exc:
        raise corrupt(where, f"line {exc.lineno}, column {exc.colno}: {exc.msg}") from exc
    except UnicodeDecodeError as exc:
        raise corrupt(where, f"byte {exc.start} is not UTF-8") from exc
    except (ValueError, RecursionError) as exc:
        raise corrupt(where, "it is nested too deeply, or a number in it is too long") from exc
    if not isinstance(document, dict):
        raise corrupt(where, "it is not a JSON object")
    return document


def _current_format(document: Document, where: str) -> Document:
    written = document.get("format")
    if type(written) is not int or written < 1:
        raise corrupt(where, f"`format` is {quoted(written)}")
    if written > FORMAT:
        raise StateError(
            diagnostics=(
                Diagnostic(
                    id="state-too-new",
                    summary=f"`{where}` was written by a newer gpuplan",
                    facts=(f"it has format {written}, this gpuplan reads up to {FORMAT}", "nothing was changed"),
                    hint="use the gpuplan that wrote it, or a newer one",
                ),
            )
        )
    while written < FORMAT:
        document = UPGRADES[written](document)
        written += 1
    return document


def _check_digest(content: bytes, document: Document) -> None:
    if document.pop("digest", None) is None:
        return
    match = _DIGEST.search(content)
    if match is None or match[1].decode() != _digest(content[: match.start()]):
        raise ValueError("its `digest` does not fit: the file is damaged, or was edited without removing that line")


def _state(document: Document) -> State:
    moved_to = expect_text({"moved_to": document.pop("moved_to", "")}, "moved_to")
    if "encrypted" in document:
        return _encrypted_state(document, moved_to)
    tombstones = expect_list({"expired": document.pop("expired", [])}, "expired")
    fields = expect_fields(document, _STATE_FIELDS)
    decoder = Decoder()
    outputs = fields["outputs"]
    instances = {}
    for number, raw in enumerate(expect_list(fields, "instances"), 1):
        recorded = decoder.located(f"instance {number}", raw, decoder.recorded)
        if recorded.address in instances:
            raise ValueError(f"instance {number}: `{recorded.address}` is there twice")
        instances[recorded.address] = recorded
    intents = {}
    for number, raw in enumerate(expect_list(fields, "intents"), 1):
        intent = decoder.located(f"intent {number}", raw, decoder.intent)
        if intent.seq in intents:
            raise ValueError(f"intent {number}: seq {intent.seq} is there twice")
        intents[intent.seq] = intent
    expired = {}
    for number, raw in enumerate(tombstones, 1):
        one = decoder.located(f"expired instance {number}", raw, decoder.expired)
        expired[one.address] = one
    return State(
        lineage=expect_text(fields, "lineage"),
        serial=expect_number(fields, "serial"),
        key=bytes.fromhex(expect_text(fields, "key")),
        project=expect_text(fields, "project"),
        instances=instances,
        intents=intents,
        outputs=decoder.json_mapping("outputs", outputs),
        next_seq=expect_number(fields, "next_seq"),
        moved_to=moved_to,
        expired=expired,
    )


def _encrypted_state(document: Document, moved_to: str) -> State:
    fields = expect_fields(document, _ENCRYPTED_FIELDS)
    return State(
        lineage=expect_text(fields, "lineage"),
        serial=expect_number(fields, "serial"),
        key=bytes(KEY_BYTES),
        project=expect_text(fields, "project"),
        moved_to=moved_to,
        encrypted=expect_text(fields, "encrypted"),
    )


def verify(state: State) -> tuple[str, ...]:
    """What every state promises and this one breaks; empty when it is sound."""
    problems = []
    if not state.lineage:
        problems.append("`lineage` is empty")
    if state.serial < 0:
        problems.append(f"`serial` is {state.serial}")
    if len(state.key) != KEY_BYTES:
        problems.append(f"`key` has {len(state.key)} bytes instead of {KEY_BYTES}")
    problems += [
        f"`{address}` holds the record of `{recorded.address}`"
        for address, recorded in state.instances.items()
        if address != recorded.address
    ]
    problems += [
        f"intent {seq} holds the intent {intent.seq}" for seq, intent in state.intents.items() if seq != intent.seq
    ]
    problems += [
        f"intent {seq} is not below `next_seq` {state.next_seq}"
        for seq in state.intents
        if not 0 < seq < state.next_seq
    ]
    return tuple(problems)


def encode_entry(entry: Entry, encoder: Encoder | None = None) -> str:
    """One line of a journal, without its frame. Entries written with one `encoder` share what they have in common."""
    return (encoder or Encoder()).entry(entry)


def decode_entry(text: str, decoder: Decoder | None = None) -> Entry:
    """Raises ValueError that says what is wrong. Entries read with one `decoder` share what they have in common."""
    try:
        return (decoder or Decoder()).entry(json.loads(text))
    except RecursionError as exc:
        raise ValueError("it is nested too deeply") from exc


def encode_header(base: State) -> str:
    """The first line of the journal that belongs to this snapshot."""
    return to_json({"format": FORMAT, "lineage": base.lineage, "serial": base.serial})


def decode_header(text: str) -> tuple[str, int]:
    """Lineage and serial of the snapshot a journal belongs to. Raises ValueError."""
    fields = expect_fields(json.loads(text), frozenset({"format", "lineage", "serial"}))
    if fields["format"] != FORMAT:
        raise ValueError(f"its format is {quoted(fields['format'])}, this gpuplan reads {FORMAT}")
    return expect_text(fields, "lineage"), expect_number(fields, "serial")
