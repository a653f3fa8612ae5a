"""The emulated Nosana's jobs by themselves, and what the host of a job tells over a WebSocket. Called by `nosana`."""

import json
from collections.abc import Mapping
from pathlib import Path

from gpuplan.core.encoding import decode_time
from gpuplan.core.values import JsonValue
from gpuplan.emulators.http import Json, Request, Response, Routes, Session, Socket
from gpuplan.emulators.nosana_answers import NODE, Refused, fresh_key, inner, vault_of
from gpuplan.emulators.nosana_life import (
    STATES,
    definition_of,
    end_jobs,
    job_named,
    jobs_of,
    log_of,
    result_of,
    settle,
)
from gpuplan.emulators.nosana_markets import market_at, price_of
from gpuplan.emulators.site import Site
from gpuplan.emulators.world import Thing

JOBS = Routes()
Ids = Mapping[str, str]


@JOBS.on("POST", "/api/jobs/list")
def list_job(site: Site, request: Request, ids: Ids) -> Response:
    """A job without a deployment; nobody looks after it, and it is not kept here."""
    body = request.json()
    if not all(isinstance(body.get(field), str) for field in ("ipfsHash", "market")):
        raise Refused(400, "Bad Request")
    seconds, market = float(str(body.get("timeout") or 3600)), market_at(site, str(body["market"]))
    if market is None:
        raise Refused(400, "Market not found")
    cost = round(price_of(site, market) * seconds / 3600, 4)
    return Response(200, {**_paid(site, cost), "run": fresh_key(site), "job": fresh_key(site)})


@JOBS.on("GET", "/api/jobs/{address}", is_open=True)
def get_job(site: Site, request: Request, ids: Ids) -> Response:
    """Told to anyone: it is on the chain."""
    for deployment in site.world.living[site.type.name, NODE].values():
        settle(site, deployment)
        for job in jobs_of(deployment):
            if job["job"] == ids["address"]:
                return Response(200, _on_chain(site, deployment, job))
    raise Refused(404, "Job not found.")


@JOBS.on("POST", "/api/jobs/{address}/extend")
def extend(site: Site, request: Request, ids: Ids) -> Response:
    deployment, job = _live(site, request, ids["address"])
    seconds = request.json().get("seconds")
    if not isinstance(seconds, (int, float)) or seconds <= 0:
        raise Refused(400, "Bad Request")
    job["seconds"] = int(str(job["seconds"])) + int(seconds)
    market = market_at(site, str(deployment.body["market"]))
    cost = 0.0 if market is None else round(price_of(site, market) * seconds / 3600, 4)
    return Response(200, {**_paid(site, cost), "job": job["job"]})


@JOBS.on("POST", "/api/jobs/{address}/stop")
def stop(site: Site, request: Request, ids: Ids) -> Response:
    deployment, job = _live(site, request, ids["address"])
    was_queued = job["state"] == "QUEUED"
    end_jobs(site, deployment, site.now, "STOPPED", "jobStopped")
    return Response(200, {"tx": fresh_key(site), "job": job["job"], "delisted": was_queued})


@JOBS.on("POST", "/auth/sign-message/external")
def sign(site: Site, request: Request, ids: Ids) -> Response:
    """Of the service that keeps the wallets of those who pay with credits."""
    body, vault = request.json(), vault_of(request.account)
    told: Json = {"message": body.get("message"), "signature": vault[::-1], "userAddress": vault}
    return Response(200, {**told, "timestamp": round(site.now.timestamp() * 1000)} if body.get("includeTime") else told)


@JOBS.on("GET", "/@node/{node}", is_open=True)
def talk(site: Site, request: Request, ids: Ids) -> Response:
    """The host itself: who opens a WebSocket says what he wants to hear, and proves who he is."""
    return Response(101, session=_session(site, ids["node"]))


def show_whole_job(deployment: Thing, job: Json) -> Json:
    """As a deployment's own route has it: the state is a number here."""
    result = result_of(deployment, job)
    return {
        "confidential": deployment.body["confidential"],
        "revision": job["revision"],
        "market": deployment.body["market"],
        "node": job["node"],
        "state": STATES[str(job["state"])],
        "jobStatus": None if result is None else result["status"],
        "jobDefinition": definition_of(deployment),
        "jobResult": result,
        "timeStart": _seconds(job, "started_at"),
        "timeEnd": _seconds(job, "ended_at"),
        "listedAt": _seconds(job, "listed_at"),
    }


def _on_chain(site: Site, deployment: Thing, job: Json) -> Json:
    whole = show_whole_job(deployment, job)
    told = ("market", "node", "state", "jobDefinition", "jobResult", "jobStatus", "timeStart", "timeEnd", "listedAt")
    market = market_at(site, str(deployment.body["market"]))
    return {
        **{name: whole[name] for name in told},
        "ipfsJob": f"Qm{job['tx']}",
        "ipfsResult": None,
        "payer": vault_of(deployment.account),
        "price": 0,
        "project": vault_of(deployment.account),
        "type": "container",
        "benchmarkProcessedAt": None,
        "timeout": job["seconds"],
        "usdRewardPerHour": None if market is None else market.price,
    }


def _session(site: Site, node: str) -> Session:
    async def converse(socket: Socket, folder: Path) -> None:
        said = await socket.receive()
        asked: JsonValue = json.loads(said) if said else None
        found = _hosted(site, node, str(inner(asked, "body", "jobAddress")))
        if found is None:
            return
        deployment, job = found
        if not str(inner(asked, "header") or "").startswith(f"Hello Nosana Node!:{vault_of(deployment.account)}"):
            return
        for entry in log_of(job):
            await socket.send(json.dumps({"path": "log", "data": json.dumps(entry)}))
        # It goes on as long as the job does.
        await socket.receive()

    return converse


def _hosted(site: Site, node: str, address: str) -> tuple[Thing, Json] | None:
    for deployment in site.world.living[site.type.name, NODE].values():
        for job in jobs_of(deployment):
            if (job["job"], job["node"]) == (address, node):
                return deployment, job
    return None


def _live(site: Site, request: Request, address: str) -> tuple[Thing, Json]:
    found = job_named(site, address, request.account)
    if found is None:
        raise Refused(404, "Job not found.")
    if found[1]["state"] not in ("QUEUED", "RUNNING"):
        raise Refused(500, f"Cannot stop job in state: {STATES[str(found[1]['state'])]}")
    return found


def _paid(site: Site, cost: float) -> Json:
    credits: Json = {"costUSD": cost, "creditsUsed": cost, "reservationId": site.uuid(), "project": fresh_key(site)}
    return {"tx": fresh_key(site), "credits": credits}


def _seconds(job: Json, name: str) -> int:
    return int(decode_time(str(job[name])).timestamp()) if name in job else 0
