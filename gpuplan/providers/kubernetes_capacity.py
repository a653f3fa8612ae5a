"""Whether what is asked for finds room: looked at before it is made, since Kubernetes itself only lets it wait."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal

from gpuplan.core.errors import AuthFailed, Failure, InvalidRequest, NoCapacity, QuotaExceeded
from gpuplan.core.kinds import NodeAttrs
from gpuplan.core.offers import Offer
from gpuplan.providers.kubernetes_api import FORBIDDEN, QUOTAS, KubernetesApi
from gpuplan.providers.kubernetes_gpus import Room, rooms
from gpuplan.providers.kubernetes_options import NodeOptions, Options
from gpuplan.providers.kubernetes_placing import Placement, Terms, as_toleration, place
from gpuplan.providers.kubernetes_wire import Quota, quantity


class Capacity:
    """Machines and quotas, as far as these credentials may look."""

    def __init__(self, api: KubernetesApi, options: Options) -> None:
        self._api = api
        self._options = options

    async def rooms(self, options: NodeOptions | None = None) -> Sequence[Room] | None:
        """The machines that would take new nodes; None where nobody may look."""
        found = await self._api.rooms()
        if found is None:
            return None
        tolerated = (*self._options.tolerations, *(options.tolerations if options else ()))
        return rooms(*found, [as_toleration(each) for each in tolerated])

    async def placed(self, asked: NodeAttrs, offer: Offer | None, nodes: int, to: str) -> Placement:
        """Where that many more nodes go. Half a cluster would hold its GPUs for nothing, and Kubernetes gives what it
        has: so it is all or none. Raises NoCapacity, QuotaExceeded."""
        with said(self._api.provider, to):
            terms, options = Terms.of(asked, offer), NodeOptions.model_validate(asked.options)
            found = await self.rooms(options) if terms.gpu and self._options.offers else None
            placement = place(terms, options, self._options, found)
        if placement is None:
            raise NoCapacity(self._failure(to, "no machine of this cluster is of that kind", asked))
        if placement.free is not None and placement.free < nodes:
            room = f"{nodes} nodes need {asked.gpu} each, and there is room for {placement.free}"
            raise NoCapacity(self._failure(to, room, asked))
        await self._check_quota(asked, placement, nodes, to)
        return placement

    async def _check_quota(self, asked: NodeAttrs, placement: Placement, nodes: int, to: str) -> None:
        """Kubernetes takes a cluster that exceeds a quota, and never makes its pods."""
        if asked.gpu is None or not placement.resource or not nodes:
            return
        name, more = f"requests.{placement.resource}", Decimal(asked.gpu.count * nodes)
        for quota in await self._quotas():
            hard, used = quota.status.hard.get(name), quota.status.used.get(name, "0")
            if hard is not None and quantity(used) + more > quantity(hard):
                told = f"of the {hard} {name} of quota `{quota.metadata.name}` {used} are used, {more} more are needed"
                raise QuotaExceeded(self._failure(to, told, asked))

    async def _quotas(self) -> Sequence[Quota]:
        try:
            return await self._api.list(QUOTAS, self._api.namespace, to="look at quotas")
        except AuthFailed as error:
            if error.failure.status != FORBIDDEN:
                raise
            return ()

    def _failure(self, to: str, message: str, asked: NodeAttrs) -> Failure:
        return Failure(self._api.provider, to, message, gpu=str(asked.gpu or ""))


@contextmanager
def said(provider: str, to: str) -> Iterator[None]:
    """What cannot be said in Kubernetes' words is refused, and nothing is sent."""
    try:
        yield
    except ValueError as exc:
        raise InvalidRequest(Failure(provider, to, str(exc))) from exc
