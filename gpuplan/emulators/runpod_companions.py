"""RunPod besides pods: the account's SSH keys, network volumes, templates, registry credentials."""

from collections.abc import Mapping
from decimal import Decimal

from gpuplan.core.values import JsonValue
from gpuplan.emulators.http import Json, Request, Response, Routes
from gpuplan.emulators.runpod_answers import (
    Refused,
    checked,
    flag,
    inner,
    items,
    nothing_or,
    one_of,
    own,
    page,
    part,
    text,
    texts,
    variables,
    whole,
)
from gpuplan.emulators.runpod_catalog import CENTERS
from gpuplan.emulators.site import Site
from gpuplan.emulators.world import Thing

COMPANIONS = Routes()
NODE, VOLUME, KEY, TEMPLATE, REGISTRY = "node", "volume", "ssh_key", "template", "registry"
CONTAINER = {
    "image": text("."),
    "args": text(),
    "disk": whole(1),
    "ports": texts(r"^\d+/(http|tcp)$"),
    "env": variables,
    "registry": nothing_or(text(".")),
}
"""Fields that everything which runs a container has. `entrypoint` and `cmd` of pods are newer than the contract."""
VOLUME_NAME, VOLUME_SIZE = text("."), whole(10, 4096)
KEY_LINE = r"^(ssh|ecdsa|sk)-[^\s]+ [^\s]+([ \t][^\n\r]*)?$"
GB_MONTH, MONTH_HOURS = Decimal("0.07"), 730
CUDA = r"^\d+\.\d+$"
TEMPLATE_FIELDS = {
    **CONTAINER,
    "name": text("."),
    "mounts": part({"persistent": part({"size": whole(10), "path": text(".")}, ("size", "path"))}),
    "category": one_of("NVIDIA", "AMD", "CPU"),
    "public": flag,
    "serverless": flag,
    "startSsh": flag,
    "startJupyter": flag,
    "allowedCudaVersions": texts(CUDA),
}
Ids = Mapping[str, str]


@COMPANIONS.on("GET", "/v2/account/ssh-keys")
def get_keys(site: Site, request: Request, ids: Ids) -> Response:
    return Response(200, {"keys": [key.name for key in site.listed(KEY, request.account)]})


@COMPANIONS.on("PUT", "/v2/account/ssh-keys")
def put_keys(site: Site, request: Request, ids: Ids) -> Response:
    """The whole list: what is not in it is removed."""
    wanted = [str(line) for line in items(checked(request, {"keys": texts(KEY_LINE)}, ("keys",)), "keys")]
    missing = list(wanted)
    for key in site.things(KEY, request.account):
        if key.name in missing:
            missing.remove(key.name)
        else:
            site.remove(key)
    for line in missing:
        site.add(KEY, site.uuid(), request.account, {"line": line}, name=line)
    return Response(200, {"keys": list[JsonValue](wanted)})


@COMPANIONS.on("POST", "/v2/network-volumes")
def create_volume(site: Site, request: Request, ids: Ids) -> Response:
    fields = {
        "name": VOLUME_NAME,
        "size": VOLUME_SIZE,
        "dataCenter": text("."),
        "type": one_of("STANDARD", "HIGH_PERFORMANCE"),
    }
    body = checked(request, fields, ("name", "size", "dataCenter"))
    tiers = CENTERS.get(str(body["dataCenter"]), ("", "", (), False))[2]
    tier = str(body.get("type") or next(iter(tiers), ""))
    if tier not in tiers:
        raise Refused(400, f"data center {body['dataCenter']} does not support network volumes of this type")
    shown: Json = {"name": body["name"], "size": body["size"], "dataCenter": body["dataCenter"], "type": tier}
    volume = site.add(
        VOLUME,
        site.digits(10, "0123456789abcdefghijklmnopqrstuvwxyz"),
        request.account,
        shown,
        name=str(body["name"]),
        price=_hourly(body),
    )
    return Response(201, _show(volume))


@COMPANIONS.on("PATCH", "/v2/network-volumes/{id}")
def update_volume(site: Site, request: Request, ids: Ids) -> Response:
    volume = own(site, VOLUME, ids["id"], request.account)
    body = checked(request, {"name": VOLUME_NAME, "size": VOLUME_SIZE})
    if not body:
        raise Refused(422, "Request validation failed.", ["$: must have at least 1 property"])
    if int(str(body.get("size", volume.body["size"]))) < int(str(volume.body["size"])):
        raise Refused(400, "network volume size cannot be decreased")
    volume.body |= body
    site.rename(volume, str(volume.body["name"]))
    volume.prices.append((site.now, _hourly(volume.body)))
    return Response(200, _show(volume))


@COMPANIONS.on("DELETE", "/v2/network-volumes/{id}")
def delete_volume(site: Site, request: Request, ids: Ids) -> Response:
    volume = own(site, VOLUME, ids["id"], request.account)
    if any(volume.id == mounted_volume(pod.body) for pod in site.things(NODE, request.account)):
        raise Refused(400, "network volume is in use by a pod")
    site.remove(volume)
    return Response(204)


@COMPANIONS.on("POST", "/v2/templates")
def create_template(site: Site, request: Request, ids: Ids) -> Response:
    body = checked(request, TEMPLATE_FIELDS, ("name", "image"))
    defaults: Json = {
        "args": "",
        "disk": 50,
        "mounts": {},
        "ports": [],
        "env": {},
        "registry": None,
        "serverless": False,
        "public": False,
        "category": "NVIDIA",
        "startSsh": True,
        "startJupyter": True,
        "allowedCudaVersions": [],
    }
    id = site.digits(10, "0123456789abcdefghijklmnopqrstuvwxyz")
    return Response(201, _show(site.add(TEMPLATE, id, request.account, {**defaults, **body}, name=str(body["name"]))))


@COMPANIONS.on("PATCH", "/v2/templates/{id}")
def update_template(site: Site, request: Request, ids: Ids) -> Response:
    template = own(site, TEMPLATE, ids["id"], request.account)
    template.body |= checked(request, TEMPLATE_FIELDS)
    site.rename(template, str(template.body["name"]))
    return Response(200, _show(template))


@COMPANIONS.on("DELETE", "/v2/templates/{id}")
def delete_template(site: Site, request: Request, ids: Ids) -> Response:
    site.remove(own(site, TEMPLATE, ids["id"], request.account))
    return Response(204)


@COMPANIONS.on("POST", "/v2/registries")
def create_registry(site: Site, request: Request, ids: Ids) -> Response:
    names = ("name", "username", "password")
    body = checked(request, dict.fromkeys(names, text(".")), names)
    id = site.digits(25, "0123456789abcdefghijklmnopqrstuvwxyz")
    return Response(201, _show(site.add(REGISTRY, id, request.account, {"name": body["name"]}, name=str(body["name"]))))


@COMPANIONS.on("DELETE", "/v2/registries/{id}")
def delete_registry(site: Site, request: Request, ids: Ids) -> Response:
    registry = site.thing(REGISTRY, ids["id"], request.account)
    if registry is None:
        raise Refused(400, "Registry auth not found")
    if any(pod.body["registry"] == registry.id for pod in site.things(NODE, request.account)):
        raise Refused(400, "Registry auth is in use")
    for template in site.things(TEMPLATE, request.account):
        if template.body["registry"] == registry.id:
            template.body["registry"] = None
    site.remove(registry)
    return Response(204)


@COMPANIONS.on("GET", "/v2/catalog/templates")
def public_templates(site: Site, request: Request, ids: Ids) -> Response:
    return Response(200, {"templates": []})


def mounted_volume(pod: Json) -> str:
    """The id of the network volume a pod mounts."""
    networks = items(inner(pod, "mounts"), "network")
    return str(inner({"mount": networks[0]}, "mount").get("volumeId", "")) if networks else ""


def account_keys(site: Site, account: str) -> list[str]:
    return [key.name for key in site.things(KEY, account)]


def _offer_reads(path: str, kind: str, many: str) -> None:
    """List and get, which are alike for all."""

    @COMPANIONS.on("GET", path)
    def list_all(site: Site, request: Request, ids: Ids) -> Response:
        return page(site, request, many, site.listed(kind, request.account), _show)

    @COMPANIONS.on("GET", f"{path}/{{id}}")
    def get(site: Site, request: Request, ids: Ids) -> Response:
        return Response(200, _show(own(site, kind, ids["id"], request.account)))


_offer_reads("/v2/network-volumes", VOLUME, "networkVolumes")
_offer_reads("/v2/templates", TEMPLATE, "templates")
_offer_reads("/v2/registries", REGISTRY, "registries")


def _show(thing: Thing) -> Json:
    return {"id": thing.id, **thing.body}


def _hourly(volume: Json) -> Decimal:
    """USD per hour; what is beyond a terabyte is cheaper on the real one."""
    return GB_MONTH * int(str(volume["size"])) / MONTH_HOURS
