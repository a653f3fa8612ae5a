"""Which instances a plan speaks of under `--target` and `--exclude`.

Called by `planner`. What is created brings along what it needs, what is deleted takes along what needs it.
"""

from collections.abc import Mapping, Sequence

from gpuplan.core.address import Address
from gpuplan.core.desired import Desired
from gpuplan.core.diagnostics import Diagnostic, Sink
from gpuplan.core.plan import PlanOptions
from gpuplan.plan.dependencies import Dependencies
from gpuplan.plan.graph import closure, reverse


def select(
    options: PlanOptions, dependencies: Dependencies, desired: Mapping[Address, Desired], sink: Sink
) -> set[int] | None:
    """Numbers of the selected instances; None for all. An address that names nothing is reported."""
    for asked, flag in ((options.targets, "--target"), (options.excludes, "--exclude"), (options.replace, "--replace")):
        for address in asked:
            if not _covered((address,), dependencies):
                sink.add(_unknown(address, flag))
    if not options.targets and not options.excludes:
        return None
    kept = {number for number in range(dependencies.count) if dependencies.addresses[number] in desired}
    selected = set(range(dependencies.count))
    if options.targets:
        starts = _covered(options.targets, dependencies)
        selected = closure(starts & kept, dependencies.needs) & kept
        selected |= closure(starts - kept, dependencies.users)
    if options.excludes:
        starts = _covered(options.excludes, dependencies)
        selected -= closure(starts, reverse(dependencies.needs))
        selected -= closure(starts, dependencies.recorded) - kept
    return {number for number in selected if number < dependencies.count}


def _covered(names: Sequence[Address], dependencies: Dependencies) -> set[int]:
    return {
        number
        for number in range(dependencies.count)
        if any(name.covers(dependencies.addresses[number]) for name in names)
    }


def _unknown(address: Address, flag: str) -> Diagnostic:
    return Diagnostic(
        id="unknown-address",
        summary=f"`{address}` names nothing in the spec or the state",
        facts=(f"it was given to {flag}",),
        hint="addresses look like `clusters.train` or `clusters.train.nodes[0]`; these are in the state",
        commands=("gpuplan state list",),
    )
