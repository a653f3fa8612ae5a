"""What came of the checks of a contract: a line for each while they run, a summary, JSON. Called by `conformance`."""

import json
from collections import Counter
from collections.abc import Sequence

from gpuplan.cli.render.text import clean, clean_lines
from gpuplan.core.values import JsonValue
from gpuplan.testing.suite import Checked, Verdict


def checked_line(checked: Checked) -> str:
    rule = "" if checked.rule is None else f"rule {checked.rule:<3} "
    case = f" [{clean(checked.case)}]" if checked.case else ""
    head = f"{rule}{checked.verdict.value:<6}  {checked.title}{case}"
    if checked.verdict is Verdict.FAILED:
        return "\n".join([head, *(f"    {line}" for line in clean_lines(checked.why))])
    return f"{head}: {clean(checked.why)}" if checked.why else head


def conformance_summary(checked: Sequence[Checked]) -> str:
    counts = Counter(each.verdict for each in checked)
    told = [f"{counts[Verdict.PASSED]} passed", f"{counts[Verdict.FAILED]} failed"]
    if counts[Verdict.NONE]:
        told.append(f"{counts[Verdict.NONE]} had nothing to try")
    return f"\n{', '.join(told)}.\n"


def conformance_json(type: str, checked: Sequence[Checked]) -> str:
    rows: list[JsonValue] = [
        {
            "check": each.name,
            "case": each.case or None,
            "rule": each.rule,
            "verdict": each.verdict.value,
            "why": each.why or None,
        }
        for each in checked
    ]
    return json.dumps({"type": type, "checks": rows}, indent=2) + "\n"
