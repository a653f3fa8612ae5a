"""One look at a provider for all who wait: nodes that come up, objects that go away, tokens whose request got lost.

Called by operations of the executor, one `Watch` per provider. However many wait, there is one listing per interval;
single objects are asked for only where that takes fewer calls, or to confirm that something is gone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from gpuplan.core.capabilities import Capabilities, Listing
from gpuplan.core.desired import Kind
from gpuplan.core.errors import Failure, NotReady, OutcomeUnknown, ProviderError, Refused, Retry, Unavailable
from gpuplan.core.marks import Mark
from gpuplan.core.observed import GONE, Observed, Status
from gpuplan.core.ports import CanAdvance, Clock, Links, Provider, Want
from gpuplan.engine.look import Seen
from gpuplan.engine.patience import GRACE_SECONDS
from gpuplan.engine.together import together

FIRST_LOOK_SECONDS = 1.0
_FIRST_LOOK_SHARE = 0.05
"""The first look comes after this share of the interval, at most after `FIRST_LOOK_SECONDS`; then it doubles."""

_TICK_SECONDS = 0.001
"""Clocks wake a sleeper a little early; less than this is no waiting."""

_COMING = frozenset({Status.PENDING, Status.STARTING})


@dataclass(slots=True)
class Steps:
    """What the next step of a creation needs, and whom to tell first that the object has another id."""

    want: Want
    mark: Mark
    links: Links
    moved: Callable[[Observed], Awaitable[None]]


@dataclass(slots=True, eq=False)
class _Wait:
    """Somebody waits for one object. `began` and `deadline` are in the clock's monotonic time."""

    purpose: str
    kind: Kind
    remote_id: str
    began: float
    deadline: float
    answer: "asyncio.Future[Observed | None]"
    ends: frozenset[Status] = frozenset()
    """Besides failing and being gone, what ends it. Empty: only being gone does."""
    token: str = ""
    witness: str = ""
    claimed: Set[str] = frozenset()
    """With a token and no id: whoever waits wants to know whether the object exists at all."""
    steps: Steps | None = None
    last: Observed | None = None
    progress: Callable[[str], None] = field(default=lambda text: None)

    @property
    def is_search(self) -> bool:
        return not self.remote_id

    def see(self, observed: Observed) -> None:
        if observed.detail and (self.last is None or observed.detail != self.last.detail):
            self.progress(f"{observed.status}: {observed.detail}")
        self.last = observed
        if self._is_over(observed):
            self.settle(observed)

    def settle(self, observed: Observed | None) -> None:
        if not self.answer.done():
            self.answer.set_result(observed)

    def fail(self, error: BaseException) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)

    def _is_over(self, observed: Observed) -> bool:
        if self.is_search or observed.status is Status.TERMINATED:
            return True
        if not self.ends:
            return False
        if observed.status is Status.RUNNING and observed.healthy is False:
            return False
        return observed.status in self.ends or observed.status is Status.FAILED or observed.status in GONE


class Watch:
    """Everything that is awaited at one provider."""

    def __init__(self, name: str, provider: Provider, clock: Clock) -> None:
        self._name = name
        self._provider = provider
        self._advancing = provider if isinstance(provider, CanAdvance) else None
        self._clock = clock
        self._waits: set[_Wait] = set()
        self._loop: asyncio.Task[None] | None = None
        self._bound = asyncio.Semaphore(self.capabilities.max_concurrency)
        self._pages: dict[Kind, int] = {}
        self._lingering: set[Kind] = set()
        """Kinds whose objects are still there right after their deletion."""
        self._trouble: dict[Kind, ProviderError] = {}
        """Why the latest look at a kind told nothing."""

    @property
    def capabilities(self) -> Capabilities:
        return self._provider.capabilities

    async def settled(
        self,
        observed: Observed,
        ends: frozenset[Status],
        *,
        deadline: float,
        purpose: str,
        began: float | None = None,
        steps: Steps | None = None,
        progress: Callable[[str], None] = lambda text: None,
    ) -> Observed | None:
        """Wait until the object is in one of `ends`, has failed or is being deleted; None when it is certainly gone.

        `began` is when it was created. Raises NotReady at the deadline, OutcomeUnknown if it could not be seen, and
        what a further step of its creation was refused with.
        """
        now = self._clock.monotonic()
        wait = _Wait(
            purpose,
            observed.kind,
            observed.remote_id,
            now if began is None else began,
            deadline,
            self._answer(),
            ends,
            token=steps.mark.token if steps is not None else "",
            steps=None if self._advancing is None else steps,
            last=observed,
            progress=progress,
        )
        return await self._wait(wait)

    async def is_gone_already(self, kind: Kind, remote_id: str) -> bool:
        """Whether a deleted object is certainly gone now, as it is at once with many providers: then nobody has to wait
        for the next look. Not asked again where an object of that kind was still there."""
        if kind in self._lingering:
            return False
        try:
            observed = await self._provider.get(kind, remote_id)
        except ProviderError as error:
            self._trouble[kind] = error
            return False
        if observed is None or observed.status is Status.TERMINATED:
            return True
        self._lingering.add(kind)
        return False

    async def gone(self, kind: Kind, remote_id: str, *, deadline: float, purpose: str) -> None:
        """Wait until a deleted object is certainly gone. At the deadline NotReady, or OutcomeUnknown as above."""
        now = self._clock.monotonic()
        await self._wait(_Wait(purpose, kind, remote_id, now, deadline, self._answer()))

    async def find(
        self, kind: Kind, token: str, witness: str, *, claimed: Set[str], purpose: str, deadline: float
    ) -> Observed | None:
        """Whether an object of a lost create exists. None is certain: listings would show it by now.

        `claimed` are ids of objects that are known to be others, where only the witness can tell. Raises
        OutcomeUnknown when it cannot be told.
        """
        began = self._clock.monotonic()
        if self.capabilities.listing is Listing.NONE:
            raise self._unknown(purpose, "it has no listing to look for the object in")
        deadline = max(deadline, began + self.capabilities.visibility_delay_seconds + self._interval)
        wait = _Wait(purpose, kind, "", began, deadline, self._answer(), token=token, witness=witness, claimed=claimed)
        return await self._wait(wait)

    async def close(self) -> None:
        """End the loop. Whoever still waits will never hear."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait({self._loop})

    @property
    def _interval(self) -> float:
        return self.capabilities.poll_interval_seconds

    @staticmethod
    def _answer() -> "asyncio.Future[Observed | None]":
        return asyncio.get_running_loop().create_future()

    async def _wait(self, wait: _Wait) -> Observed | None:
        self._waits.add(wait)
        if self._loop is None or self._loop.done():
            self._loop = asyncio.create_task(self._look_until_nobody_waits())
        try:
            return await wait.answer
        finally:
            self._waits.discard(wait)

    async def _look_until_nobody_waits(self) -> None:
        delay = min(FIRST_LOOK_SECONDS, self._interval * _FIRST_LOOK_SHARE)
        try:
            while self._waits:
                nearest = min(wait.deadline for wait in self._waits) - self._clock.monotonic()
                await self._clock.sleep(max(_TICK_SECONDS, min(delay, nearest)))
                delay = min(delay * 2, self._interval)
                await self._look_in_time(max(0.0, nearest) + GRACE_SECONDS)
                self._end_overdue()
                self._waits = {wait for wait in self._waits if not wait.answer.done()}
        except asyncio.CancelledError:
            raise
        except BaseException as exc:
            # Whoever waits would wait for ever: it is theirs to raise, whatever it is.
            for wait in self._waits:
                wait.fail(exc)

    async def _look_in_time(self, seconds: float) -> None:
        began, toll = self._clock.monotonic(), self._toll()
        seconds += toll
        try:
            async with asyncio.timeout(seconds):
                await self._look()
            self._postpone(min(toll, self._clock.monotonic() - began))
        except TimeoutError:
            trouble = Unavailable(Failure(self._name, "look at what it has", message=f"no answer in {seconds:.0f} s"))
            self._trouble.update((wait.kind, trouble) for wait in self._waits)

    def _toll(self) -> float:
        """Seconds that it may take to ask for each of those that are awaited, as often as the account may ask: half of
        its calls at least go to others, who send something."""
        limit = self.capabilities.rate_limit
        return 0.0 if limit is None else 2 * len(self._waits) * limit.per_seconds / limit.requests

    def _postpone(self, seconds: float) -> None:
        """Nobody is late because the account may ask no faster."""
        for wait in self._waits:
            wait.deadline += seconds

    async def _look(self) -> None:
        kinds: dict[Kind, list[_Wait]] = {}
        for wait in self._waits:
            if not wait.answer.done():
                kinds.setdefault(wait.kind, []).append(wait)
        await together(self._look_at(kind, waits) for kind, waits in kinds.items())

    async def _look_at(self, kind: Kind, waits: Sequence[_Wait]) -> None:
        few = len(waits) <= self._pages.get(kind, 1) and not any(wait.is_search for wait in waits)
        if few or self.capabilities.listing is Listing.NONE:
            await together(self._ask(wait) for wait in waits)
            return
        began = self._clock.monotonic()
        try:
            listed = await self._provider.list(kind, frozenset(wait.remote_id for wait in waits if wait.remote_id))
        except ProviderError as error:
            self._trouble[kind] = error
            return
        self._trouble.pop(kind, None)
        self._pages[kind] = max(1, -(-len(listed.objects) // self.capabilities.page_size))
        seen = Seen(listed)
        await together(step for wait in waits if (step := self._compare(wait, seen, began)) is not None)

    def _compare(self, wait: _Wait, seen: Seen, began: float) -> Coroutine[Any, Any, None] | None:
        """Tell one who waits what the listing says of the object; a coroutine where that takes another call."""
        if wait.is_search:
            twins = seen.carrying(wait.token, wait.witness, wait.claimed)
            if twins:
                wait.settle(twins[0])
            elif not seen.unseen and began >= wait.began + self.capabilities.visibility_delay_seconds:
                wait.settle(None)
            return None
        observed = seen.find(wait.remote_id, wait.token)
        if observed is None:
            return self._ask(wait)
        if wait.steps is not None or observed.remote_id != wait.remote_id:
            return self._follow(wait, observed)
        wait.see(observed)
        return None

    async def _ask(self, wait: _Wait) -> None:
        """Look at one object."""
        async with self._bound:
            try:
                observed = await self._provider.get(wait.kind, wait.remote_id)
            except ProviderError as error:
                self._trouble[wait.kind] = error
                return
        self._trouble.pop(wait.kind, None)
        if observed is not None:
            await self._follow(wait, observed)
        elif self._may_be_hidden(wait):
            # Too young for listings and gets to know it; its creation may go on all the same.
            assert wait.last is not None
            await self._follow(wait, wait.last)
        else:
            wait.settle(None)

    def _may_be_hidden(self, wait: _Wait) -> bool:
        age = self._clock.monotonic() - wait.began
        return bool(wait.ends) and wait.last is not None and age < self.capabilities.visibility_delay_seconds

    async def _follow(self, wait: _Wait, observed: Observed) -> None:
        """Take the steps of a creation that are due, each new id written down before the next is sent."""
        await self._note_move(wait, observed)
        while wait.steps is not None and observed.status in _COMING:
            before = observed.remote_id
            advanced = await self._advance(wait, wait.steps, observed)
            if advanced is None:
                return
            observed = advanced
            await self._note_move(wait, observed)
            if observed.remote_id == before:
                break
        wait.see(observed)

    async def _advance(self, wait: _Wait, steps: Steps, observed: Observed) -> Observed | None:
        """The object after one more step; None when the step was not taken."""
        assert self._advancing is not None
        async with self._bound:
            try:
                return await self._advancing.advance(steps.want, steps.mark, observed, steps.links)
            except ProviderError as error:
                if isinstance(error, Refused) and error.retry is Retry.NEVER:
                    wait.fail(error)
                return None

    async def _note_move(self, wait: _Wait, observed: Observed) -> None:
        if observed.remote_id != wait.remote_id:
            wait.remote_id = observed.remote_id
            if wait.steps is not None:
                await wait.steps.moved(observed)

    def _end_overdue(self) -> None:
        now = self._clock.monotonic()
        for wait in self._waits:
            if now > wait.deadline - _TICK_SECONDS and not wait.answer.done():
                wait.fail(self._overdue(wait, now))

    def _overdue(self, wait: _Wait, now: float) -> ProviderError:
        trouble = self._trouble.get(wait.kind)
        if trouble is not None or wait.is_search:
            return self._unknown(wait.purpose, "" if trouble is None else str(trouble))
        last = wait.last
        status = "" if last is None else f"it is {last.status}{f': {last.detail}' if last.detail else ''}"
        waited = f"waited {now - wait.began:.0f} s"
        return NotReady(Failure(self._name, wait.purpose, facts=tuple(fact for fact in (status, waited) if fact)))

    def _unknown(self, purpose: str, why: str) -> OutcomeUnknown:
        return OutcomeUnknown(Failure(self._name, purpose, facts=(why,) if why else ()))
