"""Pods as controllers make them, and what a set of them says about itself."""

import copy
from collections.abc import Mapping, Sequence

from gpuplan.emulators.kubernetes_fields import Tree
from gpuplan.emulators.kubernetes_scheduler import requests
from gpuplan.emulators.kubernetes_store import Cluster, Stored, owner_reference

_DEFAULT_TOLERATIONS = [
    {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
    for key in ("not-ready", "unreachable")
]


def pod_tree(owner: Stored, name: str, labels: Mapping[str, str], *, generate: str) -> Tree:
    """A pod out of the template of its owner."""
    template = copy.deepcopy(owner.spec["template"])
    meta = template.get("metadata") or {}
    return finished(
        {
            "kind": "Pod",
            "apiVersion": "v1",
            "metadata": {
                "name": name,
                "generateName": generate,
                "namespace": owner.namespace,
                "labels": {**(meta.get("labels") or {}), **labels},
                **({"annotations": meta["annotations"]} if meta.get("annotations") else {}),
                "ownerReferences": [owner_reference(owner)],
            },
            "spec": template["spec"],
        }
    )


def finished(pod: Tree) -> Tree:
    """What admission adds to every pod: tolerations, priority, its first status."""
    spec = pod["spec"]
    known = {toleration.get("key") for toleration in spec.get("tolerations") or ()}
    added = [each for each in _DEFAULT_TOLERATIONS if each["key"] not in known]
    spec["tolerations"] = [*(spec.get("tolerations") or ()), *copy.deepcopy(added)]
    spec.setdefault("priority", 0)
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
    pod["status"] = {"phase": "Pending", "qosClass": _quality(spec)}
    return pod


def is_ready(pod: Stored) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod.status.get("conditions", ()))


def is_available(pod: Stored) -> bool:
    return is_ready(pod) and not pod.is_leaving


def settle_revision(cluster: Cluster, stored: Stored, pods: Sequence[Stored], revision: str) -> None:
    """The status of a StatefulSet. Counters that are zero are left out, but for the first and the last."""
    updated = [pod for pod in pods if pod.meta["labels"].get("controller-revision-hash") == revision]
    wanted = int(stored.spec.get("replicas", 1))
    ready = [pod for pod in pods if is_ready(pod)]
    available = [pod for pod in pods if is_available(pod)]
    current = stored.hidden.get("current_revision", revision)
    if len(updated) == len(pods) == wanted and len(available) == wanted:
        current = revision
    stored.hidden["current_revision"] = current
    kept = len([pod for pod in pods if pod.meta["labels"].get("controller-revision-hash") == current])
    counters = {"readyReplicas": len(ready), "currentReplicas": kept, "updatedReplicas": len(updated)}
    status: Tree = {
        "observedGeneration": stored.meta["generation"],
        "replicas": len(pods),
        **{name: count for name, count in counters.items() if count},
        "currentRevision": current,
        "updateRevision": revision,
        "collisionCount": 0,
        "availableReplicas": len(available),
    }
    cluster.set_status(stored, status)


def _quality(spec: Tree) -> str:
    """GPUs do not count."""
    asked = [name for name in requests(spec) if name in ("cpu", "memory")]
    limits = [set((c.get("resources") or {}).get("limits") or {}) & {"cpu", "memory"} for c in spec["containers"]]
    if asked and all(len(limit) == 2 for limit in limits) and _limits_are_requests(spec):
        return "Guaranteed"
    return "Burstable" if asked or any(limits) else "BestEffort"


def _limits_are_requests(spec: Tree) -> bool:
    resources = [container.get("resources") or {} for container in spec["containers"]]
    return all(
        each.get("requests", {}).get(name) == each.get("limits", {}).get(name)
        for each in resources
        for name in ("cpu", "memory")
    )
