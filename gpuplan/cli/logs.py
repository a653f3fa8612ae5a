"""`--log-level` and `--log-file`: where the package's log records go. Imported only when one of the flags is given."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gpuplan.cli.parser import usage_error

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}


@contextmanager
def logging_to(file: str | None, level: str, folder: str) -> Iterator[None]:
    """Send what the package logs to a file, or to standard error. Secrets were redacted before."""
    handler: logging.Handler = logging.StreamHandler()
    if file is not None:
        try:
            handler = logging.FileHandler(Path(folder) / file, encoding="utf-8")
        except OSError as exc:
            raise usage_error(f"`{file}` cannot be written: {(exc.strerror or str(exc)).lower()}") from exc
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger("gpuplan")
    root.addHandler(handler)
    root.setLevel(_LEVELS[level])
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()
