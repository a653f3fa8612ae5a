"""Hetzner Cloud: https://docs.hetzner.cloud (v1). Servers without GPUs, SSH keys, volumes, networks and firewalls."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from gpuplan.core.capabilities import Capabilities
from gpuplan.core.desired import Kind
from gpuplan.core.errors import Conflict, Failure, InvalidRequest, Refused, Unsupported
from gpuplan.core.kinds import NetworkAttrs, NodeAttrs, SshKeyAttrs, VolumeAttrs
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Observed, Status
from gpuplan.core.offers import Offer, OfferQuery
from gpuplan.core.ports import Account, Links, Listed, SshTarget, Want
from gpuplan.net.api import Api
from gpuplan.net.collection import Collection, Observable, collection_of
from gpuplan.net.exchange import Query
from gpuplan.net.http_provider import http_type
from gpuplan.net.marks import from_labels
from gpuplan.net.profile import Effect
from gpuplan.providers import hetzner_bodies as bodies
from gpuplan.providers import hetzner_wire as wire
from gpuplan.providers.hetzner_tables import (
    CAPABILITIES,
    COLLECTIONS,
    FIREWALLS,
    KEYS,
    NETWORKS,
    PROFILE,
    SERVERS,
    TAKEN,
    VOLUMES,
    Options,
)
from gpuplan.providers.hetzner_wire import Action, Body, Key, Location, PriceList, Server, ServerType, Tariff


class Hetzner:
    """One project."""

    def __init__(self, api: Api, options: Options) -> None:
        self._api = api
        self._options = options

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    async def health(self) -> Account:
        await self._locations("look at the account")
        return Account(self._api.account_id(self._options.project or ""), self._api.endpoint)

    async def offers(self, query: OfferQuery) -> Sequence[Offer]:
        if not query.wants("", 0):
            return ()
        to = "list server types"
        prices = await self._api.find("GET", "/pricing", answer=PriceList, at="pricing", to="look at the prices")
        tariff, now = Tariff(prices or PriceList(), self._options.usd_per_eur), self._api.clock.now()
        types = self._api.pages("/server_types", items="server_types", answer=ServerType, to=to)
        sold = [each async for each in types if each.architecture in self._options.architectures]
        regions = query.regions or self._options.regions
        offers = (offer for each in sold for offer in wire.to_offers(each, tariff, self._api.provider, now))
        return [offer for offer in offers if not regions or offer.region in regions]

    async def list(self, kind: Kind, known: frozenset[str]) -> Listed:
        if kind is Kind.NODE:
            return Listed(await self._observe_servers(await SERVERS.list(self._api)))
        found: list[Observed] = []
        for collection in COLLECTIONS:
            if collection.kind is kind:
                found += [self._observe(collection, item) for item in await collection.list(self._api)]
        return Listed(found)

    async def get(self, kind: Kind, remote_id: str) -> Observed | None:
        collection = collection_of(COLLECTIONS, kind, remote_id)
        item = await collection.find(self._api, remote_id)
        if isinstance(item, Server):
            return (await self._observe_servers([item]))[0]
        return None if item is None else self._observe(collection, item)

    async def create(self, want: Want, mark: Mark, links: Links) -> Observed:
        collection, body = await self._asked(want, mark)
        answer, at, to = collection.payload, collection.one, f"create {want.address}"
        machine = str(body.get("server_type") or "")
        try:
            item = await self._api.call("POST", collection.route, json=body, answer=answer, at=at, gpu=machine, to=to)
        except Conflict as refusal:
            if collection is KEYS and refusal.failure.code == TAKEN:
                raise await self._about_the_key(want, mark, refusal) from refusal
            raise
        return self._observe(collection, item)

    async def delete(self, kind: Kind, remote_id: str, links: Links) -> None:
        await collection_of(COLLECTIONS, kind, remote_id).remove(self._api, remote_id)

    async def update(self, want: Want, remote_id: str, links: Links) -> Observed:
        match want.kind:
            case Kind.VOLUME:
                return await self._resize(want, remote_id)
            case Kind.NETWORK:
                return await self._set_rules(want, remote_id)
        return await self._update_server(want, remote_id)

    async def stop(self, kind: Kind, remote_id: str) -> Observed:
        """Ask the system to shut down. One that was asked before and still runs has its power cut."""
        to, route = f"stop {kind} {remote_id}", "/servers/{id}/actions"
        newest: Query = {"sort": "id:desc", "per_page": 1}
        latest = await self._api.call(
            "GET", route, remote_id, query=newest, answer=tuple[Action, ...], at="actions", to=to
        )
        is_deaf = any(action.is_unanswered_shutdown(self._api.clock.now()) for action in latest)
        seen = await self._switch(remote_id, "poweroff" if is_deaf else "shutdown", to=to)
        return seen if seen.status is Status.STOPPED else replace(seen, status=Status.STOPPING)

    async def start(self, kind: Kind, remote_id: str) -> Observed:
        seen = await self._switch(remote_id, "poweron", to=f"start {kind} {remote_id}")
        return seen if seen.status is Status.RUNNING else replace(seen, status=Status.STARTING)

    def ssh_target(self, observed: Observed, member: int | None = None) -> SshTarget | None:
        """Without a public address by the private one, for those who are inside themselves."""
        address = observed.facts.get("public_ip") or observed.facts.get("private_ip")
        return self._api.ssh_target(address) if isinstance(address, str) else None

    async def close(self) -> None:
        await self._api.close()

    async def _asked(self, want: Want, mark: Mark) -> tuple[Collection[Observable], Body]:
        """Where to make an object, and with which body."""
        with self._said(want):
            match want.kind:
                case Kind.SSH_KEY:
                    return KEYS, bodies.to_key(want, mark)
                case Kind.VOLUME:
                    return VOLUMES, bodies.to_volume(want, mark)
                case Kind.NETWORK if NetworkAttrs.of(want.attrs).rules:
                    return FIREWALLS, bodies.to_firewall(want, mark)
                case Kind.NETWORK:
                    return NETWORKS, bodies.to_network(want, mark, await self._zone(want))
            return SERVERS, bodies.to_server(want, mark)

    async def _about_the_key(self, want: Want, mark: Mark, refusal: Conflict) -> Refused:
        """A name that is taken passes with the next attempt, which has another; a public key does not."""
        to, fingerprint = "look for the public key", bodies.fingerprint(SshKeyAttrs.of(want.attrs).public_key)
        query: Query = {"fingerprint": fingerprint}
        async for key in self._api.pages(KEYS.route, items=KEYS.many, answer=Key, query=query, to=to):
            mine = from_labels(key.labels)
            if bodies.fingerprint(key.public_key) == fingerprint and (mine is None or mine.token != mark.token):
                hint = f"the project has this public key as `{key.name}`: use that name, or import {key.id}"
                return self._refusal(InvalidRequest, want, refusal.failure.message, hint=hint)
        return refusal

    async def _update_server(self, want: Want, remote_id: str) -> Observed:
        asked, to = NodeAttrs.of(want.attrs), f"update {want.address}"
        server = await SERVERS.fetch(self._api, remote_id, to)
        steps = await self._network_steps(server, want, to) if "networks" in want.update else []
        if "labels" in want.update:
            body = bodies.to_label_map(server.labels, asked.labels)
            await self._api.call("PUT", "/servers/{id}", remote_id, json=body, to=to)
        if "instance_type" in want.update and asked.instance_type not in (None, server.server_type.name):
            # A disk that has grown never shrinks: kept as it is, the way back stays open.
            resized: Body = {"server_type": asked.instance_type, "upgrade_disk": False}
            await self._act("/servers/{id}/actions/change_type", remote_id, to, resized)
        for route, id, body in steps:
            await self._act(route, id, to, body)
        seen = self._observe(SERVERS, await SERVERS.fetch(self._api, remote_id, to))
        is_changing = steps and seen.status is Status.RUNNING
        return replace(seen, status=Status.STARTING, detail="its networks change") if is_changing else seen

    async def _network_steps(self, server: Server, want: Want, to: str) -> Sequence[tuple[str, str, Body]]:
        with self._said(want):
            steps = bodies.network_steps(server, NodeAttrs.of(want.attrs).networks)
        leaving = [id for route, id, _ in steps if route.endswith("remove_from_resources")]
        firewalls = await self._api.together(FIREWALLS.fetch(self._api, id, to) for id in leaving)
        fixed = {firewall.id for firewall in firewalls if not firewall.is_applied_to(server.id)}
        return [step for step in steps if step[1] not in fixed or not step[0].endswith("remove_from_resources")]

    async def _resize(self, want: Want, remote_id: str) -> Observed:
        size, to = VolumeAttrs.of(want.attrs).size_gb, f"update {want.address}"
        volume = await VOLUMES.fetch(self._api, remote_id, to)
        if size is None or volume.size >= size:
            return self._observe(VOLUMES, volume)
        await self._act("/volumes/{id}/actions/resize", remote_id, to, {"size": size})
        seen = self._observe(VOLUMES, await VOLUMES.fetch(self._api, remote_id, to))
        return seen if seen.attrs["size_gb"] == size else replace(seen, status=Status.STARTING, detail="it grows")

    async def _set_rules(self, want: Want, remote_id: str) -> Observed:
        to = f"set the rules of {want.address}"
        collection = collection_of(COLLECTIONS, want.kind, remote_id)
        if collection is not FIREWALLS:
            await collection.fetch(self._api, remote_id, to)
            message = f"{remote_id} is a private network and has no rules: declare a network of its own for them"
            raise self._refusal(Unsupported, want, message)
        with self._said(want):
            rules = bodies.to_rules(want)
        await self._act("/firewalls/{id}/actions/set_rules", FIREWALLS.own_id(remote_id), to, rules)
        return self._observe(FIREWALLS, await FIREWALLS.fetch(self._api, remote_id, to))

    async def _switch(self, remote_id: str, action: str, *, to: str) -> Observed:
        await self._act(f"/servers/{{id}}/actions/{action}", remote_id, to, None)
        return self._observe(SERVERS, await SERVERS.fetch(self._api, remote_id, to))

    async def _act(self, route: str, id: str, to: str, body: Body | None) -> None:
        """Begin an action; the watch sees when it is done."""
        if body is None:
            await self._api.call("POST", route, id, effect=Effect.REPEATABLE, to=to)
        else:
            await self._api.call("POST", route, id, json=body, effect=Effect.REPEATABLE, to=to)

    async def _observe_servers(self, servers: Sequence[Server]) -> Sequence[Observed]:
        """What is shown. A server whose creation failed looks like one that is being made for ever: of those that take
        too long one call asks for all."""
        now = self._api.clock.now()
        failed = await self._failed_creations() if any(server.is_late(now) for server in servers) else {}
        return [wire.with_failure(server, now, failed.get(server.id), self._api.provider) for server in servers]

    async def _failed_creations(self) -> Mapping[str, Action]:
        newest: Query = {"status": "error", "sort": "id:desc", "per_page": 50}
        answer, to = tuple[Action, ...], "look for failed creations"
        actions = await self._api.call("GET", "/servers/actions", query=newest, answer=answer, at="actions", to=to)
        return wire.failed_creations(actions)

    def _observe(self, collection: Collection[Observable], item: Observable) -> Observed:
        return collection.observe(item, self._api.clock.now())

    async def _zone(self, want: Want) -> str:
        """The network zone of a location; zones are taken as they are."""
        region = NetworkAttrs.of(want.attrs).region
        if region is None:
            return bodies.DEFAULT_ZONE
        locations = await self._api.remembered("locations", lambda: self._locations("look for the network zone"))
        return next((place.network_zone for place in locations if place.name == region), region)

    async def _locations(self, to: str) -> Sequence[Location]:
        pages = self._api.pages("/locations", items="locations", answer=Location, to=to)
        return [place async for place in pages]

    @contextmanager
    def _said(self, want: Want) -> Iterator[None]:
        """What cannot be said in Hetzner's words is refused, and nothing is sent."""
        try:
            yield
        except ValueError as exc:
            raise self._refusal(InvalidRequest, want, str(exc)) from exc

    def _refusal(self, error: type[Refused], want: Want, message: str, *, hint: str | None = None) -> Refused:
        verb = "update" if want.update else "create"
        return error(Failure(self._api.provider, f"{verb} {want.address}", message, hint=hint))


PROVIDER = http_type(
    name="hetzner",
    title="Hetzner Cloud",
    adapter=Hetzner,
    options=Options,
    capabilities=CAPABILITIES,
    profile=PROFILE,
    node_options=bodies.NodeOptions,
)
