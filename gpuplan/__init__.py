"""gpuplan: declarative reconciliation for GPU clusters.

The public names load what they need when they are first used: importing the package costs nothing.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpuplan.core.capabilities import Capabilities
    from gpuplan.core.errors import GpuplanError
    from gpuplan.core.plan import Plan, PlanOptions
    from gpuplan.core.ports import Provider, ProviderType
    from gpuplan.core.state import State
    from gpuplan.workflow.applying import Run, apply_project
    from gpuplan.workflow.planning import find_project_drift, plan_project
    from gpuplan.workflow.project import Project, load_spec

__all__ = [
    "Capabilities",
    "GpuplanError",
    "Plan",
    "PlanOptions",
    "Project",
    "Provider",
    "ProviderType",
    "Run",
    "State",
    "__version__",
    "apply_project",
    "find_project_drift",
    "load_spec",
    "plan_project",
]

__version__ = "0.1.0"

_HOMES = {
    "Capabilities": "core.capabilities",
    "GpuplanError": "core.errors",
    "Plan": "core.plan",
    "PlanOptions": "core.plan",
    "Project": "workflow.project",
    "Provider": "core.ports",
    "ProviderType": "core.ports",
    "Run": "workflow.applying",
    "State": "core.state",
    "apply_project": "workflow.applying",
    "find_project_drift": "workflow.planning",
    "load_spec": "workflow.project",
    "plan_project": "workflow.planning",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module `gpuplan` has no attribute `{name}`")
    from importlib import import_module

    return getattr(import_module(f"gpuplan.{home}"), name)
