"""The API server's description of itself (OpenAPI v3), as far as clients look into it before they send something: which
requests validate fields on the server, and which fields there are.
"""

from collections.abc import Mapping

from gpuplan.emulators.kubernetes_fields import Tree
from gpuplan.emulators.kubernetes_resources import RESOURCES, Resource
from gpuplan.emulators.kubernetes_schema import Field, types
from gpuplan.emulators.site import Site

_PREFIX = "io.gpuplan.emulator"
_PATCHES = ("application/apply-patch+yaml", "application/merge-patch+json", "application/strategic-merge-patch+json")
_PARAMETERS = ("dryRun", "fieldManager", "fieldValidation", "force")


def index(site: Site) -> Tree:
    """`/openapi/v3`: a document for every group."""
    groups = dict.fromkeys(_path(resource) for resource in RESOURCES.values())
    mount = f"/{site.type.name}/openapi/v3"
    return {"paths": {path: {"serverRelativeURL": f"{mount}/{path}?hash=1"} for path in groups}}


def document(path: str) -> Tree | None:
    """`/openapi/v3/apis/apps/v1`; None where there is no such group."""
    served = [resource for resource in RESOURCES.values() if _path(resource) == path]
    if not served:
        return None
    schemas = {f"{_PREFIX}.{name}": _schema(fields) for name, fields in types().items()}
    for resource in served:
        schema = schemas.setdefault(f"{_PREFIX}.{resource.kind}", {"type": "object"})
        schema["x-kubernetes-group-version-kind"] = [_identity(resource)]
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.36.2"},
        "paths": {_item(resource): _operations(resource) for resource in served},
        "components": {"schemas": schemas},
    }


def _operations(resource: Resource) -> Tree:
    identity = _identity(resource)
    schema = {"$ref": f"#/components/schemas/{_PREFIX}.{resource.kind}"}
    parameters = [{"name": name, "in": "query", "schema": {"type": "string"}} for name in _PARAMETERS]
    answer = {"200": {"description": "OK", "content": {"application/json": {"schema": schema}}}}
    body: Tree = {"content": {kind: {"schema": {"type": "object"}} for kind in _PATCHES}}
    change: Tree = {"x-kubernetes-group-version-kind": identity, "parameters": parameters, "responses": answer}
    return {
        "get": {"x-kubernetes-action": "get", "x-kubernetes-group-version-kind": identity, "responses": answer},
        "patch": {"x-kubernetes-action": "patch", "requestBody": body, **change},
        "put": {"x-kubernetes-action": "put", **change},
    }


def _schema(fields: Mapping[str, Field]) -> Tree:
    return {"type": "object", "properties": {name: _property(field) for name, field in fields.items()}}


def _property(field: Field) -> Tree:
    known = field.type in types()
    inner: Tree = {"$ref": f"#/components/schemas/{_PREFIX}.{field.type}"} if known else {}
    if field.is_map:
        return {"type": "object", "additionalProperties": {}}
    if not field.is_list:
        return {"allOf": [inner]} if known else {"x-kubernetes-preserve-unknown-fields": True}
    told: Tree = {"type": "array", "items": inner}
    if field.keys:
        merging = {"x-kubernetes-patch-strategy": "merge", "x-kubernetes-patch-merge-key": field.merge_key}
        return {**told, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(field.keys), **merging}
    return {**told, "x-kubernetes-list-type": "set" if field.is_set else "atomic"}


def _path(resource: Resource) -> str:
    return f"apis/{resource.group}/{resource.version}" if resource.group else f"api/{resource.version}"


def _item(resource: Resource) -> str:
    scope = "namespaces/{namespace}/" if resource.namespaced else ""
    return f"/{_path(resource)}/{scope}{resource.plural}/{{name}}"


def _identity(resource: Resource) -> Tree:
    return {"group": resource.group, "version": resource.version, "kind": resource.kind}
