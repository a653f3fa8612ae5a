"""Open the configured providers, and close them whatever happens. Called by everything in `workflow` that asks one."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gpuplan.core.desired import Configuration, ProviderBlock
from gpuplan.core.diagnostics import Diagnostic
from gpuplan.core.errors import GpuplanError
from gpuplan.core.nearest import did_you_mean
from gpuplan.core.ports import Clock, OpenContext, Provider
from gpuplan.core.secret import Redactor
from gpuplan.core.state import State
from gpuplan.providers.workloads import can_carry, carrying
from gpuplan.workflow.project import Project, positions, provider_types
from gpuplan.workflow.workload_ways import NodeWays


def used_providers(configuration: Configuration, state: State | None) -> set[str]:
    """Names of the blocks that this spec or this state has instances at."""
    used = {
        candidate.provider
        for candidates in {id(d.candidates): d.candidates for d in configuration.instances.values()}.values()
        for candidate in candidates
    }
    if state is not None:
        used.update(recorded.provider for recorded in state.instances.values())
        used.update(deposed.provider for recorded in state.instances.values() for deposed in recorded.deposed)
        used.update(intent.provider for intent in state.intents.values())
    return used


@asynccontextmanager
async def open_providers(
    names: Iterable[str], configuration: Configuration, project: Project, clock: Clock
) -> AsyncIterator[Mapping[str, Provider]]:
    """The named accounts; a name without a block is left out, and the planner says so.

    Errors of the block that uses them find their positions in the spec.
    """
    opened: dict[str, Provider] = {}
    try:
        with positions(configuration):
            for name in sorted(names):
                block = configuration.providers.get(name)
                if block is not None:
                    opened[name] = open_provider(block, project, clock, configuration.redactor)
            yield opened
    finally:
        for provider in opened.values():
            await provider.close()


def configured(configuration: Configuration, name: str) -> list[ProviderBlock]:
    """The account of that name; all of them for an empty one. Raises GpuplanError when there is none."""
    if not name:
        return list(configuration.providers.values())
    if name not in configuration.providers:
        known = configuration.providers
        hint = did_you_mean(name, known) or f"there are {', '.join(known)}"
        found = Diagnostic(id="no-such-account", summary=f"the spec has no provider `{name}`", hint=hint)
        raise GpuplanError(diagnostics=(found,))
    return [configuration.providers[name]]


@dataclass(frozen=True, slots=True)
class Accounts:
    """Configured accounts: those that could be opened, and why the others could not."""

    opened: Mapping[str, Provider]
    refused: Mapping[str, GpuplanError]


@asynccontextmanager
async def open_accounts(
    blocks: Iterable[ProviderBlock], configuration: Configuration, project: Project, clock: Clock
) -> AsyncIterator[Accounts]:
    """For commands that ask as many accounts as they can: one that cannot be opened keeps nobody from the others."""
    opened: dict[str, Provider] = {}
    refused: dict[str, GpuplanError] = {}
    try:
        with positions(configuration):
            for block in blocks:
                try:
                    opened[block.name] = open_provider(block, project, clock, configuration.redactor)
                except GpuplanError as exc:
                    refused[block.name] = exc
            yield Accounts(opened, refused)
    finally:
        for provider in opened.values():
            await provider.close()


def open_provider(block: ProviderBlock, project: Project, clock: Clock, redactor: Redactor) -> Provider:
    """One account. Its options were checked with the spec."""
    kind = provider_types(project)[block.type]
    context = OpenContext(
        block=block,
        clock=clock,
        environ=project.environ,
        redactor=redactor,
        emulator=project.emulator or None,
        folder=str(project.folder),
    )
    provider = kind.open(kind.options.model_validate(block.options), context)
    if not can_carry(provider.capabilities):
        return provider
    return carrying(block.name, provider, NodeWays(block.name, provider, project.environ, redactor))
