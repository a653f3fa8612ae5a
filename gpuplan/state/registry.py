"""Which kinds of places a state can live in: entry points of the group `gpuplan.backends`, ours and everyone's alike.

Called by `workflow`, with the type that the spec names under `state:`, or with the URL of `--state`. A module is
imported when its type is used.

    BACKEND = BackendType(name="redis", options=Options, open=open_redis, workspaces=workspaces_in, address=address_of)
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from gpuplan.core.diagnostics import Diagnostic
from gpuplan.core.errors import StateError
from gpuplan.core.nearest import did_you_mean
from gpuplan.core.ports import Clock, StateBackend
from gpuplan.state.workspace import check_workspace

if TYPE_CHECKING:
    from pydantic import BaseModel

GROUP = "gpuplan.backends"
FILE = "file"
_ALIASES = {"https": "http", "postgresql": "postgres"}
_SCHEME = re.compile(r"[a-z][a-z0-9+-]*:")


@dataclass(frozen=True, slots=True)
class Opening:
    """What a backend is opened with. Credentials come from `environ` and nowhere else."""

    workspace: str
    clock: Clock
    environ: Mapping[str, str] = field(repr=False)
    folder: Path
    """Of the project: what relative paths count from."""


@dataclass(frozen=True, slots=True)
class BackendType:
    """What an entry point of the group `gpuplan.backends` names."""

    name: str
    options: "type[BaseModel]"
    """What may be written under `state:` besides `type`; never a credential."""
    open: Callable[["BaseModel", Opening], StateBackend]
    """Touches nothing yet. Raises StateError for credentials or names that cannot be used."""
    workspaces: Callable[["BaseModel", Opening], Awaitable[tuple[str, ...]]]
    """Names of the workspaces that have a state there."""
    from_url: Callable[[SplitResult], Mapping[str, str]]
    """The options that a URL of this type says."""
    to_url: Callable[["BaseModel"], str]
    """The URL that says the same."""
    environ: Callable[[Mapping[str, str]], Mapping[str, str]] = lambda environ: {}
    """Options that the environment says, below those of the spec."""


@dataclass(frozen=True, slots=True)
class Place:
    """A configured backend, not opened yet."""

    type: BackendType
    options: "BaseModel"

    @property
    def url(self) -> str:
        """As `--state` takes it."""
        return self.type.to_url(self.options)

    def open(self, opening: Opening) -> StateBackend:
        """Touches nothing yet. Raises StateError for a workspace, or credentials, that cannot be used."""
        check_workspace(opening.workspace)
        try:
            return self.type.open(self.options, opening)
        except ModuleNotFoundError as exc:
            raise _missing(self.type.name, exc.name or "") from exc

    async def workspaces(self, opening: Opening) -> tuple[str, ...]:
        return await self.type.workspaces(self.options, opening)


def backend_type(name: str) -> BackendType:
    """Raises StateError for a name that is not there, and for one whose module cannot be imported."""
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        # Nobody takes over a name of ours by being installed beside us.
        if entry.name not in found or entry.module.startswith("gpuplan."):
            found[entry.name] = entry
    if name not in found:
        raise _error(
            "unknown-backend",
            f"there is no state backend `{name}`",
            hint=did_you_mean(name, found) or f"there are: {', '.join(sorted(found))}",
        )
    try:
        loaded = found[name].load()
    except ModuleNotFoundError as exc:
        raise _missing(name, exc.name or "") from exc
    if not isinstance(loaded, BackendType):
        raise _error(
            "backend-unusable",
            f"the state backend `{name}` cannot be loaded",
            f"`{found[name].value}` is no BackendType",
            hint="upgrade the package it comes from",
        )
    return loaded


def place_of_url(text: str, environ: Mapping[str, str]) -> Place:
    """From `--state`: a URL, or a folder. Raises StateError."""
    from gpuplan.spec.schema import check

    parts = urlsplit(text if _SCHEME.match(text) else f"{FILE}:{text}")
    if parts.password is not None:
        # Nothing of such a URL is quoted.
        raise _error(
            "credentials-in-url",
            "the URL of the state holds a password",
            "it would end up in messages, histories and states",
            hint="leave it away, and put it into the environment variable of that system",
        )
    kind = backend_type(_ALIASES.get(parts.scheme, parts.scheme))
    said = {name: value for name, value in kind.from_url(parts).items() if value}
    options = check(kind.options, {**kind.environ(environ), **said}, ("state",))
    if isinstance(options, tuple):
        raise _error(
            "state-url",
            f"`{text}` does not say where the state is",
            *(finding.summary for finding in options),
            hint="docs/state.md lists what each type takes",
        )
    return Place(kind, options)


def _missing(name: str, module: str) -> StateError:
    return _error(
        "backend-extra-missing",
        f"the state backend `{name}` needs a package that is not installed",
        f"it imports `{module}`",
        hint="install what it needs",
        command=f"pip install 'gpuplan[{name}]'",
    )


def _error(id: str, summary: str, *facts: str, hint: str, command: str = "") -> StateError:
    commands = (command,) if command else ()
    return StateError(diagnostics=(Diagnostic(id=id, summary=summary, facts=facts, hint=hint, commands=commands),))
