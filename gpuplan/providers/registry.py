"""Which provider types there are: entry points of the group `gpuplan.providers`, ours and everyone's alike.

Called by `workflow`, which hands the mapping to the spec. Names are known without importing an adapter; an adapter is
imported when its type is first used. `type: "package.module:Name"` reaches any other one.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from gpuplan.core.diagnostics import Diagnostic
from gpuplan.core.errors import GpuplanError
from gpuplan.core.ports import API_VERSION, ProviderType

GROUP = "gpuplan.providers"
# Import names that differ from the name of the package they come in.
_PACKAGES = {"sky": "skypilot", "grpc": "grpcio", "google": "protobuf", "yaml": "pyyaml"}
_REQUIREMENT = re.compile(r"""(?P<package>[\w.-]+).*\bextra\s*==\s*["'](?P<extra>[\w.-]+)["']""")


class ProviderTypes(Mapping[str, ProviderType]):
    """Provider types by name. `[]` raises KeyError for an unknown name, GpuplanError for one that cannot be used."""

    def __init__(self, found: Mapping[str, EntryPoint]) -> None:
        self._found = found
        self._loaded: dict[str, ProviderType] = {}

    def __getitem__(self, name: str) -> ProviderType:
        if name not in self._loaded:
            self._loaded[name] = _load(name, self._entry_point(name))
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def __contains__(self, name: object) -> bool:
        """Whether there is such a name; says nothing of whether its adapter can be imported."""
        return name in self._found or (isinstance(name, str) and ":" in name)

    def _entry_point(self, name: str) -> EntryPoint:
        if ":" in name:
            return EntryPoint(name=name, value=name, group=GROUP)
        return self._found[name]


@cache
def provider_types() -> Mapping[str, ProviderType]:
    """Every provider type that is installed, by name and alias."""
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        # Nobody takes over a name of ours by being installed beside us.
        if entry.name not in found or entry.module.startswith("gpuplan."):
            found[entry.name] = entry
    return ProviderTypes(found)


def _load(name: str, entry: EntryPoint) -> ProviderType:
    try:
        found = entry.load()
    except ModuleNotFoundError as exc:
        raise _missing(name, entry, exc.name or "") from exc
    except (AttributeError, ValueError) as exc:
        raise _malformed(name, entry, f"`{entry.value}` names nothing that can be imported") from exc
    found = getattr(found, "PROVIDER", found)
    if not isinstance(found, ProviderType):
        raise _malformed(name, entry, f"`{entry.value}` is neither a ProviderType nor has one as PROVIDER")
    if found.api_version != API_VERSION:
        raise _outdated(name, entry, found.api_version)
    return found


def _missing(name: str, entry: EntryPoint, module: str) -> GpuplanError:
    if f"{entry.module}.".startswith(f"{module}."):
        return _malformed(name, entry, f"there is no module `{module}`")
    package = _PACKAGES.get(module.partition(".")[0], module.partition(".")[0])
    extra = _extra_with(entry, package)
    install = f"pip install '{_owner(entry)}[{extra}]'" if extra else f"pip install {package}"
    return _error(
        "provider-extra-missing",
        f"provider type `{name}` needs a package that is not installed",
        facts=(f"its adapter imports `{module}`",),
        hint="install what it needs",
        commands=(install,),
    )


def _malformed(name: str, entry: EntryPoint, fact: str) -> GpuplanError:
    return _error(
        "provider-type-unusable",
        f"provider type `{name}` cannot be loaded",
        facts=(fact, *_origin(entry)),
        hint='write `type: "package.module:NAME"`, where NAME is a ProviderType',
    )


def _outdated(name: str, entry: EntryPoint, version: int) -> GpuplanError:
    newer = version > API_VERSION
    return _error(
        "provider-api-version",
        f"provider type `{name}` is written for another version of gpuplan",
        facts=(f"it speaks version {version} of the provider contract, gpuplan speaks {API_VERSION}", *_origin(entry)),
        hint="upgrade gpuplan" if newer else f"upgrade the package `{_owner(entry)}`",
    )


def _error(
    id: str, summary: str, *, facts: tuple[str, ...] = (), hint: str, commands: tuple[str, ...] = ()
) -> GpuplanError:
    return GpuplanError(diagnostics=(Diagnostic(id=id, summary=summary, facts=facts, hint=hint, commands=commands),))


def _owner(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else entry.module.partition(".")[0]


def _origin(entry: EntryPoint) -> tuple[str, ...]:
    return (f"it comes from the package `{entry.dist.name}` {entry.dist.version}",) if entry.dist is not None else ()


def _extra_with(entry: EntryPoint, package: str) -> str | None:
    """The extra of the adapter's own distribution that brings `package`; the narrowest, as they are listed."""
    for requirement in (entry.dist.requires if entry.dist is not None else None) or ():
        match = _REQUIREMENT.match(requirement)
        if match is not None and _normal(match["package"]) == _normal(package):
            return match["extra"]
    return None


def _normal(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()
