"""What the API server tells while it happens: watches of a collection, and the logs of a container."""

import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from gpuplan.emulators.http import Flow, Response
from gpuplan.emulators.kubernetes_answers import Refused, status
from gpuplan.emulators.kubernetes_controllers import catch_up
from gpuplan.emulators.kubernetes_fields import Tree
from gpuplan.emulators.kubernetes_selectors import is_true
from gpuplan.emulators.kubernetes_store import Change, Cluster, Stored, cluster_of, stamp
from gpuplan.emulators.kubernetes_writes import Place

_BOOKMARK_SECONDS = 60
_LONGEST_SECONDS = 1800
_BEAT_SECONDS = 10
"""How often a running container says something."""
_MOST_BEATS = 500


class Watch:
    """One watch: what it has told, and what is still to be told."""

    def __init__(self, place: Place, passes: Callable[[Tree], bool]) -> None:
        self._place = place
        self._passes = passes
        self._known: set[str] = set()
        self._ends = place.site.now + timedelta(seconds=float(place.request.one("timeoutSeconds") or _LONGEST_SECONDS))
        self._told_at = place.site.now
        self._since: int | None = None
        version = place.request.one("resourceVersion")
        self._initial = is_true(place.request.one("sendInitialEvents"))
        if version not in ("", "0") and not self._initial:
            self._since = int(version)
            self._known = {each.uid for each in self._present()}

    def __call__(self) -> Sequence[bytes] | None:
        """A flow: the lines that are due."""
        site, cluster = self._place.site, self._place.cluster
        if cluster_of(site, cluster.account) is not cluster or site.now >= self._ends:
            return None
        if site.knob("cut_watches") is True:
            return None
        catch_up(site, cluster)
        if self._since is None:
            return self._begin()
        if self._since < cluster.forgotten:
            self._ends = site.now
            return [_line("ERROR", _expired(self._since, cluster))]
        lines = [line for change in cluster.changes if change.version > self._since for line in self._tell(change)]
        self._since = cluster.version
        if lines:
            self._told_at = site.now
        elif (site.now - self._told_at).total_seconds() >= _BOOKMARK_SECONDS:
            lines = self._bookmark({})
        return lines

    def _begin(self) -> list[bytes]:
        """Everything there is, as if it had just been added."""
        self._since = self._place.cluster.version
        present = self._present()
        self._known = {each.uid for each in present}
        lines = [_line("ADDED", each.tree) for each in present]
        return lines + (self._bookmark({"k8s.io/initial-events-end": "true"}) if self._initial else [])

    def _present(self) -> list[Stored]:
        found = self._place.cluster.all(self._place.resource.kind, self._place.namespace)
        return [each for each in found if self._passes(each.tree)]

    def _tell(self, change: Change) -> list[bytes]:
        meta = change.tree["metadata"]
        if change.kind != self._place.resource.kind or self._place.namespace not in ("", meta.get("namespace", "")):
            return []
        fits, uid = change.type != "DELETED" and self._passes(change.tree), meta["uid"]
        if not fits and uid not in self._known:
            return []
        type = "DELETED" if not fits else "MODIFIED" if uid in self._known else "ADDED"
        (self._known.add if fits else self._known.discard)(uid)
        return [_line(type, change.tree)]

    def _bookmark(self, annotations: Tree) -> list[bytes]:
        self._told_at = self._place.site.now
        if not is_true(self._place.request.one("allowWatchBookmarks")):
            return []
        resource = self._place.resource
        meta: Tree = {"resourceVersion": str(self._since), "creationTimestamp": None}
        if annotations:
            meta["annotations"] = annotations
        return [_line("BOOKMARK", {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": meta})]


def watch(place: Place, passes: Callable[[Tree], bool]) -> Response:
    """Raises Refused."""
    version = place.request.one("resourceVersion")
    if version and not version.isdigit():
        raise Refused(500, f'strconv.ParseUint: parsing "{version}": invalid syntax')
    return Response(200, b"", {"Content-Type": "application/json"}, flow=Watch(place, passes))


def log(place: Place) -> Response:
    """Of one container of a pod. Raises Refused."""
    pod = place.stored
    request = place.request
    names = [container["name"] for container in pod.spec["containers"]]
    name = request.one("container") or names[0]
    if name not in names:
        raise Refused(400, f"container {name} is not valid for pod {pod.name}")
    if not request.one("container") and len(names) > 1:
        told = f"a container name must be specified for pod {pod.name}, choose one of: [{' '.join(names)}]"
        raise Refused(400, told)
    if not pod.spec.get("nodeName"):
        return Response(204)
    if "started_at" not in pod.hidden:
        state = (pod.status.get("containerStatuses") or [{}])[0].get("state", {})
        reason = state.get("waiting", {}).get("reason", "ContainerCreating")
        raise Refused(400, f'container "{name}" in pod "{pod.name}" is waiting to start: {reason}')
    since, lines = _since(place), _written(place, pod)
    shown = [line for line in lines if since is None or line[0] >= since]
    if request.one("tailLines"):
        shown = shown[len(shown) - min(len(shown), int(request.one("tailLines"))) :]
    dated = is_true(request.one("timestamps"))
    body = b"".join(_shown(line, dated=dated) for line in shown)
    following = _following(place, pod, len(lines), dated=dated) if is_true(request.one("follow")) else None
    return Response(200, body, {"Content-Type": "text/plain"}, flow=following)


def _following(place: Place, pod: Stored, told: int, *, dated: bool) -> Flow:
    """New lines for as long as the container runs."""
    seen = [told]

    def more() -> Sequence[bytes] | None:
        catch_up(place.site, place.cluster)
        lines = _written(place, pod)
        fresh = [_shown(line, dated=dated) for line in lines[seen[0] :]]
        seen[0] = len(lines)
        if fresh:
            return fresh
        is_there = place.cluster.find("Pod", pod.namespace, pod.name) is pod
        return [] if is_there and pod.status.get("phase") == "Running" and not pod.is_leaving else None

    return more


def _written(place: Place, pod: Stored) -> list[tuple[datetime, str]]:
    """What a container has printed so far: that it began, and a beat from then on."""
    started: datetime = pod.hidden["started_at"]
    image = pod.spec["containers"][0]["image"]
    beats = int((place.site.now - started).total_seconds() // _BEAT_SECONDS)
    first = (started, f"{pod.name} runs {image}")
    return [
        first,
        *((started + timedelta(seconds=_BEAT_SECONDS * n), f"beat {n}") for n in range(1, min(beats, 500) + 1)),
    ]


def _shown(line: tuple[datetime, str], *, dated: bool) -> bytes:
    moment, text = line
    return (f"{stamp(moment)[:-1]}.000000000Z {text}\n" if dated else f"{text}\n").encode()


def _since(place: Place) -> datetime | None:
    if text := place.request.one("sinceTime"):
        return datetime.fromisoformat(text)
    if text := place.request.one("sinceSeconds"):
        return place.site.now - timedelta(seconds=int(text))
    return None


def _line(type: str, tree: Tree) -> bytes:
    return json.dumps({"type": type, "object": tree}).encode() + b"\n"


def _expired(since: int, cluster: Cluster) -> Tree:
    return status(410, f"too old resource version: {since} ({cluster.forgotten})")
