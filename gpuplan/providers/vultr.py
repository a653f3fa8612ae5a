"""Vultr: https://www.vultr.com/api/ (v2). Instances and bare metal, SSH keys, block storage, VPCs and firewalls."""

from collections.abc import Sequence
from dataclasses import replace

from gpuplan.core.capabilities import Capabilities
from gpuplan.core.desired import Kind
from gpuplan.core.errors import Conflict, Failure, InvalidRequest, NoCapacity, QuotaExceeded, Refused, Unsupported
from gpuplan.core.kinds import NetworkAttrs, NodeAttrs, SshKeyAttrs, VolumeAttrs
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Observed, Status
from gpuplan.core.offers import Offer, OfferQuery
from gpuplan.core.ports import Account, Links, Listed, SshTarget, Want
from gpuplan.net.api import Api
from gpuplan.net.collection import Collection, Observable, collection_of
from gpuplan.net.http_provider import http_type
from gpuplan.net.marks import to_text
from gpuplan.net.profile import Effect
from gpuplan.providers import vultr_bodies as bodies
from gpuplan.providers import vultr_wire as wire
from gpuplan.providers.vultr_tables import (
    BARE_METALS,
    BLOCKS,
    CAPABILITIES,
    COLLECTIONS,
    FIREWALLS,
    INSTANCES,
    KEYS,
    PROFILE,
    QUOTA_LAG_SECONDS,
    VPCS,
    Options,
)
from gpuplan.providers.vultr_wire import Block, Body, Firewall, FirewallRule, Plan, System


class Vultr:
    """One account."""

    def __init__(self, api: Api, options: Options) -> None:
        self._api = api
        self._options = options
        # Vultr has no word for machines on their way out or off: only who sent them there knows.
        self._deleted: dict[str, float] = {}
        self._halting: set[str] = set()

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    async def health(self) -> Account:
        told = await self._api.call(
            "GET", "/account", answer=wire.AccountAnswer, at="account", to="look at the account"
        )
        return Account(self._api.account_id(told.email), self._api.endpoint)

    async def offers(self, query: OfferQuery) -> Sequence[Offer]:
        routes = {"/plans": "plans", "/plans-metal": "plans_metal"}
        listings = [self._api.pages(route, items=at, answer=Plan, to="list plans") for route, at in routes.items()]
        plans = [plan for listing in listings async for plan in listing if query.wants(*wire.gpu_of(plan))]
        asked = query.regions or self._options.regions
        regions = sorted({region for plan in plans for region in plan.locations if not asked or region in asked})
        stock = await self._api.together(map(self._available, regions))
        available, now = dict(zip(regions, stock, strict=True)), self._api.clock.now()
        return [offer for plan in plans for offer in wire.to_offers(plan, available, self._api.provider, now)]

    async def list(self, kind: Kind, known: frozenset[str]) -> Listed:
        found: list[Observed] = []
        for collection in COLLECTIONS:
            if collection.kind is kind:
                found += [await self._observe(collection, item) for item in await collection.list(self._api)]
        return Listed(found)

    async def get(self, kind: Kind, remote_id: str) -> Observed | None:
        collection = collection_of(COLLECTIONS, kind, remote_id)
        item = await collection.find(self._api, remote_id)
        return None if item is None else await self._observe(collection, item)

    async def create(self, want: Want, mark: Mark, links: Links) -> Observed:
        match want.kind:
            case Kind.SSH_KEY:
                body: Body = {"ssh_key": SshKeyAttrs.of(want.attrs).public_key, "name": to_text(want.name, mark)}
                return await self._post(KEYS, body, want)
            case Kind.VOLUME:
                return await self._post(BLOCKS, bodies.to_block(want, mark), want)
            case Kind.NETWORK:
                return await self._create_network(want, mark)
        return await self._create_node(want, mark)

    async def delete(self, kind: Kind, remote_id: str, links: Links) -> None:
        await collection_of(COLLECTIONS, kind, remote_id).remove(self._api, remote_id)
        if kind is Kind.NODE:
            self._deleted[remote_id] = self._api.clock.monotonic()

    async def advance(self, want: Want, mark: Mark, observed: Observed, links: Links) -> Observed:
        """The second step of what takes two: rules of a firewall group, volumes of a node that runs by now."""
        if observed.detail != wire.WAITING:
            return observed
        if want.kind is Kind.NETWORK:
            return await self._set_rules(want, observed.remote_id)
        return await self._attach_volumes(want, observed.remote_id)

    async def update(self, want: Want, remote_id: str, links: Links) -> Observed:
        match want.kind:
            case Kind.VOLUME:
                body: Body = {"size_gb": VolumeAttrs.of(want.attrs).size_gb}
                return await self._change("PATCH", BLOCKS, remote_id, body, want)
            case Kind.NETWORK:
                return await self._set_rules(want, remote_id)
        return await self._update_node(want, remote_id)

    async def stop(self, kind: Kind, remote_id: str) -> Observed:
        self._halting.add(remote_id)
        return await self._switch(remote_id, "halt", to=f"stop {kind} {remote_id}")

    async def start(self, kind: Kind, remote_id: str) -> Observed:
        self._halting.discard(remote_id)
        return await self._switch(remote_id, "start", to=f"start {kind} {remote_id}")

    def ssh_target(self, observed: Observed, member: int | None = None) -> SshTarget | None:
        address = observed.facts.get("public_ip")
        return self._api.ssh_target(address) if isinstance(address, str) else None

    async def close(self) -> None:
        await self._api.close()

    async def _create_node(self, want: Want, mark: Mark) -> Observed:
        asked = NodeAttrs.of(want.attrs)
        plan = want.offer.ref if want.offer else asked.instance_type
        region = want.offer.region if want.offer else asked.region
        if plan is None or region is None:
            raise self._refusal(InvalidRequest, want, "without an offer it needs `instance_type` and `region`")
        blocks = await self._blocks(asked, f"create {want.address}")
        body = bodies.to_launch(want, mark, plan, region, blocks, await self._systems(asked.image))
        try:
            collection = BARE_METALS if wire.is_metal(plan) else INSTANCES
            return await self._post(collection, body, want, gpu=str(asked.gpu or ""))
        except InvalidRequest as refusal:
            # The texts are not documented: whether the plan can still be deployed there tells more.
            if "add failed" in refusal.failure.message and plan not in await self._available(region):
                raise NoCapacity(refusal.failure) from refusal
            raise
        except QuotaExceeded as refusal:
            now = self._api.clock.monotonic()
            if any(now - deleted < QUOTA_LAG_SECONDS for deleted in self._deleted.values()):
                raise Conflict(refusal.failure) from refusal
            raise

    async def _create_network(self, want: Want, mark: Mark) -> Observed:
        asked = NetworkAttrs.of(want.attrs)
        if asked.rules:
            return await self._post(FIREWALLS, {"description": f"{to_text(want.name, mark)} {wire.WAITS}"}, want)
        if asked.region is None:
            raise self._refusal(InvalidRequest, want, "a VPC needs a `region`, a firewall group needs `rules`")
        return await self._post(VPCS, bodies.to_vpc(want, mark, asked.cidr, asked.region), want)

    async def _update_node(self, want: Want, remote_id: str) -> Observed:
        asked, collection = NodeAttrs.of(want.attrs), collection_of(COLLECTIONS, want.kind, remote_id)
        machine = await collection.fetch(self._api, remote_id, f"update {want.address}")
        assert isinstance(machine, wire.Machine)
        body: Body = {}
        if "labels" in want.update:
            body |= bodies.to_tag_list(machine.tags, asked.labels)
        if "networks" in want.update:
            if collection is BARE_METALS:
                raise self._refusal(Unsupported, want, "bare metal keeps its networks")
            networks = bodies.ids_of(asked.networks)
            surplus = sorted({vpc.id for vpc in machine.vpcs}.difference(networks))
            body |= {**bodies.to_networks(networks), "detach_vpc": surplus}
        return await self._change("PATCH", collection, remote_id, body, want)

    async def _attach_volumes(self, want: Want, remote_id: str) -> Observed:
        to, route = f"attach the volumes of {want.address}", "/blocks/{id}/attach"
        for block in await self._blocks(NodeAttrs.of(want.attrs), to):
            if block.attached_to_instance != remote_id:
                body: Body = {"instance_id": remote_id, "live": True}
                await self._api.call("POST", route, block.id, json=body, effect=Effect.REPEATABLE, to=to)
        machine = await INSTANCES.fetch(self._api, remote_id, to)
        done: Body = {"tags": [tag for tag in machine.tags if tag != wire.WAITS]}
        return await self._change("PATCH", INSTANCES, remote_id, done, want)

    async def _set_rules(self, want: Want, remote_id: str) -> Observed:
        """Make the rules of a group those that are wanted, and say so on the group."""
        to, route, id = f"set the rules of {want.address}", "/firewalls/{id}/rules", FIREWALLS.own_id(remote_id)
        group = await collection_of(COLLECTIONS, want.kind, remote_id).fetch(self._api, remote_id, to)
        if not isinstance(group, Firewall):
            raise self._refusal(Unsupported, want, "a VPC has no rules: declare a network of its own for them")
        wanted = [wire.to_rule(rule) for rule in NetworkAttrs.of(want.attrs).rules]
        missing, surplus = bodies.missing_rules(wanted, await self._rules(id))
        for body in missing:
            await self._api.call("POST", route, id, json=body, to=to)
        for rule in surplus:
            await self._api.remove(f"{route}/{{rule}}", id, str(rule.id), to=to)
        done: Body = {"description": group.description.replace(f" {wire.WAITS}", "")}
        return await self._change("PUT", FIREWALLS, remote_id, done, want)

    async def _post(self, collection: Collection[Observable], body: Body, want: Want, *, gpu: str = "") -> Observed:
        answer, at, to = collection.payload, collection.one, f"create {want.address}"
        item = await self._api.call("POST", collection.route, json=body, answer=answer, at=at, gpu=gpu, to=to)
        return collection.observe(item, self._api.clock.now())

    async def _change(
        self, method: str, collection: Collection[Observable], remote_id: str, body: Body, want: Want
    ) -> Observed:
        """Set fields of an object, and look at it: most changes are answered without a body."""
        to, route = f"update {want.address}", f"{collection.route}/{{id}}"
        id = collection.own_id(remote_id)
        await self._api.call(method, route, id, json=body, effect=Effect.REPEATABLE, to=to)
        return await self._observe(collection, await collection.fetch(self._api, remote_id, to))

    async def _switch(self, remote_id: str, action: str, *, to: str) -> Observed:
        collection = collection_of(COLLECTIONS, Kind.NODE, remote_id)
        route, id = f"{collection.route}/{{id}}/{action}", collection.own_id(remote_id)
        await self._api.call("POST", route, id, effect=Effect.REPEATABLE, to=to)
        return await self._observe(collection, await collection.fetch(self._api, remote_id, to))

    async def _observe(self, collection: Collection[Observable], item: Observable) -> Observed:
        """What is shown, completed by what takes a call of its own and by what only this run knows."""
        if isinstance(item, Firewall):
            item = item.model_copy(update={"rules": await self._rules(item.id)})
        seen = collection.observe(item, self._api.clock.now())
        if seen.status is Status.STOPPED:
            self._halting.discard(seen.remote_id)
        if seen.remote_id in self._deleted:
            return replace(seen, status=Status.TERMINATING)
        if seen.remote_id in self._halting and seen.status is Status.RUNNING:
            return replace(seen, status=Status.STOPPING)
        return seen

    async def _rules(self, group: str) -> tuple[FirewallRule, ...]:
        route, to = "/firewalls/{id}/rules", "list firewall rules"
        pages = self._api.pages(route, group, items="firewall_rules", answer=FirewallRule, to=to)
        return tuple([rule async for rule in pages])

    async def _blocks(self, asked: NodeAttrs, to: str) -> Sequence[Block]:
        ids = bodies.ids_of([mount.volume for mount in asked.volumes])
        return await self._api.together(BLOCKS.fetch(self._api, id, to) for id in ids)

    async def _available(self, region: str) -> frozenset[str]:
        """Plans that can be deployed there now."""
        route, at, to = "/regions/{id}/availability", "available_plans", f"look what is available in {region}"
        return await self._api.call("GET", route, region, answer=frozenset[str], at=at, to=to)

    async def _systems(self, image: str | None) -> Sequence[System]:
        """Operating systems, where the image may be the name of one."""
        if image is None or image.isdigit() or ":" in image:
            return ()

        async def read() -> tuple[System, ...]:
            pages = self._api.pages("/os", items="os", answer=System, to="list operating systems")
            return tuple([system async for system in pages])

        return await self._api.remembered("systems", read)

    def _refusal(self, error: type[Refused], want: Want, message: str) -> Refused:
        return error(Failure(self._api.provider, f"create {want.address}", message))


PROVIDER = http_type(
    name="vultr",
    title="Vultr",
    adapter=Vultr,
    options=Options,
    capabilities=CAPABILITIES,
    profile=PROFILE,
    node_options=bodies.NodeOptions,
)
