"""Kubernetes: https://kubernetes.io/docs/reference/. Clusters as StatefulSets, volumes as claims, in one namespace."""

from collections.abc import AsyncIterator, Sequence

from gpuplan.core.capabilities import Capabilities
from gpuplan.core.desired import Kind
from gpuplan.core.errors import AuthFailed, Failure
from gpuplan.core.gpus import gpu_satisfies
from gpuplan.core.kinds import VolumeAttrs
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Observed
from gpuplan.core.offers import Offer, OfferQuery
from gpuplan.core.ports import Account, Channel, Links, Listed, Want
from gpuplan.net.api import Api
from gpuplan.net.http_provider import http_type
from gpuplan.net.marks import to_labels
from gpuplan.providers import kubernetes_bodies as bodies
from gpuplan.providers.kubernetes_api import CLAIMS, SETS, KubernetesApi, Served
from gpuplan.providers.kubernetes_capacity import Capacity, said
from gpuplan.providers.kubernetes_config import locate
from gpuplan.providers.kubernetes_logs import lines_of
from gpuplan.providers.kubernetes_options import NodeOptions, Options, VolumeOptions
from gpuplan.providers.kubernetes_seen import observed_claim, offers_of
from gpuplan.providers.kubernetes_sets import OURS, Sets
from gpuplan.providers.kubernetes_tables import PROFILE, capabilities_of
from gpuplan.providers.kubernetes_wire import MAIN, Claim, StatefulSet


class Kubernetes:
    """One cluster of machines, as far as these credentials reach."""

    def __init__(self, api: Api, options: Options) -> None:
        self._http = api
        self._options = options
        self._api = KubernetesApi(api, options.namespace or "default")
        self._capacity = Capacity(self._api, options)
        self._sets = Sets(self._api, self._capacity, options.patience_seconds)

    @property
    def capabilities(self) -> Capabilities:
        return capabilities_of(self._options)

    async def health(self) -> Account:
        """A cluster has no name of its own; that of its system's namespace lasts as long as it does."""
        await self._http.call("GET", "/version", to="look at the account")
        uid = await self._api.uid_of("kube-system") or await self._api.uid_of(self._api.namespace)
        return Account(self._http.account_id(uid or "cluster"), self._http.endpoint)

    async def offers(self, query: OfferQuery) -> Sequence[Offer]:
        if not self._options.offers:
            return ()
        found = await self._capacity.rooms()
        if found is None:
            hint = "`offers: false` in the provider block plans without looking at machines"
            raise AuthFailed(Failure(self._http.provider, "list machines", "it is forbidden", hint=hint))
        offers = offers_of(found, self._options, self._http.provider, self._http.clock.now())
        return [
            offer
            for offer in offers
            if (not query.gpu or gpu_satisfies(offer.gpu, query.gpu)) and query.gpu_count in (None, offer.gpu_count)
        ]

    async def list(self, kind: Kind, known: frozenset[str]) -> Listed:
        """In the namespace of the block, and in those where something was made before."""
        found: list[Observed] = []
        for namespace in sorted({self._api.namespace, *(self._api.place(remote_id)[0] for remote_id in known)}):
            if kind is Kind.VOLUME:
                claims = await self._api.list(CLAIMS, namespace, labels=OURS, to="list volumes")
                found += map(observed_claim, claims)
            else:
                found += await self._sets.list(namespace)
        return Listed(found)

    async def get(self, kind: Kind, remote_id: str) -> Observed | None:
        if kind is not Kind.VOLUME:
            return await self._sets.get(remote_id)
        claim = await self._api.find(CLAIMS, remote_id, to=f"look at volume {remote_id}")
        return None if claim is None else observed_claim(claim)

    async def create(self, want: Want, mark: Mark, links: Links) -> Observed:
        if want.kind is Kind.VOLUME:
            return await self._create_claim(want, mark)
        return await self._sets.create(want, to_labels(mark), f"create {want.address}")

    async def advance(self, want: Want, mark: Mark, observed: Observed, links: Links) -> Observed:
        if want.kind is Kind.VOLUME:
            return observed
        return await self._sets.finish(want, observed, f"create {want.address}")

    async def update(self, want: Want, remote_id: str, links: Links) -> Observed:
        to = f"update {want.address}"
        return await (self._resize if want.kind is Kind.VOLUME else self._sets.update)(want, remote_id, to)

    async def rehearse(self, want: Want, mark: Mark, remote_id: str) -> None:
        """The server checks all of it, with its webhooks and quotas, and keeps nothing."""
        if remote_id:
            change, to = self._resize if want.kind is Kind.VOLUME else self._sets.update, f"update {want.address}"
            await change(want, remote_id, to, rehearse=True)
        elif want.kind is Kind.VOLUME:
            await self._create_claim(want, mark, rehearse=True)
        else:
            await self._sets.create(want, to_labels(mark), f"create {want.address}", rehearse=True)

    async def delete(self, kind: Kind, remote_id: str, links: Links) -> None:
        """What is there by that name now, and nothing that comes to be there meanwhile."""
        to = f"delete {kind} {remote_id}"
        served: Served[Claim] | Served[StatefulSet] = CLAIMS if kind is Kind.VOLUME else SETS
        await self._api.delete(served, remote_id, to=to)

    async def stop(self, kind: Kind, remote_id: str) -> Observed:
        return await self._sets.scale(remote_id, f"stop {kind} {remote_id}", is_on=False)

    async def start(self, kind: Kind, remote_id: str) -> Observed:
        return await self._sets.scale(remote_id, f"start {kind} {remote_id}", is_on=True)

    async def logs(self, kind: Kind, remote_id: str, *, follow: bool, tail: int | None) -> AsyncIterator[str]:
        """Of all nodes, by time; of several, each line under the name of its node."""
        found = await self._sets.fetch(remote_id, f"read the log of {kind} {remote_id}")
        async for line in lines_of(self._api, await self._sets.pods(found), follow=follow, tail=tail):
            yield line

    async def channel(self, remote_id: str, member: int | None = None) -> Channel:
        namespace, name = self._api.place(remote_id)
        return self._api.channel(namespace, f"{name}-{member or 0}", container=MAIN)

    async def close(self) -> None:
        await self._http.close()

    async def _create_claim(self, want: Want, mark: Mark, *, rehearse: bool = False) -> Observed:
        to = f"create {want.address}"
        with said(self._http.provider, to):
            body = bodies.to_claim(want.name, VolumeAttrs.of(want.attrs), to_labels(mark))
        return observed_claim(await self._api.apply(CLAIMS, self._api.namespace, body, to=to, rehearse=rehearse))

    async def _resize(self, want: Want, remote_id: str, to: str, *, rehearse: bool = False) -> Observed:
        claim = Claim.model_validate(await self._api.fetch(CLAIMS, remote_id, to=to))
        with said(self._http.provider, to):
            if claim.status.phase == "Pending":
                raise ValueError("it is not bound yet: it can grow once a node has used it")
            marks = bodies.marks_of(claim.metadata.labels)
            body = bodies.to_claim(claim.metadata.name, VolumeAttrs.of(want.attrs), marks)
        namespace = claim.metadata.namespace
        return observed_claim(await self._api.apply(CLAIMS, namespace, body, to=to, rehearse=rehearse))


PROVIDER = http_type(
    name="kubernetes",
    title="Kubernetes",
    adapter=Kubernetes,
    options=Options,
    capabilities=capabilities_of,
    profile=PROFILE,
    node_options=NodeOptions,
    volume_options=VolumeOptions,
    locate=locate,
)
