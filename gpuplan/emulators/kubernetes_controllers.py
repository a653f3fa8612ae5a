"""The controllers of the emulated cluster: whatever follows from what somebody declared.

`catch_up` runs them before every answer, until nothing changes any more: they look at the whole, never at an event.
"""

import hashlib
import json

from gpuplan.emulators import kubernetes_jobs as jobs
from gpuplan.emulators.kubernetes_catalog import node_tree, wanted_machines
from gpuplan.emulators.kubernetes_fields import Tree
from gpuplan.emulators.kubernetes_kubelet import begin_to_leave, claims_of, run_pods
from gpuplan.emulators.kubernetes_pods import is_available, pod_tree, settle_revision
from gpuplan.emulators.kubernetes_quota import pod_objection, settle_quotas
from gpuplan.emulators.kubernetes_scheduler import FINISHED, schedule
from gpuplan.emulators.kubernetes_selectors import quantity
from gpuplan.emulators.kubernetes_store import Cluster, Stored, stamp
from gpuplan.emulators.site import Site

_MOST_ROUNDS = 50
FOREGROUND = "foregroundDeletion"
PROTECTION = "kubernetes.io/pvc-protection"


def catch_up(site: Site, cluster: Cluster) -> None:
    """Let everything happen that has to have happened by now."""
    world = site.world
    living = sum(len(things) for (name, _), things in world.living.items() if name == site.type.name)
    outside = (living, repr(world.shelves), repr(world.knobs[site.type.name]))
    is_due = cluster.due is not None and site.now >= cluster.due
    if not cluster.is_restless and not is_due and outside == cluster.seen:
        return
    if outside != cluster.seen:
        cluster.drop_vanished(site)
        _settle_machines(site, cluster)
    cluster.due = None
    for _ in range(_MOST_ROUNDS):
        cluster.is_restless = False
        _round(site, cluster)
        if not cluster.is_restless:
            break
    living = sum(len(things) for (name, _), things in world.living.items() if name == site.type.name)
    cluster.seen = (living, *outside[1:])


def _round(site: Site, cluster: Cluster) -> None:
    _collect_garbage(site, cluster)
    for stored in cluster.all("StatefulSet"):
        _run_stateful_set(site, cluster, stored)
    for stored in cluster.all("Deployment"):
        jobs.run_deployment(site, cluster, stored)
    for stored in cluster.all("ReplicaSet"):
        jobs.run_replica_set(site, cluster, stored)
    for stored in cluster.all("Job"):
        jobs.run_job(site, cluster, stored)
    schedule(site, cluster)
    _bind_claims(site, cluster)
    run_pods(site, cluster)
    settle_quotas(site, cluster)
    for stored in cluster.all("Namespace"):
        _empty_namespace(site, cluster, stored)


def begin_to_delete(site: Site, cluster: Cluster, stored: Stored, policy: str, grace: float | None) -> None:
    """As far as a delete goes by itself: the rest is up to finalizers and to the garbage collector."""
    if stored.resource.kind == "Pod":
        begin_to_leave(site, cluster, stored, grace)
        return
    finalizers = list(stored.meta.get("finalizers") or ())
    if policy == "Foreground" and FOREGROUND not in finalizers:
        finalizers.append(FOREGROUND)
    if policy == "Orphan":
        _disown(cluster, stored)
    if stored.resource.kind == "Namespace":
        stored.tree["status"] = {"phase": "Terminating"}
    if not finalizers and stored.resource.kind != "Namespace":
        cluster.remove(site, stored)
    elif not stored.is_leaving:
        fields: Tree = {"deletionTimestamp": stamp(site.now), "deletionGracePeriodSeconds": 0}
        cluster.set_meta(stored, **fields, finalizers=finalizers or None)


def _disown(cluster: Cluster, owner: Stored) -> None:
    for each in cluster.every():
        if each.is_owned_by(owner):
            kept = [o for o in each.meta["ownerReferences"] if o["uid"] != owner.uid]
            cluster.set_meta(each, ownerReferences=kept or None)


def _settle_machines(site: Site, cluster: Cluster) -> None:
    """As many machines as there shall be. One that has to go while pods run on it takes no more of them."""
    wanted = wanted_machines(site)
    busy = {pod.spec.get("nodeName") for pod in cluster.all("Pod")}
    for name, (machine, is_open) in wanted.items():
        node = cluster.find("Node", "", name)
        if node is None and is_open:
            address = site.world.fresh_address().replace("198.18.", "10.0.")
            cluster.add(site, node_tree(name, machine, site.now, address=address))
        elif node is not None and is_open and node.hidden.pop("cordoned", False):
            node.spec.pop("unschedulable", None)
            cluster.touch(node)
        elif node is not None and not is_open and name not in busy:
            cluster.remove(site, node)
        elif node is not None and not is_open:
            node.hidden["cordoned"] = True
            node.spec["unschedulable"] = True
            cluster.touch(node)


def _collect_garbage(site: Site, cluster: Cluster) -> None:
    uids = {stored.uid for stored in cluster.every()}
    for stored in cluster.every():
        owners = stored.meta.get("ownerReferences") or ()
        if owners and not any(owner["uid"] in uids for owner in owners) and not stored.is_leaving:
            begin_to_delete(site, cluster, stored, "Background", None)
    for stored in cluster.every():
        if stored.is_leaving and FOREGROUND in (stored.meta.get("finalizers") or ()):
            dependents = [each for each in cluster.every() if each.is_owned_by(stored)]
            for each in dependents:
                if not each.is_leaving:
                    begin_to_delete(site, cluster, each, "Foreground", None)
            if not any(each.is_owned_by(stored) for each in cluster.every()):
                release(site, cluster, stored, FOREGROUND)


def release(site: Site, cluster: Cluster, stored: Stored, finalizer: str) -> None:
    """Take a finalizer off; an object that is to go and has none left is gone."""
    kept = [name for name in stored.meta.get("finalizers") or () if name != finalizer]
    cluster.set_meta(stored, finalizers=kept or None)
    if stored.is_leaving and not kept:
        cluster.remove(site, stored)


def _run_stateful_set(site: Site, cluster: Cluster, stored: Stored) -> None:
    """Pods by ordinal: what is missing is made, what is too much or has failed goes, what is outdated is renewed."""
    spec = stored.spec
    revision = f"{stored.name}-{_digest(spec['template'])}"
    pods = {_ordinal(pod): pod for pod in cluster.owned("Pod", stored)}
    if not stored.is_leaving:
        ordered = spec.get("podManagementPolicy", "OrderedReady") == "OrderedReady"
        wanted = range(int(spec.get("replicas", 1)))
        for index in sorted(pods, reverse=True):
            if pods[index].status.get("phase") in FINISHED and not pods[index].is_leaving:
                cluster.remove(site, pods.pop(index))
            elif index not in wanted and not pods[index].is_leaving:
                begin_to_leave(site, cluster, pods[index], None)
                if ordered:
                    break
        for index in wanted:
            if index not in pods and not _create_ordinal(site, cluster, stored, index, revision):
                break
            pod = pods.get(index) or cluster.find("Pod", stored.namespace, f"{stored.name}-{index}")
            if ordered and (pod is None or not is_available(pod)):
                break
        _roll(site, cluster, stored, revision, ordered=ordered)
    settle_revision(cluster, stored, cluster.owned("Pod", stored), revision)


def _roll(site: Site, cluster: Cluster, stored: Stored, revision: str, *, ordered: bool) -> None:
    """Take the pod with the highest ordinal that is outdated, once all above it are up to date and ready."""
    strategy = stored.spec.get("updateStrategy") or {}
    if strategy.get("type", "RollingUpdate") != "RollingUpdate":
        return
    pods = {_ordinal(pod): pod for pod in cluster.owned("Pod", stored)}
    if ordered and not all(is_available(pod) for pod in pods.values()):
        return
    partition = int((strategy.get("rollingUpdate") or {}).get("partition", 0))
    for index in sorted(pods, reverse=True):
        pod = pods[index]
        if index < partition or pod.is_leaving:
            return
        if pod.meta["labels"]["controller-revision-hash"] != revision:
            begin_to_leave(site, cluster, pod, None)
            return
        if not is_available(pod):
            return


def _create_ordinal(site: Site, cluster: Cluster, stored: Stored, index: int, revision: str) -> bool:
    name = f"{stored.name}-{index}"
    if cluster.find("Pod", stored.namespace, name) is not None:
        return True
    labels = {
        "apps.kubernetes.io/pod-index": str(index),
        "controller-revision-hash": revision,
        "statefulset.kubernetes.io/pod-name": name,
    }
    pod = pod_tree(stored, name, labels, generate=f"{stored.name}-")
    pod["spec"] |= {"hostname": name, "subdomain": stored.spec.get("serviceName", "")}
    objection = pod_objection(site, cluster, pod)
    if objection:
        told = f"create Pod {name} in StatefulSet {stored.name} failed error: {objection}"
        cluster.event(site, stored, "FailedCreate", told)
        return False
    cluster.add(site, pod)
    told = f"create Pod {name} in StatefulSet {stored.name} successful"
    cluster.event(site, stored, "SuccessfulCreate", told, type="Normal")
    return True


def _bind_claims(site: Site, cluster: Cluster) -> None:
    """A claim is bound once a pod that mounts it has a machine, grows when it is asked to, and stays while in use."""
    used = {
        (pod.namespace, claim): bool(pod.spec.get("nodeName"))
        for pod in cluster.all("Pod")
        for claim in claims_of(pod)
        if pod.status.get("phase") not in FINISHED
    }
    for claim in cluster.all("PersistentVolumeClaim"):
        asked = claim.spec["resources"]["requests"]["storage"]
        is_used = used.get((claim.namespace, claim.name)) or site.knob("binding") == "Immediate"
        if is_used and claim.status.get("phase") == "Pending":
            claim.spec["volumeName"] = f"pvc-{claim.uid}"
            bound = {"phase": "Bound", "accessModes": claim.spec["accessModes"], "capacity": {"storage": asked}}
            cluster.set_status(claim, bound)
        elif claim.status.get("phase") == "Bound" and quantity(claim.status["capacity"]["storage"]) < quantity(asked):
            cluster.set_status(claim, {**claim.status, "capacity": {"storage": asked}})
        if claim.is_leaving and (claim.namespace, claim.name) not in used:
            release(site, cluster, claim, PROTECTION)


def _empty_namespace(site: Site, cluster: Cluster, stored: Stored) -> None:
    if not stored.is_leaving:
        return
    inside = [each for each in cluster.every() if each.namespace == stored.name]
    for each in inside:
        if not each.is_leaving:
            begin_to_delete(site, cluster, each, "Background", None)
    if not any(each.namespace == stored.name for each in cluster.every()):
        cluster.remove(site, stored)


def _ordinal(pod: Stored) -> int:
    return int(pod.name.rpartition("-")[2])


def _digest(template: Tree) -> str:
    """As long as the hash of a controller revision."""
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]
