"""What carries the mark of this project and workspace and is in no state: find it, take it into the state, delete it.

Called by `orphans`. Works when the state was lost: whose it is, is told by the marks alone.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeAlias

from gpuplan.core.desired import Configuration, Kind
from gpuplan.core.errors import GpuplanError, ProviderError
from gpuplan.core.observed import Observed
from gpuplan.core.offers import Offer, OfferQuery, Pricing
from gpuplan.core.ports import Clock, Provider
from gpuplan.core.state import State
from gpuplan.engine.refresh import find_orphans
from gpuplan.engine.sweep import sweep
from gpuplan.engine.together import together
from gpuplan.plan.cost import price_told
from gpuplan.state.session import read_state
from gpuplan.workflow.accounts import Accounts, open_accounts
from gpuplan.workflow.adoption import Orphan, adoptions
from gpuplan.workflow.ledger import hold_state, open_state, unborn
from gpuplan.workflow.project import Project, load_spec


@dataclass(frozen=True, slots=True)
class Found:
    """The orphans, and the accounts that could not be asked."""

    orphans: Sequence[Orphan]
    silent: Mapping[str, GpuplanError]
    configuration: Configuration


@dataclass(frozen=True, slots=True)
class Swept:
    """What was chosen, and why some of it may still be there; nothing chosen: the answer was no."""

    chosen: Sequence[Orphan]
    failures: Sequence[ProviderError]


Choose: TypeAlias = Callable[[Found], Awaitable[Sequence[Orphan]]]
"""Asked while the lock is held, so that nobody claims what was shown."""


async def list_orphans(project: Project, *, clock: Clock) -> Found:
    """Look only: takes no lock."""
    configuration = load_spec(project)
    backend = open_state(project, clock)
    try:
        state = await read_state(backend) or unborn(configuration.project)
    finally:
        await backend.close()
    async with _accounts(configuration, project, clock) as accounts:
        return await _find(configuration, state, accounts, project, clock)


async def adopt_orphans(project: Project, choose: Choose, *, clock: Clock, patience_seconds: float) -> Sequence[Orphan]:
    """Record the chosen ones where their marks say. Raises StateError where the address has another object."""
    configuration = load_spec(project)
    backend = open_state(project, clock)
    try:
        async with (
            hold_state(
                backend,
                clock,
                operation="orphans adopt",
                create_project=configuration.project,
                patience_seconds=patience_seconds,
            ) as session,
            _accounts(configuration, project, clock) as accounts,
        ):
            found = await _find(configuration, session.state, accounts, project, clock)
            chosen = await choose(found)
            await session.write(*adoptions(chosen, found.orphans, configuration, session.state, clock.now()))
            await session.commit()
    finally:
        await backend.close()
    return chosen


async def destroy_orphans(project: Project, choose: Choose, *, clock: Clock, patience_seconds: float) -> Swept:
    """Delete the chosen ones, nodes before what they may need."""
    configuration = load_spec(project)
    backend = open_state(project, clock)
    try:
        async with (
            hold_state(
                backend,
                clock,
                operation="orphans destroy",
                create_project=configuration.project,
                patience_seconds=patience_seconds,
            ) as session,
            _accounts(configuration, project, clock) as accounts,
        ):
            chosen = await choose(await _find(configuration, session.state, accounts, project, clock))
            outcomes = await sweep([orphan.target for orphan in chosen], accounts.opened, clock=clock)
    finally:
        await backend.close()
    return Swept(chosen, [error for error in outcomes if error is not None])


def _accounts(configuration: Configuration, project: Project, clock: Clock) -> AbstractAsyncContextManager[Accounts]:
    return open_accounts(configuration.providers.values(), configuration, project, clock)


async def _find(
    configuration: Configuration, state: State, accounts: Accounts, project: Project, clock: Clock
) -> Found:
    survey = await find_orphans(state, accounts.opened, workspace=project.workspace, clock=clock)
    seen: dict[str, list[Observed]] = {}
    for name, observed in survey.orphans:
        seen.setdefault(name, []).append(observed)
    lists = await together(_prices(accounts.opened[name], objects) for name, objects in seen.items())
    prices = dict(zip(seen, lists, strict=True))
    orphans = [
        Orphan(name, survey.accounts.get(name, ""), observed, _price(observed, prices[name]))
        for name, observed in survey.orphans
    ]
    return Found(_once_each(orphans, configuration), {**accounts.refused, **survey.unreachable}, configuration)


def _once_each(orphans: Sequence[Orphan], configuration: Configuration) -> list[Orphan]:
    """In the order of their addresses. Several blocks may lead to one account: an object counts for the block that the
    spec has it at."""
    found: dict[tuple[str, Kind, str], Orphan] = {}
    for orphan in orphans:
        key = (orphan.account or orphan.provider, orphan.observed.kind, orphan.observed.remote_id)
        if key not in found or _is_at_home(orphan, configuration):
            found[key] = orphan
    return sorted(found.values(), key=_by_address)


def _is_at_home(orphan: Orphan, configuration: Configuration) -> bool:
    desired = None if orphan.address is None else configuration.instances.get(orphan.address)
    return desired is not None and any(place.provider == orphan.provider for place in desired.candidates)


def _by_address(orphan: Orphan) -> tuple[object, ...]:
    """What has no address comes last."""
    address = orphan.address
    return (False, *address.order) if address is not None else (True, orphan.provider, orphan.observed.remote_id)


Prices: TypeAlias = Mapping[tuple[str, str], Decimal]
"""By instance type and region."""


async def _prices(provider: Provider, objects: Sequence[Observed]) -> Prices:
    """The price list, for nodes that do not tell what they cost; empty where it is not needed, or cannot be had."""
    untold = any(each.kind is Kind.NODE and price_told(each.facts) is None for each in objects)
    if not untold or not provider.capabilities.offers:
        return {}
    try:
        offers = await provider.offers(OfferQuery())
    except ProviderError:
        return {}
    return {(offer.instance_type, offer.region): price for offer in offers if (price := _usual(offer)) is not None}


def _usual(offer: Offer) -> Decimal | None:
    return None if offer.pricing is Pricing.SPOT else offer.price_per_hour


def _price(observed: Observed, prices: Prices) -> Decimal | None:
    if (told := price_told(observed.facts)) is not None:
        return told
    known = {**observed.facts, **observed.attrs}
    if observed.kind is not Kind.NODE or not known.get("instance_type") or known.get("spot"):
        return None
    return prices.get((str(known["instance_type"]), str(known.get("region", ""))))
