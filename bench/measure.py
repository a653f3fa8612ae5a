"""Runs one command and measures it from outside: wall time, peak memory, bytes written.

Peak memory is what the kernel counted for the child. On Linux a child starts with its parent's peak, so whoever
measures must stay smaller than what it measures: graphs are written line by line, nothing is kept.
"""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True, slots=True)
class Measured:
    seconds: float
    peak_mb: float
    written_bytes: int | None
    """What reached `write` calls, its output to the terminal not counted; None where the system does not tell."""
    status: int | None
    """Exit status; None: it did not finish in time and was stopped."""
    output: str
    """The end of what it printed."""


def run(command: Sequence[str], *, folder: Path, environ: Mapping[str, str], limit_seconds: float) -> Measured:
    """Run `command` to its end, or stop it and its children when the limit is reached."""
    with tempfile.TemporaryFile() as output:
        began = time.perf_counter()
        child = subprocess.Popen(
            command,
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        late = threading.Event()
        timer = threading.Timer(limit_seconds, _stop, (child.pid, late))
        timer.start()
        # The child stays a zombie until it is reaped: its counters can be read and its pid cannot be reused.
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        seconds = time.perf_counter() - began
        timer.cancel()
        timer.join()
        written = _written(child.pid)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        printed = output.seek(0, os.SEEK_END)
        output.seek(max(0, printed - 2000))
        return Measured(
            seconds=seconds,
            peak_mb=usage.ru_maxrss * _RSS_UNIT / 1e6,
            written_bytes=None if written is None else written - printed,
            status=None if late.is_set() else child.returncode,
            output=output.read().decode(errors="replace"),
        )


def _stop(pid: int, late: threading.Event) -> None:
    late.set()
    os.killpg(pid, signal.SIGKILL)


def _written(pid: int) -> int | None:
    try:
        counters = Path(f"/proc/{pid}/io").read_text()
    except OSError:
        return None
    return int(counters.partition("wchar: ")[2].partition("\n")[0])
