"""Locks: who asks, who holds, whether the holder is dead, and waiting for it.

A lock is a lease that its holder renews. It ends when it is released, when its lease runs out, or when its owner is
known to be dead. Whoever takes it over gets a higher fence, and the old owner's writes are refused from then on.
"""

import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from gpuplan import __version__
from gpuplan.core.diagnostics import Diagnostic
from gpuplan.core.encoding import encode_time
from gpuplan.core.errors import StateError, StateLocked, StateStale
from gpuplan.core.ports import Clock, StateBackend
from gpuplan.core.state import LockInfo
from gpuplan.state.decoding import expect_fields, expect_number, expect_text, expect_time
from gpuplan.state.encoding import to_json
from gpuplan.state.owner import process_start, this_boot

LEASE = timedelta(seconds=60)
_LOOK_EVERY_SECONDS = 1.0

_FIELDS = frozenset(
    {
        "boot",
        "created_at",
        "expires_at",
        "fence",
        "host",
        "id",
        "operation",
        "pid",
        "started_at",
        "version",
        "who",
    }
)


def lock_request(clock: Clock, operation: str) -> LockInfo:
    """What this process says of itself when it asks for a lock; `operation` is the command it runs."""
    pid, now = os.getpid(), clock.now()
    return LockInfo(
        id=clock.token(),
        operation=operation,
        who=_user(),
        host=os.uname().nodename,
        pid=pid,
        started_at=process_start(pid) or 0.0,
        created_at=now,
        expires_at=now + LEASE,
        version=__version__,
        boot=this_boot(),
    )


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # Containers often run under a number that has no name.
        return str(os.getuid())


def is_dead(holder: LockInfo, now: datetime) -> bool:
    """Whether a lock may be taken over: its lease has run out, or its owner ran here and does not any more."""
    if holder.expires_at <= now:
        return True
    if (holder.host, holder.boot) != (os.uname().nodename, this_boot()):
        return False
    started_at = process_start(holder.pid)
    return started_at is None or started_at != (holder.started_at or started_at)


async def acquire(backend: StateBackend, request: LockInfo, *, patience_seconds: float, clock: Clock) -> LockInfo:
    """Take the lock, looking again until the patience ends; then StateLocked names the holder."""
    deadline = clock.monotonic() + patience_seconds
    while True:
        # A lease counts from when it is given, not from when the waiting began.
        now = clock.now()
        lease = request.expires_at - request.created_at
        try:
            return await backend.lock(replace(request, created_at=now, expires_at=now + lease))
        except StateLocked:
            left = deadline - clock.monotonic()
            if left <= 0:
                raise
            await clock.sleep(min(left, _LOOK_EVERY_SECONDS))


def locked(holder: LockInfo) -> StateLocked:
    """The error that says who holds the lock."""
    return StateLocked(
        diagnostics=(
            Diagnostic(
                id=StateLocked.id,
                summary=f"`{holder.operation}` of {holder.who}@{holder.host} holds the state",
                facts=(
                    f"since {_shown(holder.created_at)}, as process {holder.pid}, gpuplan {holder.version}",
                    f"its lease ends at {_shown(holder.expires_at)} unless it is renewed",
                    f"lock {holder.id}",
                ),
                hint="wait for it, or remove the lock if that run is certainly over",
                commands=(f"gpuplan unlock {holder.id}",),
            ),
        )
    )


def lost(held: LockInfo, now_held_by: LockInfo | None) -> StateStale:
    """The error for a write under a lock that is no longer ours."""
    if now_held_by is None:
        what = "nobody holds it now"
    else:
        what = f"`{now_held_by.operation}` of {now_held_by.who}@{now_held_by.host} holds it now"
    return StateStale(
        diagnostics=(
            Diagnostic(
                id="lock-lost",
                summary="this run has lost the lock on the state",
                facts=(what, f"it was lock {held.id}, fence {held.fence}", "nothing more is started or recorded"),
                hint="look at the state again; what this run left open is settled then",
                commands=("gpuplan plan",),
            ),
        )
    )


def no_such_lock(location: str, holder: LockInfo | None) -> StateError:
    """The error for `unlock` with an id that is not the holder's."""
    finding = Diagnostic(id="no-such-lock", summary=f"`{location}` has no such lock", facts=("nobody holds it",))
    if holder is not None:
        finding = replace(
            finding,
            facts=(f"`{holder.operation}` of {holder.who}@{holder.host} holds it",),
            hint="name the lock that is there, if that run is certainly over",
            commands=(f"gpuplan unlock {holder.id}",),
        )
    return StateError(diagnostics=(finding,))


def encode_lock(held: LockInfo) -> bytes:
    document = {
        "boot": held.boot,
        "created_at": encode_time(held.created_at),
        "expires_at": encode_time(held.expires_at),
        "fence": held.fence,
        "host": held.host,
        "id": held.id,
        "operation": held.operation,
        "pid": held.pid,
        "started_at": held.started_at,
        "version": held.version,
        "who": held.who,
    }
    return to_json(document).encode() + b"\n"


def decode_lock(content: bytes) -> LockInfo:
    """Raises ValueError."""
    fields = expect_fields(json.loads(content), _FIELDS)
    started_at = fields["started_at"]
    if not isinstance(started_at, (int, float)):
        raise ValueError("`started_at` is not a number")
    return LockInfo(
        id=expect_text(fields, "id"),
        operation=expect_text(fields, "operation"),
        who=expect_text(fields, "who"),
        host=expect_text(fields, "host"),
        pid=expect_number(fields, "pid"),
        started_at=float(started_at),
        created_at=expect_time(fields, "created_at"),
        expires_at=expect_time(fields, "expires_at"),
        version=expect_text(fields, "version"),
        fence=expect_number(fields, "fence"),
        boot=expect_text(fields, "boot"),
    )


def _shown(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
