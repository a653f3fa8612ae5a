"""What a command works on: the folder, its spec files, the workspace, the variables. Reads files; decides nothing.

Called by every command through `load_spec`; tests give a `Project` of their own.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gpuplan.core.diagnostics import Diagnostic, Sink
from gpuplan.core.errors import GpuplanError, SpecError, StateError
from gpuplan.core.values import JsonValue

if TYPE_CHECKING:
    from gpuplan.core.desired import Configuration
    from gpuplan.core.ports import Clock, ProviderType, StateBackend
    from gpuplan.spec.load import Given, SourceFile

DEFAULT_FILE = "gpuplan.yaml"
DEFAULT_WORKSPACE = "default"
EMULATED = "-emulator"
"""How the workspaces end that are kept for emulators."""
VARIABLE_PREFIX = "GPUPLAN_VAR_"
_SELECTED = Path(".gpuplan", "workspace")
_VARIABLE_FILES = (".vars.yaml", ".vars.yml")


@dataclass(frozen=True, slots=True)
class Project:
    """A folder and what the command line says of it. Relative names are relative to `folder`."""

    folder: Path
    files: tuple[str, ...] = ()
    """Spec files and folders as given; empty: `gpuplan.yaml`."""
    workspace: str = DEFAULT_WORKSPACE
    variables: Mapping[str, str] = field(default_factory=dict)
    variable_files: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    stored: Mapping[str, JsonValue] = field(default_factory=dict, repr=False)
    """Variables that a saved plan brings along: they count unless something else sets them."""
    types: "Mapping[str, ProviderType] | None" = None
    """Provider types; None: those that are installed."""
    emulator: str = ""
    """Base URL of the emulator that stands in for every HTTP provider; the workspace is then one of its own."""
    state: str = ""
    """What `--state` says of where the state is; it counts before what the spec says."""
    backend: "Callable[[Clock], StateBackend] | None" = field(default=None, repr=False)
    """Where the state is instead of where it would be, for a rehearsal that must not touch it."""


def load_spec(project: Project) -> "Configuration":
    """Read, check and expand the spec. Raises SpecError with every problem, StateError for a workspace of the other
    world: no state is ever used both with an emulator and without."""
    from gpuplan.spec.load import Inputs, load
    from gpuplan.workflow.places import configured_place, encryption_options

    _check_workspace(project)
    sources = spec_sources(project)
    inputs = Inputs(
        workspace=project.workspace,
        environ=project.environ,
        given=given_variables(project),
        read_file=lambda name, asking: read_beside(project.folder, name, asking),
        provider_types=provider_types(project),
    )
    configuration = load(sources, inputs)
    if project.backend is None:
        # What `load` makes nothing of: the options of the backend and of encryption.
        configured_place(project)
        encryption_options(project)
    return configuration


@contextmanager
def positions(configuration: "Configuration") -> Iterator[None]:
    """Let the errors of the block find the lines they speak of."""
    try:
        yield
    except GpuplanError as exc:
        exc.locator = exc.locator or configuration.locator
        raise


def provider_types(project: Project) -> "Mapping[str, ProviderType]":
    from gpuplan.providers import registry

    return registry.provider_types() if project.types is None else project.types


def spec_sources(project: Project) -> list["SourceFile"]:
    """The spec files in the order in which they merge, each under the name that messages show."""
    from gpuplan.spec.load import SourceFile

    return [SourceFile(name, content) for name, content in spec_texts(project).items()]


def spec_texts(project: Project) -> dict[str, bytes]:
    """What the spec files hold, by name, in the order in which they merge."""
    return {name: _read(project.folder, name) for name in spec_names(project)}


def spec_names(project: Project) -> list[str]:
    """Names of the spec files; a folder stands for the `*.yaml` in it, variable files excepted."""
    names = [found for given in project.files or (DEFAULT_FILE,) for found in _expanded(project.folder, given)]
    return list(dict.fromkeys(names))


def _expanded(folder: Path, given: str) -> Iterator[str]:
    path = folder / Path(given).expanduser()
    if not path.is_dir():
        yield given
        return
    found = sorted(entry.name for entry in path.iterdir() if _is_spec(entry))
    if not found:
        raise _not_found(f"the folder `{given}` has no `*.yaml` in it")
    for name in found:
        yield name if given in (".", "./") else f"{given.rstrip('/')}/{name}"


def _is_spec(path: Path) -> bool:
    name = path.name
    return name.endswith((".yaml", ".yml")) and not name.endswith(_VARIABLE_FILES) and not name.startswith(".")


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / Path(name).expanduser()).read_bytes()
    except FileNotFoundError as exc:
        raise _not_found(f"there is no `{name}` in {_shown(folder)}") from exc
    except OSError as exc:
        summary = f"`{name}` cannot be read: {(exc.strerror or str(exc)).lower()}"
        raise SpecError(diagnostics=(Diagnostic(id="file-unreadable", summary=summary),)) from exc


def _not_found(summary: str) -> SpecError:
    found = Diagnostic(
        id="spec-not-found",
        summary=summary,
        hint="write one, or name another with `-f FILE` or `-C DIR`",
        commands=("gpuplan init",),
    )
    return SpecError(diagnostics=(found,))


def _shown(folder: Path) -> str:
    return "this folder" if str(folder) == "." else f"`{folder}`"


def read_beside(folder: Path, name: str, asking: str) -> bytes:
    """A file that a spec names, relative to the file that names it. Raises OSError."""
    return (folder / Path(asking).expanduser().parent / Path(name).expanduser()).read_bytes()


def given_variables(project: Project) -> dict[str, "Given"]:
    """Values by name: `--var` over `--var-file` (later over earlier) over the environment over a saved plan."""
    from gpuplan.spec.load import Given

    given = {name: Given(value, "the saved plan", parse=False) for name, value in project.stored.items()}
    for name, text in project.environ.items():
        if name.startswith(VARIABLE_PREFIX) and name != f"{VARIABLE_PREFIX}FILE":
            given[name.removeprefix(VARIABLE_PREFIX)] = Given(text, name, parse=True, ambient=True)
    for file in project.variable_files:
        for name, value in _variables_in(project.folder, file).items():
            given[name] = Given(value, file, parse=False)
    for name, text in project.variables.items():
        given[name] = Given(text, "--var", parse=True)
    return given


def _variables_in(folder: Path, file: str) -> Mapping[str, JsonValue]:
    """A variable file: a map of names to values, in which `${` means nothing."""
    from gpuplan.spec.source import SourceFile, read_values
    from gpuplan.spec.sources import Sources

    sink, source = Sink(), SourceFile(file, _read(folder, file))
    values = read_values(source, sink)
    if sink.errors:
        error = SpecError(diagnostics=sink.errors)
        error.locator = sources = Sources()
        sources.add(source)
        raise error
    return {name: _literal(value) for name, value in (values or {}).items()}


def _literal(value: JsonValue) -> JsonValue:
    """The value with its texts as they are written: only a spec has expressions."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Mapping):
        return {name: _literal(item) for name, item in value.items()}
    return [_literal(item) for item in value] if isinstance(value, Sequence) else value


def emulated_workspace(name: str) -> str:
    """The workspace that a rehearsal of another one has."""
    return name if name.endswith(EMULATED) else f"{name}{EMULATED}"


def _check_workspace(project: Project) -> None:
    if project.workspace.endswith(EMULATED) == bool(project.emulator):
        return
    if project.emulator:
        fact, hint = "the plan was made for real accounts, and `--emulator` is given", "leave `--emulator` away"
    else:
        fact, hint = "workspaces with this ending are kept for emulators", "say where the emulator is: `--emulator URL`"
    summary = f"`{project.workspace}` cannot be used {'with' if project.emulator else 'without'} an emulator"
    found = Diagnostic(id="emulated-workspace", summary=summary, facts=(fact, "nothing was sent"), hint=hint)
    raise StateError(diagnostics=(found,))


def selected_workspace(folder: Path) -> str:
    """The workspace that `workspace select` chose for this folder."""
    try:
        return (folder / _SELECTED).read_text(encoding="utf-8").strip() or DEFAULT_WORKSPACE
    except (OSError, UnicodeDecodeError):
        # Nothing chosen yet, or a file nobody can mean.
        return DEFAULT_WORKSPACE


def select_workspace(folder: Path, name: str) -> None:
    path = folder / _SELECTED
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{name}\n", encoding="utf-8")
