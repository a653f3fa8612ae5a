"""Change an object that stays: update, stop, start, extend.

Called by the executor. An effect whose answer was lost leaves its intent open and is planned again by the next run.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

from gpuplan.core.capabilities import Mutability
from gpuplan.core.errors import Failure, NotReady, Refused, Retry, Unsupported
from gpuplan.core.observed import GONE, Observed, Status
from gpuplan.core.plan import Action, Operation
from gpuplan.core.ports import CanExtend, CanStop, CanUpdate
from gpuplan.core.state import Ended, Noted, Outcome, Recorded
from gpuplan.engine.patience import Patience
from gpuplan.engine.records import changed, found
from gpuplan.engine.resolve import closest, links_of, want_of
from gpuplan.engine.run import Run

_STOPPED = frozenset({"stopped"})


async def update(run: Run, operation: Operation) -> str:
    """Bring the attributes that differ in line with the spec."""
    recorded = run.existing(operation.address)
    desired = run.wanted(operation)
    _, attrs = closest(desired, recorded, run.scope, run.key)
    names = _differing(run, operation)
    sent = names - _kept_here(run, recorded)

    def after(now: Recorded) -> Recorded:
        return changed(now, attrs, names, key=run.key)

    if not sent:
        await run.write(Noted(operation.address, after(recorded)))
        return recorded.remote_id
    provider = run.providers[recorded.provider]
    if not isinstance(provider, CanUpdate):
        raise Unsupported(Failure(recorded.provider, f"change {recorded.kind} {recorded.remote_id}"))
    updating = provider
    want = replace(want_of(desired, attrs, token=recorded.token or recorded.remote_id), update=sent)
    links = links_of(want.attrs, run.record)
    patience = run.patience(recorded.provider, desired.settings.timeouts.update)
    ends = frozenset({Status.RUNNING, Status.STOPPED})
    await _effect(run, operation, after, patience, ends, lambda: updating.update(want, recorded.remote_id, links))
    return recorded.remote_id


async def stop(run: Run, operation: Operation) -> str:
    return await _power(run, operation, Status.STOPPED)


async def start(run: Run, operation: Operation) -> str:
    return await _power(run, operation, Status.RUNNING)


async def extend(run: Run, operation: Operation) -> str:
    """Buy more time: another term of the lease, but never beyond the end that the spec sets."""
    recorded = run.existing(operation.address)
    provider = run.providers[recorded.provider]
    lease = run.capabilities(recorded.provider).lease
    if not isinstance(provider, CanExtend) or lease is None:
        raise Unsupported(Failure(recorded.provider, f"extend the lease of {recorded.remote_id}"))
    change = run.change(operation)
    ends_at = change.observed.expires_at if change.observed is not None else None
    until = max(run.clock.now(), ends_at or run.clock.now()) + timedelta(seconds=lease.default_seconds)
    ttl = run.wanted(operation).settings.ttl_seconds
    if ttl is not None:
        until = min(until, recorded.created_at + timedelta(seconds=ttl))
    extending = provider
    patience = run.patience(recorded.provider, None)
    await _effect(
        run,
        operation,
        lambda now: now,
        patience,
        frozenset(),
        lambda: extending.extend(recorded.kind, recorded.remote_id, until),
    )
    return recorded.remote_id


async def _power(run: Run, operation: Operation, target: Status) -> str:
    """Leave it running or stopped, and record what the spec says about that."""
    recorded = run.existing(operation.address)
    provider = run.providers[recorded.provider]
    if not isinstance(provider, CanStop):
        raise Unsupported(Failure(recorded.provider, f"{operation.action} {recorded.kind} {recorded.remote_id}"))
    desired = run.wanted(operation)
    _, attrs = closest(desired, recorded, run.scope, run.key)

    def after(now: Recorded) -> Recorded:
        return changed(now, attrs, _STOPPED, key=run.key)

    patience = run.patience(recorded.provider, desired.settings.timeouts.update)
    send = provider.stop if operation.action is Action.STOP else provider.start
    await _effect(run, operation, after, patience, frozenset({target}), lambda: send(recorded.kind, recorded.remote_id))
    return recorded.remote_id


async def _effect(
    run: Run,
    operation: Operation,
    after: Callable[[Recorded], Recorded],
    patience: Patience,
    ends: frozenset[Status],
    send: Callable[[], Awaitable[Observed]],
) -> None:
    """Announce it, send it, record it, and wait for the object to be in one of `ends`."""
    address = operation.address
    recorded = run.existing(address)
    intent = await run.begin(
        operation,
        kind=recorded.kind,
        provider=recorded.provider,
        account=recorded.account,
        remote_id=recorded.remote_id,
    )
    doing = f"{operation.action} {recorded.kind} {recorded.remote_id}"
    try:
        observed = await _sent(send, patience, provider=recorded.provider, doing=doing)
    except Refused:
        await run.write(Ended(intent.seq, Outcome.NEVER))
        raise
    altered = found(after(run.existing(address)), observed, recorded.phase)
    await run.write(Noted(address, altered), Ended(intent.seq, Outcome.DONE))
    if ends and observed.status not in ends:
        await _until(run, operation, observed, ends, patience)


async def _sent(send: Callable[[], Awaitable[Observed]], patience: Patience, *, provider: str, doing: str) -> Observed:
    while True:
        try:
            return await patience.answer(send(), provider=provider, doing=doing)
        except Refused as error:
            if error.retry is Retry.NEVER:
                raise
            await patience.pause(error)


async def _until(
    run: Run, operation: Operation, observed: Observed, ends: frozenset[Status], patience: Patience
) -> None:
    recorded = run.existing(operation.address)
    purpose = f"{operation.action} {recorded.kind} {observed.remote_id}"
    async with run.resting(operation):
        seen = await run.watch(recorded.provider).settled(
            observed,
            ends,
            deadline=patience.deadline,
            purpose=purpose,
            progress=lambda text: run.progress(operation, text),
        )
    if seen is None or seen.status is Status.FAILED or seen.status in GONE:
        what = "it is gone" if seen is None else seen.detail or f"it is {seen.status}"
        raise NotReady(Failure(recorded.provider, purpose, message=what))
    await run.write(Noted(operation.address, found(run.existing(operation.address), seen, recorded.phase)))


def _differing(run: Run, operation: Operation) -> frozenset[str]:
    """The attributes that the change is about."""
    paths = (reason.path for reason in run.change(operation).reasons if reason.path)
    return frozenset(path.partition(".")[0].partition("[")[0] for path in paths) - _STOPPED


def _kept_here(run: Run, recorded: Recorded) -> frozenset[str]:
    """Attributes of which nothing is sent."""
    known = run.capabilities(recorded.provider).kinds.get(recorded.kind)
    if known is None:
        return frozenset()
    return frozenset(name for name, how in known.attributes.items() if how is Mutability.LOCAL)
