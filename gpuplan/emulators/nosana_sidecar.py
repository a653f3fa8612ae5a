"""The sidecar that an inference platform has put before Nosana: jobs are launched in one call, and never listed."""

import json
from collections.abc import Mapping
from pathlib import Path

from gpuplan.core.values import JsonValue
from gpuplan.emulators.http import Json, Refusal, Request, Response, Routes, Session, Socket
from gpuplan.emulators.nosana_answers import NODE, Refused, inner
from gpuplan.emulators.nosana_life import (
    STATES,
    jobs_of,
    list_jobs,
    log_of,
    make,
    move,
    result_of,
    settle,
    show,
    status,
)
from gpuplan.emulators.site import REFUSED_KEYS, Site
from gpuplan.emulators.world import Thing

KNOBS: Mapping[str, JsonValue] = {
    "launch_seconds": 10,
    "launch_fails": "",
    "sidecar_credentials": "default",
    "sidecar_forgets": False,
}
"""A launch takes `launch_seconds`; with `launch_fails` the deployment is made, and ends in that status. A sidecar that
was started anew `sidecar_forgets`: ids of deployments mean nothing to it, those of jobs do."""
SIDECAR = Routes()
KEY_HEADERS = ("x-internal-api-key", "x-internal-key")
STATE_NUMBERS = {"STARTING": 0, "RUNNING": 1, "STOPPING": 3, "STOPPED": 3}
TIMEOUT_MINUTES = 60
Ids = Mapping[str, str]


@SIDECAR.on("GET", "/health", is_open=True)
def health(site: Site, request: Request, ids: Ids) -> Response:
    named: list[JsonValue] = list(_credentials(site))
    modules: Json = {"akash": "loaded", "nosana": "active" if named else "disabled", "credentials": named}
    told: Json = {"status": "ok", "service": "depin-sidecar", "modules": modules, "config_source": "gateway-api"}
    return Response(200, told)


@SIDECAR.on("GET", "/nosana/balance", is_open=True)
def balance(site: Site, request: Request, ids: Ids) -> Response:
    _let_in(site, request)
    credits = site.seconds("credits")
    told: Json = {"assignedCredits": credits, "reservedCredits": 0, "settledCredits": 0, "address": "API_ACCOUNT"}
    return Response(200, {"sol": 0, "nos": f"{credits:.2f}", **told})


@SIDECAR.on("POST", "/nosana/jobs/launch", is_open=True)
def launch(site: Site, request: Request, ids: Ids) -> Response:
    """Create, start, and wait for a job that runs: all in one call, under a name of its own."""
    account, body = _let_in(site, request), request.json()
    definition, market = body.get("jobDefinition"), body.get("marketAddress")
    if not isinstance(definition, dict) or not isinstance(market, str):
        raise Refused(400, "Missing definition/market")
    if site.seconds("credits") <= 0:
        raise Refused(500, "Nosana SDK Error: insufficient funds")
    deployment = make(site, account, _order(site, market, definition, request))
    if failed := str(site.knob("launch_fails")):
        move(site, deployment, failed)
        told = f"Nosana SDK Error: Deployment {deployment.id} failed: status={failed} (no host)"
        return Response(500, {"error": told}, delay_seconds=site.seconds("launch_seconds"))
    move(site, deployment, "RUNNING")
    list_jobs(site, deployment, site.now)
    jobs = jobs_of(deployment)
    answer: Json = {
        "status": "success",
        "jobAddress": jobs[0]["job"] if jobs else deployment.id,
        "deploymentId": deployment.id,
        "deploymentUuid": deployment.id,
        **_service(site, deployment),
    }
    return Response(200, answer, delay_seconds=site.seconds("launch_seconds"))


@SIDECAR.on("POST", "/nosana/jobs/stop", is_open=True)
def stop(site: Site, request: Request, ids: Ids) -> Response:
    account, wanted = _let_in(site, request), request.json().get("jobAddress")
    if not isinstance(wanted, str) or not wanted:
        raise Refused(400, "Missing jobAddress")
    deployment = _find(site, account, wanted)
    if deployment is None:
        raise Refused(500, f"Stop Error: Could not find deployment or job: {wanted}")
    if deployment.hidden["state"] not in ("RUNNING", "ERROR", "INSUFFICIENT_FUNDS"):
        raise Refused(500, "Stop Error: Deployment is in the incorrect state.")
    move(site, deployment, "STOPPING")
    return Response(200, {"status": "stopped", "deploymentId": deployment.id, "deploymentStatus": "STOPPING"})


@SIDECAR.on("GET", "/nosana/jobs/{id}", is_open=True)
def get(site: Site, request: Request, ids: Ids) -> Response:
    deployment = _find(site, _let_in(site, request), ids["id"])
    if deployment is None:
        raise Refused(500, f"Get Job Error: Could not find deployment or job: {ids['id']}")
    word, job = status(site, deployment), (jobs_of(deployment) or [{}])[-1]
    told: Json = {
        "status": "success",
        "jobState": STATE_NUMBERS.get(word, word),
        "jobAddress": job.get("job"),
        "deploymentId": deployment.id,
        "deploymentStatus": word,
        "runAddress": job.get("tx"),
        "nodeAddress": job.get("node") or "",
        "price": "0",
        "ipfsResult": None,
        **_service(site, deployment),
        "endpoints": show(site, deployment)["endpoints"],
    }
    if site.knob("sidecar_forgets"):
        # The job alone is known, from the chain.
        number = STATES.get(str(job.get("state")), 0)
        told |= {
            "jobState": number,
            "deploymentId": None,
            "deploymentStatus": None,
            "serviceUrl": None,
            "endpoints": [],
        }
    return Response(200, told)


@SIDECAR.on("GET", "/nosana/jobs/{id}/logs", is_open=True)
def logs(site: Site, request: Request, ids: Ids) -> Response:
    deployment = _find(site, _let_in(site, request), ids["id"])
    if deployment is None:
        raise Refused(500, f"Get Logs Error: Could not find deployment or job: {ids['id']}")
    results = [result_of(deployment, job) for job in jobs_of(deployment)]
    if results and results[-1] is not None:
        return Response(200, {"status": "completed", "result": results[-1], "isConfidential": True})
    return Response(200, {"status": "pending", "logs": ["Job is running or hasn't posted results yet."]})


@SIDECAR.on("GET", "/", is_open=True)
def talk(site: Site, request: Request, ids: Ids) -> Response:
    """Whoever opens a WebSocket is listened to: no key is asked for."""
    return Response(101, session=_session(site))


def _order(site: Site, market: str, definition: Json, request: Request) -> Json:
    return {
        "name": f"inferia-{round(site.now.timestamp() * 1000)}",
        "market": market,
        "replicas": 1,
        "timeout": TIMEOUT_MINUTES,
        "strategy": "SIMPLE-EXTEND",
        # It reads the word that its own published client does not send.
        "confidential": request.json().get("isConfidential") is not False,
        "job_definition": definition,
    }


def _session(site: Site) -> Session:
    async def converse(socket: Socket, folder: Path) -> None:
        said = await socket.receive()
        asked: JsonValue = json.loads(said) if said else None
        if inner(asked, "type") != "subscribe_logs":
            await socket.send(json.dumps({"type": "error", "message": "Unknown message type"}))
            return
        wanted = str(inner(asked, "jobId"))
        await _say(socket, "[SYSTEM] connected")
        for deployment in site.world.living[site.type.name, NODE].values():
            for job in jobs_of(deployment):
                if wanted in (deployment.id, job["job"]):
                    for entry in log_of(job):
                        await socket.send(json.dumps({"type": "log", "data": entry}))
                    if "ended_at" in job:
                        await _say(socket, "[SYSTEM] --- END OF LOGS ---")
        # It does not hang up by itself.
        await socket.receive()

    return converse


async def _say(socket: Socket, line: str) -> None:
    await socket.send(json.dumps({"type": "log", "data": line}))


def _let_in(site: Site, request: Request) -> str:
    """The account of the credential that is asked for; an unknown one is silently the default. Raises Refusal."""
    key = next((request.headers[name] for name in KEY_HEADERS if request.headers.get(name)), "")
    if not key:
        raise Refused(401, "Missing X-Internal-API-Key header")
    if key.startswith(REFUSED_KEYS):
        raise Refusal(Response(403, {"error": "Invalid internal API key"}))
    known = _credentials(site)
    if not known:
        raise Refused(503, "Nosana Service not initialized")
    wanted = request.one("credentialName") or str(request.json().get("credentialName") or "")
    account = f"sidecar {key} {wanted if wanted in known else known[0]}"
    for deployment in site.things(NODE, account):
        settle(site, deployment)
        if status(site, deployment) == "STOPPED":
            # Nobody deletes it, and nobody pays for it.
            site.remove(deployment)
    return account


def _credentials(site: Site) -> list[str]:
    return [name for name in str(site.knob("sidecar_credentials")).split(",") if name]


def _find(site: Site, account: str, wanted: str) -> Thing | None:
    ended = site.world.gone[site.type.name, NODE].values()
    for deployment in (*site.things(NODE, account), *(each for each in ended if each.hidden["state"] == "STOPPED")):
        jobs = [job["job"] for job in jobs_of(deployment)]
        if wanted in jobs or (wanted == deployment.id and not site.knob("sidecar_forgets")):
            return deployment
    return None


def _service(site: Site, deployment: Thing) -> Json:
    endpoints = show(site, deployment)["endpoints"]
    assert isinstance(endpoints, list)
    return {"serviceUrl": inner(endpoints[0], "url")} if endpoints else {}
