import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from gpuplan.core.address import Address
from gpuplan.core.desired import Moved, Output, Removed
from gpuplan.core.errors import AuthFailed, InternalError, InvalidRequest, SpecError, StateStale, Unavailable
from gpuplan.core.events import (
    Interrupted,
    OperationFailed,
    OperationFinished,
    OperationSkipped,
    OperationStarted,
    RunFinished,
    RunStarted,
)
from gpuplan.core.plan import Mode
from gpuplan.core.secret import Secret
from gpuplan.core.state import Entry, Noted, Phase, State
from gpuplan.core.values import UNKNOWN, Deferred, Ref, Scope, Value
from gpuplan.engine.executor import execute
from gpuplan.engine.outcome import Limits, Stop
from gpuplan.state.journal import Folding
from gpuplan.testing.memory import memory_provider
from gpuplan.testing.memory_capabilities import memory_capabilities
from gpuplan.testing.memory_channels import MemoryChannels
from gpuplan.testing.memory_world import Call, Fault, failed
from tests.property.site import Applied, Site
from tests.unit.plan.build import KEY, cluster, plan, spec, want


def site(*instances: Any, limits: Limits | None = None, **more: Any) -> Site:
    made = Site(configuration=spec(*instances, **more), limits=limits or Limits())
    made.capabilities = {"here": memory_capabilities(poll_interval_seconds=5, ready_timeout_seconds=500)}
    return made


def failing(verb: str, name: str, error: BaseException | None = None) -> Any:
    """A script in which one kind of call about one resource fails."""

    def script(call: Call) -> Fault | None:
        if call.verb == verb and call.address is not None and call.address.name == name:
            return Fault(error or failed(InvalidRequest, call))
        return None

    return script


def ids(operations: Sequence[Any]) -> list[str]:
    return [operation.id for operation in operations]


def row(count: int) -> list[Any]:
    """Volumes of which each needs the one before."""
    return [want(f"volumes.v{n}", needs=[f"volumes.v{n - 1}"] if n else []) for n in range(count)]


def layers(depth: int, width: int) -> list[Any]:
    """Volumes of which each needs three of the layer before."""

    def needs(layer: int, n: int) -> list[str]:
        return [f"volumes.l{layer - 1}x{(n + k) % width}" for k in range(3)] if layer else []

    return [want(f"volumes.l{layer}x{n}", needs=needs(layer, n)) for layer in range(depth) for n in range(width)]


class Book:
    """A ledger that keeps every entry, in memory alone."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._folding = Folding(State("lineage", 1, KEY, "test"))
        self._seq = 0
        self.lost = False

    @property
    def state(self) -> State:
        return self._folding.view(1)

    @property
    def ahead(self) -> State:
        return self.state

    def next_seq(self) -> int:
        self._seq += 1
        return self._seq

    async def write(self, *entries: Entry) -> None:
        self.submit(*entries)

    async def settle(self) -> None:
        """Everything is there at once."""

    def submit(self, *entries: Entry) -> None:
        if self.lost:
            raise StateStale("the lock is lost")
        for entry in entries:
            self.entries.append(entry)
            self._folding.fold(entry)


def journal(book: Book) -> list[str]:
    return [
        f"Noted {entry.recorded.phase}" if isinstance(entry, Noted) and entry.recorded else type(entry).__name__
        for entry in book.entries
    ]


def carry_out(made: Site, book: Book) -> None:
    """The plan of a first apply, with a ledger that can be watched."""
    provider = memory_provider(made.world, "here", made.capabilities["here"])
    work = execute(
        plan(made.configuration, capabilities={"here": provider.capabilities}),
        book,
        {"here": provider},
        clock=made.clock,
        emit=made.events.append,
        limits=Limits(),
        stop=Stop(),
        channels=MemoryChannels({"here": provider}),
    )
    made.clock.run(work)


def test_an_object_is_recorded_before_anything_waits_for_it() -> None:
    made = site(*cluster("a", 1))
    made.world.boot_seconds = 30
    book = Book()
    seen: list[tuple[str, list[str]]] = []
    made.world.script = lambda call: seen.append((call.verb, journal(book)))

    carry_out(made, book)

    assert [("create", ["Begun"]), ("get", ["Begun", "Noted pending"])] == [seen[1], seen[2]]
    assert ["Begun", "Noted pending", "Noted ready", "Ended"] == journal(book)


def test_an_object_that_is_there_at_once_takes_two_writes() -> None:
    made = site(want("volumes.data"))
    book = Book()

    carry_out(made, book)

    assert ["Begun", "Noted ready", "Ended"] == journal(book)


def test_a_run_tells_what_happens() -> None:
    made = site(want("volumes.data"))
    made.world.latency_seconds = 2

    applied = made.apply()

    address = Address("volumes", "data")
    run = made.events[made.events.index(RunStarted(1, 32)) :]
    assert [
        RunStarted(1, 32),
        OperationStarted("create volumes.data", "create", address, "here"),
        OperationFinished("create volumes.data", "create", address, "volume-1", 4.0),
        RunFinished(1, 0, 0, 0, 0, 4.0),
    ] == run
    assert applied.outcome.complete


def test_a_failure_stops_what_depends_on_it_and_nothing_else() -> None:
    volumes = [want(f"volumes.{name}") for name in ("bad", "good")]
    made = site(
        *volumes,
        *cluster("first", 1, {"volumes": [{"volume": Ref(Address("volumes", "bad")), "mount": "/x"}]}),
        *cluster("second", 1, needs=["clusters.first"]),
        *cluster("third", 1, {"volumes": [{"volume": Ref(Address("volumes", "good")), "mount": "/x"}]}),
    )
    made.world.script = failing("create", "bad")

    outcome = made.apply().outcome

    assert ["create volumes.bad"] == [failure.operation.id for failure in outcome.failed]
    assert [
        ("create clusters.first.nodes[0]", "create volumes.bad"),
        ("create clusters.second.nodes[0]", "create clusters.first.nodes[0]"),
    ] == [(skipped.operation.id, skipped.because) for skipped in outcome.skipped]
    assert {"volumes.good", "clusters.third.nodes[0]"} == made.living().keys()
    assert not outcome.complete
    told = [type(event) for event in made.events if isinstance(event, (OperationFailed, OperationSkipped))]
    assert [OperationFailed, OperationSkipped, OperationSkipped] == told


def test_no_more_operations_are_at_work_than_allowed() -> None:
    made = site(*cluster("a", 20), limits=Limits(parallelism=3))
    made.world.latency_seconds = 1

    # Seven rounds of three, and one call for the account.
    assert 8 == made.apply().outcome.seconds


def test_a_provider_has_its_own_limit() -> None:
    made = site(*cluster("a", 6), *cluster("b", 6, provider="there"), providers=("here", "there"))
    made.capabilities = {
        "here": memory_capabilities(max_concurrency=2),
        "there": memory_capabilities(max_concurrency=50),
    }
    made.limits = Limits(per_provider={"there": 3})
    made.world.latency_seconds = 1

    assert 4 == made.apply().outcome.seconds


def test_nodes_that_only_boot_take_no_place() -> None:
    made = site(*cluster("a", 40), limits=Limits(parallelism=2))
    made.world.boot_seconds = 100

    assert made.apply().outcome.seconds < 110


@pytest.mark.parametrize(
    ("instances", "parallelism", "bound"),
    [
        (cluster("a", 320), 32, 10),
        (row(40), 32, 40),
        ([*row(30), *cluster("a", 210)], 8, 30),
        (
            layers(10, 64),
            32,
            20,
        ),
    ],
    ids=["flat", "chain", "chain among others", "layers"],
)
def test_a_run_takes_hardly_longer_than_it_must(instances: list[Any], parallelism: int, bound: float) -> None:
    made = site(*instances, limits=Limits(parallelism))
    made.world.latency_seconds = 1

    assert made.apply().outcome.seconds <= 1.1 * bound


def test_bringing_up_many_nodes_costs_a_create_each_and_shared_looks() -> None:
    made = site(*cluster("a", 300))
    made.capabilities = {"here": memory_capabilities(page_size=100, poll_interval_seconds=20)}
    made.world.boot_seconds = 100

    made.apply()

    assert 300 == made.world.count("create")
    assert 0 == made.world.count("get")
    # One listing of three pages after 1, 3, 7, 15 and 31 seconds, then every 20; one page for the refresh.
    assert made.world.count("list") <= 1 + 3 * 9


def test_after_the_deadline_nothing_new_starts() -> None:
    made = site(*row(10), limits=Limits(deadline_seconds=4))
    made.world.latency_seconds = 1

    outcome = made.apply().outcome

    assert outcome.deadline_passed
    assert not outcome.interrupted
    assert ids(outcome.done) == [f"create volumes.v{n}" for n in range(3)]
    assert ids(outcome.unstarted) == [f"create volumes.v{n}" for n in range(3, 10)]
    made.limits = Limits()
    assert made.apply().outcome.complete


def test_the_first_interrupt_awaits_what_is_in_flight() -> None:
    made = site(*row(5), *cluster("a", 3))
    made.world.latency_seconds = 10
    made.world.script = lambda call: made.stop.request() if call.verb == "create" else None

    outcome = made.apply().outcome

    assert outcome.interrupted
    assert 4 == len(outcome.done)
    assert [f"create volumes.v{n}" for n in range(1, 5)] == ids(outcome.unstarted)
    assert () == outcome.open
    assert [Interrupted(4)] == [event for event in made.events if isinstance(event, Interrupted)]


def test_the_second_interrupt_leaves_at_once_and_the_next_run_settles_it() -> None:
    made = site(*cluster("a", 3))
    made.world.latency_seconds = 10
    made.world.boot_seconds = 100

    async def apply() -> Applied:
        run = asyncio.create_task(made.commanded())
        await made.clock.sleep(35)
        made.stop.request()
        await made.clock.sleep(2)
        made.stop.now()
        return await run

    outcome = made.clock.run(apply()).outcome

    assert outcome.interrupted
    assert 3 == len(outcome.left) == len(outcome.open)
    assert made.clock.monotonic() < 50
    made.stop = Stop()
    made.world.latency_seconds = 0
    assert made.apply().outcome.complete
    assert 3 == len(made.living())
    assert {} == made.state.intents


def test_when_the_lock_is_lost_nothing_more_starts() -> None:
    made = site(*row(10))
    book = Book()

    def script(call: Call) -> None:
        book.lost = made.world.count("create") >= 3

    made.world.script = script

    with pytest.raises(StateStale):
        carry_out(made, book)

    assert 3 == made.world.count("create")


def test_a_mistake_in_an_adapter_fails_one_operation_and_leaves_its_intent_open() -> None:
    made = site(want("volumes.odd"), want("volumes.even"))
    made.world.script = failing("create", "odd", KeyError("state"))

    outcome = made.apply().outcome

    (failure,) = outcome.failed
    assert isinstance(failure.error, InternalError)
    assert isinstance(failure.error.__cause__, KeyError)
    assert 1 == len(outcome.open)
    assert {"volumes.even"} == made.living().keys()


def test_a_value_that_nobody_knows_fails_before_anything_is_sent() -> None:
    url = Deferred("${volumes.data.host}", frozenset({Address("volumes", "data")}), lambda scope: UNKNOWN)
    made = site(want("volumes.data"), *cluster("a", 1, {"env": {"URL": url}}))

    outcome = made.apply().outcome

    (failure,) = outcome.failed
    assert isinstance(failure.error, SpecError)
    assert 1 == made.world.count("create")
    assert () == outcome.open


def test_facts_of_what_was_just_made_reach_what_needs_them() -> None:
    def url(scope: Scope) -> Value:
        view: Any = scope.view(Address("clusters", "head"))
        return view["nodes"][0]["public_ip"]

    address = Deferred("${clusters.head.nodes[0].public_ip}", frozenset({Address("clusters", "head")}), url)
    made = site(*cluster("head", 1), *cluster("work", 2, {"env": {"HEAD": address}}))

    assert made.apply().outcome.complete

    living = made.living()
    ip = living["clusters.head.nodes[0]"].facts["public_ip"]
    assert {"HEAD": ip} == living["clusters.work.nodes[1]"].attrs["env"]
    assert () == made.plan().operations


def test_what_the_refresh_saw_and_what_was_renamed_is_written_before_anything_is_done() -> None:
    made = site(*cluster("a", 1, {"image": "x"}), want("volumes.old"), want("volumes.older"))
    made.apply()
    made.configuration = spec(
        *cluster("b", 1, {"image": "x"}),
        want("volumes.newest"),
        want("volumes.old"),
        moved=(
            Moved(Address("volumes", "old"), Address("volumes", "newest"), ()),
            Moved(Address("volumes", "older"), Address("volumes", "old"), ()),
            Moved(Address("clusters", "a"), Address("clusters", "b"), ()),
        ),
    )

    applied = made.apply()

    assert () == applied.plan.operations
    ids_now = {str(address): known.remote_id for address, known in made.state.instances.items()}
    assert {"clusters.b.nodes[0]": "node-1", "volumes.newest": "volume-2", "volumes.old": "volume-3"} == ids_now


def test_what_depends_on_something_renamed_is_still_deleted_before_it() -> None:
    mounts = [{"volume": Ref(Address("volumes", "old")), "mount": "/x"}]
    made = site(want("volumes.old"), *cluster("a", 1, {"volumes": mounts}))
    made.apply()
    moved = [{"volume": Ref(Address("volumes", "new")), "mount": "/x"}]
    made.configuration = spec(
        want("volumes.new"),
        *cluster("a", 1, {"volumes": moved}),
        moved=(Moved(Address("volumes", "old"), Address("volumes", "new"), ()),),
    )
    assert () == made.apply().plan.operations

    made.configuration = spec()
    outcome = made.apply().outcome

    assert ["delete clusters.a.nodes[0]", "delete volumes.new"] == ids(outcome.done)


def test_refresh_only_writes_what_is_there_and_sends_nothing() -> None:
    made = site(*cluster("a", 2, {"image": "x"}))
    made.apply()
    made.world.vanish("node-1")
    made.world.edit("node-2", image="y")
    made.world.calls.clear()

    made.apply(mode=Mode.REFRESH_ONLY)

    (recorded,) = made.state.instances.values()
    assert {"image": "y"} == recorded.attrs
    assert {"list", "get", "health", "offers"} >= {call.verb for call in made.world.calls}


def test_what_is_forgotten_goes_on_running() -> None:
    made = site(want("volumes.data"))
    made.apply()
    made.configuration = spec(removed=(Removed(Address("volumes", "data"), destroy=False, path=()),))

    assert made.apply().outcome.complete

    assert {} == made.state.instances
    assert {"volumes.data"} == made.living().keys()


def test_outputs_are_computed_at_the_end() -> None:
    def size(scope: Scope) -> Value:
        view: Any = scope.view(Address("volumes", "data"))
        return view["public_ip"]

    data = frozenset({Address("volumes", "data")})
    made = site(want("volumes.data"))
    outputs = {
        "ip": Output(Deferred("${volumes.data.public_ip}", data, size), sensitive=False, path=()),
        "key": Output(Secret("s3cret"), sensitive=True, path=()),
        "plain": Output({"a": [1]}, sensitive=False, path=()),
    }
    made.configuration = replace(made.configuration, outputs=outputs)

    assert made.apply().outcome.complete

    state = made.state
    assert "192.0.0.1" == state.outputs["ip"]
    assert {"a": [1]} == state.outputs["plain"]
    assert "s3cret" not in repr(state.outputs)
    assert {"$sealed"} == state.outputs["key"].keys()  # type: ignore[union-attr]  # a mapping
    serial = state.serial
    made.apply()
    assert serial == made.state.serial


def test_an_output_of_something_that_failed_keeps_its_old_value() -> None:
    data = Address("volumes", "data")

    def ip(scope: Scope) -> Value:
        view: Any = scope.view(data)
        return view["public_ip"]

    made = site(want("volumes.data", {"region": "EU"}))
    output = Output(Deferred("${volumes.data.public_ip}", frozenset({data}), ip), sensitive=False, path=())
    made.configuration = replace(made.configuration, outputs={"ip": output})
    made.apply()
    made.configuration = replace(spec(want("volumes.data", {"region": "US"})), outputs={"ip": output})
    made.world.script = failing("create", "data")

    outcome = made.apply().outcome

    assert 1 == len(outcome.failed)
    assert {"ip": "192.0.0.1"} == made.state.outputs


def test_counts_are_of_objects() -> None:
    made = site(
        *cluster("stays", 1, {"image": "a", "instance_type": "s", "labels": {"a": "b"}}),
        *cluster("new", 2, {"image": "a"}),
    )
    made.apply()
    made.configuration = spec(
        *cluster("stays", 1, {"image": "a", "instance_type": "m", "labels": {"a": "c"}}),
        *cluster("new", 1, {"image": "b"}),
        *cluster("asleep", 1, {"stopped": True}),
    )

    outcome = made.apply().outcome

    assert (2, 1, 2) == (outcome.added, outcome.changed, outcome.destroyed)


def test_thousands_of_nodes_are_all_recorded_ready() -> None:
    made = site(*cluster("a", 2000))
    made.apply()

    assert 2000 == len(made.state.instances)
    assert all(recorded.phase is Phase.READY for recorded in made.state.instances.values())


def test_a_refused_account_is_no_reason_to_send_anything() -> None:
    made = site(*cluster("a", 2))
    asked = iter(range(100))

    def script(call: Call) -> Fault | None:
        # The refresh may ask; the run may not.
        return Fault(failed(Unavailable, call)) if call.verb == "health" and next(asked) else None

    made.world.script = script
    outcome = made.apply().outcome

    assert 2 == len(outcome.failed)
    assert 0 == made.world.count("create")
    assert () == outcome.open


def test_an_account_that_does_not_accept_us_is_asked_once_per_operation() -> None:
    made = site(*cluster("a", 1))
    asked = iter(range(100))
    made.world.script = lambda call: Fault(failed(AuthFailed, call)) if call.verb == "health" and next(asked) else None

    (failure,) = made.apply().outcome.failed

    assert isinstance(failure.error, AuthFailed)
    assert 2 == made.world.count("health")
