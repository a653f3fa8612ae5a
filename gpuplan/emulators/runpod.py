"""RunPod REST v2: pods. https://docs.runpod.io/api-reference-v2

What a pod is at a time is in `runpod_life`, companion resources are in `runpod_companions`, the catalogue in
`runpod_catalog`. A stream of logs ends after what is
there; the real one stays open.
"""

import json
from collections.abc import Mapping
from decimal import Decimal

from gpuplan.core.capabilities import RateLimit
from gpuplan.core.values import JsonValue
from gpuplan.emulators.http import Json, Request, Response, Routes
from gpuplan.emulators.runpod_answers import (
    Refused,
    checked,
    error,
    flag,
    inner,
    items,
    one_of,
    own,
    page,
    part,
    parts,
    rate_headers,
    text,
    texts,
    whole,
)
from gpuplan.emulators.runpod_catalog import CATALOG, FLAVORS, GPUS, price
from gpuplan.emulators.runpod_companions import (
    COMPANIONS,
    CONTAINER,
    CUDA,
    NODE,
    TEMPLATE,
    VOLUME,
    account_keys,
    mounted_volume,
)
from gpuplan.emulators.runpod_life import (
    ALLOWED,
    begin,
    break_down,
    exit_,
    is_up,
    log_of,
    show,
    start,
    status,
    terminate,
)
from gpuplan.emulators.site import EmulatorType, Site

PODS = Routes()
Ids = Mapping[str, str]
KNOBS: Mapping[str, JsonValue] = {
    "page_size": 100,
    "provision_seconds": 10,
    "start_seconds": 50,
    "restart_seconds": 15,
    "ssh_seconds": 5,
    "has_funds": True,
    "missing_image": "",
    "forbidden_gpu": "",
    "loses_gpus": False,
}
"""`missing_image` cannot be pulled: its pods start for ever. `ssh_seconds` pass between running and the SSH port.
With `loses_gpus` a stopped pod comes back without its GPUs."""
RESETTING = frozenset({"image", "args", "env", "ports", "disk", "entrypoint", "cmd"})
PERSISTENT = part({"size": whole(10), "path": text(".")}, ("size", "path"))
NETWORK = parts({"volumeId": text("."), "path": text(".")}, ("volumeId", "path"), 1)
EXEC = {"entrypoint": texts(), "cmd": texts()}
POD_FIELDS = {
    **CONTAINER,
    **EXEC,
    "name": text("."),
    "mounts": part({"persistent": PERSISTENT, "network": NETWORK}),
    "templateId": text("."),
    "globalNetworking": flag,
}
CREATE_FIELDS = {
    **POD_FIELDS,
    "cloud": one_of("SECURE", "COMMUNITY"),
    "dataCenterIds": texts(),
    "startSsh": flag,
    "startJupyter": flag,
    "gpu": part(
        {
            "id": text(),
            "count": whole(1),
            "minCudaVersion": text(CUDA),
            "allowedCudaVersions": texts(CUDA),
            "minRamPerGpu": whole(1),
            "minVcpuCountPerGpu": whole(1),
        },
        ("id",),
    ),
    "cpu": part({"id": text("."), "vcpuCount": whole(2)}, ("id", "vcpuCount")),
}
NO_INSTANCES = "There are no longer any instances available with the requested specifications."


@PODS.on("POST", "/v2/pods")
def create(site: Site, request: Request, ids: Ids) -> Response:
    body = checked(request, CREATE_FIELDS, ("name",))
    body = _with_template(site, request.account, body)
    if "image" not in body:
        raise Refused(422, "Request validation failed.", ["$: missing property image"])
    if ("gpu" in body) == ("cpu" in body):
        raise Refused(400, "exactly one of gpu or cpu must be set")
    mounts = inner(body, "mounts")
    if len(mounts) > 1:
        raise Refused(400, "mounts.persistent and mounts.network are mutually exclusive")
    if site.knob("has_funds") is False:
        raise Refused(402, "Insufficient balance to create this pod")
    units, shelf, region, hourly = _gpu_place(site, request, body) if "gpu" in body else _cpu_place(site, request, body)
    shown: Json = {
        "name": body["name"],
        "image": body["image"],
        "args": body.get("args", ""),
        "disk": body.get("disk", 20),
        "ports": body.get("ports", []),
        "env": _variables(site, request.account, body),
        "registry": body.get("registry"),
        "mounts": mounts,
        **units,
        "cloud": body.get("cloud", "SECURE"),
        "dataCenterId": region,
        "cudaVersion": "12.8" if "gpu" in body else None,
        "template": None,
        "locked": False,
    }
    hidden: Json = {
        "shelf": shelf,
        "hourly": str(hourly),
        "address": site.world.fresh_address(),
        "is_global": body.get("globalNetworking", False),
    }
    id = site.digits(14, "0123456789abcdefghijklmnopqrstuvwxyz")
    pod = site.add(NODE, id, request.account, shown, name=str(body["name"]), hidden=hidden)
    begin(site, pod, site.seconds("provision_seconds") + site.seconds("start_seconds"))
    return Response(201, show(site, pod))


@PODS.on("GET", "/v2/pods")
def list_all(site: Site, request: Request, ids: Ids) -> Response:
    return page(site, request, "pods", site.listed(NODE, request.account), lambda pod: show(site, pod))


@PODS.on("GET", "/v2/pods/{id}")
def get(site: Site, request: Request, ids: Ids) -> Response:
    return Response(200, show(site, own(site, NODE, ids["id"], request.account)))


@PODS.on("PATCH", "/v2/pods/{id}")
def update(site: Site, request: Request, ids: Ids) -> Response:
    pod = own(site, NODE, ids["id"], request.account)
    body = checked(request, {**POD_FIELDS, "locked": flag})
    if "mounts" in body:
        pod.body["mounts"] = _changed_mounts(inner(pod.body, "mounts"), inner(body, "mounts"))
    pod.hidden["is_global"] = body.pop("globalNetworking", pod.hidden["is_global"])
    plain = {name: value for name, value in body.items() if name not in ("mounts", "templateId", *EXEC)}
    changed = {name for name, value in plain.items() if pod.body[name] != value}
    pod.body |= plain
    site.rename(pod, str(pod.body["name"]))
    if changed & RESETTING and status(site, pod) == "RUNNING":
        begin(site, pod, site.seconds("restart_seconds"))
    return Response(200, show(site, pod))


@PODS.on("DELETE", "/v2/pods/{id}")
def delete(site: Site, request: Request, ids: Ids) -> Response:
    terminate(site, own(site, NODE, ids["id"], request.account))
    return Response(204)


@PODS.on("POST", "/v2/pods/{id}/action")
def act(site: Site, request: Request, ids: Ids) -> Response:
    pod = own(site, NODE, ids["id"], request.account)
    action = checked(request, {"action": one_of("start", "stop", "restart", "terminate")}, ("action",))["action"]
    now = status(site, pod)
    if action not in ALLOWED.get(now, ()):
        raise Refused(409, f"action {action} is not valid for a pod that is {now}")
    if action in ("stop", "restart") and pod.body["locked"]:
        raise Refused(409, "pod is locked")
    match action:
        case "terminate":
            terminate(site, pod)
            return Response(204)
        case "stop":
            exit_(site, pod)
        case "start":
            start(site, pod)
        case "restart":
            begin(site, pod, site.seconds("restart_seconds"))
    return Response(200, show(site, pod))


@PODS.on("GET", "/v2/pods/{id}/logs")
def logs(site: Site, request: Request, ids: Ids) -> Response:
    pod = own(site, NODE, ids["id"], request.account)
    source, since = request.one("source"), request.headers.get("last-event-id") or request.one("since")
    tail = request.one("tail") or "100"
    if source not in ("", "container", "system") or not tail.isdigit() or int(tail) > 5000:
        raise Refused(422, "Request validation failed.", ["source, tail: not one of the permitted values"])
    lines = [line for line in log_of(site, pod) if source in ("", line["source"]) and str(line["ts"]) > since]
    kept = lines if since else lines[-int(tail) :] if int(tail) else []
    events = "".join(f"id: {line['ts']}\ndata: {json.dumps(line)}\n\n" for line in kept)
    headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return Response(200, events.encode(), headers)


def _gpu_place(site: Site, request: Request, body: Json) -> tuple[Json, str, str, Decimal]:
    """What is shown of the GPUs, their stock, where they are, and what they cost."""
    asked, cloud = inner(body, "gpu"), str(body.get("cloud", "SECURE"))
    type = GPUS.get(str(asked["id"]))
    if type is None:
        raise Refused(400, f"GPU type {asked['id']} not found")
    if asked["id"] == site.knob("forbidden_gpu"):
        raise Refused(403, "your account cannot use this GPU pool")
    if asked.get("minCudaVersion") and asked.get("allowedCudaVersions"):
        raise Refused(400, "minCudaVersion and allowedCudaVersions are mutually exclusive")
    if "disk" not in body:
        raise Refused(400, "must either provide a template id or pod configuration parameters")
    count = int(str(asked.get("count", 0)))
    newest = max((_version(version) for version in type.cuda), default=(0, 0))
    is_too_new = _version(str(asked.get("minCudaVersion", "0.0"))) > newest
    strange = set(map(str, items(asked, "allowedCudaVersions"))) - set(type.cuda)
    # Without a count the scheduler has been seen to match nothing.
    if not 0 < count <= type.most_in(cloud) or is_too_new or strange:
        raise Refused(400, NO_INSTANCES)
    region = _region(site, request, body, type.regions, type.gpu)
    return {"gpu": {"id": type.id, "count": count}}, type.gpu, region, price(site, type, cloud, region) * count


def _cpu_place(site: Site, request: Request, body: Json) -> tuple[Json, str, str, Decimal]:
    asked = inner(body, "cpu")
    flavor, count = FLAVORS.get(str(asked["id"])), int(str(asked["vcpuCount"]))
    if flavor is None:
        raise Refused(400, f"CPU flavor {asked['id']} not found")
    if count & (count - 1) or count > flavor.most:
        raise Refused(400, f"vcpuCount must be a power of two of at most {flavor.most}")
    if "persistent" in inner(body, "mounts") or body.get("cloud") == "COMMUNITY":
        raise Refused(400, "mounts.persistent and the community cloud are not allowed for CPU pods")
    region = _region(site, request, body, flavor.regions, flavor.id)
    units: Json = {"cpu": {"id": flavor.id, "vcpuCount": count, "memory": count * flavor.ram_per_vcpu}}
    return units, flavor.id, region, Decimal(flavor.price) * count


def _region(site: Site, request: Request, body: Json, sold: tuple[str, ...], shelf: str) -> str:
    """A data centre that has one left, among the preferred ones and where the volume is."""
    preferred = [str(id) for id in items(body, "dataCenterIds")]
    regions = [region for region in sold if not preferred or region in preferred]
    if volume := mounted_volume(body):
        home = site.thing(VOLUME, volume, request.account)
        if home is None:
            raise Refused(400, f"network volume {volume} not found")
        is_secure = body.get("cloud", "SECURE") == "SECURE"
        regions = [region for region in regions if is_secure and region == home.body["dataCenter"]]
    for region in regions:
        if site.take(shelf, region):
            return region
    raise Refused(400, NO_INSTANCES)


def _with_template(site: Site, account: str, body: Json) -> Json:
    """The settings of the template it names, under its own."""
    if "templateId" not in body:
        return body
    template = own(site, TEMPLATE, str(body["templateId"]), account)
    if template.body["serverless"]:
        raise Refused(422, "Request validation failed.", ["$.templateId: is a serverless template"])
    taken = {name: template.body[name] for name in (*CONTAINER, "mounts", "startSsh", "startJupyter")}
    return {**taken, **body, "env": {**inner(taken, "env"), **inner(body, "env")}}


def _variables(site: Site, account: str, body: Json) -> Json:
    """The variables of the pod, those RunPod adds among them."""
    added: Json = {}
    if body.get("startSsh") and (keys := account_keys(site, account)):
        added["PUBLIC_KEY"] = "\n".join(keys)
    if body.get("startJupyter"):
        added["JUPYTER_PASSWORD"] = site.digits(20)
    return {**added, **inner(body, "env")}


def _changed_mounts(before: Json, after: Json) -> Json:
    if after.keys() - before.keys():
        raise Refused(400, "the kind of a mount cannot be changed")
    if "network" in after and mounted_volume({"mounts": after}) != mounted_volume({"mounts": before}):
        raise Refused(400, "the volume of a mount cannot be changed or cleared")
    sizes = [int(str(inner(mounts, "persistent").get("size", 0))) for mounts in (before, after)]
    if "persistent" in after and sizes[1] < sizes[0]:
        raise Refused(400, "mounts.persistent.size cannot be decreased")
    return {**before, **after}


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor or 0)


EMULATOR = EmulatorType(
    name="runpod",
    title="RunPod REST v2",
    routes=PODS.merged(COMPANIONS, CATALOG),
    error=error,
    key=lambda request: request.bearer,
    knobs=KNOBS,
    rate_limit=RateLimit(requests=60, per_seconds=60.0),
    status=lambda site, thing: status(site, thing) if thing.kind == NODE else "active",
    is_up=is_up,
    stop=exit_,
    break_down=break_down,
    preempt=exit_,
    headers=rate_headers,
)
