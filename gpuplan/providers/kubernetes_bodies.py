"""What gpuplan applies to a Kubernetes cluster: a StatefulSet and what belongs to it, and claims. Pure."""

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from gpuplan.core.kinds import NodeAttrs, VolumeAttrs, plain
from gpuplan.core.values import JsonValue
from gpuplan.net.marks import PREFIX
from gpuplan.providers.kubernetes_options import NodeOptions, VolumeOptions
from gpuplan.providers.kubernetes_placing import Placement
from gpuplan.providers.kubernetes_pods import POD_INDEX, pod_spec, secrets_of, service_ports
from gpuplan.providers.kubernetes_wire import MAIN, Body, Meta, Tree

MANAGED = {"app.kubernetes.io/managed-by": "gpuplan"}
CLUSTER = "gpuplan.io/cluster"
REPLICAS, GPU, WAITS = "gpuplan.io/replicas", "gpuplan.io/gpu", "gpuplan.io/waits"
"""Annotations of a set: how many nodes there are when it runs, which GPU was asked for, and whether its companions are
still to be made."""
ENVIRONMENT, SETUP = "gpuplan.io/environment", "gpuplan.io/setup"
"""Annotations of its pods: the version of their sensitive variables, and a digest of what sets them up."""
_MAIN = f'k:{{"name":"{MAIN}"}}'
QUEUE = "kueue.x-k8s.io/queue-name"


def to_set(
    name: str,
    asked: NodeAttrs,
    placement: Placement,
    marks: Mapping[str, str],
    *,
    waits: bool = False,
    environment: str = "",
) -> Body:
    """The StatefulSet of a cluster. `marks` are the labels that say whose it is. One that `waits` has no pods yet.
    `environment` changes whenever a sensitive variable does."""
    options = NodeOptions.model_validate(asked.options)
    own: dict[str, JsonValue] = {**MANAGED, CLUSTER: name, **asked.labels}
    queued: dict[str, JsonValue] = {} if options.queue is None else {QUEUE: options.queue}
    annotations: dict[str, JsonValue] = {REPLICAS: str(asked.nodes)}
    if asked.gpu is not None:
        annotations[GPU] = str(asked.gpu)
    if waits:
        annotations[WAITS] = "true"
    pod_annotations: dict[str, JsonValue] = {**options.annotations}
    if environment:
        pod_annotations[ENVIRONMENT] = environment
    if asked.setup is not None:
        # It is run again on nodes that start anew: so that another one makes them.
        pod_annotations[SETUP] = hashlib.sha256(f"{name}\0{plain(asked.setup)}".encode()).hexdigest()[:16]
    env: dict[str, JsonValue] = {
        "MASTER_ADDR": f"{name}-0.{name}",
        "NNODES": str(asked.nodes),
        "NODE_RANK": {"fieldRef": {"fieldPath": POD_INDEX}},
    }
    meta: Body = {"labels": own, **({"annotations": pod_annotations} if pod_annotations else {})}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": name, "labels": {**own, **queued, **marks}, "annotations": annotations},
        "spec": {
            "serviceName": name,
            "replicas": 0 if waits or asked.stopped else asked.nodes,
            # Otherwise one pod that never becomes ready keeps the others from being made, and every mend of it.
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": {CLUSTER: name}},
            "template": {"metadata": meta, "spec": pod_spec(asked, options, placement, secret=name, env=env)},
        },
    }


def to_service(name: str, asked: NodeAttrs, owner: Body) -> Body:
    """Gives every pod a name, before it is ready too: they find each other while they start."""
    spec: Body = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": {CLUSTER: name},
        **({"ports": service_ports(asked.ports)} if asked.ports else {}),
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": _owned(name, owner), "spec": spec}


def to_secret(name: str, asked: NodeAttrs, owner: Body) -> Body | None:
    """The sensitive variables; None without any."""
    values = {key: base64.b64encode(text.encode()).decode() for key, text in secrets_of(asked).items()}
    if not values:
        return None
    data: Body = dict[str, JsonValue](values)
    return {"apiVersion": "v1", "kind": "Secret", "metadata": _owned(name, owner), "type": "Opaque", "data": data}


def to_claim(name: str, asked: VolumeAttrs, marks: Mapping[str, str]) -> Body:
    options = VolumeOptions.model_validate(asked.options)
    spec: Body = {
        "accessModes": list[JsonValue](options.access_modes),
        "resources": {"requests": {"storage": f"{asked.size_gb}G"}},
        **({"storageClassName": asked.type} if asked.type else {}),
    }
    labels: dict[str, JsonValue] = {**MANAGED, **marks}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "labels": labels},
        "spec": spec,
    }


def owner_of(name: str, uid: str) -> Body:
    """Whoever has this owner goes when the set goes."""
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": name, "uid": uid}


def marks_of(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels that say whose an object is, to be kept."""
    return {name: value for name, value in labels.items() if name.startswith(PREFIX)}


def own_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels the spec asked for."""
    ours = (*MANAGED, CLUSTER, QUEUE)
    return {name: value for name, value in labels.items() if name not in ours and not name.startswith(PREFIX)}


def applied_by(tree: Tree, manager: str) -> Tree | None:
    """Of a whole object, what this manager has applied: the body of the next apply that shall change but a part.
    None: it has applied nothing."""
    entries = tree["metadata"].get("managedFields") or ()
    entry = next((e for e in entries if e["manager"] == manager and e["operation"] == "Apply"), None)
    if entry is None:
        return None
    body: Tree = _picked(tree, entry["fieldsV1"])
    body |= {"apiVersion": tree["apiVersion"], "kind": tree["kind"]}
    body["metadata"] = {"name": tree["metadata"]["name"], **(body.get("metadata") or {})}
    return body


def taken_over(meta: Meta, manager: str) -> dict[str, str]:
    """Which of the fields that matter others have set since, and who: `nodes` by an autoscaler."""
    found: dict[str, str] = {}
    for entry in meta.managed_fields:
        if entry.manager == manager or entry.subresource == "status":
            continue
        spec = entry.fields_v1.get("f:spec") or {}
        if "f:replicas" in spec:
            found["nodes"] = entry.manager
        containers = ((spec.get("f:template") or {}).get("f:spec") or {}).get("f:containers") or {}
        if "f:image" in (containers.get(_MAIN) or {}):
            found["image"] = entry.manager
    return found


def _picked(value: Any, fields: Tree) -> Any:
    """The parts of a value that a set of fields names."""
    steps = {step: inner for step, inner in fields.items() if step != "."}
    if not steps:
        return value
    if isinstance(value, list):
        return [_picked(item, inner) for item in value for step, inner in steps.items() if _is_meant(item, step)]
    return {step[2:]: _picked(value[step[2:]], inner) for step, inner in steps.items() if step[2:] in value}


def _is_meant(item: Any, step: str) -> bool:
    sought = json.loads(step[2:])
    if step.startswith("v:"):
        return bool(item == sought)
    return all(item.get(name) == value for name, value in sought.items())


def _owned(name: str, owner: Body) -> Body:
    return {"name": name, "labels": {**MANAGED, CLUSTER: name}, "ownerReferences": [owner]}
