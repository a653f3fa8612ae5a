"""Let providers that can do so check what a plan would send, before anybody agrees to it. Called by `planning`.

Asked is where a change goes first; what refers to things that are still to be made cannot be checked yet.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from gpuplan.core.address import Address
from gpuplan.core.desired import Configuration
from gpuplan.core.diagnostics import At, Diagnostic, Label
from gpuplan.core.errors import (
    NoCapacity,
    PlanError,
    ProtocolMismatch,
    ProviderError,
    QuotaExceeded,
    RateLimited,
    Refused,
    Unavailable,
)
from gpuplan.core.marks import Mark
from gpuplan.core.plan import Action, Change, Plan
from gpuplan.core.ports import CanRehearse, Provider, Want
from gpuplan.core.state import State
from gpuplan.core.values import Attrs, has_unknown
from gpuplan.engine.resolve import StateScope, closest, members, want_of
from gpuplan.engine.together import together

_TOKEN = "rehearsal00000000000"
"""As long as any other, and of no attempt."""
_MAKES = frozenset({Action.CREATE, Action.REPLACE})
_FREES = frozenset({Action.DELETE, Action.REPLACE, Action.STOP})
_FULL: tuple[type[Refused], ...] = (NoCapacity, QuotaExceeded)


class _Question(NamedTuple):
    address: Address
    provider: CanRehearse
    want: Want
    remote_id: str
    """Of what is changed; empty for what is made."""


async def check_with_providers(
    plan: Plan, configuration: Configuration, state: State, providers: Mapping[str, Provider]
) -> None:
    """Raises PlanError with everything that would be refused. What cannot be asked now is no finding."""
    mark = Mark(_TOKEN, plan.project, plan.workspace, plan.lineage)
    # What is full now may have room once something else is gone.
    passing = _FULL if any(change.action in _FREES for change in plan.changes.values()) else ()
    questions = _questions(plan, state, providers)
    found = await together(_ask(question, mark, configuration, passing) for question in questions)
    refused = tuple(diagnostic for findings in found for diagnostic in findings)
    if refused:
        raise PlanError(diagnostics=refused)


def _questions(plan: Plan, state: State, providers: Mapping[str, Provider]) -> Iterator[_Question]:
    scope = StateScope(lambda: state, list(members(plan, state)))
    for change in plan.changes.values():
        if change.action in _MAKES:
            found = _creation(change, providers)
        elif change.action is Action.UPDATE:
            found = _update(change, providers, scope, state)
        else:
            continue
        if found is not None:
            yield found


def _creation(change: Change, providers: Mapping[str, Provider]) -> _Question | None:
    place, desired = change.chosen, change.desired
    provider = None if place is None else providers.get(place.candidate.provider)
    if place is None or desired is None or not isinstance(provider, CanRehearse):
        return None
    attrs = place.candidate.attrs if place.attrs is None else place.attrs
    if _is_open(attrs):
        return None
    want = want_of(desired, attrs, token=_TOKEN, offer=place.offer)
    return _Question(desired.address, provider, want, "")


def _update(change: Change, providers: Mapping[str, Provider], scope: StateScope, state: State) -> _Question | None:
    desired, prior = change.desired, change.refreshed or change.prior
    provider = None if prior is None else providers.get(prior.provider)
    if desired is None or prior is None or not isinstance(provider, CanRehearse):
        return None
    _, attrs = closest(desired, prior, scope, state.key)
    if _is_open(attrs):
        return None
    named = frozenset(reason.path.partition(".")[0].partition("[")[0] for reason in change.reasons if reason.path)
    want = want_of(desired, attrs, token=prior.token or prior.remote_id)
    return _Question(desired.address, provider, replace(want, update=named), prior.remote_id)


async def _ask(
    question: _Question, mark: Mark, configuration: Configuration, passing: tuple[type[Refused], ...]
) -> tuple[Diagnostic, ...]:
    untold: tuple[type[ProviderError], ...] = (RateLimited, Unavailable, ProtocolMismatch, *passing)
    try:
        await question.provider.rehearse(question.want, mark, question.remote_id)
    except untold:
        return ()
    except Refused as error:
        return _located(error, question, configuration)
    return ()


def _located(error: Refused, question: _Question, configuration: Configuration) -> tuple[Diagnostic, ...]:
    """With its place in the spec, and that nothing was done."""
    desired = configuration.instances[question.address]
    label = Label(At(desired.path, key=True), "to be changed" if question.remote_id else "to be created")
    return tuple(
        Diagnostic(
            id=each.id,
            summary=each.summary,
            labels=(label,),
            facts=(*each.facts, "this was only checked: nothing was done"),
            hint=each.hint,
            commands=each.commands,
        )
        for each in error.diagnostics
    )


def _is_open(attrs: Attrs) -> bool:
    return any(has_unknown(value) for value in attrs.values())
