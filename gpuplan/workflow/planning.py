"""Make a plan against the world as it is: settle what a crash left open, look, compare.

Called by `plan` and `drift`, and by `applying` under its lock.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from gpuplan.core.capabilities import Capabilities
from gpuplan.core.desired import Configuration
from gpuplan.core.encoding import decode_value
from gpuplan.core.observed import Survey
from gpuplan.core.plan import Drift, Mode, Plan, PlanOptions
from gpuplan.core.ports import Clock, Emit, Ledger, Provider, StateBackend
from gpuplan.core.state import State
from gpuplan.core.values import JsonValue, Value, has_unknown
from gpuplan.engine.recover import recover
from gpuplan.engine.refresh import refresh
from gpuplan.plan.checks import check_settled
from gpuplan.plan.compare import same
from gpuplan.plan.demand import surely_asked
from gpuplan.plan.drift import find_drift
from gpuplan.plan.planner import Draft
from gpuplan.state.session import read_state
from gpuplan.workflow.accounts import open_providers, used_providers
from gpuplan.workflow.driftignore import FILE, Ignored, read_ignored, sift
from gpuplan.workflow.dry_runs import check_with_providers
from gpuplan.workflow.ledger import hold_state, open_state, unborn
from gpuplan.workflow.market_memory import MarketMemory
from gpuplan.workflow.project import Project, load_spec
from gpuplan.workflow.supply import Supply


class OutputChange(NamedTuple):
    """None before: it is new; None after: it will be gone."""

    name: str
    before: Value
    after: Value


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, and what it was made from."""

    plan: Plan
    configuration: Configuration
    state: State

    @property
    def has_changes(self) -> bool:
        """Whether applying would do anything, if only to an output."""
        return not self.plan.is_empty or bool(self.output_changes)

    @property
    def output_changes(self) -> tuple[OutputChange, ...]:
        """Outputs that will be others than the state has; what is not known yet counts only if something is done."""
        if self.plan.mode is Mode.REFRESH_ONLY or (self.plan.mode is Mode.DESTROY and self.plan.partial):
            return ()
        before, after = self.state.outputs, self.plan.outputs
        return tuple(
            OutputChange(name, decode_value(before[name]) if name in before else None, after.get(name))
            for name in sorted(before.keys() | after.keys())
            if self._differs(name, before, after)
        )

    def _differs(self, name: str, before: Mapping[str, JsonValue], after: Mapping[str, Value]) -> bool:
        if name not in before or name not in after:
            return True
        if self.plan.is_empty and has_unknown(after[name]):
            return False
        return not same(name, decode_value(before[name]), after[name], self.state.key)


@dataclass(frozen=True, slots=True)
class Surveyed:
    """What `drift` found that counts, how much `.driftignore` silenced, and its entries whose time is over."""

    drift: tuple[Drift, ...]
    configuration: Configuration
    state: State
    silenced: int
    expired: tuple[Ignored, ...]


async def plan_project(
    project: Project, options: PlanOptions, *, clock: Clock, emit: Emit, patience_seconds: float = 0.0
) -> Planned:
    """What apply would do. Takes the lock only to settle what an earlier run left open."""
    configuration, options = load_spec(project), replace(options, workspace=project.workspace)
    backend = open_state(project, clock)
    try:
        state = await settled_state(
            backend, configuration, project, clock=clock, emit=emit, patience_seconds=patience_seconds
        )
        async with open_providers(used_providers(configuration, state), configuration, project, clock) as providers:
            memory = MarketMemory(project, clock)
            plan = await make(configuration, state, providers, options, clock=clock, emit=emit, memory=memory)
        return Planned(plan, configuration, state)
    finally:
        await backend.close()


async def settled_state(
    backend: StateBackend,
    configuration: Configuration,
    project: Project,
    *,
    clock: Clock,
    emit: Emit,
    patience_seconds: float,
) -> State:
    """The state with no intent open and no journal left over, as far as looking can settle it."""
    stored = await backend.load()
    if stored.snapshot is None:
        return unborn(configuration.project)
    if not stored.journal and not stored.snapshot.intents:
        return stored.snapshot
    async with hold_state(
        backend, clock, operation="plan", create_project=configuration.project, patience_seconds=patience_seconds
    ) as session:
        used = used_providers(configuration, session.state)
        async with open_providers(used, configuration, project, clock) as providers:
            await settle(session, providers, clock=clock, emit=emit)
        return await session.commit()


async def settle(ledger: Ledger, providers: Mapping[str, Provider], *, clock: Clock, emit: Emit) -> None:
    """Close open intents by looking; needs the lock."""
    if ledger.state.intents:
        await recover(ledger, providers, clock=clock, emit=emit)


async def make(
    configuration: Configuration,
    state: State,
    providers: Mapping[str, Provider],
    options: PlanOptions,
    *,
    clock: Clock,
    emit: Emit,
    memory: MarketMemory,
) -> Plan:
    """Look at every account at once, then plan; `memory` is what is known of the markets already.

    Raises PlanError with every finding, and the ProviderError of an account that did not tell its offers and cannot be
    done without.
    """
    supply = Supply(configuration, providers, memory)
    asking = asyncio.create_task(supply.ask(surely_asked(configuration, state, options)))
    try:
        survey = Survey({})
        if options.refreshed:
            survey = await refresh(configuration, state, providers, clock=clock, emit=emit, workspace=options.workspace)
        known, now = capabilities_of(providers), clock.now()
        draft = Draft(configuration, state, survey, capabilities=known, options=options, now=now)
        await asking
        await supply.ask(draft.sellers)
    finally:
        asking.cancel()
    silent = {name: error for name, error in supply.silent.items() if name not in survey.unreachable}
    if silent and draft.strands(supply.silent):
        raise next(iter(silent.values()))
    told = {name: str(error) for name, error in silent.items()}
    plan = draft.plan(supply.offers, failed=memory.failed(configuration), silent=told)
    check_settled(plan, state)
    await check_with_providers(plan, configuration, state, providers)
    return plan


async def find_project_drift(project: Project, *, clock: Clock, emit: Emit) -> Surveyed:
    """Whether reality still is what the state says. Reads only, and takes no lock."""
    configuration = load_spec(project)
    backend = open_state(project, clock)
    try:
        state = await read_state(backend) or unborn(configuration.project)
    finally:
        await backend.close()
    used = used_providers(configuration, state)
    async with open_providers(used, configuration, project, clock) as providers:
        survey = await refresh(configuration, state, providers, clock=clock, emit=emit, workspace=project.workspace)
        drift = find_drift(configuration, state, survey, capabilities_of(providers))
    sifted = sift(drift, ignored_drift(project), clock.now().date())
    return Surveyed(sifted.counts, configuration, state, sifted.silenced, sifted.expired)


def ignored_drift(project: Project) -> tuple[Ignored, ...]:
    """The entries of the project's `.driftignore`; none without that file."""
    try:
        content = (project.folder / FILE).read_bytes()
    except FileNotFoundError:
        return ()
    return read_ignored(content)


def capabilities_of(providers: Mapping[str, Provider]) -> Mapping[str, Capabilities]:
    return {name: provider.capabilities for name, provider in providers.items()}
