"""Compare attribute values: what is really different, and at which path.

Called by `diff` (desired against current) and `drift` (recorded against observed). Secrets are compared with what was
sealed and never appear as plain text in a difference.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from gpuplan.core.gpus import gpu_satisfies
from gpuplan.core.seal import has_secret, hide, opens
from gpuplan.core.secret import Sealed, Secret
from gpuplan.core.units import Constraint
from gpuplan.core.values import Attrs, Ref, Unknown, Value

STOPPED = "stopped"
"""Compared by status, not as an attribute: `diff` turns it into a stop or a start."""


class Difference(NamedTuple):
    path: str
    before: Value
    after: Value


def current_attrs(recorded: Attrs, observed: Attrs, key: bytes) -> Attrs:
    """The recorded attributes, overlaid by the observed ones where both have them and they disagree."""
    changed = {
        name: _overlaid(recorded[name], value, key)
        for name, value in observed.items()
        if name in recorded and name != STOPPED and not same(name, value, recorded[name], key)
    }
    return {**recorded, **changed} if changed else recorded


def differences(before: Attrs, after: Attrs, key: bytes) -> Iterator[Difference]:
    """Every attribute path at which `after` is not what `before` already satisfies."""
    for name, wanted in after.items():
        if name == STOPPED:
            continue
        present = before.get(name)
        if present is not wanted and not same(name, present, wanted, key):
            yield from _within(name, present, wanted, key)
    for name, present in before.items():
        if name not in after and name != STOPPED and not _is_empty(present):
            yield Difference(name, present, None)


def same(name: str, before: Value, after: Value, key: bytes) -> bool:
    """Whether a live object with `before` is what `after` asks of the attribute `name`."""
    if before == after:
        return True
    if isinstance(before, str) and isinstance(after, str):
        return name == "gpu" and _gpu_satisfies(before, after)
    if name == "ports" and isinstance(before, Sequence) and isinstance(after, Sequence):
        # In which order they are opened says nothing.
        return set(map(str, before)) == set(map(str, after))
    return _same(before, after, key)


def _same(before: Value, after: Value, key: bytes) -> bool:
    if isinstance(after, str) and isinstance(before, (int, float)):
        return Constraint.parse(after).allows(before) if after.startswith(">=") else after == str(before)
    if isinstance(after, (Secret, Sealed)) or isinstance(before, Secret):
        return _same_secret(before, after, key)
    if isinstance(after, Ref):
        return _same_reference(before, after)
    if isinstance(before, Ref):
        return isinstance(after, str) and after == before.remote_id
    if isinstance(after, Unknown):
        return False
    if isinstance(after, Mapping) and isinstance(before, Mapping):
        return before.keys() == after.keys() and all(_same(before[name], after[name], key) for name in after)
    if isinstance(after, str) or isinstance(before, str):
        return before == after
    if isinstance(after, Sequence) and isinstance(before, Sequence):
        return len(before) == len(after) and all(_same(b, a, key) for b, a in zip(before, after, strict=True))
    return before == after or (_is_empty(before) and _is_empty(after))


def _same_secret(before: Value, after: Value, key: bytes) -> bool:
    match before, after:
        case Sealed(), Secret():
            return opens(after, before, key=key)
        case Secret(), Sealed():
            return opens(before, after, key=key)
        case str(), Secret():
            return before == after.reveal()
        case Secret(), str():
            return before.reveal() == after
        case str(), Sealed():
            return opens(Secret(before), after, key=key)
    return before == after


def _same_reference(before: Value, after: Ref) -> bool:
    if isinstance(before, Ref):
        # A whole cluster has no id of its own: the same name is the same thing.
        return before.remote_id == after.remote_id and (after.remote_id is not None or before.address == after.address)
    return after.remote_id is not None and before == after.remote_id


def _within(path: str, before: Value, after: Value, key: bytes) -> Iterator[Difference]:
    """The differences inside two unequal values: mappings by key, everything else as a whole."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in sorted(before.keys() | after.keys()):
            if not _same(before.get(name), after.get(name), key):
                yield from _within(f"{path}.{name}", before.get(name), after.get(name), key)
        return
    # A provider may report in clear what the spec marks as sensitive.
    yield Difference(path, hide(before) if has_secret(after) else before, after)


def _overlaid(recorded: Value, observed: Value, key: bytes) -> Value:
    """What is there now, as far as the record speaks of it. A changed secret stays a secret."""
    if isinstance(recorded, Mapping) and isinstance(observed, Mapping):
        # Keys that only the provider has are its own defaults.
        return {
            inner: value if _same(observed[inner], value, key) else _overlaid(value, observed[inner], key)
            for inner, value in recorded.items()
            if inner in observed
        }
    return hide(observed) if has_secret(recorded) else observed


def _gpu_satisfies(offered: str, asked: str) -> bool:
    offered_name, _, offered_count = offered.partition(":")
    asked_name, _, asked_count = asked.partition(":")
    return (offered_count or "1") == (asked_count or "1") and gpu_satisfies(offered_name, asked_name)


def _is_empty(value: Value) -> bool:
    """Written down or left out, it asks for nothing."""
    return value is None or value is False or (isinstance(value, (Mapping, Sequence)) and not value and value != "")
