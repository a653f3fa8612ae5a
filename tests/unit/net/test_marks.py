import re

from hypothesis import given
from hypothesis import strategies as st

from gpuplan.core.address import Address
from gpuplan.core.marks import Mark
from gpuplan.net.marks import (
    from_labels,
    from_name,
    from_tags,
    from_text,
    name_in_text,
    to_labels,
    to_name,
    to_tags,
    to_text,
)

tokens = st.from_regex(r"[a-z][a-z0-9]{19}", fullmatch=True)
words = st.text(min_size=1, max_size=12).filter(lambda text: text.strip() == text)
addresses = st.builds(Address, st.just("clusters"), st.just("train"), st.none() | words | st.integers(0, 9), st.just(3))
marks = st.builds(Mark, tokens, words, words, words, addresses)
MARK = Mark("t0000000000000000001", "llama", "default", "lineage", Address("clusters", "train", "eu west", 3))


@given(marks)
def test_a_mark_comes_back_from_tags_and_from_texts(mark: Mark) -> None:
    assert mark == from_tags(to_tags(mark))
    assert mark == from_text(to_text("train-3", mark))
    assert "train-3" == name_in_text(to_text("train-3", mark))


@given(marks, st.integers(0, 300))
def test_a_text_with_little_room_for_a_mark_keeps_the_token(mark: Mark, limit: int) -> None:
    text = to_text("data", mark, limit=limit)
    back = from_text(text)

    assert len(text) <= max(limit, len(to_text("data", Mark(mark.token))))
    assert back is not None
    assert mark.token == back.token
    assert "data" == name_in_text(text)


@given(marks)
def test_a_mark_comes_back_from_labels_as_far_as_it_fits(mark: Mark) -> None:
    labels = to_labels(mark)
    back = from_labels({**labels, "team": "x"})

    assert all(re.fullmatch(r"[A-Za-z0-9_.-]{1,63}", value) for value in labels.values())
    assert back is not None
    assert mark.token == back.token
    assert back.project in ("", mark.project)
    assert back.address in (None, mark.address)


@given(marks, st.text("abcdefghij-", max_size=60))
def test_the_token_survives_any_name(mark: Mark, name: str) -> None:
    named = to_name(name, mark, limit=40)

    assert len(named) <= 40
    assert Mark(mark.token) == from_name(named)


def test_a_name_without_dashes_carries_the_token_too() -> None:
    named = to_name("train-0-data", MARK, limit=30, joint="_")

    assert f"train_0_d_{MARK.token}" == named
    assert Mark(MARK.token) == from_name(named)


def test_what_does_not_fit_is_left_out_and_the_token_never_is() -> None:
    short = from_tags(to_tags(MARK, limit=34))

    assert short is not None
    assert (MARK.token, None) == (short.token, short.address)


def test_tags_of_others_are_no_mark() -> None:
    assert from_tags(["team=x", "gpuplan", "gpuplan-project=llama"]) is None
    assert from_name("train-0") is None
    assert from_labels({"token": "t0000000000000000001"}) is None
