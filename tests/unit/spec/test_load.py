"""Whatever is written, there is an answer: a configuration, or findings that can be shown."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuplan.cli.render.diagnostic import render_diagnostics
from gpuplan.core.errors import SpecError
from gpuplan.spec.load import SourceFile, load
from gpuplan.spec.model import MODELS, Document
from tests.unit.spec.reading import HEAD, inputs, read

_NAMES = ("a", "b", "train", "vars", "9", "x y", "on", "")
_TEXTS = (
    "", "two", ">=32", "H100:8", "12h", "cloud", "pool", "nothing", "clusters.a", "clusters.a.nodes[9]", "volumes.b",
    "${vars.a}", "${vars.a + 1}", "${clusters.a.nodes[0].public_ip}", "${clusters.b}", "${volumes.a}", "${each.key}",
    "x ${locals.a} ${count.index}", "${locals.b.c}", "${", "${}", "$${", "${1 +}", "${file('x')}", "${env.A}", "é\n",
    "${size(clusters.a.nodes)}", "${has(vars.b.c)}", "${clusters}", "${clusters.a[0]}", "${yaml('a: 1')}", "${1/0}",
    "hf_abcdefghijklmnopqrstuvwxyz",
)  # fmt: skip
_FIELDS = sorted({name for model in MODELS.values() for name in model.model_fields} | {"any_of", "from", "to", "id"})

scalars = st.none() | st.booleans() | st.integers(-2, 3) | st.just(1.5) | st.sampled_from(_TEXTS)
fields = st.sampled_from(_FIELDS)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(fields | st.sampled_from(_NAMES), inner, max_size=3),
    max_leaves=6,
)
resources = st.dictionaries(fields, values, max_size=5)
blocks = st.dictionaries(st.sampled_from(_NAMES), resources | values, max_size=3)
documents = st.dictionaries(st.sampled_from(sorted(Document.model_fields)), blocks | values, max_size=6)


# celpy raises Python's recursion limit when it is first used, which hypothesis does not like to see within a test.
read(HEAD + 'outputs: {a: "${1 + 1}"}\n')


def answer(content: bytes) -> str:
    try:
        load([SourceFile("gpuplan.yaml", content)], inputs())
    except SpecError as error:
        assert error.diagnostics
        return render_diagnostics(error.diagnostics, error.locator)
    return ""


@given(documents)
def test_every_document_is_read_or_answered(document: dict[str, object]) -> None:
    head = {"version": 1, "project": "test", "providers": {"cloud": {}, "pool": {}}}

    assert "Traceback" not in answer(json.dumps({**head, **document}, ensure_ascii=False).encode())


@given(st.binary(max_size=40) | st.text("ab: -[]{}&*!|>'\"#%@`\n\t${}<", max_size=40).map(str.encode))
def test_every_file_is_read_or_answered(content: bytes) -> None:
    assert "Traceback" not in answer(content)


@pytest.mark.parametrize(
    "content", [b"a: &a {<<: *a}", b"a: &a [{<<: *a}]", b"? &a [*a]\n: b", b"<<: {<<: {<<: 1}}", b"&a <<: *a"]
)
def test_merges_of_odd_things_are_answered(content: bytes) -> None:
    assert "error[" in answer(content)


def test_files_may_be_loaded_again_and_again_with_the_same_result() -> None:
    text = HEAD + "clusters: {a: {provider: cloud, env: {A: \"${json({'b': 1, 'a': 2})}\"}}}\n"

    assert 1 == len({read(text).digest for _ in range(3)})
