"""An emulated RunPod pod through its life: what it is at a time, and how it looks then. Called by `runpod`."""

from datetime import datetime, timedelta
from decimal import Decimal

from gpuplan.core.encoding import decode_time, encode_time
from gpuplan.core.values import JsonValue
from gpuplan.emulators.http import Json
from gpuplan.emulators.runpod_answers import Refused, inner, items
from gpuplan.emulators.runpod_companions import MONTH_HOURS
from gpuplan.emulators.site import Site
from gpuplan.emulators.world import Login, Thing

ALLOWED = {
    "RUNNING": ("stop", "restart", "terminate"),
    "EXITED": ("start", "terminate"),
    "ERROR": ("start", "terminate"),
    "PROVISIONING": ("stop", "terminate"),
    "STARTING": ("stop", "terminate"),
}
DISK_GB_MONTH, STOPPED_GB_MONTH = Decimal("0.10"), Decimal("0.20")


def terminate(site: Site, pod: Thing) -> None:
    if "exited_at" not in pod.hidden:
        _release(site, pod)
    site.remove(pod)


def exit_(site: Site, pod: Thing) -> None:
    """Stopped: the GPUs are for others, the disk but for its mounts is wiped."""
    if "exited_at" not in pod.hidden:
        pod.hidden["exited_at"] = encode_time(site.now)
        _release(site, pod)
        persistent = inner(inner(pod.body, "mounts"), "persistent")
        pod.prices.append((site.now, STOPPED_GB_MONTH * int(str(persistent.get("size", 0))) / MONTH_HOURS))


def break_down(site: Site, pod: Thing) -> None:
    pod.body["status"] = "ERROR"


def status(site: Site, pod: Thing) -> str:
    if "status" in pod.body:
        return str(pod.body["status"])
    if "exited_at" in pod.hidden:
        return "EXITED"
    age = pod.age(site.now)
    if age < site.seconds("provision_seconds"):
        return "PROVISIONING"
    is_missing = pod.body["image"] == site.knob("missing_image")
    return "STARTING" if is_missing or site.now < decode_time(str(pod.hidden["up_at"])) else "RUNNING"


def is_up(site: Site, pod: Thing) -> bool:
    return _direct(site, pod) is not None


def show(site: Site, pod: Thing) -> Json:
    """A pod as get and list show it."""
    word = status(site, pod)
    is_running, began = word == "RUNNING", decode_time(str(pod.hidden["up_at"]))
    endpoint = _direct(site, pod)
    proxy = _ssh_endpoint("ssh.runpod.io", 22, f"{pod.id}-64411eb2")
    network: Json = {"enabled": pod.hidden["is_global"]}
    if pod.hidden["is_global"]:
        network |= {
            "ip": str(pod.hidden["address"]).replace("198.18.", "10.1."),
            "internalDns": f"{pod.id}.runpod.internal",
        }
    return {
        "id": pod.id,
        "status": word,
        "actions": list(ALLOWED.get(word, ())),
        "ssh": {"proxy": proxy, "direct": endpoint},
        "cost": 0.0 if word == "EXITED" else float(str(pod.hidden["hourly"])),
        "globalNetworking": network,
        "runtime": _runtime(site, pod, began) if is_running else None,
        "createdAt": encode_time(pod.created_at),
        "startedAt": encode_time(began) if began <= site.now else None,
        **pod.body,
    }


def begin(site: Site, pod: Thing, seconds: float) -> None:
    """The container starts anew: with other public ports, and paid for from now on."""
    up_at = site.now + timedelta(seconds=seconds)
    tcp = [str(port).partition("/")[0] for port in items(pod.body, "ports")]
    taken = site.world.random.sample(range(10000, 60000), len(tcp))
    mapped = {number: public for number, public in zip(tcp, taken, strict=True)}
    pod.hidden |= {"up_at": encode_time(up_at), "mapped": mapped}
    keys = str(inner(pod.body, "env").get("PUBLIC_KEY", "")).splitlines()
    if "22" in mapped:
        pod.login = Login(str(pod.hidden["address"]), int(str(mapped["22"])), ("root",), tuple(keys))
    disk = DISK_GB_MONTH * int(str(pod.body["disk"])) / MONTH_HOURS
    pod.prices.append((site.now, Decimal(str(pod.hidden["hourly"])) + disk))


def start(site: Site, pod: Thing) -> None:
    """Only the host it was on will do, and others may have its GPUs."""
    if not site.take(str(pod.hidden["shelf"]), str(pod.body["dataCenterId"])):
        raise Refused(400, "There are not enough free GPUs on the host machine to start this pod.")
    if site.knob("loses_gpus") is True and "gpu" in pod.body:
        pod.body["gpu"] = {**inner(pod.body, "gpu"), "count": 0}
    pod.hidden.pop("exited_at", None)
    pod.body.pop("status", None)
    begin(site, pod, site.seconds("restart_seconds"))


def _release(site: Site, pod: Thing) -> None:
    site.put_back(str(pod.hidden["shelf"]), str(pod.body["dataCenterId"]))


def _direct(site: Site, pod: Thing) -> Json | None:
    """The pod's own sshd, some seconds after the container runs."""
    running_for = (site.now - decode_time(str(pod.hidden["up_at"]))).total_seconds()
    has_port = pod.login is not None and "22/tcp" in items(pod.body, "ports")
    if status(site, pod) != "RUNNING" or not has_port or running_for < site.seconds("ssh_seconds"):
        return None
    assert pod.login is not None
    return _ssh_endpoint(pod.login.host, pod.login.port, "root")


def _ssh_endpoint(host: str, port: int, user: str) -> Json:
    command = f"ssh {user}@{host}" if port == 22 else f"ssh {user}@{host} -p {port}"
    return {"host": host, "port": port, "username": user, "command": command}


def _runtime(site: Site, pod: Thing, began: datetime) -> Json:
    ports: list[JsonValue] = []
    for asked in items(pod.body, "ports"):
        number, _, kind = str(asked).partition("/")
        public = inner(pod.hidden, "mapped").get(number)
        symmetric = int(number) >= 70000
        address = pod.hidden["address"] if kind == "tcp" else "100.65.0.119"
        ports.append({"private": public if symmetric else int(number), "public": public, "type": kind, "ip": address})
    cards: list[JsonValue] = [{"util": 97, "memoryUtil": 61}] * int(str(inner(pod.body, "gpu").get("count", 0)))
    uptime = int((site.now - began).total_seconds())
    return {"uptime": uptime, "gpus": cards, "cpu": {"util": 12}, "memory": {"util": 20}, "ports": ports}


def log_of(site: Site, pod: Thing) -> list[Json]:
    """What the pod has logged so far, in the order of time."""
    up_at = decode_time(str(pod.hidden["up_at"]))
    lines = [(pod.created_at, "system", "create container"), (pod.created_at, "system", f"pulling {pod.body['image']}")]
    if pod.body["image"] == site.knob("missing_image"):
        said = f"error pulling image: manifest for {pod.body['image']} not found: manifest unknown"
        lines.append((pod.created_at, "system", said))
    elif up_at <= site.now:
        lines.append((up_at, "system", "start container"))
        lines += [(up_at, "container", f"line {number}") for number in range(1, 21)]
    return [{"source": source, "line": line, "ts": encode_time(at)} for at, source, line in lines]
