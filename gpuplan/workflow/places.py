"""Which backend a project's state is in: `--state`, else `state:` in the spec, else files; and the keys to it.

Called by `ledger`, which opens it, by `migrating`, and by `saved` for the keys.
"""

from typing import TYPE_CHECKING

from gpuplan.core.errors import SpecError, StateError
from gpuplan.core.ports import Clock, StateBackend
from gpuplan.spec.state_block import StateBlock, read_state_block
from gpuplan.state.backends.local import LocalBackend
from gpuplan.state.encryption import EncryptedBackend
from gpuplan.state.encryption_keys import Keyring, keys_of
from gpuplan.workflow.project import Project, read_beside, spec_texts

if TYPE_CHECKING:
    from gpuplan.state.encryption_options import EncryptionOptions
    from gpuplan.state.registry import Opening, Place

STATE_FOLDER = "state"


def configured_place(project: Project) -> "Place | None":
    """None: files, where nothing says anything else. Raises StateError for a URL, SpecError for a block, that cannot
    be used."""
    if project.state:
        return place_of(project, project.state)
    block = _block(project)
    if block is None:
        return None
    from gpuplan.state.registry import Place, backend_type

    try:
        kind = backend_type(block.kind)
    except StateError as exc:
        raise block.placed(exc) from exc
    return Place(kind, block.options(kind.options, kind.environ(project.environ)))


def place_of(project: Project, url: str = "") -> "Place":
    """By its URL; empty: what is configured."""
    from gpuplan.state.registry import place_of_url

    named = place_of_url(url, project.environ) if url else configured_place(project)
    return named or place_of_url(STATE_FOLDER, project.environ)


def opening(project: Project, clock: Clock) -> "Opening":
    from gpuplan.state.registry import Opening

    return Opening(project.workspace, clock, project.environ, project.folder)


def open_place(project: Project, clock: Clock, place: "Place | None" = None) -> EncryptedBackend:
    """The backend there, behind encryption; None: files in the usual folder. Touches nothing yet."""
    if place is None:
        inner: StateBackend = LocalBackend(project.folder / STATE_FOLDER, project.workspace, clock)
    else:
        inner = place.open(opening(project, clock))
    return EncryptedBackend(inner, keys(project))


def keys(project: Project) -> Keyring:
    """What states and saved plans are encrypted with: the environment, else the spec. Raises SpecError, StateError."""
    options = encryption_options(project)
    if options is None:
        return keys_of(project.environ, project.folder)
    return keys_of(
        project.environ,
        project.folder,
        command=options.command,
        old_commands=options.old_commands,
        is_required=True,
    )


def encryption_options(project: Project) -> "EncryptionOptions | None":
    """None: the spec does not ask for encryption. Raises SpecError."""
    block = _block(project)
    if block is None or not block.is_encrypted:
        return None
    from gpuplan.state.encryption_options import EncryptionOptions

    options = block.encryption(EncryptionOptions)
    assert isinstance(options, EncryptionOptions)
    return options


def _block(project: Project) -> StateBlock | None:
    try:
        texts = spec_texts(project)
    except SpecError:
        if project.files:
            raise
        # Looking at a state needs no spec.
        return None
    return read_state_block(texts, lambda name, asking: read_beside(project.folder, name, asking))
