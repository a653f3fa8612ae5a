"""The spec's outputs, as far as they are known when the plan is made.

Called by `planner`.
"""

from collections.abc import Mapping, Sequence

from gpuplan.core.desired import Output
from gpuplan.core.diagnostics import Sink
from gpuplan.core.errors import SpecError
from gpuplan.core.seal import hide
from gpuplan.core.values import UNKNOWN, Ref, Scope, Value, resolve
from gpuplan.plan.scope import Awaited


def evaluate_outputs(outputs: Mapping[str, Output], scope: Scope, sink: Sink) -> Mapping[str, Value]:
    """Values by name; what is not known yet is `UNKNOWN`, what is sensitive is a `Secret`."""
    values: dict[str, Value] = {}
    for name, output in sorted(outputs.items()):
        try:
            value = _seen(resolve(output.value, scope), scope)
        except SpecError as error:
            sink.extend(error.diagnostics)
            continue
        values[name] = hide(value) if output.sensitive else value
    return values


def _seen(value: Value, scope: Scope) -> Value:
    """A whole resource as expressions see it; unknown while one of its instances is still to be made."""
    if not isinstance(value, Ref) or value.address.node is not None:
        return value
    view = scope.view(value.address)
    return UNKNOWN if _is_awaited(view) else view


def _is_awaited(value: Value) -> bool:
    if isinstance(value, Mapping):
        return isinstance(value, Awaited) or any(_is_awaited(item) for item in value.values())
    return isinstance(value, Sequence) and not isinstance(value, str) and any(_is_awaited(item) for item in value)
