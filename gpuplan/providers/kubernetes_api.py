"""A Kubernetes API server as a client of it sees one: collections, server-side apply, deletes with preconditions, and
the streams of pods. Knows nothing of what gpuplan makes there; whoever talks to Kubernetes can use it.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from gpuplan.core.errors import AuthFailed, Conflict, Failure
from gpuplan.core.ports import Channel, Clock
from gpuplan.net.api import Api
from gpuplan.net.exchange import Query, Socket
from gpuplan.net.profile import Effect
from gpuplan.providers.kubernetes_wire import (
    Body,
    Claim,
    Event,
    Machine,
    Meta,
    Pod,
    Quota,
    StatefulSet,
    Tree,
)

MANAGER = "gpuplan"
APPLY = {"Content-Type": "application/apply-patch+yaml"}
EXEC_PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
FORWARD_PROTOCOLS = ("v4.channel.k8s.io",)
FORBIDDEN = 403

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Served(Generic[P]):
    """One resource, in its namespaces."""

    prefix: str
    plural: str
    payload: type[P]

    @property
    def everywhere(self) -> str:
        return f"{self.prefix}/{self.plural}"

    @property
    def collection(self) -> str:
        return f"{self.prefix}/namespaces/{{namespace}}/{self.plural}"

    @property
    def item(self) -> str:
        return f"{self.collection}/{{name}}"


SETS = Served("/apis/apps/v1", "statefulsets", StatefulSet)
PODS = Served("/api/v1", "pods", Pod)
CLAIMS = Served("/api/v1", "persistentvolumeclaims", Claim)
SERVICES: Served[Tree] = Served("/api/v1", "services", Tree)
SECRETS: Served[Tree] = Served("/api/v1", "secrets", Tree)
QUOTAS = Served("/api/v1", "resourcequotas", Quota)
EVENTS = Served("/api/v1", "events", Event)
MACHINES = Served("/api/v1", "nodes", Machine)


class KubernetesApi:
    """`namespace` is where objects are that say no other. Ids are `namespace/name`."""

    def __init__(self, api: Api, namespace: str) -> None:
        self.http = api
        self.namespace = namespace

    @property
    def provider(self) -> str:
        return self.http.provider

    @property
    def clock(self) -> Clock:
        return self.http.clock

    def place(self, remote_id: str) -> tuple[str, str]:
        """Namespace and name."""
        namespace, _, name = remote_id.rpartition("/")
        return namespace or self.namespace, name

    async def list(
        self, served: Served[P], namespace: str | None, *, to: str, labels: str = "", fields: str = ""
    ) -> list[P]:
        """Of one namespace, or of all (None)."""
        path = () if namespace is None else (namespace,)
        route = served.everywhere if namespace is None else served.collection
        query: Query = {"labelSelector": labels or None, "fieldSelector": fields or None}
        pages = self.http.pages(route, *path, items="items", answer=served.payload, query=query, to=to)
        return [item async for item in pages]

    async def find(self, served: Served[P], remote_id: str, *, to: str) -> P | None:
        """None is certain absence."""
        return await self.http.find("GET", served.item, *self.place(remote_id), answer=served.payload, to=to)

    async def fetch(self, served: Served[P], remote_id: str, *, to: str) -> Tree:
        """The whole object. Raises NotFound."""
        return await self.http.call("GET", served.item, *self.place(remote_id), answer=dict, to=to)

    async def apply(
        self,
        served: Served[P],
        namespace: str,
        body: Body,
        *,
        to: str,
        force: bool = False,
        rehearse: bool = False,
        gpu: str = "",
    ) -> P:
        """Make it so, field by field; the same once more changes nothing. With `rehearse` everything is checked and
        nothing is kept. Raises Conflict for an object that is about to go."""
        meta = body["metadata"]
        assert isinstance(meta, dict)
        query: Query = {
            "fieldManager": MANAGER,
            "fieldValidation": "Strict",
            "force": force or None,
            "dryRun": "All" if rehearse else None,
        }
        name = str(meta["name"])
        answer = await self.http.call(
            "PATCH",
            served.item,
            namespace,
            name,
            query=query,
            headers=APPLY,
            json=body,
            effect=Effect.NONE if rehearse else Effect.REPEATABLE,
            answer=served.payload,
            gpu=gpu,
            to=to,
        )
        if isinstance(answer, (StatefulSet, Claim)) and answer.metadata.deletion_timestamp is not None:
            raise Conflict(Failure(self.http.provider, to, f"{name} is being deleted"))
        return answer

    async def delete(self, served: Served[Any], remote_id: str, *, uid: str = "", to: str) -> None:
        """The object of this `uid`, else the one that is there now, and with it what it owns: it is gone once they
        are. Gone already is success."""
        if not uid:
            found = await self.http.find("GET", served.item, *self.place(remote_id), answer=Meta, at="metadata", to=to)
            if found is None:
                return
            uid = found.uid
        # Whatever stands in the URL is ignored where there is a body: everything goes there.
        options: Body = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "propagationPolicy": "Foreground",
            "preconditions": {"uid": uid},
        }
        await self.http.remove(served.item, *self.place(remote_id), json=options, to=to)

    async def rooms(self) -> "tuple[Sequence[Machine], Sequence[Pod]] | None":
        """All machines, and all pods that use them; None where these credentials may not look."""
        try:
            machines = await self.list(MACHINES, None, to="list machines")
            going = "status.phase!=Succeeded,status.phase!=Failed"
            return machines, await self.list(PODS, None, fields=going, to="list what runs on them")
        except AuthFailed as error:
            if error.failure.status != FORBIDDEN:
                raise
            return None

    async def uid_of(self, namespace: str) -> str:
        """The uid of a namespace; empty where it is not told."""
        try:
            found = await self.http.find(
                "GET", "/api/v1/namespaces/{name}", namespace, answer=Meta, at="metadata", to="look at the account"
            )
        except AuthFailed as error:
            if error.failure.status != FORBIDDEN:
                raise
            return ""
        return found.uid if found is not None else ""

    def log_lines(
        self, namespace: str, pod: str, *, container: str, follow: bool, tail: int | None, since: str, seconds: float
    ) -> AsyncIterator[str]:
        """Each with the time it was printed before it. `seconds` is how long a container may be silent."""
        query: Query = {
            "container": container,
            "follow": follow or None,
            "tailLines": tail,
            "timestamps": True,
            "sinceTime": since or None,
        }
        route, to = f"{PODS.item}/log", f"read the log of {pod}"
        return self.http.lines(route, namespace, pod, query=query, timeout_seconds=seconds, to=to)

    def channel(self, namespace: str, pod: str, *, container: str) -> Channel:
        """A way into a container."""
        # Few who talk to a cluster ever go in.
        from gpuplan.net.websocket_channel import PodChannel

        def execute(words: Sequence[str], to: str) -> AbstractAsyncContextManager[Socket]:
            streams = dict.fromkeys(("stdin", "stdout", "stderr"), True)
            query: Query = {"command": words, "container": container, **streams}
            route, effect = f"{PODS.item}/exec", Effect.ONCE
            return self.http.socket(route, namespace, pod, query=query, protocols=EXEC_PROTOCOLS, effect=effect, to=to)

        def forward(port: int, to: str) -> AbstractAsyncContextManager[Socket]:
            query: Query = {"ports": port}
            route = f"{PODS.item}/portforward"
            return self.http.socket(route, namespace, pod, query=query, protocols=FORWARD_PROTOCOLS, to=to)

        return PodChannel(execute, forward, provider=self.provider, name=pod, redact=self.http.redact)
