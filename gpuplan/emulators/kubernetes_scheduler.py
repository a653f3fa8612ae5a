"""The scheduler: which machine a pod gets, and the message that says why it gets none. Messages are those of 1.36."""

from collections import Counter
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import TypeAlias

from gpuplan.emulators.kubernetes_fields import Tree
from gpuplan.emulators.kubernetes_selectors import fits_node, quantity, tolerates
from gpuplan.emulators.kubernetes_store import Cluster, Stored, stamp
from gpuplan.emulators.site import Site

FINISHED = ("Succeeded", "Failed")
_NOT_READY = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
Used: TypeAlias = dict[str, dict[str, Decimal]]
"""What is taken of every machine, by its name and that of the resource."""
_NO_HELP = "Preemption is not helpful for scheduling."
_NO_VICTIMS = "No preemption victims found for incoming pod."


def schedule(site: Site, cluster: Cluster) -> None:
    """Give every pod that waits for a machine one, in the order they were made."""
    waiting = [pod for pod in cluster.all("Pod") if _waits(pod)]
    if not waiting:
        return
    used = _used(cluster)
    for pod in sorted(waiting, key=lambda each: int(each.meta["resourceVersion"])):
        if pod.spec.get("schedulingGates"):
            _tell(site, cluster, pod, "SchedulingGated", "Scheduling is blocked due to non-empty scheduling gates")
            continue
        node, message = _place(cluster, pod, used)
        if node is None:
            _tell(site, cluster, pod, "Unschedulable", message)
            cluster.event(site, pod, "FailedScheduling", message)
            continue
        for name, amount in requests(pod.spec).items():
            _count(used, node.name, name, amount)
        pod.spec["nodeName"] = node.name
        pod.hidden["bound_at"] = site.now
        conditions = [condition("PodScheduled", "True", site)]
        host = next(a["address"] for a in node.status["addresses"] if a["type"] == "InternalIP")
        fresh = {**pod.status, "phase": "Pending", "conditions": conditions, "hostIP": host}
        cluster.set_status(pod, {**fresh, "startTime": stamp(site.now)})
        target = f"{pod.namespace}/{pod.name}"
        cluster.event(site, pod, "Scheduled", f"Successfully assigned {target} to {node.name}", type="Normal")


def requests(spec: Tree) -> dict[str, Decimal]:
    """What a pod takes of a machine: its containers together, or its greediest init container."""
    total: dict[str, Decimal] = {"pods": Decimal(1)}
    for container in spec["containers"]:
        for name, amount in _requested(container).items():
            total[name] = total.get(name, Decimal(0)) + amount
    for container in spec.get("initContainers") or ():
        for name, amount in _requested(container).items():
            total[name] = max(total.get(name, Decimal(0)), amount)
    return total


def condition(type: str, status: str, site: Site, reason: str = "", message: str = "") -> Tree:
    told: Tree = {"type": type, "status": status, "lastProbeTime": None, "lastTransitionTime": stamp(site.now)}
    return {**told, **({"reason": reason} if reason else {}), **({"message": message} if message else {})}


def is_ready(node: Stored) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in node.status.get("conditions", ()))


def _waits(pod: Stored) -> bool:
    return not pod.is_leaving and not pod.spec.get("nodeName") and pod.status.get("phase") == "Pending"


def _requested(container: Tree) -> dict[str, Decimal]:
    resources = container.get("resources") or {}
    return {name: quantity(value) for name, value in (resources.get("requests") or {}).items()}


def _used(cluster: Cluster) -> Used:
    used: Used = {}
    for pod in cluster.all("Pod"):
        if pod.spec.get("nodeName") and pod.status.get("phase") not in FINISHED:
            for name, amount in requests(pod.spec).items():
                _count(used, pod.spec["nodeName"], name, amount)
    return used


def _count(used: Used, node: str, name: str, amount: Decimal) -> None:
    there = used.setdefault(node, {})
    there[name] = there.get(name, Decimal(0)) + amount


def _place(cluster: Cluster, pod: Stored, used: Used) -> tuple[Stored | None, str]:
    nodes = cluster.all("Node")
    if any(_is_unbound(cluster, pod, volume) for volume in pod.spec.get("volumes") or ()):
        return None, f"0/{len(nodes)} nodes are available: pod has unbound immediate PersistentVolumeClaims."
    objections: Counter[str] = Counter()
    tails: Counter[str] = Counter()
    for node in nodes:
        why, can_help = _objections(node, pod, used.get(node.name, {}))
        if not why:
            return node, ""
        objections.update(why)
        tails[_NO_VICTIMS if can_help else _NO_HELP] += 1
    if not nodes:
        return None, "no nodes available to schedule pods"
    head = ", ".join(sorted(f"{count} {why}" for why, count in objections.items()))
    tail = ", ".join(sorted(f"{count} {why}" for why, count in tails.items()))
    free = f"0/{len(nodes)} nodes are available"
    return None, f"{free}: {head}. no new claims to deallocate, preemption: {free}: {tail}"


def _objections(node: Stored, pod: Stored, used: Mapping[str, Decimal]) -> tuple[list[str], bool]:
    """Why a pod cannot run there, and whether it could if others were gone."""
    if node.spec.get("unschedulable"):
        return ["node(s) were unschedulable"], False
    if not fits_node(pod.spec, node.meta.get("labels") or {}, node.name):
        return ["node(s) didn't match Pod's node affinity/selector"], False
    taints = [*(node.spec.get("taints") or ()), *(() if is_ready(node) else (_NOT_READY,))]
    tolerations = pod.spec.get("tolerations") or ()
    if any(not tolerates(tolerations, taint) for taint in taints if taint["effect"] != "PreferNoSchedule"):
        return ["node(s) had untolerated taint(s)"], False
    return _shortages(node, pod, used)


def _shortages(node: Stored, pod: Stored, used: Mapping[str, Decimal]) -> tuple[list[str], bool]:
    there = {name: quantity(value) for name, value in node.status["allocatable"].items()}
    short, can_help = [], True
    for name, amount in requests(pod.spec).items():
        whole = there.get(name, Decimal(0))
        if amount > whole - used.get(name, Decimal(0)):
            short.append(f"Insufficient {name}" if name != "pods" else "Too many pods")
            can_help = can_help and amount <= whole
    return short, can_help


def _is_unbound(cluster: Cluster, pod: Stored, volume: Tree) -> bool:
    claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
    if claim is None:
        return False
    found = cluster.find("PersistentVolumeClaim", pod.namespace, claim)
    return found is None or found.is_leaving


def _tell(site: Site, cluster: Cluster, pod: Stored, reason: str, message: str) -> None:
    known: Iterable[Tree] = pod.status.get("conditions", ())
    if any(c["type"] == "PodScheduled" and c.get("message") == message for c in known):
        return
    told = condition("PodScheduled", "False", site, reason, message)
    since = next((c["lastTransitionTime"] for c in known if c["type"] == "PodScheduled" and c["status"] == "False"), "")
    told["lastTransitionTime"] = since or told["lastTransitionTime"]
    cluster.set_status(pod, {**pod.status, "phase": "Pending", "conditions": [told]})
