"""From an object that exists to a node that can be used: wait until it runs, then run its setup.

Called by the executor after a create, and to look after a node that an earlier run did not live to see up.
"""

from dataclasses import replace
from typing import TypeVar

from gpuplan.core.capabilities import Capabilities
from gpuplan.core.desired import OnFailure
from gpuplan.core.errors import Failure, NoCapacity, NotReady, ProviderError
from gpuplan.core.observed import GONE, Observed, Status
from gpuplan.core.plan import Operation
from gpuplan.core.ports import Want
from gpuplan.core.state import Ended, Noted, Outcome, Phase, Recorded
from gpuplan.engine.deletion import remove
from gpuplan.engine.patience import Patience
from gpuplan.engine.readiness import Steps
from gpuplan.engine.records import deposed, found, with_living, without
from gpuplan.engine.resolve import links_of
from gpuplan.engine.run import Run
from gpuplan.engine.setup import has_setup, set_up

E = TypeVar("E", bound=ProviderError)

_SETTLED = frozenset({Status.RUNNING, Status.STOPPED})
"""A new object that is stopped will not start by itself; nobody else has to wait for it."""
_UNUSABLE = frozenset({Status.FAILED, Status.STOPPED, *GONE})


async def bring_up(
    run: Run,
    operation: Operation,
    observed: Observed,
    want: Want,
    patience: Patience,
    *,
    began: float,
) -> Observed:
    """Wait until the recorded object is usable; that it is has yet to be written.

    Raises NotReady or a Refused when it did not become usable, OutcomeUnknown when that could not be seen. Whatever id
    the object has by then is in the state.
    """

    async def moved(seen: Observed) -> None:
        # The id that identifies the object now must outlive us before the next step is sent.
        await run.write(Noted(operation.address, found(run.existing(operation.address), seen, Phase.PENDING)))

    recorded = run.existing(operation.address)
    mark = run.mark(recorded.token, operation.address)
    steps = Steps(want, mark, links_of(want.attrs, run.record), moved)
    name = f"bring up {recorded.kind} {observed.remote_id}"
    seen: Observed | None = observed
    if not is_usable(observed, run.capabilities(recorded.provider)):
        async with run.resting(operation):
            seen = await run.watch(recorded.provider).settled(
                observed,
                _SETTLED,
                deadline=patience.deadline,
                purpose=name,
                began=began,
                steps=steps,
                progress=lambda text: run.progress(operation, text),
            )
    if seen is None:
        raise NotReady(Failure(recorded.provider, name, message="it is gone"))
    if seen.status in _UNUSABLE:
        raise seen.failure or NotReady(Failure(recorded.provider, name, message=seen.detail or f"it is {seen.status}"))
    if has_setup(want):
        # Its addresses are known now: its peers are told them, and whoever looks into a failed setup needs them.
        await moved(seen)
        await set_up(run, operation, want, seen, patience)
    return seen


def is_usable(observed: Observed, capabilities: Capabilities) -> bool:
    """Whether it runs already; where a provider need not be asked again, whether nothing says that it failed."""
    if observed.status is Status.RUNNING:
        return observed.healthy is not False
    return not capabilities.requires_readiness_poll and observed.status not in _UNUSABLE


async def give_up(run: Run, operation: Operation, error: E, *, intent: int | None, before: Recorded | None = None) -> E:
    """The object did not become usable: record that, and delete it unless it shall be kept.

    `before` is the record of the object it was to replace, which is there again once the failed one is deleted.
    Returns the error, with what became of the object.
    """
    tainted = replace(run.existing(operation.address), phase=Phase.TAINTED)
    closing = () if intent is None else (Ended(intent, Outcome.FAILED),)
    await run.write(Noted(operation.address, tainted))
    name = f"{tainted.kind} {tainted.remote_id}"
    settings = run.wanted(operation).settings
    if settings.on_failure is OnFailure.KEEP and not isinstance(error, NoCapacity):
        await run.write(*closing)
        return with_facts(error, f"{name} exists, is recorded as tainted, and is replaced by the next apply")
    try:
        await remove(
            run,
            operation,
            deposed(tainted),
            run.patience(tainted.provider, settings.timeouts.delete),
            links=links_of(tainted.attrs, run.record),
            leaves=lambda: _restored(run.existing(operation.address), before),
        )
    except ProviderError as trouble:
        await run.write(*closing)
        return with_facts(error, f"{name} exists and is recorded as tainted, since it could not be deleted: {trouble}")
    await run.write(*closing)
    return with_facts(error, f"{name} was deleted again")


def _restored(failed: Recorded, before: Recorded | None) -> Recorded | None:
    if before is None:
        return without(failed, failed.provider, failed.remote_id)
    return with_living(before, failed)


def with_facts(error: E, *facts: str) -> E:
    """The same error, saying more."""
    told = type(error)(replace(error.failure, facts=(*error.failure.facts, *facts)))
    told.__cause__ = error.__cause__
    return told
