"""Nosana's own API: https://learn.nosana.com. A node is a deployment that keeps one job going."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from gpuplan.core.capabilities import Capabilities
from gpuplan.core.desired import Kind
from gpuplan.core.errors import Conflict, Failure, InvalidRequest, NoCapacity, NotFound, QuotaExceeded
from gpuplan.core.kinds import NodeAttrs
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Observed, Status
from gpuplan.core.offers import Offer, OfferQuery
from gpuplan.core.ports import Account, Links, Listed, Want
from gpuplan.net.api import Api
from gpuplan.net.exchange import Query
from gpuplan.net.profile import Effect
from gpuplan.providers import nosana_bodies as bodies
from gpuplan.providers import nosana_tables as tables
from gpuplan.providers import nosana_wire as wire
from gpuplan.providers.nosana_bodies import Body, Unfit
from gpuplan.providers.nosana_markets import Markets, lines_of
from gpuplan.providers.nosana_tables import Options
from gpuplan.providers.nosana_wire import Deployment, Job

YOUNG_SECONDS = 30
"""For so long nobody asks why a job has no host yet."""
QUIET_SECONDS = 2.0
"""A host goes on listening; after so much silence all that there was has been said."""
LATEST: Query = {"sort_order": "desc", "limit": 10}
STARTED, STOPPED = ("STARTING", "RUNNING"), ("STOPPING", "STOPPED")


class NosanaDeployments:
    """One account."""

    def __init__(self, api: Api, options: Options) -> None:
        self._api = api
        self._options = options
        self._capabilities = tables.capabilities(options)
        self._markets = Markets(api, options)
        self._endings: dict[tuple[str, datetime | None], tuple[Status, str]] = {}
        self._running: dict[tuple[str, datetime | None], str] = {}

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def health(self) -> Account:
        await self._api.call("GET", tables.BALANCE, answer=wire.Balance, to="look at the account")
        return Account(self._api.account_id(self._options.account), self._api.endpoint)

    async def offers(self, query: OfferQuery) -> Sequence[Offer]:
        return await self._markets.offers(query)

    async def list(self, kind: Kind, known: frozenset[str]) -> Listed:
        pages = self._api.pages(tables.DEPLOYMENTS, items="deployments", answer=Deployment, to="list nodes")
        found = [deployment async for deployment in pages]
        return Listed(await self._api.together([self._observe(deployment) for deployment in found]))

    async def get(self, kind: Kind, remote_id: str) -> Observed | None:
        deployment = await self._find(remote_id)
        return None if deployment is None else await self._observe(deployment)

    async def create(self, want: Want, mark: Mark, links: Links) -> Observed:
        """A draft, which costs nothing: should the answer get lost, so does no money."""
        to, asked = f"create {want.address}", NodeAttrs.of(want.attrs)
        try:
            bodies.check(asked)
            market = want.offer.ref if want.offer else await self._markets.choose(asked, to)
            minutes, hours = self._options.timeout_minutes, self._options.lease_hours
            body = bodies.to_deployment(want, mark, market=market, minutes=minutes, lease_hours=hours)
        except Unfit as exc:
            raise InvalidRequest(Failure(self._api.provider, to, str(exc))) from exc
        gpu = str(asked.gpu or "")
        deployment = await self._api.call("POST", tables.CREATE, json=body, answer=Deployment, gpu=gpu, to=to)
        return deployment.to_observed(None)

    async def advance(self, want: Want, mark: Mark, observed: Observed, links: Links) -> Observed:
        if observed.facts.get("state") != "DRAFT":
            return observed
        return await self.start(observed.kind, observed.remote_id)

    async def delete(self, kind: Kind, remote_id: str, links: Links) -> None:
        """One step at a time: what runs is stopped, what is stopped is deleted, and a draft can only be started."""
        deployment = await self._find(remote_id)
        to = f"delete {kind} {remote_id}"
        match deployment.status if deployment is not None else "ARCHIVED":
            case "ARCHIVED" | "STARTING" | "STOPPING":
                return
            case "DRAFT":
                await self._switch(tables.START, remote_id, STARTED, to)
            case "STOPPED":
                with suppress(Conflict):
                    await self._api.remove(tables.DEPLOYMENT, remote_id, to=to)
            case _:
                with suppress(NotFound):
                    await self._switch(tables.STOP, remote_id, STOPPED, to)

    async def update(self, want: Want, remote_id: str, links: Links) -> Observed:
        """Another definition is another revision: the job ends, and another one is listed."""
        to = f"update {want.address}"
        try:
            definition = bodies.to_definition(NodeAttrs.of(want.attrs))
        except Unfit as exc:
            raise InvalidRequest(Failure(self._api.provider, to, str(exc))) from exc
        await self._api.call("POST", tables.REVISE, remote_id, json=definition, to=to)
        return await self._observe(await self._fetch(remote_id, to))

    async def stop(self, kind: Kind, remote_id: str) -> Observed:
        return await self._observe(await self._switch(tables.STOP, remote_id, STOPPED, f"stop {kind} {remote_id}"))

    async def start(self, kind: Kind, remote_id: str) -> Observed:
        return await self._observe(await self._switch(tables.START, remote_id, STARTED, f"start {kind} {remote_id}"))

    async def extend(self, kind: Kind, remote_id: str, until: datetime) -> Observed:
        to = f"extend the lease of {kind} {remote_id}"
        deployment = await self._fetch(remote_id, to)
        job, ends_at = await self._job(deployment), await self._ends_at(deployment)
        if not job or ends_at is None:
            raise Conflict(Failure(self._api.provider, to, "no job of it runs"))
        if seconds := bodies.seconds_until(until, ends_at):
            await self._api.call("POST", tables.EXTEND, job, json={"seconds": seconds}, to=to)
        return await self._observe(await self._fetch(remote_id, to))

    async def logs(self, kind: Kind, remote_id: str, *, follow: bool, tail: int | None) -> AsyncIterator[str]:
        """Of the latest job: what it has left behind, else what its host tells."""
        to = f"read the log of {kind} {remote_id}"
        deployment = await self._fetch(remote_id, to)
        job = next(iter(await self._jobs(remote_id)), None)
        if job is None:
            return
        whole = await self._api.call("GET", tables.JOB, remote_id, job.job, answer=wire.WholeJob, to=to)
        if whole.job_result is not None:
            for line in bodies.last(list(whole.job_result.lines), tail):
                yield line
            return
        if (host := job.node or whole.node) in wire.NOBODY:
            return
        spoken = self._spoken(deployment, job.job, host, quiet_seconds=None if follow else QUIET_SECONDS, to=to)
        if follow:
            async for line in spoken:
                yield line
        else:
            for line in bodies.last([line async for line in spoken], tail):
                yield line

    async def close(self) -> None:
        await self._api.close()

    async def _spoken(
        self, deployment: Deployment, job: str, host: str, *, quiet_seconds: float | None, to: str
    ) -> AsyncIterator[str]:
        """What the host of a job tells, which has to be shown a header that Nosana signs."""
        query = {"includeTime": True}
        proof = await self._api.call("GET", tables.HEADER, deployment.id, query=query, answer=wire.Header, to=to)
        asked: Body = {"jobAddress": job, "address": deployment.vault}
        say = json.dumps({"path": "/log", "body": asked, "header": proof.header})
        route, at = ("/{node}", tables.HOSTS) if self._api.is_emulated else (tables.HOST_URL, "")
        messages = self._api.messages(
            route, host, say=say, quiet_seconds=quiet_seconds, host=at, effect=Effect.NONE, to=to
        )
        async for message in messages:
            for line in lines_of(message):
                yield self._api.redact(line)

    async def _switch(self, route: str, remote_id: str, reached: Sequence[str], to: str) -> Deployment:
        """Start or stop it; there already is success, though Nosana calls that an error of its own."""
        try:
            await self._api.call("POST", route, remote_id, effect=Effect.REPEATABLE, to=to)
        except Conflict:
            deployment = await self._fetch(remote_id, to)
            if deployment.status not in reached:
                raise
            return deployment
        return await self._fetch(remote_id, to)

    async def _find(self, remote_id: str) -> Deployment | None:
        to = f"look at node {remote_id}"
        return await self._api.find("GET", tables.DEPLOYMENT, remote_id, answer=Deployment, to=to)

    async def _fetch(self, remote_id: str, to: str) -> Deployment:
        return await self._api.call("GET", tables.DEPLOYMENT, remote_id, answer=Deployment, to=to)

    async def _observe(self, deployment: Deployment) -> Observed:
        seen = deployment.to_observed(await self._markets.known(deployment.market))
        if deployment.is_queued:
            return await self._queued(deployment, seen)
        if deployment.status == "INSUFFICIENT_FUNDS":
            failure = Failure(self._api.provider, f"bring up node {deployment.id}", seen.detail)
            return replace(seen, failure=QuotaExceeded(failure))
        if deployment.status == "STOPPED":
            status, detail = await self._ending(deployment)
            return replace(seen, status=status, detail=detail)
        if seen.status in (Status.RUNNING, Status.STARTING) and deployment.strategy == "SIMPLE":
            return replace(seen, expires_at=await self._ends_at(deployment))
        return seen

    async def _queued(self, deployment: Deployment, seen: Observed) -> Observed:
        """A job that nobody takes looks like one that cannot even be listed: why not is told by events alone."""
        age = deployment.age(self._api.clock.now())
        if age < min(YOUNG_SECONDS, self._options.ready_timeout):
            return seen
        to = f"ask why node {deployment.id} does not run"
        route, many = tables.EVENTS, tuple[wire.Event, ...]
        events = await self._api.call("GET", route, deployment.id, query=LATEST, answer=many, at="events", to=to)
        trouble = next((event.trouble for event in events), "")
        seen = replace(seen, detail=trouble or seen.detail)
        if age < self._options.ready_timeout:
            return seen
        told = trouble or f"no host has taken it for {age:.0f} s"
        failure = Failure(self._api.provider, f"find a host for node {deployment.id}", told)
        error = QuotaExceeded if "credit" in told.lower() else NoCapacity
        return replace(seen, status=Status.FAILED, detail=told, failure=error(failure))

    async def _ending(self, deployment: Deployment) -> tuple[Status, str]:
        """Why it stands still. Asked once: it does not change until it is started again."""
        key = deployment.id, deployment.updated_at
        if key not in self._endings:
            self._endings[key] = await self._read_ending(deployment)
        return self._endings[key]

    async def _read_ending(self, deployment: Deployment) -> tuple[Status, str]:
        job = next(iter(await self._jobs(deployment.id)), None)
        if job is None:
            return Status.STOPPED, "stopped before any job ran"
        to = f"ask how node {deployment.id} ended"
        whole = await self._api.find("GET", tables.JOB, deployment.id, job.job, answer=wire.WholeJob, to=to)
        result = whole.job_result if whole is not None else None
        return (Status.STOPPED, "stopped") if result is None else result.ending

    async def _ends_at(self, deployment: Deployment) -> datetime | None:
        """When the job is over that is not extended by itself; None while none runs."""
        job = await self._job(deployment)
        if not job:
            return None
        to = f"ask when node {deployment.id} ends"
        ends = await self._api.find("GET", tables.CHAIN_JOB, job, answer=wire.Ends, to=to)
        if ends is None or not ends.time_start:
            return None
        return datetime.fromtimestamp(ends.time_start, UTC) + timedelta(seconds=ends.timeout)

    async def _job(self, deployment: Deployment) -> str:
        """The job that runs; empty: none does."""
        key = deployment.id, deployment.updated_at
        if key not in self._running:
            job = next((job for job in await self._jobs(deployment.id) if job.is_running), None)
            if job is None:
                return ""
            self._running[key] = job.job
        return self._running[key]

    async def _jobs(self, id: str) -> Sequence[Job]:
        """The latest first."""
        to = f"list the jobs of node {id}"
        return await self._api.call("GET", tables.JOBS, id, query=LATEST, answer=tuple[Job, ...], at="jobs", to=to)
