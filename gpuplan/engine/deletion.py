"""Delete an object, and be sure that it is gone.

Called by the executor for deletes, and to clean up what a create left behind. `sweep` asks in the same way.
"""

from collections.abc import Callable

from gpuplan.core.capabilities import Capabilities
from gpuplan.core.errors import InternalError, NotFound, NotReady, ProviderError, Refused, Retry
from gpuplan.core.plan import Operation
from gpuplan.core.ports import Links, Provider
from gpuplan.core.state import Deposed, Ended, Noted, Outcome, Recorded
from gpuplan.engine.patience import Patience
from gpuplan.engine.records import objects, without
from gpuplan.engine.resolve import links_of
from gpuplan.engine.run import Run

_LOOKS_BEFORE_ASKING_AGAIN = 3
_SECONDS_BEFORE_ASKING_AGAIN = 10.0


async def delete(run: Run, operation: Operation) -> str:
    """Delete the object of an instance, or one of its deposed ones, and the record of it."""
    recorded = run.existing(operation.address)
    target = _target(recorded, operation)
    desired = run.change(operation).desired
    seconds = None if desired is None else desired.settings.timeouts.delete
    patience = run.patience(target.provider, seconds)
    await remove(
        run,
        operation,
        target,
        patience,
        links=links_of(recorded.attrs, run.record),
        leaves=lambda: without(run.record(operation.address), target.provider, target.remote_id),
    )
    return target.remote_id


async def remove(
    run: Run,
    operation: Operation,
    target: Deposed,
    patience: Patience,
    *,
    links: Links,
    leaves: Callable[[], Recorded | None],
) -> None:
    """Delete one object; `leaves` is asked for the record without it once it is gone."""
    intent = await run.begin(
        operation,
        kind=target.kind,
        provider=target.provider,
        account=target.account,
        remote_id=target.remote_id,
        action="delete",
    )
    try:
        await _until_gone(run, operation, target, patience, links)
    except (Refused, NotReady):
        # It is still recorded; the next plan deletes it again.
        await run.write(Ended(intent.seq, Outcome.FAILED))
        raise
    run.conclude(Noted(operation.address, leaves()), Ended(intent.seq, Outcome.DONE))


async def _until_gone(run: Run, operation: Operation, target: Deposed, patience: Patience, links: Links) -> None:
    watch = run.watch(target.provider)
    while True:
        await ask(run.providers[target.provider], target, patience, links)
        again = run.clock.monotonic() + seconds_before_asking_again(watch.capabilities)
        if await watch.is_gone_already(target.kind, target.remote_id):
            return
        try:
            async with run.resting(operation):
                await watch.gone(
                    target.kind,
                    target.remote_id,
                    deadline=min(again, patience.deadline),
                    purpose=f"delete {target.kind} {target.remote_id}",
                )
        except NotReady:
            if again >= patience.deadline:
                raise
        else:
            return


async def ask(provider: Provider, target: Deposed, patience: Patience, links: Links) -> None:
    """Send the delete until the provider takes it. Deleting twice is harmless: a lost answer is no reason to stop."""
    while True:
        try:
            await patience.answer(
                provider.delete(target.kind, target.remote_id, links),
                provider=target.provider,
                doing=f"delete {target.kind} {target.remote_id}",
            )
        except NotFound:
            return
        except ProviderError as error:
            if error.retry is Retry.NEVER:
                raise
            await patience.pause(error)
        else:
            return


def seconds_before_asking_again(capabilities: Capabilities) -> float:
    """How long an object may be seen after its deletion was accepted."""
    return max(_LOOKS_BEFORE_ASKING_AGAIN * capabilities.poll_interval_seconds, _SECONDS_BEFORE_ASKING_AGAIN)


def _target(recorded: Recorded, operation: Operation) -> Deposed:
    named = (operation.provider, operation.remote_id)
    for target in objects(recorded):
        if named == (target.provider, target.remote_id):
            return target
    raise InternalError(f"the plan deletes `{operation.remote_id}`, which `{operation.address}` does not have")
