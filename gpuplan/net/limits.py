"""How fast one account may be asked: windows per account and per route."""

from collections import deque
from collections.abc import Sequence

from gpuplan.core.capabilities import RateLimit
from gpuplan.net.exchange import Call
from gpuplan.net.profile import Bucket


class Window:
    """At most so many calls in any stretch of so many seconds, in the order they ask. None: as many as there are."""

    def __init__(self, limit: RateLimit | None) -> None:
        self._limit = limit
        self._turns: deque[float] = deque(maxlen=limit.requests if limit else 0)
        self._held_until = 0.0

    def reserve(self, now: float) -> float:
        """When the caller's turn is."""
        turn = max(now, self._held_until)
        if self._limit is not None:
            if len(self._turns) == self._limit.requests:
                turn = max(turn, self._turns[0] + self._limit.per_seconds)
            self._turns.append(turn)
        return turn

    def hold(self, until: float) -> None:
        """The provider asked for a pause; turns that were given out for before are void."""
        self._held_until = max(self._held_until, until)

    def is_held(self, now: float) -> bool:
        return now < self._held_until


class Limits:
    """The windows of one account. `account` is the limit of all its calls together, None where there is none."""

    def __init__(self, account: RateLimit | None, buckets: Sequence[Bucket]) -> None:
        self._account = Window(account)
        self._buckets = [(bucket, Window(bucket.limit)) for bucket in buckets]

    def of(self, call: Call) -> list[Window]:
        """The windows a call has to pass, the narrowest first: one who waits for a slow route's turn must not take a
        turn of the account away from others meanwhile."""
        narrow = [
            window
            for bucket, window in self._buckets
            if bucket.method in ("", call.method) and bucket.route in ("", call.route)
        ]
        return [*narrow, self._account]
