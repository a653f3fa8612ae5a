"""The clock of tests: hours of waiting pass in no time, in the same order every time.

clock = FakeClock()
clock.run(apply(..., clock=clock))
"""

from datetime import UTC, datetime

from gpuplan.net.virtual_clock import VirtualClock

_SOCKET_PATIENCE_SECONDS = 0.02
"""Real time that open sockets get to answer before virtual time moves."""


class FakeClock(VirtualClock):
    """A `core.ports.Clock` for tests. Tokens and jitter are the same in every run with the same seed."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC), *, seed: int = 0) -> None:
        super().__init__(start, seed=seed, socket_patience_seconds=_SOCKET_PATIENCE_SECONDS)
