"""Rename the instances of the state as the spec's `moved` entries say.

Called by `planner` before anything is compared.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from gpuplan.core.address import Address
from gpuplan.core.desired import Moved
from gpuplan.core.diagnostics import At, Diagnostic, Label, Sink
from gpuplan.core.state import Recorded


@dataclass(frozen=True, slots=True)
class Renamed:
    """The records under their new addresses, and where each of the renamed ones came from."""

    instances: Mapping[Address, Recorded]
    origins: Mapping[Address, Address]


def apply_moves(instances: Mapping[Address, Recorded], moves: Iterable[Moved], sink: Sink) -> Renamed:
    """Rename in the order written, so that a chain of moves ends at its last name.

    A move onto an address that the state has already is reported, and left out.
    """
    origins: dict[Address, Address] = {}
    for move in moves:
        renamed = {address: new for address in instances if (new := _target(address, move)) is not None}
        taken = next((new for new in renamed.values() if new in instances and new not in renamed), None)
        if taken is not None:
            sink.add(_blocked(move, taken))
            continue
        if renamed:
            origins = {renamed.get(new, new): old for new, old in origins.items()}
            origins |= {new: old for old, new in renamed.items() if new not in origins}
            instances = {renamed.get(address, address): record for address, record in instances.items()}
            instances = _follow(instances, move)
    return Renamed(instances, origins)


def _follow(instances: Mapping[Address, Recorded], move: Moved) -> Mapping[Address, Recorded]:
    """Let recorded dependencies speak of the new names too; deletes are ordered by them."""
    followed = dict(instances)
    for address, record in instances.items():
        names = frozenset(_target(name, move) or name for name in record.depends_on)
        if names != record.depends_on:
            followed[address] = replace(record, depends_on=names)
    return followed


def _target(address: Address, move: Moved) -> Address | None:
    """The new name of an address that the move speaks of."""
    source, target = move.source, move.target
    if not source.covers(address) or (source.key is None and target.key is not None and address.key is not None):
        return None
    key = address.key if source.key is None and target.key is None else target.key
    node = address.node if source.node is None else target.node
    return Address(target.kind, target.name, key, node)


def _blocked(move: Moved, taken: Address) -> Diagnostic:
    return Diagnostic(
        id="move-blocked",
        summary=f"`{move.source}` cannot become `{move.target}`: the state has `{taken}` already",
        labels=(Label(At(move.path), "moved here"),),
        hint="remove this entry, or give one of the two another name in the state",
        commands=(f"gpuplan state mv '{taken}' NEW_ADDRESS",),
    )
