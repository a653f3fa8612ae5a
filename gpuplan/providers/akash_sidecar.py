"""Akash by a sidecar, a small server with a wallet of its own: it takes the first bid, and lists nothing. Where the
wallet is known, the chain does.

It says that it closed a deployment even where it did not: https://github.com/InferiaAI/InferiaLLM.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from gpuplan.core.capabilities import Capabilities
from gpuplan.core.desired import Kind
from gpuplan.core.errors import Failure, InvalidRequest, Unsupported
from gpuplan.core.kinds import NodeAttrs
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Observed, Status
from gpuplan.core.offers import Offer, OfferQuery
from gpuplan.core.ports import Account, Links, Listed, Want
from gpuplan.core.values import JsonValue
from gpuplan.net.api import Api
from gpuplan.net.marks import from_name
from gpuplan.net.payload import CamelPayload, Payload
from gpuplan.net.profile import Effect
from gpuplan.providers import akash_tables as tables
from gpuplan.providers.akash_manifest import hash_of, to_manifest
from gpuplan.providers.akash_sdl import Body, Unfit, ceiling_of, group_of, text_of, to_sdl
from gpuplan.providers.akash_tables import Options
from gpuplan.providers.akash_wire import Deployment, Group

HEALTH = "gpuplan-health"
UNSURE = "the sidecar says it has closed it: look at the wallet whether it did"
STATES = {
    "active": Status.RUNNING,
    "closed": Status.TERMINATED,
    "failed": Status.FAILED,
    "error": Status.FAILED,
}


class Made(CamelPayload):
    deployment_id: str
    lease_id: str = ""
    status: str = ""
    expose_url: str = ""


class State(CamelPayload):
    state: str = ""
    expose_url: str = ""


class Lines(Payload):
    logs: tuple[str, ...] = ()


class OnChain(Payload):
    """A deployment as the chain tells it to everybody."""

    deployment: Deployment
    groups: tuple[Group, ...] = ()

    @property
    def dseq(self) -> str:
        return self.deployment.id.dseq

    @property
    def is_closed(self) -> bool:
        return self.deployment.state == "closed"

    def beside(self, word: Observed | None) -> Observed:
        """With what the sidecar says of it, whom the chain overrules."""
        if self.is_closed:
            seen = Observed(Kind.NODE, self.dseq, Status.TERMINATED)
        elif word is None:
            seen = Observed(Kind.NODE, self.dseq, Status.UNKNOWN, detail="the sidecar has said nothing of it")
        elif word.status is Status.TERMINATED:
            seen = replace(
                word, status=Status.UNKNOWN, detail="the sidecar says it has closed it, and it is still active"
            )
        else:
            seen = word
        mark = next((from_name(group.group_spec.name) for group in self.groups), None)
        return replace(seen, mark=mark, witness=self.deployment.hash)


class AkashSidecar:
    """One sidecar."""

    def __init__(self, api: Api, options: Options) -> None:
        self._api = api
        self._options = options
        self._capabilities = tables.capabilities(options)
        self._states: dict[str, str] = {}
        """The last word on each of ours."""

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def health(self) -> Account:
        """What answers about a deployment that is not there has accepted the key."""
        await self._word_on(HEALTH)
        return Account(self._api.account_id(), self._api.endpoint)

    async def offers(self, query: OfferQuery) -> Sequence[Offer]:
        return []

    async def list(self, kind: Kind, known: frozenset[str]) -> Listed:
        """What the chain has of the wallet; where that is not known, those that we know."""
        if not self._options.wallet:
            found = await self._api.together([self.get(kind, id) for id in sorted(known)])
            return Listed([seen for seen in found if seen is not None])
        pages = self._api.pages(
            tables.CHAIN_LIST,
            query={"filters.owner": self._options.wallet, "filters.state": "active"},
            host=tables.CHAIN,
            items="deployments",
            answer=OnChain,
            paging=tables.CHAIN_PAGES,
            to=f"list {kind}s on the chain",
        )
        rows = [row async for row in pages]
        ours = [row for row in rows if row.dseq in known]
        told = dict(
            zip((row.dseq for row in ours), await self._api.together([self._look(row) for row in ours]), strict=True)
        )
        return Listed([told.get(row.dseq) or row.beside(None) for row in rows])

    async def get(self, kind: Kind, remote_id: str) -> Observed | None:
        if not self._options.wallet:
            return await self._word_on(remote_id)
        row = await self._api.find(
            "GET",
            tables.CHAIN_ONE,
            query={"id.owner": self._options.wallet, "id.dseq": remote_id},
            host=tables.CHAIN,
            answer=OnChain,
            to=f"look at {kind} {remote_id} on the chain",
        )
        return None if row is None else await self._look(row)

    def witness(self, want: Want, mark: Mark) -> str:
        try:
            return hash_of(to_manifest(self._sdl(want, mark)))
        except Unfit:
            return ""

    async def create(self, want: Want, mark: Mark, links: Links) -> Observed:
        to, asked = f"create {want.address}", NodeAttrs.of(want.attrs)
        try:
            sdl = self._sdl(want, mark)
        except Unfit as exc:
            raise InvalidRequest(Failure(self._api.provider, to, str(exc))) from exc
        metadata: Body = {"node": self._options.node, "api": self._options.chain_url}
        body: Body = {"sdl": text_of(sdl), "metadata": metadata}
        made = await self._api.call(
            "POST", tables.CREATE, json=body, answer=Made, gpu=str(asked.gpu or "a node"), to=to
        )
        facts: dict[str, JsonValue] = {"endpoint": made.expose_url, "lease": made.lease_id}
        self._states[made.deployment_id] = made.status
        return _observed(made.deployment_id, made.status, facts)

    async def delete(self, kind: Kind, remote_id: str, links: Links) -> None:
        body: Body = {"deploymentId": remote_id}
        to = f"delete {kind} {remote_id}"
        await self._api.call("POST", tables.CLOSE, json=body, effect=Effect.REPEATABLE, to=to)
        self._states[remote_id] = "closed"

    async def logs(self, kind: Kind, remote_id: str, *, follow: bool, tail: int | None) -> AsyncIterator[str]:
        """What there is by now: a sidecar cannot be followed."""
        to = f"read the log of {kind} {remote_id}"
        lines = (await self._api.call("GET", tables.LOGS, remote_id, answer=Lines, to=to)).logs
        for line in lines if tail is None else lines[len(lines) - min(tail, len(lines)) :]:
            yield line

    async def close(self) -> None:
        await self._api.close()

    async def _look(self, row: OnChain) -> Observed:
        return row.beside(None if row.is_closed else await self._word_on(row.dseq))

    async def _word_on(self, remote_id: str) -> Observed | None:
        """What the sidecar says."""
        to = f"look at node {remote_id}"
        try:
            state = await self._api.find("GET", tables.STATE, remote_id, answer=State, to=to)
        except Unsupported:
            return self._unseen(remote_id)
        return None if state is None else _observed(remote_id, state.state, {"endpoint": state.expose_url})

    def _unseen(self, remote_id: str) -> Observed:
        """Of a sidecar without that call: what it said last. What it says it closed may be running all the same."""
        word = self._states.get(remote_id)
        if word is None:
            return Observed(Kind.NODE, remote_id, Status.UNKNOWN, detail="the sidecar tells no status")
        seen = _observed(remote_id, word, {})
        is_closed = seen.status is Status.TERMINATED
        return replace(seen, detail=UNSURE) if is_closed else seen

    def _sdl(self, want: Want, mark: Mark) -> Body:
        asked, options = NodeAttrs.of(want.attrs), self._options
        hourly = ceiling_of(asked, want.offer)
        registry = options.registry(self._api)
        return to_sdl(asked, group_of(want, mark), hourly=hourly, auditors=options.auditors, registry=registry)


def _observed(remote_id: str, word: str, facts: dict[str, JsonValue]) -> Observed:
    known = {name: fact for name, fact in facts.items() if fact}
    status = STATES.get(word, Status.UNKNOWN)
    detail = f"the sidecar says it is `{word}`" if status is Status.UNKNOWN else ""
    return Observed(Kind.NODE, remote_id, status, facts=known, detail=detail)
