"""A plan as the documents of `shapes`. Called by `document`.

Secrets stay out: what was sealed in a difference is only marked as sensitive, and observed attributes, which may hold
secrets in clear, are not written at all.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal

from gpuplan.core.diagnostics import At, Diagnostic, Span
from gpuplan.core.encoding import encode_time, encode_value
from gpuplan.core.observed import Observed
from gpuplan.core.offers import Offer
from gpuplan.core.plan import Action, Change, Drift, Operation, Ranked, Reason
from gpuplan.core.secret import Sealed, Secret
from gpuplan.core.state import Recorded
from gpuplan.core.values import JsonValue, Value
from gpuplan.plan.shapes import (
    AtDocument,
    ChangeDocument,
    DiagnosticDocument,
    DriftDocument,
    ObservedDocument,
    OfferDocument,
    OperationDocument,
    RankedDocument,
    ReasonDocument,
    RecordedDocument,
    SpanDocument,
)

SENSITIVE = "$sensitive"


def shown(value: Value) -> JsonValue:
    """A value as JSON, with everything sensitive replaced by a mark."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, (Secret, Sealed)):
        return {SENSITIVE: True}
    if isinstance(value, Mapping):
        return {name: shown(item) for name, item in value.items()}
    if isinstance(value, Sequence):
        return [shown(item) for item in value]
    return encode_value(value)


def money(amount: Decimal | None) -> str | None:
    return None if amount is None else str(amount)


class ChangeEncoder:
    """Writes the changes of one plan, and gathers the places they share."""

    def __init__(self) -> None:
        self.places: list[list[RankedDocument]] = []
        self._known: dict[int, int] = {}

    def change(self, change: Change) -> ChangeDocument:
        return {
            "address": str(change.address),
            "action": change.action,
            "desired": change.desired is not None,
            "reasons": [reason_document(reason) for reason in change.reasons],
            "places": self._places(change),
            "create_first": change.create_first,
            "import_id": change.import_id,
            "moved_from": None if change.moved_from is None else str(change.moved_from),
            "prior": None if change.prior is None else _recorded(change.prior),
            "refreshed": None if change.refreshed is None else _recorded(change.refreshed),
            "observed": None if change.observed is None else observed_document(change.observed),
        }

    def _places(self, change: Change) -> int | None:
        if not change.places or change.desired is None:
            return None
        number = self._known.get(id(change.places))
        if number is None:
            numbers = {id(candidate): index for index, candidate in enumerate(change.desired.candidates)}
            number = self._known[id(change.places)] = len(self.places)
            self.places.append([_ranked(place, numbers[id(place.candidate)]) for place in change.places])
        return number


def stays(change: Change) -> bool:
    """Whether there is nothing to say about an instance."""
    return (
        change.action is Action.NO_OP
        and change.refreshed is None
        and change.moved_from is None
        and not change.reasons
        and (change.prior is None or not change.prior.deposed)
    )


def operation_document(operation: Operation) -> OperationDocument:
    return {
        "id": operation.id,
        "action": operation.action,
        "address": str(operation.address),
        "provider": operation.provider,
        "needs": list(operation.needs),
        "remote_id": operation.remote_id,
        "deposed": operation.deposed,
    }


def drift_document(drift: Drift) -> DriftDocument:
    return {
        "kind": drift.kind,
        "address": None if drift.address is None else str(drift.address),
        "provider": drift.provider,
        "reasons": [reason_document(reason) for reason in drift.reasons],
        "remote_id": drift.remote_id,
        "text": drift.text,
        "at": _at(drift.at),
    }


def reason_document(reason: Reason) -> ReasonDocument:
    return {
        "path": reason.path,
        "before": shown(reason.before),
        "after": shown(reason.after),
        "forces_replace": reason.forces_replace,
        "needs_stop": reason.needs_stop,
        "text": reason.text,
        "at": _at(reason.at),
    }


def observed_document(observed: Observed) -> ObservedDocument:
    mark = observed.mark
    return {
        "kind": observed.kind,
        "remote_id": observed.remote_id,
        "status": observed.status,
        "facts": dict(observed.facts),
        "detail": observed.detail,
        "healthy": observed.healthy,
        "expires_at": None if observed.expires_at is None else encode_time(observed.expires_at),
        "address": None if mark is None or mark.address is None else str(mark.address),
    }


def diagnostic_document(diagnostic: Diagnostic) -> DiagnosticDocument:
    return {
        "id": diagnostic.id,
        "severity": diagnostic.severity,
        "summary": diagnostic.summary,
        "labels": [{"where": _where(label.where), "text": label.text} for label in diagnostic.labels],
        "facts": list(diagnostic.facts),
        "hint": diagnostic.hint,
        "commands": list(diagnostic.commands),
    }


def _recorded(recorded: Recorded) -> RecordedDocument:
    return {
        "kind": recorded.kind,
        "provider": recorded.provider,
        "account": recorded.account,
        "remote_id": recorded.remote_id,
        "token": recorded.token,
        "attrs": {name: encode_value(value) for name, value in recorded.attrs.items()},
        "facts": dict(recorded.facts),
        "depends_on": sorted(map(str, recorded.depends_on)),
        "created_at": encode_time(recorded.created_at),
        "phase": recorded.phase,
        "deposed": [
            {
                "provider": deposed.provider,
                "account": deposed.account,
                "kind": deposed.kind,
                "remote_id": deposed.remote_id,
                "token": deposed.token,
            }
            for deposed in recorded.deposed
        ],
        "create_before_destroy": recorded.create_before_destroy,
    }


def _ranked(place: Ranked, number: int) -> RankedDocument:
    return {
        "candidate": number,
        "provider": place.candidate.provider,
        "offer": None if place.offer is None else offer_document(place.offer),
        "rejected": place.rejected,
        "attrs": None if place.attrs is None else {name: shown(value) for name, value in place.attrs.items()},
    }


def offer_document(offer: Offer) -> OfferDocument:
    return {
        "provider": offer.provider,
        "ref": offer.ref,
        "region": offer.region,
        "zone": offer.zone,
        "instance_type": offer.instance_type,
        "gpu": offer.gpu,
        "gpu_count": offer.gpu_count,
        "gpu_memory_gb": offer.gpu_memory_gb,
        "cpu": offer.cpu,
        "memory_gb": offer.memory_gb,
        "disk_gb": offer.disk_gb,
        "pricing": offer.pricing,
        "price_per_hour": money(offer.price_per_hour),
        "stock": offer.stock,
        "max_count": offer.max_count,
        "reliability": offer.reliability,
        "confidential": offer.confidential,
        "seen_at": encode_time(offer.seen_at),
        "expires_at": None if offer.expires_at is None else encode_time(offer.expires_at),
        "facts": dict(offer.facts),
        "host": offer.host,
        "gpu_slice": offer.gpu_slice,
    }


def _where(where: At | Span) -> AtDocument | SpanDocument:
    if isinstance(where, At):
        return {"path": list(where.path), "key": where.key}
    return {"file": where.file, "line": where.line, "column": where.column, "length": where.length}


def _at(at: At | None) -> AtDocument | None:
    return None if at is None else {"path": list(at.path), "key": at.key}
