"""Reading one file. Refused files are the golden pages of `bad_input`; here is what is accepted, and how it is read."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuplan.core.diagnostics import Sink
from gpuplan.core.values import JsonValue
from gpuplan.spec.compose import NativeParser, PythonParser, Unreadable, compose
from gpuplan.spec.scalars import Template
from gpuplan.spec.source import SourceFile, read_any, read_values


def values(text: str) -> dict[str, JsonValue]:
    sink = Sink()
    found = read_values(SourceFile("a.yaml", text.encode()), sink)
    assert [] == list(sink)
    assert found is not None
    return found


def test_quoted_words_are_text_and_plain_ones_are_typed() -> None:
    assert {"a": "1", "b": 1, "c": "true", "d": True, "e": "", "f": None} == values(
        "{a: '1', b: 1, c: \"true\", d: true, e: '', f: }"
    )


def test_words_that_were_keys_of_yaml_1_1_are_keys_as_written() -> None:
    assert {"on": 1, "no": 2, "y": 3} == values("on: 1\nno: 2\ny: 3\n")


def test_texts_with_expressions_are_marked_wherever_they_stand() -> None:
    found = values('a: ${vars.x}\nb: ["x ${vars.y}", plain]\nc: |\n  echo ${vars.z}\n')

    assert isinstance(found["a"], Template)
    assert isinstance(found["c"], Template)
    assert [True, False] == [isinstance(item, Template) for item in found["b"]]  # type: ignore[union-attr]  # a list


def test_aliases_repeat_the_value_of_their_anchor() -> None:
    assert {"a": {"x": [1]}, "b": {"x": [1]}} == values("a: &a {x: [1]}\nb: *a\n")


def test_merged_keys_are_weaker_than_written_ones_and_the_first_source_wins() -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: [*a, *b], x: 3}\n"

    assert {"x": 3, "y": 1, "z": 2} == values(text)["c"]


def test_merged_maps_bring_what_they_merged_themselves() -> None:
    assert {"x": 1, "y": 2, "z": 3} == values("a: &a {x: 1}\nb: &b {<<: *a, y: 2}\nc: {<<: *b, z: 3}\n")["c"]


def test_quoted_merge_sign_is_an_ordinary_key() -> None:
    assert {"<<": 1} == values('{"<<": 1}')


@pytest.mark.parametrize("word", ["on", "012", "a: b", "${x}", "", "null", "é", "a\nb"])
def test_quotes_keep_any_text(word: str) -> None:
    assert {"a": word} == values(f"a: {json.dumps(word)}")


def test_crlf_files_read_like_others() -> None:
    assert {"a": 1, "b": "x\ny\n"} == values("a: 1\r\nb: |\r\n  x\r\n  y\r\n")


texts = st.text(st.characters(exclude_categories=("C", "Z")), max_size=8)
trees = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc${} -:#", max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(trees)
def test_json_reads_as_itself(tree: object) -> None:
    text = json.dumps(tree, ensure_ascii=False)

    assert tree == read_any(SourceFile("a", text.encode()), Sink())


def shape(text: str, parser: type[NativeParser] | type[PythonParser]) -> object:
    try:
        root = compose("a", text.encode(), parser)
    except Unreadable as error:
        return error.diagnostic.id
    return repr(root)


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\nb: [x, 'y', {z: *q}]\n",
        "a: &q 1\nb: [x, 'y', {z: *q}]\n",
        "a:\n\tb: 1\n",
        "a: b: c\n",
        'a: "abc\nb: 1\n',
        "a: {b: 1\nc: 2\n",
        "a:\n  b: 1\n c: 2\n",
        "a: 1\nbcd\ne: 2\n",
        "a: 1\n---\nb: 2\n",
        "a: !!str 1\n",
        "a: !x!y 1\n",
        "a: @b\n",
        "",
    ],
)
def test_without_libyaml_the_same_is_read_and_refused(text: str) -> None:
    assert shape(text, NativeParser) == shape(text, PythonParser)
