"""hypothesis strategies for states and journals, for whoever tests a backend or a command that edits the state."""

import string
from datetime import UTC, datetime

from hypothesis import strategies as st

from gpuplan.core.address import Address
from gpuplan.core.desired import SECTIONS, Kind
from gpuplan.core.secret import Sealed
from gpuplan.core.state import (
    Begun,
    Buried,
    Deposed,
    Ended,
    Entry,
    Expired,
    Intent,
    Noted,
    Outcome,
    OutputsSet,
    Phase,
    Recorded,
    Renamed,
    State,
)
from gpuplan.core.values import JsonValue, Ref, Value

texts = st.text(max_size=12)
words = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=8)
moments = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))
scalars: st.SearchStrategy[JsonValue] = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
)
json_values: st.SearchStrategy[JsonValue] = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)


def addresses() -> st.SearchStrategy[Address]:
    """Few enough that entries of one journal meet at the same address."""
    keys: st.SearchStrategy[str | int | None] = st.none() | st.integers(0, 3) | st.sampled_from(["eu", 'a"b', "ü"])
    return st.builds(
        Address, st.sampled_from(sorted(SECTIONS)), st.sampled_from(["a", "b"]), keys, st.none() | st.integers(0, 2)
    )


references: st.SearchStrategy[Value] = st.builds(Ref, addresses(), st.none() | words) | st.builds(Sealed, words)
values: st.SearchStrategy[Value] = st.recursive(
    st.one_of(scalars, references),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts | st.just("$ref"), inner, max_size=3),
    max_leaves=6,
)
attributes = st.dictionaries(texts, values, max_size=4)
facts = st.dictionaries(texts, json_values, max_size=3)
deposed = st.builds(Deposed, texts, texts, st.sampled_from(Kind), texts, texts)


def records(at: st.SearchStrategy[Address] | None = None) -> st.SearchStrategy[Recorded]:
    return st.builds(
        Recorded,
        address=at or addresses(),
        kind=st.sampled_from(Kind),
        provider=texts,
        account=texts,
        remote_id=texts,
        token=texts,
        attrs=attributes,
        facts=facts,
        depends_on=st.frozensets(addresses(), max_size=3),
        created_at=moments,
        phase=st.sampled_from(Phase),
        deposed=st.lists(deposed, max_size=2).map(tuple),
        create_before_destroy=st.booleans(),
    )


def expired() -> st.SearchStrategy[Expired]:
    return st.builds(
        Expired,
        address=addresses(),
        provider=texts,
        attrs=attributes,
        ttl_seconds=st.floats(0, 1e9),
        expired_at=moments,
    )


def intents(seq: st.SearchStrategy[int]) -> st.SearchStrategy[Intent]:
    return st.builds(
        Intent,
        seq=seq,
        operation=texts,
        action=words,
        address=addresses(),
        kind=st.sampled_from(Kind),
        provider=texts,
        account=texts,
        begun_at=moments,
        token=texts,
        remote_id=texts,
        draft=st.none() | records(),
        witness=texts,
    )


def entries() -> st.SearchStrategy[Entry]:
    seqs = st.integers(1, 8)
    return st.one_of(
        records().map(lambda recorded: Noted(recorded.address, recorded)),
        st.builds(Noted, addresses(), st.none()),
        intents(seqs).map(Begun),
        st.builds(Ended, seqs, st.sampled_from(Outcome)),
        st.dictionaries(texts, json_values, max_size=2).map(OutputsSet),
        st.builds(Renamed, addresses(), addresses()),
        expired().map(lambda one: Buried(one.address, one)),
        st.builds(Buried, addresses(), st.none()),
    )


@st.composite
def states(draw: st.DrawFn) -> State:
    """Sound ones: every record under its own address, every intent below the next number."""
    recorded = draw(st.lists(records(), max_size=4))
    begun = draw(st.lists(intents(st.integers(1, 8)), max_size=3))
    return State(
        lineage=draw(words),
        serial=draw(st.integers(0, 2**40)),
        key=draw(st.binary(min_size=32, max_size=32)),
        project=draw(texts),
        instances={each.address: each for each in recorded},
        intents={each.seq: each for each in begun},
        outputs=draw(st.dictionaries(texts, json_values, max_size=3)),
        next_seq=draw(st.integers(9, 20)),
        moved_to=draw(st.just("") | texts),
        expired={each.address: each for each in draw(st.lists(expired(), max_size=2))},
    )
