"""Controllers of what is not a StatefulSet: jobs, deployments and their replica sets."""

import hashlib
import json

from gpuplan.emulators.kubernetes_fields import Tree
from gpuplan.emulators.kubernetes_kubelet import begin_to_leave
from gpuplan.emulators.kubernetes_pods import is_available, is_ready, pod_tree
from gpuplan.emulators.kubernetes_quota import pod_objection
from gpuplan.emulators.kubernetes_scheduler import FINISHED, condition
from gpuplan.emulators.kubernetes_store import Cluster, Stored, owner_reference, seconds_since, stamp
from gpuplan.emulators.site import Site

INDEX = "batch.kubernetes.io/job-completion-index"
_HASH = "pod-template-hash"


def run_job(site: Site, cluster: Cluster, stored: Stored) -> None:
    """Pods until enough have succeeded, or too many have failed."""
    if stored.is_leaving:
        return
    spec, status = stored.spec, stored.status
    pods = cluster.owned("Pod", stored)
    if _has(status, "Complete") or _has(status, "Failed"):
        _expire(site, cluster, stored)
        return
    if spec.get("suspend"):
        for pod in pods:
            begin_to_leave(site, cluster, pod, None)
        suspended = condition("Suspended", "True", site, "JobSuspended", "Job suspended")
        cluster.set_status(stored, {"conditions": [suspended]} if not _has(status, "Suspended") else status)
        return
    started = status.get("startTime") or stamp(site.now)
    succeeded = [pod for pod in pods if pod.status.get("phase") == "Succeeded"]
    failed = [pod for pod in pods if pod.status.get("phase") == "Failed"]
    active = [pod for pod in pods if pod.status.get("phase") not in FINISHED]
    told: Tree = {"startTime": started, "terminating": 0, "uncountedTerminatedPods": {}}
    counts = {"succeeded": len(succeeded), "failed": len(failed)}
    told |= {name: count for name, count in counts.items() if count}
    wanted = int(spec.get("completions") or spec.get("parallelism", 1))
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and seconds_since(started, site.now) >= deadline:
        for pod in active:
            begin_to_leave(site, cluster, pod, None)
        _end(site, cluster, stored, told, "DeadlineExceeded", "Job was active longer than specified deadline")
    elif len(failed) > int(spec.get("backoffLimit", 6)):
        for pod in active:
            begin_to_leave(site, cluster, pod, None)
        _end(site, cluster, stored, told, "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    elif len(succeeded) >= wanted:
        _complete(site, cluster, stored, told, succeeded)
    else:
        _fill(site, cluster, stored, active, succeeded, wanted)
        active = [pod for pod in cluster.owned("Pod", stored) if pod.status.get("phase") not in FINISHED]
        told |= {"active": len(active), "ready": len([pod for pod in active if is_ready(pod)])}
        cluster.set_status(stored, told)
        if deadline is not None:
            cluster.due_in(site.now, deadline - seconds_since(started, site.now))


def run_deployment(site: Site, cluster: Cluster, stored: Stored) -> None:
    """One replica set for each template; the newest has all pods, the others none."""
    if stored.is_leaving:
        return
    digest = hashlib.sha256(json.dumps(stored.spec["template"], sort_keys=True).encode()).hexdigest()[:10]
    wanted = int(stored.spec.get("replicas", 1))
    name = f"{stored.name}-{digest}"
    for each in cluster.owned("ReplicaSet", stored):
        replicas = wanted if each.name == name else 0
        if each.spec.get("replicas") != replicas:
            cluster.replace(each, {**each.tree, "spec": {**each.spec, "replicas": replicas}})
    if cluster.find("ReplicaSet", stored.namespace, name) is None:
        cluster.add(site, _replica_set(stored, name, digest, wanted))
    ready = sum(int(each.status.get("readyReplicas", 0)) for each in cluster.owned("ReplicaSet", stored))
    progress = condition("Available", "True" if ready >= wanted else "False", site, "MinimumReplicasAvailable")
    known = next((c for c in stored.status.get("conditions", ()) if c["status"] == progress["status"]), progress)
    told: Tree = {"observedGeneration": stored.meta["generation"], "replicas": wanted, "updatedReplicas": wanted}
    told |= {"readyReplicas": ready, "availableReplicas": ready} if ready else {}
    cluster.set_status(stored, {**told, "conditions": [known]})


def run_replica_set(site: Site, cluster: Cluster, stored: Stored) -> None:
    if stored.is_leaving:
        return
    pods = [pod for pod in cluster.owned("Pod", stored) if pod.status.get("phase") not in FINISHED]
    staying = [pod for pod in pods if not pod.is_leaving]
    wanted = int(stored.spec.get("replicas", 1))
    for pod in staying[wanted:]:
        begin_to_leave(site, cluster, pod, None)
    for _ in range(wanted - len(staying)):
        if not _create(site, cluster, stored, f"{stored.name}-", {}):
            break
    pods = [pod for pod in cluster.owned("Pod", stored) if not pod.is_leaving]
    ready = len([pod for pod in pods if is_available(pod)])
    told: Tree = {"observedGeneration": stored.meta["generation"], "replicas": len(pods)}
    cluster.set_status(stored, {**told, **({"readyReplicas": ready, "availableReplicas": ready} if ready else {})})


def _replica_set(owner: Stored, name: str, digest: str, replicas: int) -> Tree:
    template = owner.spec["template"]
    meta = template.get("metadata") or {}
    labels = {**(meta.get("labels") or {}), _HASH: digest}
    selector = owner.spec["selector"]
    return {
        "kind": "ReplicaSet",
        "apiVersion": "apps/v1",
        "metadata": {
            "name": name,
            "namespace": owner.namespace,
            "labels": labels,
            "ownerReferences": [owner_reference(owner)],
        },
        "spec": {
            "replicas": replicas,
            "selector": {**selector, "matchLabels": {**(selector.get("matchLabels") or {}), _HASH: digest}},
            "template": {**template, "metadata": {**meta, "labels": labels}},
        },
    }


def _fill(
    site: Site, cluster: Cluster, stored: Stored, active: list[Stored], succeeded: list[Stored], wanted: int
) -> None:
    """As many pods at a time as may run; of an indexed job one for each index that has not succeeded."""
    room = min(int(stored.spec.get("parallelism", 1)), wanted - len(succeeded)) - len(active)
    if stored.spec.get("completionMode") != "Indexed":
        for _ in range(room):
            _create(site, cluster, stored, f"{stored.name}-", {})
        return
    taken = {pod.meta["labels"][INDEX] for pod in (*active, *succeeded)}
    for index in [str(number) for number in range(wanted) if str(number) not in taken][: max(0, room)]:
        _create(site, cluster, stored, f"{stored.name}-{index}-", {INDEX: index})


def _create(site: Site, cluster: Cluster, owner: Stored, prefix: str, labels: dict[str, str]) -> bool:
    name = f"{prefix}{site.digits(5, 'bcdfghjklmnpqrstvwxz2456789')}"
    pod = pod_tree(owner, name, labels, generate=prefix)
    if INDEX in labels:
        pod["metadata"].setdefault("annotations", {})[INDEX] = labels[INDEX]
        pod["spec"]["hostname"] = prefix.rstrip("-")
        env = pod["spec"]["containers"][0].setdefault("env", [])
        env.append({"name": "JOB_COMPLETION_INDEX", "value": labels[INDEX]})
    objection = pod_objection(site, cluster, pod)
    if objection:
        cluster.event(site, owner, "FailedCreate", f"Error creating: {objection}")
        return False
    cluster.add(site, pod)
    return True


def _complete(site: Site, cluster: Cluster, stored: Stored, told: Tree, succeeded: list[Stored]) -> None:
    if stored.spec.get("completionMode") == "Indexed":
        told["completedIndexes"] = ",".join(sorted(pod.meta["labels"][INDEX] for pod in succeeded))
    reason, text = "CompletionsReached", "Reached expected number of succeeded pods"
    conditions = [condition(type, "True", site, reason, text) for type in ("SuccessCriteriaMet", "Complete")]
    cluster.set_status(stored, {**told, "ready": 0, "completionTime": stamp(site.now), "conditions": conditions})


def _end(site: Site, cluster: Cluster, stored: Stored, told: Tree, reason: str, text: str) -> None:
    conditions = [condition(type, "True", site, reason, text) for type in ("FailureTarget", "Failed")]
    cluster.set_status(stored, {**told, "ready": 0, "conditions": conditions})


def _expire(site: Site, cluster: Cluster, stored: Stored) -> None:
    """A job that has ended goes by itself where it says so, and its pods with it."""
    seconds = stored.spec.get("ttlSecondsAfterFinished")
    if seconds is None:
        return
    ended = next(c["lastTransitionTime"] for c in stored.status["conditions"])
    left = seconds - seconds_since(ended, site.now)
    if left > 0:
        cluster.due_in(site.now, left)
    else:
        cluster.remove(site, stored)


def _has(status: Tree, type: str) -> bool:
    return any(c["type"] == type and c["status"] == "True" for c in status.get("conditions", ()))
