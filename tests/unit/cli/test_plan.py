"""A plan as text: what a reader must find in it, and that nothing in it can fool a terminal."""

from dataclasses import replace
from decimal import Decimal

import pytest

from gpuplan.cli.render.changes import gather, ranges
from gpuplan.cli.render.plan import PlanView, render_plan
from gpuplan.core.desired import Candidate
from gpuplan.core.diagnostics import At, Span
from gpuplan.core.plan import Action, Drift, DriftKind, Mode, Ranked, Reason
from gpuplan.core.secret import Secret
from gpuplan.core.values import UNKNOWN, Deferred, Ref
from gpuplan.workflow.planning import OutputChange
from tests.unit.cli.plans import CANDIDATE, address, change, nodes, offer, placed, plan


class Lines:
    def locate(self, at: At) -> Span | None:
        return Span("gpuplan.yaml", 14, 5)

    def line(self, file: str, line: int) -> str | None:
        return "    gpu: H100-80GB:8"


def text(*changes, mode=Mode.NORMAL, **view) -> str:
    return render_plan(plan(changes, mode), PlanView(**view))


def test_a_thousand_equal_nodes_are_one_block():
    shown = text(*nodes(Action.CREATE, range(1000)))

    assert "  # clusters.train.nodes[0..999] will be created\n  + clusters.train.nodes[0..999] (1000)\n" in shown
    assert shown.endswith("Plan: 1000 to add, 0 to change, 0 to destroy.\n")
    assert len(shown.splitlines()) < 20


def test_nodes_that_differ_are_blocks_of_their_own():
    tainted = Reason("", text="is tainted", forces_replace=True)
    groups = gather(
        [*nodes(Action.CREATE, [0, 1]), *nodes(Action.REPLACE, [2], tainted), *nodes(Action.CREATE, [3, 5])]
    )

    assert ["clusters.train.nodes[0..1,3,5]", "clusters.train.nodes[2]"] == [group.name for group in groups]


@pytest.mark.parametrize(
    ("numbers", "expected"), [([4], "4"), ([0, 1, 2], "0..2"), ([0, 1, 3, 7, 8], "0..1,3,7..8"), ([2, 4], "2,4")]
)
def test_runs_of_numbers_are_ranges(numbers, expected):
    assert expected == ranges(numbers)


def test_a_replacement_names_the_attribute_that_forces_it_and_its_line():
    reason = Reason("gpu", "L40S:1", "H100-80GB:8", forces_replace=True, at=At(("clusters", "train", "gpu")))

    shown = text(change(Action.REPLACE, "clusters.train.nodes[0]", reason), locator=Lines())

    assert "  # clusters.train.nodes[0] must be replaced\n-/+ clusters.train.nodes[0]\n" in shown
    assert '      ~ gpu = "L40S:1" -> "H100-80GB:8" # forces replacement (gpuplan.yaml:14)\n' in shown
    assert "Plan: 1 to add, 0 to change, 1 to destroy." in shown
    assert "-/+ destroy and then create replacement\n" in shown


def test_create_before_destroy_has_the_other_sign():
    found = replace(change(Action.REPLACE, "clusters.train.nodes[0]"), create_first=True)

    assert "+/- clusters.train.nodes[0]\n" in text(found)


def test_an_update_shows_what_is_added_changed_and_taken_away():
    reasons = (Reason("env.A", None, "1"), Reason("env.LONG", "1", "2"), Reason("labels.x", "y", None))

    shown = text(change(Action.UPDATE, "clusters.train.nodes[0]", *reasons))

    assert '      + env.A    = "1"\n      ~ env.LONG = "1" -> "2"\n      - labels.x = "y" -> null\n' in shown


def test_unknown_values_secrets_and_references_are_spelled_out():
    attrs = {
        "env": {"TOKEN": Secret("hunter2"), "HOST": Deferred("x", frozenset(), lambda scope: UNKNOWN)},
        "volumes": [{"volume": Ref(address("volumes.data")), "mount": "/data"}],
        "ssh_keys": [Ref(address("ssh_keys.team"), "key-1")],
    }

    shown = text(change(Action.CREATE, "clusters.train.nodes[0]", candidate=Candidate("local", attrs, ())))

    assert "      + env.HOST  = (known after apply)\n      + env.TOKEN = (sensitive)\n" in shown
    assert '[{volume: volumes.data (known after apply), mount: "/data"}]' in shown
    assert "+ ssh_keys  = [ssh_keys.team]" in shown
    assert "hunter2" not in shown


@pytest.mark.parametrize(
    ("action", "reason", "expected"),
    [
        (Action.CREATE, "was deleted outside of gpuplan", "  # (because it was deleted outside of gpuplan)"),
        (Action.DELETE, "is not in the spec", "  # (because it is not in the spec)"),
        (Action.REPLACE, "replacement was asked for", "  # (because replacement was asked for)"),
    ],
)
def test_reasons_are_sentences(action, reason, expected):
    assert expected in text(change(action, "clusters.train.nodes[0]", Reason("", text=reason))).splitlines()


def test_places_tell_the_choice_and_why_others_were_not_taken():
    places = [
        Ranked(CANDIDATE, offer("EU-RO-1", "2.05")),
        Ranked(CANDIDATE, offer("EU-SE-1", "2.10")),
        Ranked(CANDIDATE, offer("US-TX-1", "3.20"), "above 3.00 USD per hour"),
    ]

    shown = text(placed(change(Action.CREATE, "clusters.train.nodes[0]"), places))

    assert "      # at runpod, H100-80GB:8, EU-RO-1, spot, 2.05 USD per hour\n" in shown
    assert "      # else runpod, H100-80GB:8, EU-SE-1, spot, 2.10 USD per hour\n" in shown
    assert "      # not runpod, H100-80GB:8, US-TX-1, spot, 3.20 USD per hour: above 3.00 USD per hour\n" in shown


def test_cost_is_before_after_and_difference():
    found = replace(plan(nodes(Action.CREATE, [0])), hourly_before=Decimal("3"), hourly_after=Decimal("27.4"))

    assert "Cost per hour: 3.00 USD before, 27.40 USD after, +24.40 USD\n" in render_plan(found, PlanView())


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (Mode.NORMAL, "No changes. Your infrastructure matches the configuration.\n"),
        (Mode.DESTROY, "No changes. No objects need to be destroyed.\n"),
        (Mode.REFRESH_ONLY, "No changes. Your infrastructure still matches the state.\n"),
    ],
)
def test_an_empty_plan_says_so_in_the_words_tools_look_for(mode, expected):
    assert expected == text(mode=mode)


def test_a_move_is_shown_though_nothing_is_done():
    found = replace(change(Action.NO_OP, "clusters.train.nodes[0]"), moved_from=address("clusters.old.nodes[0]"))

    assert "  # clusters.old.nodes[0] has moved to clusters.train.nodes[0]\n" in text(found)


def test_imports_are_counted_apart():
    found = replace(change(Action.ADOPT, "clusters.train.nodes[0]"), import_id="pod-7")
    shown = text(found)

    assert "will be imported from `pod-7`" in shown
    assert "Plan: 1 to import, 0 to add, 0 to change, 0 to destroy." in shown


def test_drift_of_equal_nodes_is_one_line():
    gone = [
        Drift(DriftKind.MISSING, address(f"clusters.train.nodes[{n}]"), "runpod", text="was deleted outside of gpuplan")
        for n in range(100)
    ]

    shown = render_plan(replace(plan(()), drift=tuple(gone)), PlanView())

    assert "  # clusters.train.nodes[0..99] was deleted outside of gpuplan\n" in shown


def test_changes_of_outputs_alone_are_no_empty_plan():
    shown = text(outputs=[OutputChange("a", None, "x"), OutputChange("gone", 1, None)])

    assert '  + a    = "x"\n  - gone = 1 -> null\n' in shown
    assert "No changes" not in shown


def test_hostile_text_is_spelled_out_everywhere():
    hostile = "\x1b[2J\u202e\nPlan: 0 to add"
    attrs = {hostile: hostile, "env": {hostile: [hostile]}}
    candidate = Candidate(hostile, attrs, ())
    found = placed(
        change(Action.CREATE, "clusters.train.nodes[0]", Reason("", text=hostile), candidate=candidate),
        [Ranked(candidate, replace(offer("x", "1"), region=hostile), hostile)],
    )

    shown = text(found, outputs=[OutputChange(hostile, hostile, hostile)])

    assert all(char.isprintable() or char == "\n" for char in shown)
    assert 1 == sum(line.startswith("Plan:") for line in shown.splitlines())


def test_a_long_script_is_cut_and_measured():
    attrs = {"setup": "x" * 5000}

    shown = text(change(Action.CREATE, "clusters.train.nodes[0]", candidate=Candidate("local", attrs, ())))

    assert "(5000 characters)" in shown
    assert len(shown) < 1000


def test_colour_changes_no_word():
    changes = [*nodes(Action.CREATE, [0]), change(Action.DELETE, "volumes.data")]

    assert text(*changes) == _plain(text(*changes, color=True))


def _plain(colored: str) -> str:
    import re

    return re.sub(r"\x1b\[[\d;]*m", "", colored)


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        ("0", "0.007", "Cost per hour: 0.00 USD before, 0.007 USD after, +0.007 USD"),
        ("0.0075", "0", "Cost per hour: 0.0075 USD before, 0.00 USD after, -0.0075 USD"),
        ("2.397", "12.5", "Cost per hour: 2.397 USD before, 12.50 USD after, +10.103 USD"),
        ("0.00002", "0.00002", "Cost per hour: 0.00002 USD before, 0.00002 USD after, +0.00 USD"),
    ],
)
def test_prices_below_a_cent_are_told(before, after, line):
    made = replace(plan([]), hourly_before=Decimal(before), hourly_after=Decimal(after))

    assert line in render_plan(made, PlanView())


def test_nodes_that_lost_their_record_are_ranges_in_their_order():
    orphans = tuple(
        Drift(DriftKind.ORPHANED, address(f"clusters.train.nodes[{number}]"), "runpod", text="carries our mark")
        for number in (7, 0, 2, 1)
    )

    assert "# clusters.train.nodes[0..2,7] carries our mark" in render_plan(
        replace(plan([]), drift=orphans), PlanView()
    )
