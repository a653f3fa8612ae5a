"""What the API server adds to an object before it keeps it, and what it refuses."""

import base64
import copy
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from gpuplan.emulators.kubernetes_fields import Tree
from gpuplan.emulators.kubernetes_resources import Resource
from gpuplan.emulators.kubernetes_selectors import matches, quantity

Cause: TypeAlias = tuple[str, str, str]
"""Field, reason, message."""

STORAGE_CLASS = "standard"
_INVALID, _REQUIRED, _FORBIDDEN = "FieldValueInvalid", "FieldValueRequired", "FieldValueForbidden"
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_NAME_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    "and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_SET_FIELDS = (
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
)
_SET_RULE = (
    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
    "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
)
_POD_RULE = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_CLAIM_RULE = (
    "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
)


def defaulted(tree: Tree) -> Tree:
    """The object with everything that is filled in where nobody said it."""
    result = copy.deepcopy(tree)
    spec = result.setdefault("spec", {}) if tree["kind"] not in ("Secret", "ConfigMap", "Event") else {}
    if tree["kind"] == "Secret":
        encoded = {k: base64.b64encode(str(v).encode()).decode() for k, v in result.pop("stringData", {}).items()}
        if encoded:
            result["data"] = {**(result.get("data") or {}), **encoded}
        result.setdefault("type", "Opaque")
    for name, value in _DEFAULTS.get(tree["kind"], {}).items():
        spec.setdefault(name, copy.deepcopy(value))
    match tree["kind"]:
        case "Pod":
            _default_pod(spec)
        case "StatefulSet" | "Deployment" | "ReplicaSet" | "Job":
            _default_pod(spec.setdefault("template", {}).setdefault("spec", {}))
        case "Service":
            _default_service(spec)
        case "PersistentVolumeClaim":
            result.setdefault("status", {"phase": "Pending"})
        case "Namespace":
            labels = result["metadata"].setdefault("labels", {})
            labels["kubernetes.io/metadata.name"] = result["metadata"]["name"]
            result.setdefault("status", {"phase": "Active"})
    return result


def objections(resource: Resource, tree: Tree, before: Tree | None) -> list[Cause]:
    """What validation finds, of a new object or of a changed one."""
    found = [*_metadata(resource, tree)]
    spec = tree.get("spec") or {}
    if resource.kind == "Pod":
        found += _pod(spec, "spec")
    if "template" in spec:
        found += _pod(spec["template"].get("spec") or {}, "spec.template.spec")
        labels = (spec["template"].get("metadata") or {}).get("labels") or {}
        if resource.kind != "Job" and not matches(spec.get("selector") or {}, labels):
            told = f"Invalid value: {json.dumps(labels)}: `selector` does not match template `labels`"
            found.append(("spec.template.metadata.labels", _INVALID, told))
        if resource.kind != "Job" and not spec.get("selector"):
            found.append(("spec.selector", _REQUIRED, "Required value"))
    if resource.kind == "PersistentVolumeClaim" and not spec.get("accessModes"):
        found.append(("spec.accessModes", _REQUIRED, "Required value: at least 1 access mode is required"))
    if before is not None:
        found += _changes(resource, before, tree)
    return found


_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "StatefulSet": {
        "replicas": 1,
        "podManagementPolicy": "OrderedReady",
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
        "revisionHistoryLimit": 10,
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
    },
    "Deployment": {
        "replicas": 1,
        "revisionHistoryLimit": 10,
        "progressDeadlineSeconds": 600,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}},
    },
    "ReplicaSet": {"replicas": 1},
    "Job": {
        "completions": 1,
        "parallelism": 1,
        "backoffLimit": 6,
        "completionMode": "NonIndexed",
        "suspend": False,
        "podReplacementPolicy": "TerminatingOrFailed",
    },
    "Service": {"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster"},
    "PersistentVolumeClaim": {"volumeMode": "Filesystem", "storageClassName": STORAGE_CLASS},
    "Namespace": {"finalizers": ["kubernetes"]},
}


def _default_pod(spec: Tree) -> None:
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("securityContext", {})
    spec.setdefault("schedulerName", "default-scheduler")
    if "serviceAccountName" in spec:
        spec.setdefault("serviceAccount", spec["serviceAccountName"])
    for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
        tag = str(container.get("image", "")).rpartition("/")[2].partition(":")[2]
        container.setdefault("imagePullPolicy", "Always" if tag in ("", "latest") else "IfNotPresent")
        container.setdefault("terminationMessagePath", "/dev/termination-log")
        container.setdefault("terminationMessagePolicy", "File")
        resources = container.setdefault("resources", {})
        for part in [part for part in ("limits", "requests") if resources.get(part)]:
            resources[part] = {name: str(value) for name, value in resources[part].items()}
        if resources.get("limits"):
            resources["requests"] = {**resources["limits"], **(resources.get("requests") or {})}
        for port in container.get("ports") or ():
            port.setdefault("protocol", "TCP")
        for each in container.get("env") or ():
            if "fieldRef" in (each.get("valueFrom") or {}):
                each["valueFrom"]["fieldRef"].setdefault("apiVersion", "v1")


def _default_service(spec: Tree) -> None:
    spec.setdefault("clusterIP", "10.96.0.10")
    spec.setdefault("clusterIPs", [spec["clusterIP"]])
    spec.setdefault("ipFamilies", ["IPv4"])
    spec.setdefault("ipFamilyPolicy", "SingleStack")
    for port in spec.get("ports") or ():
        port.setdefault("protocol", "TCP")
        port.setdefault("targetPort", port["port"])


def _metadata(resource: Resource, tree: Tree) -> Iterator[Cause]:
    meta = tree["metadata"]
    name = str(meta.get("name", ""))
    if not name:
        yield "metadata.name", _REQUIRED, "Required value: name or generateName is required"
    elif not _SUBDOMAIN.fullmatch(name):
        yield "metadata.name", _INVALID, f'Invalid value: "{name}": {_NAME_RULE}'
    elif len(name) > (63 if resource.kind in ("Service", "Namespace", "Job") else 253):
        most = 63 if resource.kind in ("Service", "Namespace", "Job") else 253
        yield "metadata.name", _INVALID, f'Invalid value: "{name}": must be no more than {most} bytes'
    for value in (meta.get("labels") or {}).values():
        if not isinstance(value, str) or len(value) > 63:
            yield "metadata.labels", _INVALID, f'Invalid value: "{value}": must be no more than 63 bytes'
        elif not _LABEL.fullmatch(value):
            told = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.'"
            yield "metadata.labels", _INVALID, f'Invalid value: "{value}": {told}'


def _pod(spec: Tree, path: str) -> Iterator[Cause]:
    containers = spec.get("containers") or []
    if not containers:
        yield f"{path}.containers", _REQUIRED, "Required value"
    for index, container in enumerate(containers):
        place = f"{path}.containers[{index}]"
        for name in ("name", "image"):
            if not container.get(name):
                yield f"{place}.{name}", _REQUIRED, "Required value"
        yield from _resources(container.get("resources") or {}, f"{place}.resources")


def _resources(resources: Tree, path: str) -> Iterator[Cause]:
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for part, amounts in (("limits", limits), ("requests", requests)):
        for name, value in amounts.items():
            try:
                amount = quantity(value)
            except ValueError as exc:
                yield f"{path}.{part}.{name}", _INVALID, f'Invalid value: "{value}": {exc}'
                continue
            if _is_extended(name) and amount != int(amount):
                yield f"{path}.{part}.{name}", _INVALID, f'Invalid value: "{value}": must be an integer'
    for name in requests:
        if not _is_extended(name):
            continue
        if name not in limits:
            yield f"{path}.limits", _REQUIRED, "Required value: Limit must be set for non overcommitable resources"
        elif str(limits[name]) != str(requests[name]):
            told = f'Invalid value: "{requests[name]}": must be equal to {name} limit of {limits[name]}'
            yield f"{path}.requests", _INVALID, told


def _is_extended(name: str) -> bool:
    return "/" in name and not name.partition("/")[0].endswith("kubernetes.io")


def _changes(resource: Resource, before: Tree, tree: Tree) -> Iterator[Cause]:
    old, new = before.get("spec") or {}, tree.get("spec") or {}
    match resource.kind:
        case "StatefulSet":
            if any(old.get(name) != new.get(name) for name in old.keys() | new.keys() if name not in _SET_FIELDS):
                yield "spec", _FORBIDDEN, f"Forbidden: {_SET_RULE}"
        case "Pod":
            if _without_images(old) != _without_images(new):
                yield "spec", _FORBIDDEN, f"Forbidden: {_POD_RULE}"
        case "Service" if old.get("clusterIP") != new.get("clusterIP"):
            told = f"Invalid value: {json.dumps(new.get('clusterIPs'))}: may not change once set"
            yield "spec.clusterIPs[0]", _INVALID, told
        case "Job" if old.get("template") != new.get("template"):
            yield "spec.template", _INVALID, "Invalid value: {}: field is immutable"
        case "PersistentVolumeClaim":
            yield from _claim_changes(before, old, new)


def _claim_changes(before: Tree, old: Tree, new: Tree) -> Iterator[Cause]:
    loose = ("resources", "volumeName")
    rest = [{name: value for name, value in spec.items() if name not in loose} for spec in (old, new)]
    sizes = [quantity(spec["resources"]["requests"]["storage"]) for spec in (old, new)]
    is_bound = before.get("status", {}).get("phase") == "Bound"
    if rest[0] != rest[1] or (sizes[0] != sizes[1] and not is_bound):
        yield "spec", _FORBIDDEN, f"Forbidden: {_CLAIM_RULE}"
    elif sizes[1] < sizes[0]:
        yield "spec.resources.requests.storage", _FORBIDDEN, "Forbidden: field can not be less than status.capacity"


def _without_images(spec: Tree) -> Tree:
    containers = [{**container, "image": ""} for container in spec.get("containers") or ()]
    loose = ("containers", "activeDeadlineSeconds", "tolerations", "nodeName")
    return {**{name: value for name, value in spec.items() if name not in loose}, "containers": containers}
