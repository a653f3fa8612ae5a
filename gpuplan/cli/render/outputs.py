"""Outputs as people and programs read them. Called by `apply` and `output`."""

from collections.abc import Mapping

from gpuplan.cli.render.text import clean, pad, width
from gpuplan.cli.render.value import show
from gpuplan.core.values import Value


def render_outputs(outputs: Mapping[str, Value]) -> str:
    """A line for each, under a heading; ends with a line end."""
    longest = max(width(clean(name)) for name in outputs)
    lines = [f"{pad(clean(name), longest)} = {show(value)}" for name, value in sorted(outputs.items())]
    return "Outputs:\n" + "\n".join(lines) + "\n"
