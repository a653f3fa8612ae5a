"""Processes known beyond doubt: a number with the time of birth, signalled only while both fit.

Used by `local_node` for supervisors, and for what a killed supervisor left behind.
"""

import contextlib
import os
import select
import signal
from functools import cache
from pathlib import Path

from pydantic import BaseModel

from gpuplan.providers.local_supervisor import born

_PROC = Path("/proc")
_ROUNDS = 100


class Pid(BaseModel):
    """A process as it was when it was written down."""

    pid: int
    born: str

    @property
    def is_alive(self) -> bool:
        return born(self.pid) == self.born

    @property
    def is_out_of_sight(self) -> bool:
        """Whether it belongs to another process namespace of this boot: a container that shares our folder."""
        boot, namespace = _home(self.born)
        here, ours = _here()
        return boot == here and namespace != ours

    def send(self, signum: signal.Signals) -> bool:
        """Signal exactly this process; False if it is gone."""
        with contextlib.suppress(ProcessLookupError):
            if not hasattr(os, "pidfd_open"):
                if self.is_alive:
                    os.kill(self.pid, signum)
                    return True
                return False
            handle = os.pidfd_open(self.pid)
            try:
                # The handle is fixed now: if the birth still fits, it is a handle of this process and stays one.
                if self.is_alive:
                    signal.pidfd_send_signal(handle, signum)
                    return True
            finally:
                os.close(handle)
        return False

    def gone_within(self, milliseconds: int) -> bool:
        """Wait a moment for its end; False if it goes on."""
        if not hasattr(os, "pidfd_open"):
            return not self.is_alive
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            if not self.is_alive:
                return True
            watch = select.poll()
            watch.register(handle, select.POLLIN)
            return bool(watch.poll(milliseconds))
        finally:
            os.close(handle)


def _home(birth: str) -> tuple[str, str]:
    boot, _, namespace = birth.rpartition("/")[0].partition("/")
    return boot, namespace


@cache
def _here() -> tuple[str, str]:
    return _home(born(os.getpid()))


def kill_marked(variable: str, value: str) -> None:
    """Kill every process of this user that was started with `variable=value` in its environment.

    For values that are unique by design. Spares the caller, who may run inside of what it ends. Where there is no
    `/proc` it finds nothing.
    """
    wanted = f"{variable}={value}".encode()
    for _ in range(_ROUNDS):
        marked = [pid for pid in _numbers() if pid != os.getpid() and wanted in _environ(pid) and born(pid)]
        if not marked:
            return
        for number in marked:
            # The environment is read again: the number may have passed on since.
            victim = Pid(pid=number, born=born(number))
            if victim.born and wanted in _environ(number):
                victim.send(signal.SIGKILL)
                victim.gone_within(1000)


def _numbers() -> list[int]:
    if not _PROC.is_dir():
        return []
    return [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()]


def _environ(pid: int) -> list[bytes]:
    try:
        return (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        # Gone, or another user's: not ours to look at.
        return []
