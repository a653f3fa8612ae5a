"""Telling whether the process that took a lock still lives, when it ran on this machine."""

import os
from datetime import datetime
from pathlib import Path

_DEAD_STATES = frozenset("ZX")


def this_boot() -> str:
    """Which boot of which kernel, and which process namespace in it; empty where the platform does not tell.

    Process ids mean something only to someone who gets the same answer: two containers may share a host name.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def process_start(pid: int) -> float | None:
    """When the process started, in the unit of `LockInfo.started_at`; None when it does not run any more."""
    if Path("/proc/self/stat").exists():
        return _start_by_proc(pid)
    return start_by_ps(pid)


def _start_by_proc(pid: int) -> float | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the program's name in parentheses, which may itself hold spaces and parentheses.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in _DEAD_STATES else float(fields[19])


def start_by_ps(pid: int) -> float | None:
    """Where there is no /proc (macOS): seconds since the epoch, as `ps` prints them."""
    import subprocess

    answer = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    state, _, started = answer.stdout.strip().partition(" ")
    if not started or state[0] in _DEAD_STATES:
        return None
    return datetime.strptime(" ".join(started.split()), "%a %b %d %H:%M:%S %Y").timestamp()
