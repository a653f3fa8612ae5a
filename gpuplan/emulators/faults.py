"""Faults, as a network or a tired server makes them: one layer in front of every emulator."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase

from gpuplan.emulators.http import Cut, Delivery, Response

GARBAGE = b"<html><head><title>upstream connect error</title></head><body>reset before headers</body></html>"


class FaultKind(StrEnum):
    STATUS = "status"
    """An error instead of the effect."""
    STATUS_AFTER = "status_after"
    """The effect, then an error."""
    DROP = "drop"
    DROP_AFTER = "drop_after"
    LATENCY = "latency"
    HANG = "hang"
    """The effect, then silence."""
    GARBAGE = "garbage"
    TRUNCATE = "truncate"


INSTEAD = frozenset({FaultKind.STATUS, FaultKind.DROP})
"""Kinds under which the call does nothing."""


@dataclass(slots=True)
class Fault:
    """What goes wrong, and for whom; empty fields match everything. `route` may hold `*`."""

    kind: FaultKind
    provider: str = ""
    method: str = ""
    route: str = ""
    times: int | None = 1
    """None: without end."""
    probability: float = 1.0
    status: int = 500
    retry_after: float | None = None
    delay_seconds: float = 0

    def strikes(self, provider: str, method: str, route: str, chance: random.Random) -> bool:
        """Whether it happens to this call; counts if so."""
        if self.times == 0:
            return False
        if self.provider not in ("", provider) or self.method not in ("", method):
            return False
        if self.route and not fnmatchcase(route, self.route):
            return False
        if chance.random() >= self.probability:
            return False
        if self.times is not None:
            self.times -= 1
        return True


def strike(
    faults: Sequence[Fault], provider: str, method: str, route: str, chance: random.Random
) -> tuple[Fault | None, float]:
    """The fault that happens to this call, if any, and the latency it meets besides."""
    delay, fault = 0.0, None
    for candidate in faults:
        if fault is not None and candidate.kind is not FaultKind.LATENCY:
            continue
        if candidate.strikes(provider, method, route, chance):
            delay += candidate.delay_seconds
            if candidate.kind is not FaultKind.LATENCY:
                fault = candidate
    return fault, delay


def deliver(
    fault: Fault | None,
    delay: float,
    work: Callable[[], Response],
    error: Callable[[int, str], Response],
) -> Delivery:
    """Do the work, or not, and send the response on its way. `error` words an error as the provider would."""
    if fault is None:
        return Delivery(work(), delay)
    response = Response() if fault.kind in INSTEAD else work()
    match fault.kind:
        case FaultKind.STATUS | FaultKind.STATUS_AFTER:
            failed = error(fault.status, "emulated fault")
            if fault.retry_after is not None:
                failed = replace(failed, headers={**failed.headers, "Retry-After": f"{fault.retry_after:g}"})
            return Delivery(failed, delay)
        case FaultKind.DROP | FaultKind.DROP_AFTER:
            return Delivery(response, delay, Cut.DROP)
        case FaultKind.HANG:
            return Delivery(response, delay, Cut.HANG)
        case FaultKind.TRUNCATE:
            return Delivery(response, delay, Cut.TRUNCATE)
        case FaultKind.GARBAGE:
            return Delivery(Response(200, GARBAGE), delay)
        case FaultKind.LATENCY:
            return Delivery(response, delay)
