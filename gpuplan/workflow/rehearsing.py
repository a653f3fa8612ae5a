"""Rehearse a spec: plan it, apply it and destroy it in a world of its own, where a scenario befalls it and time flies.

Called by `rehearse`. The emulators are in this process and the state is in memory: nothing outside is touched. Time
jumps from one event to the next; only what really runs, such as a setup over SSH, takes the time it takes.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from math import inf

from gpuplan.core.desired import Configuration
from gpuplan.core.diagnostics import Diagnostic
from gpuplan.core.errors import GpuplanError
from gpuplan.core.events import Event
from gpuplan.core.plan import Drift, Mode, PlanOptions
from gpuplan.core.ports import Clock, ProviderType
from gpuplan.core.state import State
from gpuplan.emulators.catalog import emulator_names, emulator_types
from gpuplan.emulators.control import ledger
from gpuplan.emulators.desk import Desk
from gpuplan.emulators.scenario import Scenario, Step
from gpuplan.emulators.wire import InProcessWire, speaks_http, with_wire
from gpuplan.emulators.world import World
from gpuplan.engine.outcome import Limits, RunOutcome, Stop
from gpuplan.engine.records import objects
from gpuplan.net.virtual_clock import VirtualClock
from gpuplan.state.backends.memory import MemoryBackend, MemoryStore
from gpuplan.state.session import read_state
from gpuplan.workflow.applying import Run, apply_project
from gpuplan.workflow.emulating import extra_missing, played
from gpuplan.workflow.planning import Planned
from gpuplan.workflow.project import Project, emulated_workspace, load_spec, provider_types
from gpuplan.workflow.rehearsed_spec import LeftOut, rehearsed_part

_TOO_MANY, _SERVER_ERROR = 429, 500


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line asks of a rehearsal. `scenario` is the text of a scenario file."""

    scenario: str | None = None
    seed: int = 0
    speed: float = inf
    lasting_seconds: float | None = None
    """How long to let it run before it is destroyed; None: until the scenario has nothing more."""
    destroys: bool = True
    parallelism: int = 32


@dataclass(frozen=True, slots=True)
class Act:
    """One apply or destroy of a rehearsal. Times in seconds since it began."""

    name: str
    began: float
    ended: float
    planned: Planned | None
    outcome: RunOutcome | None
    drift: tuple[Drift, ...] = ()
    error: GpuplanError | None = None

    @property
    def is_complete(self) -> bool:
        return self.outcome is not None and self.outcome.complete


@dataclass(frozen=True, slots=True)
class CallCount:
    """Calls of one route. `failed`: sent away for coming too fast, answered with a server's error, or not at all."""

    provider: str
    method: str
    route: str
    count: int
    failed: int


@dataclass(frozen=True, slots=True)
class Living:
    """An object of the emulated world that still is there."""

    provider: str
    kind: str
    id: str
    address: str
    """As its mark says; empty where it says none."""
    is_known: bool
    """Whether the state has it, or an intent that the next apply would settle."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What happened. Money in USD."""

    configuration: Configuration
    left_out: tuple[LeftOut, ...]
    acts: tuple[Act, ...]
    happened: tuple[tuple[float, Event | Step], ...]
    """What the engine told and what the scenario did, with the seconds since it began."""
    calls: tuple[CallCount, ...]
    billed: Mapping[str, Decimal]
    """By provider."""
    peak_hourly: Decimal | None
    """What a plan said it would cost per hour, at most."""
    living: tuple[Living, ...]

    @property
    def is_clean(self) -> bool:
        """Whether everything that was asked was done in the end, and nothing is there that nobody knows."""
        destroyed = [act for act in self.acts if act.name == "destroy"]
        last = next(act for act in reversed(self.acts) if act.name != "destroy")
        ends = last.is_complete and all(act.is_complete for act in destroyed)
        return ends and (not self.living if destroyed else all(thing.is_known for thing in self.living))


def rehearse(project: Project, wishes: Wishes, *, clock: Clock) -> Rehearsal:
    """Blocks until it is over. Raises SpecError and PlanError as `plan` would, GpuplanError for a scenario."""
    configuration = load_spec(replace(project, workspace=project.workspace))
    stage = _Stage(project, configuration, wishes, clock)
    with stage.served() as url:
        return stage.clock.run(stage.play(replace(stage.project, emulator=url)))


@dataclass
class _Stage:
    """One rehearsal while it goes on."""

    given: Project
    spec: Configuration
    wishes: Wishes
    real_clock: Clock
    happened: list[tuple[float, Event | Step]] = field(default_factory=list)
    acts: list[Act] = field(default_factory=list)
    store: MemoryStore = field(default_factory=MemoryStore)

    def __post_init__(self) -> None:
        wishes = self.wishes
        self.clock = VirtualClock(self.real_clock.now(), seed=wishes.seed, speed=wishes.speed)
        installed, known = provider_types(self.given), set(emulator_names())
        used = {name: installed[block.type] for name, block in self.spec.providers.items()}
        emulated = {name for name, type in used.items() if type.name in known}
        part = rehearsed_part(self.spec, emulated)
        self.configuration, self.left_out = part.configuration, part.left_out
        if not self.configuration.instances:
            raise _nothing_to_rehearse(part.left_out)
        emulators = emulator_types({used[name].name for name in emulated})
        scenario = Scenario() if wishes.scenario is None else played(wishes.scenario, emulators, self.clock)
        # Its clock is the rehearsal's own: how fast that goes is said on the command line.
        self.steps = tuple(step for step in scenario.steps if step.call != "clock")
        self.desk = Desk(World(self.clock, seed=wishes.seed), emulators, scenario=Scenario(self.steps))
        types = {block.type: used[name] for name, block in self.spec.providers.items()}
        self.project = replace(
            self.given,
            workspace=emulated_workspace(self.given.workspace),
            types={name: self._wired(type) for name, type in types.items()},
            backend=lambda clock: MemoryBackend(clock, self.store),
        )

    def _wired(self, type: ProviderType) -> ProviderType:
        is_near = type.name in self.desk.types and speaks_http(type)
        return with_wire(type, InProcessWire(self.desk, self.clock)) if is_near else type

    @contextmanager
    def served(self) -> Iterator[str]:
        """The emulators on a port too, for SSH to their nodes and for whoever brings a transport of its own."""
        try:
            from gpuplan.emulators.serve import serving
        except ModuleNotFoundError as exc:
            raise extra_missing(exc.name or "") from exc
        with serving(self.desk) as url:
            yield url

    async def play(self, project: Project) -> Rehearsal:
        await self._act("apply", project, PlanOptions())
        if self.acts[0].error is not None and self.acts[0].planned is None:
            raise self.acts[0].error
        await self._until_nothing_more_befalls()
        if self.clock.monotonic() > self.acts[0].ended or not self.acts[0].is_complete:
            await self._act("apply again", project, PlanOptions())
        if self.wishes.destroys:
            await self._act("destroy", project, PlanOptions(mode=Mode.DESTROY))
        state = await read_state(MemoryBackend(self.clock, self.store))
        hourly = [act.planned.plan.hourly_after for act in self.acts if act.planned is not None]
        due = [(step.at_seconds, step) for step in self.steps if 0 < step.at_seconds <= self.clock.monotonic()]
        return Rehearsal(
            self.configuration,
            self.left_out,
            tuple(self.acts),
            tuple(sorted([*self.happened, *due], key=lambda each: each[0])),
            self._calls(),
            self._billed(),
            max((price for price in hourly if price is not None), default=None),
            tuple(self._living(state)),
        )

    async def _until_nothing_more_befalls(self) -> None:
        last = max((step.at_seconds for step in self.steps), default=0.0)
        until = last if self.wishes.lasting_seconds is None else self.wishes.lasting_seconds
        await self.clock.sleep(max(0.0, until - self.clock.monotonic()))

    async def _act(self, name: str, project: Project, options: PlanOptions) -> None:
        began, seen = self.clock.monotonic(), list[Planned]()
        run = Run(
            clock=self.clock,
            emit=lambda event: self.happened.append((self.clock.monotonic(), event)),
            approve=_agreeing(seen),
            limits=Limits(parallelism=self.wishes.parallelism),
            stop=Stop(),
            operation="rehearse",
        )
        outcome: RunOutcome | None = None
        error: GpuplanError | None = None
        try:
            applied = await apply_project(project, options, run, self.configuration)
            outcome = applied.outcome
        except GpuplanError as exc:
            # What fails is what a rehearsal is for: it is reported, and the next act shows how the next run goes on.
            exc.locator = exc.locator or self.configuration.locator
            error = exc
        planned = seen[0] if seen else None
        drift = planned.plan.drift if planned is not None else ()
        self.acts.append(Act(name, began, self.clock.monotonic(), planned, outcome, drift, error))

    def _calls(self) -> tuple[CallCount, ...]:
        visits = self.desk.world.visits
        every = Counter((visit.provider, visit.method, visit.route) for visit in visits)
        bad = Counter(
            (visit.provider, visit.method, visit.route)
            for visit in visits
            if visit.status in (0, _TOO_MANY) or visit.status >= _SERVER_ERROR
        )
        return tuple(CallCount(*key, count, bad[key]) for key, count in sorted(every.items()))

    def _billed(self) -> Mapping[str, Decimal]:
        now = self.desk.world.time.now()
        billed: dict[str, Decimal] = {}
        for thing in self.desk.world.ledger:
            bill = self.desk.types[thing.provider].bill(thing, now)
            billed[thing.provider] = billed.get(thing.provider, Decimal(0)) + bill
        return billed

    def _living(self, state: State | None) -> Iterator[Living]:
        known = _known(state)
        rows = ledger(self.desk.world, self.desk.types, "")
        for thing, row in zip(self.desk.world.ledger, rows, strict=True):
            if thing.deleted_at is None:
                is_known = thing.id in known or row["token"] in known
                yield Living(thing.provider, thing.kind, thing.id, str(row["address"]), is_known)


def _known(state: State | None) -> set[str]:
    """Ids and tokens of all that a state speaks of; of composite ids what is left without the scope too."""
    if state is None:
        return set()
    things = [thing for recorded in state.instances.values() for thing in objects(recorded)]
    ids = {thing.remote_id for thing in things}
    tokens = {thing.token for thing in things} | {intent.token for intent in state.intents.values()}
    return {*ids, *tokens, *(id.rpartition("/")[2] for id in ids)} - {""}


def _agreeing(seen: list[Planned]) -> Callable[[Planned], Awaitable[bool]]:
    async def agree(planned: Planned) -> bool:
        seen.append(planned)
        return True

    return agree


def _nothing_to_rehearse(left_out: tuple[LeftOut, ...]) -> GpuplanError:
    found = Diagnostic(
        id="nothing-to-rehearse",
        summary="nothing in this spec can be rehearsed",
        facts=tuple(f"`{each.resource}`: {each.why}" for each in left_out) or ("the spec asks for nothing",),
        hint="emulators stand in for these",
        commands=("gpuplan emulate --help",),
    )
    return GpuplanError(diagnostics=(found,))
