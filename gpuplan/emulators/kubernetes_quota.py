"""Quotas: what a namespace may have, counted when objects are made."""

from collections.abc import Iterator, Mapping
from decimal import Decimal

from gpuplan.emulators.kubernetes_fields import Tree
from gpuplan.emulators.kubernetes_scheduler import FINISHED, requests
from gpuplan.emulators.kubernetes_selectors import quantity
from gpuplan.emulators.kubernetes_store import Cluster, Stored
from gpuplan.emulators.site import Site

_LABEL_BYTES = 63
_EXTENDED = "requests."


def pod_objection(site: Site, cluster: Cluster, pod: Tree) -> str:
    """Why a controller cannot make this pod; empty when it can."""
    name, labels = pod["metadata"]["name"], pod["metadata"]["labels"]
    for key, value in labels.items():
        if len(value) > _LABEL_BYTES:
            told = f'metadata.labels: Invalid value: "{value}": must be no more than {_LABEL_BYTES} bytes'
            return f'Pod "{name}" is invalid: {told} ({key})'
    excess = quota_excess(site, cluster, pod)
    return f'pods "{name}" is forbidden: {excess}' if excess else ""


def quota_excess(site: Site, cluster: Cluster, tree: Tree) -> str:
    """What an object would exceed; empty when nothing."""
    namespace = str(tree["metadata"].get("namespace", ""))
    asked = dict(_charges(tree))
    for name, hard in _quotas(site, cluster, namespace):
        used = _used(cluster, namespace, hard)
        over = [key for key in hard if key in asked and used[key] + asked[key] > quantity(hard[key])]
        if over:
            told = {
                "requested": {key: _number(asked[key]) for key in over},
                "used": {key: _number(used[key]) for key in over},
                "limited": {key: hard[key] for key in over},
            }
            words = (f"{word}: {','.join(f'{k}={v}' for k, v in part.items())}" for word, part in told.items())
            return f"exceeded quota: {name}, {', '.join(words)}"
    return ""


def settle_quotas(site: Site, cluster: Cluster) -> None:
    for quota in cluster.all("ResourceQuota"):
        hard = quota.spec.get("hard") or {}
        used = _used(cluster, quota.namespace, hard)
        cluster.set_status(quota, {"hard": dict(hard), "used": {key: _number(used[key]) for key in hard}})


def _quotas(site: Site, cluster: Cluster, namespace: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    for quota in cluster.all("ResourceQuota", namespace):
        yield quota.name, quota.spec.get("hard") or {}
    knob = site.knob("quota")
    if isinstance(knob, Mapping):
        yield "emulator", {key: str(value) for key, value in knob.items()}


def _used(cluster: Cluster, namespace: str, hard: Mapping[str, str]) -> dict[str, Decimal]:
    total = dict.fromkeys(hard, Decimal(0))
    for kind in ("Pod", "PersistentVolumeClaim", "StatefulSet", "Job", "Service"):
        for stored in cluster.all(kind, namespace):
            if not _is_finished(stored):
                for key, amount in _charges(stored.tree):
                    if key in total:
                        total[key] += amount
    return total


def _is_finished(stored: Stored) -> bool:
    return stored.resource.kind == "Pod" and stored.status.get("phase") in FINISHED


def _charges(tree: Tree) -> Iterator[tuple[str, Decimal]]:
    """What one object counts for, by the names quotas have for it."""
    one = Decimal(1)
    match tree["kind"]:
        case "Pod":
            yield "pods", one
            for name, amount in requests(tree["spec"]).items():
                if name != "pods":
                    yield f"{_EXTENDED}{name}", amount
        case "PersistentVolumeClaim":
            yield "persistentvolumeclaims", one
            yield "requests.storage", quantity(tree["spec"]["resources"]["requests"]["storage"])
        case "StatefulSet":
            yield "count/statefulsets.apps", one
        case "Job":
            yield "count/jobs.batch", one
        case "Service":
            yield "services", one


def _number(amount: Decimal) -> str:
    return f"{amount.normalize():f}"
