"""Carry a plan out: every operation as soon as what it needs is done, and nothing done is forgotten.

Called by `workflow` under the state lock. What each kind of operation does is in `operations`.
"""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Final

from gpuplan.core.address import Address
from gpuplan.core.desired import Output
from gpuplan.core.diagnostics import Sink
from gpuplan.core.encoding import encode_value
from gpuplan.core.errors import GpuplanError, InternalError, SpecError, StateError
from gpuplan.core.events import (
    Interrupted,
    OperationFailed,
    OperationFinished,
    OperationSkipped,
    OperationStarted,
    RunFinished,
    RunStarted,
)
from gpuplan.core.plan import Action, Mode, Operation, Plan
from gpuplan.core.ports import Channels, Clock, Emit, Ledger, Provider
from gpuplan.core.seal import seal_attrs
from gpuplan.core.state import Buried, Entry, Noted, OutputsSet, Renamed, State
from gpuplan.core.values import JsonValue, has_unknown
from gpuplan.engine.operations import perform
from gpuplan.engine.outcome import Failed, Limits, RunOutcome, Skipped, Stop
from gpuplan.engine.records import without
from gpuplan.engine.run import Run
from gpuplan.engine.schedule import Schedule
from gpuplan.engine.slots import Slots
from gpuplan.plan.outputs import evaluate_outputs

__all__ = ["Limits", "RunOutcome", "Stop", "execute"]

_ALTERS: Final = frozenset({Action.UPDATE, Action.STOP, Action.START, Action.EXTEND})


async def execute(
    plan: Plan,
    ledger: Ledger,
    providers: Mapping[str, Provider],
    *,
    clock: Clock,
    emit: Emit,
    limits: Limits,
    stop: Stop,
    channels: Channels,
    outputs: Mapping[str, Output] | None = None,
) -> RunOutcome:
    """Do what the plan says, and tell what came of it. `outputs` are the spec's; None: there are none to compute.

    What goes wrong with one operation is part of the outcome. Raises StateError when the state cannot be written any
    more: then nothing else was started.
    """
    return await _Execution(plan, ledger, providers, clock, emit, limits, stop, channels).run(outputs)


class _Execution:
    """One run: what it waits for, and what has come of it so far."""

    def __init__(
        self,
        plan: Plan,
        ledger: Ledger,
        providers: Mapping[str, Provider],
        clock: Clock,
        emit: Emit,
        limits: Limits,
        stop: Stop,
        channels: Channels,
    ) -> None:
        self._plan = plan
        self._ledger = ledger
        self._clock = clock
        self._emit = emit
        self._limits = limits
        self._stop = stop
        self._providers = providers
        self._schedule = Schedule(plan.operations)
        self._wake = asyncio.Event()
        self._slots = Slots(limits.parallelism, self._limit_of, self._start_ready)
        self._run = Run(
            plan, ledger, providers, clock=clock, emit=emit, stop=stop, slots=self._slots, channels=channels
        )
        self._tasks: dict[asyncio.Task[None], Operation] = {}
        self._began = clock.monotonic()
        self._done: dict[str, Operation] = {}
        self._failed: list[Failed] = []
        self._skipped: list[Skipped] = []
        self._left: list[Operation] = []
        self._end: BaseException | None = None
        """What forbids to go on at all."""
        self._interrupted = False
        self._late = False

    async def run(self, outputs: Mapping[str, Output] | None) -> RunOutcome:
        real = sum(operation.action is not Action.NO_OP for operation in self._plan.operations)
        self._emit(RunStarted(real, self._limits.parallelism))
        self._stop.changed = self._wake.set
        try:
            await self._run.write(*noted_beforehand(self._plan, self._ledger.state))
            await self._work()
        finally:
            await self._leave()
            self._stop.changed = lambda: None
        if self._end is not None:
            raise self._end
        await self._ledger.settle()
        outcome = self._outcome(await self._set_outputs(outputs))
        self._emit(
            RunFinished(
                outcome.added,
                outcome.changed,
                outcome.destroyed,
                len(outcome.failed),
                len(outcome.skipped),
                outcome.seconds,
            )
        )
        return outcome

    async def _work(self) -> None:
        """Until everything that may be done has been done: whoever frees a place starts what is next."""
        self._start_ready()
        while self._tasks and self._end is None and not self._stop.immediate:
            await self._wake.wait()
            self._wake.clear()
            if self._stop.requested and not self._interrupted:
                self._interrupted = True
                self._emit(Interrupted(sum(one.id not in self._done for one in self._tasks.values())))

    def _start_ready(self) -> None:
        while self._may_start() and (operation := self._schedule.next(self._slots.has_room)) is not None:
            self._slots.take(operation.provider)
            task = asyncio.create_task(self._carry_out(operation))
            self._tasks[task] = operation
            task.add_done_callback(self._ended)

    def _may_start(self) -> bool:
        deadline = self._limits.deadline_seconds
        if deadline is not None and self._clock.monotonic() - self._began >= deadline:
            self._late = True
        return not (self._stop.requested or self._late or self._end is not None)

    async def _carry_out(self, operation: Operation) -> None:
        began = self._clock.monotonic()
        action, address = operation.action, operation.address
        self._emit(OperationStarted(operation.id, action, address, operation.provider))
        try:
            remote_id = await perform(self._run, operation)
        except StateError:
            raise
        except GpuplanError as error:
            self._fail(operation, error, self._clock.monotonic() - began)
        except Exception as exc:  # a mistake in one adapter or in one operation must not take the others along
            mistake = InternalError(f"`{operation.id}` ended in a way that gpuplan does not know: {exc!r}")
            mistake.__cause__ = exc
            self._fail(operation, mistake, self._clock.monotonic() - began)
        else:
            self._done[operation.id] = operation
            self._schedule.finished(operation)
            seconds = self._clock.monotonic() - began
            self._emit(OperationFinished(operation.id, action, address, remote_id, seconds))
        self._slots.give_back(operation.provider)
        # What depends on it has begun and shares the append. If it cannot be recorded, the run is over.
        await self._ledger.settle()

    def _fail(self, operation: Operation, error: GpuplanError, seconds: float) -> None:
        action, address = operation.action, operation.address
        self._failed.append(Failed(operation, error))
        self._emit(OperationFailed(operation.id, action, address, error.diagnostics[0].id, str(error), seconds))
        for dropped, because in self._schedule.failed(operation):
            self._skipped.append(Skipped(dropped, because))
            self._emit(OperationSkipped(dropped.id, dropped.action, dropped.address, because))

    def _ended(self, task: "asyncio.Task[None]") -> None:
        operation = self._tasks.pop(task)
        if task.cancelled():
            if operation.id not in self._done:
                self._left.append(operation)
        elif (end := task.exception()) is not None:
            self._end = self._end or end
        if not self._tasks or self._end is not None:
            self._wake.set()

    async def _leave(self) -> None:
        """Take nothing along: whatever still runs is cancelled, its intents stay open."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._run.close()

    def _limit_of(self, provider: str) -> int:
        known = self._providers.get(provider)
        limit = self._limits.parallelism if known is None else known.capabilities.max_concurrency
        return max(1, min(limit, self._limits.per_provider.get(provider, limit)))

    async def _set_outputs(self, outputs: Mapping[str, Output] | None) -> tuple[GpuplanError, ...]:
        """Record the outputs that are known now; of the others the old value stays."""
        if self._plan.mode is Mode.REFRESH_ONLY or (self._plan.mode is Mode.DESTROY and self._plan.partial):
            return ()
        sink = Sink()
        values = self._plan.outputs
        if outputs is not None and self._plan.mode is Mode.NORMAL:
            values = evaluate_outputs(outputs, self._run.scope, sink)
        before = self._ledger.state.outputs
        after: dict[str, JsonValue] = {name: before[name] for name in values if name in before}
        sealed = seal_attrs(values, key=self._run.key, address=Address("outputs", "all"))
        after |= {name: encode_value(value) for name, value in sealed.items() if not has_unknown(value)}
        if after != before:
            await self._ledger.write(OutputsSet(after))
        return (SpecError(diagnostics=sink.errors),) if sink.errors else ()

    def _outcome(self, output_errors: tuple[GpuplanError, ...]) -> RunOutcome:
        actions = [(operation.action, operation.address) for operation in self._done.values()]
        created = {address for action, address in actions if action is Action.CREATE}
        altered = {address for action, address in actions if action in _ALTERS}
        return RunOutcome(
            done=tuple(self._done.values()),
            failed=tuple(self._failed),
            skipped=tuple(self._skipped),
            unstarted=tuple(self._schedule.rest()),
            left=tuple(self._left),
            open=tuple(sorted(self._run.begun & self._ledger.state.intents.keys())),
            added=len(created),
            changed=len(altered - created),
            destroyed=sum(action is Action.DELETE for action, _ in actions),
            interrupted=self._stop.requested,
            deadline_passed=self._late,
            seconds=self._clock.monotonic() - self._began,
            output_errors=output_errors,
            failed_places=tuple(self._run.failed_places),
        )


def noted_beforehand(plan: Plan, state: State) -> Iterator[Entry]:
    """What the plan changes in the state alone: new names, what the refresh saw, what is forgotten."""
    origins = {change.moved_from: address for address, change in plan.changes.items() if change.moved_from is not None}
    yield from _renames(origins)
    yield from (Buried(address, None) for address in plan.lifted)
    for address, change in plan.changes.items():
        record = change.refreshed or change.prior
        if change.action is Action.FORGET and plan.mode is Mode.REFRESH_ONLY and record is not None:
            yield Noted(address, without(record, record.provider, record.remote_id))
        elif change.refreshed is not None:
            yield Noted(address, change.refreshed)
        elif origins and record is not None and record != state.instances.get(address):
            # The names of what it depends on have moved.
            yield Noted(address, record)


def _renames(origins: Mapping[Address, Address]) -> Iterator[Entry]:
    """A chain of moves from its end, so that none lands on a name that is still taken."""
    pending = dict(origins)
    while pending:
        source, target = pending.popitem()
        chain = [(source, target)]
        while target in pending:
            source, target = target, pending.pop(target)
            chain.append((source, target))
        yield from (Renamed(source, target) for source, target in reversed(chain))
