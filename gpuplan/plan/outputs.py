"""The spec's outputs, as far as they are known when the plan is made.

Called by `planner`.
"""

from collections.abc import Mapping

from gpuplan.core.desired import Output
from gpuplan.core.diagnostics import Sink
from gpuplan.core.errors import SpecError
from gpuplan.core.seal import hide
from gpuplan.core.values import Scope, Value, resolve


def evaluate_outputs(outputs: Mapping[str, Output], scope: Scope, sink: Sink) -> Mapping[str, Value]:
    """Values by name; what is not known yet is `UNKNOWN`, what is sensitive is a `Secret`."""
    values: dict[str, Value] = {}
    for name, output in sorted(outputs.items()):
        try:
            value = resolve(output.value, scope)
        except SpecError as error:
            sink.extend(error.diagnostics)
            continue
        values[name] = hide(value) if output.sensitive else value
    return values
