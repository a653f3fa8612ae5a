"""An emulated pod of Lium through its life: what it is at a time, and how it looks then. Called by `lium`."""

from datetime import datetime, timedelta
from decimal import Decimal

from gpuplan.core.encoding import decode_time, encode_time
from gpuplan.emulators.http import Json, Request
from gpuplan.emulators.lium_answers import moment, text, texts, whole
from gpuplan.emulators.lium_companions import workspace_id
from gpuplan.emulators.lium_market import NODE, PODS, Host, in_use, memory_kib
from gpuplan.emulators.site import Site
from gpuplan.emulators.world import Login, Thing


def is_pod(thing: Thing) -> bool:
    return thing.hidden["api"] == PODS


def status(site: Site, pod: Thing) -> str:
    if "status" in pod.body:
        return str(pod.body["status"])
    if pod.age(site.now) < site.seconds("place_seconds"):
        return "PENDING"
    if "trouble" in pod.hidden:
        return "CREATION_FAILED"
    return "REBOOT_PENDING" if site.now < decode_time(str(pod.hidden["up_at"])) else "RUNNING"


def show(site: Site, pod: Thing) -> Json:
    host, now = in_use(pod), status(site, pod)
    gpus, mapping, ends = pod.hidden["gpus"], pod.hidden["ports"], pod.hidden.get("ends_at")
    assert isinstance(mapping, dict)
    reachable = now == "RUNNING" and site.now >= _reachable_at(site, pod)
    country, code, *_ = host.place
    executor: Json = {
        "id": host.id,
        "machine_name": host.model.name,
        "gpu_count": host.gpus,
        "executor_ip_address": host.address,
        "location": {"country": country, "country_code": code},
        "specs": {"gpu": {"count": host.gpus}},
    }
    return {
        "id": pod.id,
        "gpu_count": str(gpus),
        "gpu_name": host.model.name,
        "cpu_name": "AMD EPYC 9554",
        "ram_total": memory_kib(host),
        "price": pod.hidden["hourly"],
        "ssh_connect_cmd": f"ssh root@{host.address} -p {mapping['22']}" if reachable else None,
        "ports_mapping": mapping if now == "RUNNING" else {},
        "created_at": moment(pod.created_at),
        "updated_at": moment(site.now),
        "executor": executor,
        "removal_scheduled_at": moment(decode_time(str(ends))) if ends else None,
        "phase": None,
        "estimated_ready_seconds": None,
        "eta_basis": None,
        "jupyter_installation_status": None,
        "jupyter_url": None,
        "workspace_id": workspace_id(pod.account),
        "cluster_id": None,
        "api_key_id": None,
        "local_volume_path": "/workspace",
        **pod.body,
        "status": now,
    }


def end(site: Site, thing: Thing) -> None:
    """The GPUs are for others again."""
    host = in_use(thing)
    site.put_back(host.model.gpu, host.country)
    site.remove(thing)


def start(
    site: Site,
    request: Request,
    body: Json,
    host: Host,
    gpus: int,
    hourly: float,
    template: Json,
) -> Thing:
    name, keys = text(body, "pod_name", required=True), texts(body, "user_public_key")
    given = max(1, gpus - site.count("short_by"))
    first = 20000 + 40 * (len(site.world.ledger) % 1000)
    mapping = ports_of(template, whole(body, "initial_port_count", 0, 100) or 0, first)
    up_at = site.now + timedelta(seconds=site.seconds("place_seconds"))
    hidden: Json = {
        "api": PODS,
        "host": host.number,
        "gpus": given,
        "hourly": hourly,
        "templates": [template["id"]],
        "volume": text(body, "volume_id"),
        "ports": mapping,
        "up_at": encode_time(up_at),
        "key": request.headers.get("idempotency-key", ""),
        "body": request.content.decode(),
    }
    breaks = str(site.knob("breaks"))
    if breaks and breaks in str(template["docker_image"]):
        hidden["trouble"] = "container exited with 137: no space left on device"
    login = Login(host.address, first, ("root",), tuple(keys))
    shown: Json = {"pod_name": name, "template": named(template)}
    pod = site.add(NODE, site.uuid(), request.account, shown, name=name, hidden=hidden, login=login)
    pod.prices = [(up_at, Decimal(str(hourly)))]
    return pod


def named(template: Json) -> Json:
    return {name: template[name] for name in ("id", "name", "docker_image", "docker_image_tag")}


def ports_of(template: Json, more: int, first: int) -> Json:
    """Ports of the container, and where the host has them; that of SSH is the first."""
    told = template["internal_ports"]
    inner = [22, *(port for port in (told if isinstance(told, list) else []) if port != 22)]
    inner += list(range(40000, 40000 + more))
    return {str(port): first + n for n, port in enumerate(inner)}


def restart(site: Site, pod: Thing, why: str) -> None:
    pod.body.pop("status", None)
    pod.hidden |= {"up_at": encode_time(site.now + timedelta(seconds=site.seconds("reboot_seconds"))), "why": why}


def _reachable_at(site: Site, pod: Thing) -> datetime:
    return decode_time(str(pod.hidden["up_at"])) + timedelta(seconds=site.seconds("ssh_seconds"))
