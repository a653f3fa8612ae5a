"""Drift for programs: JSON, JUnit for test reports, SARIF for code scanning. Called by `drift`."""

import json
from collections.abc import Iterator
from urllib.parse import quote
from xml.sax.saxutils import escape, quoteattr

import gpuplan
from gpuplan.cli.render.drift import DriftReport, headline, sentences, subject
from gpuplan.cli.render.text import clean
from gpuplan.cli.render.value import plain_json
from gpuplan.core.plan import Drift, DriftKind
from gpuplan.core.values import JsonValue

_RULES = {
    DriftKind.MISSING: "an object of the state is gone",
    DriftKind.STOPPED: "a node does not run",
    DriftKind.CHANGED: "an attribute is not what was applied",
    DriftKind.UNHEALTHY: "a node is not well",
    DriftKind.ORPHANED: "an object carries our mark and is in no state",
    DriftKind.UNREACHABLE: "a provider could not be asked",
}


def drift_json(report: DriftReport) -> str:
    """`drifted` is null when it could not be told."""
    document = {
        "drifted": None if report.unreachable else bool(report.drift),
        "instances": len(report.addresses),
        "silenced": report.silenced,
        "drift": [_item(report, item) for item in report.drift],
    }
    return json.dumps(document, indent=2) + "\n"


def _item(report: DriftReport, item: Drift) -> JsonValue:
    span = report.span(item)
    return {
        "kind": item.kind.value,
        "address": None if item.address is None else str(item.address),
        "provider": item.provider,
        "id": item.remote_id or None,
        "text": item.text or None,
        "changes": [
            {"path": reason.path, "before": plain_json(reason.before), "after": plain_json(reason.after)}
            for reason in item.reasons
        ],
        "file": span.file if span else None,
        "line": span.line if span else None,
    }


def junit(report: DriftReport) -> str:
    """One test case for each instance and for each finding that is no instance's."""
    by_name: dict[str, list[Drift]] = {str(address): [] for address in report.addresses}
    for item in report.drift:
        by_name.setdefault(subject(item), []).append(item)
    failed = sum(any(i.kind is not DriftKind.UNREACHABLE for i in items) for items in by_name.values())
    errors = sum(any(i.kind is DriftKind.UNREACHABLE for i in items) for items in by_name.values())
    counts = f'tests="{len(by_name)}" failures="{failed}" errors="{errors}"'
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', f'<testsuite name="gpuplan drift" {counts}>']
    for name, items in by_name.items():
        lines += _case(name, items)
    return "\n".join([*lines, "</testsuite>"]) + "\n"


def _case(name: str, items: list[Drift]) -> Iterator[str]:
    head = f'  <testcase classname="gpuplan.drift" name={quoteattr(clean(name))}'
    if not items:
        yield f"{head}/>"
        return
    yield f"{head}>"
    for item in items:
        tag = "error" if item.kind is DriftKind.UNREACHABLE else "failure"
        text = list(sentences(item))
        yield f'    <{tag} type="{item.kind.value}" message={quoteattr(text[0])}>{escape(chr(10).join(text))}</{tag}>'
    yield "  </testcase>"


def sarif(report: DriftReport) -> str:
    """SARIF 2.1.0; results point at the spec."""
    rules = [{"id": f"drift-{kind.value}", "shortDescription": {"text": text}} for kind, text in _RULES.items()]
    run = {
        "tool": {"driver": {"name": "gpuplan", "version": gpuplan.__version__, "rules": rules}},
        "results": [_result(report, item) for item in report.drift],
        "invocations": [{"executionSuccessful": not report.unreachable}],
        "properties": {"summary": headline(report)},
    }
    document = {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [run]}
    return json.dumps(document, indent=2) + "\n"


def _result(report: DriftReport, item: Drift) -> JsonValue:
    result: dict[str, JsonValue] = {
        "ruleId": f"drift-{item.kind.value}",
        "level": "error" if item.kind is DriftKind.UNREACHABLE else "warning",
        "message": {"text": f"{clean(subject(item))}: {'; '.join(sentences(item))}"},
        "partialFingerprints": {"gpuplan/v1": f"{item.kind.value} {subject(item)}"},
    }
    span = report.span(item)
    if span is not None:
        region: JsonValue = {
            "startLine": span.line,
            "startColumn": span.column,
            "endColumn": span.column + max(1, span.length),
        }
        place = {"artifactLocation": {"uri": quote(report.path(span))}, "region": region}
        result["locations"] = [{"physicalLocation": place}]
    return result
