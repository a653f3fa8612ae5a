"""A team with a spec, a state and a world in memory: what `workflow` wires together, without files and YAML.

Used by the world machine, the crash points and the engine's unit tests.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gpuplan.core.capabilities import Capabilities
from gpuplan.core.desired import Configuration
from gpuplan.core.events import Event
from gpuplan.core.offers import OfferQuery
from gpuplan.core.plan import Plan, PlanOptions
from gpuplan.core.ports import Provider
from gpuplan.core.state import State
from gpuplan.engine.executor import execute
from gpuplan.engine.outcome import Limits, RunOutcome, Stop
from gpuplan.engine.recover import recover
from gpuplan.engine.refresh import refresh
from gpuplan.plan.planner import make_plan
from gpuplan.state.backends.memory import MemoryBackend, MemoryStore
from gpuplan.state.lock import lock_request
from gpuplan.state.session import Session, read_state
from gpuplan.testing.clock import FakeClock
from gpuplan.testing.crashes import Crash, CrashingBackend
from gpuplan.testing.memory import MemoryWorld, memory_provider
from gpuplan.testing.memory_channels import MemoryChannels, MemoryLog
from gpuplan.testing.memory_world import MemoryObject
from tests.property.remote import Network, remote_provider
from tests.unit.plan.build import spec

_ANY = OfferQuery()


@dataclass(frozen=True, slots=True)
class Applied:
    plan: Plan
    outcome: RunOutcome


@dataclass(slots=True)
class Site:
    """`apply` and `plan` are whole commands: lock, recover, refresh, plan, and for apply execute and commit."""

    clock: FakeClock = field(default_factory=FakeClock)
    world: MemoryWorld = None  # type: ignore[assignment]  # made below, with the clock
    capabilities: Mapping[str, Capabilities | None] = field(default_factory=lambda: {"here": None})
    configuration: Configuration = field(default_factory=spec)
    limits: Limits = field(default_factory=Limits)
    store: MemoryStore = field(default_factory=MemoryStore)
    survives: Callable[[str], None] = lambda moment: None
    """May raise Crash at a write of the state."""
    network: Network | None = None
    """What stands between the engine and the world; None: nothing."""
    stop: Stop = field(default_factory=Stop)
    events: list[Event] = field(default_factory=list)
    logs: dict[str, MemoryLog] = field(default_factory=dict)
    renewed: list[str] = field(default_factory=list)
    """The addresses of nodes whose disks were emptied by what gpuplan did to them."""

    def __post_init__(self) -> None:
        if self.world is None:
            self.world = MemoryWorld(self.clock)

    @property
    def providers(self) -> Mapping[str, Provider]:
        near = {name: memory_provider(self.world, name, known) for name, known in self.capabilities.items()}
        if self.network is None:
            return near
        return {name: remote_provider(account, self.clock, self.network) for name, account in near.items()}

    @property
    def state(self) -> State:
        """What is durable now."""
        state = self.clock.run(read_state(MemoryBackend(self.clock, self.store)))
        assert state is not None
        return state

    def apply(self, **options: object) -> Applied:
        return self.clock.run(self._apply(PlanOptions(**options)))  # type: ignore[arg-type]  # options are PlanOptions'

    def plan(self, **options: object) -> Plan:
        return self.clock.run(self._plan(PlanOptions(**options)))  # type: ignore[arg-type]  # options are PlanOptions'

    def living(self) -> dict[str, MemoryObject]:
        """By address, what exists; an address that exists twice is an error."""
        found: dict[str, MemoryObject] = {}
        for thing in self.world.living():
            assert str(thing.mark.address) not in found, f"{thing.mark.address} exists twice"
            found[str(thing.mark.address)] = thing
        return found

    async def commanded(self) -> Applied:
        """An apply for whoever is in the clock's loop already."""
        return await self._apply(PlanOptions())

    async def _apply(self, options: PlanOptions) -> Applied:
        providers = self.providers
        async with self._session() as session:
            plan = await self._make(session, providers, options)
            outcome = await execute(
                plan,
                session,
                providers,
                clock=self.clock,
                emit=self.events.append,
                limits=self.limits,
                stop=self.stop,
                channels=MemoryChannels(providers, self.logs, self.renewed),
                outputs=self.configuration.outputs,
            )
            await session.commit()
        return Applied(plan, outcome)

    async def _plan(self, options: PlanOptions) -> Plan:
        async with self._session() as session:
            plan = await self._make(session, self.providers, options)
            await session.commit()
        return plan

    async def _make(self, session: Session, providers: Mapping[str, Provider], options: PlanOptions) -> Plan:
        await recover(session, providers, clock=self.clock, emit=self.events.append)
        survey = await refresh(self.configuration, session.state, providers, clock=self.clock, emit=self.events.append)
        return make_plan(
            self.configuration,
            session.state,
            survey,
            capabilities={name: provider.capabilities for name, provider in providers.items()},
            offers={name: await provider.offers(_ANY) for name, provider in providers.items()},
            options=options,
            now=self.clock.now(),
        )

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[Session]:
        """The state under its lock, until the command ends or the process dies."""
        backend = CrashingBackend(MemoryBackend(self.clock, self.store), self.survives)
        request = lock_request(self.clock, "apply")
        try:
            session = await Session.open(
                backend, self.clock, request=request, create_project=self.configuration.project
            )
            try:
                yield session
            except Exception:
                await session.close()
                raise
            await session.close()
        except Crash:
            # The operating system ends everything else; that nobody holds the lock any more is seen at once.
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            self.store.holder = None
            raise
