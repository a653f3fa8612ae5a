"""Create, change and delete objects: everything between a request's body and the store.

`kubernetes` has the routes; conflicts, validation, dry runs and the bookkeeping of field managers are here.
"""

import copy
import json
from dataclasses import dataclass
from typing import Any

from gpuplan.emulators.http import Request, Response
from gpuplan.emulators.kubernetes_admission import defaulted, objections
from gpuplan.emulators.kubernetes_answers import (
    Refused,
    already_exists,
    apply_conflict,
    conflict,
    forbidden,
    invalid,
    not_found,
    success,
)
from gpuplan.emulators.kubernetes_controllers import PROTECTION, begin_to_delete, catch_up
from gpuplan.emulators.kubernetes_fields import ApplyConflict, Tree, applied, note_update, without_times
from gpuplan.emulators.kubernetes_patches import NotPatchable, json_patched, merge_patched, strategically_patched
from gpuplan.emulators.kubernetes_pods import finished
from gpuplan.emulators.kubernetes_quota import quota_excess
from gpuplan.emulators.kubernetes_resources import Resource
from gpuplan.emulators.kubernetes_schema import unknown_fields
from gpuplan.emulators.kubernetes_selectors import is_true
from gpuplan.emulators.kubernetes_store import Cluster, Stored, stamp
from gpuplan.emulators.site import Site

JSON_PATCH, MERGE_PATCH = "application/json-patch+json", "application/merge-patch+json"
STRATEGIC_PATCH, APPLY_PATCH = "application/strategic-merge-patch+json", "application/apply-patch+yaml"
UNREAD = ("application/vnd.kubernetes.protobuf", "application/cbor")
"""What the real server reads too, and this one does not."""
_MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"
_SERVERS = ("uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp")
_LINGERING = ("Pod", "Namespace")
"""Gone only once something else has ended."""
_POLICIES = ("Foreground", "Background", "Orphan")
_PRESERVED = '299 - "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to '
_PRESERVED += 'remove them or set propagationPolicy=Orphan to suppress this warning"'


@dataclass(frozen=True, slots=True)
class Place:
    """What a request is about."""

    site: Site
    cluster: Cluster
    request: Request
    resource: Resource
    namespace: str = ""
    name: str = ""
    part: str = ""
    """The subresource."""

    @property
    def stored(self) -> Stored:
        """Raises Refused."""
        found = self.cluster.find(self.resource.kind, self.namespace, self.name)
        if found is None:
            raise not_found(self.resource, self.name)
        return found

    @property
    def manager(self) -> str:
        agent = self.request.headers.get("user-agent", "unknown").partition("/")[0]
        return self.request.one("fieldManager") or agent

    @property
    def is_dry(self) -> bool:
        return "All" in self.request.query.get("dryRun", ())

    @property
    def now(self) -> str:
        return stamp(self.site.now)

    def body(self) -> Tree:
        """Raises NotJson, and Refused for what is no JSON at all."""
        kind = self.request.headers.get("content-type", "").partition(";")[0]
        if kind in UNREAD:
            told = "the body of the request was in an unknown format - accepted media types include: application/json"
            raise Refused(415, told)
        return dict[str, Any](self.request.json())


def create(place: Place, body: Tree) -> Response:
    """POST on a collection."""
    warnings = _check_fields(place, body)
    meta = body.setdefault("metadata", {})
    if not meta.get("name") and meta.get("generateName"):
        meta["name"] = f"{meta['generateName']}{place.site.digits(5, 'bcdfghjklmnpqrstvwxz2456789')}"
    for name in (*_SERVERS, "managedFields"):
        meta.pop(name, None)
    tree = _admitted(place, body, None)
    if place.cluster.find(place.resource.kind, place.namespace, str(meta.get("name"))) is not None:
        raise already_exists(place.resource, str(meta.get("name")))
    note_update(None, tree, place.manager, type=place.resource.kind, now=place.now)
    return Response(201, _kept(place, tree), warnings)


def replace(place: Place, body: Tree) -> Response:
    """PUT; an object that is not there is an error."""
    stored = place.stored
    meta = body.setdefault("metadata", {})
    told = meta.get("resourceVersion")
    if told and told != stored.meta["resourceVersion"]:
        raise conflict(place.resource, place.name, _MODIFIED)
    if meta.get("uid") not in (None, stored.uid):
        why = f"Precondition failed: UID in precondition: {meta['uid']}, UID in object meta: {stored.uid}"
        raise conflict(place.resource, place.name, why)
    warnings = _check_fields(place, body)
    return Response(200, _changed(place, stored, body, place.manager), warnings)


def patch(place: Place) -> Response:
    """PATCH, in the way its content type says."""
    kind = place.request.headers.get("content-type", "").partition(";")[0].strip()
    if kind == APPLY_PATCH:
        return apply(place)
    stored = place.stored
    try:
        if kind == JSON_PATCH:
            tree = json_patched(stored.tree, _json_list(place.request))
        elif kind == MERGE_PATCH:
            tree = merge_patched(stored.tree, place.body())
        elif kind == STRATEGIC_PATCH:
            tree = strategically_patched(stored.tree, place.body(), place.resource.kind)
        else:
            accepted = ", ".join((JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH))
            raise Refused(415, f"the body of the request was in an unknown format - accepted media types: {accepted}")
    except NotPatchable as exc:
        raise Refused(422, f"the server rejected our request due to an error in our request: {exc}") from exc
    told = tree["metadata"].get("resourceVersion")
    if told != stored.meta["resourceVersion"]:
        raise conflict(place.resource, place.name, _MODIFIED)
    return Response(200, _changed(place, stored, copy.deepcopy(tree), place.manager))


def apply(place: Place) -> Response:
    """Server-side apply: create or change, field by field."""
    manager = place.request.one("fieldManager")
    if not manager:
        told = 'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch'
        raise Refused(422, told)
    body = _yaml(place)
    unknown = unknown_fields(body, place.resource.kind)
    if unknown:
        thing = f"{place.namespace}/{place.name}; {body.get('apiVersion')}, Kind={body.get('kind')}"
        raise Refused(
            500,
            f"failed to create typed patch object ({thing}): .{unknown[0]}: field not declared in schema",
            reason="",
        )
    meta = body.setdefault("metadata", {})
    meta["name"] = meta.get("name") or place.name
    stored = place.cluster.find(place.resource.kind, place.namespace, place.name)
    _check_preconditions(place, meta, stored)
    before = None if stored is None else copy.deepcopy(stored.tree)
    force = is_true(place.request.one("force"))
    try:
        wanted = {name: value for name, value in body.items() if name != "status"}
        wanted["metadata"] = {name: value for name, value in meta.items() if name not in (*_SERVERS, "managedFields")}
        tree = applied(before, wanted, manager, type=place.resource.kind, force=force, now=place.now)
    except ApplyConflict as exc:
        raise apply_conflict(place.resource, exc.conflicts) from exc
    if stored is None:
        return Response(201, _kept(place, _admitted(place, tree, None)))
    if stored.is_leaving:
        return Response(200, stored.tree)
    full = _admitted(place, tree, stored)
    if without_times(full) == without_times(stored.tree):
        return Response(200, stored.tree)
    return Response(200, _stored_change(place, stored, full))


def change_status(place: Place) -> Response:
    """PUT or PATCH of `status`: nothing else is changed."""
    stored = place.stored
    tree: Tree = place.body() if place.request.method == "PUT" else merge_patched(stored.tree, place.body())
    if not place.is_dry:
        place.cluster.set_status(stored, tree.get("status") or {})
        catch_up(place.site, place.cluster)
    return Response(200, stored.tree)


def scale_tree(stored: Stored) -> Tree:
    """The `scale` of a set."""
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    selector = (stored.spec.get("selector") or {}).get("matchLabels") or {}
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {name: stored.meta[name] for name in kept},
        "spec": {"replicas": stored.spec.get("replicas", 1)},
        "status": {
            "replicas": stored.status.get("replicas", 0),
            "selector": ",".join(f"{name}={value}" for name, value in selector.items()),
        },
    }


def change_scale(place: Place) -> Response:
    stored = place.stored
    body = place.body()
    wanted = merge_patched(scale_tree(stored), body) if place.request.method == "PATCH" else body
    tree = copy.deepcopy(stored.tree)
    tree["spec"]["replicas"] = wanted["spec"].get("replicas", 0)
    _changed(place, stored, tree, place.manager, subresource="scale")
    return Response(200, scale_tree(stored))


def delete(place: Place) -> Response:
    """DELETE of one object. Options in a body count, and then none in the URL."""
    stored = place.stored
    options = place.body() if place.request.content else _options_in_query(place.request)
    uid = (options.get("preconditions") or {}).get("uid")
    if uid and uid != stored.uid:
        why = f"the UID in the precondition ({uid}) does not match the UID in record ({stored.uid}). "
        raise conflict(place.resource, place.name, f"{why}The object might have been deleted and then recreated")
    policy = str(options.get("propagationPolicy") or "")
    if policy and policy not in _POLICIES:
        raise Refused(400, f"invalid propagationPolicy: {policy}")
    headers = {}
    if not policy and place.resource.kind == "Job":
        policy, headers = "Orphan", {"Warning": _PRESERVED}
    grace = options.get("gracePeriodSeconds")
    leaving = copy.deepcopy(stored.tree)
    if "All" not in (options.get("dryRun") or ()):
        begin_to_delete(
            place.site, place.cluster, stored, policy or "Background", None if grace is None else float(grace)
        )
        leaving = copy.deepcopy(stored.tree)
        catch_up(place.site, place.cluster)
    if stored.is_leaving or place.resource.kind == "Pod":
        return Response(200, leaving, headers)
    told: Tree = {"name": stored.name, "kind": place.resource.plural, "uid": stored.uid}
    group = {"group": place.resource.group} if place.resource.group else {}
    return Response(200, success({**told, **group}), headers)


def evict(place: Place) -> Response:
    grace = (place.body().get("deleteOptions") or {}).get("gracePeriodSeconds")
    seconds = None if grace is None else float(grace)
    begin_to_delete(place.site, place.cluster, place.stored, "Background", seconds)
    catch_up(place.site, place.cluster)
    return Response(201, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})


def _admitted(place: Place, tree: Tree, stored: Stored | None) -> Tree:
    """What would be kept. Raises Refused."""
    resource = place.resource
    meta = tree["metadata"]
    if resource.namespaced:
        if meta.get("namespace") not in (None, "", place.namespace):
            told = "the namespace of the provided object does not match the namespace sent on the request"
            raise Refused(400, told)
        meta["namespace"] = place.namespace
    tree |= {"kind": resource.kind, "apiVersion": resource.api_version}
    full = defaulted(tree)
    if resource.kind == "Pod" and stored is None:
        full = finished(full)
    found = objections(resource, full, None if stored is None else stored.tree)
    if found:
        raise invalid(resource, str(meta.get("name", "")), found)
    if stored is None:
        _check_room(place, full)
        if resource.kind == "PersistentVolumeClaim":
            meta = full["metadata"]
            meta["finalizers"] = [*(meta.get("finalizers") or ()), PROTECTION]
    return full


def _check_room(place: Place, tree: Tree) -> None:
    """Whether a new object may be there: namespace and quotas. Raises Refused."""
    name = str(tree["metadata"].get("name", ""))
    if place.resource.namespaced:
        namespace = place.cluster.find("Namespace", "", place.namespace)
        if namespace is None:
            told = f'namespaces "{place.namespace}" not found'
            raise Refused(404, told, details={"name": place.namespace, "kind": "namespaces"})
        if namespace.is_leaving:
            why = f"unable to create new content in namespace {place.namespace} because it is being terminated"
            cause = {"reason": "NamespaceTerminating", "message": why, "field": "metadata.namespace"}
            raise forbidden(place.resource, name, why, details={"causes": [cause]})
    excess = quota_excess(place.site, place.cluster, tree)
    if excess:
        raise forbidden(place.resource, name, excess)


def _kept(place: Place, tree: Tree) -> Tree:
    """Keep a new object, unless it is only a rehearsal."""
    if place.is_dry:
        tree["metadata"] |= {"uid": place.site.uuid(), "creationTimestamp": place.now}
        return {**tree, "metadata": {**tree["metadata"], "generation": 1}}
    if place.resource.kind == "Job":
        _label_job(tree, place.site.uuid())
    stored = place.cluster.add(place.site, tree)
    shown = copy.deepcopy(stored.tree)
    catch_up(place.site, place.cluster)
    return shown


def _label_job(tree: Tree, uid: str) -> None:
    tree["metadata"]["uid"] = uid
    named = {"controller-uid": uid, "job-name": tree["metadata"]["name"]}
    own = {f"{prefix}{name}": value for name, value in named.items() for prefix in ("", "batch.kubernetes.io/")}
    tree["spec"].setdefault("selector", {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}})
    meta = tree["spec"]["template"].setdefault("metadata", {})
    meta["labels"] = {**(meta.get("labels") or {}), **own}


def _changed(place: Place, stored: Stored, body: Tree, manager: str, *, subresource: str = "") -> Tree:
    """Keep what somebody has made of an object in any way but by applying."""
    tree = copy.deepcopy(body)
    tree["metadata"] |= {name: stored.meta[name] for name in _SERVERS if name in stored.meta}
    tree["metadata"]["managedFields"] = copy.deepcopy(stored.meta.get("managedFields") or [])
    if "status" in stored.tree:
        tree["status"] = copy.deepcopy(stored.status)
    full = _admitted(place, tree, stored)
    kind = place.resource.kind
    note_update(stored.tree, full, manager, type=kind, now=place.now, subresource=subresource)
    return _stored_change(place, stored, full)


def _stored_change(place: Place, stored: Stored, tree: Tree) -> Tree:
    if place.is_dry:
        return tree
    place.cluster.replace(stored, tree)
    shown = copy.deepcopy(stored.tree)
    if stored.is_leaving and not stored.meta.get("finalizers") and stored.resource.kind not in _LINGERING:
        place.cluster.remove(place.site, stored)
    catch_up(place.site, place.cluster)
    return shown


def _check_preconditions(place: Place, meta: Tree, stored: Stored | None) -> None:
    if meta.get("uid") and (stored is None or stored.uid != meta["uid"]):
        raise conflict(place.resource, place.name, "uid mismatch: the provided object specified another uid")
    if meta.get("resourceVersion") and (stored is None or stored.meta["resourceVersion"] != meta["resourceVersion"]):
        raise conflict(place.resource, place.name, _MODIFIED)


def _check_fields(place: Place, body: Tree) -> dict[str, str]:
    """Headers that warn of unknown fields. Raises Refused where that is asked for."""
    unknown = [f'unknown field "{path}"' for path in unknown_fields(body, place.resource.kind)]
    if unknown and place.request.one("fieldValidation") == "Strict":
        told = f"{place.resource.kind} in version {place.resource.version!r} cannot be handled as a "
        raise Refused(400, f"{told}{place.resource.kind}: strict decoding error: {', '.join(unknown)}")
    quoted = (text.replace('"', '\\"') for text in unknown)
    return {"Warning": ", ".join(f'299 - "{text}"' for text in quoted)} if unknown else {}


def _options_in_query(request: Request) -> Tree:
    names = ("propagationPolicy", "gracePeriodSeconds")
    return {name: request.one(name) for name in names if request.one(name)} | {
        "dryRun": request.query.get("dryRun", ())
    }


def _yaml(place: Place) -> Tree:
    """An apply body: JSON most of the time."""
    if place.request.content[:1] == b"{":
        return place.body()
    import yaml

    try:
        body = yaml.safe_load(place.request.content)
    except yaml.YAMLError as exc:
        raise Refused(400, f"error decoding YAML: {exc}") from exc
    if not isinstance(body, dict):
        raise Refused(400, "error decoding YAML: not an object")
    return body


def _json_list(request: Request) -> list[Any]:
    steps = json.loads(request.content)
    if not isinstance(steps, list):
        raise Refused(400, "json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    return steps
