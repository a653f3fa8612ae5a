"""An emulated deployment of Nosana through its life: jobs are listed, find a host or wait for one, run, and end.

What has become due is done whenever somebody asks; called by `nosana` before it answers.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal

from gpuplan.core.encoding import decode_time, encode_time
from gpuplan.core.values import JsonValue
from gpuplan.emulators.http import Json
from gpuplan.emulators.nosana_answers import NOBODY, NODE, fresh_key, inner, moment, url_of, vault_of
from gpuplan.emulators.nosana_markets import REGION, market_at, price_of
from gpuplan.emulators.site import Site
from gpuplan.emulators.world import Thing

LEAST_MINUTES = 60
"""What a job that is paid with credits is listed for at least."""
HEALING_SECONDS = 600
"""After so long without funds it is tried again."""
STATES = {"QUEUED": 0, "RUNNING": 1, "COMPLETED": 2, "STOPPED": 3}
LIVE = ("QUEUED", "RUNNING")


def status(site: Site, deployment: Thing) -> str:
    return str(deployment.body.get("status", deployment.hidden["state"]))


def jobs_of(deployment: Thing) -> list[Json]:
    """In the order they were listed."""
    jobs = deployment.hidden["jobs"]
    assert isinstance(jobs, list)
    return [job for job in jobs if isinstance(job, dict)]


def live_jobs(deployment: Thing) -> list[Json]:
    return [job for job in jobs_of(deployment) if job["state"] in LIVE]


def move(site: Site, deployment: Thing, state: str, since: datetime | None = None) -> None:
    deployment.hidden |= {"state": state, "since": encode_time(since or site.now)}
    deployment.body["updated_at"] = moment(since or site.now)
    deployment.body.pop("status", None)


def make(site: Site, account: str, body: Json) -> Thing:
    """A fresh draft; it costs nothing."""
    id, name = fresh_key(site), str(body["name"])
    shown: Json = {
        "name": name,
        "market": body["market"],
        "replicas": body["replicas"],
        "timeout": body["timeout"],
        "strategy": body["strategy"],
        "confidential": body.get("confidential", False),
        "active_revision": 0,
        "updated_at": moment(site.now),
        **{field: body[field] for field in ("schedule", "rotation_time") if field in body},
    }
    hidden: Json = {"jobs": [], "events": [], "revisions": []}
    deployment = site.add(NODE, id, account, shown, name=name, hidden=hidden)
    move(site, deployment, "DRAFT")
    definition = body["job_definition"]
    assert isinstance(definition, dict)
    revise(site, deployment, definition)
    if body.get("autostart") is True:
        move(site, deployment, "STARTING")
    return deployment


def revise(site: Site, deployment: Thing, definition: Json) -> None:
    """Another definition, which counts from now on."""
    revisions = deployment.hidden["revisions"]
    assert isinstance(revisions, list)
    meta = definition.get("meta")
    trigger: Json = {**(meta if isinstance(meta, dict) else {}), "trigger": "deployment-manager"}
    deployment.body["active_revision"] = len(revisions) + 1
    revisions.append(
        {
            "revision": len(revisions) + 1,
            "deployment": deployment.id,
            "ipfs_definition_hash": f"Qm{fresh_key(site)}",
            "job_definition": {**definition, "meta": trigger, "deployment_id": deployment.id},
            "created_at": moment(site.now),
        }
    )


def settle(site: Site, deployment: Thing) -> None:
    """Do what has become due."""
    since = decode_time(str(deployment.hidden["since"]))
    state = deployment.hidden["state"]
    if state == "STARTING" and site.now >= (due := since + timedelta(seconds=site.seconds("start_seconds"))):
        move(site, deployment, "RUNNING", due)
        list_jobs(site, deployment, due)
    elif state == "STOPPING" and site.now >= (due := since + timedelta(seconds=site.seconds("stop_seconds"))):
        end_jobs(site, deployment, due, "STOPPED", "jobStopped")
        move(site, deployment, "STOPPED", due)
    elif state == "INSUFFICIENT_FUNDS" and site.now >= since + timedelta(seconds=HEALING_SECONDS):
        move(site, deployment, "RUNNING")
        list_jobs(site, deployment, site.now)
    if deployment.hidden["state"] == "RUNNING":
        for job in live_jobs(deployment):
            _settle_job(site, deployment, job)
        if jobs_of(deployment) and not live_jobs(deployment):
            move(site, deployment, "STOPPED")


def list_jobs(site: Site, deployment: Thing, at: datetime) -> None:
    """Offer the work to the market. What goes wrong is said in an event, and nowhere else."""
    minutes = _minutes(deployment)
    if site.seconds("credits") <= 0:
        move(site, deployment, "INSUFFICIENT_FUNDS", at)
        note(deployment, at, "JOB_LIST_ERROR", "Insufficient credits")
    elif minutes < LEAST_MINUTES:
        told = f"Credit-paid jobs must have a timeout of at least 3600 seconds; {minutes * 60} was requested"
        note(deployment, at, "JOB_LIST_ERROR", told)
    elif market_at(site, str(deployment.body["market"])) is None:
        note(deployment, at, "JOB_LIST_ERROR", "Account does not exist or has no data")
    else:
        for _ in range(int(str(deployment.body["replicas"]))):
            job: Json = {
                "job": fresh_key(site),
                "tx": fresh_key(site),
                "state": "QUEUED",
                "revision": deployment.body["active_revision"],
                "listed_at": encode_time(at),
                "seconds": minutes * 60,
                "node": NOBODY,
            }
            jobs = deployment.hidden["jobs"]
            assert isinstance(jobs, list)
            jobs.append(job)
            note(deployment, at, "JOB_LIST_CONFIRMED", f"Job {job['job']} listed", str(job["tx"]))


def end_jobs(site: Site, deployment: Thing, at: datetime, state: str, reason: str, *, exit_code: int = 0) -> None:
    """All that still run or wait. `reason` is one of hostShutDown, jobStopped, jobExpired; empty: it ended itself."""
    market = market_at(site, str(deployment.body["market"]))
    for job in live_jobs(deployment):
        if job["state"] == "RUNNING" and market is not None:
            site.put_back(market.gpu, REGION)
        job |= {"state": state, "ended_at": encode_time(at), "reason": reason, "exit_code": exit_code}
    deployment.prices.append((at, Decimal(0)))


def note(deployment: Thing, at: datetime, type: str, message: str, tx: str = "") -> None:
    event: Json = {"category": "Event", "deploymentId": deployment.id, "type": type, "message": message}
    events = deployment.hidden["events"]
    assert isinstance(events, list)
    events.append({**event, **({"tx": tx} if tx else {}), "created_at": moment(at)})


def show(site: Site, deployment: Thing) -> Json:
    running = [job for job in jobs_of(deployment) if job["state"] == "RUNNING"]
    vault = vault_of(deployment.account)
    tells = site.knob("tells_online")
    is_online = any(_is_online(site, job) for job in running)
    endpoints: list[JsonValue] = [
        {"opId": op, "port": port, "url": url_of(deployment.id, vault, op), **({"online": is_online} if tells else {})}
        for op, port in _exposed(deployment)
    ]
    return {
        "id": deployment.id,
        "vault": vault,
        "owner": vault,
        "endpoints": endpoints,
        "active_jobs": len(running),
        "created_at": moment(deployment.created_at),
        **deployment.body,
        "status": status(site, deployment),
    }


def show_job(site: Site, deployment: Thing, job: Json) -> Json:
    """As the listing of a deployment's jobs has it."""
    start = job.get("started_at")
    return {
        "tx": job["tx"],
        "deployment": deployment.id,
        "job": job["job"],
        "market": deployment.body["market"],
        "node": None if job["node"] == NOBODY else job["node"],
        "revision": job["revision"],
        "state": job["state"],
        "time_start": int(decode_time(str(start)).timestamp()) if start else 0,
        "created_at": moment(decode_time(str(job["listed_at"]))),
        "updated_at": moment(site.now),
    }


def result_of(deployment: Thing, job: Json) -> Json | None:
    """What a job left behind; None before its end, and of one that never ran."""
    if "ended_at" not in job or "started_at" not in job:
        return None
    begun, ended = (round(decode_time(str(job[name])).timestamp() * 1000) for name in ("started_at", "ended_at"))
    reasons: Json = {name: job["reason"] == name for name in ("hostShutDown", "jobStopped", "jobExpired")}
    ops: list[JsonValue] = [
        {
            "providerId": f"container-{op}",
            "operationId": op,
            "group": None,
            "status": "failed" if job["exit_code"] else "success",
            "startTime": begun,
            "endTime": ended,
            "exitCode": job["exit_code"],
            "logs": list(log_of(job)),
            "diagnostics": {"reason": reasons},
        }
        for op in ops_of(deployment)
    ]
    told = "failed" if job["exit_code"] else "success"
    return {"status": told, "startTime": begun, "endTime": ended, "errors": [], "opStates": ops}


def log_of(job: Json) -> Iterator[JsonValue]:
    """What a job has printed since it runs."""
    if "started_at" not in job:
        return
    for kind, line in (("stdout", "container started"), ("stderr", "warming up"), ("stdout", "ready")):
        yield {"type": kind, "log": f"{line}\n", "timestamp": job["started_at"]}
    if job.get("exit_code"):
        yield {"type": "stderr", "log": "killed\n", "timestamp": job["ended_at"]}


def ops_of(deployment: Thing) -> list[str]:
    """Ids of what runs."""
    ops = inner(definition_of(deployment), "ops")
    assert isinstance(ops, list)
    return [str(inner(op, "id")) for op in ops if inner(op, "type") == "container/run"]


def definition_of(deployment: Thing) -> Json:
    """Of the active revision."""
    revisions = deployment.hidden["revisions"]
    assert isinstance(revisions, list)
    found = next(each for each in revisions if inner(each, "revision") == deployment.body["active_revision"])
    definition = inner(found, "job_definition")
    assert isinstance(definition, dict)
    return definition


def job_named(site: Site, address: str, account: str) -> tuple[Thing, Json] | None:
    for deployment in site.things(NODE, account):
        for job in jobs_of(deployment):
            if job["job"] == address:
                return deployment, job
    return None


def _settle_job(site: Site, deployment: Thing, job: Json) -> None:
    market = market_at(site, str(deployment.body["market"]))
    if job["state"] == "QUEUED":
        due = decode_time(str(job["listed_at"])) + timedelta(seconds=site.seconds("queue_seconds"))
        if market is None or site.now < due or not site.take(market.gpu, REGION):
            return
        job |= {"state": "RUNNING", "started_at": encode_time(site.now), "node": fresh_key(site)}
        deployment.prices.append((site.now, Decimal(str(price_of(site, market)))))
    started, seconds = decode_time(str(job["started_at"])), int(str(job["seconds"]))
    ends = started + timedelta(seconds=seconds)
    crashes = started + timedelta(seconds=site.seconds("crash_seconds"))
    image = str(site.knob("crashes"))
    if image and image in str(definition_of(deployment)) and site.now >= crashes:
        end_jobs(site, deployment, crashes, "COMPLETED", "", exit_code=137)
    elif site.now >= ends and deployment.body["strategy"] == "SIMPLE":
        end_jobs(site, deployment, ends, "COMPLETED", "jobExpired")


def _is_online(site: Site, job: Json) -> bool:
    """Whether the tunnel to it is up."""
    up_at = decode_time(str(job["started_at"])) + timedelta(seconds=site.seconds("image_seconds"))
    return site.now >= up_at


def _exposed(deployment: Thing) -> Iterator[tuple[str, JsonValue]]:
    """Ops with their ports. A lone object is overlooked."""
    ops = inner(definition_of(deployment), "ops")
    assert isinstance(ops, list)
    for op in ops:
        exposed = inner(op, "args", "expose")
        for port in exposed if isinstance(exposed, list) else [exposed]:
            if isinstance(exposed, dict) or port is None:
                continue
            number = inner(port, "port") if isinstance(port, dict) else port
            yield str(inner(op, "id")), number


def _minutes(deployment: Thing) -> int:
    return int(str(deployment.body["timeout"]))
