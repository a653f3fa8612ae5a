"""What both ways to Nosana share: its markets, which are told to anyone, and what its hosts say over a WebSocket."""

from collections.abc import Sequence
from contextlib import suppress

from pydantic import ValidationError

from gpuplan.core.errors import Failure, NoCapacity, ProviderError
from gpuplan.core.kinds import NodeAttrs
from gpuplan.core.offers import Offer, OfferQuery
from gpuplan.net.api import Api
from gpuplan.providers import nosana_tables as tables
from gpuplan.providers.nosana_bodies import Unfit, best_market
from gpuplan.providers.nosana_tables import Options
from gpuplan.providers.nosana_wire import LogEntry, Market, Said


class Markets:
    """The markets of one account's choice."""

    def __init__(self, api: Api, options: Options) -> None:
        self._api = api
        self._options = options
        self._known: dict[str, Market] = {}

    async def offers(self, query: OfferQuery) -> Sequence[Offer]:
        """All at one price, and none with a word about what is free."""
        now = self._api.clock.now()
        offers = [market.to_offer(self._api.provider, now) for market in await self._wanted() if market.gpu]
        return [
            offer
            for offer in offers
            if query.wants(offer.gpu, offer.gpu_count)
            and (not query.regions or offer.region in query.regions)
            and query.spot is not True
        ]

    async def choose(self, asked: NodeAttrs, to: str) -> str:
        """The address of the cheapest market for a node that comes without an offer. Raises Unfit."""
        if asked.gpu is None and asked.instance_type is None:
            raise Unfit("it needs a `gpu`, or the market as `instance_type`")
        market = best_market(asked, await self._wanted())
        if market is None:
            gpu = str(asked.gpu or asked.instance_type)
            raise NoCapacity(Failure(self._api.provider, to, "no market has it", gpu=gpu))
        return market.address

    async def known(self, address: str) -> Market | None:
        """What a market has. Asked once; it is no reason for anything else to fail."""
        if address not in self._known:
            with suppress(ProviderError):
                await self._api.remembered("markets", self._read)
        return self._known.get(address)

    async def _wanted(self) -> Sequence[Market]:
        return [market for market in await self._read() if market.type in ("", *self._options.market_types)]

    async def _read(self) -> Sequence[Market]:
        markets = await self._api.call("GET", "/", host=tables.MARKETS, answer=tuple[Market, ...], to="list markets")
        self._known |= {market.address: market for market in markets}
        return markets


def lines_of(message: bytes) -> Sequence[str]:
    """The lines of one message; none of one that is no log."""
    try:
        data = Said.model_validate_json(message).data
    except ValidationError:
        return ()
    if isinstance(data, LogEntry):
        return data.lines
    try:
        return LogEntry.model_validate_json(data).lines
    except ValidationError:
        return data.splitlines()
