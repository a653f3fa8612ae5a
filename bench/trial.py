"""One trial of the fault campaign: twenty nodes and their companions come up, and go, while everything goes wrong.

An apply under random faults that may be killed at any await, looked at, brought to its end, looked at, and the same for
the destroy. `Wrong` says which promise was not kept. `bench.killed` does it with processes and a real SIGKILL.
"""

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from bench.mortal import Life, MortalBackend, MortalDesk, run_until_death
from gpuplan.core.address import Address
from gpuplan.core.errors import GpuplanError
from gpuplan.core.plan import Mode, PlanOptions
from gpuplan.core.state import State
from gpuplan.emulators.catalog import emulator_types
from gpuplan.emulators.control import ledger
from gpuplan.emulators.faults import Fault, FaultKind
from gpuplan.emulators.http import Json
from gpuplan.emulators.wire import InProcessWire, with_wire
from gpuplan.emulators.world import World
from gpuplan.engine.outcome import Limits, Stop
from gpuplan.engine.records import objects
from gpuplan.net.virtual_clock import VirtualClock
from gpuplan.state.backends.memory import MemoryBackend, MemoryStore
from gpuplan.state.session import read_state
from gpuplan.testing.conformance import ProviderConformance
from gpuplan.testing.specs import crowded_knobs
from gpuplan.workflow.applying import Applied, Run, apply_project
from gpuplan.workflow.planning import Planned
from gpuplan.workflow.project import Project, emulated_workspace

START = datetime(2026, 1, 1, tzinfo=UTC)
MOST_STRIKES = 10**9
"""Faults that end only with the calm count down from here, which tells how often they struck."""

NODES = 20
APPLIES_TO_CONVERGE = 3
_EFFECTS = ("POST", "PUT", "PATCH", "DELETE")
_SERVER_ERRORS = (500, 502, 503, 504)


class Wrong(AssertionError):
    """A promise that was not kept."""


@dataclass(slots=True)
class Tally:
    """What one or many trials saw."""

    applies: int = 0
    """Under faults; so are the destroys."""
    destroys: int = 0
    killed: int = 0
    objects: int = 0
    """Created in all, replacements included."""
    shells: int = 0
    """Trials that left an empty shell behind: an app without a machine, its address."""
    faults: Counter[str] = field(default_factory=Counter)
    """Strikes by kind."""

    def add(self, other: "Tally") -> None:
        self.applies += other.applies
        self.destroys += other.destroys
        self.killed += other.killed
        self.objects += other.objects
        self.shells += other.shells
        self.faults += other.faults


class Trial:
    """`spec` is a folder with the sample spec in it."""

    def __init__(self, contract: type[ProviderConformance], spec: Path, seed: int) -> None:
        self._chance = random.Random(seed)
        self._clock = VirtualClock(START, seed=seed)
        self._type = contract.provider_type
        self._world = World(self._clock, seed=seed)
        self._world.knobs[self._type.name].update(crowded_knobs(contract, NODES))
        self._kinds = {str(kind) for kind in contract.asks}
        self._delay = contract.subject().can.visibility_delay_seconds
        self._desk = MortalDesk(self._world, emulator_types([self._type.name]))
        self._store = MemoryStore()
        wired = with_wire(self._type, InProcessWire(self._desk, self._clock))
        self._project = Project(
            folder=spec,
            workspace=emulated_workspace("default"),
            types={self._type.name: wired},
            emulator="http://emulator.invalid",
        )
        self.tally = Tally()

    def run(self) -> Tally:
        """Raises Wrong."""
        self._world.list_delay_seconds[self._type.name] = self._delay * self._chance.random()
        for _ in range(self._chance.choice((1, 1, 2))):
            self.tally.applies += 1
            self._stormy(PlanOptions())
        if self._chance.random() < 0.8:
            self._converge()
        self.tally.destroys += 1
        self._stormy(PlanOptions(mode=Mode.DESTROY))
        self._leave_nothing()
        self.tally.objects = len(self._world.ledger)
        return self.tally

    def _stormy(self, options: PlanOptions) -> None:
        """A command under faults, dead somewhere on its way every second time; then all that exists must be known."""
        with self._faults():
            # A command takes a hundred turns or a thousand: half of the deaths come early.
            last_turn = int(10 ** self._chance.uniform(1, 3.2)) if self._chance.random() < 0.6 else None
            self._desk.life = life = Life(last_turn)
            self._command(options, life)
            self._desk.life = Life()
        self.tally.killed += life.is_over
        self._nothing_is_lost()
        self._clock.advance(self._chance.choice((0, 1, 30, 600)))

    @contextmanager
    def _faults(self) -> Iterator[None]:
        faults = [self._fault(method, most=0.3) for method in self._chance.sample(_EFFECTS, 2)]
        faults += [self._fault(method, most=0.15) for method in ("GET", "")]
        self._world.faults.extend(faults)
        try:
            yield
        finally:
            self._world.faults.clear()
            for fault in faults:
                struck = MOST_STRIKES - (fault.times or 0)
                self.tally.faults[str(fault.kind)] += struck

    def _fault(self, method: str, *, most: float) -> Fault:
        kind = self._chance.choice(list(FaultKind))
        # Who says that somebody came too fast has done nothing: everybody may rely on that.
        statuses = _SERVER_ERRORS if kind is FaultKind.STATUS_AFTER else (429, *_SERVER_ERRORS)
        return Fault(
            kind,
            method=method,
            times=MOST_STRIKES,
            probability=most * self._chance.random(),
            status=self._chance.choice(statuses),
            retry_after=self._chance.choice((None, 1.0, 5.0)),
            delay_seconds=self._chance.choice((0.0, 1.0, 20.0)),
        )

    def _command(self, options: PlanOptions, life: Life) -> Applied | None:
        """One run of the program; None when it died, or ended with an error."""
        run = Run(
            clock=self._clock,
            emit=lambda event: None,
            approve=agree,
            limits=Limits(parallelism=self._chance.choice((1, 4, 32))),
            stop=Stop(),
        )
        project = replace(self._project, backend=lambda clock: MortalBackend(clock, self._store, life))
        try:
            return run_until_death(self._clock, life, apply_project(project, options, run))
        except GpuplanError:
            return None
        finally:
            # Whoever looks sees at once that the process is gone.
            self._store.holder = None

    def _converge(self) -> None:
        """In calm, a few applies make the world what the spec says, and then there is nothing left to do."""
        for _ in range(APPLIES_TO_CONVERGE):
            applied = self._command(PlanOptions(), Life())
            self._nothing_is_lost()
            if applied is not None and applied.outcome is not None and applied.planned.plan.is_empty:
                break
        else:
            raise Wrong(f"after {APPLIES_TO_CONVERGE} applies in calm the plan still is not empty")
        assert applied is not None
        if applied.planned.configuration.instances.keys() != applied.state.instances.keys():
            raise Wrong("the state has other instances than the spec")
        self._each_exists_once(applied.state)

    def _each_exists_once(self, state: State) -> None:
        found: Counter[Address] = Counter()
        for row in self._living():
            address = whose(row, state)
            if address is not None:
                found[address] += 1
            elif self._is_ours(row):
                raise Wrong(f"nobody's: {row['kind']} {row['id']}")
        if doubled := {str(address): count for address, count in found.items() if count > 1}:
            raise Wrong(f"doubled: {doubled}")
        if missing := state.instances.keys() - found.keys():
            raise Wrong(f"not there: {sorted(map(str, missing))}")

    def _leave_nothing(self) -> None:
        for _ in range(APPLIES_TO_CONVERGE):
            self._command(PlanOptions(mode=Mode.DESTROY), Life())
            self._nothing_is_lost()
        state = self._state()
        if left := [(row["kind"], row["id"], row["address"]) for row in self._living() if self._is_ours(row)]:
            raise Wrong(f"left after destroy: {left}")
        self.tally.shells += any(True for _ in self._living())
        if state is not None and (state.instances or state.intents):
            raise Wrong(f"the state still has {[*state.instances, *state.intents]}")

    def _nothing_is_lost(self) -> None:
        """Everything that lives is in the state, or an intent that is open will find it."""
        known = known_by(self._state())
        ours = [row for row in self._living() if self._is_ours(row)]
        lost = [row for row in ours if str(row["id"]) not in known and str(row["token"]) not in known]
        if lost:
            raise Wrong(f"lost: {[(row['kind'], row['id'], row['address'], row['token']) for row in lost]}")

    def _is_ours(self, row: Json) -> bool:
        """Not a shell: what an adapter needs around its objects, and removes with the last of them if it can."""
        return bool(row["token"]) or row["kind"] in self._kinds

    def _living(self) -> list[Json]:
        return [row for row in ledger(self._world, self._desk.types, self._type.name) if row["deleted_at"] is None]

    def _state(self) -> State | None:
        return self._clock.run(read_state(MemoryBackend(self._clock, self._store)))


def whose(row: Json, state: State) -> Address | None:
    """The instance an object of the ledger is the one of."""
    for address, recorded in state.instances.items():
        if row["id"] == recorded.remote_id.rpartition("/")[2] or (row["token"] and row["token"] == recorded.token):
            return address
    return None


def known_by(state: State | None) -> set[str]:
    """Ids and tokens of all that the state speaks of; of composite ids their last part too."""
    if state is None:
        return set()
    things = [thing for recorded in state.instances.values() for thing in objects(recorded)]
    ids = {thing.remote_id for thing in things} | {i.remote_id for i in state.intents.values() if i.remote_id}
    tokens = {thing.token for thing in things} | {intent.token for intent in state.intents.values()}
    return (ids | tokens | {id.rpartition("/")[2] for id in ids}) - {""}


async def agree(planned: Planned) -> bool:
    return True
