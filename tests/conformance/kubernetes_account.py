"""A cluster at the emulated Kubernetes, in process and in virtual time, and what tests and other people do there."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gpuplan.core.address import Address
from gpuplan.core.desired import Kind
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Observed, Status
from gpuplan.core.ports import Want
from gpuplan.core.values import JsonValue, Value
from gpuplan.emulators.desk import Desk
from gpuplan.emulators.http import Delivery, Request, Response
from gpuplan.emulators.site import EmulatorType
from gpuplan.emulators.world import World
from gpuplan.net.http_provider import THROWAWAY_KEY
from gpuplan.providers.kubernetes import PROVIDER
from gpuplan.testing.emulated import RecordingDesk
from gpuplan.testing.in_process import InProcessAccount, InProcessWire, with_wire

GROUP: Mapping[str, Value] = {"nodes": 2, "gpu": "H100-80GB:8", "image": "python:3.13"}
SETS = "/apis/apps/v1/namespaces/{namespace}/statefulsets"
APPLY, MERGE = "application/apply-patch+yaml", "application/merge-patch+json"


class ScriptedDesk(RecordingDesk):
    """Has answers of its own for all calls of a method."""

    def __init__(self, world: World, types: Mapping[str, EmulatorType]) -> None:
        super().__init__(world, types)
        self.scripted: dict[str, Response] = {}

    def answer(self, request: Request) -> Delivery:
        delivery = super().answer(request)
        scripted = self.scripted.get(request.method)
        return delivery if scripted is None else replace(delivery, response=scripted)


class Cluster(InProcessAccount):
    """An account whose every exchange is written down, and a way past the adapter."""

    desk: ScriptedDesk

    def __init__(self, **knobs: JsonValue) -> None:
        super().__init__(PROVIDER, **knobs)
        self.desk = ScriptedDesk(self.world, self.desk.types)
        self._type = with_wire(PROVIDER, InProcessWire(self.desk, self.clock))

    def asked(self, method: str, path: str, body: object = None, **query: str) -> dict[str, Any]:
        """What somebody else does to the cluster, with `kubectl` or by a controller."""
        kind = APPLY if "force" in query else MERGE if method == "PATCH" else "application/json"
        headers = {"authorization": f"Bearer {THROWAWAY_KEY}", "content-type": kind}
        content = b"" if body is None else json.dumps(body).encode()
        parameters = {name: [value] for name, value in query.items()}
        request = Request(method, f"/kubernetes{path}", parameters, headers, content)
        response = Desk.answer(self.desk, request).response
        assert response.status < 300, response.body
        answer: dict[str, Any] = json.loads(response.content)
        return answer

    def live(self, seen: Observed) -> dict[str, Any]:
        """The StatefulSet behind a cluster."""
        namespace, _, name = seen.remote_id.partition("/")
        return self.asked("GET", f"{SETS.format(namespace=namespace)}/{name}")

    def pods(self, seen: Observed) -> list[dict[str, Any]]:
        namespace, _, name = seen.remote_id.partition("/")
        found = self.asked("GET", f"/api/v1/namespaces/{namespace}/pods", labelSelector=f"gpuplan.io/cluster={name}")
        items: list[dict[str, Any]] = found["items"]
        return items

    def ask(self, kind: Kind = Kind.GROUP, **attrs: Value) -> tuple[Want, Mark]:
        token = self.clock.token()
        address = Address("clusters" if kind is Kind.GROUP else "volumes", "train")
        given = {**GROUP, **attrs} if kind is Kind.GROUP else attrs
        known = {name: value for name, value in given.items() if value is not None}
        return Want(address, kind, known, f"train-{token[-8:]}"), Mark(token, "llama", "default", "lineage", address)

    async def create(self, provider: Any, kind: Kind = Kind.GROUP, **attrs: Value) -> Observed:
        """One that is up."""
        want, mark = self.ask(kind, **attrs)
        return await self.until(provider, want, mark, await provider.create(want, mark, {}), Status.RUNNING)

    async def until(self, provider: Any, want: Want, mark: Mark, seen: Observed, status: Status) -> Observed:
        for _ in range(200):
            if seen.status is status and seen.healthy is not False:
                return seen
            seen = await provider.advance(want, mark, seen, {})
            await self.clock.sleep(2)
            now = await provider.get(seen.kind, seen.remote_id)
            assert now is not None
            seen = now
        raise AssertionError(f"it is {seen.status}: {seen.detail}")

    async def settled(self, provider: Any, seen: Observed, status: Status) -> Observed:
        return await self.until(provider, *self.ask(seen.kind), seen, status)

    async def update(self, provider: Any, seen: Observed, *names: str, **attrs: Value) -> Observed:
        """Change what is named, and keep the rest as it was asked for."""
        want, _ = self.ask(seen.kind, **attrs)
        changed: Observed = await provider.update(replace(want, update=frozenset(names or attrs)), seen.remote_id, {})
        return changed


def template_of(tree: dict[str, Any]) -> dict[str, Any]:
    """What a set's pods are made from."""
    spec: dict[str, Any] = tree["spec"]["template"]["spec"]
    return spec
