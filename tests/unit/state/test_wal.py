import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuplan.core.address import Address
from gpuplan.core.errors import StateCorrupt
from gpuplan.core.state import Entry, Noted, State
from gpuplan.state.codec import MAX_BYTES
from gpuplan.state.wal import Framing, entries_since, read_journal
from gpuplan.testing.state_strategies import entries

BASE = State(lineage="l1", serial=4, key=b"k" * 32)
Appends = list[list[Entry]]
appends: st.SearchStrategy[Appends] = st.lists(st.lists(entries(), min_size=1, max_size=3), min_size=1, max_size=3)


def gone(name: str) -> Entry:
    return Noted(Address("volumes", name), None)


def written(batches: Appends) -> bytes:
    framing, content = Framing.begin(BASE)
    return content + b"".join(framing.frame(batch) for batch in batches)


def flat(batches: Appends) -> list[Entry]:
    return [entry for batch in batches for entry in batch]


def last_line_begins(content: bytes | bytearray) -> int:
    return content.rindex(b"\n", 0, -1) + 1


def problem(content: bytes) -> str:
    with pytest.raises(StateCorrupt) as caught:
        read_journal(content, "j")
    return str(caught.value)


@given(appends)
def test_journal_reads_back_what_was_appended(batches: Appends) -> None:
    content = written(batches)

    journal = read_journal(content, "j")

    assert ("l1", 4, flat(batches)) == (journal.lineage, journal.serial, journal.entries)
    assert len(content) == journal.sound


@given(appends, st.data())
def test_journal_cut_at_any_byte_gives_the_records_before(batches: Appends, data: st.DataObject) -> None:
    content = written(batches)
    begin = content.index(b"\n") + 1
    cut = data.draw(st.integers(begin, len(content)))
    whole_lines = content[:cut].count(b"\n") - 1

    assert flat(batches)[:whole_lines] == read_journal(content[:cut], "j").entries


@given(appends, st.data())
def test_flipped_byte_before_the_last_line_is_never_silent(batches: Appends, data: st.DataObject) -> None:
    content = bytearray(written([*batches, [gone("last")]]))
    place = data.draw(st.integers(0, last_line_begins(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))

    with pytest.raises(StateCorrupt):
        read_journal(bytes(content), "j")


@given(appends, st.data())
def test_damaged_last_line_is_dropped_or_corrupt_and_never_another_record(
    batches: Appends, data: st.DataObject
) -> None:
    content = bytearray(written(batches))
    place = data.draw(st.integers(last_line_begins(content), len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))

    try:
        journal = read_journal(bytes(content), "j")
    except StateCorrupt:
        return
    assert flat(batches)[:-1] == journal.entries


@given(appends, st.data())
def test_missing_line_is_noticed(batches: Appends, data: st.DataObject) -> None:
    lines = written([*batches, [gone("b")], [gone("c")]]).splitlines(keepends=True)
    del lines[data.draw(st.integers(1, len(lines) - 3))]

    problem(b"".join(lines))


def test_lines_that_changed_places_are_noticed() -> None:
    header, one, other = written([[gone("a")], [gone("b")]]).splitlines(keepends=True)

    assert "`j:2` does not verify" == problem(header + other + one)


def test_damage_names_the_line() -> None:
    content = written([[gone("a")], [gone("b")], [gone("c")]])

    assert "`j:3` does not verify" == problem(content.replace(b"volumes.b", b"volumes.x"))


def test_blocks_of_the_last_append_that_never_reached_the_disk_are_dropped() -> None:
    before = written([[gone("a")]])
    content = written([[gone("a")], [gone("b"), gone("c" * 60), gone("d")]])
    middle = content.index(b"c" * 60)
    torn = content[:middle] + b"\0" * 40 + content[middle + 40 :]

    assert [gone("a"), gone("b")] == read_journal(torn, "j").entries
    assert len(before) < read_journal(torn, "j").sound < middle


def test_zeros_before_the_last_append_are_damage() -> None:
    content = written([[gone("a" * 60)], [gone("b")]])

    assert "`j:2` does not verify" == problem(content.replace(b"a" * 40, b"\0" * 40))


def test_lost_line_end_does_not_pass_for_a_torn_record() -> None:
    content = bytearray(written([[gone("a")], [gone("b")]]))
    content[last_line_begins(content) - 1] = ord("x")

    assert "`j:2` does not verify" == problem(bytes(content))


@pytest.mark.parametrize("content", [b"", b"\n", b"x\n", b"00000000+2 {}\n", b'1c291ca3+3f {"format": 1'])
def test_journal_without_its_first_line_is_corrupt(content: bytes) -> None:
    assert "`j:1` does not verify" == problem(content)


@given(st.binary(max_size=100))
def test_arbitrary_bytes_are_corrupt_and_nothing_else(content: bytes) -> None:
    assert "`j:1` does not verify" == problem(content)


def test_lost_end_of_the_last_line_is_damage() -> None:
    content = written([[gone("a")]])

    assert "`j:2` does not verify" == problem(content[:-1] + b"x")


def framed(record: bytes, length: int) -> bytes:
    """A second line whose checksum fits, whatever it says."""
    header = written([])
    line = b"+%x %s" % (length, record)
    return header + b"%08x%s\n" % (zlib.crc32(line, zlib.crc32(header) + 1), line)


@pytest.mark.parametrize("content", [framed(b"{}", 2), framed(b'{"forgot": 1}', 13), framed(b"[", 1), framed(b"{}", 1)])
def test_last_line_that_verifies_but_says_nothing_we_know_is_damage(content: bytes) -> None:
    assert "`j:2` does not verify" == problem(content)


def test_journal_beyond_all_measure_is_not_read() -> None:
    assert "`j` does not verify" == problem(bytes(MAX_BYTES + 1))


def test_lines_of_another_journal_do_not_fit() -> None:
    other, _ = Framing.begin(replace(BASE, serial=5))

    assert "`j:2` does not verify" == problem(written([]) + other.frame([gone("a")]) + other.frame([gone("b")]))


@given(appends, appends)
def test_resumed_journal_goes_on_where_it_stood(first: Appends, second: Appends) -> None:
    content = written(first)
    framing = Framing.resume(content, read_journal(content, "j"))

    longer = content + b"".join(framing.frame(batch) for batch in second)

    assert flat(first) + flat(second) == read_journal(longer, "j").entries


def test_torn_journal_is_resumed_from_its_sound_part() -> None:
    torn = written([[gone("a")], [gone("b")]])[:-5]
    journal = read_journal(torn, "j")
    framing = Framing.resume(torn, journal)

    longer = torn[: journal.sound] + framing.frame([gone("c")])

    assert [gone("a"), gone("c")] == read_journal(longer, "j").entries


def test_journal_of_its_snapshot_counts() -> None:
    journal = read_journal(written([[gone("a")]]), "j")

    assert [gone("a")] == entries_since(BASE, journal, "j")


def test_journal_that_is_in_the_snapshot_already_does_not_count() -> None:
    journal = read_journal(written([[gone("a")]]), "j")

    assert () == entries_since(replace(BASE, serial=5), journal, "j")


@pytest.mark.parametrize(
    "snapshot", [None, replace(BASE, serial=3), replace(BASE, serial=6), replace(BASE, lineage="l2")]
)
def test_journal_of_another_snapshot_is_corrupt(snapshot: State | None) -> None:
    journal = read_journal(written([[gone("a")]]), "j")

    with pytest.raises(StateCorrupt):
        entries_since(snapshot, journal, "j")
