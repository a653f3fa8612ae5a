"""Names of workspaces: the same rule for every backend, because a state may move from one to another."""

import re

from gpuplan.core.diagnostics import Diagnostic
from gpuplan.core.errors import StateError

_WORKSPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


def is_workspace(name: str) -> bool:
    return _WORKSPACE.fullmatch(name) is not None


def check_workspace(name: str) -> None:
    """Raises StateError for a name that could leave the place it belongs to."""
    if is_workspace(name):
        return
    raise StateError(
        diagnostics=(
            Diagnostic(
                id="workspace-name",
                summary=f"{name!a} cannot be the name of a workspace",
                hint="use up to 63 letters, digits, `-` and `_`, and begin with a letter or a digit",
            ),
        )
    )
