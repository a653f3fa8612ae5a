"""Ask about one thing: what an instance wrote, what a provider type can do, whether an account works.

Called by `logs` and `providers`.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from gpuplan.core.address import Address
from gpuplan.core.capabilities import Capabilities
from gpuplan.core.desired import Configuration, Kind, ProviderBlock
from gpuplan.core.diagnostics import Diagnostic, Severity
from gpuplan.core.errors import GpuplanError
from gpuplan.core.nearest import did_you_mean
from gpuplan.core.ports import Account, CanLog, Clock, Provider
from gpuplan.core.state import Recorded, State
from gpuplan.engine.reads import in_time
from gpuplan.engine.together import together
from gpuplan.state.edit import covered
from gpuplan.workflow.accounts import open_accounts, open_providers
from gpuplan.workflow.ledger import look_at_state, unborn
from gpuplan.workflow.project import Project, load_spec, provider_types

_UNITS = frozenset({Kind.SERVICE, Kind.JOB})
"""They have logs wherever they run."""


async def log_lines(
    project: Project, address: Address, *, follow: bool, tail: int | None, clock: Clock
) -> AsyncIterator[str]:
    """What an instance wrote. Raises GpuplanError when the address names none or several, or there is no log."""
    configuration = load_spec(project)
    recorded = one_instance(await look_at_state(project, clock) or unborn(configuration.project), address)
    async with open_providers({recorded.provider}, configuration, project, clock) as providers:
        provider = providers.get(recorded.provider)
        has_logs = isinstance(provider, CanLog) and (recorded.kind in _UNITS or provider.capabilities.logs)
        if not has_logs or not isinstance(provider, CanLog):
            raise _refusal("no-logs", f"`{recorded.provider}` has no logs of its nodes")
        async for line in provider.logs(recorded.kind, recorded.remote_id, follow=follow, tail=tail):
            yield line


def one_instance(state: State, address: Address) -> Recorded:
    """The record an address names; a resource of one instance names that one."""
    found = covered(state, address)
    if len(found) > 1:
        raise _refusal(
            "several-instances",
            f"`{address}` names {len(found)} instances",
            hint="name one of them",
            commands=tuple(f"gpuplan logs '{each}'" for each in found[:3]),
        )
    return state.instances[found[0]]


def _refusal(id: str, summary: str, *, hint: str | None = None, commands: tuple[str, ...] = ()) -> GpuplanError:
    return GpuplanError(diagnostics=(Diagnostic(id=id, summary=summary, hint=hint, commands=commands),))


@dataclass(frozen=True, slots=True)
class Described:
    """What a provider type says of itself; `capabilities` None: it cannot be loaded, `problems` say why."""

    name: str
    title: str
    capabilities: Capabilities | None
    problems: tuple[Diagnostic, ...] = ()


def described_providers(project: Project) -> list[Described]:
    """Every installed type by name; what cannot be loaded is told beside the others."""
    found = []
    for name in sorted(provider_types(project)):
        try:
            found.append(described_provider(project, name))
        except GpuplanError as exc:
            problems = tuple(replace(problem, severity=Severity.WARNING) for problem in exc.diagnostics)
            found.append(Described(name, "", None, problems))
    return found


def described_provider(project: Project, name: str) -> Described:
    """One type, as it is without options. Raises GpuplanError for one that is unknown or cannot be loaded."""
    types = provider_types(project)
    if name not in types:
        raise _refusal("unknown-provider-type", f"there is no provider type `{name}`", hint=did_you_mean(name, types))
    kind = types[name]
    # Required options do not decide what a type can do; without any of them none need be written.
    return Described(name, kind.title, kind.capabilities(kind.options.model_construct()))


def described_accounts(project: Project) -> list[tuple[ProviderBlock, Described]]:
    """Every account of the spec, with what its type can do under the options that it has there."""
    configuration, types = load_spec(project), provider_types(project)
    found = []
    for block in configuration.providers.values():
        kind = types[block.type]
        able = kind.capabilities(kind.options.model_validate(block.options))
        found.append((block, Described(block.type, kind.title, able)))
    return found


@dataclass(frozen=True, slots=True)
class Checked:
    """A configured account that was asked whether it works; `problem` None: it does."""

    block: ProviderBlock
    seconds: float
    account: Account | None
    problem: GpuplanError | None


async def checked_accounts(project: Project, type: str, *, clock: Clock) -> tuple[Configuration, list[Checked]]:
    """The health of every account of the spec, or of those of one type. Raises GpuplanError for an unknown type."""
    configuration = load_spec(project)
    if type:
        described_provider(project, type)
    blocks = [block for block in configuration.providers.values() if type in ("", block.type)]
    async with open_accounts(blocks, configuration, project, clock) as accounts:

        async def check(block: ProviderBlock) -> Checked:
            if block.name in accounts.refused:
                return Checked(block, 0.0, None, accounts.refused[block.name])
            return await _checked(block, accounts.opened[block.name], clock)

        return configuration, await together(check(block) for block in blocks)


async def _checked(block: ProviderBlock, provider: Provider, clock: Clock) -> Checked:
    began = clock.monotonic()
    try:
        account = await in_time(provider.health(), provider=block.name, doing="look at the account")
    except GpuplanError as exc:
        return Checked(block, clock.monotonic() - began, None, exc)
    return Checked(block, clock.monotonic() - began, account, None)
