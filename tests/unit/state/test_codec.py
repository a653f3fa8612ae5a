import json
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuplan.core.address import Address
from gpuplan.core.desired import Kind
from gpuplan.core.errors import StateCorrupt, StateError
from gpuplan.core.secret import Sealed, Secret
from gpuplan.core.state import Deposed, Entry, Intent, Noted, Phase, Recorded, State
from gpuplan.core.values import Attrs, Ref
from gpuplan.state import document
from gpuplan.state.codec import (
    MAX_BYTES,
    decode_entry,
    decode_header,
    decode_state,
    encode_entry,
    encode_header,
    encode_state,
    without_digest,
)
from gpuplan.state.decoding import MAX_DEPTH
from gpuplan.state.encoding import Encoder
from gpuplan.testing.state_strategies import entries, states

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def node(number: int, attrs: Attrs | None = None) -> Recorded:
    return Recorded(
        address=Address("clusters", "train", None, number),
        kind=Kind.NODE,
        provider="cloud",
        account="acct",
        remote_id=f"n-{number}",
        token="t1",
        attrs={"gpu": "H100-80GB:8", "volumes": [Ref(Address("volumes", "data"), "v-1")]} if attrs is None else attrs,
        facts={"public_ip": f"10.0.0.{number}"},
        depends_on=frozenset({Address("volumes", "data")}),
        created_at=NOW,
        phase=Phase.READY,
    )


def state_of(*recorded: Recorded) -> State:
    return State("l1", 4, b"k" * 32, "llama", {each.address: each for each in recorded}, outputs={"a": 1, "b": [2]})


def problem(content: bytes) -> str:
    with pytest.raises(StateCorrupt) as caught:
        decode_state(content, "s.json")
    (finding,) = caught.value.diagnostics
    assert "`s.json` does not verify" == finding.summary
    return finding.facts[0]


def edited(content: bytes, old: bytes, new: bytes) -> bytes:
    plain = without_digest(content)
    assert old in plain
    return plain.replace(old, new, 1)


@given(states())
def test_decoded_state_equals_the_encoded_one(state: State) -> None:
    assert state == decode_state(encode_state(state), "s.json")


@given(states())
def test_snapshot_is_json_that_any_tool_reads(state: State) -> None:
    content = json.loads(encode_state(state))

    assert state.serial == content["serial"]
    assert len(state.instances) == len(content["instances"])


@given(entries())
def test_decoded_entry_equals_the_encoded_one(entry: Entry) -> None:
    assert entry == decode_entry(encode_entry(entry))


@given(entries())
def test_entry_is_written_with_sorted_keys_and_in_ascii(entry: Entry) -> None:
    text = encode_entry(entry)

    assert json.dumps(json.loads(text), sort_keys=True) == text


@given(states(), st.data())
def test_flipped_byte_of_a_snapshot_never_passes_for_another_state(state: State, data: st.DataObject) -> None:
    content = bytearray(encode_state(state))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))

    try:
        decoded = decode_state(bytes(content), "s.json")
    except StateError:
        return
    assert state == decoded


@given(states(), st.data())
def test_cut_snapshot_is_corrupt(state: State, data: st.DataObject) -> None:
    content = encode_state(state)
    cut = content[: data.draw(st.integers(0, len(content) - 3))]

    with pytest.raises(StateCorrupt):
        decode_state(cut, "s.json")


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_arbitrary_bytes_are_corrupt_and_nothing_else(content: bytes) -> None:
    with pytest.raises(StateCorrupt):
        decode_state(content, "s.json")


def test_every_instance_is_one_line_in_address_order() -> None:
    lines = encode_state(state_of(node(10), node(2))).decode().splitlines()

    assert ["nodes[2]", "nodes[10]"] == [line.split("train.")[1].split('"')[0] for line in lines if "n-" in line]


def test_changing_one_instance_changes_its_line_and_the_digest() -> None:
    before = encode_state(state_of(node(0), node(1), node(2))).splitlines()
    after = encode_state(state_of(node(0), replace(node(1), phase=Phase.TAINTED), node(2))).splitlines()

    changed = [number for number, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]

    assert 2 == len(changed)


def test_equal_states_are_equal_bytes_whatever_their_order() -> None:
    assert encode_state(state_of(node(0), node(1))) == encode_state(state_of(node(1), node(0)))


def test_equal_attributes_become_one_object() -> None:
    state = decode_state(encode_state(state_of(node(0), node(1))), "s.json")
    one, other = state.instances.values()

    assert one.attrs is other.attrs
    assert one.depends_on is other.depends_on


def test_attributes_that_only_compare_equal_stay_apart() -> None:
    state = state_of(node(0, {"a": 1}), node(1, {"a": True}), node(2, {"a": 1.0}))

    decoded = decode_state(encode_state(state), "s.json")

    assert ["1", "True", "1.0"] == [repr(each.attrs["a"]) for each in decoded.instances.values()]


def test_attribute_with_a_dollar_key_of_its_own_survives() -> None:
    attrs: Attrs = {"options": {"$ref": "#/defs/a", "$schema": {"$map": 1}}}

    decoded = decode_state(encode_state(state_of(node(0, attrs))), "s.json")

    assert attrs == next(iter(decoded.instances.values())).attrs


def test_secret_is_written_as_its_seal_only() -> None:
    content = encode_state(state_of(node(0, {"env": {"TOKEN": Sealed("ab12")}})))

    assert b'{"env": {"TOKEN": {"$sealed": "ab12"}}}' in content


def test_bare_secret_is_never_written() -> None:
    with pytest.raises(TypeError, match="must be sealed"):
        encode_state(state_of(node(0, {"env": {"TOKEN": Secret("hunter2")}})))


def test_number_that_json_lacks_does_not_lose_the_record() -> None:
    recorded = replace(node(0), facts={"price": float("nan"), "hosts": ["a", float("inf"), 1.5]})

    entry = decode_entry(encode_entry(Noted(recorded.address, recorded)))

    assert Noted(recorded.address, replace(recorded, facts={"price": None, "hosts": ["a", None, 1.5]})) == entry


def test_state_without_its_digest_may_have_been_edited() -> None:
    content = edited(encode_state(state_of(node(0))), b'"provider": "cloud"', b'"provider": "other"')

    state = decode_state(content, "s.json")

    assert ["other"] == [each.provider for each in state.instances.values()]


def test_state_edited_under_its_digest_is_corrupt() -> None:
    content = encode_state(state_of(node(0))).replace(b'"provider": "cloud"', b'"provider": "other"')

    assert problem(content).startswith("its `digest` does not fit")


def test_state_of_a_newer_gpuplan_says_so() -> None:
    content = edited(encode_state(state_of()), b'"format": 1', b'"format": 2')

    with pytest.raises(StateError) as caught:
        decode_state(content, "s.json")

    assert "`s.json` was written by a newer gpuplan" == str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (b'"kind": "node"', b'"kind": "pod"', "instance 1 ('clusters.train.nodes[0]'): `kind` is 'pod', not one of"),
        (b'"remote_id": "n-0"', b'"remote_id": 7', "instance 1 ('clusters.train.nodes[0]'): `remote_id` is 7 instead"),
        (b'"token": "t1"', b'"tokn": "t1"', "instance 1 ('clusters.train.nodes[0]'): `token` is missing"),
        (b'"token": "t1"', b'"token": "t1", "x": 1', "instance 1 ('clusters.train.nodes[0]'): 'x' is not known"),
        (b"clusters.train.nodes[0]", b"train", "instance 1 ('train'): `address` is 'train' instead of an address"),
        (b"2026-01-01T00:00:00Z", b"2026-01-01T00:00:00", "instance 1 ('clusters.train.nodes[0]'): `created_at` is"),
        (b'"depends_on": ["volumes.data"]', b'"depends_on": [{}]', "instance 1 ('clusters.train.nodes[0]'): `depends"),
        (b'"deposed": []', b'"deposed": [1]', "instance 1 ('clusters.train.nodes[0]'): 1 is not an object"),
        (b'"attrs": {', b'"attrs": 5, "y": {', "instance 1 ('clusters.train.nodes[0]'): 'y' is not known"),
        (
            b'"create_before_destroy": false',
            b'"create_before_destroy": 0',
            "instance 1 ('clusters.train.nodes[0]'): `cr",
        ),
        (b'"serial": 4', b'"serial": true', "`serial` is True instead of a whole number"),
        (b'"serial": 4', b'"serial": -4', "`serial` is -4"),
        (b'"next_seq": 1', b'"next_seq": "1"', "`next_seq` is '1' instead of a whole number"),
        (b'"lineage": "l1"', b'"lineage": ""', "`lineage` is empty"),
        (b'"project": "llama",\n', b"", "`project` is missing"),
        (b'"key": "6b', b'"key": "', "`key` has 31 bytes instead of 32"),
        (b'"format": 1', b'"format": "1"', "`format` is '1'"),
        (b'"instances": [', b'"instances": [[],', "instance 1: [] is not an object"),
        (b'"intents": []', b'"intents": {}', "`intents` is {} instead of a list"),
        (b'"intents": []', b'"intents": [{"seq": 1}]', "intent 1: `account` is missing"),
        (b'"outputs": {', b'"outputs": 1, "z": {', "'z' is not known"),
        (b'"format": 1,', b'"format": 1', "line 3, column 3: Expecting ',' delimiter"),
        (b'"llama"', b'"\xff"', "byte "),
    ],
)
def test_damage_is_told_with_its_place(old: bytes, new: bytes, expected: str) -> None:
    content = edited(encode_state(state_of(node(0))), old, new)

    assert expected == problem(content)[: len(expected)]


def test_instance_that_is_there_twice_is_corrupt() -> None:
    content = edited(encode_state(state_of(node(0), node(1))), b"train.nodes[1]", b"train.nodes[0]")

    assert "instance 2: `clusters.train.nodes[0]` is there twice" == problem(content)


def test_intent_that_is_there_twice_is_corrupt() -> None:
    begun = Intent(1, "op", "create", Address("volumes", "v"), Kind.VOLUME, "cloud", "acct", NOW, "t", "", None)
    content = edited(
        encode_state(replace(state_of(), intents={1: begun, 2: replace(begun, seq=2)}, next_seq=3)),
        b'"seq": 2',
        b'"seq": 1',
    )

    assert "intent 2: seq 1 is there twice" == problem(content)


def test_control_characters_of_a_hostile_state_are_escaped_in_the_message() -> None:
    content = edited(encode_state(state_of(node(0))), b'"kind": "node"', b'"kind": "\\u001b[2J"')

    assert "'\\x1b[2J'" in problem(content)


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 5_000, 200_000])
def test_deeply_nested_value_is_corrupt(depth: int) -> None:
    nested = b'"facts": {"a": ' + b"[" * depth + b"]" * depth + b"}"
    content = edited(encode_state(state_of(node(0))), b'"facts": {"public_ip": "10.0.0.0"}', nested)

    assert problem(content)


def test_state_beyond_all_measure_is_not_read() -> None:
    assert f"it has {MAX_BYTES + 1} bytes; a state has at most {MAX_BYTES}" == problem(bytes(MAX_BYTES + 1))


def test_encoder_that_forgets_what_is_shared_writes_the_same() -> None:
    encoder = Encoder()
    notes = [
        Noted(each.address, replace(each, depends_on=frozenset({Address("volumes", f"v{each.address.node}")})))
        for each in (node(number, {"n": number}) for number in range(5_000))
    ]

    first = [encode_entry(note, encoder) for note in notes]

    assert first == [encode_entry(note) for note in notes]


def test_number_of_a_million_digits_is_corrupt() -> None:
    assert problem(b'{"format": ' + b"9" * 1_000_000 + b"}")


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        '{"noted": null}',
        '{"noted": {}}',
        '{"gone": 1}',
        '{"ended": {"seq": 1, "outcome": "maybe"}}',
        '{"ended": {"seq": "1", "outcome": "done"}}',
        '{"renamed": {"source": "volumes.a"}}',
        '{"outputs": []}',
        '{"begun": {"seq": 1}}',
        '{"forgot": 1}',
        '{"gone": "volumes.a", "ended": 1}',
        '{"outputs": {"a": ' + "[" * 100_000 + "]" * 100_000 + "}}",
    ],
)
def test_malformed_entry_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode_entry(text)


def test_header_names_the_snapshot() -> None:
    assert ("l1", 4) == decode_header(encode_header(state_of()))


def test_header_of_another_format_is_refused() -> None:
    with pytest.raises(ValueError, match="its format is 2"):
        decode_header('{"format": 2, "lineage": "l1", "serial": 4}')


@pytest.mark.parametrize(
    ("noun", "shape"),
    [
        (Recorded, document.RecordedDocument),
        (Deposed, document.DeposedDocument),
        (Intent, document.IntentDocument),
    ],
)
def test_document_has_every_field_of_its_noun(noun: type, shape: type) -> None:
    assert {each.name for each in fields(noun)} == set(get_type_hints(shape))


def test_snapshot_has_every_field_of_the_state() -> None:
    written = {each.name for each in fields(State)} - {"encrypted"}
    assert written | {"format", "digest"} == set(get_type_hints(document.StateDocument))
