"""Open the configured providers, and close them whatever happens. Called by everything in `workflow` that asks one."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

from gpuplan.core.desired import Configuration, ProviderBlock
from gpuplan.core.ports import Clock, OpenContext, Provider
from gpuplan.core.secret import Redactor
from gpuplan.core.state import State
from gpuplan.workflow.project import Project, positions, provider_types


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


def open_provider(block: ProviderBlock, project: Project, clock: Clock, redactor: Redactor) -> Provider:
    """One account. Its options were checked with the spec."""
    kind = provider_types(project)[block.type]
    context = OpenContext(
        block=block,
        clock=clock,
        environ=project.environ,
        redactor=redactor,
        emulator=project.environ.get("GPUPLAN_EMULATOR") or None,
    )
    return kind.open(kind.options.model_validate(block.options), context)
