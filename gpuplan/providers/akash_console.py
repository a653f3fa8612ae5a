"""Akash by the API of its Console, which keeps the wallet: https://akash.network/docs/api-documentation/console-api.

A deployment is asked for, providers bid, one bid becomes a lease, and its provider is told what to run.
"""

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from datetime import datetime

from gpuplan.core.capabilities import Capabilities
from gpuplan.core.desired import Kind
from gpuplan.core.errors import (
    Conflict,
    Failure,
    GpuplanError,
    InvalidRequest,
    NoCapacity,
    NotFound,
    ProtocolMismatch,
    ProviderError,
)
from gpuplan.core.kinds import NodeAttrs
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Observed, Status
from gpuplan.core.offers import Offer, OfferQuery
from gpuplan.core.ports import Account, Links, Listed, SshTarget, Want
from gpuplan.net.api import Api
from gpuplan.net.marks import from_name
from gpuplan.net.profile import Effect
from gpuplan.providers import akash_tables as tables
from gpuplan.providers import akash_wire as wire
from gpuplan.providers.akash_gateway import Gateway
from gpuplan.providers.akash_manifest import hash_of, screening_of, to_manifest
from gpuplan.providers.akash_sdl import Body, Unfit, ceiling_of, group_of, text_of, to_sdl
from gpuplan.providers.akash_tables import DEPLOYMENT, DEPLOYMENTS, Options
from gpuplan.providers.akash_wire import Bid, Detail, ProviderRow

LEAST_DEPOSIT = 0.5
EVENTS_AFTER_SECONDS = 60
"""A node that does not come up is asked why, as often as this."""


class AkashConsole:
    """One account."""

    def __init__(self, api: Api, options: Options) -> None:
        self._api = api
        self._options = options
        self._capabilities = tables.capabilities(options)
        self._gateway = Gateway(api)
        self._since: dict[str, float] = {}
        """When a deployment was made, leased, or last asked for its trouble."""
        self._told: set[str] = set()
        """Whose providers know what to run."""
        self._troubles: dict[str, str] = {}
        self._ready: set[str] = set()
        self._deleted: set[str] = set()

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def health(self) -> Account:
        user = await self._api.call("GET", tables.ME, answer=wire.User, at="data", to="look at the account")
        return Account(self._api.account_id(user.id), self._api.endpoint)

    async def offers(self, query: OfferQuery) -> Sequence[Offer]:
        to = "look up prices"
        prices = await self._api.call("GET", tables.PRICES, answer=wire.Prices, to=to)
        rows = await self._api.call("GET", tables.PROVIDERS, answer=tuple[ProviderRow, ...], to=to)
        usable = [row for row in rows if row.is_online and (row.is_audited or not self._options.audited)]
        return list(wire.Market(prices, usable).offers(query, self._api.provider, self._api.clock.now()))

    async def list(self, kind: Kind, known: frozenset[str]) -> Listed:
        """Leases of a listing have no status, and are not always attached to their own deployment."""
        pages = self._api.pages(DEPLOYMENTS, items="data.deployments", answer=Detail, to=f"list {kind}s")
        rows = wire.regrouped([row async for row in pages])
        found = await self._api.together([self._looked_at(row, row.dseq in known) for row in rows])
        return Listed([seen for seen in found if seen is not None])

    async def get(self, kind: Kind, remote_id: str) -> Observed | None:
        detail = await self._find(remote_id)
        return None if detail is None else self._observe(detail)

    def witness(self, want: Want, mark: Mark) -> str:
        """The hash that the chain keeps of the manifest."""
        try:
            return hash_of(to_manifest(self._sdl(want, group_of(want, mark))))
        except Unfit:
            return ""

    async def create(self, want: Want, mark: Mark, links: Links) -> Observed:
        to, asked = f"create {want.address}", NodeAttrs.of(want.attrs)
        sdl, gpu = self._fitting(want, group_of(want, mark), to), _machine(asked)
        await self._screen(sdl, gpu, to)
        body: Body = {"data": {"sdl": text_of(sdl), "deposit": self._deposit(want.offer)}}
        # A wallet signs one transaction at a time, and the time it does is the deployment's number.
        async with self._api.alone("creates"):
            created = await self._api.call(
                "POST", DEPLOYMENTS, json=body, answer=wire.Created, at="data", gpu=gpu, to=to
            )
        self._since[created.dseq] = self._api.clock.monotonic()
        witness = hash_of(to_manifest(sdl))
        return Observed(Kind.NODE, created.dseq, Status.PENDING, detail="waits for bids", witness=witness)

    async def advance(self, want: Want, mark: Mark, observed: Observed, links: Links) -> Observed:
        """Choose among the bids; tell the provider what to run, where that got lost; ask why it does not."""
        dseq, to = observed.remote_id, f"bring up {want.address}"
        age = self._age(dseq)
        if observed.status is Status.PENDING:
            if age < self._options.bid_seconds:
                return replace(observed, detail="collects bids")
            return await self._take_a_bid(want, mark, observed, to)
        lease, provider = (str(observed.facts.get(name, "")) for name in ("lease", "provider"))
        if lease and "replicas" not in observed.facts and dseq not in self._told:
            return await self._lease(want, mark, lease, provider, to)
        if lease and age >= EVENTS_AFTER_SECONDS:
            self._since[dseq] = self._api.clock.monotonic()
            # Also where there is no library for WebSockets: it is good to know, and not needed.
            with suppress(GpuplanError):
                self._troubles[dseq] = await self._gateway.trouble(lease, provider)
        return replace(observed, detail=self._troubles.get(dseq) or observed.detail)

    async def delete(self, kind: Kind, remote_id: str, links: Links) -> None:
        await self._api.remove(DEPLOYMENT, remote_id, to=f"delete {kind} {remote_id}")
        self._deleted.add(remote_id)

    async def update(self, want: Want, remote_id: str, links: Links) -> Observed:
        """A new manifest for the same placement: the container is made anew."""
        to = f"update {want.address}"
        detail = await self._fetch(remote_id, to)
        sdl = self._fitting(want, await self._group(detail.deployment, to), to)
        body: Body = {"data": {"sdl": text_of(sdl)}}
        updated = await self._api.call("PUT", DEPLOYMENT, remote_id, json=body, answer=Detail, at="data", to=to)
        return self._observe(updated)

    async def extend(self, kind: Kind, remote_id: str, until: datetime) -> Observed:
        """Put into escrow what the time until then costs."""
        to = f"renew the lease of {kind} {remote_id}"
        detail = await self._fetch(remote_id, to)
        seen = self._observe(detail)
        hourly = detail.lease.price.hourly if detail.lease else None
        if seen.expires_at is None or hourly is None:
            raise Conflict(Failure(self._api.provider, to, "it has no lease"))
        missing = (until - seen.expires_at).total_seconds() / 3600 * hourly
        if missing <= 0:
            return seen
        body: Body = {"data": {"dseq": remote_id, "deposit": _cents(max(missing, LEAST_DEPOSIT))}}
        paid = await self._api.call("POST", tables.DEPOSITS, json=body, answer=Detail, at="data", to=to)
        return self._observe(paid)

    async def logs(self, kind: Kind, remote_id: str, *, follow: bool, tail: int | None) -> AsyncIterator[str]:
        to = f"read the log of {kind} {remote_id}"
        lease = (await self._fetch(remote_id, to)).lease
        if lease is None:
            raise Conflict(Failure(self._api.provider, to, "it has no lease yet"))
        place = f"{lease.id.dseq}/{lease.id.gseq}/{lease.id.oseq}"
        lines = self._gateway.logs(place, lease.id.provider, follow=follow, tail=tail, to=to)
        async with aclosing(lines):
            async for line in lines:
                yield line

    def ssh_target(self, observed: Observed, member: int | None = None) -> SshTarget | None:
        host, port = observed.facts.get("ssh_host"), observed.facts.get("ssh_port")
        if not isinstance(host, str) or not isinstance(port, int):
            return None
        return self._api.ssh_target(host, port)

    async def close(self) -> None:
        await self._api.close()

    async def _take_a_bid(self, want: Want, mark: Mark, observed: Observed, to: str) -> Observed:
        dseq, asked = observed.remote_id, NodeAttrs.of(want.attrs)
        query = {"dseq": dseq}
        rows = await self._api.call("GET", tables.BIDS, query=query, answer=tuple[wire.BidRow, ...], at="data", to=to)
        ceiling = ceiling_of(asked, want.offer)
        fitting = [
            row.bid
            for row in rows
            if row.bid.state == "open" and row.bid.price.hourly is not None and row.bid.price.hourly <= ceiling
        ]
        best = await self._best(fitting, to) if fitting else None
        if best is not None:
            place = f"{dseq}/{best.id.gseq}/{best.id.oseq}"
            return await self._lease(want, mark, place, best.id.provider, to)
        if self._age(dseq) < self._options.bid_timeout:
            return observed
        told = f"nobody has bid for it in {self._options.bid_timeout:.0f} s"
        failure = NoCapacity(Failure(self._api.provider, to, told, gpu=_machine(asked)))
        return replace(observed, status=Status.FAILED, detail=told, failure=failure)

    async def _best(self, bids: Sequence[Bid], to: str) -> Bid | None:
        """The cheapest of those whose provider is there now; of equals the one that was away least."""
        query = {"addresses": ",".join(sorted({bid.id.provider for bid in bids}))}
        rows = await self._api.call("GET", tables.PROVIDERS, query=query, answer=tuple[ProviderRow, ...], to=to)
        usable = {row.owner: row for row in rows if row.is_online and (row.is_audited or not self._options.audited)}
        able = [bid for bid in bids if bid.id.provider in usable]
        return min(able, key=lambda bid: (bid.price.amount, -usable[bid.id.provider].uptime7d, bid.id.provider),
                   default=None)  # fmt: skip

    async def _lease(self, want: Want, mark: Mark, place: str, provider: str, to: str) -> Observed:
        """Take a bid, and tell its provider what to run; of a lease that is there already, only the latter."""
        dseq, gseq, oseq = place.split("/")
        sdl = self._fitting(want, group_of(want, mark), to)
        order: Body = {"dseq": dseq, "gseq": int(gseq), "oseq": int(oseq), "provider": provider}
        body: Body = {"manifest": to_manifest(sdl), "leases": [order]}
        detail = await self._api.call(
            "POST", tables.LEASES, json=body, effect=Effect.REPEATABLE, answer=Detail, at="data", to=to
        )
        self._told.add(dseq)
        self._since[dseq] = self._api.clock.monotonic()
        return self._observe(detail)

    async def _screen(self, sdl: Body, gpu: str, to: str) -> None:
        """Whether anybody could bid now. Where that cannot be told, the auction tells."""
        screened = None
        with suppress(ProviderError):
            screened = await self._api.call(
                "POST",
                tables.SCREENING,
                json=screening_of(sdl),
                effect=Effect.NONE,
                answer=wire.Screened,
                to=f"ask who could bid, to {to}",
            )
        if screened is not None and not screened.providers:
            raise NoCapacity(Failure(self._api.provider, to, "no provider could bid for it now", gpu=gpu))

    def _fitting(self, want: Want, group: str, to: str) -> Body:
        """Raises InvalidRequest."""
        try:
            return self._sdl(want, group)
        except Unfit as exc:
            raise InvalidRequest(Failure(self._api.provider, to, str(exc))) from exc

    def _sdl(self, want: Want, group: str) -> Body:
        asked, offer = NodeAttrs.of(want.attrs), want.offer
        if offer is not None and not asked.region:
            asked = replace(asked, region=offer.region or None)
        registry = self._options.registry(self._api)
        hourly = ceiling_of(asked, want.offer)
        return to_sdl(asked, group, hourly=hourly, auditors=self._options.auditors, registry=registry)

    def _deposit(self, offer: Offer | None) -> float:
        hourly = float(offer.price_per_hour or 0) if offer else 0.0
        return _cents(max(self._options.deposit, hourly * self._options.lease_hours))

    def _age(self, dseq: str) -> float:
        now = self._api.clock.monotonic()
        return now - self._since.setdefault(dseq, now)

    def _observe(self, detail: Detail) -> Observed:
        seen = detail.to_observed(self._api.provider)
        if seen.status is Status.RUNNING:
            self._ready.add(detail.dseq)
        if detail.dseq in self._deleted and seen.status is not Status.TERMINATED:
            return replace(seen, status=Status.TERMINATING, detail="", failure=None)
        if seen.status is Status.STARTING and detail.is_silent and detail.dseq in self._ready:
            return replace(seen, status=Status.UNKNOWN)
        return seen

    async def _looked_at(self, row: Detail, is_ours: bool) -> Observed | None:
        """What a listing does not tell: whether a node of ours runs, and whose a strange one is.

        The name of its group tells that too, should the Console have made another manifest of it than we did.
        """
        if is_ours:
            return await self.get(Kind.NODE, row.dseq) if row.has_living_lease else self._observe(row)

        async def read() -> str:
            return await self._group(row.deployment, "look for nodes")

        seen = self._observe(row)
        with suppress(ProviderError):
            return replace(seen, mark=from_name(await self._api.remembered(f"group of {row.dseq}", read)))
        return seen

    async def _group(self, deployment: wire.Deployment, to: str) -> str:
        """The name of the placement of a deployment. Raises ProtocolMismatch where it has none."""
        owner, dseq = deployment.id.owner, deployment.id.dseq
        public = await self._api.call("GET", tables.PUBLIC, owner, dseq, answer=wire.Public, to=to)
        if not public.other.groups:
            raise ProtocolMismatch(Failure(self._api.provider, to, "the deployment has no group"))
        return public.other.groups[0].group_spec.name

    async def _find(self, dseq: str) -> Detail | None:
        return await self._api.find("GET", DEPLOYMENT, dseq, answer=Detail, at="data", to=f"look at node {dseq}")

    async def _fetch(self, dseq: str, to: str) -> Detail:
        """Raises NotFound; what is closed is told as long as the chain lasts."""
        detail = await self._api.call("GET", DEPLOYMENT, dseq, answer=Detail, at="data", to=to)
        if detail.deployment.state == "closed":
            raise NotFound(Failure(self._api.provider, to))
        return detail


def _machine(asked: NodeAttrs) -> str:
    return str(asked.gpu or "a node without a GPU")


def _cents(usd: float) -> float:
    return math.ceil(usd * 100) / 100
