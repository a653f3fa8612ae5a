"""Desired against prior and observed, for one instance: what to do about it, and why.

Called by `planner` for every instance in dependency order. Decides; lowering and ordering come later.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from gpuplan.core.address import Address
from gpuplan.core.capabilities import Capabilities, Mutability
from gpuplan.core.desired import Candidate, Configuration, Desired, Kind
from gpuplan.core.diagnostics import At
from gpuplan.core.observed import Observed, Status
from gpuplan.core.plan import Action, Reason
from gpuplan.core.state import Phase, Recorded
from gpuplan.core.values import Attrs, Value
from gpuplan.plan.compare import STOPPED, Difference, current_attrs, differences
from gpuplan.plan.ignore import is_ignored
from gpuplan.plan.lifetimes import EXPIRED, has_expired
from gpuplan.plan.scope import PlanScope

_HALTED = frozenset({Status.STOPPED, Status.STOPPING})
_RISING = frozenset({Status.PENDING, Status.STARTING})
_NODES = frozenset({Kind.NODE, Kind.GROUP})


@dataclass(frozen=True, slots=True)
class Decision:
    """`steps` are the operations on the living object, in their order; a create, replace or delete has none."""

    action: Action
    reasons: tuple[Reason, ...] = ()
    steps: tuple[Action, ...] = ()
    candidate: Candidate | None = None
    """The place an instance stays at."""
    takes_away: bool = False
    """Whether the steps interrupt what runs there."""


@dataclass(frozen=True, slots=True)
class Differ:
    """What every decision looks at besides the instance itself."""

    configuration: Configuration
    capabilities: Mapping[str, Capabilities]
    scope: PlanScope
    key: bytes
    now: datetime
    asked_to_replace: Callable[[Address], bool]
    trigger: Callable[[Desired], Address | None]
    """The first instance in `replace_triggered_by` that this plan changes."""

    def decide(self, desired: Desired, prior: Recorded, observed: Observed | None) -> Decision:
        """For an instance that is there. `observed` None: nobody looked, the state is taken at its word."""
        if observed is not None and observed.status is Status.UNKNOWN:
            return Decision(Action.NO_OP)
        if has_expired(desired, prior, self.now):
            return Decision(Action.DELETE, (EXPIRED,))
        candidate, found = self._closest(desired, prior, observed)
        if candidate is None:
            return Decision(Action.REPLACE, (self._moves_away(desired, prior),))
        capabilities = self.capabilities[prior.provider]
        reasons = [*self._broken(desired, prior, observed, capabilities)]
        reasons += [self.reason(desired, candidate, difference, capabilities) for difference in found]
        if any(reason.forces_replace for reason in reasons):
            return Decision(Action.REPLACE, tuple(reasons))
        return self._in_place(desired, prior, observed, candidate, reasons)

    def _closest(
        self, desired: Desired, prior: Recorded, observed: Observed | None
    ) -> tuple[Candidate | None, list[Difference]]:
        """The candidate the instance lives at: at its provider, and of several there the one that differs least."""
        current = prior.attrs if observed is None else current_attrs(prior.attrs, observed.attrs, self.key)
        ignored = desired.settings.lifecycle.ignore_changes
        best: Candidate | None = None
        fewest: list[Difference] = []
        for candidate in desired.candidates:
            if candidate.provider != prior.provider:
                continue
            found = list(differences(current, self.scope.attrs_of(candidate), self.key))
            if ignored:
                found = [item for item in found if not is_ignored(item.path, ignored)]
            if best is None or len(found) < len(fewest):
                best, fewest = candidate, found
            if not fewest:
                break
        return best, fewest

    def _moves_away(self, desired: Desired, prior: Recorded) -> Reason:
        candidate = desired.candidates[0]
        return Reason(
            "provider",
            before=prior.provider,
            after=candidate.provider,
            forces_replace=True,
            at=self.configuration.at(desired, candidate, "provider"),
        )

    def _broken(
        self, desired: Desired, prior: Recorded, observed: Observed | None, capabilities: Capabilities
    ) -> Iterator[Reason]:
        """Reasons to replace that are no attribute."""
        if prior.phase is Phase.TAINTED:
            yield Reason("", text="is tainted", forces_replace=True)
        if observed is not None and observed.status is Status.FAILED:
            detail = f": {observed.detail}" if observed.detail else ""
            yield Reason("", text=f"has failed{detail}", forces_replace=True)
        if self.asked_to_replace(desired.address):
            yield Reason("", text="replacement was asked for", forces_replace=True)
        if (trigger := self.trigger(desired)) is not None:
            yield Reason("", text=f"{trigger} changes", forces_replace=True)
        if desired.kind in _NODES and not capabilities.stop_start and _is_halted(prior, observed):
            yield Reason("", text="is stopped, and cannot be started again", forces_replace=True)

    def reason(
        self, desired: Desired, candidate: Candidate, difference: Difference, capabilities: Capabilities
    ) -> Reason:
        attribute = difference.path.partition(".")[0]
        mutability = _mutability(capabilities, desired.kind, attribute, difference)
        if mutability is Mutability.NEEDS_STOP and not capabilities.stop_start:
            mutability = Mutability.REPLACE
        at: At | None = At(desired.path)
        if attribute in candidate.attrs:
            at = self.configuration.at(desired, candidate, attribute)
        return Reason(
            difference.path,
            before=difference.before,
            after=difference.after,
            forces_replace=mutability is Mutability.REPLACE,
            needs_stop=mutability is Mutability.NEEDS_STOP,
            text=_EFFECTS.get(mutability, ""),
            at=at,
        )

    def _in_place(
        self,
        desired: Desired,
        prior: Recorded,
        observed: Observed | None,
        candidate: Candidate,
        reasons: list[Reason],
    ) -> Decision:
        capabilities = self.capabilities[prior.provider]
        steps: list[Action] = [Action.UPDATE] if reasons else []
        halted = desired.kind in _NODES and _is_halted(prior, observed)
        if not halted and any(reason.needs_stop for reason in reasons):
            steps.insert(0, Action.STOP)
        if desired.kind in _NODES:
            self._run_or_halt(candidate, steps, reasons, halted)
        if observed is not None and _lease_ends(capabilities, observed, self.now):
            steps.append(Action.EXTEND)
            reasons.append(Reason("", text=f"its lease ends at {observed.expires_at:%Y-%m-%d %H:%M}"))
        if prior.phase is Phase.PENDING and _must_wait(prior, observed):
            # A halted node is started before it is waited for; any other is waited for before it is changed.
            steps.insert(len(steps) if halted else 0, Action.READ)
            reasons.append(Reason("", text="was not yet seen ready"))
        interrupts = {Action.STOP, Action.START}.issubset(steps)
        interrupts = interrupts or (not halted and any(reason.text == RESTARTS for reason in reasons))
        return Decision(_action(steps), tuple(reasons), tuple(steps), candidate, interrupts)

    def _run_or_halt(self, candidate: Candidate, steps: list[Action], reasons: list[Reason], halted: bool) -> None:
        """Add the step that leaves the node running, or stopped, as the spec wants it."""
        wanted = candidate.attrs.get(STOPPED) is True
        if wanted and not halted and Action.STOP not in steps:
            steps.append(Action.STOP)
        if not wanted and (halted or Action.STOP in steps):
            steps.append(Action.START)
        if wanted != halted:
            reasons.append(Reason(STOPPED, before=halted, after=wanted, at=At((*candidate.path, STOPPED))))


RESTARTS = "restarts it"
_EFFECTS = {Mutability.RESTARTS: RESTARTS, Mutability.LOCAL: "nothing is sent"}


def _mutability(capabilities: Capabilities, kind: Kind, attribute: str, difference: Difference) -> Mutability:
    known = capabilities.kinds.get(kind)
    # An attribute the adapter no longer speaks of can only be dropped from the record.
    mutability = Mutability.LOCAL if known is None else known.attributes.get(attribute, Mutability.LOCAL)
    if mutability is Mutability.GROW_ONLY:
        return Mutability.IN_PLACE if _grows(difference.before, difference.after) else Mutability.REPLACE
    return mutability


def _action(steps: Sequence[Action]) -> Action:
    """What the steps are called as a whole."""
    if Action.UPDATE in steps:
        return Action.UPDATE
    return next((step for step in steps if step is not Action.READ), steps[0] if steps else Action.NO_OP)


def _grows(before: Value, after: Value) -> bool:
    return isinstance(before, (int, float)) and isinstance(after, (int, float)) and after > before


def _is_halted(prior: Recorded, observed: Observed | None) -> bool:
    if observed is None:
        return prior.attrs.get(STOPPED) is True
    return observed.status in _HALTED


def _must_wait(prior: Recorded, observed: Observed | None) -> bool:
    """Whether an apply has to look again, or run the setup, before the node counts as ready."""
    return observed is None or observed.status in _RISING or bool(prior.attrs.get("setup"))


def _lease_ends(capabilities: Capabilities, observed: Observed, now: datetime) -> bool:
    lease = capabilities.lease
    if lease is None or not lease.extendable or observed.expires_at is None:
        return False
    return (observed.expires_at - now).total_seconds() < lease.extend_before_seconds


def kept_attrs(decision: Decision, prior: Recorded, scope: PlanScope) -> Attrs:
    """What an instance that stays will have: the spec's attributes over the recorded ones."""
    if decision.candidate is None:
        return prior.attrs
    return {**prior.attrs, **scope.attrs_of(decision.candidate)}
