"""What a rehearsal came to: what happened when, what it took, what is left over. Called by `rehearse`."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal

from gpuplan.cli.render.changes import summary
from gpuplan.cli.render.diagnostic import diagnostics_json
from gpuplan.cli.render.drift import sentences, subject
from gpuplan.cli.render.outcome import failures, named, outcome_summary
from gpuplan.cli.render.text import clean, pad, width
from gpuplan.cli.render.value import money, spent
from gpuplan.core.address import Address
from gpuplan.core.diagnostics import Diagnostic
from gpuplan.core.events import Event, IntentSettled, OperationProgress
from gpuplan.core.plan import Drift, Mode
from gpuplan.core.units import format_duration
from gpuplan.core.values import JsonValue
from gpuplan.emulators.scenario import Step
from gpuplan.workflow.rehearsing import Act, Living, Rehearsal


def rehearsal_text(rehearsal: Rehearsal) -> str:
    """The whole report; ends with a line end."""
    moments = sorted(_moments(rehearsal), key=lambda moment: moment[0])
    times = [format_duration(at) for at, _ in moments]
    longest = max(map(width, times))
    lines = [f"{pad(time, longest)}  {text}" for time, (_, text) in zip(times, moments, strict=True)]
    return "".join(f"{line}\n" for line in [*lines, "", *_totals(rehearsal)])


def rehearsal_diagnostics(rehearsal: Rehearsal) -> list[Diagnostic]:
    """What went wrong, with positions; what every act says again is told once."""
    found = [diagnostic for act in rehearsal.acts for diagnostic in _problems(act, rehearsal)]
    return list(dict.fromkeys(found))


def rehearsal_json(rehearsal: Rehearsal) -> str:
    locator = rehearsal.configuration.locator
    document: dict[str, JsonValue] = {
        "project": rehearsal.configuration.project,
        "clean": rehearsal.is_clean,
        "seconds": _rounded(rehearsal.acts[-1].ended),
        "left_out": [{"resource": str(each.resource), "why": each.why} for each in rehearsal.left_out],
        "acts": [
            {
                "act": act.name,
                "began_seconds": _rounded(act.began),
                "seconds": _rounded(act.ended - act.began),
                "complete": act.is_complete,
                **_counts(act),
                "drift": [_drift_text(item) for item in act.drift],
                "problems": diagnostics_json(_problems(act, rehearsal), locator),
            }
            for act in rehearsal.acts
        ],
        "price_per_hour": None if rehearsal.peak_hourly is None else float(rehearsal.peak_hourly),
        "billed_usd": {name: float(round(amount, 6)) for name, amount in rehearsal.billed.items()},
        "calls": [
            {"provider": c.provider, "method": c.method, "route": c.route, "count": c.count, "failed": c.failed}
            for c in rehearsal.calls
        ],
        "left_over": [
            {"provider": t.provider, "kind": t.kind, "id": t.id, "address": t.address, "known": t.is_known}
            for t in rehearsal.living
        ],
    }
    return json.dumps(document, indent=2) + "\n"


def _moments(rehearsal: Rehearsal) -> Iterator[tuple[float, str]]:
    """What is worth a line, with the seconds since it began; at one instant, causes ahead of what they lead to."""
    yield from ((at, f"scenario: {_step_text(step)}") for at, step in rehearsal.happened if isinstance(step, Step))
    for act in rehearsal.acts:
        if act.planned is not None:
            yield act.began, f"{act.name}: {summary(act.planned.plan)}"
        yield from ((act.began, f"    {text}") for text in _drifted(act.drift))
        yield from _told(act, rehearsal.happened)
        yield act.ended, _ending(act)


def _told(act: Act, happened: Sequence[tuple[float, Event | Step]]) -> Iterator[tuple[float, str]]:
    """What was said about instances during an act; what is the same of several nodes is one line, at the first."""
    alike: dict[tuple[str, Address], list[tuple[float, Address]]] = {}
    for at, event in happened:
        if isinstance(event, OperationProgress | IntentSettled) and act.began <= at <= act.ended:
            alike.setdefault((event.text, event.address.block), []).append((at, event.address))
    for (text, _), seen in alike.items():
        yield seen[0][0], f"    {clean(named({address for _, address in seen}))}: {clean(text)}"


def _drifted(drift: Sequence[Drift]) -> Iterator[str]:
    """What was found to be otherwise, equal nodes in one line."""
    alike: dict[tuple[str, Address], list[Address]] = {}
    for item in drift:
        if item.address is None:
            yield _drift_text(item)
        else:
            alike.setdefault((", ".join(sentences(item)), item.address.block), []).append(item.address)
    for (text, _), addresses in alike.items():
        yield f"{clean(named(addresses))} {text}"


def _ending(act: Act) -> str:
    if act.error is not None:
        return f"{act.name}: {'; '.join(clean(found.summary) for found in act.error.diagnostics)}"
    assert act.outcome is not None
    return f"    {outcome_summary(act.outcome, Mode.DESTROY if act.name == 'destroy' else Mode.NORMAL)}"


def _problems(act: Act, rehearsal: Rehearsal) -> Sequence[Diagnostic]:
    if act.error is not None:
        return act.error.diagnostics
    return [] if act.outcome is None else failures(act.outcome, rehearsal.configuration)


def _totals(rehearsal: Rehearsal) -> Iterator[str]:
    first, last = rehearsal.acts[0], rehearsal.acts[-1]
    whole = f"; {format_duration(last.ended)} until it was destroyed" if last.name == "destroy" else ""
    yield f"Time:       {format_duration(first.ended)} until the apply was over{whole}"
    billed = sum(rehearsal.billed.values(), Decimal(0))
    yield f"Cost:       {money(rehearsal.peak_hourly)} USD per hour at most, {spent(billed)} USD billed"
    yield f"Calls:      {'; '.join(_calls(rehearsal)) or 'none'}"
    for each in rehearsal.left_out:
        yield f"Left out:   {each.resource}: {clean(each.why)}"
    if not rehearsal.living:
        yield "Left over:  nothing, the emulators have no living object"
    for (provider, kind, is_known), things in _gathered(rehearsal.living):
        names = named(Address.parse(thing.address) for thing in things if thing.address)
        unnamed = ", ".join(clean(thing.id) for thing in things if not thing.address)
        unknown = "" if is_known else ", which no state knows"
        what = ", ".join(text for text in (names, unnamed) if text)
        yield f"Left over:  {len(things)} {kind}{'s' if len(things) > 1 else ''} at {provider}: {what}{unknown}"


def _gathered(living: Sequence[Living]) -> list[tuple[tuple[str, str, bool], list[Living]]]:
    groups: dict[tuple[str, str, bool], list[Living]] = {}
    for thing in living:
        groups.setdefault((thing.provider, thing.kind, thing.is_known), []).append(thing)
    return list(groups.items())


def _calls(rehearsal: Rehearsal) -> Iterator[str]:
    """`vultr 97 (45 DELETE, 52 GET; 3 went wrong)`."""
    for provider in dict.fromkeys(call.provider for call in rehearsal.calls):
        calls = [call for call in rehearsal.calls if call.provider == provider]
        methods: Counter[str] = Counter()
        for call in calls:
            methods[call.method] += call.count
        failed = sum(call.failed for call in calls)
        told = ", ".join(f"{count} {method}" for method, count in sorted(methods.items()))
        yield f"{provider} {methods.total()} ({told}{f'; {failed} went wrong' if failed else ''})"


def _counts(act: Act) -> Mapping[str, JsonValue]:
    outcome = act.outcome
    if outcome is None:
        return {"added": 0, "changed": 0, "destroyed": 0, "failed": 0}
    failed = len(outcome.failed)
    return {"added": outcome.added, "changed": outcome.changed, "destroyed": outcome.destroyed, "failed": failed}


def _drift_text(item: Drift) -> str:
    return f"{clean(subject(item))} {', '.join(sentences(item))}"


def _step_text(step: Step) -> str:
    fields = ", ".join(f"{name}: {json.dumps(value).strip(chr(34))}" for name, value in step.body.items())
    return f"{step.call} {{{clean(fields)}}}"


def _rounded(seconds: float) -> float:
    return round(seconds, 3)
