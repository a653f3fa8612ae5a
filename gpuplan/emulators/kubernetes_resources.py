"""Which resources the emulated API server serves, and how it tells about them: discovery, in both forms."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gpuplan.emulators.http import Request, Response
from gpuplan.emulators.kubernetes_fields import Tree

VERSION: Mapping[str, str] = {
    "major": "1",
    "minor": "36",
    "emulationMajor": "1",
    "emulationMinor": "36",
    "minCompatibilityMajor": "1",
    "minCompatibilityMinor": "35",
    "gitVersion": "v1.36.2",
    "gitCommit": "0000000000000000000000000000000000000000",
    "gitTreeState": "clean",
    "buildDate": "2026-07-14T12:00:00Z",
    "goVersion": "go1.26.1",
    "compiler": "gc",
    "platform": "linux/amd64",
}
VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of object. `ledger` is what the ledger calls it; empty: it is no object of anybody's, and not there."""

    kind: str
    plural: str
    group: str = ""
    version: str = "v1"
    namespaced: bool = True
    short: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    ledger: str = ""
    created_only: bool = False
    """Can be created and is answered, but is not kept."""

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def title(self) -> str:
        """As messages call it: `statefulsets.apps`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def has_generation(self) -> bool:
        return self.kind in ("StatefulSet", "Deployment", "ReplicaSet", "Job", "Pod")


_ALL = (
    Resource("Pod", "pods", short=("po",), subresources=("status", "log", "exec", "eviction"), ledger="node"),
    Resource("Service", "services", short=("svc",), subresources=("status",), ledger="service"),
    Resource("Secret", "secrets", ledger="secret"),
    Resource("ConfigMap", "configmaps", short=("cm",), ledger="config_map"),
    Resource(
        "PersistentVolumeClaim",
        "persistentvolumeclaims",
        short=("pvc",),
        subresources=("status",),
        ledger="volume",
    ),
    Resource("ServiceAccount", "serviceaccounts", short=("sa",), ledger="service_account"),
    Resource("ResourceQuota", "resourcequotas", short=("quota",), subresources=("status",), ledger="quota"),
    Resource("Event", "events", short=("ev",)),
    Resource("Namespace", "namespaces", namespaced=False, short=("ns",), subresources=("status",), ledger="namespace"),
    Resource("Node", "nodes", namespaced=False, short=("no",), subresources=("status",)),
    Resource("StatefulSet", "statefulsets", "apps", short=("sts",), subresources=("status", "scale"), ledger="group"),
    Resource(
        "Deployment", "deployments", "apps", short=("deploy",), subresources=("status", "scale"), ledger="deployment"
    ),
    Resource(
        "ReplicaSet", "replicasets", "apps", short=("rs",), subresources=("status", "scale"), ledger="replica_set"
    ),
    Resource("Job", "jobs", "batch", subresources=("status",), ledger="job"),
    Resource("Lease", "leases", "coordination.k8s.io", ledger="lease"),
    Resource(
        "SelfSubjectAccessReview",
        "selfsubjectaccessreviews",
        "authorization.k8s.io",
        namespaced=False,
        created_only=True,
    ),
)
RESOURCES: Mapping[tuple[str, str, str], Resource] = {(r.group, r.version, r.plural): r for r in _ALL}
BY_KIND: Mapping[str, Resource] = {r.kind: r for r in _ALL}


def version(request: Request) -> Tree:
    return dict(VERSION)


def core_versions(request: Request) -> Response:
    """`/api`."""
    if AGGREGATED in request.headers.get("accept", ""):
        return _aggregated([""])
    body: Tree = {"kind": "APIVersions", "versions": ["v1"]}
    return Response(200, {**body, "serverAddressByClientCIDRs": []})


def groups(request: Request) -> Response:
    """`/apis`."""
    named = list(dict.fromkeys(r.group for r in _ALL if r.group))
    if AGGREGATED in request.headers.get("accept", ""):
        return _aggregated(named)
    told = [group(name) for name in named]
    return Response(200, {"kind": "APIGroupList", "apiVersion": "v1", "groups": told})


def group(name: str) -> Tree:
    """`/apis/{group}`; without its kind, as within the list."""
    served = {"groupVersion": f"{name}/v1", "version": "v1"}
    return {"name": name, "versions": [served], "preferredVersion": served}


def resource_list(name: str, version: str) -> Tree | None:
    """`/api/v1`, `/apis/{group}/{version}`; None where there is no such group."""
    served = [r for r in _ALL if (r.group, r.version) == (name, version)]
    if not served:
        return None
    told = [entry for resource in served for entry in _entries(resource)]
    return {
        "kind": "APIResourceList",
        **({"apiVersion": "v1"} if name else {}),
        "groupVersion": served[0].api_version,
        "resources": told,
    }


def _entries(resource: Resource) -> Iterable[Tree]:
    verbs = ["create"] if resource.created_only else list(VERBS)
    yield {
        "name": resource.plural,
        "singularName": resource.kind.lower(),
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": verbs,
        **({"shortNames": list(resource.short)} if resource.short else {}),
    }
    for name in resource.subresources:
        kind = {"scale": "Scale", "eviction": "Eviction", "exec": "PodExecOptions"}.get(name, resource.kind)
        yield {
            "name": f"{resource.plural}/{name}",
            "singularName": "",
            "namespaced": resource.namespaced,
            "kind": kind,
            "verbs": {"log": ["get"], "exec": ["create", "get"], "eviction": ["create"]}.get(
                name, ["get", "patch", "update"]
            ),
        }


def _aggregated(names: Iterable[str]) -> Response:
    items: list[Tree] = [
        {
            "metadata": {"name": name} if name else {},
            "versions": [
                {
                    "version": "v1",
                    "freshness": "Current",
                    "resources": [_discovered(r) for r in _ALL if r.group == name],
                }
            ],
        }
        for name in names
    ]
    body: Tree = {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}}
    return Response(200, {**body, "items": items}, {"Content-Type": AGGREGATED})


def _discovered(resource: Resource) -> Tree:
    told: Tree = {
        "resource": resource.plural,
        "responseKind": _kind(resource.kind, resource),
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.kind.lower(),
        "verbs": ["create"] if resource.created_only else list(VERBS),
    }
    if resource.short:
        told["shortNames"] = list(resource.short)
    if resource.subresources:
        told["subresources"] = [
            {
                "subresource": entry["name"].partition("/")[2],
                "responseKind": _kind(entry["kind"], resource),
                "verbs": entry["verbs"],
            }
            for entry in _entries(resource)
            if "/" in entry["name"]
        ]
    return told


def _kind(kind: str, resource: Resource) -> Tree:
    return {"group": resource.group, "version": resource.version, "kind": kind}
