"""Delete objects that no state has, and be sure that they are gone. Called by `orphans destroy`.

Nothing is journalled: what a crash leaves behind carries its mark still, and is found again.
"""

import asyncio
from collections.abc import Mapping, Sequence

from gpuplan.core.desired import Kind
from gpuplan.core.errors import NotReady, ProviderError
from gpuplan.core.ports import Clock, Provider
from gpuplan.core.state import Deposed
from gpuplan.engine.deletion import ask, seconds_before_asking_again
from gpuplan.engine.patience import Patience
from gpuplan.engine.readiness import Watch
from gpuplan.engine.together import together

_WAVES = (
    frozenset({Kind.JOB, Kind.SERVICE}),
    frozenset({Kind.NODE, Kind.GROUP}),
    frozenset({Kind.VOLUME, Kind.SSH_KEY, Kind.NETWORK}),
)
"""What others may be mounted on, or run on, goes after them: nothing else tells who needs whom."""


async def sweep(
    targets: Sequence[Deposed], providers: Mapping[str, Provider], *, clock: Clock
) -> list[ProviderError | None]:
    """Delete them all. In their order: None for what is certainly gone, else why it may still be there."""
    watches = {name: Watch(name, providers[name], clock) for name in {target.provider for target in targets}}
    bounds = {name: asyncio.Semaphore(watch.capabilities.max_concurrency) for name, watch in watches.items()}
    outcomes: dict[Deposed, ProviderError | None] = {}

    async def remove(target: Deposed) -> None:
        provider, watch = providers[target.provider], watches[target.provider]
        async with bounds[target.provider]:
            try:
                await _until_gone(target, provider, watch, clock)
            except ProviderError as error:
                outcomes[target] = error
            else:
                outcomes[target] = None

    try:
        for wave in _WAVES:
            await together(remove(target) for target in targets if target.kind in wave)
    finally:
        for watch in watches.values():
            await watch.close()
    return [outcomes[target] for target in targets]


async def _until_gone(target: Deposed, provider: Provider, watch: Watch, clock: Clock) -> None:
    patience = Patience(clock, seconds=watch.capabilities.ready_timeout_seconds)
    purpose = f"delete {target.kind} {target.remote_id}"
    while True:
        await ask(provider, target, patience, {})
        again = clock.monotonic() + seconds_before_asking_again(watch.capabilities)
        if await watch.is_gone_already(target.kind, target.remote_id):
            return
        try:
            await watch.gone(target.kind, target.remote_id, deadline=min(again, patience.deadline), purpose=purpose)
        except NotReady:
            if again >= patience.deadline:
                raise
        else:
            return
