"""Which provider types the conformance kit can try: those with a contract under the entry-point group
`gpuplan.conformance`, ours and those of other packages alike.

    [project.entry-points."gpuplan.conformance"]
    acme = "gpuplan_acme.contract:AcmeContract"

Nothing of the kit itself is imported here: it may not be installed.
"""

from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from gpuplan.core.diagnostics import Diagnostic
from gpuplan.core.errors import GpuplanError
from gpuplan.core.nearest import did_you_mean

if TYPE_CHECKING:
    from gpuplan.testing.conformance import ProviderConformance

GROUP = "gpuplan.conformance"
_NEEDED = ("pytest", "httpx", "starlette", "uvicorn", "asyncssh")


def contract_names() -> list[str]:
    return sorted({entry.name for entry in entry_points(group=GROUP)})


def contract(name: str) -> "type[ProviderConformance]":
    """Raises KeyError for a type without a contract, ImportError where something it needs is not installed."""
    found: type[ProviderConformance] = entry_points(group=GROUP)[name].load()
    return found


def check_kit(name: str) -> None:
    """Raises GpuplanError where the type has no contract, or the kit is not installed."""
    known = contract_names()
    if name not in known:
        hint = did_you_mean(name, known) or f"there are {', '.join(known)}"
        raise _refusal(Diagnostic(id="no-contract", summary=f"there is no contract of `{name}`", hint=hint))
    for module in _NEEDED:
        try:
            import_module(module)
        except ModuleNotFoundError as exc:
            missing = Diagnostic(
                id="test-kit-missing",
                summary="trying a contract needs packages that are not installed",
                facts=(f"there is no module `{exc.name}`",),
                hint="install what they need",
                commands=("pip install 'gpuplan[test-kit]'",),
            )
            raise _refusal(missing) from exc


def _refusal(found: Diagnostic) -> GpuplanError:
    return GpuplanError(diagnostics=(found,))
