"""When what an operation announces and concludes is on the disk: one append for many, and no effect before its own."""

from collections.abc import Sequence
from typing import Any

import pytest

from gpuplan.core.address import Address
from gpuplan.core.desired import Configuration
from gpuplan.core.errors import StateError
from gpuplan.core.state import Begun, Ended, Entry, LockInfo, Noted, State
from gpuplan.engine.executor import execute
from gpuplan.engine.outcome import Limits, RunOutcome, Stop
from gpuplan.state.backends.memory import MemoryBackend
from gpuplan.state.lock import lock_request
from gpuplan.state.session import Session
from gpuplan.testing.clock import FakeClock
from gpuplan.testing.memory import MemoryWorld, memory_provider
from gpuplan.testing.memory_capabilities import memory_capabilities
from gpuplan.testing.memory_channels import MemoryChannels
from gpuplan.testing.memory_world import Call
from tests.unit.plan.build import plan, spec, want


class SlowDisk(MemoryBackend):
    """Takes a second for every append."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.clock = clock
        self.appends: list[list[str]] = []
        self.full = False
        self.stop = Stop()
        self.stop_at = ""
        """Leave at once while an entry of that name is on its way."""

    @property
    def durable(self) -> set[str]:
        return {name for append in self.appends for name in append}

    async def append(self, entries: Sequence[Entry], *, base: State, held: LockInfo) -> None:
        names = [_name(entry) for entry in entries]
        if self.stop_at in names:
            self.stop.now()
        await self.clock.sleep(1)
        if self.full:
            raise StateError("the disk is full")
        await super().append(entries, base=base, held=held)
        self.appends.append(names)


def _name(entry: Entry) -> str:
    match entry:
        case Begun(intent):
            return f"{intent.operation} begun"
        case Noted(address):
            return f"{address} noted"
        case Ended(seq):
            return f"{seq} ended"
    return type(entry).__name__


def chain(length: int) -> Configuration:
    """Volumes of which each needs the one before."""
    return spec(*(want(f"volumes.v{n}", needs=[f"volumes.v{n - 1}"] if n else []) for n in range(length)))


def carry_out(configuration: Configuration, disk: SlowDisk, world: MemoryWorld) -> RunOutcome:
    """A first apply."""
    provider = memory_provider(world, "here", memory_capabilities(ready_timeout_seconds=10_000))

    async def run() -> RunOutcome:
        session = await Session.open(disk, disk.clock, request=lock_request(disk.clock, "apply"), create_project="test")
        try:
            return await execute(
                plan(configuration, capabilities={"here": provider.capabilities}),
                session,
                {"here": provider},
                clock=disk.clock,
                emit=lambda event: None,
                limits=Limits(),
                stop=disk.stop,
                channels=MemoryChannels({"here": provider}),
            )
        finally:
            await session.close()

    return disk.clock.run(run())


@pytest.fixture
def disk() -> SlowDisk:
    return SlowDisk(FakeClock())


def test_a_chain_takes_one_append_for_each_of_its_links_and_one_more(disk: SlowDisk) -> None:
    outcome = carry_out(chain(3), disk, MemoryWorld(disk.clock))

    assert outcome.complete
    assert [
        ["create volumes.v0 begun"],
        ["volumes.v0 noted", "1 ended", "create volumes.v1 begun"],
        ["volumes.v1 noted", "2 ended", "create volumes.v2 begun"],
        ["volumes.v2 noted", "3 ended"],
    ] == disk.appends


def test_one_at_a_time_takes_no_more_appends_than_a_chain(disk: SlowDisk) -> None:
    configuration = spec(*(want(f"volumes.v{n}") for n in range(5)))
    world = MemoryWorld(disk.clock)

    assert carry_out(configuration, disk, world).complete
    assert 2 == len(disk.appends)


def test_no_request_leaves_before_its_intent_and_all_that_came_before_are_durable(disk: SlowDisk) -> None:
    world = MemoryWorld(disk.clock)
    early: list[Any] = []

    def script(call: Call) -> None:
        if call.verb == "create" and call.address is not None:
            number = int(call.address.name[1:])
            wanted = {f"create volumes.v{number} begun", *(f"volumes.v{n} noted" for n in range(number))}
            early.extend(wanted - disk.durable)

    world.script = script

    assert carry_out(chain(5), disk, world).complete
    assert [] == early


def test_an_outcome_that_cannot_be_written_ends_the_run_though_others_could_wait_for_hours(disk: SlowDisk) -> None:
    world = MemoryWorld(disk.clock)

    def script(call: Call) -> None:
        disk.full = call.verb == "create"

    world.script = script
    world.latency_seconds = 5
    configuration = spec(want("volumes.quick"), want("clusters.slow.nodes[0]"))
    world.boot_seconds = 9_000

    with pytest.raises(StateError, match="the disk is full"):
        carry_out(configuration, disk, world)

    assert disk.clock.monotonic() < 60


def test_who_leaves_at_once_counts_as_done_what_was_only_being_written(disk: SlowDisk) -> None:
    disk.stop_at = "volumes.v0 noted"

    outcome = carry_out(chain(2), disk, MemoryWorld(disk.clock))

    assert ["create volumes.v0"] == [operation.id for operation in outcome.done]
    assert {"volumes.v0 noted", "1 ended"} <= disk.durable
    assert ["create volumes.v1"] == [operation.id for operation in outcome.left]
    assert (2,) == outcome.open
    assert Address("volumes", "v1") not in {operation.address for operation in outcome.done}
