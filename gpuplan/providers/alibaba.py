"""Alibaba Cloud ECS: https://www.alibabacloud.com/help/ecs (API 2014-05-26). Instances of one region, and key pairs.

An RPC interface: a route is the name of an action, parameters are a form, and only the code of an error tells anything.
"""

import base64
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import TypeVar

from gpuplan.core.capabilities import Capabilities
from gpuplan.core.desired import Kind
from gpuplan.core.errors import Conflict, Failure, InvalidRequest, NotFound, ProviderError, Refused
from gpuplan.core.kinds import NodeAttrs
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Observed, Status
from gpuplan.core.offers import Offer, OfferQuery
from gpuplan.core.ports import Account, Links, Listed, SshTarget, Want
from gpuplan.net.acs3 import flat
from gpuplan.net.api import Api
from gpuplan.net.http_provider import http_type
from gpuplan.net.profile import Effect
from gpuplan.providers import alibaba_bodies as bodies
from gpuplan.providers import alibaba_tables as tables
from gpuplan.providers import alibaba_wire as wire
from gpuplan.providers.alibaba_bodies import Body, own_id
from gpuplan.providers.alibaba_market import Market
from gpuplan.providers.alibaba_tables import BY_NUMBER, STS, Options

T = TypeVar("T")


class Alibaba:
    """One account in one region."""

    def __init__(self, api: Api, options: Options) -> None:
        self._api = api
        self._options = options
        self._region = options.region_id
        self._market = Market(api, options)

    @property
    def capabilities(self) -> Capabilities:
        return tables.capabilities(self._options)

    async def health(self) -> Account:
        identity = await self._api.call(
            "POST",
            "/GetCallerIdentity",
            host=STS,
            headers={"x-acs-version": tables.STS_VERSION},
            effect=Effect.NONE,
            answer=wire.Identity,
            to="look at the account",
        )
        await self._check_permission("look at the account")
        return Account(self._api.account_id(identity.account_id), self._api.endpoint)

    async def offers(self, query: OfferQuery) -> Sequence[Offer]:
        return await self._market.offers(query)

    async def list(self, kind: Kind, known: frozenset[str]) -> Listed:
        """Of this region. What is known to be in another one was not looked for."""
        others = {id.partition("/")[0] for id in known if "/" in id} - {self._region}
        unseen = tuple(f"{region}/" for region in sorted(others))
        why = f"this account looks at {self._region} alone (`region_id`)" if unseen else ""
        found = await self._list_keys() if kind is Kind.SSH_KEY else await self._list_instances()
        return Listed(found, unseen, why)

    async def get(self, kind: Kind, remote_id: str) -> Observed | None:
        to = f"look at {kind} {remote_id}"
        self._must_be_here(remote_id, to)
        if kind is Kind.SSH_KEY:
            keys = await self._list_keys(KeyPairName=own_id(remote_id))
            return next((key for key in keys if own_id(key.remote_id) == own_id(remote_id)), None)
        instance = await self._find(own_id(remote_id), to)
        return None if instance is None else instance.to_observed(self._api.clock.now())

    async def create(self, want: Want, mark: Mark, links: Links) -> Observed:
        to = f"create {want.address}"
        if want.kind is Kind.SSH_KEY:
            form = self._form(bodies.to_key(want, mark))
            key = await self._api.call("POST", "/ImportKeyPair", json=form, answer=wire.KeyPair, to=to)
            return replace(key.to_observed(self._region), mark=mark)
        body = await self._asked(want, mark, to)
        gpu = str(NodeAttrs.of(want.attrs).gpu or body["InstanceType"])
        made = await self._api.call(
            "POST", "/RunInstances", json=self._form(body), key=mark.token, gpu=gpu, answer=wire.Created, to=to
        )
        return Observed(Kind.NODE, wire.remote_id(self._region, made.ids[0]), Status.PENDING, mark=mark)

    async def delete(self, kind: Kind, remote_id: str, links: Links) -> None:
        to, id = f"delete {kind} {remote_id}", own_id(remote_id)
        self._must_be_here(remote_id, to)
        if kind is Kind.SSH_KEY:
            form = self._form({"KeyPairNames": json.dumps([id])})
            await self._api.remove("/DeleteKeyPairs", method="POST", json=form, to=to)
            return
        try:
            form = flat({"InstanceId": id, "Force": True})
            await self._api.remove("/DeleteInstance", method="POST", json=form, to=to)
        except Conflict:
            # One that is on its way out, or stopping, is refused as well: whoever looks again sees which it was.
            found = await self._find(id, to)
            if found is not None and wire.STATUSES.get(found.status) is not Status.STOPPING:
                raise

    async def update(self, want: Want, remote_id: str, links: Links) -> Observed:
        """Of an instance only its labels change; setting a tag replaces its value."""
        to = f"update {want.address}"
        instance = await self._fetch(remote_id, to)
        present, wanted = wire.own_labels(wire.tags_of(instance.tags)), NodeAttrs.of(want.attrs).labels
        resource: Body = {"RegionId": self._region, "ResourceType": "instance", "ResourceId": [own_id(remote_id)]}
        if gone := sorted(present.keys() - wanted.keys()):
            await self._act("/UntagResources", {**resource, "TagKey": list(gone)}, to)
        if wanted:
            await self._act("/TagResources", {**resource, "Tag": bodies.to_tags(wanted)}, to)
        return (await self._fetch(remote_id, to)).to_observed(self._api.clock.now())

    async def stop(self, kind: Kind, remote_id: str) -> Observed:
        """The mode is always said: what it is otherwise depends on a setting of the account."""
        body: Body = {"StoppedMode": self._options.stopped_mode}
        return await self._switch("/StopInstance", body, remote_id, Status.STOPPED, Status.STOPPING)

    async def start(self, kind: Kind, remote_id: str) -> Observed:
        return await self._switch("/StartInstance", {}, remote_id, Status.RUNNING, Status.STARTING)

    async def logs(self, kind: Kind, remote_id: str, *, follow: bool, tail: int | None) -> AsyncIterator[str]:
        """What the console shows by now; there is no stream to follow."""
        form, to = self._form({"InstanceId": own_id(remote_id)}), f"read the console of {kind} {remote_id}"
        self._must_be_here(remote_id, to)
        output = await self._api.call(
            "POST",
            "/GetInstanceConsoleOutput",
            json=form,
            effect=Effect.NONE,
            answer=str,
            at="ConsoleOutput",
            to=to,
        )
        lines = base64.b64decode(output).decode(errors="replace").splitlines()
        for line in lines if tail is None else lines[max(0, len(lines) - tail) :]:
            yield self._api.redact(line)

    def ssh_target(self, observed: Observed, member: int | None = None) -> SshTarget | None:
        """Without a public address by the private one, for those who are inside themselves."""
        address = observed.facts.get("public_ip") or observed.facts.get("private_ip")
        return self._api.ssh_target(address) if isinstance(address, str) else None

    async def close(self) -> None:
        await self._api.close()

    async def _asked(self, want: Want, mark: Mark, to: str) -> Body:
        """Parameters of a new instance. What Alibaba Cloud cannot take is refused, and nothing is sent."""
        try:
            place, image = await self._market.place(want, to), await self._market.image(want, to)
            return bodies.to_instance(want, mark, place, image, self._options.usd_per_cny)
        except ValueError as exc:
            raise InvalidRequest(Failure(self._api.provider, to, str(exc))) from exc

    async def _list_instances(self) -> Sequence[Observed]:
        to, now = "list nodes", self._api.clock.now()
        pages = self._api.pages(
            "/DescribeInstances",
            method="POST",
            json=self._form({}),
            items="Instances.Instance",
            answer=wire.Instance,
            to=to,
        )
        found = [instance.to_observed(now) async for instance in pages]
        if not found:
            await self._check_permission(to)
        return found

    async def _list_keys(self, **only: str) -> Sequence[Observed]:
        pages = self._api.pages(
            "/DescribeKeyPairs",
            method="POST",
            json=self._form(dict(only)),
            items="KeyPairs.KeyPair",
            answer=wire.KeyPair,
            paging=BY_NUMBER,
            to="list ssh_keys",
        )
        return [key.to_observed(self._region) async for key in pages]

    async def _find(self, id: str, to: str) -> wire.Instance | None:
        """None is certain absence."""
        found = await self._api.call(
            "POST",
            "/DescribeInstances",
            json=self._form({"InstanceIds": json.dumps([id])}),
            effect=Effect.NONE,
            answer=tuple[wire.Instance, ...],
            at="Instances.Instance",
            to=to,
        )
        if not found:
            await self._check_permission(to)
        return found[0] if found else None

    async def _fetch(self, remote_id: str, to: str) -> wire.Instance:
        self._must_be_here(remote_id, to)
        instance = await self._find(own_id(remote_id), to)
        if instance is None:
            raise NotFound(Failure(self._api.provider, to))
        return instance

    async def _check_permission(self, to: str) -> None:
        """Who may not look at instances is shown an empty list, and no error: a dry run tells. Raises AuthFailed."""

        async def ask() -> bool:
            try:
                await self._look("/DescribeInstances", {"DryRun": True}, object, to)
            except InvalidRequest as error:
                if error.failure.code != tables.PERMITTED:
                    raise
            return True

        await self._api.remembered("permission", ask)

    async def _switch(self, route: str, body: Body, remote_id: str, there: Status, coming: Status) -> Observed:
        """Power on or off. A refusal may mean that it is so already, or about to be."""
        to = f"{'stop' if there is Status.STOPPED else 'start'} node {remote_id}"
        self._must_be_here(remote_id, to)
        refusal: ProviderError | None = None
        try:
            await self._act(route, {**body, "InstanceId": own_id(remote_id)}, to)
        except Conflict as error:
            refusal = error
        seen = (await self._fetch(remote_id, to)).to_observed(self._api.clock.now())
        if seen.status in (there, coming):
            return seen
        if refusal is not None:
            raise refusal
        return replace(seen, status=coming)

    async def _look(self, route: str, body: Body, answer: type[T], to: str) -> T:
        return await self._api.call("POST", route, json=self._form(body), effect=Effect.NONE, answer=answer, to=to)

    async def _act(self, route: str, body: Body, to: str) -> None:
        await self._api.call("POST", route, json=flat(body), effect=Effect.REPEATABLE, to=to)

    def _form(self, body: Body) -> dict[str, str]:
        return flat({"RegionId": self._region, **body})

    def _must_be_here(self, remote_id: str, to: str) -> None:
        """Raises Refused: an id of another region is unknown here, which proves nothing."""
        region = remote_id.partition("/")[0] if "/" in remote_id else self._region
        if region != self._region:
            message = f"it is in {region}, and this account speaks for {self._region} (`region_id`)"
            raise Refused(Failure(self._api.provider, to, message))


PROVIDER = http_type(
    name="alibaba",
    title="Alibaba Cloud ECS",
    adapter=Alibaba,
    options=Options,
    capabilities=tables.capabilities,
    profile=tables.profile,
    node_options=bodies.NodeOptions,
    defaults=tables.defaults,
)
