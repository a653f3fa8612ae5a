"""Nosana's Deployments API: a deployment keeps jobs going at a market. https://learn.nosana.com

What a deployment is at a time is in `nosana_life`, markets are in `nosana_markets`; jobs by themselves, and the hosts'
own API, in `nosana_jobs`; the sidecar that others have put in front of it in `nosana_sidecar`.
"""

import re
from collections.abc import Mapping

from gpuplan.core.values import JsonValue
from gpuplan.emulators import nosana_sidecar as sidecar
from gpuplan.emulators.http import Json, Request, Response, Routes
from gpuplan.emulators.nosana_answers import (
    KEY_LENGTHS,
    NODE,
    Refused,
    WrongState,
    error,
    inner,
    moment,
    page,
    vault_of,
    words,
)
from gpuplan.emulators.nosana_jobs import JOBS, show_whole_job
from gpuplan.emulators.nosana_life import (
    LEAST_MINUTES,
    end_jobs,
    jobs_of,
    live_jobs,
    make,
    move,
    revise,
    settle,
    show,
    show_job,
    status,
)
from gpuplan.emulators.nosana_markets import MARKETS
from gpuplan.emulators.site import EmulatorType, Site
from gpuplan.emulators.world import Thing

KNOBS: Mapping[str, JsonValue] = {
    "start_seconds": 1,
    "queue_seconds": 3,
    "image_seconds": 40,
    "stop_seconds": 10,
    "crash_seconds": 60,
    "crashes": "",
    "credits": 100.0,
    "refuses_without_credits": False,
    "retired": "",
    "tells_online": True,
    "most_per_page": 0,
    **sidecar.KNOBS,
}
"""Containers with the text `crashes` in their definition end with 137 after `crash_seconds`. `retired` are the slugs of
markets that are no more. Newer servers tell whether an endpoint is `online`. Without credits a deployment starts all
the same, and then says so in its status; with `refuses_without_credits` it is not created."""
STRATEGIES = ("SIMPLE", "SIMPLE-EXTEND", "SCHEDULED", "INFINITE")
ROUTES = Routes()
Ids = Mapping[str, str]
_OP_ID = re.compile(r"[A-Za-z0-9_-]+")


@ROUTES.on("POST", "/api/deployments/create")
def create(site: Site, request: Request, ids: Ids) -> Response:
    body = request.json()
    _check(body)
    if site.knob("refuses_without_credits") and site.seconds("credits") <= 0:
        raise Refused(402, "Insufficient credits")
    return Response(200, show(site, make(site, request.account, body)))


@ROUTES.on("GET", "/api/deployments")
def list_deployments(site: Site, request: Request, ids: Ids) -> Response:
    states, strategies = words(request, "status"), words(request, "strategy")
    found = [
        deployment
        for deployment in site.listed(NODE, request.account)
        if request.one("name") in ("", deployment.name)
        and request.one("id") in ("", deployment.id)
        and request.one("search").lower() in f"{deployment.id} {deployment.name}".lower()
        and (not states or status(site, deployment) in states)
        and (not strategies or deployment.body["strategy"] in strategies)
    ]
    return page(site, request, "deployments", found, lambda each: each.id, lambda each: show(site, each))


@ROUTES.on("GET", "/api/deployments/vaults")
def list_vaults(site: Site, request: Request, ids: Ids) -> Response:
    """Those who pay with credits have none."""
    return Response(200, [])


@ROUTES.on("GET", "/api/deployments/{id}")
def get(site: Site, request: Request, ids: Ids) -> Response:
    return Response(200, show(site, find(site, request.account, ids["id"])))


@ROUTES.on("POST", "/api/deployments/{id}/start")
def start(site: Site, request: Request, ids: Ids) -> Response:
    _check_empty(request)
    deployment = find(site, request.account, ids["id"])
    _must_be(site, deployment, "DRAFT", "STOPPED", "ERROR", "INSUFFICIENT_FUNDS")
    move(site, deployment, "STARTING")
    return _changed(deployment, status="STARTING")


@ROUTES.on("POST", "/api/deployments/{id}/stop")
def stop(site: Site, request: Request, ids: Ids) -> Response:
    _check_empty(request)
    return end(site, find(site, request.account, ids["id"]))


def end(site: Site, deployment: Thing) -> Response:
    """Begin to stop it. Raises Refused."""
    _must_be(site, deployment, "RUNNING", "ERROR", "INSUFFICIENT_FUNDS")
    move(site, deployment, "STOPPING")
    return _changed(deployment, status="STOPPING")


@ROUTES.on("POST", "/api/deployments/{id}/archive")
def archive(site: Site, request: Request, ids: Ids) -> Response:
    deployment = find(site, request.account, ids["id"])
    _must_be(site, deployment, "STOPPED")
    move(site, deployment, "ARCHIVED")
    return _changed(deployment, status="ARCHIVED")


@ROUTES.on("DELETE", "/api/deployments/{id}")
def delete(site: Site, request: Request, ids: Ids) -> Response:
    deployment = find(site, request.account, ids["id"])
    _must_be(site, deployment, "STOPPED")
    site.remove(deployment)
    return Response(204)


@ROUTES.on("POST", "/api/deployments/{id}/create-revision")
def create_revision(site: Site, request: Request, ids: Ids) -> Response:
    """Jobs of the old definition end, and others are listed."""
    deployment, definition = find(site, request.account, ids["id"]), request.json()
    _must_not_be_archived(site, deployment)
    _check_definition(definition)
    revise(site, deployment, definition)
    if status(site, deployment) in ("RUNNING", "STARTING"):
        end_jobs(site, deployment, site.now, "STOPPED", "jobStopped")
        move(site, deployment, "STARTING")
    shown = show(site, deployment)
    told = {name: shown[name] for name in ("active_revision", "endpoints")}
    return _changed(deployment, **told, revisions=deployment.hidden["revisions"])


@ROUTES.on("GET", "/api/deployments/{id}/revisions")
def list_revisions(site: Site, request: Request, ids: Ids) -> Response:
    revisions = find(site, request.account, ids["id"]).hidden["revisions"]
    assert isinstance(revisions, list)
    rows = [row for row in revisions if isinstance(row, dict)]
    return page(site, request, "revisions", rows, lambda row: str(row["revision"]), lambda row: row)


@ROUTES.on("PATCH", "/api/deployments/{id}/update-active-revision")
def roll_back(site: Site, request: Request, ids: Ids) -> Response:
    deployment, wanted = find(site, request.account, ids["id"]), request.json().get("active_revision")
    revisions = deployment.hidden["revisions"]
    assert isinstance(revisions, list)
    if wanted not in [inner(row, "revision") for row in revisions]:
        raise Refused(400, "The specified revision does not exist.")
    deployment.body["active_revision"] = wanted
    shown = show(site, deployment)
    return _changed(deployment, active_revision=wanted, endpoints=shown["endpoints"])


@ROUTES.on("PATCH", "/api/deployments/{id}/update-replica-count")
def update_replicas(site: Site, request: Request, ids: Ids) -> Response:
    return _update(site, request, ids, "replicas", 0)


@ROUTES.on("PATCH", "/api/deployments/{id}/update-timeout")
def update_timeout(site: Site, request: Request, ids: Ids) -> Response:
    return _update(site, request, ids, "timeout", LEAST_MINUTES)


@ROUTES.on("PATCH", "/api/deployments/{id}/update-schedule")
def update_schedule(site: Site, request: Request, ids: Ids) -> Response:
    deployment = find(site, request.account, ids["id"])
    if deployment.body["strategy"] != "SCHEDULED":
        raise Refused(400, "Deployment is using an incorrect strategy.")
    deployment.body["schedule"] = request.json().get("schedule")
    return _changed(deployment, schedule=deployment.body["schedule"])


@ROUTES.on("PATCH", "/api/deployments/{id}/update-name")
def update_name(site: Site, request: Request, ids: Ids) -> Response:
    deployment, name = find(site, request.account, ids["id"]), str(request.json().get("name"))
    deployment.body["name"] = name
    site.rename(deployment, name)
    return _changed(deployment, name=name)


@ROUTES.on("GET", "/api/deployments/{id}/jobs")
def list_jobs(site: Site, request: Request, ids: Ids) -> Response:
    deployment, states = find(site, request.account, ids["id"]), words(request, "state")
    rows = [job for job in jobs_of(deployment) if not states or job["state"] in states]
    return page(site, request, "jobs", rows, lambda job: str(job["job"]), lambda job: show_job(site, deployment, job))


@ROUTES.on("GET", "/api/deployments/{id}/jobs/{job}")
def get_job(site: Site, request: Request, ids: Ids) -> Response:
    deployment = find(site, request.account, ids["id"])
    job = next((job for job in jobs_of(deployment) if job["job"] == ids["job"]), None)
    if job is None:
        raise Refused(404, "Job not found.")
    return Response(200, show_whole_job(deployment, job))


@ROUTES.on("GET", "/api/deployments/{id}/events")
def list_events(site: Site, request: Request, ids: Ids) -> Response:
    events, kinds = find(site, request.account, ids["id"]).hidden["events"], words(request, "type")
    assert isinstance(events, list)
    rows = [(n, row) for n, row in enumerate(events) if isinstance(row, dict) and (not kinds or row["type"] in kinds)]
    return page(site, request, "events", rows, lambda row: str(row[0]), lambda row: row[1])


@ROUTES.on("GET", "/api/deployments/{id}/tasks")
def list_tasks(site: Site, request: Request, ids: Ids) -> Response:
    deployment = find(site, request.account, ids["id"])
    at = moment(site.now)
    tasks: list[Json] = [
        {"task": "EXTEND", "deploymentId": deployment.id, "job": job["job"], "due_at": at, "created_at": at}
        for job in live_jobs(deployment)
        if deployment.body["strategy"] == "SIMPLE-EXTEND"
    ]
    return page(site, request, "tasks", tasks, lambda task: str(task["job"]), lambda task: task)


@ROUTES.on("GET", "/api/deployments/{id}/header")
def header(site: Site, request: Request, ids: Ids) -> Response:
    find(site, request.account, ids["id"])
    time = f":{round(site.now.timestamp() * 1000)}" if request.one("includeTime") == "true" else ""
    return Response(200, {"header": f"Hello Nosana Node!:{vault_of(request.account)}{time}"})


@ROUTES.on("GET", "/api/credits/balance")
def balance(site: Site, request: Request, ids: Ids) -> Response:
    credits = site.seconds("credits")
    return Response(200, {"assignedCredits": credits, "reservedCredits": 0, "settledCredits": 0})


def find(site: Site, account: str, id: str) -> Thing:
    """Raises Refused."""
    if len(id) not in KEY_LENGTHS:
        raise Refused(400, "Bad Request")
    deployment = site.thing(NODE, id, account)
    if deployment is None:
        raise Refused(404, "Deployment not found.")
    return deployment


def _check(body: Json) -> None:
    """Raises Refused. The market is not looked at."""
    replicas, minutes, strategy = body.get("replicas"), body.get("timeout"), body.get("strategy")
    is_told = all(isinstance(body.get(field), str) and body[field] for field in ("name", "market"))
    if not is_told or strategy not in STRATEGIES:
        raise Refused(400, "Invalid request body.")
    if not isinstance(replicas, int) or replicas < 1 or not isinstance(minutes, int) or minutes < 1:
        raise Refused(400, "Invalid request body.")
    if strategy == "INFINITE" and minutes < LEAST_MINUTES:
        raise Refused(400, "Timeout for infinite deployments must be at least 1 hour.")
    definition = body.get("job_definition")
    if not isinstance(definition, dict):
        raise Refused(400, "Invalid request body.")
    _check_definition(definition)


def _check_definition(definition: Json) -> None:
    """What does not fit is not said."""
    ops = definition.get("ops")
    if definition.get("version") != "0.1" or definition.get("type") != "container" or not isinstance(ops, list):
        raise Refused(400, "Bad Request")
    for op in ops:
        if not _OP_ID.fullmatch(str(inner(op, "id"))) or not isinstance(inner(op, "args"), dict):
            raise Refused(400, "Bad Request")
        env = inner(op, "args", "env") or {}
        if not isinstance(env, dict) or not all(isinstance(value, str) for value in env.values()):
            raise Refused(400, "Bad Request")


def _check_empty(request: Request) -> None:
    """Who says that he sends JSON has to send some."""
    if not request.content and "json" in request.headers.get("content-type", ""):
        raise Refused(400, "Bad Request")


def _must_be(site: Site, deployment: Thing, *states: str) -> None:
    _must_not_be_archived(site, deployment)
    if deployment.hidden["state"] not in states:
        raise WrongState


def _must_not_be_archived(site: Site, deployment: Thing) -> None:
    if deployment.hidden["state"] == "ARCHIVED":
        raise Refused(500, "Cannot modify an archived deployment.")


def _update(site: Site, request: Request, ids: Ids, field: str, least: int) -> Response:
    deployment, value = find(site, request.account, ids["id"]), request.json().get(field)
    _must_not_be_archived(site, deployment)
    if not isinstance(value, int) or value < least:
        raise Refused(400, "Invalid request body.")
    deployment.body[field] = value
    if field == "replicas" and value == 0:
        end_jobs(site, deployment, site.now, "STOPPED", "jobStopped")
    return _changed(deployment, **{field: value})


def _changed(deployment: Thing, **told: JsonValue) -> Response:
    return Response(200, {**told, "updated_at": deployment.body["updated_at"]})


def _gate(site: Site, request: Request) -> None:
    for deployment in site.things(NODE, request.bearer):
        settle(site, deployment)


def _stop(site: Site, deployment: Thing) -> None:
    end_jobs(site, deployment, site.now, "STOPPED", "jobStopped")
    move(site, deployment, "STOPPED")


def _break_down(site: Site, deployment: Thing) -> None:
    end_jobs(site, deployment, site.now, "COMPLETED", "", exit_code=137)
    move(site, deployment, "STOPPED")


def _lose_host(site: Site, deployment: Thing) -> None:
    end_jobs(site, deployment, site.now, "STOPPED", "hostShutDown")
    move(site, deployment, "STOPPED")


EMULATOR = EmulatorType(
    name="nosana",
    title="Nosana Deployments API, and the sidecar before it",
    routes=ROUTES.merged(JOBS, MARKETS, sidecar.SIDECAR),
    error=error,
    key=lambda request: request.bearer,
    knobs=KNOBS,
    status=status,
    stop=_stop,
    break_down=_break_down,
    preempt=_lose_host,
    gate=_gate,
)
