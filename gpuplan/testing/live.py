"""The kit against a real account: the rules that need no emulator, and a ceiling for what the nodes may cost.

Called by `conformance --live`.
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from gpuplan.core.desired import Kind
from gpuplan.core.marks import Mark
from gpuplan.core.offers import OfferQuery, Pricing
from gpuplan.core.ports import Account, OpenContext, Provider, Want
from gpuplan.core.values import Attrs
from gpuplan.testing.bench import Bench, Made
from gpuplan.testing.conformance import ProviderConformance
from gpuplan.testing.subject import RUNNING_KINDS


class OverCeiling(Exception):
    """One more node could cost more than is allowed; it was not asked for."""


@dataclass(slots=True)
class Purse:
    """What the nodes may cost in all, in USD. Each counts a whole hour: no provider bills more of one that is deleted
    within it."""

    ceiling: Decimal
    price_per_hour: Decimal
    nodes: int = 0

    @property
    def spent(self) -> Decimal:
        return self.nodes * self.price_per_hour

    def pay(self) -> None:
        """Raises OverCeiling."""
        if self.spent + self.price_per_hour > self.ceiling:
            raise OverCeiling(f"{self.nodes} nodes may have cost {self.spent:.2f} USD; one more could pass the ceiling")
        self.nodes += 1


@dataclass(slots=True)
class LiveBench(Bench):
    purse: Purse = field(kw_only=True)
    doubtful: dict[str, Kind] = field(default_factory=dict, kw_only=True)
    """Tokens of creates that were not answered: something may exist."""

    async def send(self, want: Want, mark: Mark) -> Made:
        if want.kind in RUNNING_KINDS:
            self.purse.pay()
        self.doubtful[mark.token] = want.kind
        made = await Bench.send(self, want, mark)
        del self.doubtful[mark.token]
        return made

    async def clear(self) -> None:
        for kind in set(self.doubtful.values()):
            for seen in (await self.listed(kind)).values():
                if seen.mark is not None and seen.mark.token in self.doubtful:
                    await self.until_gone(kind, seen.remote_id)
        await Bench.clear(self)


@dataclass(frozen=True, slots=True)
class Visit:
    """Whose account it is, and what a node of it costs; None: the provider does not tell."""

    account: Account
    price_per_hour: Decimal | None


def look_at(contract: type[ProviderConformance], asked: Attrs, context: OpenContext) -> Visit:
    """Ask the account who it is and what the nodes would cost. Raises ProviderError and NoCredentials."""

    async def ask() -> Visit:
        provider = _open(contract, context)
        try:
            account = await provider.health()
            offers = await provider.offers(OfferQuery()) if provider.capabilities.offers else ()
        finally:
            await provider.close()
        prices = [
            offer.price_per_hour
            for offer in offers
            if offer.price_per_hour is not None
            and offer.pricing is not Pricing.SPOT
            and asked.get("instance_type") in (None, offer.instance_type)
            and asked.get("region") in (None, offer.region)
            and str(asked.get("gpu") or "").partition(":")[0] in ("", offer.gpu)
        ]
        return Visit(account, max(prices, default=None))

    return asyncio.run(ask())


def live_contract(
    contract: type[ProviderConformance], asked: Attrs, context: OpenContext, purse: Purse
) -> type[ProviderConformance]:
    """The rules for every adapter, on this account. `asked` is what nodes are asked for."""
    asks: Mapping[Kind, Attrs] = {
        kind: asked if kind in RUNNING_KINDS else attrs for kind, attrs in contract.asks.items()
    }

    class Live(ProviderConformance):
        provider_type = contract.provider_type
        changes = contract.changes
        missing_id = contract.missing_id
        options = contract.options

        @contextmanager
        def open_bench(self, folder: Path) -> Iterator[Bench]:
            with asyncio.Runner() as runner:
                provider = runner.run(_opened(contract, context))
                yield LiveBench(provider, context.clock, runner.run, asks, self.changes, self.missing_id, purse=purse)

    Live.asks = asks
    return Live


async def _opened(contract: type[ProviderConformance], context: OpenContext) -> Provider:
    return _open(contract, context)


def _open(contract: type[ProviderConformance], context: OpenContext) -> Provider:
    type = contract.provider_type
    return type.open(type.options.model_validate(contract.options), context)
