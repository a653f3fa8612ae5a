"""Saved plans: JSON text with a published schema (`schemas/plan.v1.json`), bound to one state and one spec.

Called by `workflow` for `plan --out`, `apply FILE` and `show FILE`.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import InvalidOperation
from types import MappingProxyType
from typing import TYPE_CHECKING

from gpuplan.core.desired import Configuration
from gpuplan.core.diagnostics import Diagnostic
from gpuplan.core.encoding import encode_time
from gpuplan.core.errors import PlanError, PlanStale
from gpuplan.core.plan import Plan
from gpuplan.core.state import State
from gpuplan.core.values import JsonValue
from gpuplan.plan.encoding import (
    ChangeEncoder,
    diagnostic_document,
    drift_document,
    money,
    observed_document,
    operation_document,
    shown,
    stays,
)

if TYPE_CHECKING:
    from gpuplan.plan.shapes import PlanDocument

FORMAT = 1
_NONE: Mapping[str, JsonValue] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class SavedInputs:
    """What a saved plan tells about the spec it was made from, so that the same spec can be read again."""

    workspace: str
    spec_files: Mapping[str, str]
    variables: Mapping[str, JsonValue]


def encode_plan(
    plan: Plan, *, spec_files: Mapping[str, str] | None = None, variables: Mapping[str, JsonValue] = _NONE
) -> str:
    """The text of a plan file: the same for the same plan, one change or operation a line.

    `spec_files` are digests by file name, `variables` what was given to them without the sensitive ones.
    """
    encoder = ChangeEncoder()
    kept = [change for change in plan.changes.values() if not stays(change)]
    changes = [encoder.change(change) for change in kept]
    head = {
        "format": FORMAT,
        "project": plan.project,
        "workspace": plan.workspace,
        "lineage": plan.lineage,
        "serial": plan.serial,
        "spec_digest": plan.spec_digest,
        "mode": plan.mode,
        "made_at": encode_time(plan.made_at),
        "partial": plan.partial,
        "hourly_before": money(plan.hourly_before),
        "hourly_after": money(plan.hourly_after),
        "unchanged": len(plan.changes) - len(kept),
        "spec_files": dict(sorted((spec_files or {}).items())),
        "variables": dict(sorted(variables.items())),
        "outputs": {name: shown(value) for name, value in plan.outputs.items()},
        "lifted": list(map(str, plan.lifted)),
    }
    lists: dict[str, Iterable[object]] = {
        "warnings": map(diagnostic_document, plan.warnings),
        "drift": map(drift_document, plan.drift),
        "orphans": map(observed_document, plan.orphans),
        "places": encoder.places,
        "changes": changes,
        "operations": map(operation_document, plan.operations),
    }
    entries = [f"{_json(name)}: {_json(value)}" for name, value in head.items()]
    entries += [f"{_json(name)}: {_lines(items)}" for name, items in lists.items()]
    return "{\n" + ",\n".join(entries) + "\n}\n"


def decode_plan(text: str, configuration: Configuration) -> Plan:
    """Read a saved plan and bind it to the spec.

    Raises PlanStale when the spec is not the one it was made from, PlanError when the text is no saved plan.
    """
    from gpuplan.plan.decoding import decode

    document = _parsed(text)
    if document["spec_digest"] != configuration.digest:
        raise _stale("this plan was made for another spec", "the spec, or a variable, has changed since")
    try:
        return decode(document, configuration)
    except (KeyError, ValueError, InvalidOperation, IndexError) as error:
        raise _unreadable(str(error)) from error


def saved_inputs(text: str) -> SavedInputs:
    """Which workspace, files and variables a saved plan was made with. Raises PlanError."""
    document = _parsed(text)
    variables: Mapping[str, JsonValue] = json.loads(_json(document["variables"]))
    return SavedInputs(document["workspace"], document["spec_files"], variables)


def check_fresh(plan: Plan, state: State) -> None:
    """Raises PlanStale when the state is not at the lineage and serial the plan was made for."""
    # A plan made before the first apply has no lineage: the state was born with the run that applies it.
    born = not plan.lineage and not state.instances
    if not plan.lineage and not born:
        raise _stale("this plan was made before the first apply", f"the state is now at serial {state.serial}")
    if plan.lineage != state.lineage and not born:
        raise _stale("this plan was made for another state", f"the state has lineage {state.lineage}")
    if plan.serial != state.serial:
        raise _stale(f"this plan was made for serial {plan.serial}, the state is now at {state.serial}")


def _parsed(text: str) -> "PlanDocument":
    from pydantic import TypeAdapter, ValidationError

    from gpuplan.plan.shapes import PlanDocument

    try:
        document = json.loads(text)
    except ValueError as error:
        raise _unreadable(str(error)) from error
    if isinstance(document, dict) and document.get("format", FORMAT) != FORMAT:
        raise _unreadable(f"it has format {document['format']}, this gpuplan reads format {FORMAT}")
    try:
        return TypeAdapter(PlanDocument).validate_python(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise _unreadable(f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}") from error


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def _lines(items: Iterable[object]) -> str:
    lines = ",\n".join(map(_json, items))
    return f"[\n{lines}\n]" if lines else "[]"


def _unreadable(why: str) -> PlanError:
    diagnostic = Diagnostic(
        id="plan-unreadable",
        summary="this is not a plan that gpuplan has saved",
        facts=(why, "nothing was sent to any provider"),
        hint="save a new plan",
        commands=("gpuplan plan --out new.plan",),
    )
    return PlanError(diagnostics=(diagnostic,))


def _stale(summary: str, *facts: str) -> PlanStale:
    diagnostic = Diagnostic(
        id=PlanStale.id,
        summary=summary,
        facts=(*facts, "nothing was sent to any provider"),
        hint="make a new plan and read it again",
        commands=("gpuplan plan --out new.plan",),
    )
    return PlanStale(diagnostics=(diagnostic,))
