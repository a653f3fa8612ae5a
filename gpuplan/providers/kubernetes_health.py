"""How a cluster of pods is doing, in plain words: what it waits for, what is broken, what was taken away. Pure."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from gpuplan.core.errors import Failure, NoCapacity, NotReady, ProviderError, QuotaExceeded
from gpuplan.core.observed import Status
from gpuplan.providers.kubernetes_wire import Event, Pod, StatefulSet

BROKEN_REASONS = frozenset(
    {
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "RunContainerError",
    }
)
_PASSING = re.compile(r"\b429\b|toomanyrequests|\b50[0234]\b|timeout|timed out|connection reset", re.IGNORECASE)
"""What a registry says that will serve the image later."""
_PART = re.compile(r"(\d+) (node\(s\) [^,.]*|Insufficient [^\s,.]+(?:\.[^\s,.]+)*|Too many pods)")
_INSUFFICIENT = re.compile(r"Insufficient (\S+?)[.,]?$")
_OBJECTIONS: Mapping[str, str] = {
    "node affinity/selector": "{n} not of the kind it asks for",
    "untolerated taint": "{n} with a taint it does not tolerate",
    "were unschedulable": "{n} closed for new pods",
    "unbound immediate PersistentVolumeClaims": "its volume is not bound",
    "Too many pods": "{n} with as many pods as they take",
}
_LOST: Mapping[str, str] = {
    "PreemptionByScheduler": "preempted by something more important",
    "DeletionByTaintManager": "driven off its machine",
    "EvictionByEvictionAPI": "evicted from its machine",
    "DeletionByPodGC": "lost with its machine",
    "TerminationByKubelet": "ended by its machine",
}
STUCK_SECONDS = 300
SLOW_SECONDS = 60


class Condition(StrEnum):
    """What one pod is to its cluster."""

    READY = "ready"
    STARTING = "starting"
    SHORT = "short"
    """No machine has room for it."""
    BROKEN = "broken"
    LOST = "lost"
    LEAVING = "leaving"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Look:
    condition: Condition
    why: str = ""
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """Of the whole cluster."""

    status: Status
    detail: str = ""
    healthy: bool | None = None
    failure: ProviderError | None = None


def look_at(pod: Pod, now: datetime) -> Look:
    """What a pod is doing."""
    status = pod.status
    disrupted = status.condition("DisruptionTarget")
    if disrupted is not None and disrupted.status == "True":
        return Look(Condition.LOST, _LOST.get(disrupted.reason, disrupted.message or disrupted.reason))
    if pod.metadata.deletion_timestamp is not None:
        overdue = (now - pod.metadata.deletion_timestamp).total_seconds() > STUCK_SECONDS
        stuck = f"does not end: its machine {pod.spec.node_name} may be dead" if overdue else "is ending"
        return Look(Condition.LEAVING, stuck)
    match status.phase:
        case "Failed":
            return Look(Condition.LOST, f"ended: {status.message or status.reason or 'failed'}")
        case "Succeeded":
            return Look(Condition.LOST, "ended by itself")
        case "Pending" | "":
            return _pending(pod)
        case "Running":
            return _running(pod)
    return Look(Condition.UNKNOWN, f"Kubernetes says it is `{status.phase}`")


def health_of(
    found: StatefulSet, pods: Sequence[Pod], events: Sequence[Event], now: datetime, *, provider: str, patience: float
) -> Health:
    """How the cluster is. `patience` is for how many seconds a lack of room is taken for passing."""
    if found.metadata.deletion_timestamp is not None:
        return Health(Status.TERMINATING)
    if found.spec.replicas == 0:
        return Health(Status.STOPPED if not pods else Status.STOPPING)
    looks = [_explained(look_at(pod, now), pod, events) for pod in pods]
    troubles = [f"{pod.metadata.name} {look.why}" for pod, look in zip(pods, looks, strict=True) if look.why]
    detail = _joined(troubles)
    ready = sum(look.condition is Condition.READY for look in looks)
    if any(look.condition is Condition.UNKNOWN for look in looks):
        return Health(Status.UNKNOWN, detail)
    if found.is_rolled_out and ready == len(looks) == found.spec.replicas:
        return Health(Status.RUNNING, healthy=True)
    if not pods:
        return _nothing_made(found, events, provider)
    conditions = {look.condition for look in looks}
    operation = f"bring up {found.metadata.remote_id}"
    is_broken = bool(conditions & {Condition.BROKEN, Condition.LOST})
    if ready:
        # Kubernetes goes on mending a part of it; the rest does its work.
        return Health(Status.RUNNING, detail, healthy=False) if is_broken else Health(Status.STARTING, detail)
    if is_broken:
        return Health(Status.FAILED, detail, failure=NotReady(Failure(provider, operation, detail)))
    short = [look for look in looks if look.condition is Condition.SHORT]
    if short and all(_waited(look, now) >= patience for look in short):
        return Health(Status.FAILED, detail, failure=NoCapacity(Failure(provider, operation, detail)))
    return Health(Status.PENDING if short else Status.STARTING, detail)


def needs_events(found: StatefulSet, pods: Sequence[Pod], now: datetime) -> bool:
    """Whether only events can say what is the matter: pods that are not made at all, or that start for ever."""
    if found.metadata.deletion_timestamp is not None or not found.spec.replicas:
        return False
    if not pods:
        return found.status.observed_generation >= found.metadata.generation
    return any(_is_slow(look_at(pod, now), pod, now) for pod in pods)


def _is_slow(look: Look, pod: Pod, now: datetime) -> bool:
    scheduled = pod.status.condition("PodScheduled")
    since = scheduled.last_transition_time if scheduled is not None else None
    waited = 0.0 if since is None else (now - since).total_seconds()
    return look.condition is Condition.STARTING and not look.why and waited > SLOW_SECONDS


def _explained(look: Look, pod: Pod, events: Sequence[Event]) -> Look:
    """With what the latest warning about the pod says, where it says nothing itself."""
    if look.why or look.condition is not Condition.STARTING:
        return look
    said = [event.message for event in _in_order(events) if event.involved_object.uid == pod.metadata.uid]
    return replace(look, why=f"waits: {said[-1]}") if said else look


def _in_order(events: Sequence[Event]) -> Sequence[Event]:
    return sorted(events, key=lambda event: event.at.timestamp() if event.at else 0.0)


def _pending(pod: Pod) -> Look:
    scheduled = pod.status.condition("PodScheduled")
    if scheduled is not None and scheduled.status == "False":
        since = scheduled.last_transition_time or pod.metadata.creation_timestamp
        if scheduled.reason == "SchedulingGated":
            return Look(Condition.STARTING, "waits in a queue")
        return Look(Condition.SHORT, f"waits for a machine: {_in_words(scheduled.message, pod)}", since)
    return _waiting(pod) or Look(Condition.STARTING)


def _running(pod: Pod) -> Look:
    ready = pod.status.condition("Ready")
    if ready is not None and ready.status == "True":
        return Look(Condition.READY)
    return _waiting(pod) or Look(Condition.STARTING, "runs, and is not ready yet")


def _waiting(pod: Pod) -> Look | None:
    """What a container waits for; None: nothing that is told."""
    for each in pod.status.container_statuses:
        waiting = each.state.get("waiting") or {}
        reason, message = str(waiting.get("reason", "")), str(waiting.get("message", ""))
        if reason in BROKEN_REASONS:
            if _PASSING.search(message) and "Image" in reason:
                return Look(Condition.STARTING, f"waits for its image: {message}")
            return Look(Condition.BROKEN, f"cannot start: {reason}{_cause(each.last_state) or _quoted(message)}")
        if reason and reason not in ("ContainerCreating", "PodInitializing"):
            return Look(Condition.STARTING, f"is starting: {reason}")
    return None


def _cause(last: Mapping[str, Mapping[str, object]]) -> str:
    """How the container ended before it was started again."""
    ended = last.get("terminated") or {}
    if not ended:
        return ""
    return f", it ended with {ended.get('exitCode')}{_quoted(str(ended.get('reason', '')))}"


def _quoted(text: str) -> str:
    return f": {text}" if text else ""


def _in_words(message: str, pod: Pod) -> str:
    """The scheduler's message: how many machines lack what."""
    head = message.partition("preemption:")[0]
    parts: list[str] = []
    for count, objection in _PART.findall(head):
        resource = _INSUFFICIENT.match(objection)
        if resource:
            needs = pod.requests.get(resource[1])
            asked = "" if needs is None else f" (it needs {needs.normalize():f})"
            parts.append(f"{count} with too little {resource[1]} free{asked}")
            continue
        known = next((text for words, text in _OBJECTIONS.items() if words in objection), objection)
        parts.append(known.format(n=count))
    if not parts:
        known = next((text for words, text in _OBJECTIONS.items() if words in message), message)
        return known if "{n}" not in known else message
    total = re.match(r"\d+/(\d+) nodes", message)
    return f"of {total[1]} there are {', '.join(parts)}" if total else ", ".join(parts)


def _waited(look: Look, now: datetime) -> float:
    return 0.0 if look.since is None else (now - look.since).total_seconds()


def _nothing_made(found: StatefulSet, events: Sequence[Event], provider: str) -> Health:
    """There is no pod at all, and only events say why."""
    failed = [
        event
        for event in _in_order(events)
        if event.reason == "FailedCreate" and event.involved_object.uid == found.metadata.uid
    ]
    if not failed:
        return Health(Status.STARTING)
    said = failed[-1].message
    failure = Failure(provider, f"bring up {found.metadata.remote_id}", said)
    error = QuotaExceeded(failure) if "exceeded quota" in said else NotReady(failure)
    return Health(Status.FAILED, f"its pods cannot be made: {said}", failure=error)


def _joined(troubles: Sequence[str]) -> str:
    """Equal troubles of several pods are told once."""
    counted = Counter(text.partition(" ")[2] for text in troubles)
    first = {text.partition(" ")[2]: text for text in reversed(troubles)}
    parts = [first[why] if count == 1 else f"{count} nodes: each {why}" for why, count in counted.items()]
    return "; ".join(parts)
