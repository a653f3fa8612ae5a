"""Lium besides pods: the account, its SSH keys, templates and volumes."""

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from decimal import Decimal

from gpuplan.core.values import JsonValue
from gpuplan.emulators.http import Json, Request, Response, Routes
from gpuplan.emulators.lium_answers import Misformed, Refused, moment, text
from gpuplan.emulators.lium_market import NODE
from gpuplan.emulators.site import Site
from gpuplan.emulators.world import Thing

KEY, TEMPLATE, VOLUME = "ssh_key", "template", "volume"
GB_HOUR = Decimal("0.00005")
COMPANIONS = Routes()
TEMPLATE_STATUSES = ("CREATED", "UPDATED", "VERIFY_PENDING", "VERIFY_FAILED", "VERIFY_SUCCESS")


def _public(name: str, image: str, tag: str, category: str, status: str = "VERIFY_SUCCESS") -> Json:
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"https://lium.io/templates/{name}")),
        "name": name,
        "docker_image": image,
        "docker_image_tag": tag,
        "docker_image_digest": "",
        "category": category,
        "status": status,
        "internal_ports": [22, 8000],
        "environment": {},
        "startup_commands": "",
        "volumes": ["/workspace"],
        "is_private": False,
        "one_time_template": False,
        "supports_volume_encryption": True,
        "user_id": None,
    }


PUBLIC: Sequence[Json] = (
    _public("Ubuntu 24.04", "daturaai/ubuntu", "24.04-py3.12", "UBUNTU"),
    _public("Pytorch (CUDA)", "daturaai/pytorch", "2.6.0-py3.12-cuda12.6", "PYTORCH"),
    _public("Pytorch (CUDA, old)", "daturaai/pytorch", "2.2.0-py3.10-cuda12.1", "PYTORCH", "VERIFY_FAILED"),
    _public("Docker in Docker", "daturaai/dind", "1.0", "DOCKER"),
)
DEFAULT_IMAGES: Sequence[Json] = (
    {"docker_image": "daturaai/ubuntu", "docker_image_tag": "24.04-py3.12"},
    {"docker_image": "daturaai/pytorch", "docker_image_tag": "2.6.0-py3.12-cuda12.6"},
)


@COMPANIONS.on("GET", "/api/version", is_open=True)
def version(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    features: list[JsonValue] = ["run_record", *(["rent_idempotency"] if site.knob("idempotent") else [])]
    return Response(200, {"started_at": "2026-11-01T00:00:00", "uptime_seconds": 86400, "features": features})


@COMPANIONS.on("GET", "/api/users/me")
def me(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    user = user_id(request.account)
    workspace: Json = {"id": workspace_id(request.account), "name": "Personal", "role": "owner", "is_personal": True}
    email = f"{user[:8]}@example.com"
    return Response(200, {"id": user, "email": email, "balance": site.knob("balance"), "workspace": workspace})


@COMPANIONS.on("GET", "/api/ssh-keys")
def list_keys(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    return Response(200, [_show(key) for key in site.listed(KEY, request.account)])


@COMPANIONS.on("POST", "/api/ssh-keys")
def add_key(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    body = request.json()
    name, line = text(body, "name", required=True), text(body, "public_key", required=True).strip()
    if len(line.split()) < 2:
        raise Misformed("public_key", "Value error, not an SSH public key")
    key = site.add(KEY, site.uuid(), request.account, {"name": name, "public_key": line}, name=name)
    return Response(200, _show(key))


@COMPANIONS.on("DELETE", "/api/ssh-keys/{id}")
def delete_key(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    site.remove(_own(site, KEY, request, ids))
    return Response(200, {"success": True})


@COMPANIONS.on("GET", "/api/executors/default-docker-image")
def default_images(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    return Response(200, list[JsonValue](DEFAULT_IMAGES))


@COMPANIONS.on("GET", "/api/templates")
def list_templates(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    own = [_show(template) for template in site.listed(TEMPLATE, request.account)]
    return Response(200, [*PUBLIC, *own])


@COMPANIONS.on("GET", "/api/templates/{id}")
def get_template(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    return Response(200, template_of(site, request.account, ids["id"]))


@COMPANIONS.on("POST", "/api/templates")
def create_template(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    body = request.json()
    name, image = text(body, "name", required=True), text(body, "docker_image", required=True)
    tag = text(body, "docker_image_tag")
    if not tag and ":" in image.rpartition("/")[2]:
        image, _, tag = image.rpartition(":")
    shown: Json = {
        **PUBLIC[0],
        **body,
        "docker_image": image,
        "docker_image_tag": tag or "latest",
        "status": "VERIFY_FAILED" if str(site.knob("unpullable")) in image else "VERIFY_PENDING",
        "user_id": user_id(request.account),
    }
    shown.pop("id")
    return Response(200, _show(site.add(TEMPLATE, site.uuid(), request.account, shown, name=name)))


@COMPANIONS.on("GET", "/api/volumes")
def list_volumes(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    return Response(200, [_show_volume(volume) for volume in site.listed(VOLUME, request.account)])


@COMPANIONS.on("POST", "/api/volumes")
def create_volume(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    body = request.json()
    name, description = text(body, "name", required=True), text(body, "description")
    shown: Json = {"name": name, "description": description}
    # Billed by what is in it, and nothing is.
    return Response(200, _show_volume(site.add(VOLUME, site.uuid(), request.account, shown, name=name)))


@COMPANIONS.on("GET", "/api/volumes/{id}")
def get_volume(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    return Response(200, _show_volume(_own(site, VOLUME, request, ids)))


@COMPANIONS.on("PUT", "/api/volumes/{id}")
def change_volume(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    volume, body = _own(site, VOLUME, request, ids), request.json()
    volume.body |= {name: text(body, name) for name in ("name", "description") if name in body}
    return Response(200, _show_volume(volume))


@COMPANIONS.on("DELETE", "/api/volumes/{id}")
def delete_volume(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    volume = _own(site, VOLUME, request, ids)
    if any(pod.hidden.get("volume") == volume.id for pod in site.things(NODE, request.account)):
        raise Refused(409, "volume_in_use", "Volume is attached to a pod")
    site.remove(volume)
    return Response(200, {"success": True})


def template_of(site: Site, account: str, id: str) -> Json:
    """A public template, or one of the account's own. Raises Refused."""
    own = site.thing(TEMPLATE, id, account)
    found = _show(own) if own else next((template for template in PUBLIC if template["id"] == id), None)
    if found is None:
        raise Refused(404, "template_not_found", "Template not found")
    return found


def drop_templates(site: Site, account: str) -> None:
    """One-time templates go when no pod runs them any more."""
    living = [pod for pod in site.things(NODE, account) if "templates" in pod.hidden]
    used = {id for pod in (*living, *site.world.gone[site.type.name, NODE].values()) for id in ran(pod)}
    running = {ran(pod)[-1] for pod in living}
    for template in site.things(TEMPLATE, account):
        if template.body.get("one_time_template") and template.id in used - running:
            site.remove(template)


def ran(pod: Thing) -> list[JsonValue]:
    """The templates of a pod, the latest last."""
    ids = pod.hidden.get("templates")
    return ids if isinstance(ids, list) else []


def user_id(account: str) -> str:
    return str(uuid.UUID(hashlib.md5(f"user {account}".encode(), usedforsecurity=False).hexdigest(), version=4))


def workspace_id(account: str) -> str:
    return str(uuid.UUID(hashlib.md5(f"workspace {account}".encode(), usedforsecurity=False).hexdigest(), version=4))


def _own(site: Site, kind: str, request: Request, ids: Mapping[str, str]) -> Thing:
    found = site.thing(kind, ids["id"], request.account)
    if found is None:
        raise Refused(404, f"{kind}_not_found", "Not found")
    return found


def _show(thing: Thing) -> Json:
    return {"id": thing.id, **thing.body, "created_at": moment(thing.created_at)}


def _show_volume(thing: Thing) -> Json:
    empty: Json = {
        "updated_at": None,
        "current_size_bytes": 0,
        "current_file_count": 0,
        "current_size_gb": 0.0,
        "current_size_mb": 0.0,
        "last_metrics_update": None,
    }
    return {**_show(thing), **empty}
