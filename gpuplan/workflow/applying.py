"""Carry a plan out, under the lock from the first look to the last record.

Called by `apply`, `destroy` and `import`. Asking the person is the caller's: `approve` is called with the plan while
the lock is held, so that nobody else can move what was shown.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from gpuplan.core.address import Address
from gpuplan.core.desired import Configuration, Import
from gpuplan.core.plan import Action, Plan, PlanOptions
from gpuplan.core.ports import Clock, Emit, Provider
from gpuplan.core.state import State
from gpuplan.engine.executor import execute
from gpuplan.engine.outcome import Limits, RunOutcome, Stop
from gpuplan.plan.checks import check_limits
from gpuplan.plan.document import check_fresh
from gpuplan.state.session import Session
from gpuplan.workflow.accounts import open_providers, used_providers
from gpuplan.workflow.channels import open_channels
from gpuplan.workflow.ledger import hold_state, open_state
from gpuplan.workflow.market_memory import MarketMemory
from gpuplan.workflow.planning import Planned, make, settle
from gpuplan.workflow.project import Project, load_spec, positions
from gpuplan.workflow.saved import read_saved

Approve = Callable[[Planned], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Run:
    """How to carry out: who is told, what bounds it, what stops it."""

    clock: Clock
    emit: Emit
    approve: Approve
    limits: Limits
    stop: Stop
    operation: str = "apply"
    """The command, for whoever finds the lock."""
    patience_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of it, and the state afterwards; `outcome` None: the answer was no."""

    planned: Planned
    outcome: RunOutcome | None
    state: State


async def apply_project(
    project: Project, options: PlanOptions, run: Run, configuration: Configuration | None = None
) -> Applied:
    """Plan, ask, and do it. `configuration` is the spec where it was read already."""
    configuration = load_spec(project) if configuration is None else configuration
    options = replace(options, workspace=project.workspace)

    async def plan(session: Session, providers: Mapping[str, Provider]) -> Plan:
        return await _make(project, configuration, session, providers, options, run)

    return await _carry_out(project, configuration, run, plan)


async def apply_saved(project: Project, text: str, limits: PlanOptions, run: Run) -> Applied:
    """Do what a saved plan says. Of `limits`, only what forbids too much counts.

    Raises PlanStale when the state or the spec has moved on since, PlanError when it goes beyond the limits.
    """
    project, configuration, saved = read_saved(project, text)
    with positions(configuration):
        check_limits(saved, configuration, limits)

    async def plan(session: Session, providers: Mapping[str, Provider]) -> Plan:
        check_fresh(saved, session.state)
        # A plan made before the first apply learns here which state it is for.
        return replace(saved, lineage=session.state.lineage)

    return await _carry_out(project, configuration, run, plan)


async def import_object(project: Project, address: Address, remote_id: str, run: Run) -> Applied:
    """Take one existing object into the state as it is: nothing else of the spec is touched, and nothing is sent.

    Raises PlanError when the spec does not have the address, or the provider not the object.
    """
    configuration = replace(load_spec(project), imports=(Import(address, remote_id, ()),))
    options = PlanOptions(targets=(address,), workspace=project.workspace)

    async def plan(session: Session, providers: Mapping[str, Provider]) -> Plan:
        return _only_adopting(await _make(project, configuration, session, providers, options, run), address)

    return await _carry_out(project, configuration, run, plan)


async def extend_leases(project: Project, run: Run) -> Applied:
    """Buy time for what would end too soon, and touch nothing else."""
    configuration = load_spec(project)
    options = PlanOptions(workspace=project.workspace)

    async def plan(session: Session, providers: Mapping[str, Provider]) -> Plan:
        whole = await _make(project, configuration, session, providers, options, run)
        due = tuple(replace(o, needs=()) for o in whole.operations if o.action is Action.EXTEND)
        changes = {operation.address: whole.changes[operation.address] for operation in due}
        return replace(whole, operations=due, changes=changes, partial=True)

    return await _carry_out(project, configuration, run, plan)


async def _make(
    project: Project,
    configuration: Configuration,
    session: Session,
    providers: Mapping[str, Provider],
    options: PlanOptions,
    run: Run,
) -> Plan:
    """A plan that is carried out at once: it is made of fresh offers alone."""
    memory = MarketMemory(project, run.clock, reuse=False)
    return await make(configuration, session.state, providers, options, clock=run.clock, emit=run.emit, memory=memory)


def _only_adopting(plan: Plan, address: Address) -> Plan:
    """What is needed beside it, or differs from the spec, is for the next apply."""
    operations = (o for o in plan.operations if o.action is Action.ADOPT and o.address == address)
    changes = {address: plan.changes[address]} if address in plan.changes else {}
    return replace(plan, operations=tuple(replace(o, needs=()) for o in operations), changes=changes, partial=False)


async def _carry_out(
    project: Project,
    configuration: Configuration,
    run: Run,
    plan: Callable[[Session, Mapping[str, Provider]], Awaitable[Plan]],
) -> Applied:
    backend = open_state(project, run.clock)
    try:
        async with hold_state(
            backend,
            run.clock,
            operation=run.operation,
            create_project=configuration.project,
            patience_seconds=run.patience_seconds,
        ) as session:
            used = used_providers(configuration, session.state)
            async with open_providers(used, configuration, project, run.clock) as providers:
                await settle(session, providers, clock=run.clock, emit=run.emit)
                planned = Planned(await plan(session, providers), configuration, session.state)
                outcome = await _execute(planned, session, providers, project, run)
                if outcome is not None:
                    memory = MarketMemory(project, run.clock)
                    memory.keep_failed(configuration, outcome.failed_places)
                    memory.forget_offers()
            return Applied(planned, outcome, await session.commit())
    finally:
        await backend.close()


async def _execute(
    planned: Planned, session: Session, providers: Mapping[str, Provider], project: Project, run: Run
) -> RunOutcome | None:
    if not await run.approve(planned):
        return None
    async with open_channels(providers, project, planned.configuration) as channels:
        await channels.prepare(planned.plan)
        return await execute(
            planned.plan,
            session,
            providers,
            clock=run.clock,
            emit=run.emit,
            limits=replace(run.limits, per_provider=_concurrency(planned.configuration)),
            stop=run.stop,
            channels=channels,
            outputs=planned.configuration.outputs,
        )


def _concurrency(configuration: Configuration) -> Mapping[str, int]:
    return {
        name: block.max_concurrency
        for name, block in configuration.providers.items()
        if block.max_concurrency is not None
    }
