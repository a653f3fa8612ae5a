import json
from pathlib import Path

from hypothesis import given
from jsonschema import Draft202012Validator

from gpuplan.core.state import Entry, State
from gpuplan.state.codec import encode_entry, encode_header, encode_state, without_digest
from gpuplan.state.json_schema import state_schema
from gpuplan.testing.state_strategies import entries, states

SCHEMA = Path(__file__).parents[3] / "schemas" / "state.v1.json"
SNAPSHOT = Draft202012Validator(json.loads(SCHEMA.read_text()))


def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator({**state_schema(), "$ref": f"#/$defs/{name}"})


def test_published_schema_is_up_to_date() -> None:
    assert state_schema() == json.loads(SCHEMA.read_text())


@given(states())
def test_every_snapshot_and_header_follows_the_published_schema(state: State) -> None:
    SNAPSHOT.validate(json.loads(encode_state(state)))
    SNAPSHOT.validate(json.loads(without_digest(encode_state(state))))
    validator("Header").validate(json.loads(encode_header(state)))


@given(entries())
def test_every_journal_entry_follows_the_published_schema(entry: Entry) -> None:
    validator("Entry").validate(json.loads(encode_entry(entry)))


def test_schema_refuses_what_the_codec_refuses() -> None:
    assert not SNAPSHOT.is_valid({})
    assert not validator("Entry").is_valid({"forgot": 1})
    assert not validator("Entry").is_valid({"noted": {"address": "volumes.a"}})
