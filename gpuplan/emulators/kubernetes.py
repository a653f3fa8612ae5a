"""Kubernetes 1.36: the API server, and behind it the controllers, scheduler and kubelets of a small GPU cluster.

https://kubernetes.io/docs/reference/generated/kubernetes-api/. Every token is for a cluster of its own. Here are the
routes; `kubernetes_reads` and `kubernetes_writes` answer them, `kubernetes_controllers` makes things happen.
"""

import base64
from collections.abc import Callable, Mapping

from gpuplan.core.values import JsonValue
from gpuplan.emulators import kubernetes_openapi as openapi
from gpuplan.emulators.http import Answerer, Request, Response, Routes
from gpuplan.emulators.kubernetes_answers import Refused, error
from gpuplan.emulators.kubernetes_controllers import catch_up
from gpuplan.emulators.kubernetes_kubelet import begin_to_leave, fail_pod
from gpuplan.emulators.kubernetes_reads import check_rights, get, listing, review, selector, visible
from gpuplan.emulators.kubernetes_resources import (
    RESOURCES,
    core_versions,
    group,
    groups,
    resource_list,
    version,
)
from gpuplan.emulators.kubernetes_selectors import is_true
from gpuplan.emulators.kubernetes_sessions import execute, forward
from gpuplan.emulators.kubernetes_store import Cluster, Stored, cluster_of
from gpuplan.emulators.kubernetes_watches import log, watch
from gpuplan.emulators.kubernetes_writes import (
    Place,
    change_scale,
    change_status,
    create,
    delete,
    evict,
    patch,
    replace,
    scale_tree,
)
from gpuplan.emulators.site import EmulatorType, Site
from gpuplan.emulators.world import Thing

KNOBS: Mapping[str, JsonValue] = {
    "machines": 8,
    "pull_seconds": 20,
    "stop_seconds": 2,
    "job_seconds": 30,
    "binding": "WaitForFirstConsumer",
    "missing_image": "does-not-exist",
    "most_per_page": 0,
    "continue_seconds": 300,
    "cut_watches": False,
    "quota": None,
    "forbidden": [],
}
"""`machines` of each type. An image with `missing_image` in its name is nowhere. `quota` is what a ResourceQuota would
have as `hard`, for every namespace. `forbidden` are rights that nobody has: `list nodes`. `binding` as a storage class
has it; `most_per_page` 0 leaves the size of pages to the client."""

ROUTES = Routes()
Ids = Mapping[str, str]
Answer = Callable[[Place], Response]
_COLLECTIONS = ("/namespaces/{namespace}/{plural}", "/{plural}")
_PREFIXES = ("/api/{version}", "/apis/{group}/{version}")
_ANSWERS: list[tuple[str, str, Answer]] = []


def _on(method: str, suffix: str) -> Callable[[Answer], Answer]:
    """Register for both groups of resources, with and without a namespace."""

    def register(answer: Answer) -> Answer:
        _ANSWERS.append((method, suffix, answer))
        return answer

    return register


@ROUTES.on("GET", "/version", is_open=True)
def tell_version(site: Site, request: Request, ids: Ids) -> Response:
    return Response(200, version(request))


@ROUTES.on("GET", "/{probe}", is_open=True)
def probe(site: Site, request: Request, ids: Ids) -> Response:
    match ids["probe"]:
        case "readyz" | "livez" | "healthz":
            return Response(200, b"ok", {"Content-Type": "text/plain"})
        case "api":
            return core_versions(request)
        case "apis":
            return groups(request)
    return _no_such_page()


@ROUTES.on("GET", "/openapi/v3", is_open=True)
def described(site: Site, request: Request, ids: Ids) -> Response:
    return Response(200, openapi.index(site))


@ROUTES.on("GET", "/openapi/v3/api/{version}", is_open=True)
@ROUTES.on("GET", "/openapi/v3/apis/{group}/{version}", is_open=True)
def described_group(site: Site, request: Request, ids: Ids) -> Response:
    found = openapi.document(request.path.removeprefix("/openapi/v3/"))
    return _no_such_page() if found is None else Response(200, found)


@ROUTES.on("GET", "/api/{version}")
def core_resources(site: Site, request: Request, ids: Ids) -> Response:
    found = resource_list("", ids["version"])
    return _no_such_page() if found is None else Response(200, found)


@ROUTES.on("GET", "/apis/{group}")
def one_group(site: Site, request: Request, ids: Ids) -> Response:
    if not any(known == ids["group"] for known, _, _ in RESOURCES):
        return _no_such_page()
    return Response(200, {"kind": "APIGroup", "apiVersion": "v1", **group(ids["group"])})


@ROUTES.on("GET", "/apis/{group}/{version}")
def group_resources(site: Site, request: Request, ids: Ids) -> Response:
    found = resource_list(ids["group"], ids["version"])
    return _no_such_page() if found is None else Response(200, found)


@_on("GET", "/{name}/{part}")
def read_part(place: Place) -> Response:
    match place.part:
        case "status":
            return get(place)
        case "scale":
            return Response(200, scale_tree(place.stored))
        case "log":
            return log(place)
        case "exec":
            return execute(place)
        case "portforward":
            return forward(place)
    return _no_such_page()


@_on("PUT", "/{name}/{part}")
@_on("PATCH", "/{name}/{part}")
def write_part(place: Place) -> Response:
    match place.part:
        case "status":
            return change_status(place)
        case "scale":
            return change_scale(place)
    return _no_such_page()


@_on("POST", "/{name}/{part}")
def post_part(place: Place) -> Response:
    match place.part:
        case "exec":
            return execute(place)
        case "portforward":
            return forward(place)
        case "eviction":
            return evict(place)
    return _no_such_page()


@_on("GET", "/{name}")
def read(place: Place) -> Response:
    check_rights(place, "get")
    return get(place)


@_on("PUT", "/{name}")
def put(place: Place) -> Response:
    check_rights(place, "update")
    return replace(place, place.body())


@_on("PATCH", "/{name}")
def change(place: Place) -> Response:
    check_rights(place, "patch")
    return patch(place)


@_on("DELETE", "/{name}")
def remove(place: Place) -> Response:
    check_rights(place, "delete")
    return delete(place)


@_on("GET", "")
def read_all(place: Place) -> Response:
    if place.part:
        return read_part(place)
    if is_true(place.request.one("watch")):
        check_rights(place, "watch")
        return watch(place, selector(place))
    check_rights(place, "list")
    return listing(place)


@_on("POST", "")
def post(place: Place) -> Response:
    if place.resource.created_only:
        return review(place)
    check_rights(place, "create")
    return create(place, place.body())


@_on("DELETE", "")
def remove_all(place: Place) -> Response:
    check_rights(place, "deletecollection")
    answer = listing(place)
    for each in [each for each in visible(place) if selector(place)(each.tree)]:
        delete(Place(place.site, place.cluster, place.request, place.resource, each.namespace, each.name))
    return answer


def _place(site: Site, request: Request, ids: Ids) -> Place:
    """What a path is about. Raises Refused."""
    ids = dict(ids)
    named = (ids.get("group", ""), ids["version"], ids["plural"])
    if ids.get("namespace") and ids["plural"] in ("status", "finalize"):
        # A part of a namespace, not a collection in it.
        named, ids = ("", "v1", "namespaces"), {"name": ids["namespace"], "part": ids["plural"]}
    resource = RESOURCES.get(named)
    if resource is None:
        refused = Refused(404, "404 page not found")
        refused.response = _no_such_page()
        raise refused
    cluster = cluster_of(site, request.account)
    catch_up(site, cluster)
    return Place(site, cluster, request, resource, ids.get("namespace", ""), ids.get("name", ""), ids.get("part", ""))


def _no_such_page() -> Response:
    return Response(404, b"404 page not found\n", {"Content-Type": "text/plain; charset=utf-8"})


def _status(site: Site, thing: Thing) -> str:
    """As the ledger tells it."""
    status = thing.body.get("status")
    if not isinstance(status, Mapping):
        return ""
    return str(status.get("phase") or f"{status.get('readyReplicas', 0)} of {status.get('replicas', 0)} ready")


def _found(site: Site, thing: Thing) -> tuple[Cluster, Stored] | None:
    cluster = cluster_of(site, thing.account)
    stored = next((each for each in cluster.every() if each.thing is thing), None)
    return None if stored is None else (cluster, stored)


def _pods(cluster: Cluster, stored: Stored) -> list[Stored]:
    """The pod itself, or those of a set."""
    return [stored] if stored.resource.kind == "Pod" else cluster.owned("Pod", stored)


def preempt(site: Site, thing: Thing) -> None:
    """Something more important takes the machines: they take no more pods, and those that ran there have to go."""
    if found := _found(site, thing):
        cluster, stored = found
        for pod in _pods(cluster, stored):
            for node in cluster.all("Node"):
                if node.meta.get("labels", {}).get("node.kubernetes.io/instance-type") == _type_of(cluster, pod):
                    node.spec["unschedulable"] = True
                    cluster.touch(node)
            fail_pod(
                site, cluster, pod, "Preempting", "Preempted by a pod on its node", disrupted="PreemptionByScheduler"
            )


def break_down(site: Site, thing: Thing) -> None:
    """Its containers end whenever they are started."""
    if found := _found(site, thing):
        cluster, stored = found
        for pod in _pods(cluster, stored):
            pod.hidden["crashes"] = True
            cluster.touch(pod)


def stop(site: Site, thing: Thing) -> None:
    """Somebody else scales the set to nothing, or takes the pod away."""
    if found := _found(site, thing):
        cluster, stored = found
        if stored.resource.kind == "Pod":
            begin_to_leave(site, cluster, stored, None)
        else:
            cluster.replace(stored, {**stored.tree, "spec": {**stored.spec, "replicas": 0}})


def _type_of(cluster: Cluster, pod: Stored) -> str:
    node = cluster.find("Node", "", pod.spec.get("nodeName", ""))
    return str(node.meta["labels"]["node.kubernetes.io/instance-type"]) if node else ""


def _answering(answer: Answer) -> Answerer:
    return lambda site, request, ids: answer(_place(site, request, ids))


# A path with a namespace could be taken for an object of that name with a part: collections in namespaces come first.
for collection in _COLLECTIONS:
    for prefix in _PREFIXES:
        for method, suffix, answer in _ANSWERS:
            ROUTES.on(method, f"{prefix}{collection}{suffix}")(_answering(answer))


def _key(request: Request) -> str:
    """The bearer token; or the user of the URL, since kubectl sends no token without TLS."""
    scheme, _, proof = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return request.bearer
    try:
        return base64.b64decode(proof).decode().partition(":")[0]
    except ValueError:
        return ""


EMULATOR = EmulatorType(
    name="kubernetes",
    title="Kubernetes API 1.36",
    routes=ROUTES,
    error=error,
    key=_key,
    knobs=KNOBS,
    status=_status,
    stop=stop,
    break_down=break_down,
    preempt=preempt,
)
