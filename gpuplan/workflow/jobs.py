"""The jobs of the state as they stand now: listed, waited for, cancelled. Called by `jobs`."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gpuplan.core.address import Address
from gpuplan.core.desired import Kind
from gpuplan.core.diagnostics import Diagnostic
from gpuplan.core.errors import GpuplanError
from gpuplan.core.observed import Observed
from gpuplan.core.ports import Clock, Provider
from gpuplan.core.state import Recorded
from gpuplan.engine.reads import in_time
from gpuplan.providers.workloads import Carrier
from gpuplan.state.edit import covered
from gpuplan.workflow.accounts import open_providers
from gpuplan.workflow.ledger import look_at_state, unborn
from gpuplan.workflow.project import Project, load_spec

SUCCEEDED = "succeeded"
_OVER = frozenset({SUCCEEDED, "failed", "timed out", "cancelled", "lost", "gone"})
_LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Job:
    """One rank of a job. `exit_code` None: it has not ended, or nobody heard how."""

    address: Address
    provider: str
    remote_id: str
    state: str
    exit_code: int | None

    @property
    def is_over(self) -> bool:
        return self.state in _OVER


async def look_at_jobs(project: Project, addresses: Sequence[Address], clock: Clock) -> list[Job]:
    """Those that the addresses name, else all. Raises GpuplanError for one that names none, ProviderError."""
    async with _recorded(project, addresses, clock) as found:
        return [_job(recorded, await _look(recorded, provider)) for recorded, provider in found]


async def wait_for_jobs(project: Project, addresses: Sequence[Address], clock: Clock) -> list[Job]:
    """As above, once all of them are over."""
    async with _recorded(project, addresses, clock) as found:
        jobs = []
        for recorded, provider in found:
            while not (job := _job(recorded, await _look(recorded, provider))).is_over:
                await clock.sleep(_LOOK_SECONDS)
            jobs.append(job)
        return jobs


async def cancel_jobs(project: Project, addresses: Sequence[Address], clock: Clock) -> list[Job]:
    """End those that still run; what is known of them stays, and no apply runs them again."""
    async with _recorded(project, addresses, clock) as found:
        jobs = []
        for recorded, provider in found:
            job = _job(recorded, await _look(recorded, provider))
            if not job.is_over and isinstance(provider, Carrier):
                await provider.cancel(recorded.remote_id)
                job = _job(recorded, await _look(recorded, provider))
            jobs.append(job)
        return jobs


@asynccontextmanager
async def _recorded(
    project: Project, addresses: Sequence[Address], clock: Clock
) -> AsyncIterator[list[tuple[Recorded, Provider]]]:
    configuration = load_spec(project)
    state = await look_at_state(project, clock) or unborn(configuration.project)
    named = {each for address in addresses for each in covered(state, address)} if addresses else state.instances.keys()
    jobs = sorted((each for each in named if state.instances[each].kind is Kind.JOB), key=lambda each: each.order)
    if addresses and not jobs:
        raise _refusal("not-a-job", f"`{addresses[0]}` is no job", commands=("gpuplan jobs list",))
    records = [state.instances[address] for address in jobs]
    async with open_providers({each.provider for each in records}, configuration, project, clock) as providers:
        missing = next((each.provider for each in records if each.provider not in providers), None)
        if missing is not None:
            raise _refusal("unknown-provider", f"the provider `{missing}` is not configured")
        yield [(recorded, providers[recorded.provider]) for recorded in records]


async def _look(recorded: Recorded, provider: Provider) -> Observed | None:
    look = provider.get(Kind.JOB, recorded.remote_id)
    return await in_time(look, provider=recorded.provider, doing=f"look at {recorded.address}")


def _job(recorded: Recorded, observed: Observed | None) -> Job:
    facts = {} if observed is None else observed.facts
    state, code = facts.get("state", "gone"), facts.get("exit_code")
    code = code if isinstance(code, int) else None
    return Job(recorded.address, recorded.provider, recorded.remote_id, str(state), code)


def _refusal(id: str, summary: str, *, commands: tuple[str, ...] = ()) -> GpuplanError:
    return GpuplanError(diagnostics=(Diagnostic(id=id, summary=summary, commands=commands),))
