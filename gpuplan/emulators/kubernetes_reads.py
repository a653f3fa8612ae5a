"""Look at objects: one, or a listing by selectors and pages; and who may do what."""

import base64
import copy
import json
from collections.abc import Callable, Sequence

from gpuplan.emulators.http import Response
from gpuplan.emulators.kubernetes_answers import Refused, forbidden, status
from gpuplan.emulators.kubernetes_fields import Tree
from gpuplan.emulators.kubernetes_selectors import field_filter, label_filter
from gpuplan.emulators.kubernetes_store import Stored, seconds_since, stamp
from gpuplan.emulators.kubernetes_tables import TABLE, table
from gpuplan.emulators.kubernetes_writes import Place

_EXPIRED = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results."
)


def get(place: Place) -> Response:
    """Raises Refused."""
    tree = place.stored.tree
    return Response(200, table(place.resource, [place.stored], place) if _wants_table(place) else tree)


def listing(place: Place) -> Response:
    """One page of a collection. Items have neither kind nor version. Raises Refused."""
    found = [each for each in visible(place) if selector(place)(each.tree)]
    begin, version = _begin(place)
    rest = [each for each in found if begin is None or (each.namespace, each.name) > begin]
    size = int(place.request.one("limit") or 0)
    most = place.site.count("most_per_page")
    size = min(size, most) if size and most else size or most
    page = rest[:size] if size else rest
    meta: Tree = {"resourceVersion": version or str(place.cluster.version)}
    if len(page) < len(rest):
        meta |= {"continue": _token(page[-1], meta["resourceVersion"], stamp(place.site.now))}
        if not place.request.one("labelSelector") and not place.request.one("fieldSelector"):
            meta["remainingItemCount"] = len(rest) - len(page)
    if _wants_table(place):
        return Response(200, {**table(place.resource, page, place), "metadata": meta})
    items = [{name: value for name, value in each.tree.items() if name not in ("kind", "apiVersion")} for each in page]
    kind = f"{place.resource.kind}List"
    body: Tree = {"kind": kind, "apiVersion": place.resource.api_version, "metadata": meta, "items": items}
    return Response(200, copy.deepcopy(body))


def visible(place: Place) -> list[Stored]:
    """What a listing has of a collection: all of it, unless the emulator was told to lag."""
    delay = place.site.world.list_delay_seconds.get(place.site.type.name, 0.0)
    found = place.cluster.all(place.resource.kind, place.namespace)
    now = place.site.now
    return [each for each in found if not delay or each.thing is None or each.thing.age(now) >= delay]


def selector(place: Place) -> Callable[[Tree], bool]:
    """What a listing or a watch is of. Raises Refused."""
    labels = label_filter(place.request.one("labelSelector"))
    fields = field_filter(place.request.one("fieldSelector"), place.resource.kind)
    return lambda tree: labels(tree) and fields(tree)


def review(place: Place) -> Response:
    """`SelfSubjectAccessReview`: whether somebody may do something."""
    body = place.body()
    asked = (body.get("spec") or {}).get("resourceAttributes") or {}
    allowed = not is_forbidden(place, str(asked.get("verb", "")), str(asked.get("resource", "")))
    told: Tree = {"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1"}
    meta = {"metadata": {"creationTimestamp": None}}
    return Response(201, {**told, **meta, "spec": body.get("spec"), "status": {"allowed": allowed}})


def is_forbidden(place: Place, verb: str, plural: str) -> bool:
    """By the knob `forbidden`: `list nodes`, `create secrets`, `* pods`."""
    rules = place.site.knob("forbidden")
    return isinstance(rules, Sequence) and any(rule in (f"{verb} {plural}", f"* {plural}") for rule in rules)


def check_rights(place: Place, verb: str) -> None:
    """Raises Refused."""
    resource = place.resource
    if is_forbidden(place, verb, resource.plural):
        scope = f'in the namespace "{place.namespace}"' if place.namespace else "at the cluster scope"
        why = f'User "emulated" cannot {verb} resource "{resource.plural}" in API group "{resource.group}" {scope}'
        raise forbidden(resource, place.name, why)


def _wants_table(place: Place) -> bool:
    return TABLE in place.request.headers.get("accept", "").partition(",")[0]


def _token(last: Stored, version: str, now: str) -> str:
    told = {"v": "meta.k8s.io/v1", "rv": int(version), "start": f"{last.namespace}/{last.name}", "at": now}
    return base64.urlsafe_b64encode(json.dumps(told).encode()).decode().rstrip("=")


def _begin(place: Place) -> tuple[tuple[str, str] | None, str]:
    """After which object a page begins, and the version the listing is of. Raises Refused."""
    version = place.request.one("resourceVersion")
    if version and not version.isdigit():
        raise Refused(500, f'strconv.ParseUint: parsing "{version}": invalid syntax')
    text = place.request.one("continue")
    if not text:
        return None, ""
    try:
        told = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        namespace, _, name = told["start"].partition("/")
    except (ValueError, KeyError, TypeError) as exc:
        raise Refused(400, "continue key is not valid: illegal base64 data") from exc
    if seconds_since(told["at"], place.site.now) > place.site.seconds("continue_seconds"):
        body = status(410, _EXPIRED)
        body["metadata"] = {"continue": text}
        refused = Refused(410, _EXPIRED)
        refused.response = Response(410, body)
        raise refused
    return (namespace, name), str(told["rv"])
