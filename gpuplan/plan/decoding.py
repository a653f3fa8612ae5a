"""A plan out of the documents of `shapes`, bound to the spec as it is read now. Called by `document`."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import cast

from gpuplan.core.address import Address
from gpuplan.core.desired import Candidate, Configuration
from gpuplan.core.diagnostics import At, Diagnostic, Label, Span
from gpuplan.core.encoding import decode_time, decode_value
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Observed
from gpuplan.core.offers import Offer
from gpuplan.core.plan import Change, Drift, Operation, Plan, Ranked, Reason
from gpuplan.core.secret import Sealed
from gpuplan.core.state import Deposed, Recorded
from gpuplan.core.values import Attrs, Facts, JsonValue, Value
from gpuplan.plan.encoding import SENSITIVE
from gpuplan.plan.shapes import (
    AtDocument,
    ChangeDocument,
    DiagnosticDocument,
    DriftDocument,
    ObservedDocument,
    OfferDocument,
    OperationDocument,
    PlanDocument,
    RankedDocument,
    ReasonDocument,
    RecordedDocument,
    SpanDocument,
)


def decode(document: PlanDocument, configuration: Configuration) -> Plan:
    """Raises KeyError for an instance or a candidate that the spec does not have, ValueError for an address, a time or
    a value that cannot be read."""
    decoder = _Decoder(configuration, document["places"])
    return Plan(
        project=document["project"],
        workspace=document["workspace"],
        lineage=document["lineage"],
        serial=document["serial"],
        spec_digest=document["spec_digest"],
        mode=document["mode"],
        made_at=decode_time(document["made_at"]),
        changes={change.address: change for change in map(decoder.change, document["changes"])},
        operations=tuple(map(_operation, document["operations"])),
        drift=tuple(map(_drift, document["drift"])),
        outputs={name: _unmarked(value) for name, value in document["outputs"].items()},
        hourly_before=_money(document["hourly_before"]),
        hourly_after=_money(document["hourly_after"]),
        warnings=tuple(map(_diagnostic, document["warnings"])),
        orphans=tuple(map(_observed, document["orphans"])),
        partial=document["partial"],
        lifted=tuple(map(Address.parse, document["lifted"])),
    )


class _Decoder:
    """Reads the changes of one plan; equal nodes share their places again."""

    def __init__(self, configuration: Configuration, places: Sequence[Sequence[RankedDocument]]) -> None:
        self._instances = configuration.instances
        self._places = places
        self._known: dict[tuple[int, int], tuple[Ranked, ...]] = {}

    def change(self, document: ChangeDocument) -> Change:
        address = Address.parse(document["address"])
        origin = document["moved_from"]
        moved_from = None if origin is None else Address.parse(origin)
        desired = self._instances[address] if document["desired"] else None
        observed = document["observed"]
        prior = None if document["prior"] is None else _recorded(moved_from or address, document["prior"])
        refreshed = None if document["refreshed"] is None else _recorded(address, document["refreshed"])
        return Change(
            address=address,
            action=document["action"],
            desired=desired,
            prior=prior,
            observed=None if observed is None else _observed(observed),
            reasons=tuple(map(_reason, document["reasons"])),
            places=() if desired is None else self._ranked(document["places"], desired.candidates),
            refreshed=refreshed,
            create_first=document["create_first"],
            import_id=document["import_id"],
            moved_from=moved_from,
        )

    def _ranked(self, number: int | None, candidates: tuple[Candidate, ...]) -> tuple[Ranked, ...]:
        if number is None:
            return ()
        key = (number, id(candidates))
        if key not in self._known:
            self._known[key] = tuple(_place(place, candidates) for place in self._places[number])
        return self._known[key]


def _place(document: RankedDocument, candidates: Sequence[Candidate]) -> Ranked:
    number = document["candidate"]
    if number >= len(candidates) or candidates[number].provider != document["provider"]:
        raise KeyError(document["provider"])
    offer = document["offer"]
    attrs = document["attrs"]
    return Ranked(
        candidates[number],
        None if offer is None else offer_of(offer),
        document["rejected"],
        None if attrs is None else {name: _unmarked(value) for name, value in attrs.items()},
    )


def _operation(document: OperationDocument) -> Operation:
    return Operation(
        id=document["id"],
        action=document["action"],
        address=Address.parse(document["address"]),
        provider=document["provider"],
        needs=tuple(document["needs"]),
        remote_id=document["remote_id"],
        deposed=document["deposed"],
    )


def _drift(document: DriftDocument) -> Drift:
    address = document["address"]
    return Drift(
        kind=document["kind"],
        address=None if address is None else Address.parse(address),
        provider=document["provider"],
        reasons=tuple(map(_reason, document["reasons"])),
        remote_id=document["remote_id"],
        text=document["text"],
        at=_at(document["at"]),
    )


def _reason(document: ReasonDocument) -> Reason:
    return Reason(
        path=document["path"],
        before=_unmarked(document["before"]),
        after=_unmarked(document["after"]),
        forces_replace=document["forces_replace"],
        needs_stop=document["needs_stop"],
        text=document["text"],
        at=_at(document["at"]),
    )


def _observed(document: ObservedDocument) -> Observed:
    owner, ends = document["address"], document["expires_at"]
    return Observed(
        kind=document["kind"],
        remote_id=document["remote_id"],
        status=document["status"],
        facts=_facts(document["facts"]),
        mark=None if owner is None else Mark("", address=Address.parse(owner)),
        detail=document["detail"],
        healthy=document["healthy"],
        expires_at=None if ends is None else decode_time(ends),
    )


def _recorded(address: Address, document: RecordedDocument) -> Recorded:
    return Recorded(
        address=address,
        kind=document["kind"],
        provider=document["provider"],
        account=document["account"],
        remote_id=document["remote_id"],
        token=document["token"],
        attrs=_attrs(document["attrs"]),
        facts=_facts(document["facts"]),
        depends_on=frozenset(map(Address.parse, document["depends_on"])),
        created_at=decode_time(document["created_at"]),
        phase=document["phase"],
        deposed=tuple(Deposed(**deposed) for deposed in document["deposed"]),
        create_before_destroy=document["create_before_destroy"],
    )


def offer_of(document: OfferDocument) -> Offer:
    """Raises ValueError or InvalidOperation for a time or a price that cannot be read."""
    ends = document["expires_at"]
    return Offer(
        provider=document["provider"],
        ref=document["ref"],
        region=document["region"],
        gpu=document["gpu"],
        gpu_count=document["gpu_count"],
        pricing=document["pricing"],
        price_per_hour=_money(document["price_per_hour"]),
        seen_at=decode_time(document["seen_at"]),
        instance_type=document["instance_type"],
        zone=document["zone"],
        gpu_memory_gb=document["gpu_memory_gb"],
        cpu=document["cpu"],
        memory_gb=document["memory_gb"],
        disk_gb=document["disk_gb"],
        stock=document["stock"],
        max_count=document["max_count"],
        reliability=document["reliability"],
        confidential=document["confidential"],
        expires_at=None if ends is None else decode_time(ends),
        facts=_facts(document["facts"]),
        host=document["host"],
        gpu_slice=document["gpu_slice"],
    )


def _diagnostic(document: DiagnosticDocument) -> Diagnostic:
    return Diagnostic(
        id=document["id"],
        summary=document["summary"],
        labels=tuple(Label(_where(label["where"]), label["text"]) for label in document["labels"]),
        facts=tuple(document["facts"]),
        hint=document["hint"],
        commands=tuple(document["commands"]),
        severity=document["severity"],
    )


def _where(document: AtDocument | SpanDocument) -> At | Span:
    if "path" in document:
        at = cast(AtDocument, document)
        return At(tuple(at["path"]), at["key"])
    return Span(**document)


def _at(document: AtDocument | None) -> At | None:
    return None if document is None else At(tuple(document["path"]), document["key"])


def _money(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


# JSON is what the text was parsed into; the shapes say `object` where any of it may stand.


def _unmarked(value: object) -> Value:
    """The inverse of `encoding.shown`; a sensitive value comes back as one that cannot be opened."""
    if isinstance(value, Mapping):
        if SENSITIVE in value:
            return Sealed("")
        if any(name.startswith("$") for name in value):
            return decode_value(cast(JsonValue, value))
        return {name: _unmarked(item) for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_unmarked(item) for item in value]
    return cast(JsonValue, value)


def _attrs(document: Mapping[str, object]) -> Attrs:
    return {name: decode_value(cast(JsonValue, value)) for name, value in document.items()}


def _facts(document: Mapping[str, object]) -> Facts:
    return cast(Facts, document)
