"""Who needs whom among instances, as numbered graphs.

Called by `planner`. A dependency may name several instances at once (`clusters.train`, `clusters.web["eu"]`): such a
name is a node of its own between them, so that edges stay as many as names in the spec.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

from gpuplan.core.address import Address
from gpuplan.core.desired import Desired
from gpuplan.core.diagnostics import At, Diagnostic, Label
from gpuplan.core.state import Recorded
from gpuplan.plan.graph import cycles, reverse


class Dependencies:
    """`addresses` are the instances in address order, then the group names; a position in it is a node's number."""

    def __init__(self, desired: Mapping[Address, Desired], recorded: Mapping[Address, Recorded]) -> None:
        self.addresses: list[Address] = sorted(desired.keys() | recorded.keys(), key=_by_order)
        self.count = len(self.addresses)
        """How many of `addresses` are instances."""
        self.position = {address: number for number, address in enumerate(self.addresses)}
        self.needs: list[list[int]] = [[] for _ in self.addresses]
        """By the spec. Triggers of a replacement count as needs."""
        self.recorded: list[list[int]] = [[] for _ in self.addresses]
        """By the state: what the living objects were made with."""
        for number in range(self.count):
            address = self.addresses[number]
            if (wanted := desired.get(address)) is not None:
                self._add(self.needs, number, wanted.depends_on)
                self._add(self.needs, number, wanted.settings.lifecycle.replace_triggered_by)
            if (known := recorded.get(address)) is not None:
                self._add(self.recorded, number, known.depends_on)

    @cached_property
    def users(self) -> list[list[int]]:
        """The recorded graph seen from the other end."""
        return reverse(self.recorded)

    def members(self, address: Address) -> Iterator[Address]:
        """The instances an address covers, itself if it is one, in address order."""
        number = self.position.get(address)
        if number is not None and number < self.count:
            yield address
        elif address.node is None:
            yield from (self.addresses[member] for member in self._groups.get(_group(address), ()))

    @cached_property
    def _groups(self) -> dict[tuple[object, ...], list[int]]:
        groups: dict[tuple[object, ...], list[int]] = {}
        for number in range(self.count):
            kind, name, key, node = self.addresses[number]
            if key is not None or node is not None:
                groups.setdefault((kind, name), []).append(number)
            if key is not None and node is not None:
                groups.setdefault((kind, name, key), []).append(number)
        return groups

    def _add(self, graph: list[list[int]], number: int, names: Iterable[Address]) -> None:
        if not names:
            return
        found = (self._node(name) for name in names)
        graph[number] = sorted({*graph[number], *(other for other in found if other is not None)})

    def _node(self, address: Address) -> int | None:
        number = self.position.get(address)
        if number is not None:
            return number
        members = self._groups.get(_group(address)) if address.node is None else None
        if members is None:
            return None
        number = self.position[address] = len(self.addresses)
        self.addresses.append(address)
        self.needs.append(members)
        self.recorded.append(members)
        return number


def circles(dependencies: Dependencies, desired: Mapping[Address, Desired]) -> Iterator[Diagnostic]:
    """The whole of each circle in which instances wait for each other."""
    for circle in cycles(dependencies.needs):
        names = [dependencies.addresses[number] for number in circle]
        following = [*names[1:], names[0]]
        yield Diagnostic(
            id="dependency-cycle",
            summary="resources wait for each other",
            labels=tuple(
                Label(At(desired[name].path, key=True), f"{name} waits for {after}")
                for name, after in zip(names, following, strict=True)
                if name in desired
            ),
            facts=(" → ".join(str(name) for name in (*names, names[0])),),
            hint="remove one of these references",
        )


def _group(address: Address) -> tuple[object, ...]:
    kind, name, key, _ = address
    return (kind, name) if key is None else (kind, name, key)


def _by_order(address: Address) -> tuple[str, str, bool, int, str, int]:
    return address.order
