"""What happens to pods once they have a machine: images are pulled, containers run, crash, end and are stopped.

Nothing has a timer: how far a pod has come is worked out from the clock whenever somebody looks.
"""

import re
from collections.abc import Sequence

from gpuplan.emulators.kubernetes_fields import Tree
from gpuplan.emulators.kubernetes_scheduler import FINISHED, condition, is_ready
from gpuplan.emulators.kubernetes_store import Cluster, Stored, seconds_since, stamp
from gpuplan.emulators.site import Site

LIVING = ("Pending", "Running")
_EXIT = re.compile(r"(?:^|[;&\n]\s*)exit (\d+)\s*$")
_NODE_LOST_SECONDS = 300
BACK_OFF = "back-off 5m0s restarting failed container"


def run_pods(site: Site, cluster: Cluster) -> None:
    for pod in cluster.all("Pod"):
        node = cluster.find("Node", "", pod.spec.get("nodeName", ""))
        if pod.spec.get("nodeName") and node is None:
            cluster.remove(site, pod)
        elif node is not None and not is_ready(node):
            _lose(site, cluster, pod, node)
        elif pod.is_leaving:
            _stop(site, cluster, pod)
        elif pod.spec.get("nodeName") and pod.status.get("phase") in LIVING:
            _advance(site, cluster, pod)


def begin_to_leave(site: Site, cluster: Cluster, pod: Stored, grace: float | None) -> None:
    """A pod is to go; without a machine, or without grace, it is gone at once."""
    seconds = float(pod.spec.get("terminationGracePeriodSeconds", 30)) if grace is None else grace
    is_running = pod.spec.get("nodeName") and pod.status.get("phase") not in FINISHED
    if not is_running or seconds == 0:
        if pod.meta.get("finalizers"):
            cluster.set_meta(pod, deletionTimestamp=stamp(site.now), deletionGracePeriodSeconds=0)
        else:
            cluster.remove(site, pod)
        return
    if not pod.is_leaving:
        pod.hidden["stops_at"] = min(seconds, site.seconds("stop_seconds"))
        pod.hidden["leaves_since"] = site.now
        cluster.set_meta(pod, deletionTimestamp=stamp(site.now), deletionGracePeriodSeconds=int(seconds))


def fail_pod(site: Site, cluster: Cluster, pod: Stored, reason: str, message: str, *, disrupted: str = "") -> None:
    """The pod has ended for a reason that is not its own: eviction, preemption, a machine that came up without GPUs."""
    conditions = [c for c in pod.status.get("conditions", ()) if c["type"] != "DisruptionTarget"]
    if disrupted:
        conditions.append(condition("DisruptionTarget", "True", site, disrupted, message))
    ended = {**pod.status, "phase": "Failed", "reason": reason, "message": message, "conditions": conditions}
    ended.pop("containerStatuses", None)
    cluster.set_status(pod, ended)


def exit_code(container: Tree) -> int | None:
    """How a container's command ends by itself; None: it runs on."""
    words = [*(container.get("command") or ()), *(container.get("args") or ())]
    if words[:1] == ["false"]:
        return 1
    if words[:1] == ["true"]:
        return 0
    match = _EXIT.search(words[-1]) if words else None
    return int(match[1]) if match else None


def _advance(site: Site, cluster: Cluster, pod: Stored) -> None:
    age = (site.now - pod.hidden.setdefault("bound_at", site.now)).total_seconds()
    hindrance = _hindrance(site, cluster, pod, age)
    if hindrance is not None:
        _wait(site, cluster, pod, *hindrance)
        cluster.due_in(site.now, 10)
    elif (left := site.seconds("pull_seconds") - age) > 0:
        _wait(site, cluster, pod, "ContainerCreating", "")
        cluster.due_in(site.now, left)
    elif pod.hidden.get("crashes"):
        _crash(site, cluster, pod, 1)
    elif (code := exit_code(pod.spec["containers"][0])) is not None or pod.spec.get("restartPolicy") != "Always":
        _run_to_the_end(site, cluster, pod, code or 0, age)
    else:
        _run(site, cluster, pod)


def _hindrance(site: Site, cluster: Cluster, pod: Stored, age: float) -> tuple[str, str] | None:
    """Why a container does not start: reason and message of its waiting."""
    container = pod.spec["containers"][0]
    image = str(container.get("image", ""))
    if pod.status.get("phase") == "Running":
        return None
    if str(site.knob("missing_image")) in image:
        error = f'failed to pull and unpack image "{image}": not found'
        return ("ErrImagePull", error) if age < 15 else ("ImagePullBackOff", f'Back-off pulling image "{image}"')
    for each in container.get("env") or ():
        wanted = (each.get("valueFrom") or {}).get("secretKeyRef")
        if wanted and cluster.find("Secret", pod.namespace, wanted["name"]) is None:
            return "CreateContainerConfigError", f'secret "{wanted["name"]}" not found'
    for volume in pod.spec.get("volumes") or ():
        claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
        if claim and _is_elsewhere(cluster, pod, claim):
            told = f'Multi-Attach error for volume "{claim}" Volume is already used by pod(s) on another node'
            cluster.event(site, pod, "FailedAttachVolume", told)
            return "ContainerCreating", ""
    return None


def _is_elsewhere(cluster: Cluster, pod: Stored, claim: str) -> bool:
    """Whether a volume for one machine is in use on another one."""
    found = cluster.find("PersistentVolumeClaim", pod.namespace, claim)
    if found is None or "ReadWriteMany" in found.spec.get("accessModes", ()):
        return False
    return any(
        other is not pod
        and other.spec.get("nodeName") not in (None, pod.spec["nodeName"])
        and other.status.get("phase") == "Running"
        and claim in claims_of(other)
        for other in cluster.all("Pod", pod.namespace)
    )


def claims_of(pod: Stored) -> list[str]:
    """The volumes a pod mounts."""
    named = ((v.get("persistentVolumeClaim") or {}).get("claimName") for v in pod.spec.get("volumes") or ())
    return [name for name in named if name]


def _wait(site: Site, cluster: Cluster, pod: Stored, reason: str, message: str) -> None:
    waiting = {"reason": reason, **({"message": message} if message else {})}
    _tell(site, cluster, pod, "Pending", {"waiting": waiting}, ready=False)


def _run(site: Site, cluster: Cluster, pod: Stored) -> None:
    if "podIP" not in pod.status:
        address = site.world.fresh_address().replace("198.18.", "10.244.")
        pod.tree["status"] = {**pod.status, "podIP": address, "podIPs": [{"ip": address}]}
    started = pod.hidden.setdefault("started_at", site.now)
    _tell(site, cluster, pod, "Running", {"running": {"startedAt": stamp(started)}}, ready=True)


def _crash(site: Site, cluster: Cluster, pod: Stored, code: int) -> None:
    """It ended, was started again, and ends every time."""
    ended = {"exitCode": code, "reason": "Error", "startedAt": stamp(site.now), "finishedAt": stamp(site.now)}
    waiting = {"reason": "CrashLoopBackOff", "message": f"{BACK_OFF}={pod.spec['containers'][0]['name']}"}
    last = pod.status.get("containerStatuses", [{}])[0].get("lastState") or {"terminated": ended}
    _tell(site, cluster, pod, "Running", {"waiting": waiting}, ready=False, last=last, restarts=5)


def _run_to_the_end(site: Site, cluster: Cluster, pod: Stored, code: int, age: float) -> None:
    left = site.seconds("pull_seconds") + site.seconds("job_seconds") - age
    if left > 0:
        _run(site, cluster, pod)
        cluster.due_in(site.now, left)
    elif pod.spec.get("restartPolicy") == "Always" or (code and pod.spec.get("restartPolicy") == "OnFailure"):
        _crash(site, cluster, pod, code)
    else:
        ended = {"exitCode": code, "reason": "Error" if code else "Completed", "finishedAt": stamp(site.now)}
        _tell(site, cluster, pod, "Failed" if code else "Succeeded", {"terminated": ended}, ready=False)


def _tell(
    site: Site,
    cluster: Cluster,
    pod: Stored,
    phase: str,
    state: Tree,
    *,
    ready: bool,
    last: Tree | None = None,
    restarts: int = 0,
) -> None:
    container = pod.spec["containers"][0]
    statuses = [
        {
            "name": container["name"],
            "ready": ready,
            "started": "running" in state,
            "restartCount": restarts,
            "image": container["image"],
            "imageID": "" if "waiting" in state else f"{container['image']}@sha256:{'0' * 64}",
            "state": state,
            "lastState": last or {},
        }
    ]
    known = {c["type"]: c for c in pod.status.get("conditions", ())}
    for type, holds in (("Initialized", True), ("ContainersReady", ready), ("Ready", ready)):
        word = "True" if holds else "False"
        if known.get(type, {}).get("status") != word:
            known[type] = condition(type, word, site, "" if holds else "ContainersNotReady")
    told = {**pod.status, "phase": phase, "conditions": list(known.values()), "containerStatuses": statuses}
    cluster.set_status(pod, told)


def _stop(site: Site, cluster: Cluster, pod: Stored) -> None:
    since = pod.hidden.setdefault("leaves_since", site.now)
    left = float(pod.hidden.get("stops_at", 0)) - (site.now - since).total_seconds()
    if left > 0:
        cluster.due_in(site.now, left)
    elif not pod.meta.get("finalizers"):
        cluster.remove(site, pod)


def _lose(site: Site, cluster: Cluster, pod: Stored, node: Stored) -> None:
    """Nobody hears of a machine any more: its pods stay as they were, then are to go, and never do."""
    ready: Sequence[Tree] = [c for c in node.status.get("conditions", ()) if c["type"] == "Ready"]
    gone = seconds_since(ready[0]["lastTransitionTime"], site.now) if ready else 0.0
    if gone < _NODE_LOST_SECONDS:
        cluster.due_in(site.now, _NODE_LOST_SECONDS - gone)
    elif not pod.is_leaving:
        cluster.set_meta(pod, deletionTimestamp=stamp(site.now), deletionGracePeriodSeconds=30)
