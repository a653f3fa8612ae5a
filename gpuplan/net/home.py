"""Where gpuplan keeps what belongs to a user of this machine and to no project: host keys, logs, local nodes."""

from collections.abc import Mapping
from pathlib import Path


def state_home(environ: Mapping[str, str]) -> Path:
    """gpuplan's folder in the user's state folder, absolute; it may not be there yet."""
    home = environ.get("HOME") or str(Path.home())
    return Path(environ.get("XDG_STATE_HOME") or Path(home, ".local", "state")).absolute() / "gpuplan"
