"""A bare client of the emulated API server, in process and in virtual time."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from gpuplan.core.values import JsonValue
from gpuplan.emulators.catalog import emulator_types
from gpuplan.emulators.desk import Desk
from gpuplan.emulators.http import Request, Response
from gpuplan.emulators.world import World
from gpuplan.testing.clock import FakeClock

APPLY, MERGE = "application/apply-patch+yaml", "application/merge-patch+json"
STRATEGIC, JSON = "application/strategic-merge-patch+json", "application/json-patch+json"
SETS, PODS, JOBS = (
    "/apis/apps/v1/namespaces/default/statefulsets",
    "/api/v1/namespaces/default/pods",
    "/apis/batch/v1/namespaces/default/jobs",
)


class Told(NamedTuple):
    status: int
    body: Any
    headers: Mapping[str, str]

    @property
    def message(self) -> str:
        return str(self.body["message"])


class Server:
    """`knobs` as the control API turns them."""

    def __init__(self, **knobs: JsonValue) -> None:
        self.clock = FakeClock()
        self.world = World(self.clock)
        self.world.knobs["kubernetes"].update(knobs)
        self._desk = Desk(self.world, emulator_types(["kubernetes"]))

    def ask(self, method: str, path: str, body: object = None, kind: str = "application/json", **query: str) -> Told:
        response = self.respond(method, path, body, kind, **query)
        text = response.content.decode()
        return Told(response.status, json.loads(text) if text[:1] in ("{", "[") else text, response.headers)

    def respond(
        self, method: str, path: str, body: object = None, kind: str = "application/json", **query: str
    ) -> Response:
        headers = {"authorization": "Bearer a-token", "content-type": kind, "user-agent": "tester/1"}
        content = b"" if body is None else json.dumps(body).encode()
        parameters = {name: [value] for name, value in query.items()}
        return self._desk.answer(Request(method, f"/kubernetes{path}", parameters, headers, content)).response

    def apply(self, body: Mapping[str, Any], manager: str = "one", **query: str) -> Told:
        path = f"{SETS}/{body['metadata']['name']}"
        return self.ask("PATCH", path, body, APPLY, fieldManager=manager, **query)

    def names(self, path: str, **query: str) -> list[str]:
        return [item["metadata"]["name"] for item in self.ask("GET", path, **query).body["items"]]

    def wait(self, seconds: float, looks: int = 1) -> None:
        """Time passes, and somebody looks: nothing happens unseen."""
        for _ in range(looks):
            self.clock.advance(seconds / looks)
            self.ask("GET", PODS)


def stateful_set(name: str = "train", replicas: int = 2, gpus: object = 8, **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": "a:1", "resources": {"limits": {"nvidia.com/gpu": gpus}}}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": name, "labels": {"team": "a"}},
        "spec": {
            "replicas": replicas,
            "serviceName": name,
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "containers": [container],
                    "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"},
                    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
                },
            },
            **spec,
        },
    }


def job(name: str = "j", **spec: Any) -> dict[str, Any]:
    command = spec.pop("command", ["true"])
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {
            "template": {
                "spec": {
                    "restartPolicy": "Never",
                    "containers": [{"name": "main", "image": "a:1", "command": command}],
                }
            },
            **spec,
        },
    }
