"""Vast.ai: https://docs.vast.ai/api-reference. Containers on machines of strangers, SSH keys, volumes."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from gpuplan.core.capabilities import Capabilities
from gpuplan.core.desired import Kind
from gpuplan.core.errors import Failure, InvalidRequest, NoCapacity, NotFound
from gpuplan.core.gpus import gpu_satisfies
from gpuplan.core.kinds import NodeAttrs, VolumeAttrs
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Observed, Status
from gpuplan.core.offers import Offer, OfferQuery
from gpuplan.core.ports import Account, Links, Listed, SshTarget, Want
from gpuplan.net.api import Api
from gpuplan.net.http_provider import http_type
from gpuplan.net.profile import Effect
from gpuplan.providers import vast_bodies as bodies
from gpuplan.providers import vast_tables as tables
from gpuplan.providers import vast_wire as wire
from gpuplan.providers.vast_bodies import Terms, Unfit
from gpuplan.providers.vast_tables import CAPABILITIES, INSTANCE, INSTANCES, KEYS, PROFILE, VOLUMES, Options
from gpuplan.providers.vast_wire import Body, Instance, Key, Told

MOST_LINES = 1000


class Vast:
    """One account."""

    def __init__(self, api: Api, options: Options) -> None:
        self._api = api
        self._options = options
        self._terms = Terms.model_validate(options.model_dump())
        # Vast shows neither a new instance nor a new start at once: only who made it knows.
        self._unseen: dict[str, float] = {}
        self._started: dict[str, float] = {}

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    async def health(self) -> Account:
        to = "look at the account"
        user = await self._api.call("GET", "/api/v0/users/current", answer=wire.User, to=to)
        return Account(self._api.account_id(user.id), self._api.endpoint)

    async def offers(self, query: OfferQuery) -> Sequence[Offer]:
        if query.machines and not query.gpus:
            return []
        wanted = query.gpus or self._options.gpus
        names = [name for gpu in wanted for name in wire.names_of(gpu, await self._names())]
        if wanted and not names:
            return []
        asked = replace(query, regions=query.regions or self._options.regions)
        kinds = (False, True) if query.spot is None else (query.spot,)
        found = await self._api.together(self._search(asked, names, is_bid=is_bid) for is_bid in kinds)
        return [offer for offers in found for offer in offers]

    async def list(self, kind: Kind, known: frozenset[str]) -> Listed:
        now = self._api.clock.now()
        match kind:
            case Kind.SSH_KEY:
                return Listed([key.to_observed(now) for key in await self._keys()])
            case Kind.VOLUME:
                return Listed([volume.to_observed(now) for volume in await VOLUMES.list(self._api)])
        pages = self._api.pages(
            tables.LIST, items="instances", answer=Instance, paging=tables.INSTANCE_PAGES, to="list nodes"
        )
        return Listed([self._observe(instance) async for instance in pages])

    async def get(self, kind: Kind, remote_id: str) -> Observed | None:
        seen = await self._look(kind, remote_id)
        if seen is None and self._is_within(self._unseen, remote_id, tables.GRACE_SECONDS):
            return Observed(kind, remote_id, Status.PENDING, detail="not shown yet")
        self._unseen.pop(remote_id, None)
        return seen

    async def create(self, want: Want, mark: Mark, links: Links) -> Observed:
        to = f"create {want.address}"
        try:
            match want.kind:
                case Kind.SSH_KEY:
                    body = bodies.to_key(want, mark)
                    key = await self._api.call("POST", tables.SSH, json=body, answer=Key, at="key", to=to)
                    return key.to_observed(self._api.clock.now())
                case Kind.VOLUME:
                    return await self._create_volume(want, mark, to)
            return await self._create_node(want, mark, links, to)
        except Unfit as exc:
            raise InvalidRequest(Failure(self._api.provider, to, str(exc))) from exc

    async def delete(self, kind: Kind, remote_id: str, links: Links) -> None:
        match kind:
            case Kind.SSH_KEY:
                await KEYS.remove(self._api, remote_id)
            case Kind.VOLUME:
                to = f"delete {kind} {remote_id}"
                await self._api.remove(tables.VOLUME, query={"id": remote_id}, to=to)
            case _:
                await INSTANCES.remove(self._api, remote_id)
        self._unseen.pop(remote_id, None)

    async def update(self, want: Want, remote_id: str, links: Links) -> Observed:
        to = f"update {want.address}"
        instance = await self._fetch(remote_id, to)
        try:
            label = bodies.relabelled(instance.label, NodeAttrs.of(want.attrs).labels)
        except Unfit as exc:
            raise InvalidRequest(Failure(self._api.provider, to, str(exc))) from exc
        await self._change(remote_id, {"label": label}, to)
        return self._observe(await self._fetch(remote_id, to))

    async def stop(self, kind: Kind, remote_id: str) -> Observed:
        to = f"stop {kind} {remote_id}"
        self._started.pop(remote_id, None)
        await self._change(remote_id, {"state": "stopped"}, to)
        return self._observe(await self._fetch(remote_id, to))

    async def start(self, kind: Kind, remote_id: str) -> Observed:
        to = f"start {kind} {remote_id}"
        told = await self._change(remote_id, {"state": "running"}, to)
        if wire.is_queued(told):
            # It would start, and be paid for, on the day when others have gone.
            await self._change(remote_id, {"state": "stopped"}, to)
            raise NoCapacity(Failure(self._api.provider, to, told.msg))
        self._started[remote_id] = self._api.clock.monotonic()
        return self._observe(await self._fetch(remote_id, to))

    async def logs(self, kind: Kind, remote_id: str, *, follow: bool, tail: int | None) -> AsyncIterator[str]:
        """What there is by now: Vast has no stream to follow."""
        to, count = f"read the log of {kind} {remote_id}", MOST_LINES if tail is None else tail
        body: Body = {"tail": str(count)}
        link = await self._api.call(
            "PUT", tables.LOGS, remote_id, json=body, answer=wire.LogLink, effect=Effect.NONE, to=to
        )
        text = await self._api.text(link.result_url, to=to)
        for line in text.splitlines()[-count:] if count else ():
            yield line

    def ssh_target(self, observed: Observed, member: int | None = None) -> SshTarget | None:
        host, port = observed.facts.get("ssh_host"), observed.facts.get("ssh_port")
        return self._api.ssh_target(host, port) if isinstance(host, str) and isinstance(port, int) else None

    async def close(self) -> None:
        await self._api.close()

    async def _create_node(self, want: Want, mark: Mark, links: Links, to: str) -> Observed:
        asked = NodeAttrs.of(want.attrs)
        offer, gpu = want.offer or await self._cheapest(asked, to), str(asked.gpu or "")
        if machines := bodies.machines_of(asked, links) - {offer.zone}:
            message = f"its volume is on machine {', '.join(sorted(machines))}, the offer is of machine {offer.zone}"
            raise NoCapacity(Failure(self._api.provider, to, message, gpu=gpu))
        login = self._options.image_login
        body = bodies.to_launch(
            want,
            mark,
            offer,
            links,
            disk_gb=self._options.disk_gb,
            login=login.get_secret_value() if login else None,
        )
        made = await self._api.call(
            "PUT", tables.CREATE, offer.ref, json=body, answer=wire.Created, effect=Effect.ONCE, gpu=gpu, to=to
        )
        return self._begun(Kind.NODE, made.new_contract, mark)

    async def _create_volume(self, want: Want, mark: Mark, to: str) -> Observed:
        asked = VolumeAttrs.of(want.attrs)
        if not (asked.zone or "").isdigit():
            raise Unfit(f"`zone` is the number of a machine, not `{asked.zone}`")
        body: Body = {"machine_id": {"eq": int(asked.zone or 0)}, "disk_space": {"gte": asked.size_gb}, "limit": 64}
        asks = await self._api.call(
            "POST",
            tables.VOLUME_SEARCH,
            json=body,
            answer=tuple[wire.VolumeAsk, ...],
            at="offers",
            effect=Effect.NONE,
            to=to,
        )
        fitting = [ask for ask in asks if ask.machine_id == int(asked.zone or 0)]
        if not fitting:
            message = f"machine {asked.zone} has no {asked.size_gb} GB to rent"
            raise NoCapacity(Failure(self._api.provider, to, message))
        order: Body = {"id": fitting[0].id, "size": asked.size_gb, "name": bodies.to_volume_name(want, mark)}
        made = await self._api.call("PUT", tables.VOLUME, json=order, answer=wire.NewVolume, effect=Effect.ONCE, to=to)
        return self._begun(Kind.VOLUME, made.volume_name.removeprefix("V."), mark)

    def _begun(self, kind: Kind, remote_id: str, mark: Mark) -> Observed:
        self._unseen[remote_id] = self._api.clock.monotonic()
        return Observed(kind, remote_id, Status.PENDING, mark=mark)

    async def _cheapest(self, asked: NodeAttrs, to: str) -> Offer:
        """What to rent for a node that comes without an offer."""
        if asked.gpu is None:
            raise Unfit("without an offer it needs a `gpu`")
        regions = (asked.region,) if asked.region else ()
        query = OfferQuery(asked.gpu.name, asked.gpu.count, regions, spot=asked.spot is not None, disk_gb=asked.disk_gb)
        offers = await self.offers(query)
        fitting = [
            offer
            for offer in offers
            if gpu_satisfies(offer.gpu, asked.gpu.name)
            and asked.zone in (None, offer.zone)
            and (asked.disk_gb or 0) <= (offer.disk_gb or 0)
        ]
        if not fitting:
            raise NoCapacity(Failure(self._api.provider, to, "nobody offers it now", gpu=str(asked.gpu)))
        return min(fitting, key=lambda offer: (offer.price_per_hour or 0, offer.ref))

    async def _search(self, query: OfferQuery, names: Sequence[str], *, is_bid: bool) -> Sequence[Offer]:
        body = bodies.to_search(query, names, self._terms, is_bid=is_bid)
        pages = self._api.pages(
            tables.SEARCH,
            items="offers",
            answer=wire.Ask,
            method="POST",
            paging=tables.SEARCH_PAGES,
            json=body,
            to="search offers",
        )
        provider, now = self._api.provider, self._api.clock.now()
        found = [ask.to_offer(provider, now, is_bid=is_bid) async for ask in pages]
        # What is on the border between two pages comes twice.
        offers = {offer.ref: offer for offer in found if offer is not None}
        return [offer for offer in offers.values() if query.wants(offer.gpu, offer.gpu_count)]

    async def _names(self) -> Sequence[str]:
        async def read() -> Sequence[str]:
            to = "list GPU names"
            return await self._api.call("GET", tables.NAMES_ROUTE, answer=tuple[str, ...], at="gpu_names", to=to)

        return await self._api.remembered("gpu names", read)

    async def _keys(self) -> Sequence[Key]:
        """An account without keys is told as one that is not found."""
        try:
            return await KEYS.list(self._api)
        except NotFound:
            return ()

    async def _fetch(self, remote_id: str, to: str) -> Instance:
        found = await INSTANCES.find(self._api, remote_id)
        if found is None:
            raise NotFound(Failure(self._api.provider, to))
        return found

    async def _change(self, remote_id: str, body: Body, to: str) -> Told:
        return await self._api.call("PUT", INSTANCE, remote_id, json=body, answer=Told, effect=Effect.REPEATABLE, to=to)

    async def _look(self, kind: Kind, remote_id: str) -> Observed | None:
        now = self._api.clock.now()
        match kind:
            case Kind.SSH_KEY:
                return next((key.to_observed(now) for key in await self._keys() if key.id == remote_id), None)
            case Kind.VOLUME:
                volume = await VOLUMES.find(self._api, remote_id)
                return None if volume is None else volume.to_observed(now)
        instance = await INSTANCES.find(self._api, remote_id)
        return None if instance is None else self._observe(instance)

    def _observe(self, instance: Instance) -> Observed:
        seen = instance.to_observed(self._api.clock.now())
        is_fresh = self._is_within(self._started, instance.id, tables.RESTART_SECONDS)
        if seen.status is Status.RUNNING:
            self._started.pop(instance.id, None)
        if is_fresh and instance.actual_status in ("stopped", "exited"):
            return replace(seen, status=Status.PENDING, detail="was started, and has not come up yet")
        return seen

    def _is_within(self, since: dict[str, float], remote_id: str, seconds: float) -> bool:
        return remote_id in since and self._api.clock.monotonic() - since[remote_id] < seconds


PROVIDER = http_type(
    name="vast",
    title="Vast.ai",
    adapter=Vast,
    options=Options,
    capabilities=CAPABILITIES,
    profile=PROFILE,
    node_options=bodies.NodeOptions,
)
