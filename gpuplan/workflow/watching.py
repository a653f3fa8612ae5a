"""Stay and look, again and again: tell what drifts and what comes back, keep leases alive, and, where that is asked
for, make it so.

Called by `watch`. The lock is held only while something is done.
"""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import NamedTuple

from gpuplan.core.errors import GpuplanError, SpecError
from gpuplan.core.events import DriftBegan, DriftEnded, Looked, RoundFailed
from gpuplan.core.plan import Action, Drift, DriftKind, PlanOptions
from gpuplan.workflow.applying import Run, apply_project, extend_leases
from gpuplan.workflow.driftignore import sift
from gpuplan.workflow.planning import Planned, ignored_drift, plan_project
from gpuplan.workflow.project import Project


class _Trouble(NamedTuple):
    """What makes a piece of drift the same one as in the round before."""

    kind: str
    subject: str
    provider: str


@dataclass(frozen=True, slots=True)
class Rounds:
    """How to watch."""

    every_seconds: float
    applies: bool
    """Whether what the spec asks for is made so in every round; otherwise only leases are extended."""
    options: PlanOptions
    most: int | None = None
    """How many rounds; None: until it is told to end."""


async def watch(project: Project, rounds: Rounds, run: Run, ended: asyncio.Event) -> None:
    """Look every so often until `ended`. What goes wrong in one round is told, and tried again in the next.

    Raises SpecError when the spec cannot be read in the first round: whoever has just started it can mend that.
    """
    watcher = _Watcher(project, rounds, run)
    done = 0
    while not ended.is_set():
        await watcher.round(is_first=done == 0)
        done += 1
        if done == rounds.most:
            return
        await _pause(run, rounds.every_seconds, ended)


async def _pause(run: Run, seconds: float, ended: asyncio.Event) -> None:
    waits = [asyncio.ensure_future(run.clock.sleep(seconds)), asyncio.ensure_future(ended.wait())]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
            with suppress(asyncio.CancelledError):
                await wait


class _Watcher:
    """What one round knows of the round before."""

    def __init__(self, project: Project, rounds: Rounds, run: Run) -> None:
        self._project = project
        self._rounds = rounds
        self._run = run
        self._drifted: Mapping[_Trouble, Drift] = {}
        self._failure = ""

    async def round(self, *, is_first: bool) -> None:
        try:
            planned = await self._look()
            self._failure = ""
            await self._act(planned)
        except SpecError as error:
            if is_first:
                raise
            self._fail(error)
        except GpuplanError as error:
            self._fail(error)

    async def _look(self) -> Planned:
        run = self._run
        planned = await plan_project(
            self._project,
            self._rounds.options,
            clock=run.clock,
            emit=run.emit,
            patience_seconds=run.patience_seconds,
        )
        counts = sift(planned.plan.drift, ignored_drift(self._project), run.clock.now().date()).counts
        self._tell(counts)
        pending = sum(change.action is not Action.NO_OP for change in planned.plan.changes.values())
        run.emit(Looked(len(planned.state.instances), len(counts), pending))
        return planned

    def _tell(self, counts: Iterable[Drift]) -> None:
        """What began and what ended since the round before."""
        now = {_Trouble(drift.kind, _subject(drift), drift.provider): drift for drift in counts}
        for trouble in self._drifted.keys() - now.keys():
            self._run.emit(DriftEnded(*trouble))
        for trouble, drift in now.items():
            if trouble not in self._drifted:
                self._run.emit(DriftBegan(*trouble, _text(drift)))
        self._drifted = now

    async def _act(self, planned: Planned) -> None:
        if self._rounds.applies and planned.has_changes:
            await apply_project(self._project, self._rounds.options, self._run)
        elif any(operation.action is Action.EXTEND for operation in planned.plan.operations):
            await extend_leases(self._project, replace(self._run, operation="watch"))

    def _fail(self, error: GpuplanError) -> None:
        """Tell it once, however long it lasts."""
        if str(error) != self._failure:
            self._failure = str(error)
            self._run.emit(RoundFailed(error.diagnostics[0].id, self._failure))


def _subject(drift: Drift) -> str:
    if drift.address is None or drift.kind is DriftKind.ORPHANED:
        return drift.remote_id or drift.provider
    return str(drift.address)


def _text(drift: Drift) -> str:
    changed = ", ".join(f"`{reason.path}`" for reason in drift.reasons)
    return drift.text or (f"{changed} is not what was applied" if changed else f"is {drift.kind}")
