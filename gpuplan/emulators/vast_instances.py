"""An instance of Vast.ai while it lives: its four states, what it holds, what it costs, what it shows."""

import base64
import gzip
import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from decimal import Decimal

from gpuplan.core.encoding import decode_time, encode_time
from gpuplan.core.values import JsonValue
from gpuplan.emulators.http import Json
from gpuplan.emulators.site import Site
from gpuplan.emulators.vast_market import (
    MONTH_HOURS,
    NODE,
    Machine,
    Market,
    cost_of,
    described,
    disk_price,
    machine_of,
)
from gpuplan.emulators.world import Thing

_KEY = re.compile(r"(?:ssh-(?:ed25519|rsa)|ecdsa-sha2-\S+) [A-Za-z0-9+/=]+")
_PACKED = re.compile(r"[A-Za-z0-9+/=]{80,}")
STORAGE_PER_HOUR = Decimal("0.2") / MONTH_HOURS


def actual_status(site: Site, thing: Thing) -> str | None:
    """What the machine reports; None until it has reported anything."""
    if "actual_status" in thing.body:
        return str(thing.body["actual_status"])
    hidden = thing.hidden
    if isinstance(hidden.get("halted"), str):
        return str(hidden["halted"])
    age = (site.now - decode_time(str(hidden["since"]))).total_seconds()
    if hidden["intended"] == "stopped":
        return "stopped" if age >= site.seconds("stop_seconds") else "running"
    if not hidden["holds"] and not take_gpus(site, thing):
        return "stopped"
    allocate, load = site.seconds("allocate_seconds"), site.seconds("load_seconds")
    if age < allocate:
        return None if hidden["fresh"] else "created"
    if age < allocate + 2:
        return "created"
    return "loading" if is_unpullable(site, thing) or age < allocate + load else "running"


def is_unpullable(site: Site, thing: Thing) -> bool:
    return str(site.knob("unpullable")) in str(thing.body["image_uuid"])


def run(site: Site, thing: Thing) -> None:
    """The GPUs are its own from now on; they are paid for once the image is there."""
    loaded = site.now.timestamp() + site.seconds("allocate_seconds") + site.seconds("load_seconds")
    runs = thing.hidden["runs"]
    assert isinstance(runs, list)
    runs.append([loaded, None])
    thing.hidden["holds"] = True


def take_gpus(site: Site, thing: Thing) -> bool:
    """Get the GPUs back; False: somebody else has them, and the start waits for them."""
    machine = _machine(thing)
    size = thing.hidden["size"]
    assert isinstance(size, int)
    if Market(site).free(machine) < size or not site.take(machine.model.gpu, machine.country):
        return False
    thing.hidden |= {"since": encode_time(site.now), "fresh": False}
    thing.hidden.pop("halted", None)
    run(site, thing)
    return True


def let_go(site: Site, thing: Thing) -> None:
    """The GPUs are anyone's again."""
    if not thing.hidden["holds"]:
        return
    thing.hidden["holds"] = False
    runs, machine = thing.hidden["runs"], _machine(thing)
    assert isinstance(runs, list)
    runs[-1] = [runs[-1][0], site.now.timestamp()] if isinstance(runs[-1], list) else runs[-1]
    site.put_back(machine.model.gpu, machine.country)


def halt(site: Site, thing: Thing, status: str) -> None:
    """It ends up like this, and not because its owner wanted it."""
    let_go(site, thing)
    thing.hidden["halted"] = status


def bill(thing: Thing, now: datetime) -> Decimal:
    """GPUs by the second while they run, the disk from the creation to the end."""
    if thing.kind != NODE:
        return thing.cost(now)
    until = thing.billed_until(now)
    hours = Decimal(str(max(0.0, (until - thing.created_at).total_seconds()))) / 3600
    total = hours * STORAGE_PER_HOUR * Decimal(str(thing.body["disk_space"]))
    runs = thing.hidden["runs"]
    for span in runs if isinstance(runs, list) else []:
        if isinstance(span, list) and isinstance(span[0], (int, float)):
            end = span[1] if isinstance(span[1], (int, float)) else until.timestamp()
            seconds = max(0.0, min(end, until.timestamp()) - span[0])
            total += Decimal(str(thing.hidden["rate"])) * Decimal(str(seconds)) / 3600
    return total


def show(site: Site, thing: Thing) -> Json:
    """All fields; of those that say how a machine is, only what clients read."""
    hidden, machine, status = thing.hidden, _machine(thing), actual_status(site, thing)
    size, port, rate = hidden["size"], hidden["port"], hidden["rate"]
    assert isinstance(size, int)
    assert isinstance(port, int)
    assert isinstance(rate, (int, float))
    disk = thing.body["disk_space"]
    gb = float(disk) if isinstance(disk, (int, float)) else 8.0
    started, is_up = thing.created_at.timestamp(), status == "running"
    is_stopped = status in ("stopped", "exited")
    described_machine = {name: value for name, value in described(machine, size).items() if name not in _OFFER_ONLY}
    return {
        **described_machine,
        "id": int(thing.id),
        "actual_status": status,
        "cur_state": "stopped" if is_stopped or status is None else "running",
        "next_state": hidden["intended"],
        "intended_status": hidden["intended"],
        "status_msg": _message(site, thing, status),
        "local_ipaddrs": "10.0.0.5 172.17.0.2",
        "public_ipaddr": machine.address + ("\n" if machine.number % 2 else ""),
        "ssh_host": f"ssh{machine.number % 9}.vast.ai",
        "ssh_port": 10000 + int(thing.id) % 20000,
        "ssh_idx": str(machine.number % 9),
        "machine_dir_ssh_port": port,
        "direct_port_start": port,
        "direct_port_end": port + 63,
        "jupyter_token": hidden["jupyter"],
        "ports": _ports(thing, port) if is_up else None,
        "gpu_util": 0.0,
        "gpu_temp": 38.0,
        "cpu_cores": 64,
        "disk_usage": 1.2,
        "disk_util": 0.02,
        "min_bid": round(rate / 2, 4),
        "dph_base": rate,
        "dph_total": round(rate + disk_price(gb), 4),
        "storage_total_cost": disk_price(gb),
        "search": cost_of(rate, gb),
        "instance": cost_of(rate, gb),
        "start_date": started,
        "end_date": started + 30 * 86400.0,
        "duration": 30 * 86400.0 - thing.age(site.now),
        "uptime_mins": thing.age(site.now) / 60 if is_up else None,
        "rentable": False,
        "external": False,
        **thing.body,
    }


_OFFER_ONLY = ("verified", "rented", "rentable", "disk_space", "rn", "resource_type", "gpu_total_ram", "public_ipaddr")


def _message(site: Site, thing: Thing, status: str | None) -> str | None:
    image = str(thing.body["image_uuid"])
    match status:
        case "loading" if is_unpullable(site, thing):
            return f"Error response from daemon: manifest for {image} not found: manifest unknown"
        case "loading":
            return f"Pulling from {image.partition(':')[0]}"
        case "running":
            return f"success, running {image}"
        case "exited":
            return "container exited"
    return None


def _ports(thing: Thing, first: int) -> Json:
    """Which port of the machine leads to which of the container: that of SSH, and what was asked for."""
    asked = [name for name in _names(thing) if name.startswith("-p ")]
    inner = ["22/tcp"] if "ssh" in str(thing.body["image_runtype"]) else []
    for name in asked:
        port, _, protocol = name.removeprefix("-p ").rpartition(":")[2].partition("/")
        inner.append(f"{port}/{protocol or 'tcp'}")
    return {
        name: [{"HostIp": "0.0.0.0", "HostPort": str(first + n)}, {"HostIp": "::", "HostPort": str(first + n)}]
        for n, name in enumerate(dict.fromkeys(inner))
    }


def _names(thing: Thing) -> list[str]:
    pairs = thing.body["extra_env"]
    return [str(pair[0]) for pair in pairs if isinstance(pair, list)] if isinstance(pairs, list) else []


def _machine(thing: Thing) -> Machine:
    number: JsonValue = thing.hidden["machine"]
    assert isinstance(number, int)
    return machine_of(number)


def authorized_keys(onstart: str) -> Sequence[str]:
    """The public keys a script lets in, also where it comes packed."""
    texts = [onstart]
    for packed in _PACKED.findall(onstart):
        with suppress(ValueError, OSError, EOFError):
            texts.append(gzip.decompress(base64.b64decode(packed)).decode(errors="replace"))
    return [key for text in texts for key in _KEY.findall(text)]
