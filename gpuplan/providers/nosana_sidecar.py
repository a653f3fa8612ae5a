"""Nosana by a sidecar, a small server with an account of its own: it launches and stops, and lists nothing.

It has ids of jobs and ids of deployments, and after a restart it may know one of them alone: ours have both.
"""

import json
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from gpuplan.core.capabilities import Capabilities
from gpuplan.core.desired import Kind
from gpuplan.core.errors import Conflict, Failure, InvalidRequest, NotFound, OutcomeUnknown
from gpuplan.core.kinds import NodeAttrs
from gpuplan.core.marks import Mark
from gpuplan.core.observed import GONE, Observed, Status
from gpuplan.core.offers import Offer, OfferQuery
from gpuplan.core.ports import Account, Links, Listed, Want
from gpuplan.net.api import Api
from gpuplan.net.profile import Effect
from gpuplan.providers import nosana_bodies as bodies
from gpuplan.providers import nosana_tables as tables
from gpuplan.providers import nosana_wire as wire
from gpuplan.providers.nosana_bodies import Body, Unfit
from gpuplan.providers.nosana_markets import Markets, lines_of
from gpuplan.providers.nosana_tables import Options

QUIET_SECONDS = 2.0
OWN_WORDS = "[SYSTEM]"
"""What the lines begin with that are the sidecar's, and not the container's."""
ENDED = GONE | {Status.STOPPING}
_LEFT_BEHIND = re.compile(r"Deployment (?P<id>\w{32,44}) failed")


class NosanaSidecar:
    """One credential of a sidecar."""

    def __init__(self, api: Api, options: Options) -> None:
        self._api = api
        self._options = options
        self._capabilities = tables.capabilities(options)
        self._markets = Markets(api, options)

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def health(self) -> Account:
        query, to = {"credentialName": self._options.credential}, "look at the account"
        balance = await self._api.call("GET", tables.SIDECAR_BALANCE, query=query, answer=wire.Balance, to=to)
        account = self._options.account or f"{self._api.key('key')} {balance.address}"
        return Account(self._api.account_id(f"{account} {self._options.credential}"), self._api.endpoint)

    async def offers(self, query: OfferQuery) -> Sequence[Offer]:
        return await self._markets.offers(query)

    async def list(self, kind: Kind, known: frozenset[str]) -> Listed:
        """Those that are known: there is no listing."""
        found = await self._api.together([self.get(kind, id) for id in sorted(known)])
        return Listed([seen for seen in found if seen is not None])

    async def get(self, kind: Kind, remote_id: str) -> Observed | None:
        query, to = {"credentialName": self._options.credential}, f"look at {kind} {remote_id}"
        for id in _ids(remote_id):
            looked = await self._api.find("GET", tables.SIDECAR_JOB, id, query=query, answer=wire.Looked, to=to)
            if looked is not None:
                return looked.to_observed(remote_id)
        return None

    def witness(self, want: Want, mark: Mark) -> str:
        """None: nothing lists what could be compared."""
        return ""

    async def create(self, want: Want, mark: Mark, links: Links) -> Observed:
        to, asked = f"create {want.address}", NodeAttrs.of(want.attrs)
        try:
            bodies.check(asked)
            market = want.offer.ref if want.offer else await self._markets.choose(asked, to)
            body = bodies.to_launch(want, mark, market=market, credential=self._options.credential)
        except Unfit as exc:
            raise InvalidRequest(Failure(self._api.provider, to, str(exc))) from exc
        gpu = str(asked.gpu or "")
        try:
            launched = await self._api.call("POST", tables.LAUNCH, json=body, answer=wire.Launched, gpu=gpu, to=to)
        except OutcomeUnknown as error:
            if left := _LEFT_BEHIND.search(error.failure.message):
                raise OutcomeUnknown(replace(error.failure, leftover=f"{left['id']}/{left['id']}")) from error
            raise
        facts = {"endpoint": launched.service_url} if launched.service_url else {}
        return Observed(Kind.NODE, launched.remote_id, Status.PENDING, facts=facts)

    async def delete(self, kind: Kind, remote_id: str, links: Links) -> None:
        """Stopped is as gone as it gets: a sidecar deletes nothing, and a stopped deployment costs nothing."""
        to = f"delete {kind} {remote_id}"
        for id in _ids(remote_id):
            body: Body = {"jobAddress": id, "credentialName": self._options.credential}
            try:
                await self._api.call("POST", tables.SIDECAR_STOP, json=body, effect=Effect.REPEATABLE, to=to)
            except NotFound:
                continue
            except Conflict:
                seen = await self.get(kind, remote_id)
                if seen is not None and seen.status not in ENDED:
                    raise
            return

    async def logs(self, kind: Kind, remote_id: str, *, follow: bool, tail: int | None) -> AsyncIterator[str]:
        to, query = f"read the log of {kind} {remote_id}", {"credentialName": self._options.credential}
        id = _ids(remote_id)[0]
        kept = await self._api.find("GET", tables.SIDECAR_LOGS, id, query=query, answer=wire.SidecarLog, to=to)
        if kept is not None and kept.status == "completed":
            for line in bodies.last(list(kept.result.lines), tail):
                yield line
            return
        spoken = self._spoken(id, quiet_seconds=None if follow else QUIET_SECONDS, to=to)
        if follow:
            async for line in spoken:
                yield line
        else:
            for line in bodies.last([line async for line in spoken], tail):
                yield line

    async def close(self) -> None:
        await self._api.close()

    async def _spoken(self, id: str, *, quiet_seconds: float | None, to: str) -> AsyncIterator[str]:
        asked: Body = {"type": "subscribe_logs", "provider": "nosana", "jobId": id}
        say = json.dumps({**asked, "credentialName": self._options.credential})
        messages = self._api.messages("/", say=say, quiet_seconds=quiet_seconds, effect=Effect.NONE, to=to)
        async for message in messages:
            for line in lines_of(message):
                if not line.startswith(OWN_WORDS):
                    yield self._api.redact(line)


def _ids(remote_id: str) -> Sequence[str]:
    """That of the deployment, then that of the job."""
    job, _, deployment = remote_id.partition("/")
    return list(dict.fromkeys((deployment or job, job)))
