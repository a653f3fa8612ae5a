"""An instance of Alibaba Cloud while it lives: its five states, its addresses, its locks, what it shows."""

import re
from datetime import datetime
from decimal import Decimal

from gpuplan.core.encoding import decode_time, encode_time
from gpuplan.core.values import JsonValue
from gpuplan.emulators import alibaba_catalog as catalog
from gpuplan.emulators.alibaba_answers import Refused, minute, show_tags
from gpuplan.emulators.http import Json
from gpuplan.emulators.site import Site
from gpuplan.emulators.world import Login, Thing

NODE = "node"
RECYCLING = "Recycling"


def status(site: Site, thing: Thing) -> str:
    if "Status" in thing.body:
        return str(thing.body["Status"])
    if thing.deleted_at is not None:
        return "Stopping"
    stopped = thing.hidden.get("stopped_at")
    if isinstance(stopped, str):
        return "Stopped" if _since(site, stopped) >= site.seconds("stop_seconds") else "Stopping"
    age = _since(site, str(thing.hidden["started_at"]))
    if not thing.hidden["has_run"] and age < site.seconds("pending_seconds"):
        return "Pending"
    return "Running" if age >= site.seconds("boot_seconds") else "Starting"


def lock(site: Site, thing: Thing, reason: str) -> None:
    """Stopped by Alibaba itself, and not to be started again."""
    thing.hidden["stopped_at"] = encode_time(thing.created_at)
    thing.hidden["lock"] = reason


def stop(site: Site, thing: Thing, mode: str = "KeepCharging") -> None:
    """Economical where it is asked for and the hardware can be given to others; silently the dear way otherwise."""
    sold = sold_as(thing)
    is_free = mode == "StopCharging" and not sold.has_local_disks
    thing.hidden |= {"stopped_at": encode_time(site.now), "mode": "StopCharging" if is_free else "KeepCharging"}
    if is_free:
        thing.prices.append((site.now, Decimal(0)))
        site.put_back(sold.shelf, str(thing.body["RegionId"]))


def start(site: Site, thing: Thing) -> None:
    """Raises Refused: what was given back must be had again."""
    sold, region = sold_as(thing), str(thing.body["RegionId"])
    if thing.hidden.get("lock"):
        raise Refused(403, "InstanceLockedForSecurity", "The instance is locked and cannot be started.")
    if thing.hidden["mode"] == "StopCharging":
        take(site, sold, region, str(thing.body["ZoneId"]))
        thing.prices.append((site.now, running_price(site, thing)))
        reach(site, thing)
    thing.hidden |= {"stopped_at": None, "mode": "", "started_at": encode_time(site.now), "has_run": True}


def take(site: Site, sold: catalog.InstanceType, region: str, zone: str) -> None:
    """Raises Refused where there is none, whatever was told before."""
    if zone in str(site.knob("sold_out_zones")).split() or not site.take(sold.shelf, region):
        text = "The requested resource is sold out in the specified zone; try other types of resources or other zones."
        raise Refused(403, "OperationDenied.NoStock", text)


def release(site: Site, thing: Thing) -> None:
    if thing.hidden.get("mode") != "StopCharging":
        site.put_back(sold_as(thing).shelf, str(thing.body["RegionId"]))
    site.remove(thing)


def reach(site: Site, thing: Thing) -> None:
    """Give it an address and let in who may log in."""
    address = site.world.fresh_address()
    if not thing.hidden.get("private"):
        thing.hidden["private"] = address.replace("198.18.", "10.1.")
    is_public = bool(thing.body["InternetMaxBandwidthOut"])
    thing.hidden["public"] = address if is_public else ""
    user_data = str(thing.hidden["user_data"])
    keys = re.findall(r"(?:ssh-(?:ed25519|rsa)|ecdsa-sha2-\S+) [A-Za-z0-9+/=]+", user_data)
    registered = str(thing.hidden["key_text"])
    allowed = tuple(filter(None, (registered, *keys)))
    thing.login = Login(address if is_public else str(thing.hidden["private"]), 22, ("root",), allowed)


def running_price(site: Site, thing: Thing) -> Decimal:
    sold, region = sold_as(thing), str(thing.body["RegionId"])
    is_spot = thing.body["SpotStrategy"] != "NoSpot"
    return catalog.spot_price(site, sold, region) if is_spot else catalog.price(site, sold, region)


def sold_as(thing: Thing) -> catalog.InstanceType:
    return catalog.TYPES[str(thing.body["InstanceType"])]


def show(site: Site, thing: Thing) -> JsonValue:
    """As DescribeInstances has it."""
    sold, state, hidden = sold_as(thing), status(site, thing), thing.hidden
    started = decode_time(str(hidden["started_at"]))
    is_reachable = state != "Pending" and hidden.get("mode") != "StopCharging"
    public: JsonValue = [hidden["public"]] if is_reachable and hidden["public"] else []
    private: JsonValue = [hidden["private"]]
    lock_reason = hidden.get("lock")
    locks: JsonValue = [{"LockReason": lock_reason, "LockMsg": ""}] if lock_reason else []
    tags = hidden["tags"]
    assert isinstance(tags, dict)
    shown: Json = {
        "InstanceId": thing.id,
        "InstanceName": thing.name,
        "Status": state,
        "InstanceTypeFamily": sold.family,
        "Cpu": sold.cpu,
        "Memory": sold.memory_gb * 1024,
        "GPUAmount": sold.gpus,
        "GPUSpec": sold.spec,
        "OSType": "linux",
        "CreationTime": minute(thing.created_at),
        "StartTime": "" if state == "Pending" else minute(started),
        "ExpiredTime": "2099-12-31T15:59Z",
        "InstanceChargeType": "PostPaid",
        "StoppedMode": (hidden.get("mode") or "Not-applicable") if state == "Stopped" else "Not-applicable",
        "DeletionProtection": hidden.get("is_protected") is True,
        "DeviceAvailable": True,
        "IoOptimized": True,
        "InstanceNetworkType": "vpc",
        "PublicIpAddress": {"IpAddress": public},
        "InnerIpAddress": {"IpAddress": []},
        "EipAddress": {"AllocationId": "", "IpAddress": "", "InternetChargeType": ""},
        "VpcAttributes": {
            "VpcId": hidden["vpc"],
            "VSwitchId": hidden["vswitch"],
            "NatIpAddress": "",
            "PrivateIpAddress": {"IpAddress": private},
        },
        "SecurityGroupIds": {"SecurityGroupId": hidden["groups"]},
        "Tags": show_tags(tags),
        "OperationLocks": {"LockReason": locks},
    }
    return {**shown, **thing.body}


def bill(thing: Thing, now: datetime) -> Decimal:
    """By the second; a stop in economical mode costs nothing but the disk."""
    return thing.cost(now)


def preempt(site: Site, thing: Thing) -> None:
    """Stopped with a lock that says so, and released some minutes later."""
    lock(site, thing, RECYCLING)
    thing.hidden["released_at"] = site.now.timestamp() + site.seconds("reclaim_seconds")


def sweep(site: Site, account: str) -> None:
    """Release what was reclaimed long enough ago."""
    now = site.now.timestamp()
    for thing in site.things(NODE, account):
        until = thing.hidden.get("released_at")
        if isinstance(until, float) and until <= now:
            release(site, thing)


def _since(site: Site, moment: str) -> float:
    return (site.now - decode_time(moment)).total_seconds()
