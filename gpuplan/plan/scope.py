"""What expressions may look at while a plan is made: the instances as they will be when the plan has been applied.

Called by `planner`, which settles each instance in dependency order. What is about to be created has no id yet, and
facts nobody knows.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from gpuplan.core.address import Address
from gpuplan.core.desired import Candidate, Desired
from gpuplan.core.diagnostics import At
from gpuplan.core.errors import SpecError
from gpuplan.core.seal import sealed_within, secret_elsewhere, veiled
from gpuplan.core.state import Phase, Recorded
from gpuplan.core.values import UNKNOWN, Attrs, Facts, Value, resolve
from gpuplan.plan.dependencies import Dependencies


class Awaited(dict[str, Value]):
    """An object that is still to be made: what the spec does not say about it is `UNKNOWN`."""

    def __missing__(self, key: str) -> Value:
        return UNKNOWN


def resource_view(resource: Address, members: Iterable[Address], see: Callable[[Address, str], Value]) -> Value:
    """A resource as expressions see it, made of its instances: alone, as a list by `count`, or by the keys of
    `for_each`. `see` shows one instance under a name."""
    blocks: dict[str | int | None, list[Address]] = {}
    for address in members:
        blocks.setdefault(address.key, []).append(address)
    if not blocks:
        return {"name": resource.name, "nodes": []}
    views = {key: _block_view(addresses, see) for key, addresses in blocks.items()}
    if resource.key is not None or None in views:
        return next(iter(views.values()))
    if all(isinstance(key, int) for key in views):
        return list(views.values())
    return {str(key): view for key, view in views.items()}


def _block_view(addresses: Sequence[Address], see: Callable[[Address, str], Value]) -> Value:
    first = addresses[0]
    if first.node is None:
        return see(first, first.name)
    nodes = [see(address, f"{address.name}-{address.node}") for address in addresses]
    if first.kind == "clusters":
        return {"name": first.name, "nodes": nodes}
    # A service is asked for by its name: what its first node says stands for it.
    lead = nodes[0]
    own: dict[str, Value] = {"name": first.name, "nodes": nodes}
    return type(lead)({**lead, **own}) if isinstance(lead, dict) else own


class _Settled(NamedTuple):
    remote_id: str | None
    attrs: Attrs
    facts: Facts
    complete: bool
    """Whether all its facts are known by now."""


class PlanScope:
    """A `core.values.Scope` that grows while the plan is made; instances not settled are as the state has them."""

    def __init__(
        self, dependencies: Dependencies, desired: Mapping[Address, Desired], recorded: Mapping[Address, Recorded]
    ) -> None:
        self._dependencies = dependencies
        self._desired = desired
        self._recorded = recorded
        self._settled: dict[Address, _Settled] = {}
        self._resolved: dict[int, Attrs] = {}

    def attrs_of(self, candidate: Candidate) -> Attrs:
        """The attributes of a candidate with references and expressions resolved; once for all nodes that share it.

        Everything it refers to must have been settled. Raises SpecError for an expression that cannot be computed.
        """
        resolved = self._resolved.get(id(candidate))
        if resolved is None:
            attrs = candidate.attrs
            resolved = {name: resolve(attrs[name], self) for name in attrs}
            for name, value in resolved.items():
                if value is not attrs[name] and (inner := sealed_within(value)) is not None:
                    at = At((*candidate.path, name, *inner))
                    raise SpecError(diagnostics=(secret_elsewhere(at),))
            self._resolved[id(candidate)] = resolved
        return resolved

    def settle(
        self, address: Address, remote_id: str | None, attrs: Attrs, facts: Facts, *, complete: bool = True
    ) -> None:
        """Say what an instance will be; `remote_id` None: it will be created. Facts that are not `complete` may get
        more once the plan is applied: what they lack is unknown."""
        self._settled[address] = _Settled(remote_id, attrs, facts, complete and remote_id is not None)

    def remote_id(self, address: Address) -> str | None:
        settled = self._settled.get(address)
        if settled is not None:
            return settled.remote_id
        recorded = self._recorded.get(address)
        return None if recorded is None else recorded.remote_id

    def known(self, address: Address) -> Mapping[str, Value]:
        """Facts and attributes of an instance, as far as they are known by now."""
        settled = self._settled.get(address)
        if settled is not None:
            return {**settled.facts, **settled.attrs}
        recorded = self._recorded.get(address)
        return {} if recorded is None else {**recorded.facts, **recorded.attrs}

    def view(self, resource: Address) -> Value:
        wanted = (address for address in self._dependencies.members(resource) if address in self._desired)
        return resource_view(resource, wanted, self._instance)

    def _instance(self, address: Address, name: str) -> Value:
        settled = self._settled.get(address)
        if settled is None:
            recorded = self._recorded.get(address)
            if recorded is None:
                return Awaited(name=name, id=UNKNOWN)
            settled = _Settled(recorded.remote_id, recorded.attrs, recorded.facts, recorded.phase is not Phase.PENDING)
        attrs = {name: veiled(value) for name, value in settled.attrs.items()}
        view = {**attrs, **settled.facts, "id": settled.remote_id or UNKNOWN, "name": name}
        nodes = view.get("nodes")
        if address.kind == "clusters" and isinstance(nodes, int):
            # A group whose members the provider has not told: their number is all that is known.
            view["nodes"] = [Awaited() for _ in range(nodes)]
        return view if settled.complete else Awaited(view)
