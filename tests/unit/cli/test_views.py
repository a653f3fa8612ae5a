"""Graphs, pages, states, scripts: every other view, and that what is in them stays what it is."""

import subprocess
from dataclasses import replace
from html.parser import HTMLParser

from gpuplan.cli.render.changes import Counts
from gpuplan.cli.render.graph import Drawing, dot, mermaid, of_operations
from gpuplan.cli.render.pages import plan_html, plan_markdown
from gpuplan.cli.render.state import render_state, state_json, state_markdown
from gpuplan.cli.render.table import render_table
from gpuplan.core.address import Address
from gpuplan.core.desired import Candidate
from gpuplan.core.plan import Action, Operation
from gpuplan.core.secret import Sealed
from gpuplan.core.state import State
from tests.unit.cli.plans import change, nodes, plan, recorded
from tests.unit.cli.test_parser import gpuplan

HOSTILE = '</pre><script>alert(1)</script>"]\n```|`'
NODE = Address("clusters", "train", None, 0)


def operation(name: str, *needs: str, action: Action = Action.CREATE) -> Operation:
    return Operation(name, action, NODE, needs=needs)


def hostile_plan():
    candidate = Candidate(HOSTILE, {"image": HOSTILE}, ())
    return replace(plan([change(Action.CREATE, "clusters.train.nodes[0]", candidate=candidate)]), project=HOSTILE)


def test_edges_that_follow_from_others_are_left_out():
    found = replace(plan(()), operations=(operation("c"), operation("b", "c"), operation("a", "b", "c")))

    assert [("b", "c"), ("a", "b")] == of_operations(found).edges


def test_joins_are_points():
    drawing = of_operations(replace(plan(()), operations=(operation("join x", action=Action.NO_OP), operation("a"))))

    assert '  "join x" [shape = point, label = ""]' in dot(drawing).splitlines()
    assert "  n0(( ))" in mermaid(drawing).splitlines()


def test_names_cannot_break_out_of_a_graph():
    drawing = Drawing({HOSTILE: HOSTILE}, [(HOSTILE, HOSTILE)])

    assert r'"</pre><script>alert(1)</script>\"]\\n```|`" [' in dot(drawing)
    assert "<script>" not in mermaid(drawing)
    assert 3 == len(mermaid(drawing).splitlines())


def test_an_html_page_needs_nothing_else_and_runs_nothing():
    class Tags(HTMLParser):
        def __init__(self):
            super().__init__()
            self.seen = set()

        def handle_starttag(self, tag, attrs):
            self.seen.add(tag)
            assert not {"src", "href", "onclick"} & {name for name, _ in attrs}

    page = Tags()
    page.feed(plan_html(hostile_plan(), None))

    assert {"html", "style", "details", "pre"} <= page.seen
    assert "script" not in page.seen


def test_a_markdown_page_keeps_its_table_and_its_fence():
    lines = plan_markdown(hostile_plan(), None).splitlines()

    assert 3 == sum(line.startswith("|") for line in lines)
    assert 2 == sum(line.startswith("````") for line in lines)


def test_a_replacement_counts_as_one_added_and_one_destroyed():
    counts = Counts.of(plan([*nodes(Action.REPLACE, [0, 1]), *nodes(Action.UPDATE, [2])]))

    assert Counts(added=2, changed=1, destroyed=2) == counts


def test_the_state_is_shown_without_what_is_secret():
    record = recorded("clusters.train.nodes[0]", {"env": {"TOKEN": Sealed("abc.def")}, "gpu": "L4:1"})
    state = State("lineage", 3, bytes(32), "llama", {record.address: record}, outputs={"key": {"$sealed": "abc.def"}})

    for text in (render_state(state), state_markdown(state), str(state_json(state))):
        assert "clusters.train.nodes[0]" in text
        assert "abc.def" not in text
    assert "    env.TOKEN = (sensitive)\n" in render_state(state)
    assert "key = (sensitive)\n" in render_state(state)


def test_columns_are_as_wide_as_what_is_in_them():
    assert "A   LONGER\nxx  1\n東  22\n" == render_table(("a", "longer"), [("xx", "1"), ("東", "22")])


def test_completion_scripts_are_understood_by_their_shell():
    code, script, _ = gpuplan("completion", "bash")
    ask = "COMP_WORDS=(gpuplan plan --det); COMP_CWORD=2; _gpuplan; echo ${COMPREPLY[*]}"

    completed = subprocess.run(["bash", "-c", f"{script}\n{ask}"], capture_output=True, text=True, timeout=20)

    assert (0, "--detailed-exitcode\n", "") == (code, completed.stdout, completed.stderr)


def test_every_verb_explains_itself():
    from gpuplan.cli.verbs import VERBS

    for verb in VERBS:
        code, text, said = gpuplan(verb, "--help")
        assert (0, "") == (code, said)
        assert f"usage: gpuplan {verb}" in text
