from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from gpuplan.core.address import Address
from gpuplan.core.desired import Kind
from gpuplan.core.state import Begun, Ended, Entry, Intent, Noted, Outcome, OutputsSet, Phase, Recorded, Renamed, State
from gpuplan.state.codec import verify
from gpuplan.state.journal import Folding, fold, replay
from gpuplan.testing.state_strategies import entries, states

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HERE = Address("clusters", "train", None, 0)
EMPTY = State(lineage="l1", serial=4, key=b"k" * 32)


def record(address: Address = HERE, remote_id: str = "n-1") -> Recorded:
    return Recorded(address, Kind.NODE, "cloud", "acct", remote_id, "t1", {}, {}, frozenset(), NOW, Phase.READY)


def intent(seq: int) -> Intent:
    return Intent(seq, "op", "create", HERE, Kind.NODE, "cloud", "acct", NOW, "t1", "", None)


def test_noted_instance_is_in_the_state() -> None:
    assert {HERE: record()} == fold(EMPTY, Noted(HERE, record())).instances


def test_instance_noted_as_gone_is_not() -> None:
    state = replay(EMPTY, [Noted(HERE, record()), Noted(HERE, None)])

    assert {} == state.instances


def test_begun_intent_stays_open_until_it_ends() -> None:
    open_state = replay(EMPTY, [Begun(intent(3)), Begun(intent(5)), Ended(3, Outcome.DONE)])

    assert {5: intent(5)} == open_state.intents
    assert 6 == open_state.next_seq


def test_renamed_instance_has_its_new_address_only() -> None:
    there = Address("clusters", "train", None, 1)

    state = replay(EMPTY, [Noted(HERE, record()), Renamed(HERE, there)])

    assert {there: record(there)} == state.instances


def test_outputs_replace_all_earlier_ones() -> None:
    state = replay(EMPTY, [OutputsSet({"a": 1, "b": 2}), OutputsSet({"b": 3})])

    assert {"b": 3} == state.outputs


def test_replay_keeps_the_serial_of_the_snapshot() -> None:
    assert 4 == replay(EMPTY, [Noted(HERE, record())]).serial


def test_fold_leaves_the_state_it_was_given_alone() -> None:
    before = replay(EMPTY, [Noted(HERE, record())])

    fold(before, Noted(HERE, None))

    assert {HERE: record()} == before.instances


def test_view_follows_later_folds_without_copying() -> None:
    folding = Folding(EMPTY)
    view = folding.view(9)

    folding.fold(Noted(HERE, record()))

    assert {HERE: record()} == view.instances
    assert 9 == view.serial


@given(states(), st.lists(entries(), max_size=12), st.data())
def test_replay_of_any_prefix_is_sound_and_keeps_every_open_intent(
    snapshot: State, journal: list[Entry], data: st.DataObject
) -> None:
    prefix = journal[: data.draw(st.integers(0, len(journal)))]
    still_open = set(snapshot.intents)
    for entry in prefix:
        if isinstance(entry, Begun):
            still_open.add(entry.intent.seq)
        if isinstance(entry, Ended):
            still_open.discard(entry.seq)

    state = replay(snapshot, prefix)

    assert () == verify(state)
    assert still_open == set(state.intents)


@given(states(), st.lists(entries(), max_size=8))
def test_replaying_one_entry_after_the_other_is_replaying_all(snapshot: State, journal: list[Entry]) -> None:
    step_by_step = snapshot
    for entry in journal:
        step_by_step = fold(step_by_step, entry)

    assert replay(snapshot, journal) == step_by_step


@given(states(), entries())
def test_folding_an_entry_twice_changes_nothing_more(snapshot: State, entry: Entry) -> None:
    once = fold(snapshot, entry)

    assert once == fold(once, entry)


def test_verify_names_what_is_wrong() -> None:
    broken = replace(EMPTY, key=b"short", instances={HERE: record(Address("volumes", "v"))}, intents={1: intent(7)})

    assert (
        "`key` has 5 bytes instead of 32",
        "`clusters.train.nodes[0]` holds the record of `volumes.v`",
        "intent 1 holds the intent 7",
        "intent 1 is not below `next_seq` 1",
    ) == verify(broken)
