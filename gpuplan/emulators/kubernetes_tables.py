"""Listings as tables, which is how kubectl asks for what it prints."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gpuplan.emulators.kubernetes_fields import Tree
from gpuplan.emulators.kubernetes_pods import is_ready
from gpuplan.emulators.kubernetes_resources import Resource
from gpuplan.emulators.kubernetes_store import Stored, seconds_since
from gpuplan.emulators.kubernetes_writes import Place

TABLE = "as=Table"
_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def table(resource: Resource, found: Sequence[Stored], place: Place) -> Tree:
    """Columns, and a row with the cells of each object."""
    columns = {"Name": lambda each: each.name, **_COLUMNS.get(resource.kind, {}), "Age": _age(place)}
    formats = {"Name": "name"}
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": str(place.cluster.version)},
        "columnDefinitions": [
            {"name": name, "type": "string", "format": formats.get(name, ""), "description": "", "priority": 0}
            for name in columns
        ],
        "rows": [{"cells": [read(each) for read in columns.values()], "object": _partial(each)} for each in found],
    }


def _partial(stored: Stored) -> Tree:
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": stored.meta}


def _age(place: Place) -> Callable[[Stored], Any]:
    def read(stored: Stored) -> str:
        seconds = int(seconds_since(stored.meta["creationTimestamp"], place.site.now))
        for unit, size in _UNITS:
            if seconds >= size:
                return f"{seconds // size}{unit}"
        return "0s"

    return read


def _pod_status(stored: Stored) -> str:
    if stored.is_leaving:
        return "Terminating"
    for each in stored.status.get("containerStatuses", ()):
        for state in each["state"].values():
            if state.get("reason"):
                return str(state["reason"])
    return str(stored.status.get("reason") or stored.status.get("phase", ""))


def _ready(stored: Stored) -> str:
    return f"{stored.status.get('readyReplicas', 0)}/{stored.spec.get('replicas', 1)}"


def _restarts(stored: Stored) -> int:
    return sum(int(each["restartCount"]) for each in stored.status.get("containerStatuses", ()))


_COLUMNS: Mapping[str, Mapping[str, Callable[[Stored], Any]]] = {
    "Pod": {
        "Ready": lambda each: f"{int(is_ready(each))}/{len(each.spec['containers'])}",
        "Status": _pod_status,
        "Restarts": _restarts,
    },
    "StatefulSet": {"Ready": _ready},
    "Deployment": {"Ready": _ready},
    "Service": {"Type": lambda each: each.spec.get("type"), "Cluster-IP": lambda each: each.spec.get("clusterIP")},
    "PersistentVolumeClaim": {
        "Status": lambda each: each.status.get("phase"),
        "Capacity": lambda each: each.status.get("capacity", {}).get("storage", ""),
        "StorageClass": lambda each: each.spec.get("storageClassName"),
    },
    "Node": {"Status": lambda each: "Ready" if is_ready(each) else "NotReady"},
    "Namespace": {"Status": lambda each: each.status.get("phase")},
}
