"""Drift in every format that `gpuplan drift` speaks."""

import json
from datetime import date
from xml.etree import ElementTree

import pytest

from gpuplan.cli.render.drift import DriftReport, drift_markdown, drift_text, github_annotations
from gpuplan.cli.render.drift_reports import drift_json, junit, sarif
from gpuplan.core.address import Address
from gpuplan.core.diagnostics import At, Span
from gpuplan.core.errors import SpecError
from gpuplan.core.plan import Drift, DriftKind, Reason
from gpuplan.core.secret import Secret
from gpuplan.workflow.driftignore import read_ignored, sift

FIRST, SECOND = Address("clusters", "train", None, 0), Address("clusters", "train", None, 1)
HERE = At(("clusters", "train"))
GONE = Drift(DriftKind.MISSING, FIRST, "runpod", text="was deleted outside of gpuplan", at=HERE)
CHANGED = Drift(DriftKind.CHANGED, SECOND, "runpod", (Reason("env.A", "1", "2", at=HERE), Reason("image", "a", "b")))
SILENT = Drift(DriftKind.UNREACHABLE, None, "vast", text="`vast` could not be reached")
HOSTILE = Drift(DriftKind.ORPHANED, None, "vast", remote_id="x\x1b[2J|`<b>\n::error::%", text='"<&>\x00')


class Lines:
    def locate(self, at: At) -> Span | None:
        return Span("specs/gpu plan.yaml", 12, 3, 5)

    def line(self, file: str, line: int) -> str | None:
        return "  train:"


def report(*drift: Drift) -> DriftReport:
    return DriftReport(drift, addresses=(FIRST, SECOND), locator=Lines())


def test_text_says_what_and_where_and_how_many():
    assert """\
missing: clusters.train.nodes[0]  (specs/gpu plan.yaml:12)
    was deleted outside of gpuplan
changed: clusters.train.nodes[1]  (specs/gpu plan.yaml:12)
    env.A = "1" -> "2"
    image = "a" -> "b"

2 objects of 2 instances drifted.
""" == drift_text(report(GONE, CHANGED), color=False)


def test_no_drift_is_one_line():
    assert "No drift in 2 instances.\n" == drift_text(report(), color=False)


def test_an_unreachable_provider_is_not_called_drift():
    shown = drift_text(report(SILENT), color=False)

    assert "Could not tell: not every provider answered; no drift in 2 instances." in shown
    assert json.loads(drift_json(report(SILENT)))["drifted"] is None


def test_sarif_points_at_the_line_of_the_spec():
    (run,) = json.loads(sarif(report(GONE)))["runs"]
    (result,) = run["results"]

    assert "drift-missing" == result["ruleId"]
    assert {"drift-missing"} <= {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    assert {
        "artifactLocation": {"uri": "specs/gpu%20plan.yaml"},
        "region": {"startLine": 12, "startColumn": 3, "endColumn": 8},
    } == result["locations"][0]["physicalLocation"]


def test_junit_has_a_case_for_every_instance():
    suite = ElementTree.fromstring(junit(report(GONE, SILENT, HOSTILE)))

    assert ("4", "2", "1") == (suite.get("tests"), suite.get("failures"), suite.get("errors"))
    assert [str(FIRST), str(SECOND)] == [case.get("name") for case in suite][:2]
    assert ["failure"] == [found.tag for found in suite[0]]


def test_github_annotations_cannot_be_forged_by_names():
    lines = github_annotations(report(GONE, HOSTILE)).splitlines()

    assert (
        "::warning file=specs/gpu plan.yaml,line=12,col=3,title=missing%3A clusters.train.nodes[0]"
        "::was deleted outside of gpuplan"
    ) == lines[0]
    assert 3 == len(lines)


def test_reports_for_others_name_files_from_where_the_command_was_started():
    found = DriftReport((GONE,), locator=Lines(), folder="./infra")

    assert "file=infra/specs/gpu plan.yaml," in github_annotations(found)
    assert '"uri": "infra/specs/gpu%20plan.yaml"' in sarif(found)


def test_markdown_cells_hold_whatever_is_in_them():
    rows = [line for line in drift_markdown(report(GONE, HOSTILE)).splitlines() if line.startswith("|")]

    assert 4 == len(rows)
    assert "<b>" not in rows[-1]


def test_secrets_are_not_shown():
    found = Drift(DriftKind.CHANGED, FIRST, "runpod", (Reason("env.T", Secret("hunter2"), Secret("hunter3")),))

    for form in (sarif, junit, drift_json, drift_markdown, github_annotations):
        assert "hunter" not in form(report(found))


IGNORED = b"""
ignore:
  - {address: "clusters.train.nodes[0]", reason: taken away, until: 2026-12-31}
  - {address: "clusters.*.nodes[1]", attribute: env, reason: debugger, until: 2026-12-31}
  - {address: clusters.train, reason: old, until: 2026-01-01}
"""
TODAY = date(2026, 11, 24)


def test_driftignore_silences_instances_and_attributes():
    sifted = sift((GONE, CHANGED), read_ignored(IGNORED), TODAY)

    assert [("clusters.train.nodes[1]", ["image"])] == [
        (str(drift.address), [reason.path for reason in drift.reasons]) for drift in sifted.counts
    ]
    assert 2 == sifted.silenced


def test_an_entry_counts_on_its_last_day_and_not_after_it():
    entries = read_ignored(IGNORED)

    assert () == sift((GONE,), entries, date(2026, 12, 31)).counts
    assert (GONE,) == sift((GONE,), entries, date(2027, 1, 1)).counts
    assert [3] == [entry.number for entry in sift((), entries, TODAY).expired]


def test_what_could_not_be_seen_is_never_silenced():
    entries = read_ignored(b'ignore: [{address: "*", reason: all, until: 2099-01-01}]')

    assert (SILENT,) == sift((GONE, SILENT), entries, TODAY).counts


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"- a", "list"),
        (b"ignore: {}", "with a list"),
        (b"ignore: [{}]", "`address` is missing"),
        (b"ignore: [{address: clusters.a, reason: x, until: soon}]", "is not a date"),
        (b"ignore: [{address: what, reason: x, until: 2027-01-01}]", "is not an address"),
        (b"ignore: [{address: clusters.a, because: x, until: 2027-01-01}]", "no field `because`"),
    ],
)
def test_a_driftignore_that_cannot_be_read_is_an_error(content, says):
    with pytest.raises(SpecError) as caught:
        read_ignored(content)

    assert says in str([(found.summary, found.facts, found.labels) for found in caught.value.diagnostics])
