"""Fly.io around a running machine: waiting for it, what happened to it, its metadata, leases, commands."""

from collections.abc import Mapping

from gpuplan.core.values import JsonValue
from gpuplan.emulators.fly_answers import Refused, inner, number, text, ulid
from gpuplan.emulators.fly_machines import (
    events,
    held,
    is_running,
    lease_of,
    machine_in,
    seconds_until,
    take_lease,
)
from gpuplan.emulators.http import Request, Response, Routes
from gpuplan.emulators.site import Site
from gpuplan.emulators.world import Thing

CONTROLS = Routes()
Ids = Mapping[str, str]


@CONTROLS.on("POST", "/v1/apps/{app}/machines/{id}/exec")
def execute(site: Site, request: Request, ids: Ids) -> Response:
    """Nothing is run."""
    if not is_running(site, machine_in(site, request, ids)):
        raise Refused(412, "failed_precondition: machine not running")
    return Response(200, {"exit_code": 0, "stdout": "", "stderr": ""})


@CONTROLS.on("GET", "/v1/apps/{app}/machines/{id}/wait")
def wait(site: Site, request: Request, ids: Ids) -> Response:
    """Answers when it is so far, or when the time is over. The answer is no machine."""
    machine = machine_in(site, request, ids, is_living=False)
    seconds = request.one("timeout") or "60"
    if not seconds.isdigit() or not 1 <= int(seconds) <= 60:
        raise Refused(400, "invalid_argument: invalid timeout: value must be inside range [1s, 1m0s]")
    states = [word for value in request.query.get("state", ("started",)) for word in value.split(",")]
    waits = [(left, word) for word in states if (left := seconds_until(site, machine, word)) is not None]
    left, word = min(waits, default=(float("inf"), ""))
    if left > int(seconds):
        return Response(408, {"error": "deadline_exceeded: machine is not there yet"}, delay_seconds=int(seconds))
    version = str(machine.body["instance_id"])
    return Response(200, {"ok": True, "state": word, "version": version, "event_id": ulid(site)}, delay_seconds=left)


@CONTROLS.on("GET", "/v1/apps/{app}/machines/{id}/events")
def list_events(site: Site, request: Request, ids: Ids) -> Response:
    limit = request.one("limit")
    found = events(site, machine_in(site, request, ids, is_living=False))
    return Response(200, found[: int(limit)] if limit.isdigit() else found)


@CONTROLS.on("GET", "/v1/apps/{app}/machines/{id}/versions")
def list_versions(site: Site, request: Request, ids: Ids) -> Response:
    return Response(200, machine_in(site, request, ids).hidden["versions"])


@CONTROLS.on("GET", "/v1/apps/{app}/machines/{id}/ps")
def list_processes(site: Site, request: Request, ids: Ids) -> Response:
    machine_in(site, request, ids)
    return Response(200, [])


@CONTROLS.on("GET", "/v1/apps/{app}/machines/{id}/metadata")
def get_metadata(site: Site, request: Request, ids: Ids) -> Response:
    return Response(200, inner(machine_in(site, request, ids).body["config"], "metadata"))


@CONTROLS.on("PUT", "/v1/apps/{app}/machines/{id}/metadata")
@CONTROLS.on("PATCH", "/v1/apps/{app}/machines/{id}/metadata")
def set_metadata(site: Site, request: Request, ids: Ids) -> Response:
    """Several keys at once; null and the empty text remove one. Nothing is restarted."""
    machine, body = held(site, request, ids), request.json()
    if body.get("machine_version") not in (None, machine.body["instance_id"]):
        raise Refused(412, "failed_precondition: machine version is another one")
    for name, value in inner(body, "metadata").items():
        _set_metadata(machine, name, value)
    return Response(204)


@CONTROLS.on("POST", "/v1/apps/{app}/machines/{id}/metadata/{key}")
def set_one(site: Site, request: Request, ids: Ids) -> Response:
    _set_metadata(held(site, request, ids), ids["key"], request.json().get("value"))
    return Response(204)


@CONTROLS.on("DELETE", "/v1/apps/{app}/machines/{id}/metadata/{key}")
def remove_one(site: Site, request: Request, ids: Ids) -> Response:
    _set_metadata(held(site, request, ids), ids["key"], None)
    return Response(204)


@CONTROLS.on("GET", "/v1/apps/{app}/machines/{id}/lease")
def get_lease(site: Site, request: Request, ids: Ids) -> Response:
    lease = lease_of(site, machine_in(site, request, ids))
    if not lease:
        raise Refused(404, "lease not found")
    return Response(200, {"status": "success", "data": {n: v for n, v in lease.items() if n != "nonce"}})


@CONTROLS.on("POST", "/v1/apps/{app}/machines/{id}/lease")
def acquire_lease(site: Site, request: Request, ids: Ids) -> Response:
    machine, body = held(site, request, ids), request.json()
    asked = request.one("ttl")
    seconds = int(asked) if asked.isdigit() else number(body, "ttl", 60)
    return Response(201, {"status": "success", "data": take_lease(site, machine, seconds, text(body, "description"))})


@CONTROLS.on("DELETE", "/v1/apps/{app}/machines/{id}/lease")
def release_lease(site: Site, request: Request, ids: Ids) -> Response:
    held(site, request, ids).hidden.pop("lease", None)
    return Response(200, {"status": "success", "data": {"ok": True}})


@CONTROLS.on("POST", "/v1/apps/{app}/machines/{id}/cordon")
@CONTROLS.on("POST", "/v1/apps/{app}/machines/{id}/uncordon")
def cordon(site: Site, request: Request, ids: Ids) -> Response:
    held(site, request, ids)
    return Response(200, {"ok": True})


def _set_metadata(machine: Thing, name: str, value: JsonValue) -> None:
    config = inner(machine.body, "config")
    metadata = inner(config, "metadata")
    metadata.pop(name, None)
    if isinstance(value, str) and value:
        metadata[name] = value
    machine.body["config"] = {**config, "metadata": metadata}
