import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from gpuplan.core.address import Address
from gpuplan.core.capabilities import Listing
from gpuplan.core.desired import Kind
from gpuplan.core.errors import NoCapacity, NotReady, OutcomeUnknown, ProviderError, Unavailable
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Observed, Status
from gpuplan.core.ports import Want
from gpuplan.engine.readiness import Steps, Watch
from gpuplan.testing.clock import FakeClock
from gpuplan.testing.memory import memory_provider
from gpuplan.testing.memory_capabilities import memory_capabilities
from gpuplan.testing.memory_world import Call, Fault, MemoryWorld, failed

UP = frozenset({Status.RUNNING})


class Post:
    """A watch over a world, and what is created there."""

    def __init__(self, *, interval: float = 20, listing: Listing = Listing.FULL, **knobs: Any) -> None:
        self.clock = FakeClock()
        self.world = MemoryWorld(self.clock, **knobs)
        known = memory_capabilities(
            poll_interval_seconds=interval,
            listing=listing,
            visibility_delay_seconds=self.world.visibility_seconds,
        )
        self.provider = memory_provider(self.world, "here", known)
        self.watch = Watch("here", self.provider, self.clock)
        self.moves: list[str] = []
        self.advances = 0

    async def create(self, number: int = 0) -> tuple[Observed, Steps]:
        address = Address("clusters", "a", None, number)
        want = Want(address, Kind.NODE, {}, f"a-{number}")
        mark = Mark(self.clock.token(), "test", "default", "lineage", address)
        observed = await self.provider.create(want, mark, {})
        return observed, Steps(want, mark, {}, self._moved)

    async def up(self, observed: Observed, steps: Steps | None = None, *, seconds: float = 300) -> Observed | None:
        deadline = self.clock.monotonic() + seconds
        return await self.watch.settled(observed, UP, deadline=deadline, purpose="bring it up", steps=steps)

    async def find(self, token: str) -> Observed | None:
        return await self.watch.find(Kind.NODE, token, "", claimed=frozenset(), purpose="create it", deadline=10)

    async def _moved(self, observed: Observed) -> None:
        # Between the answer that brings a new id and the moment it is written down no further step is sent.
        assert self.advances + 1 == self.world.count("advance")
        self.advances += 1
        self.moves.append(observed.remote_id)

    def run(self, work: Callable[[], Awaitable[None]]) -> None:
        async def main() -> None:
            await work()
            await self.watch.close()

        self.clock.run(main())


def test_many_nodes_share_one_listing_per_look() -> None:
    post = Post(boot_seconds=100)

    async def work() -> None:
        created = [await post.create(number) for number in range(50)]
        seen = await asyncio.gather(*(post.up(observed) for observed, _ in created))
        assert [Status.RUNNING] * 50 == [observed.status for observed in seen if observed is not None]

    post.run(work)

    assert 50 == post.world.count("create")
    assert 0 == post.world.count("get")
    # After 1, 3, 7 and 15 seconds, then every 20.
    assert 9 == post.world.count("list")


def test_a_single_node_is_asked_for_by_itself() -> None:
    post = Post(boot_seconds=10)

    async def work() -> None:
        await post.up((await post.create())[0])

    post.run(work)

    assert 0 == post.world.count("list")
    assert 4 == post.world.count("get")


def test_looking_ends_when_nobody_waits() -> None:
    post = Post(boot_seconds=10)

    async def work() -> None:
        await post.up((await post.create())[0])
        looks = len(post.world.calls)
        await post.clock.sleep(1000)
        assert looks == len(post.world.calls)

    post.run(work)


def test_the_next_one_who_waits_is_not_kept_waiting_for_a_long_interval() -> None:
    post = Post(boot_seconds=2, interval=60)

    async def work() -> None:
        for number in range(3):
            await post.up((await post.create(number))[0])

    post.run(work)

    assert post.clock.monotonic() < 15


def test_a_node_that_takes_too_long_is_not_ready() -> None:
    post = Post(boot_seconds=1000)

    async def work() -> None:
        with pytest.raises(NotReady) as error:
            await post.up((await post.create())[0], seconds=100)
        assert ("it is starting", "waited 100 s") == error.value.failure.facts

    post.run(work)

    assert 100 == pytest.approx(post.clock.monotonic(), abs=1)


def test_a_node_that_failed_is_returned_as_it_is() -> None:
    post = Post(boot_seconds=10, boots=lambda want: "no signal")

    async def work() -> None:
        seen = await post.up((await post.create())[0])
        assert seen is not None
        assert (Status.FAILED, "no signal") == (seen.status, seen.detail)

    post.run(work)


def test_an_unhealthy_node_is_not_ready_yet() -> None:
    post = Post()
    original = post.provider.get

    async def get(kind: Kind, remote_id: str) -> Observed | None:
        seen = await original(kind, remote_id)
        return None if seen is None else replace(seen, healthy=post.clock.monotonic() > 50)

    post.provider.get = get  # type: ignore[method-assign]  # one of the world's objects has a health check

    async def work() -> None:
        observed, _ = await post.create()
        await post.up(replace(observed, status=Status.STARTING))

    post.run(work)

    assert post.clock.monotonic() > 50


def test_a_node_that_vanishes_while_it_boots_is_certainly_gone() -> None:
    post = Post(boot_seconds=100)

    async def work() -> None:
        observed, _ = await post.create()
        waiting = asyncio.create_task(post.up(observed))
        await post.clock.sleep(10)
        post.world.vanish(observed.remote_id)
        assert await waiting is None

    post.run(work)

    assert post.clock.monotonic() < 40


def test_a_listing_alone_does_not_make_a_node_vanish() -> None:
    post = Post(boot_seconds=30)
    post.world.script = lambda call: Fault(hides=lambda remote_id: True) if call.verb == "list" else None

    async def work() -> None:
        created = [await post.create(number) for number in range(3)]
        seen = await asyncio.gather(*(post.up(observed) for observed, _ in created))
        assert all(observed is not None and observed.status is Status.RUNNING for observed in seen)

    post.run(work)


def test_looks_that_fail_for_a_while_do_no_harm() -> None:
    post = Post(boot_seconds=30)

    async def work() -> None:
        created = [await post.create(number) for number in range(3)]
        post.world.script = lambda call: _failing(call, Unavailable) if post.clock.monotonic() < 60 else None
        await asyncio.gather(*(post.up(observed) for observed, _ in created))

    post.run(work)

    assert 60 <= post.clock.monotonic() <= 90


def test_what_could_not_be_seen_until_the_deadline_is_unknown_not_failed() -> None:
    post = Post(boot_seconds=30)

    async def work() -> None:
        observed, _ = await post.create()
        post.world.script = lambda call: _failing(call, Unavailable)
        with pytest.raises(OutcomeUnknown):
            await post.up(observed, seconds=100)

    post.run(work)


def test_each_step_of_a_creation_is_written_down_before_the_next() -> None:
    post = Post(steps=3, boot_seconds=5)

    async def work() -> None:
        observed, steps = await post.create()
        seen = await post.up(observed, steps)
        assert seen is not None
        assert (Status.RUNNING, "request-1/step-3") == (seen.status, seen.remote_id)

    post.run(work)

    assert ["request-1/step-1", "request-1/step-2", "request-1/step-3"] == post.moves


def test_a_step_that_is_refused_for_good_ends_the_wait() -> None:
    post = Post(steps=3)
    post.world.script = lambda call: _failing(call, NoCapacity) if call.verb == "advance" else None

    async def work() -> None:
        with pytest.raises(NoCapacity):
            await post.up(*await post.create())

    post.run(work)


def test_a_step_whose_answer_was_lost_is_taken_again() -> None:
    post = Post(steps=2)
    lost = iter([True])
    post.world.script = lambda call: (
        Fault(failed(OutcomeUnknown, call), after=True) if call.verb == "advance" and next(lost, False) else None
    )

    async def work() -> None:
        seen = await post.up(*await post.create())
        assert seen is not None
        assert Status.RUNNING is seen.status

    post.run(work)


def test_a_creation_in_steps_goes_on_while_listings_lag() -> None:
    post = Post(steps=2, visibility_seconds=60, interval=5)

    async def work() -> None:
        await asyncio.gather(*[post.up(*await post.create(number)) for number in range(3)])

    post.run(work)

    assert post.clock.monotonic() < 30


def test_a_prompt_deletion_costs_one_question() -> None:
    post = Post()

    async def work() -> None:
        for number in range(3):
            observed, _ = await post.create(number)
            await post.provider.delete(Kind.NODE, observed.remote_id, {})
            assert await post.watch.is_gone_already(Kind.NODE, observed.remote_id)

    post.run(work)

    assert (3, 0) == (post.world.count("get"), post.world.count("list"))
    assert 0 == post.clock.monotonic()


def test_slow_deletions_are_watched_together() -> None:
    post = Post(delete_seconds=60)

    async def delete(observed: Observed) -> None:
        await post.provider.delete(Kind.NODE, observed.remote_id, {})
        assert not await post.watch.is_gone_already(Kind.NODE, observed.remote_id)
        await post.watch.gone(Kind.NODE, observed.remote_id, deadline=500, purpose="delete it")

    async def work() -> None:
        created = [await post.create(number) for number in range(40)]
        first, *others = [observed for observed, _ in created]
        await delete(first)
        await asyncio.gather(*(delete(observed) for observed in others))

    post.run(work)

    # Each absence is confirmed once; the waiting is done by listings.
    assert post.world.count("get") < 50
    assert post.world.count("list") < 10


def test_a_deletion_without_end_is_not_ready() -> None:
    post = Post(delete_seconds=1000)

    async def work() -> None:
        observed, _ = await post.create()
        await post.provider.delete(Kind.NODE, observed.remote_id, {})
        with pytest.raises(NotReady):
            await post.watch.gone(Kind.NODE, observed.remote_id, deadline=100, purpose="delete it")

    post.run(work)


def test_a_token_is_found_as_soon_as_it_is_visible() -> None:
    post = Post(visibility_seconds=30, interval=5)

    async def work() -> None:
        _, steps = await post.create()
        found = await post.watch.find(
            Kind.NODE, steps.mark.token, "", claimed=frozenset(), purpose="create it", deadline=10
        )
        assert found is not None

    post.run(work)

    assert 30 <= post.clock.monotonic() < 36


def test_a_token_is_missed_only_when_it_would_be_visible_by_now() -> None:
    post = Post(visibility_seconds=30, interval=5)

    async def work() -> None:
        assert (
            await post.watch.find(Kind.NODE, "t-nobody", "", claimed=frozenset(), purpose="create it", deadline=10)
            is None
        )

    post.run(work)

    assert 30 <= post.clock.monotonic() < 36


@pytest.mark.parametrize("listing", [Listing.FULL, Listing.NONE])
def test_a_token_that_cannot_be_looked_for_is_unknown(listing: Listing) -> None:
    post = Post(listing=listing)
    post.world.unseen = ("eu/",)

    async def work() -> None:
        with pytest.raises(OutcomeUnknown):
            await post.find("t-nobody")

    post.run(work)


def test_without_a_listing_each_is_asked_for() -> None:
    post = Post(listing=Listing.NONE, boot_seconds=10)

    async def work() -> None:
        created = [await post.create(number) for number in range(5)]
        await asyncio.gather(*(post.up(observed) for observed, _ in created))

    post.run(work)

    assert 0 == post.world.count("list")


def test_a_provider_that_never_answers_does_not_hold_up_the_deadline() -> None:
    post = Post(boot_seconds=10)

    async def work() -> None:
        observed, _ = await post.create()
        post.world.latency_seconds = 100_000
        with pytest.raises(OutcomeUnknown):
            await post.up(observed, seconds=100)

    post.run(work)

    assert post.clock.monotonic() < 200


def test_a_mistake_in_an_adapter_reaches_everyone_who_waits() -> None:
    post = Post(boot_seconds=10)

    async def work() -> None:
        created = [await post.create(number) for number in range(3)]
        post.world.script = lambda call: Fault(KeyError("state"))
        results = await asyncio.gather(*(post.up(observed) for observed, _ in created), return_exceptions=True)
        assert [KeyError] * 3 == [type(result) for result in results]

    post.run(work)


def test_a_new_detail_is_told_once() -> None:
    post = Post(boot_seconds=30, interval=5)
    told: list[str] = []

    async def work() -> None:
        observed, _ = await post.create()
        post.world.objects[observed.remote_id].detail = "pulling the image"
        await post.watch.settled(observed, UP, deadline=100, purpose="bring it up", progress=told.append)

    post.run(work)

    assert ["starting: pulling the image"] == told


def test_a_deletion_that_cannot_be_confirmed_is_unknown() -> None:
    post = Post()

    async def work() -> None:
        observed, _ = await post.create()
        await post.provider.delete(Kind.NODE, observed.remote_id, {})
        post.world.script = lambda call: _failing(call, Unavailable)
        with pytest.raises(OutcomeUnknown):
            await post.watch.gone(Kind.NODE, observed.remote_id, deadline=50, purpose="delete it")

    post.run(work)


def test_an_ended_object_that_is_still_listed_is_gone() -> None:
    post = Post(delete_seconds=10, interval=5)
    original = post.provider.get

    async def get(kind: Kind, remote_id: str) -> Observed | None:
        seen = await original(kind, remote_id)
        return seen or Observed(kind, remote_id, Status.TERMINATED)

    post.provider.get = get  # type: ignore[method-assign]  # this provider remembers what it had

    async def work() -> None:
        observed, _ = await post.create()
        await post.provider.delete(Kind.NODE, observed.remote_id, {})
        await post.watch.gone(Kind.NODE, observed.remote_id, deadline=50, purpose="delete it")

    post.run(work)

    assert post.clock.monotonic() < 20


def _failing(call: Call, error: type[ProviderError]) -> Fault:
    return Fault(failed(error, call))
