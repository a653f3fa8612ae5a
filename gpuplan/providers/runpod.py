"""RunPod: https://docs.runpod.io/api-reference-v2 (REST v2). Pods, network volumes, SSH keys of the account."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from gpuplan.core.capabilities import Capabilities
from gpuplan.core.desired import Kind
from gpuplan.core.errors import (
    Conflict,
    Failure,
    InvalidRequest,
    NoCapacity,
    OutcomeUnknown,
    ProtocolMismatch,
    ProviderError,
)
from gpuplan.core.kinds import NodeAttrs, VolumeAttrs
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Observed, Status
from gpuplan.core.offers import Offer, OfferQuery
from gpuplan.core.ports import Account, Links, Listed, SshTarget, Want
from gpuplan.core.values import Ref
from gpuplan.net.api import Api
from gpuplan.net.exchange import Query
from gpuplan.net.http_provider import http_type
from gpuplan.net.profile import Effect
from gpuplan.providers import runpod_bodies as bodies
from gpuplan.providers import runpod_offers as market
from gpuplan.providers import runpod_wire as wire
from gpuplan.providers.runpod_bodies import Disk, Unfit
from gpuplan.providers.runpod_keys import KeyRing
from gpuplan.providers.runpod_offers import CpuType, GpuType
from gpuplan.providers.runpod_tables import (
    ACTION_ROUTE,
    CAPABILITIES,
    PODS,
    PROFILE,
    VOLUMES,
    Options,
)
from gpuplan.providers.runpod_wire import Body, NetworkVolume, Pod

MOST_LINES = 5000
QUIET_SECONDS = 3
"""The stream of logs stays open; so long without a line, and what was there has been told."""
FOLLOW_SECONDS = 86400
EXAMINE_SECONDS = 180
"""A pod that is not up by then may be pulling an image that is not there. Its log tells, its status never does."""
DOUBTS = (Conflict, OutcomeUnknown, ProtocolMismatch)


class RunPod:
    """One account."""

    def __init__(self, api: Api, options: Options) -> None:
        self._api = api
        self._options = options
        self._keys = KeyRing(api)
        self._examined: set[str] = set()

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    async def health(self) -> Account:
        await self._keys.read("look at the account")
        return Account(self._api.account_id(self._options.account), self._api.endpoint)

    async def offers(self, query: OfferQuery) -> Sequence[Offer]:
        provider, now, found = self._api.provider, self._api.clock.now(), list[Offer]()
        if counts := tuple(count for count in query.gpu_counts or market.GPU_COUNTS if count):
            clouds = ("secure", "community") if self._options.cloud == "any" else (self._options.cloud,)
            for cloud in clouds:
                boards = await self._api.together(self._gpus(cloud, count) for count in counts)
                board = dict(zip(counts, boards, strict=True))
                for count in counts if query.gpu_counts else range(1, max(counts) + 1):
                    found += market.to_gpu_offers(board, cloud, count, provider, now)
        if query.wants("", 0):
            found += market.to_cpu_offers(await self._cpus(), provider, now)
        regions = query.regions or self._options.regions
        found = [offer for offer in found if query.wants(offer.gpu, offer.gpu_count)]
        return [offer for offer in found if not regions or offer.region in regions]

    async def list(self, kind: Kind, known: frozenset[str]) -> Listed:
        now = self._api.clock.now()
        match kind:
            case Kind.SSH_KEY:
                return Listed([key.to_observed(now) for key in await self._keys.read("list ssh_keys")])
            case Kind.VOLUME:
                return Listed([volume.to_observed(now) for volume in await VOLUMES.list(self._api)])
        return Listed([self._observe(pod) for pod in await PODS.list(self._api)])

    async def get(self, kind: Kind, remote_id: str) -> Observed | None:
        now = self._api.clock.now()
        match kind:
            case Kind.SSH_KEY:
                key = await self._keys.find(remote_id, f"look at {kind} {remote_id}")
                return None if key is None else key.to_observed(now)
            case Kind.VOLUME:
                volume = await VOLUMES.find(self._api, remote_id)
                return None if volume is None else volume.to_observed(now)
        pod = await PODS.find(self._api, remote_id)
        return None if pod is None else self._observe(pod)

    async def create(self, want: Want, mark: Mark, links: Links) -> Observed:
        to = f"create {want.address}"
        try:
            match want.kind:
                case Kind.SSH_KEY:
                    key = await self._keys.add(bodies.to_key_line(want, mark), to)
                    return key.to_observed(self._api.clock.now())
                case Kind.VOLUME:
                    body = bodies.to_volume(want, mark)
                    volume = await self._api.call("POST", VOLUMES.route, json=body, answer=NetworkVolume, to=to)
                    return volume.to_observed(self._api.clock.now())
            return await self._create_pod(want, mark, links, to)
        except Unfit as exc:
            raise InvalidRequest(Failure(self._api.provider, to, str(exc))) from exc

    async def delete(self, kind: Kind, remote_id: str, links: Links) -> None:
        match kind:
            case Kind.SSH_KEY:
                await self._keys.remove(remote_id, f"delete {kind} {remote_id}")
            case Kind.VOLUME:
                await VOLUMES.remove(self._api, remote_id)
            case _:
                await PODS.remove(self._api, remote_id)

    async def advance(self, want: Want, mark: Mark, observed: Observed, links: Links) -> Observed:
        """A pod whose image cannot be pulled starts for ever, and costs: look once into its log for the reason."""
        created = str(observed.facts.get("created_at", ""))
        is_late = wire.age_seconds(created, self._api.clock.now()) >= EXAMINE_SECONDS
        if want.kind is not Kind.NODE or not is_late or observed.remote_id in self._examined:
            return observed
        self._examined.add(observed.remote_id)
        try:
            lines = [line async for line in self._log(observed.remote_id, follow=False, tail=50, source="system")]
        except ProviderError:
            # A key may be without the right to read logs; the pod comes up or does not all the same.
            return observed
        why = next((line for line in reversed(lines) if wire.tells_failed_pull(line)), "")
        return replace(observed, status=Status.FAILED, detail=why) if why else observed

    async def update(self, want: Want, remote_id: str, links: Links) -> Observed:
        to = f"update {want.address}"
        if want.kind is Kind.VOLUME:
            body: Body = {"size": VolumeAttrs.of(want.attrs).size_gb}
            volume = await self._change(VOLUMES.route, remote_id, body, NetworkVolume, to)
            return volume.to_observed(self._api.clock.now())
        keys = await self._authorized(want, links, to) if "ssh_keys" in want.update else ()
        pod = await PODS.fetch(self._api, remote_id, to)
        try:
            body = bodies.to_changes(want, pod, keys)
        except Unfit as exc:
            raise InvalidRequest(Failure(self._api.provider, to, str(exc))) from exc
        return self._observe(await self._change(PODS.route, remote_id, body, Pod, to))

    async def stop(self, kind: Kind, remote_id: str) -> Observed:
        seen = await self._switch(remote_id, "stop", {Status.STOPPED}, to=f"stop {kind} {remote_id}")
        return seen if seen.status is Status.STOPPED else replace(seen, status=Status.STOPPING)

    async def start(self, kind: Kind, remote_id: str) -> Observed:
        to, coming = f"start {kind} {remote_id}", {Status.PENDING, Status.STARTING, Status.RUNNING}
        seen = await self._switch(remote_id, "start", coming, to=to)
        if seen.failure is not None:
            # It runs all the same, and would be paid for.
            await self.stop(kind, remote_id)
            raise seen.failure
        return replace(seen, status=Status.STARTING) if seen.status is Status.STOPPED else seen

    async def logs(self, kind: Kind, remote_id: str, *, follow: bool, tail: int | None) -> AsyncIterator[str]:
        async for line in self._log(remote_id, follow=follow, tail=tail):
            yield line

    def ssh_target(self, observed: Observed, member: int | None = None) -> SshTarget | None:
        host, port, user = (observed.facts.get(name) for name in ("public_ip", "ssh_port", "ssh_user"))
        if not isinstance(host, str) or not isinstance(port, int):
            return None
        return self._api.ssh_target(host, port, str(user))

    async def close(self) -> None:
        await self._api.close()

    async def _create_pod(self, want: Want, mark: Mark, links: Links, to: str) -> Observed:
        asked = NodeAttrs.of(want.attrs)
        place, disk = bodies.place_of(want, asked), await self._disk(asked, links, to)
        gpu = str(asked.gpu or place.id)
        if disk and place.cloud == "community":
            message = "a network volume is mounted by pods of the secure cloud alone"
            raise NoCapacity(Failure(self._api.provider, to, message, gpu=gpu))
        if disk and asked.region not in (None, disk.region):
            raise Unfit(f"the volume is in {disk.region}, and the pod would be in {asked.region}")
        body = bodies.to_launch(want, mark, place, disk, await self._authorized(want, links, to))
        return self._observe(await self._api.call("POST", PODS.route, json=body, answer=Pod, gpu=gpu, to=to))

    async def _disk(self, asked: NodeAttrs, links: Links, to: str) -> Disk | None:
        """The volume of a pod, and where it is: the record of it tells, else RunPod."""
        if len(asked.volumes) > 1:
            raise Unfit("a pod mounts one volume at most")
        for mount in asked.volumes:
            recorded = links.get(mount.volume.address) if isinstance(mount.volume, Ref) else None
            id = str(mount.volume.remote_id if isinstance(mount.volume, Ref) else mount.volume)
            region = recorded.attrs.get("region") if recorded else None
            if not isinstance(region, str):
                region = (await VOLUMES.fetch(self._api, id, to)).data_center
            return Disk(id, region, mount.mount)
        return None

    async def _authorized(self, want: Want, links: Links, to: str) -> Sequence[str]:
        """The public keys to let in. A text with a blank is one; anything else is the id of a key of the account."""
        texts: list[str] = []
        for key in NodeAttrs.of(want.attrs).ssh_keys:
            recorded = links.get(key.address) if isinstance(key, Ref) else None
            text = recorded.attrs.get("public_key") if recorded else key if isinstance(key, str) else None
            if not isinstance(text, str) or " " not in text:
                id = key.remote_id if isinstance(key, Ref) else key
                found = await self._keys.find(str(id), to)
                if found is None:
                    raise Unfit(f"the account has no SSH key `{key}`")
                text = found.public_key
            texts.append(text)
        return texts

    async def _change(self, route: str, remote_id: str, body: Body, answer: type[wire.P], to: str) -> wire.P:
        return await self._api.call(
            "PATCH", f"{route}/{{id}}", remote_id, json=body, answer=answer, effect=Effect.REPEATABLE, to=to
        )

    async def _switch(self, remote_id: str, action: str, goal: set[Status], *, to: str) -> Observed:
        """An action that does not fit the status is refused: it may be there already, by an earlier attempt."""
        try:
            pod = await self._api.call(
                "POST", ACTION_ROUTE, remote_id, json={"action": action}, answer=Pod, effect=Effect.REPEATABLE, to=to
            )
        except DOUBTS:
            pod = await PODS.fetch(self._api, remote_id, to)
            if self._observe(pod).status not in goal:
                raise
        return self._observe(pod)

    def _observe(self, pod: Pod) -> Observed:
        seen = pod.to_observed(self._api.clock.now())
        if not pod.lacks_gpus:
            return seen
        gpu = pod.gpu.id if pod.gpu else None
        failure = Failure(self._api.provider, f"start {seen.kind} {pod.id}", seen.detail, gpu=gpu)
        return replace(seen, failure=NoCapacity(failure))

    def _log(self, id: str, *, follow: bool, tail: int | None, source: str | None = None) -> AsyncIterator[str]:
        lines = self._api.lines(
            "/v2/pods/{id}/logs",
            id,
            query={"tail": min(MOST_LINES if tail is None else tail, MOST_LINES), "source": source},
            headers={"Accept": "text/event-stream"},
            quiet_seconds=None if follow else QUIET_SECONDS,
            timeout_seconds=FOLLOW_SECONDS if follow else QUIET_SECONDS * 10,
            to=f"read the log of node {id}",
        )
        return wire.log_lines(lines)

    async def _gpus(self, cloud: str, count: int) -> Sequence[GpuType]:
        query: Query = {"include": "AVAILABILITY", "product": "POD", "cloud": cloud.upper(), "count": count}
        to = "list GPU types"
        return await self._api.call(
            "GET", "/v2/catalog/gpus", query=query, answer=tuple[GpuType, ...], at="gpus", to=to
        )

    async def _cpus(self) -> Sequence[CpuType]:
        query, to = {"include": "AVAILABILITY", "product": "POD"}, "list CPU types"
        return await self._api.call(
            "GET", "/v2/catalog/cpus", query=query, answer=tuple[CpuType, ...], at="cpus", to=to
        )


PROVIDER = http_type(
    name="runpod",
    title="RunPod",
    adapter=RunPod,
    options=Options,
    capabilities=CAPABILITIES,
    profile=PROFILE,
    node_options=bodies.NodeOptions,
)
