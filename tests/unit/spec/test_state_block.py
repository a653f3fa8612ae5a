import pytest
from pydantic import BaseModel, ConfigDict

from gpuplan.core.errors import SpecError, StateError
from gpuplan.spec.state_block import StateBlock, read_state_block

CLUSTERS = "clusters:\n" + "".join(f"  c{n}: {{provider: cloud, nodes: {n}}}\n" for n in range(3))


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")

    bucket: str
    prefix: str = "train"


def block(text: str, **more: str) -> StateBlock | None:
    files = {"gpuplan.yaml": text.encode(), **{f"{name}.yaml": content.encode() for name, content in more.items()}}
    return read_state_block(files, lambda name, asking: files[name])


def options(text: str, **more: str) -> Options:
    found = block(text, **more)
    assert found is not None
    read = found.options(Options, {})
    assert isinstance(read, Options)
    return read


@pytest.mark.parametrize(
    "text",
    [
        "state: {type: s3, bucket: b}\n" + CLUSTERS,
        CLUSTERS + "state:\n  type: s3\n  # where\n\n  bucket: b\n",
        "version: 1\n'state':\n  {type: s3,\n   bucket: b\n}\n" + CLUSTERS,
        "{version: 1, state: {type: s3, bucket: b}}",
        "where: &here {bucket: b}\nstate: {type: s3, <<: *here}\n",
    ],
)
def test_block_is_found_wherever_it_stands(text: str) -> None:
    assert Options(bucket="b") == options(text)


@pytest.mark.parametrize("text", [CLUSTERS, "version: 1\n", "state:\n" + CLUSTERS, "# state: {type: s3}\n" + CLUSTERS])
def test_spec_without_a_block_says_nothing(text: str) -> None:
    assert block(text) is None


def test_later_file_is_laid_over_an_earlier_one() -> None:
    assert Options(bucket="b", prefix="p") == options("state: {bucket: a, prefix: p}\n", more="state: {bucket: b}\n")


def test_included_file_counts() -> None:
    files = {"gpuplan.yaml": b"include: shared.yaml\n", "shared.yaml": b"state: {bucket: shared}\n"}
    found = read_state_block({"gpuplan.yaml": files["gpuplan.yaml"]}, lambda name, asking: files[name])

    assert found is not None
    assert "file" == found.kind
    assert Options(bucket="shared") == found.options(Options, {})


def test_expression_is_refused_where_it_stands() -> None:
    with pytest.raises(SpecError) as caught:
        block('state:\n  bucket: "${vars.bucket}"\n')

    (finding,) = caught.value.diagnostics
    assert "state-not-literal" == finding.id
    assert caught.value.locator is not None


@pytest.mark.parametrize(
    ("text", "id", "line"),
    [
        (CLUSTERS + "state: {bucket: b, buckett: c}\n", "unknown-field", 5),
        ("state:\n  prefix: p\n", "missing-field", 1),
        ("state:\n  bucket: [b]\n", "wrong-type", 2),
    ],
)
def test_mistake_is_shown_in_its_line(text: str, id: str, line: int) -> None:
    with pytest.raises(SpecError) as caught:
        options(text)

    (finding,) = caught.value.diagnostics
    assert id == finding.id
    assert caught.value.locator is not None
    where = finding.labels[0].where
    span = caught.value.locator.locate(where) if not hasattr(where, "line") else where
    assert span is not None
    assert line == span.line


@pytest.mark.parametrize("text", ["state: s3\n", "state: {type: [s3]}\n"])
def test_block_of_another_shape_is_refused(text: str) -> None:
    with pytest.raises(SpecError):
        found = block(text)
        assert found is not None
        assert found.kind


def test_error_about_the_type_points_at_it() -> None:
    found = block("state: {type: s4}\n")
    assert found is not None

    placed = found.placed(StateError("there is no `s4`"))

    assert "asked for here" == placed.diagnostics[0].labels[0].text


def test_what_the_environment_says_is_below_the_spec() -> None:
    found = block("state: {prefix: p}\n")
    assert found is not None

    assert Options(bucket="env", prefix="p") == found.options(Options, {"bucket": "env", "prefix": "q"})
