"""A provider that never answers holds nobody up."""

import pytest

from gpuplan.core.errors import Unavailable
from gpuplan.core.events import IntentSettled
from gpuplan.core.observed import Survey
from gpuplan.engine.reads import READ_SECONDS, SECONDS_PER_PAGE, in_time
from gpuplan.engine.recover import recover
from gpuplan.engine.refresh import refresh
from gpuplan.state.backends.memory import MemoryBackend
from gpuplan.state.lock import lock_request
from gpuplan.state.session import Session
from gpuplan.testing.clock import FakeClock
from tests.property.remote import Trouble
from tests.property.site import Site
from tests.unit.engine.test_recover import dead_site
from tests.unit.plan.build import cluster, spec, want

FOREVER = 1e9


def test_a_question_ends_when_its_time_is_over_and_says_so() -> None:
    clock = FakeClock()

    with pytest.raises(Unavailable) as caught:
        clock.run(in_time(clock.sleep(FOREVER), provider="here", doing="look", pages=2))

    assert ("no answer in 310 s",) == caught.value.failure.facts
    assert READ_SECONDS + 2 * SECONDS_PER_PAGE == clock.monotonic()


def survey(site: Site) -> Survey:
    state = site.state
    return site.clock.run(refresh(site.configuration, state, site.providers, clock=site.clock, emit=site.events.append))


def test_a_refresh_ends_though_no_provider_ever_answers() -> None:
    site = Site(configuration=spec(*cluster("a", 1), want("volumes.v", provider="there"), providers=("here", "there")))
    site.capabilities = {"here": None, "there": None}
    assert site.apply().outcome.complete
    site.world.latency_seconds = FOREVER

    seen = survey(site)

    assert {"here", "there"} == set(seen.unreachable)
    assert {} == seen.instances
    assert READ_SECONDS == site.clock.monotonic()


def test_what_cannot_be_settled_in_time_stays_open() -> None:
    site = dead_site("create", Trouble.CRASH_AFTER)
    site.world.latency_seconds = FOREVER

    async def settle() -> tuple[int, ...]:
        session = await Session.open(
            MemoryBackend(site.clock, site.store),
            site.clock,
            request=lock_request(site.clock, "plan"),
            create_project="test",
            patience_seconds=FOREVER,
        )
        try:
            return await recover(session, site.providers, clock=site.clock, emit=site.events.append)
        finally:
            await session.close()

    assert 1 == len(site.clock.run(settle()))
    (told,) = (event for event in site.events if isinstance(event, IntentSettled))
    assert "stays open: `here` could not be reached, asked to look at the account" == told.text
