"""What to ask the price lists for: one question per account, as narrow as the spec allows.

Called by `workflow` before it asks. Whatever a provider cannot filter by, `offers` filters again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gpuplan.core.desired import Candidate, Configuration, Kind
from gpuplan.core.diagnostics import Sink
from gpuplan.core.gpus import GpuRequest
from gpuplan.core.offers import OfferQuery
from gpuplan.core.plan import Mode, PlanOptions
from gpuplan.core.state import State
from gpuplan.core.values import Value
from gpuplan.plan.mounts import homes_in_spec
from gpuplan.plan.moves import apply_moves

_NODES = frozenset({Kind.NODE, Kind.GROUP})
_NO_GPU = GpuRequest("", 0)


def demand(configuration: Configuration) -> Mapping[str, OfferQuery]:
    """By provider block, what all clusters that may live there ask for together."""
    demands: dict[str, _Demand] = {}
    for desired in {id(wanted.candidates): wanted for wanted in configuration.instances.values()}.values():
        if desired.kind in _NODES:
            for candidate in desired.candidates:
                demands.setdefault(candidate.provider, _Demand()).add(candidate, configuration)
    return {provider: wanted.query() for provider, wanted in demands.items()}


def surely_asked(configuration: Configuration, state: State, options: PlanOptions) -> set[str]:
    """Providers whose offers the plan will need whatever the refresh sees: the state has nothing of what may go there.
    They can be asked while the refresh is under way."""
    if options.mode is not Mode.NORMAL or options.targets or options.excludes:
        return set()
    known = {*apply_moves(state.instances, configuration.moved, Sink()).instances, *state.expired}
    known |= {entry.target for entry in configuration.imports}
    new = (wanted for address, wanted in configuration.instances.items() if address not in known)
    return {candidate.provider for wanted in new if wanted.kind in _NODES for candidate in wanted.candidates}


@dataclass(slots=True)
class _Demand:
    """What one provider is asked for, while it grows. An answer of None in it means: anything."""

    machines: set[GpuRequest | None] = field(default_factory=set)
    regions: set[str | None] = field(default_factory=set)
    spot: set[bool | None] = field(default_factory=set)
    disks: set[float | None] = field(default_factory=set)

    def add(self, candidate: Candidate, configuration: Configuration) -> None:
        attrs = candidate.attrs
        self.machines.add(_machine(attrs.get("gpu"), attrs.get("instance_type")))
        region = attrs.get("region")
        if region is None:
            regions = {home.region for home in homes_in_spec(attrs, configuration)}
            region = regions.pop() if len(regions) == 1 else None
        self.regions.add(region if isinstance(region, str) and region else None)
        self.spot.add(_spot(attrs.get("spot")))
        disk = attrs.get("disk_gb")
        self.disks.add(disk if isinstance(disk, (int, float)) else None)

    def query(self) -> OfferQuery:
        machines = {machine for machine in self.machines if machine is not None}
        if len(machines) < len(self.machines):
            machines = set()
        only = machines.pop() if len(machines) == 1 else None
        disks = [disk for disk in self.disks if disk is not None]
        return OfferQuery(
            gpu="" if only is None else only.name,
            gpu_count=None if only is None else only.count,
            regions=tuple(sorted(filter(None, self.regions))) if None not in self.regions else (),
            spot=next(iter(self.spot)) if len(self.spot) == 1 else None,
            machines=tuple(sorted(machines, key=lambda machine: (machine.name, machine.count))),
            disk_gb=min(disks) if len(disks) == len(self.disks) else None,
        )


def _machine(gpu: Value, instance_type: Value) -> GpuRequest | None:
    if isinstance(gpu, str):
        name, _, count = gpu.partition(":")
        return GpuRequest(name, int(count or 1))
    return _NO_GPU if gpu is None and instance_type is None else None


def _spot(spot: Value) -> bool | None:
    """True: spot alone will do; False: nothing of that; None: either."""
    if spot is None or spot is False:
        return False
    if isinstance(spot, Mapping):
        return None if spot.get("fallback", False) is not False else True
    return True if spot is True else None
