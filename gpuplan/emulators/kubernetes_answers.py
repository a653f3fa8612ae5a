"""How the API server words its answers: `Status` objects with their reasons, and the errors the emulator raises."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gpuplan.emulators.http import Refusal, Response
from gpuplan.emulators.kubernetes_fields import Tree

if TYPE_CHECKING:
    from gpuplan.emulators.kubernetes_resources import Resource

REASONS: Mapping[int, str] = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    410: "Expired",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


def status(code: int, message: str, *, reason: str | None = None, details: Tree | None = None) -> Tree:
    """A failure, as JSON. An empty `reason` leaves it out."""
    told = REASONS.get(code, "") if reason is None else reason
    body: Tree = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message}
    if told:
        body["reason"] = told
    if details:
        body["details"] = details
    return {**body, "code": code}


def success(details: Tree) -> Tree:
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def error(code: int, message: str) -> Response:
    """What the control API's faults say, and what is wrong before any object is meant."""
    told = "Unauthorized" if code == 401 else message
    return Response(code, status(code, told))


class Refused(Refusal):
    """A refusal in the API server's words."""

    def __init__(
        self, code: int, message: str, *, reason: str | None = None, details: Tree | None = None, retry_after: int = 0
    ) -> None:
        headers = {"Retry-After": str(retry_after)} if retry_after else {}
        super().__init__(Response(code, status(code, message, reason=reason, details=details), headers))


def not_found(resource: "Resource", name: str) -> Refused:
    return Refused(404, f'{resource.title} "{name}" not found', details=_details(resource, name))


def already_exists(resource: "Resource", name: str) -> Refused:
    details = _details(resource, name)
    return Refused(409, f'{resource.title} "{name}" already exists', reason="AlreadyExists", details=details)


def conflict(resource: "Resource", name: str, why: str) -> Refused:
    message = f'Operation cannot be fulfilled on {resource.title} "{name}": {why}'
    return Refused(409, message, details=_details(resource, name))


def apply_conflict(resource: "Resource", conflicts: Sequence[tuple[str, str]]) -> Refused:
    """Fields of an apply that others own: pairs of who that is and which field."""
    owners: dict[str, list[str]] = {}
    for owner, path in conflicts:
        owners.setdefault(owner, []).append(path)
    many = len(conflicts) > 1
    parts = [
        f"{'conflicts' if many else 'conflict'} with {owner}:{_list(paths) if many else f' {paths[0]}'}"
        for owner, paths in owners.items()
    ]
    causes = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {owner}", "field": path}
        for owner, path in conflicts
    ]
    head = f"Apply failed with {len(conflicts)} conflict{'s' if many else ''}: "
    return Refused(409, head + "\n".join(parts), details={"causes": causes})


def invalid(resource: "Resource", name: str, causes: Sequence[tuple[str, str, str]]) -> Refused:
    """What validation finds: triples of field, reason of the cause, and message."""
    texts = [f"{field}: {message}" for field, _, message in causes]
    told = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    kind = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
    details: Tree = {
        "name": name,
        **({"group": resource.group} if resource.group else {}),
        "kind": resource.kind,
        "causes": [{"reason": reason, "message": message, "field": field} for field, reason, message in causes],
    }
    return Refused(422, f'{kind} "{name}" is invalid: {told}', details=details)


def forbidden(resource: "Resource", name: str, why: str, *, details: Tree | None = None) -> Refused:
    quoted = f' "{name}"' if name else ""
    told = {**_details(resource, name), **(details or {})}
    return Refused(403, f"{resource.title}{quoted} is forbidden: {why}", details=told)


def _details(resource: "Resource", name: str) -> Tree:
    named: Tree = {"name": name} if name else {}
    return {**named, **({"group": resource.group} if resource.group else {}), "kind": resource.plural}


def _list(paths: Sequence[str]) -> str:
    return "".join(f"\n- {path}" for path in paths)
