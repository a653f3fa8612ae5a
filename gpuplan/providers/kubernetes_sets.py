"""Clusters as StatefulSets: how they are made, changed, scaled and looked at."""

from collections.abc import Mapping, Sequence

from gpuplan.core.errors import Failure, NotFound
from gpuplan.core.kinds import NodeAttrs
from gpuplan.core.observed import Observed
from gpuplan.core.ports import Want
from gpuplan.providers import kubernetes_bodies as bodies
from gpuplan.providers.kubernetes_api import EVENTS, MANAGER, PODS, SECRETS, SERVICES, SETS, KubernetesApi
from gpuplan.providers.kubernetes_capacity import Capacity, said
from gpuplan.providers.kubernetes_health import Condition, health_of, look_at, needs_events
from gpuplan.providers.kubernetes_options import NodeOptions
from gpuplan.providers.kubernetes_placing import MOVING, Placement
from gpuplan.providers.kubernetes_seen import WAITING, observed_set
from gpuplan.providers.kubernetes_wire import Body, Event, Pod, StatefulSet

OURS = ",".join(f"{name}={value}" for name, value in bodies.MANAGED.items())


class Sets:
    """The clusters of one account. `patience_seconds`: how long a lack of room is taken for passing."""

    def __init__(self, api: KubernetesApi, capacity: Capacity, patience_seconds: float) -> None:
        self._api = api
        self._capacity = capacity
        self._patience_seconds = patience_seconds

    async def list(self, namespace: str) -> Sequence[Observed]:
        found = await self._api.list(SETS, namespace, labels=OURS, to="list clusters")
        by_owner: dict[str, list[Pod]] = {}
        for pod in await self._api.list(PODS, namespace, labels=OURS, to="list nodes"):
            by_owner.setdefault(pod.owner, []).append(pod)
        now = self._api.clock.now()
        needed = any(needs_events(each, by_owner.get(each.metadata.uid, ()), now) for each in found)
        events = await self._warnings(namespace) if needed else ()
        return [self._told(each, by_owner.get(each.metadata.uid, ()), events) for each in found]

    async def get(self, remote_id: str) -> Observed | None:
        found = await self._api.find(SETS, remote_id, to=f"look at group {remote_id}")
        return None if found is None else await self._observe(found, await self.pods(found))

    async def fetch(self, remote_id: str, to: str) -> StatefulSet:
        """Raises NotFound."""
        found = await self._api.find(SETS, remote_id, to=to)
        if found is None:
            raise NotFound(Failure(self._api.provider, to))
        return found

    async def pods(self, found: StatefulSet) -> Sequence[Pod]:
        namespace, labels = found.metadata.namespace, f"{bodies.CLUSTER}={found.metadata.name}"
        if bodies.CLUSTER not in found.spec.template.metadata.labels:
            # Somebody else made it: its pods carry what its own template says.
            labels = ",".join(f"{name}={value}" for name, value in found.spec.template.metadata.labels.items())
        listed = await self._api.list(PODS, namespace, labels=labels, to=f"list the nodes of {found.metadata.name}")
        return [pod for pod in listed if pod.owner == found.metadata.uid]

    async def create(self, want: Want, marks: Mapping[str, str], to: str, *, rehearse: bool = False) -> Observed:
        """Begins without nodes: they are made once all is there that they need."""
        asked = NodeAttrs.of(want.attrs)
        placement = await self._capacity.placed(asked, want.offer, asked.nodes, to)
        with said(self._api.provider, to):
            body = bodies.to_set(want.name, asked, placement, marks, waits=True)
        gpu, namespace = str(asked.gpu or ""), self._api.namespace
        return await self._observe(await self._api.apply(SETS, namespace, body, to=to, rehearse=rehearse, gpu=gpu), ())

    async def finish(self, want: Want, observed: Observed, to: str) -> Observed:
        """Make what the nodes need, and let them come."""
        if observed.detail != WAITING:
            return observed
        found = await self.fetch(observed.remote_id, to)
        return await self._apply(want, found, Placement.of(found), to)

    async def update(self, want: Want, remote_id: str, to: str, *, rehearse: bool = False) -> Observed:
        found, asked = await self.fetch(remote_id, to), NodeAttrs.of(want.attrs)
        placement = await self._replaced(want, asked, found, to)
        if rehearse:
            return await self._apply(want, found, placement, to, rehearse=True)
        now = self._api.clock.now()
        broken = [pod for pod in await self.pods(found) if look_at(pod, now).condition is Condition.BROKEN]
        observed = await self._apply(want, found, placement, to)
        for pod in broken if want.update - {"nodes"} else ():
            # The set waits for a node that never starts before it goes on, even with what would mend it.
            await self._api.delete(PODS, pod.metadata.remote_id, uid=pod.metadata.uid, to=to)
        return observed

    async def scale(self, remote_id: str, to: str, *, is_on: bool) -> Observed:
        """All nodes or none. Everything else that was applied is applied again, or it would be taken away."""
        tree = await self._api.fetch(SETS, remote_id, to=to)
        meta = tree["metadata"]
        head: Body = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": meta["name"]}}
        body: Body = {**(bodies.applied_by(tree, MANAGER) or head)}
        wanted = (meta.get("annotations") or {}).get(bodies.REPLICAS, "1")
        spec = body.get("spec")
        body["spec"] = {**(spec if isinstance(spec, Mapping) else {}), "replicas": int(wanted) if is_on else 0}
        applied = await self._api.apply(SETS, self._api.place(remote_id)[0], body, to=to)
        return await self._observe(applied, await self.pods(applied))

    async def _replaced(self, want: Want, asked: NodeAttrs, found: StatefulSet, to: str) -> Placement:
        """Where the nodes are to be from now on: where they are, unless the change is about that."""
        more = max(0, asked.nodes - found.spec.replicas)
        moves = bool(want.update & MOVING)
        if not moves and not (more and asked.gpu is not None):
            return Placement.of(found)
        # While it moves, every node leaves its place before it takes another.
        there = await self._capacity.placed(asked, None, more, to)
        return there if moves else Placement.of(found)

    async def _apply(
        self, want: Want, found: StatefulSet, placement: Placement, to: str, *, rehearse: bool = False
    ) -> Observed:
        """The whole cluster as it shall be: what an apply does not say is taken away."""
        asked, name, namespace = NodeAttrs.of(want.attrs), found.metadata.name, found.metadata.namespace
        with said(self._api.provider, to):
            force = NodeOptions.model_validate(asked.options).force
            owner = bodies.owner_of(name, found.metadata.uid)
            secret = bodies.to_secret(name, asked, owner)
        service = bodies.to_service(name, asked, owner)
        await self._api.apply(SERVICES, namespace, service, to=to, force=force, rehearse=rehearse)
        environment = ""
        if secret is not None:
            kept = await self._api.apply(SECRETS, namespace, secret, to=to, force=force, rehearse=rehearse)
            environment = str(kept["metadata"].get("resourceVersion", "new"))
        with said(self._api.provider, to):
            marks = bodies.marks_of(found.metadata.labels)
            body = bodies.to_set(name, asked, placement, marks, environment=environment)
        applied = await self._api.apply(SETS, namespace, body, to=to, force=force, rehearse=rehearse)
        return await self._observe(applied, await self.pods(applied))

    async def _observe(self, found: StatefulSet, pods: Sequence[Pod]) -> Observed:
        needed = needs_events(found, pods, self._api.clock.now())
        return self._told(found, pods, await self._warnings(found.metadata.namespace) if needed else ())

    async def _warnings(self, namespace: str) -> Sequence[Event]:
        """What Kubernetes complains of; it forgets after an hour."""
        return await self._api.list(EVENTS, namespace, fields="type=Warning", to="look what is the matter")

    def _told(self, found: StatefulSet, pods: Sequence[Pod], events: Sequence[Event]) -> Observed:
        now, provider = self._api.clock.now(), self._api.provider
        health = health_of(found, pods, events, now, provider=provider, patience=self._patience_seconds)
        return observed_set(found, pods, health, bodies.taken_over(found.metadata, MANAGER))
