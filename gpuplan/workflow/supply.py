"""What can be rented for a plan: each account is asked once, and only where something new may be made.

Called by `planning`.
"""

from collections.abc import Iterable, Mapping, Sequence

from gpuplan.core.desired import Configuration
from gpuplan.core.errors import ProviderError
from gpuplan.core.offers import Offer, OfferQuery
from gpuplan.core.ports import Provider
from gpuplan.engine.reads import in_time
from gpuplan.engine.together import together
from gpuplan.plan.demand import demand
from gpuplan.workflow.market_memory import MarketMemory


class Supply:
    """The answers of the accounts of one plan, as they come in."""

    def __init__(self, configuration: Configuration, providers: Mapping[str, Provider], memory: MarketMemory) -> None:
        self._blocks = configuration.providers
        self._providers = providers
        self._memory = memory
        self._questions = demand(configuration)
        self.offers: dict[str, Sequence[Offer]] = {}
        self.silent: dict[str, ProviderError] = {}
        """Accounts that could not tell."""

    async def ask(self, names: Iterable[str]) -> None:
        """Ask those accounts that have a price list and were not asked yet, all at once."""
        asked = [name for name in sorted(names) if self._has_list(name) and name not in {*self.offers, *self.silent}]
        await together(self._ask(name) for name in asked)

    def _has_list(self, name: str) -> bool:
        provider = self._providers.get(name)
        return provider is not None and provider.capabilities.offers

    async def _ask(self, name: str) -> None:
        block, provider = self._blocks[name], self._providers[name]
        query = self._questions.get(name, OfferQuery())
        if (told := self._memory.offers(block, query)) is not None:
            self.offers[name] = told.offers
            return
        try:
            self.offers[name] = await in_time(provider.offers(query), provider=name, doing="tell its offers")
        except ProviderError as exc:
            self.silent[name] = exc
        else:
            self._memory.keep_offers(block, query, self.offers[name], provider.capabilities.kind)
