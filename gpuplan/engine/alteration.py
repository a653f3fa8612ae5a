"""Change an object that stays: update, stop, start, extend.

Called by the executor. An effect whose answer was lost leaves its intent open and is planned again by the next run.
"""

from collections.abc import Awaitable, Callable, Set
from dataclasses import replace
from datetime import timedelta

from gpuplan.core.capabilities import Mutability
from gpuplan.core.errors import Failure, NotReady, Refused, Retry, Unsupported
from gpuplan.core.observed import GONE, Observed, Status
from gpuplan.core.plan import Action, Operation
from gpuplan.core.ports import CanExtend, CanStop, CanUpdate, Want
from gpuplan.core.state import Ended, Noted, Outcome, Phase, Recorded
from gpuplan.core.values import Attrs
from gpuplan.engine.patience import Patience
from gpuplan.engine.provision import give_up
from gpuplan.engine.records import changed, found, resized
from gpuplan.engine.resolve import closest, links_of, want_of
from gpuplan.engine.run import Run
from gpuplan.engine.setup import has_setup, set_up
from gpuplan.plan.cost import changes_size
from gpuplan.plan.ignore import keep_ignored, live_attrs

_STOPPED = frozenset({"stopped"})


async def update(run: Run, operation: Operation) -> str:
    """Bring the attributes that differ in line with the spec."""
    recorded = run.existing(operation.address)
    names = _differing(run, operation)
    sent = names - _kept_here(run, recorded)
    patience = run.patience(recorded.provider, run.wanted(operation).settings.timeouts.update)
    desired = keep_ignored(
        run.wanted(operation), recorded.provider, await _present(run, operation, recorded, sent, patience)
    )
    _, attrs = closest(desired, recorded, run.scope, run.key)

    chosen = run.change(operation).chosen

    def after(now: Recorded) -> Recorded:
        altered = changed(now, attrs, names, key=run.key)
        if not changes_size(run.change(operation).reasons):
            return altered
        return resized(altered, None if chosen is None else chosen.offer)

    if not sent:
        run.conclude(Noted(operation.address, after(recorded)))
        return recorded.remote_id
    provider = run.providers[recorded.provider]
    if not isinstance(provider, CanUpdate):
        raise Unsupported(Failure(recorded.provider, f"change {recorded.kind} {recorded.remote_id}"))
    updating = provider
    want = replace(want_of(desired, attrs, token=recorded.token or recorded.remote_id), update=sent)
    links = links_of(want.attrs, run.record)
    ends = frozenset({Status.RUNNING, Status.STOPPED})
    empties = _empties(run, recorded, sent)
    seen = await _effect(
        run,
        operation,
        after,
        patience,
        ends,
        lambda: updating.update(want, recorded.remote_id, links),
        empties=empties,
    )
    if empties:
        await _fit_again(run, operation, want, seen, patience)
    return recorded.remote_id


async def _present(run: Run, operation: Operation, recorded: Recorded, sent: Set[str], patience: Patience) -> Attrs:
    """The attributes as they are. Of a mapping that is sent whole, keys may be ignored that only the provider knows."""
    ignored = run.wanted(operation).settings.lifecycle.ignore_changes
    if not any(path.partition(".")[0] in sent and "." in path for path in ignored):
        return recorded.attrs
    seen = await patience.answer(
        run.providers[recorded.provider].get(recorded.kind, recorded.remote_id),
        provider=recorded.provider,
        doing=f"look at {recorded.kind} {recorded.remote_id}",
    )
    return recorded.attrs if seen is None else live_attrs(recorded.attrs, seen.attrs)


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
    empties = operation.action is Action.START and run.capabilities(recorded.provider).restart_empties
    seen = await _effect(
        run,
        operation,
        after,
        patience,
        frozenset({target}),
        lambda: send(recorded.kind, recorded.remote_id),
        empties=empties,
    )
    if empties:
        want = want_of(desired, attrs, token=recorded.token or recorded.remote_id)
        await _fit_again(run, operation, want, seen, patience)
    return recorded.remote_id


async def _effect(
    run: Run,
    operation: Operation,
    after: Callable[[Recorded], Recorded],
    patience: Patience,
    ends: frozenset[Status],
    send: Callable[[], Awaitable[Observed]],
    *,
    empties: bool = False,
) -> Observed:
    """Announce it, send it, record it, and wait for the object to be in one of `ends`: how it is then."""
    address = operation.address
    recorded = run.existing(address)
    if empties and recorded.attrs.get("setup"):
        # Whoever finds it after a crash has to set it up again.
        await run.write(Noted(address, replace(recorded, phase=Phase.PENDING)))
    if empties:
        await run.channels.emptied(recorded)
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
        restored = (Noted(address, replace(run.existing(address), phase=recorded.phase)),) if empties else ()
        await run.write(*restored, Ended(intent.seq, Outcome.NEVER))
        raise
    altered = found(after(run.existing(address)), observed, run.existing(address).phase)
    await run.write(Noted(address, altered), Ended(intent.seq, Outcome.DONE))
    if ends and observed.status not in ends:
        return await _until(run, operation, observed, ends, patience)
    return observed


async def _fit_again(run: Run, operation: Operation, want: Want, seen: Observed, patience: Patience) -> None:
    """Set a node up whose disk was emptied: it is as a new one."""
    if seen.status is not Status.RUNNING or not has_setup(want):
        return
    try:
        await set_up(run, operation, want, seen, patience)
    except (NotReady, Refused) as error:
        raise await give_up(run, operation, error, intent=None) from error
    run.conclude(Noted(operation.address, found(run.existing(operation.address), seen, Phase.READY)))


def _empties(run: Run, recorded: Recorded, names: Set[str]) -> bool:
    """Whether changing these attributes leaves nothing of the node's disk."""
    can = run.capabilities(recorded.provider)
    known = can.kinds.get(recorded.kind)
    return (
        can.restart_empties
        and known is not None
        and any(known.attributes.get(name) is Mutability.RESTARTS for name in names)
    )


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
) -> Observed:
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
    run.conclude(Noted(operation.address, found(run.existing(operation.address), seen, recorded.phase)))
    return seen


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
