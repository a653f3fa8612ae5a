import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuplan.core.diagnostics import Sink
from gpuplan.spec.format import format_source
from gpuplan.spec.source import SourceFile, read_any

WILD = """\
version: 1   


project: x
clusters:
    # about train
    train:
        provider: local
        # ports
        ports:
          -   8000
          - 9000
        volumes:
        - volume: a
          mount: b
        -   {volume: c,
             mount: d}
        setup: |
             echo a  

             echo b
        env: {A: 1,
              B: 2}   # x
    # the end of clusters
jobs: {}


"""
TAME = """\
version: 1

project: x
clusters:
  # about train
  train:
    provider: local
    # ports
    ports:
      - 8000
      - 9000
    volumes:
    - volume: a
      mount: b
    - {volume: c,
       mount: d}
    setup: |
      echo a  

      echo b
    env: {A: 1,
          B: 2}   # x
  # the end of clusters
jobs: {}
"""


def parsed(text: str) -> object:
    sink = Sink()
    value = read_any(SourceFile("a.yaml", text.encode()), sink)
    return [finding.id for finding in sink] or value


def test_layout_is_put_in_order_and_everything_else_kept() -> None:
    assert TAME == format_source(WILD)


def test_formatted_text_stays_as_it_is() -> None:
    assert TAME == format_source(TAME)


@pytest.mark.parametrize("text", ["a: [1\n", "", "\n\n", "# only a comment", "a: 'x\n", "\t", "a: 1\rb: 2\r"])
def test_text_that_is_not_understood_stays_as_it_is(text: str) -> None:
    assert text == format_source(text)


def test_line_ends_become_unix() -> None:
    assert "a: 1\nb: 2\n" == format_source("a: 1\r\nb: 2")


@pytest.mark.parametrize(
    "text",
    [
        "a: |2\n    x\n   y\n",
        "a: |\n    x\n      y\n\n\n    z\n",
        "a: >-\n        x\n\n        y\nb: 1\n",
        "a: |+\n  x\n\n\n",
        "a: |\n  x",
        "- - a\n  - b\n-   - c\n",
        "a:\n    - b:\n          c: 1\n      d: 2\n    -\n      e: 3\n",
        "a: 'one\n     two'\nb: one\n   two\n",
        "? a\n: b\n",
        "a: &x\n    b: 1\nc:\n    <<: *x\n",
        "a: !t\n    b: 1\n",
        "%YAML 1.2\n---\na:\n    b: 1\n...\n",
        "a:\n        b:\n                c: 1\n\n\n\n        d: 2  # x  \n",
        "a: |\n   \n  x\n",
        "a: # c\n    b: 1\n    # d\n  # e\n",
    ],
)
def test_odd_layouts_mean_the_same_afterwards(text: str) -> None:
    formatted = format_source(text)

    assert parsed(text) == parsed(formatted)
    assert formatted == format_source(formatted)


lines = st.builds(
    lambda indent, content, tail: " " * indent + content + " " * tail,
    st.integers(0, 6),
    st.sampled_from(
        ["a:", "b: 1", "- c", "-  d: 2", "- e:", "f: |", "g: >", "# h", "", "x y", "{i: 1,", "j: 2}", "k: 'l", "m'"]
    ),
    st.integers(0, 2),
)


@given(st.lists(lines, max_size=10).map("\n".join))
def test_formatting_never_changes_the_meaning(text: str) -> None:
    formatted = format_source(text)

    assert parsed(text) == parsed(formatted)
    assert formatted == format_source(formatted)
