"""A machine of the emulated Fly.io through its life: its states, its events, who holds it, how it looks."""

import base64
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from gpuplan.core.encoding import decode_time, encode_time
from gpuplan.core.values import JsonValue
from gpuplan.emulators.fly_answers import NODE, Refused, app_of, inner, items, remembers, seconds_gone, ulid
from gpuplan.emulators.fly_catalog import GB_MONTH, MONTH_HOURS
from gpuplan.emulators.http import Json, Request
from gpuplan.emulators.site import Site
from gpuplan.emulators.world import Login, Thing

ROOTFS_GB = 8
PHASES: Mapping[str, tuple[Sequence[tuple[str, str]], str]] = {
    "launch": ((("created", "create_seconds"), ("starting", "start_seconds")), "started"),
    "start": ((("starting", "start_seconds"),), "started"),
    "restart": ((("restarting", "start_seconds"),), "started"),
    "update": ((("updating", "update_seconds"), ("starting", "start_seconds")), "started"),
    "stop": ((("stopping", "stop_seconds"),), "stopped"),
    "suspend": ((("suspending", "suspend_seconds"),), "suspended"),
    "idle": ((), "created"),
    "fail": ((), "failed"),
}
"""What was asked of a machine last: the states it goes through, each with the knob of how long, and where it ends."""
UP = frozenset({"launch", "start", "restart", "update"})


def state(site: Site, machine: Thing) -> str:
    if machine.deleted_at is not None:
        return "destroying" if seconds_gone(site, machine) < site.seconds("destroy_seconds") else "destroyed"
    if "state" in machine.body:
        return str(machine.body["state"])
    steps, end = PHASES[str(machine.hidden["phase"])]
    rest = (site.now - _since(machine)).total_seconds()
    for word, knob in steps:
        rest -= site.seconds(knob)
        if rest < 0:
            return word
    return end


def seconds_until(site: Site, machine: Thing, wanted: str) -> float | None:
    """How long it will be until it is in a state; None: nothing leads there."""
    if machine.deleted_at is not None:
        return (
            max(0.0, site.seconds("destroy_seconds") - seconds_gone(site, machine)) if wanted == "destroyed" else None
        )
    steps, end = PHASES[str(machine.hidden["phase"])]
    ends_at = _since(machine) + timedelta(seconds=sum(site.seconds(knob) for _, knob in steps))
    if wanted == "settled":
        wanted = end
    return max(0.0, (ends_at - site.now).total_seconds()) if wanted == end else None


def is_running(site: Site, machine: Thing) -> bool:
    return state(site, machine) == "started"


def turn(site: Site, machine: Thing, phase: str, source: str = "user") -> None:
    """From now on it goes where this phase leads, and is paid for accordingly."""
    was_up = machine.hidden["phase"] in UP
    machine.hidden |= {"phase": phase, "since": encode_time(site.now)}
    machine.body.pop("state", None)
    machine.body["updated_at"] = encode_time(site.now)
    steps, end = PHASES[phase]
    note(site, machine, phase, steps[0][0] if steps else end, source)
    if phase in UP:
        ready = sum(site.seconds(knob) for _, knob in steps)
        note(site, machine, "start", "started", "flyd", at=site.now + timedelta(seconds=ready))
        machine.prices.append((site.now, Decimal(str(machine.hidden["hourly"]))))
    elif was_up:
        machine.prices.append((site.now, GB_MONTH * ROOTFS_GB / MONTH_HOURS))


def note(
    site: Site,
    machine: Thing,
    type: str,
    status: str,
    source: str,
    *,
    at: datetime | None = None,
    exit_event: Json | None = None,
) -> None:
    """Write an event down. What was still to come has not happened when something else does."""
    when, now = int((at or site.now).timestamp() * 1000), int(site.now.timestamp() * 1000)
    event: Json = {"id": ulid(site), "type": type, "status": status, "source": source, "timestamp": when}
    if exit_event is not None:
        event["request"] = {"exit_event": exit_event, "restart_count": 0}
    known = [old for old in items(machine.hidden, "events") if int(str(old["timestamp"])) <= now]
    machine.hidden["events"] = [*known, event]


def halt(site: Site, machine: Thing) -> None:
    """Somebody stops it."""
    turn(site, machine, "stop")
    exit_event: Json = {"exit_code": 0, "oom_killed": False, "requested_stop": True, "exited_at": encode_time(site.now)}
    note(site, machine, "exit", "stopped", "flyd", exit_event=exit_event)


def break_down(site: Site, machine: Thing) -> None:
    """What runs on it needs more memory than there is, again and again."""
    turn(site, machine, "fail", "flyd")
    exit_event: Json = {"exit_code": 137, "oom_killed": True, "requested_stop": False, "signal": -1}
    note(site, machine, "exit", "failed", "flyd", exit_event=exit_event)


def events(site: Site, machine: Thing) -> list[JsonValue]:
    """What has happened so far, the latest first."""
    now = int(site.now.timestamp() * 1000)
    return [event for event in reversed(items(machine.hidden, "events")) if int(str(event["timestamp"])) <= now]


def machine_of(site: Site, app: Thing, id: str, *, is_living: bool = True) -> Thing:
    """Raises Refused for one that is not in the app; a destroyed one is shown for a while."""
    found = site.thing(NODE, id, app.account)
    if found is None and not is_living:
        gone = site.world.gone[site.type.name, NODE].get(id)
        found = gone if gone is not None and remembers(site, gone) else None
    if found is None or found.hidden["app"] != app.id:
        raise Refused(404, "machine not found")
    return found


def machine_in(site: Site, request: Request, ids: Mapping[str, str], *, is_living: bool = True) -> Thing:
    """The machine of a path."""
    return machine_of(site, app_of(site, request, ids), ids["id"], is_living=is_living)


def held(site: Site, request: Request, ids: Mapping[str, str]) -> Thing:
    """A machine to change. Raises Refused where somebody else has a lease on it."""
    machine = machine_in(site, request, ids)
    check_lease(site, machine, request)
    return machine


def check_lease(site: Site, machine: Thing, request: Request) -> None:
    """Raises Refused where somebody else holds the machine."""
    lease = lease_of(site, machine)
    if lease and request.headers.get("fly-machine-lease-nonce") != lease["nonce"]:
        until = datetime.fromtimestamp(float(str(lease["expires_at"])), site.now.tzinfo)
        text = f"machine ID {machine.id} lease currently held by {lease['owner']}, expires at {encode_time(until)}"
        raise Refused(409, text)


def lease_of(site: Site, machine: Thing) -> Json:
    """The lease that holds it now, empty where there is none."""
    lease = inner(machine.hidden, "lease")
    return lease if lease and float(str(lease["expires_at"])) > site.now.timestamp() else {}


def take_lease(site: Site, machine: Thing, seconds: int, description: str) -> Json:
    """A new one, or more time for the one there is."""
    present = lease_of(site, machine)
    lease: Json = {
        "nonce": present.get("nonce") or site.digits(10),
        "expires_at": int(site.now.timestamp()) + seconds,
        "owner": f"user-{machine.account[:4]}@example.com",
        "description": description,
        "version": machine.body["instance_id"],
    }
    machine.hidden["lease"] = lease
    return lease


def let_in(machine: Thing) -> None:
    """Where SSH reaches it, if its configuration leads anyone to its port 22."""
    config, found = inner(machine.body, "config"), None
    for service in items(config, "services"):
        ports = items(service, "ports")
        if service.get("internal_port") == 22 and ports:
            found = int(str(ports[0]["port"]))
    files = [file for file in items(config, "files") if str(file.get("guest_path")).endswith("/.ssh/authorized_keys")]
    users = tuple(str(file["guest_path"]).split("/")[-3] for file in files)
    keys = tuple(line for file in files for line in _decoded(str(file.get("raw_value", ""))).splitlines())
    machine.login = Login(f"{machine.hidden['app']}.fly.dev", found, users, keys) if found else None


def show(site: Site, machine: Thing) -> Json:
    """A machine as get and list show it; of an unreachable host not everything is told."""
    shown: Json = {
        "id": machine.id,
        "name": machine.name,
        "checks": _checks(site, machine),
        "events": events(site, machine),
        **machine.body,
        "state": state(site, machine),
    }
    if machine.body.get("host_status", "ok") != "ok":
        config = inner(shown, "config")
        shown.pop("config")
        shown["incomplete_config"] = {"image": config.get("image"), "metadata": config.get("metadata")}
    return shown


def _checks(site: Site, machine: Thing) -> list[JsonValue]:
    is_up = is_running(site, machine)
    return [
        {"name": name, "status": "passing" if is_up else "critical", "output": "Success" if is_up else "no answer"}
        for name in inner(machine.body["config"], "checks")
    ]


def _since(machine: Thing) -> datetime:
    return decode_time(str(machine.hidden["since"]))


def _decoded(raw: str) -> str:
    return base64.b64decode(raw).decode(errors="replace")
