"""Lambda Cloud: https://docs.lambda.ai/api/cloud (1.10). Instances, SSH keys, filesystems, firewall rulesets."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from gpuplan.core.capabilities import Capabilities
from gpuplan.core.desired import Kind
from gpuplan.core.errors import Failure, InvalidRequest, Unsupported
from gpuplan.core.kinds import NodeAttrs
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Observed, Status
from gpuplan.core.offers import Offer, OfferQuery
from gpuplan.core.ports import Account, Links, Listed, SshTarget, Want
from gpuplan.core.values import Ref
from gpuplan.net.api import Api
from gpuplan.net.collection import Observable, collection_of
from gpuplan.net.http_provider import http_type
from gpuplan.net.profile import Effect
from gpuplan.providers import lambdalabs_wire as wire
from gpuplan.providers.lambdalabs_tables import (
    CAPABILITIES,
    COLLECTIONS,
    GRACE_SECONDS,
    KEYS,
    LAUNCH,
    MAKERS,
    PROFILE,
    RULESETS,
    TERMINATE,
    Options,
)
from gpuplan.providers.lambdalabs_wire import Body, Instance, Key, Ruleset, Sale


class LambdaLabs:
    """One account."""

    def __init__(self, api: Api, options: Options) -> None:
        self._api = api
        self._options = options
        # Lambda does not tell the age of an instance: when those were launched that have not been active yet.
        self._launched: dict[str, float] = {}

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    async def health(self) -> Account:
        await self._api.call("GET", KEYS.route, answer=list[Key], to="look at the account")
        return Account(self._api.account_id(self._options.account or ""), self._api.endpoint)

    async def offers(self, query: OfferQuery) -> Sequence[Offer]:
        to = "list instance types"
        sales = await self._api.call("GET", "/instance-types", answer=dict[str, Sale], to=to)
        now, asked = self._api.clock.now(), query.regions or self._options.regions
        offers = (offer for sale in sales.values() for offer in wire.to_offers(sale, self._api.provider, now))
        return [
            offer
            for offer in offers
            if query.wants(offer.gpu, offer.gpu_count) and (not asked or offer.region in ("", *asked))
        ]

    async def list(self, kind: Kind, known: frozenset[str]) -> Listed:
        (collection,) = (each for each in COLLECTIONS if each.kind is kind)
        return Listed([self._observe(item) for item in await collection.list(self._api)])

    async def get(self, kind: Kind, remote_id: str) -> Observed | None:
        item = await collection_of(COLLECTIONS, kind, remote_id).find(self._api, remote_id)
        return None if item is None else self._observe(item)

    async def create(self, want: Want, mark: Mark, links: Links) -> Observed:
        if want.kind is Kind.NODE:
            return await self._launch(want, mark, links)
        to = f"create {want.address}"
        collection, route, to_body = MAKERS[want.kind]
        body = self._worded(to, partial(to_body, want, mark))
        return self._observe(await self._api.call("POST", route, json=body, answer=collection.payload, to=to))

    async def delete(self, kind: Kind, remote_id: str, links: Links) -> None:
        if kind is not Kind.NODE:
            return await collection_of(COLLECTIONS, kind, remote_id).remove(self._api, remote_id)
        body: Body = {"instance_ids": [remote_id]}
        return await self._api.remove(TERMINATE, method="POST", json=body, to=f"delete {kind} {remote_id}")

    async def update(self, want: Want, remote_id: str, links: Links) -> Observed:
        """The rules of a ruleset are all that can be changed."""
        to = f"update {want.address}"
        if want.kind is not Kind.NETWORK:
            raise Unsupported(Failure(self._api.provider, to))
        body = self._worded(to, partial(wire.to_rules, want))
        change = Effect.REPEATABLE
        item = await self._api.call("PATCH", RULESETS.item, remote_id, json=body, answer=Ruleset, effect=change, to=to)
        return self._observe(item)

    def ssh_target(self, observed: Observed, member: int | None = None) -> SshTarget | None:
        address = observed.facts.get("public_ip")
        return self._api.ssh_target(address, user="ubuntu") if isinstance(address, str) else None

    async def close(self) -> None:
        await self._api.close()

    async def _launch(self, want: Want, mark: Mark, links: Links) -> Observed:
        asked, to = NodeAttrs.of(want.attrs), f"create {want.address}"
        type = want.offer.ref if want.offer else asked.instance_type
        region = want.offer.region if want.offer else asked.region
        if type is None or region is None:
            raise self._refusal(to, "without an offer it needs `instance_type` and `region`")
        if not asked.ssh_keys:
            raise self._refusal(to, "it needs at least one of `ssh_keys`")
        key, *others = asked.ssh_keys
        stored = await self._key(key, links, to)
        further = [await self._key_text(other, links, to) for other in others]
        body = self._worded(to, partial(wire.to_launch, want, mark, type, region, stored.name, further))
        gpu = str(asked.gpu or type)
        id = await self._api.call("POST", LAUNCH, json=body, answer=str, at="instance_ids.0", gpu=gpu, to=to)
        self._launched[id] = self._api.clock.monotonic()
        return Observed(Kind.NODE, id, Status.PENDING, mark=mark)

    async def _key(self, reference: Ref | str, links: Links, to: str) -> Key:
        """A key that the account has, or gets: launches know keys by name alone."""
        record = links.get(reference.address) if isinstance(reference, Ref) else None
        if record is not None and isinstance(name := record.facts.get("name"), str):
            return Key(id=record.remote_id, name=name, public_key=str(record.attrs.get("public_key") or ""))
        text = wire.id_of(reference)
        return await self._api.remembered(f"key {wire.without_comment(text)}", partial(self._find_or_add_key, text, to))

    async def _key_text(self, reference: Ref | str, links: Links, to: str) -> str:
        is_text = isinstance(reference, str) and wire.is_public_key(reference)
        return wire.id_of(reference) if is_text else (await self._key(reference, links, to)).public_key

    async def _find_or_add_key(self, text: str, to: str) -> Key:
        for key in await KEYS.list(self._api):
            if key.is_meant_by(text):
                return key
        if not wire.is_public_key(text):
            raise self._refusal(to, f"the account has no SSH key `{text}`")
        # The same name every time, so that people see whose it is and nothing piles up.
        name = f"gpuplan-{hashlib.sha256(wire.without_comment(text).encode()).hexdigest()[:12]}"
        body: Body = {"name": name, "public_key": text.strip()}
        return await self._api.call("POST", KEYS.route, json=body, answer=Key, to=f"add the SSH key {name} to {to}")

    def _observe(self, item: Observable) -> Observed:
        seen = item.to_observed(self._api.clock.now())
        launched = self._launched.get(seen.remote_id) if isinstance(item, Instance) else None
        if launched is None:
            return seen
        is_young = self._api.clock.monotonic() - launched < GRACE_SECONDS
        if seen.status is Status.FAILED and is_young:
            return replace(seen, status=Status.STARTING)
        if seen.status is Status.RUNNING:
            del self._launched[seen.remote_id]
        return seen

    def _worded(self, to: str, body: Callable[[], Body]) -> Body:
        """A body in Lambda's words; what has none is refused before anything is sent."""
        try:
            return body()
        except ValueError as exc:
            raise self._refusal(to, str(exc)) from exc

    def _refusal(self, to: str, message: str) -> InvalidRequest:
        return InvalidRequest(Failure(self._api.provider, to, message))


PROVIDER = http_type(
    name="lambda",
    title="Lambda Cloud",
    adapter=LambdaLabs,
    options=Options,
    capabilities=CAPABILITIES,
    profile=PROFILE,
)
