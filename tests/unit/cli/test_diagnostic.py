"""Diagnostics as text: the format of the documentation, and nothing a terminal would obey."""

from collections.abc import Mapping
from dataclasses import dataclass

from gpuplan.cli.render.diagnostic import diagnostics_json, render_diagnostics
from gpuplan.core.diagnostics import At, Diagnostic, Label, Severity, Span


@dataclass(frozen=True)
class Sources:
    """A locator over texts, with positions given by hand."""

    texts: Mapping[str, str]
    spans: Mapping[tuple[str | int, ...], Span]

    def locate(self, at: At) -> Span | None:
        return self.spans.get(at.path)

    def line(self, file: str, line: int) -> str | None:
        lines = self.texts.get(file, "").splitlines()
        return lines[line - 1] if line <= len(lines) else None


def spec(line: int, text: str, *others: tuple[int, str]) -> Sources:
    lines = {line: text, **dict(others)}
    return Sources({"gpuplan.yaml": "\n".join(lines.get(n, "") for n in range(1, max(lines) + 1))}, {})


def test_an_unknown_key_is_quoted_with_a_caret_and_a_hint():
    found = Diagnostic(
        id="unknown-field",
        summary="`clusters.train` has no field `regoin`",
        labels=(Label(Span("gpuplan.yaml", 16, 5, 6), "not a field of a cluster"),),
        hint="did you mean `region`?",
    )

    assert """\
error[unknown-field]: `clusters.train` has no field `regoin`
   --> gpuplan.yaml:16:5
    |
16  |     regoin: us-east-1
    |     ^^^^^^ not a field of a cluster
    |
    hint: did you mean `region`?
""" == render_diagnostics([found], spec(16, "    regoin: us-east-1"))


def test_a_second_label_keeps_its_order_and_the_gutter_lines_up():
    found = Diagnostic(
        id="dependency-cycle",
        summary="resources wait for each other",
        labels=(
            Label(Span("gpuplan.yaml", 11, 24, 17), "clusters.head waits for volumes.data"),
            Label(Span("gpuplan.yaml", 6, 55, 13), "volumes.data waits for clusters.head"),
        ),
        hint="remove one of the two",
    )
    sources = spec(
        11,
        '    volumes: [{volume: "${volumes.data}", mount: /data}]',
        (6, "  data: {provider: lambda, size_gb: 500, depends_on: [clusters.head]}"),
    )

    assert """\
error[dependency-cycle]: resources wait for each other
   --> gpuplan.yaml:11:24
    |
11  |     volumes: [{volume: "${volumes.data}", mount: /data}]
    |                        ^^^^^^^^^^^^^^^^^ clusters.head waits for volumes.data
 6  |   data: {provider: lambda, size_gb: 500, depends_on: [clusters.head]}
    |                                                       ^^^^^^^^^^^^^ volumes.data waits for clusters.head
    |
    hint: remove one of the two
""" == render_diagnostics([found], sources)


def test_without_a_position_facts_hint_and_commands_are_indented_by_two():
    found = Diagnostic(
        id="plan-stale",
        summary="this plan was made for serial 41, the state is now at 42",
        facts=("serial 42 was written by `apply` of ana@ci-7, 4 minutes ago", "nothing was sent to any provider"),
        hint="make a new plan and read it again",
        commands=("gpuplan plan --out new.plan",),
    )

    assert """\
error[plan-stale]: this plan was made for serial 41, the state is now at 42
  = serial 42 was written by `apply` of ana@ci-7, 4 minutes ago
  = nothing was sent to any provider
  hint: make a new plan and read it again
      gpuplan plan --out new.plan
""" == render_diagnostics([found], None)


def test_facts_and_commands_stand_under_the_gutter():
    found = Diagnostic(
        id="no-capacity",
        summary="`lambda` has no H100-80GB:8 left in us-east-1",
        labels=(Label(Span("gpuplan.yaml", 12, 3, 5), "creating clusters.train.nodes[1]"),),
        facts=("clusters.train.nodes[0] was created",),
        hint="apply again later, or look elsewhere",
        commands=("gpuplan offers --gpu H100-80GB:8 --sort price",),
    )

    assert """\
error[no-capacity]: `lambda` has no H100-80GB:8 left in us-east-1
   --> gpuplan.yaml:12:3
    |
12  |   train:
    |   ^^^^^ creating clusters.train.nodes[1]
    |
    = clusters.train.nodes[0] was created
    hint: apply again later, or look elsewhere
        gpuplan offers --gpu H100-80GB:8 --sort price
""" == render_diagnostics([found], spec(12, "  train:"))


def test_a_label_in_another_file_names_that_file():
    sources = Sources({"a.yaml": "a: 1", "b.yaml": "b: 2"}, {})
    found = Diagnostic(
        id="duplicate",
        summary="twice",
        labels=(Label(Span("a.yaml", 1, 1), "here"), Label(Span("b.yaml", 1, 1), "and here")),
    )

    assert """\
error[duplicate]: twice
   --> a.yaml:1:1
    |
 1  | a: 1
    | ^ here
    |
   ::: b.yaml:1:1
    |
 1  | b: 2
    | ^ and here
""" == render_diagnostics([found], sources)


def test_two_labels_on_one_line_quote_it_once():
    found = Diagnostic(
        id="twice",
        summary="one line",
        labels=(Label(Span("gpuplan.yaml", 1, 1), "left"), Label(Span("gpuplan.yaml", 1, 4), "right")),
    )

    assert 1 == render_diagnostics([found], spec(1, "a: 1")).count("a: 1")


def test_a_label_without_a_position_becomes_a_fact():
    found = Diagnostic(id="lost", summary="gone", labels=(Label(At(("clusters",)), "asked for here"),))

    assert "error[lost]: gone\n  = asked for here\n" == render_diagnostics([found], spec(1, ""))


def test_escape_sequences_and_direction_marks_are_spelled_out():
    hostile = "\x1b[31mred\x07\u202eabc\r\nnext"
    found = Diagnostic(
        id="odd",
        summary=hostile,
        labels=(Label(Span("gpuplan.yaml", 1, 1, 3), hostile),),
        facts=(hostile,),
        hint=hostile,
        commands=(hostile,),
    )

    text = render_diagnostics([found], spec(1, "\x1b]0;title\x07"))

    assert all(char.isprintable() or char == "\n" for char in text)
    assert r"\x1b[31mred\x07\u202eabc\r\nnext" in text.splitlines()[0]


def test_the_caret_of_wide_characters_and_tabs_stands_below_them():
    text = render_diagnostics(
        [Diagnostic(id="wide", summary="w", labels=(Label(Span("gpuplan.yaml", 1, 8, 2), ""),))],
        spec(1, "名前:\tx: 東京"),
    )

    assert [" 1  | 名前:    x: 東京", "    | " + " " * 12 + "^^^^"] == text.splitlines()[3:5]


def test_a_very_long_line_is_cut_around_the_caret():
    text = render_diagnostics(
        [Diagnostic(id="long", summary="l", labels=(Label(Span("gpuplan.yaml", 1, 5001, 3), "here"),))],
        spec(1, "x" * 5000 + "bad" + "y" * 5000),
    )
    source, caret = text.splitlines()[3:5]

    assert len(source) < 110
    assert "bad" == source[caret.index("^") : caret.rindex("^") + 1]


def test_colour_adds_only_styles():
    found = Diagnostic(id="x", summary="y", severity=Severity.WARNING, hint="z")
    plain, colored = (render_diagnostics([found], None, color=color) for color in (False, True))

    assert "\x1b[" in colored
    assert plain.startswith("warning[x]: y\n")


def test_json_has_the_same_fields():
    found = Diagnostic(id="x", summary="y", labels=(Label(Span("f", 1, 2, 3), "t"),), facts=("a",), commands=("c",))

    assert [
        {
            "id": "x",
            "severity": "error",
            "summary": "y",
            "labels": [{"file": "f", "line": 1, "column": 2, "length": 3, "text": "t"}],
            "facts": ["a"],
            "hint": None,
            "commands": ["c"],
        }
    ] == diagnostics_json([found], None)
