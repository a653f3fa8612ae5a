"""A provider that takes its time and counts what it is asked: for what no stopwatch shows, in virtual time.

Like `instant`, but a create takes its answer, and then its node has to boot. Opened by `emulated` alone.
"""

from collections import Counter
from dataclasses import dataclass, field, replace
from random import Random

from pydantic import BaseModel

from bench.instant import CAPABILITIES, Instant, Options
from gpuplan.core.capabilities import Capabilities
from gpuplan.core.desired import Kind
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Observed, Status
from gpuplan.core.ports import Links, Listed, OpenContext, Provider, ProviderType, Want
from gpuplan.testing.clock import FakeClock

PAGE_SIZE = 100
INTERVAL_SECONDS = 20.0
_CAPABILITIES = replace(
    CAPABILITIES,
    requires_readiness_poll=True,
    page_size=PAGE_SIZE,
    poll_interval_seconds=INTERVAL_SECONDS,
    ready_timeout_seconds=100_000,
)


@dataclass(slots=True)
class World:
    """How slow it is, in seconds, and what it was asked."""

    clock: FakeClock
    answer_seconds: tuple[float, float] = (0.0, 0.0)
    """A create takes between these two, always the same for the same name."""
    boot_seconds: float = 0.0
    calls: Counter[str] = field(default_factory=Counter)
    """Creates, gets, lists, and the pages of all lists."""

    def answer_time(self, name: str) -> float:
        """How long the create of a resource takes."""
        return Random(name).uniform(*self.answer_seconds)

    @property
    def provider_type(self) -> ProviderType:
        return ProviderType(
            name="patient", title="All in good time", options=Options, capabilities=_capabilities, open=self._open
        )

    def _open(self, _: BaseModel, __: OpenContext) -> Provider:
        return _Patient(self)


class _Patient(Instant):
    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        self._running_at: dict[str, float] = {}

    @property
    def capabilities(self) -> Capabilities:
        return _CAPABILITIES

    async def list(self, kind: Kind, known: frozenset[str]) -> Listed:
        listed = await super().list(kind, known)
        self._world.calls["lists"] += 1
        self._world.calls["pages"] += max(1, -(-len(listed.objects) // PAGE_SIZE))
        return Listed([self._now(seen) for seen in listed.objects])

    async def get(self, kind: Kind, remote_id: str) -> Observed | None:
        self._world.calls["gets"] += 1
        seen = await super().get(kind, remote_id)
        return None if seen is None else self._now(seen)

    async def create(self, want: Want, mark: Mark, links: Links) -> Observed:
        world = self._world
        world.calls["creates"] += 1
        await world.clock.sleep(world.answer_time(want.address.name))
        created = await super().create(want, mark, links)
        self._running_at[created.remote_id] = world.clock.monotonic() + world.boot_seconds
        return self._now(created)

    def _now(self, seen: Observed) -> Observed:
        is_up = self._world.clock.monotonic() >= self._running_at.get(seen.remote_id, 0.0)
        return seen if is_up else replace(seen, status=Status.STARTING)


def _capabilities(_: BaseModel) -> Capabilities:
    return _CAPABILITIES
