"""Ask the spec's policies about every resource as the plan would leave it.

Called by `planner` when there are policies.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal

from gpuplan.core.address import Address
from gpuplan.core.capabilities import Capabilities
from gpuplan.core.desired import Candidate, Configuration, Kind
from gpuplan.core.diagnostics import At, Diagnostic, Label, Sink
from gpuplan.core.errors import SpecError
from gpuplan.core.plan import Action, Change
from gpuplan.core.secret import SHOWN, Sealed, Secret
from gpuplan.core.values import Attrs, Deferred, JsonValue, Ref, Unknown, Value
from gpuplan.plan.cost import price_after, units
from gpuplan.plan.scope import PlanScope


def ask_policies(
    changes: Mapping[Address, Change],
    configuration: Configuration,
    capabilities: Mapping[str, Capabilities],
    scope: PlanScope,
    sink: Sink,
) -> None:
    """Report every policy that denies a resource, and every one that cannot be computed."""
    blocks: dict[Address, list[Change]] = {}
    for change in changes.values():
        if change.desired is not None and change.action is not Action.DELETE:
            blocks.setdefault(change.address.block, []).append(change)
    for block, members in blocks.items():
        view = _view(block, members, capabilities, scope)
        desired = members[0].desired
        assert desired is not None
        for policy in configuration.policies:
            try:
                denied = policy.denies(view)
            except SpecError as error:
                sink.extend(error.diagnostics)
                continue
            if denied:
                sink.add(
                    Diagnostic(
                        id="policy-denied",
                        summary=f"a policy denies `{block}`: {policy.message}",
                        labels=(Label(At(desired.path, key=True), "denied"), Label(At(policy.path), "by this policy")),
                    )
                )


def _view(
    block: Address, members: Sequence[Change], capabilities: Mapping[str, Capabilities], scope: PlanScope
) -> Mapping[str, JsonValue]:
    """One resource in the words policies use; `gpu_count`, `nodes` and `price` are those of all its nodes."""
    first = members[0]
    candidate = _candidate(first)
    attrs = scope.attrs_of(candidate)
    nodes = sum(units(change, attrs.get("nodes")) for change in members)
    name, per_node = _gpu(attrs)
    prices = [price for change in members if (price := price_after(change, capabilities)) is not None]
    offer = None if first.chosen is None else first.chosen.offer
    assert first.desired is not None
    return {
        **{name: _json(value) for name, value in attrs.items()},
        "kind": "cluster" if first.desired.kind in (Kind.NODE, Kind.GROUP) else first.desired.kind.value,
        "name": block.name,
        "address": str(block),
        "provider": candidate.provider,
        "region": _json(attrs.get("region")) or ("" if offer is None else offer.region),
        "gpu": name,
        "gpu_count": per_node * nodes,
        "gpus_per_node": per_node,
        "nodes": nodes,
        "spot": bool(attrs.get("spot")),
        "price": float(sum(prices, Decimal(0))) if prices else None,
        "action": first.action.value,
    }


def _candidate(change: Change) -> Candidate:
    """Where the instance will be."""
    if change.chosen is not None:
        return change.chosen.candidate
    assert change.desired is not None
    provider = "" if change.prior is None else change.prior.provider
    candidates = change.desired.candidates
    return next((candidate for candidate in candidates if candidate.provider == provider), candidates[0])


def _gpu(attrs: Attrs) -> tuple[str, int]:
    gpu = attrs.get("gpu")
    if not isinstance(gpu, str):
        return "", 0
    name, _, count = gpu.partition(":")
    return name, int(count or 1)


def _json(value: Value) -> JsonValue:
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {name: _json(item) for name, item in value.items()}
    if isinstance(value, (Secret, Sealed)):
        return SHOWN
    if isinstance(value, Ref):
        return str(value.address)
    if isinstance(value, (Unknown, Deferred)):
        return None
    return [_json(item) for item in value]
