"""What each kind of operation does. Called by `executor`, which decides when."""

from typing import assert_never

from gpuplan.core.errors import InternalError, NotReady, Refused
from gpuplan.core.observed import Observed, Status
from gpuplan.core.plan import Action, Operation
from gpuplan.core.state import Noted, Phase
from gpuplan.engine.alteration import extend, start, stop, update
from gpuplan.engine.creation import create
from gpuplan.engine.deletion import delete
from gpuplan.engine.provision import bring_up, give_up
from gpuplan.engine.records import draft, found, without
from gpuplan.engine.resolve import closest, want_of
from gpuplan.engine.run import Run
from gpuplan.plan.compare import current_attrs


async def perform(run: Run, operation: Operation) -> str:
    """Do it; the id of the object it acted on. What came of it is on its way to the disk then, behind all before it.

    Raises ProviderError, or SpecError for a value that nobody knows.
    """
    match operation.action:
        case Action.CREATE:
            return await create(run, operation)
        case Action.DELETE:
            return await delete(run, operation)
        case Action.UPDATE:
            return await update(run, operation)
        case Action.STOP:
            return await stop(run, operation)
        case Action.START:
            return await start(run, operation)
        case Action.EXTEND:
            return await extend(run, operation)
        case Action.READ:
            return await _read(run, operation)
        case Action.ADOPT:
            return await _adopt(run, operation)
        case Action.FORGET:
            return _forget(run, operation)
        case Action.NO_OP | Action.REPLACE:
            raise InternalError(f"`{operation.id}` is nothing to carry out")
        case _:
            assert_never(operation.action)


async def _read(run: Run, operation: Operation) -> str:
    """Look after an object that an earlier run created and did not see ready."""
    recorded = run.existing(operation.address)
    desired = run.wanted(operation)
    _, attrs = closest(desired, recorded, run.scope, run.key)
    want = want_of(desired, attrs, token=recorded.token or recorded.remote_id)
    seen = run.change(operation).observed or Observed(recorded.kind, recorded.remote_id, Status.PENDING)
    age = (run.clock.now() - recorded.created_at).total_seconds()
    patience = run.patience(recorded.provider, desired.settings.timeouts.create)
    try:
        seen = await bring_up(run, operation, seen, want, patience, began=run.clock.monotonic() - age)
    except (NotReady, Refused) as error:
        raise await give_up(run, operation, error, intent=None) from error
    run.conclude(Noted(operation.address, found(run.existing(operation.address), seen, Phase.READY)))
    return seen.remote_id


async def _adopt(run: Run, operation: Operation) -> str:
    """Take over an object that somebody else made. The record says what it is like now; an update does the rest."""
    observed = run.change(operation).observed
    if observed is None:
        raise InternalError(f"the plan adopts an object as `{operation.address}` that nobody saw")
    desired = run.wanted(operation)
    candidate = next(place for place in desired.candidates if place.provider == operation.provider)
    attrs = run.scope.resolve(candidate.attrs)
    planned = draft(
        desired,
        candidate,
        # Keeps secret what the spec says is: a provider reports the values of an environment in clear.
        current_attrs(attrs, observed.attrs, run.key),
        account=await run.account(operation.provider, run.patience(operation.provider, None)),
        token="" if observed.mark is None else observed.mark.token,
        offer=None,
        now=run.clock.now(),
        key=run.key,
        kept=(),
    )
    phase = Phase.PENDING if observed.status in (Status.PENDING, Status.STARTING) else Phase.READY
    run.conclude(Noted(operation.address, found(planned, observed, phase)))
    return observed.remote_id


def _forget(run: Run, operation: Operation) -> str:
    """Drop the record; the object stays, or is gone already."""
    recorded = run.record(operation.address)
    run.conclude(Noted(operation.address, without(recorded, operation.provider, operation.remote_id)))
    return operation.remote_id
