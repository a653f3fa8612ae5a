"""Lium's own API: https://docs.lium.io. Pods on hosts of miners, SSH keys of the account, volumes."""

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from gpuplan.core.capabilities import Capabilities
from gpuplan.core.desired import Kind
from gpuplan.core.errors import (
    Failure,
    InvalidRequest,
    NoCapacity,
    NotFound,
    OutcomeUnknown,
    ProtocolMismatch,
    ProviderError,
    Refused,
)
from gpuplan.core.gpus import GpuRequest
from gpuplan.core.kinds import NodeAttrs
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Observed, Status
from gpuplan.core.offers import Offer, OfferQuery, Pricing
from gpuplan.core.ports import Account, Links, Listed, SshTarget, Want
from gpuplan.net.api import Api
from gpuplan.net.profile import Effect
from gpuplan.providers import lium_bodies as bodies
from gpuplan.providers import lium_tables as tables
from gpuplan.providers import lium_wire as wire
from gpuplan.providers.lium_bodies import Unfit
from gpuplan.providers.lium_tables import COLLECTIONS, COMPANIONS, KEYS, PODS, VOLUMES, Options
from gpuplan.providers.lium_templates import Chosen, Templates
from gpuplan.providers.lium_wire import Body, Executor, Pod

DOUBTS = (OutcomeUnknown, ProtocolMismatch)
GRACE_SECONDS = 20
"""For so long a new pod may be in no listing yet."""
READ_SECONDS, FOLLOW_SECONDS = 30, 86400
MOST_LINES = 10000


@dataclass(frozen=True, slots=True)
class Order:
    """A rent as it is sent, and sent again."""

    host: str
    body: Body
    template: Chosen


@dataclass(frozen=True, slots=True)
class Rent:
    """What a pod of ours was to have, and when it was rented."""

    gpu: GpuRequest | None
    since: float


class LiumPods:
    """One account."""

    def __init__(self, api: Api, options: Options) -> None:
        self._api = api
        self._options = options
        self._capabilities = tables.capabilities(options)
        self._orders: dict[str, Order] = {}
        self._rents: dict[str, Rent] = {}
        self._deleted: set[str] = set()
        self._causes: dict[str, str] = {}
        self._templates = Templates(api)

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def health(self) -> Account:
        """Not by the hosts: those are told to everybody."""
        user = await self._api.call("GET", "/users/me", answer=wire.User, to="look at the account")
        return Account(self._api.account_id(f"{user.id} {user.workspace.id}"), self._api.endpoint)

    async def offers(self, query: OfferQuery) -> Sequence[Offer]:
        params = {"view": "summary", "reliable_only": self._options.reliable_only or None}
        hosts = await self._api.call("GET", tables.HOSTS, query=params, answer=tuple[Executor, ...], to="list hosts")
        provider, now = self._api.provider, self._api.clock.now()
        offers = (offer for host in hosts if self._options.wants(host) for offer in host.offers(provider, now))
        return [
            offer
            for offer in offers
            if query.wants(offer.gpu, offer.gpu_count)
            and (not query.regions or offer.region in query.regions)
            and query.spot in (None, offer.pricing is Pricing.SPOT)
        ]

    async def list(self, kind: Kind, known: frozenset[str]) -> Listed:
        if kind in COMPANIONS:
            now, items = self._api.clock.now(), await COMPANIONS[kind].list(self._api)
            return Listed([item.to_observed(now) for item in items])
        return Listed([await self._explained(self._observe(pod)) for pod in await PODS.list(self._api)])

    async def get(self, kind: Kind, remote_id: str) -> Observed | None:
        if kind in COMPANIONS:
            item = await COMPANIONS[kind].find(self._api, remote_id)
            return None if item is None else item.to_observed(self._api.clock.now())
        pod = await self._find(remote_id)
        return await self._absent(remote_id) if pod is None else await self._explained(self._observe(pod))

    async def create(self, want: Want, mark: Mark, links: Links) -> Observed:
        to, now = f"create {want.address}", self._api.clock.now()
        try:
            match want.kind:
                case Kind.SSH_KEY:
                    body = bodies.to_key(want, mark)
                    key = await self._api.call("POST", KEYS.route, json=body, answer=wire.Key, to=to)
                    return key.to_observed(now)
                case Kind.VOLUME:
                    body = bodies.to_volume(want, mark)
                    volume = await self._api.call("POST", VOLUMES.route, json=body, answer=wire.Volume, to=to)
                    return volume.to_observed(now)
            return await self._rent(want, mark, links, to)
        except Unfit as exc:
            raise InvalidRequest(Failure(self._api.provider, to, str(exc))) from exc

    async def delete(self, kind: Kind, remote_id: str, links: Links) -> None:
        await COLLECTIONS[kind].remove(self._api, remote_id)
        self._deleted.add(remote_id)

    async def update(self, want: Want, remote_id: str, links: Links) -> Observed:
        """Another image, command or environment is another template; the container is made anew."""
        to, asked = f"update {want.address}", NodeAttrs.of(want.attrs)
        pod = await self._fetch(remote_id, to)
        try:
            bodies.check(asked)
            template = await self._templates.of(want.name, asked, pod.executor.machine_name, "", to)
        except Unfit as exc:
            raise InvalidRequest(Failure(self._api.provider, to, str(exc))) from exc
        body: Body = {"template_id": template.id}
        try:
            await self._api.call("PUT", "/pods/{id}/switch-template", remote_id, json=body, to=to)
        except Refused:
            self._templates.put_back(template)
            raise
        return self._observe(await self._fetch(remote_id, to))

    async def extend(self, kind: Kind, remote_id: str, until: datetime) -> Observed:
        to = f"renew the lease of {kind} {remote_id}"
        body: Body = {"removal_scheduled_at": f"{until.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"}
        route = "/pods/{id}/schedule-removal"
        await self._api.call("POST", route, remote_id, json=body, effect=Effect.REPEATABLE, to=to)
        return self._observe(await self._fetch(remote_id, to))

    async def logs(self, kind: Kind, remote_id: str, *, follow: bool, tail: int | None) -> AsyncIterator[str]:
        """What the first process of the container prints."""
        lines = self._api.lines(
            "/pods/{id}/logs",
            remote_id,
            query={"tail": MOST_LINES if tail is None else tail, "follow": follow},
            timeout_seconds=FOLLOW_SECONDS if follow else READ_SECONDS,
            to=f"read the log of {kind} {remote_id}",
        )
        async for line in lines:
            yield line

    def ssh_target(self, observed: Observed, member: int | None = None) -> SshTarget | None:
        host, port, user = (observed.facts.get(name) for name in ("ssh_host", "ssh_port", "ssh_user"))
        if not isinstance(host, str) or not isinstance(port, int):
            return None
        return replace(self._api.ssh_target(host, port, str(user)), key_file=self._options.ssh_key_path)

    async def close(self) -> None:
        await self._api.close()

    async def _rent(self, want: Want, mark: Mark, links: Links, to: str) -> Observed:
        known, has_keys = self._orders.get(mark.token), await self._has("rent_idempotency")
        gpu = NodeAttrs.of(want.attrs).gpu
        if known is not None and not has_keys:
            # The first request may still be under way, and a second one would be another pod.
            doubt = Failure(self._api.provider, to, "it was asked for once already")
            return self._noted(await self._look_for(mark, doubt), gpu)
        order = self._orders[mark.token] = known or await self._order(want, mark, links, to)
        try:
            rented = await self._api.call(
                "POST",
                tables.RENT,
                order.host,
                json=order.body,
                answer=wire.Rented,
                key=bodies.key_of(mark) if has_keys else "",
                gpu=str(gpu or ""),
                to=to,
            )
        except DOUBTS as error:
            with suppress(ProviderError):
                return self._noted(await self._look_for(mark, error.failure), gpu)
            raise
        except Refused:
            if known is None:
                self._templates.put_back(order.template)
            raise
        return self._noted(Observed(Kind.NODE, rented.pod_id, Status.PENDING, mark=mark), gpu)

    def _noted(self, seen: Observed, gpu: GpuRequest | None) -> Observed:
        self._rents[seen.remote_id] = Rent(gpu, self._api.clock.monotonic())
        return seen

    async def _order(self, want: Want, mark: Mark, links: Links, to: str) -> Order:
        """All that can fail before anything is paid for: keys, host, template."""
        asked = NodeAttrs.of(want.attrs)
        bodies.check(asked)
        keys = await self._public_keys(asked, links)
        offer = want.offer or await self._cheapest(asked, to)
        host, _, count = offer.ref.partition("/")
        machine, driver = (str(offer.facts.get(name) or "") for name in ("machine", "driver"))
        template = await self._templates.of(want.name, asked, machine, driver, to)
        lease_hours = self._options.lease_hours
        body = bodies.to_rent(want, mark, gpus=int(count), template=template.id, keys=keys, lease_hours=lease_hours)
        return Order(host, body, template)

    async def _public_keys(self, asked: NodeAttrs, links: Links) -> Sequence[str]:
        own = self._options.ssh_public_key
        if not asked.ssh_keys:
            return [own] if own else []
        stored = await KEYS.list(self._api) if bodies.names_keys(asked, links) else []
        return bodies.texts_of(asked, links, {name: key.public_key for key in stored for name in (key.name, key.id)})

    async def _cheapest(self, asked: NodeAttrs, to: str) -> Offer:
        """What to rent for a node that comes without an offer."""
        if asked.gpu is None:
            raise Unfit("without an offer it needs a `gpu`")
        regions = (asked.region,) if asked.region else ()
        spot = asked.spot is not None
        offers = await self.offers(OfferQuery(asked.gpu.name, asked.gpu.count, regions, spot=spot))
        if not offers:
            raise NoCapacity(Failure(self._api.provider, to, "nobody offers it now", gpu=str(asked.gpu)))
        return min(offers, key=lambda offer: (offer.price_per_hour or 0, offer.ref))

    async def _has(self, feature: str) -> bool:
        async def read() -> Sequence[str]:
            version = await self._api.call("GET", "/version", answer=wire.Version, to="ask what Lium can do")
            return version.features

        return feature in await self._api.remembered("features", read)

    async def _look_for(self, mark: Mark, doubt: Failure) -> Observed:
        """The pod of a rent whose answer was lost. Raises OutcomeUnknown: none is listed yet."""
        for pod in await PODS.list(self._api):
            seen = self._observe(pod)
            if seen.mark and seen.mark.token == mark.token:
                return seen
        raise OutcomeUnknown(doubt)

    async def _find(self, remote_id: str) -> Pod | None:
        """Some servers know no single pods: what they do not find may still be listed."""
        pod = await PODS.find(self._api, remote_id)
        if pod is not None or remote_id in self._deleted:
            return pod
        return next((pod for pod in await PODS.list(self._api) if pod.id == remote_id), None)

    async def _fetch(self, remote_id: str, to: str) -> Pod:
        pod = await self._find(remote_id)
        if pod is None:
            raise NotFound(Failure(self._api.provider, to))
        return pod

    async def _absent(self, remote_id: str) -> Observed | None:
        """What to say of a pod that is nowhere: one of ours may be too young, or may have failed and vanished."""
        rent = self._rents.get(remote_id)
        if rent is None or remote_id in self._deleted:
            return None
        if self._api.clock.monotonic() - rent.since < GRACE_SECONDS:
            return Observed(Kind.NODE, remote_id, Status.PENDING, detail="not listed yet")
        cause = await self._cause(remote_id)
        return Observed(Kind.NODE, remote_id, Status.TERMINATED, detail=cause) if cause else None

    def _observe(self, pod: Pod) -> Observed:
        seen = pod.to_observed(self._api.clock.now())
        rent = self._rents.get(pod.id)
        if seen.status is not Status.RUNNING or rent is None or rent.gpu is None or pod.has(rent.gpu):
            return seen
        told = f"{rent.gpu} was rented, and it has {pod.gpu_count} of {pod.gpu_name}"
        failure = Failure(self._api.provider, f"bring up {seen.kind} {pod.id}", told, gpu=str(rent.gpu))
        return replace(seen, status=Status.FAILED, detail=told, failure=NoCapacity(failure))

    async def _explained(self, seen: Observed) -> Observed:
        """With the cause of a failure: its row vanishes in minutes, and what it was with it."""
        if seen.status is not Status.FAILED or seen.failure or not (cause := await self._cause(seen.remote_id)):
            return seen
        return replace(seen, detail=f"{seen.detail}: {cause}")

    async def _cause(self, remote_id: str) -> str:
        """Why a pod failed, as far as it is told."""
        if remote_id in self._causes:
            return self._causes[remote_id]
        to, events = f"ask why node {remote_id} failed", tuple[wire.Event, ...]
        told = None
        with suppress(ProviderError):
            told = await self._api.find("GET", "/pods/{id}/events", remote_id, answer=events, to=to)
        cause = next((event.cause for event in reversed(told or ()) if event.cause), "")
        if cause:
            self._causes[remote_id] = cause
        return cause
