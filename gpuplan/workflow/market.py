"""What can be rented now, at every configured account. Called by `offers`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TypeAlias

from gpuplan.core.desired import Configuration, ProviderBlock
from gpuplan.core.errors import GpuplanError
from gpuplan.core.gpus import gpu_satisfies
from gpuplan.core.offers import Offer, OfferQuery, Pricing
from gpuplan.core.ports import Clock, Provider
from gpuplan.engine.reads import in_time
from gpuplan.engine.together import together
from gpuplan.workflow.accounts import configured, open_accounts
from gpuplan.workflow.market_memory import MarketMemory, Told
from gpuplan.workflow.project import Project, load_spec

SortKey: TypeAlias = tuple[bool | Decimal | str | int, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to show; what is not said is not looked at."""

    gpu: str = ""
    gpu_count: int | None = None
    region: str = ""
    """Its beginning, in whatever case: `eu` for `EU-RO-1`."""
    account: str = ""
    spot: bool = False

    def covers(self, offer: Offer) -> bool:
        return (
            (not self.gpu or gpu_satisfies(offer.gpu, self.gpu))
            and self.gpu_count in (None, offer.gpu_count)
            and offer.region.lower().startswith(self.region.lower())
            and (not self.spot or offer.pricing is Pricing.SPOT)
        )


@dataclass(frozen=True, slots=True)
class Board:
    """The offers, best first; `silent` are the accounts that did not answer, `answered` how many did."""

    offers: Sequence[Offer]
    silent: Mapping[str, GpuplanError]
    answered: int
    configuration: Configuration
    remembered: Mapping[str, datetime]
    """Accounts that were not asked again, and when they were."""


SORTS: Mapping[str, Callable[[Offer], SortKey]] = {
    "price": lambda offer: (*_price(offer), offer.provider, offer.region, offer.ref),
    "region": lambda offer: (offer.region, *_price(offer), offer.provider, offer.ref),
    "gpu": lambda offer: (offer.gpu, offer.gpu_count, *_price(offer), offer.provider, offer.region, offer.ref),
    "provider": lambda offer: (offer.provider, *_price(offer), offer.region, offer.ref),
}
"""The orders of a board, by what comes first in them."""


async def price_board(project: Project, wanted: Wanted, sort: str, *, clock: Clock, fresh: bool = False) -> Board:
    """Ask every account that has a price list, unless it has answered the same a moment ago and `fresh` is not wanted.

    Raises GpuplanError for the name of an account that is not there.
    """
    configuration = load_spec(project)
    blocks = configured(configuration, wanted.account)
    memory = MarketMemory(project, clock, reuse=not fresh)
    query = OfferQuery(wanted.gpu, wanted.gpu_count, spot=wanted.spot or None)
    async with open_accounts(blocks, configuration, project, clock) as accounts:
        asked = {name: each for name, each in accounts.opened.items() if each.capabilities.offers}
        asking = (_ask(configuration.providers[name], each, query, memory, clock) for name, each in asked.items())
        answers = dict(zip(asked, await together(asking), strict=True))
    silent = {name: answer for name, answer in answers.items() if isinstance(answer, GpuplanError)}
    told = {name: answer for name, answer in answers.items() if not isinstance(answer, GpuplanError)}
    offers = sorted(_covered([answer.offers for answer in told.values()], wanted), key=SORTS[sort])
    remembered = {name: answer.at for name, answer in told.items() if answer.is_remembered}
    return Board(offers, {**accounts.refused, **silent}, len(told), configuration, remembered)


async def _ask(
    block: ProviderBlock, provider: Provider, query: OfferQuery, memory: MarketMemory, clock: Clock
) -> Told | GpuplanError:
    if (known := memory.offers(block, query)) is not None:
        return known
    try:
        offers = await in_time(provider.offers(query), provider=block.name, doing="tell its offers")
    except GpuplanError as exc:
        return exc
    memory.keep_offers(block, query, offers, provider.capabilities.kind)
    return Told(offers, clock.now())


def _covered(lists: Iterable[Sequence[Offer]], wanted: Wanted) -> list[Offer]:
    return [offer for offers in lists for offer in offers if wanted.covers(offer)]


def _price(offer: Offer) -> tuple[bool, Decimal]:
    """What tells no price comes last."""
    return offer.price_per_hour is None, offer.price_per_hour or Decimal(0)
