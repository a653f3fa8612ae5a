"""Take over objects that exist already: the spec's `imports`.

Called by `planner` for a desired instance that the state does not have.
"""

from collections.abc import Mapping

from gpuplan.core.desired import Candidate, Desired, Import
from gpuplan.core.diagnostics import At, Diagnostic, Label, Sink
from gpuplan.core.observed import GONE, Observed, Survey
from gpuplan.core.plan import Action, Reason
from gpuplan.core.state import Recorded
from gpuplan.core.values import Value
from gpuplan.plan.compare import differences
from gpuplan.plan.diff import Decision, Differ
from gpuplan.plan.ignore import is_ignored


def adopt(desired: Desired, entry: Import, survey: Survey, differ: Differ, sink: Sink) -> Decision | None:
    """Adopt the object, and change it in place where the spec asks for something else.

    None, with a finding, where it cannot be seen, is not there, or would have to be replaced.
    """
    candidate = desired.candidates[0]
    if entry.target not in survey.imports:
        sink.add(_unseen(entry, candidate))
        return None
    observed = survey.imports[entry.target]
    if observed is None or observed.status in GONE:
        sink.add(_missing(entry, candidate))
        return None
    reasons = _differences(desired, candidate, observed, differ)
    forcing = [reason for reason in reasons if reason.forces_replace]
    if forcing:
        sink.add(_differs(desired, entry, forcing))
        return None
    return Decision(Action.ADOPT, tuple(reasons), (), candidate)


def check_imported(entry: Import, recorded: Recorded, sink: Sink) -> None:
    """An import that was carried out may stay in the spec; one that names another object may not."""
    if entry.remote_id != recorded.remote_id:
        sink.add(
            Diagnostic(
                id="import-conflict",
                summary=f"`{entry.target}` is in the state already, as another object",
                labels=(Label(At((*entry.path, "id")), "to be imported"),),
                facts=(f"the state has {recorded.remote_id} at `{recorded.provider}`",),
                hint="remove the import, or take the recorded object out of the state first",
                commands=(f"gpuplan state rm '{entry.target}'",),
            )
        )


def _differences(desired: Desired, candidate: Candidate, observed: Observed, differ: Differ) -> list[Reason]:
    # What the provider does not report cannot be compared; the spec is taken for it.
    wanted = {name: value for name, value in differ.scope.attrs_of(candidate).items() if name in observed.attrs}
    present = _asked_for(observed.attrs, wanted)
    capabilities = differ.capabilities[candidate.provider]
    ignored = desired.settings.lifecycle.ignore_changes
    return [
        differ.reason(desired, candidate, difference, capabilities)
        for difference in differences(present, wanted, differ.key)
        if not is_ignored(difference.path, ignored)
    ]


def _asked_for(present: Mapping[str, Value], wanted: Mapping[str, Value]) -> Mapping[str, Value]:
    """The part of what is there that the spec speaks of; the rest are defaults of the provider."""
    found: dict[str, Value] = {}
    for name, value in present.items():
        if name in wanted:
            inner = wanted[name]
            if isinstance(value, Mapping) and isinstance(inner, Mapping):
                value = _asked_for(value, inner)
            found[name] = value
    return found


def _unseen(entry: Import, candidate: Candidate) -> Diagnostic:
    return Diagnostic(
        id="import-unseen",
        summary=f"`{candidate.provider}` was not asked about the object to import as `{entry.target}`",
        labels=(Label(At((*entry.path, "id")), "this object"),),
        hint="plan again with a refresh, when the provider answers",
    )


def _missing(entry: Import, candidate: Candidate) -> Diagnostic:
    return Diagnostic(
        id="import-missing",
        summary=f"`{candidate.provider}` has no such object to import as `{entry.target}`",
        labels=(Label(At((*entry.path, "id")), "not there"),),
        hint="remove the import to create a new object",
    )


def _differs(desired: Desired, entry: Import, reasons: list[Reason]) -> Diagnostic:
    labels = [Label(At((*entry.path, "id")), "this object is different")]
    labels += [
        Label(reason.at, f"`{reason.path}` is {reason.before} there") for reason in reasons if reason.at is not None
    ]
    return Diagnostic(
        id="import-differs",
        summary=f"the object to import as `{desired.address}` could only be replaced, not adopted",
        labels=tuple(labels),
        hint="make the spec say what the object is",
    )
