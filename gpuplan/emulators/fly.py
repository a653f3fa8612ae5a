"""Fly.io Machines API: machines. https://fly.io/docs/machines/api/machines-resource/

What a machine is at a time is in `fly_machines`; apps, tokens and secrets are in `fly_apps`, volumes in `fly_volumes`,
regions and sizes in `fly_catalog`, leases and metadata in `fly_controls`, the other API that clients ask in
`fly_platform`.
"""

import hashlib
from collections.abc import Mapping

from gpuplan.core.encoding import encode_time
from gpuplan.core.values import JsonValue
from gpuplan.emulators.fly_answers import (
    NODE,
    VOLUME,
    Refused,
    app_of,
    error,
    gone_from,
    inner,
    inside,
    is_true,
    items,
    keep_pace,
    key_of,
    number,
    request_headers,
    seconds_gone,
    text,
    ulid,
)
from gpuplan.emulators.fly_apps import APPS, org_page
from gpuplan.emulators.fly_catalog import CATALOG, Size, region_list, size_of
from gpuplan.emulators.fly_controls import CONTROLS
from gpuplan.emulators.fly_machines import (
    UP,
    break_down,
    check_lease,
    halt,
    held,
    is_running,
    let_in,
    machine_in,
    show,
    state,
    take_lease,
    turn,
)
from gpuplan.emulators.fly_platform import PLATFORM
from gpuplan.emulators.fly_volumes import VOLUMES, user_of, volume_of
from gpuplan.emulators.fly_volumes import status as volume_status
from gpuplan.emulators.http import Json, Request, Response, Routes
from gpuplan.emulators.site import EmulatorType, Site
from gpuplan.emulators.world import Thing

MACHINES = Routes()
Ids = Mapping[str, str]
KNOBS: Mapping[str, JsonValue] = {
    "create_seconds": 2,
    "start_seconds": 3,
    "update_seconds": 3,
    "stop_seconds": 2,
    "suspend_seconds": 1,
    "destroy_seconds": 2,
    "forget_seconds": 600,
    "app_lag_seconds": 0,
    "app_lag_status": 404,
    "organizations": "personal",
    "tokens_name_users": True,
    "nearest": "ord",
    "machine_limit": 10000,
    "most_per_region": 50,
    "no_room": "insufficient_capacity",
    "full_hosts": False,
    "pins_images": False,
    "has_gpus": False,
}
"""A destroyed machine is shown for `forget_seconds`. An app is not known everywhere for the first `app_lag_seconds`.
`no_room` is the form in which a lack of capacity is told. With `full_hosts` no machine with a volume can grow. GPUs are
gone, but for `has_gpus`."""
NO_ROOM: Mapping[str, tuple[int, str, str]] = {
    "insufficient_capacity": (422, "could not find a candidate host", "insufficient_capacity"),
    "unavailable": (503, "could not find a candidate host", "insufficient_capacity"),
    "memory": (
        409,
        "aborted: could not reserve resource for machine: insufficient memory available to fulfill request",
        "",
    ),
    "cpus": (409, "aborted: could not reserve resource for machine: insufficient CPUs available on the host", ""),
    "addresses": (409, "aborted: insufficient IPs available to fulfill request", ""),
    "plain": (409, "aborted: no capacity", ""),
}


@MACHINES.on("GET", "/v1/apps/{app}/machines")
def list_all(site: Site, request: Request, ids: Ids) -> Response:
    """All at once: there are no pages."""
    app, wanted = app_of(site, request, ids), request.one("state")
    listed = {thing.id for thing in site.listed(NODE, app.account)}
    machines = [machine for machine in inside(site, NODE, app) if machine.id in listed]
    leaving = site.seconds("forget_seconds" if is_true(request, "include_deleted") else "destroy_seconds")
    machines += [machine for machine in gone_from(site, NODE, app) if seconds_gone(site, machine) < leaving]
    shown = [show(site, machine) for machine in machines]
    if wanted:
        shown = [machine for machine in shown if machine["state"] in wanted.split(",")]
    if region := request.one("region"):
        shown = [machine for machine in shown if machine["region"] == region]
    for name, values in request.query.items():
        if name.startswith("metadata."):
            key = name.removeprefix("metadata.")
            shown = [each for each in shown if inner(inner(each, "config"), "metadata").get(key) in values]
    return Response(200, list[JsonValue](shown))


@MACHINES.on("POST", "/v1/apps/{app}/machines")
def create(site: Site, request: Request, ids: Ids) -> Response:
    app, body = app_of(site, request, ids), request.json()
    asked = _checked(inner(body, "config"))
    name = text(body, "name") or f"quiet-river-{site.digits(4)}"
    _check_name(site, app, name)
    if len(site.things(NODE, app.account)) >= site.count("machine_limit"):
        raise Refused(403, "your organization is over the allowed quota of machines")
    size = _size(site, asked)
    volume = _volume(site, app, asked)
    region = _region(site, text(body, "region"), size, volume)
    config = _filled(site, asked, size)
    shown: Json = {
        "region": region,
        "instance_id": ulid(site),
        "private_ip": f"fdaa:0:3335:a7b:{site.digits(4)}:{site.digits(4)}:{site.digits(4)}:2",
        "created_at": encode_time(site.now),
        "updated_at": encode_time(site.now),
        "image_ref": _image(str(asked["image"])),
        "config": config,
        "host_status": "ok",
    }
    is_idle = body.get("skip_launch") is True
    hidden: Json = {"app": app.id, "shelf": size.shelf, "hourly": str(size.price), "phase": "idle", "versions": []}
    machine = site.add(NODE, site.digits(14), app.account, shown, name=name, hidden={**hidden, "events": []})
    turn(site, machine, "idle" if is_idle else "launch")
    _remember_version(machine)
    if volume is not None:
        volume.hidden["machine"] = machine.id
    let_in(machine)
    answer = show(site, machine)
    if lease_seconds := number(body, "lease_ttl", 0):
        answer["nonce"] = take_lease(site, machine, lease_seconds, "")["nonce"]
    return Response(200, answer)


@MACHINES.on("GET", "/v1/apps/{app}/machines/{id}")
def get(site: Site, request: Request, ids: Ids) -> Response:
    return Response(200, show(site, machine_in(site, request, ids, is_living=False)))


@MACHINES.on("POST", "/v1/apps/{app}/machines/{id}")
def update(site: Site, request: Request, ids: Ids) -> Response:
    """The whole configuration anew; name and region stay what they are."""
    machine, body = held(site, request, ids), request.json()
    if body.get("current_version") not in (None, "", machine.body["instance_id"]):
        raise Refused(409, "aborted: machine update failed due to concurrent update")
    asked = _checked(inner(body, "config"))
    size, before = _size(site, asked), inner(machine.body, "config")
    if _volumes(asked) and _volumes(asked) != _volumes(before):
        raise Refused(400, "invalid_argument: the attached volume cannot be changed by an update")
    grows = size.guest != inner(before, "guest")
    if grows and _volumes(before) and site.knob("full_hosts") is True:
        said = "insufficient memory available on the current host to fulfill request"
        raise Refused(409, f"aborted: could not reserve resource for machine: {said}")
    machine.body |= {
        "config": _filled(site, asked, size),
        "image_ref": _image(str(asked["image"])),
        "instance_id": ulid(site),
    }
    machine.hidden["hourly"] = str(size.price)
    if not _volumes(asked):
        _detach(site, machine, before)
    _remember_version(machine)
    let_in(machine)
    if body.get("skip_launch") is not True:
        turn(site, machine, "update" if machine.hidden["phase"] in UP else "start")
    return Response(200, show(site, machine))


@MACHINES.on("DELETE", "/v1/apps/{app}/machines/{id}")
def destroy(site: Site, request: Request, ids: Ids) -> Response:
    """Older clients call the parameter `kill`."""
    machine = machine_in(site, request, ids, is_living=False)
    if machine.deleted_at is not None:
        raise Refused(400, f"unknown: machine {machine.id} is {state(site, machine)}")
    check_lease(site, machine, request)
    if is_running(site, machine) and not is_true(request, "force", "kill"):
        raise Refused(412, "failed_precondition: unable to destroy machine, not currently stopped")
    site.put_back(str(machine.hidden["shelf"]), str(machine.body["region"]))
    site.remove(machine)
    return Response(200, {"ok": True})


@MACHINES.on("POST", "/v1/apps/{app}/machines/{id}/start")
def start(site: Site, request: Request, ids: Ids) -> Response:
    machine = held(site, request, ids)
    now = state(site, machine)
    if now not in ("created", "stopped", "suspended"):
        raise Refused(412, f"failed_precondition: unable to start machine from current state: '{now}'")
    turn(site, machine, "start")
    return Response(200, {"previous_state": now, "migrated": False, "new_host": ""})


@MACHINES.on("POST", "/v1/apps/{app}/machines/{id}/stop")
def stop(site: Site, request: Request, ids: Ids) -> Response:
    machine = held(site, request, ids)
    text(request.json(), "signal")
    if machine.hidden["phase"] in UP:
        halt(site, machine)
    return Response(200, {"ok": True})


@MACHINES.on("POST", "/v1/apps/{app}/machines/{id}/suspend")
def suspend(site: Site, request: Request, ids: Ids) -> Response:
    machine = held(site, request, ids)
    if number(inner(machine.body["config"], "guest"), "memory_mb", 256) > 2048 or not is_running(site, machine):
        raise Refused(412, "failed_precondition: only a running machine of at most 2 GB can be suspended")
    turn(site, machine, "suspend")
    return Response(200, {"ok": True})


@MACHINES.on("POST", "/v1/apps/{app}/machines/{id}/restart")
def restart(site: Site, request: Request, ids: Ids) -> Response:
    turn(site, held(site, request, ids), "restart")
    return Response(200, {"ok": True})


@MACHINES.on("POST", "/v1/apps/{app}/machines/{id}/signal")
def signal(site: Site, request: Request, ids: Ids) -> Response:
    machine = held(site, request, ids)
    if request.json().get("signal") in ("SIGKILL", 9):
        halt(site, machine)
    return Response(200, {"ok": True})


@MACHINES.on("GET", "/v1/orgs/{org}/machines")
def list_org(site: Site, request: Request, ids: Ids) -> Response:
    page, more = org_page(site, request, ids["org"], site.listed(NODE, request.account), lambda m: show(site, m))
    answer: Json = {"machines": page, "last_updated_at": encode_time(site.now), "error_regions": []}
    return Response(200, {**answer, "next_cursor": more} if more else answer)


def _checked(config: Json) -> Json:
    if not text(config, "image"):
        raise Refused(422, "invalid machine configuration: config.image is required")
    for field in ("env", "metadata"):
        if not all(isinstance(value, str) for value in inner(config, field).values()):
            raise Refused(400, f"invalid_argument: config.{field} must map strings to strings")
    return config


def _check_name(site: Site, app: Thing, name: str) -> None:
    """Names are given once, until their machine is destroyed."""
    slow = [m for m in gone_from(site, NODE, app) if seconds_gone(site, m) < site.seconds("destroy_seconds")]
    for machine in [*inside(site, NODE, app), *slow]:
        if machine.name == name:
            violation = f'machine ID {machine.id} already exists with name "{name}"'
            raise Refused(409, f"already_exists: unique machine name violation, {violation}")


def _size(site: Site, config: Json) -> Size:
    guest = inner(config, "guest")
    if guest.get("gpu_kind") and site.knob("has_gpus") is not True:
        raise Refused(422, "GPU machines are no longer supported")
    return size_of(guest)


def _volume(site: Site, app: Thing, config: Json) -> Thing | None:
    """The volume it is to mount."""
    mounts = items(config, "mounts")
    if len(mounts) > 1:
        raise Refused(422, "invalid machine configuration: at most one mount")
    if not mounts:
        return None
    volume = volume_of(site, app, text(mounts[0], "volume"))
    if user_of(site, volume) is not None:
        raise Refused(412, f"failed_precondition: volume is currently bound to machine: {volume.hidden['machine']}")
    return volume


def _volumes(config: Json) -> list[JsonValue]:
    return [mount.get("volume") for mount in items(config, "mounts")]


def _detach(site: Site, machine: Thing, config: Json) -> None:
    """What is not in a configuration any more is not mounted."""
    for volume in site.things(VOLUME, machine.account):
        if volume.id in _volumes(config):
            volume.hidden.pop("machine", None)


def _region(site: Site, asked: str, size: Size, volume: Thing | None) -> str:
    """The first region of those asked for that has room; a volume leaves no choice, nor its host much room."""
    regions = [region for region in region_list(asked, site) if region in size.regions]
    if volume is not None:
        regions = [region for region in regions if region == volume.body["region"]]
        if not regions or site.knob("full_hosts") is True:
            said = f"insufficient resources to create new machine with existing volume id '{volume.id}'"
            raise Refused(412, said, "volume_placement_capacity")
    for region in regions:
        if site.take(size.shelf, region):
            return region
    raise Refused(*NO_ROOM[str(site.knob("no_room"))])


def _filled(site: Site, asked: Json, size: Size) -> Json:
    """The configuration with what the platform adds to it."""
    image = str(asked["image"])
    if site.knob("pins_images") is True and "@" not in image:
        image = f"{image}@sha256:{hashlib.sha256(image.encode()).hexdigest()}"
    metadata = {"fly_platform_version": "v2", **inner(asked, "metadata")}
    restart = {"policy": "on-failure", "max_retries": 10, **inner(asked, "restart")}
    filled: Json = {"init": {}, **asked, "image": image, "guest": size.guest, "metadata": metadata, "restart": restart}
    return filled


def _image(name: str) -> Json:
    """Registry, repository and tag of an image, and a digest."""
    plain = name.partition("@")[0]
    first, slash, rest = plain.partition("/")
    registry = first if slash and "." in first else "docker-hub-mirror.fly.io"
    repository, _, tag = (rest if slash and "." in first else plain).partition(":")
    digest = f"sha256:{hashlib.sha256(plain.encode()).hexdigest()}"
    return {"registry": registry, "repository": repository, "tag": tag or "latest", "digest": digest}


def _remember_version(machine: Thing) -> None:
    versions = machine.hidden["versions"]
    assert isinstance(versions, list)
    versions.insert(0, {"version": machine.body["instance_id"], "user_config": machine.body["config"]})


def _status(site: Site, thing: Thing) -> str:
    if thing.kind == NODE:
        return state(site, thing)
    return volume_status(site, thing) if thing.kind == VOLUME else "active"


EMULATOR = EmulatorType(
    name="fly",
    title="Fly.io Machines API v1",
    routes=MACHINES.merged(CONTROLS, APPS, VOLUMES, CATALOG, PLATFORM),
    error=error,
    key=key_of,
    knobs=KNOBS,
    status=_status,
    is_up=is_running,
    stop=halt,
    break_down=break_down,
    gate=keep_pace,
    headers=request_headers,
)
