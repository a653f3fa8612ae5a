"""How gpuplan treats the instances of a resource: lifecycle, timeouts, updates, prices.

Called by `resources` with a checked block of the spec in which nothing is unknown.
"""

from collections.abc import Callable, Sequence

from gpuplan.core.address import Address
from gpuplan.core.desired import Lifecycle, Objective, Settings, Timeouts
from gpuplan.core.units import parse_duration, parse_money
from gpuplan.spec.model import Cluster, LifecycleBlock, Resource, TimeoutsBlock

_FIELDS = frozenset({"lifecycle", "timeouts", "update", "ttl", "on_failure", "placement"})
_DEFAULT = Settings()


def settings_of(resource: Resource, address_of: Callable[[str | object, int], Address]) -> Settings:
    """`address_of` turns an entry of `replace_triggered_by` and its position into the address it means."""
    if resource.model_fields_set.isdisjoint(_FIELDS):
        return _DEFAULT
    lifecycle = _lifecycle(resource.lifecycle, address_of)
    timeouts = _timeouts(resource.timeouts)
    if not isinstance(resource, Cluster):
        return Settings(lifecycle, timeouts)
    placement = resource.placement
    return Settings(
        lifecycle=lifecycle,
        timeouts=timeouts,
        max_unavailable=resource.update.max_unavailable if resource.update else None,
        on_failure=resource.on_failure,
        objective=placement.objective if placement and placement.objective else Objective.IN_ORDER,
        max_price=parse_money(placement.max_price) if placement and placement.max_price is not None else None,
        ttl_seconds=_seconds(resource.ttl),
    )


def _lifecycle(block: LifecycleBlock | None, address_of: Callable[[str | object, int], Address]) -> Lifecycle:
    if block is None:
        return Lifecycle()
    ignored: Sequence[str] = block.ignore_changes if isinstance(block.ignore_changes, list) else [block.ignore_changes]
    return Lifecycle(
        create_before_destroy=block.create_before_destroy,
        prevent_destroy=block.prevent_destroy,
        ignore_changes=tuple(ignored),
        replace_triggered_by=tuple(address_of(item, index) for index, item in enumerate(block.replace_triggered_by)),
    )


def _timeouts(block: TimeoutsBlock | None) -> Timeouts:
    if block is None:
        return Timeouts()
    return Timeouts(_seconds(block.create), _seconds(block.update), _seconds(block.delete))


def _seconds(duration: str | None) -> float | None:
    return None if duration is None else parse_duration(duration)
