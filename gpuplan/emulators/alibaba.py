"""Alibaba Cloud ECS, API version 2014-05-26: instances. https://www.alibabacloud.com/help/ecs/developer-reference

What is around them is in `alibaba_companions`, who may ask in `alibaba_signing`.
"""

import base64
import re
from collections.abc import Callable, Mapping

from gpuplan.core.capabilities import RateLimit
from gpuplan.core.values import JsonValue
from gpuplan.emulators import alibaba_catalog as catalog
from gpuplan.emulators.alibaba_answers import (
    Asked,
    Refused,
    action,
    answer,
    error,
    pages_by_number,
    pages_by_token,
    unfit,
)
from gpuplan.emulators.alibaba_companions import COMPANIONS, asked_of, region_of
from gpuplan.emulators.alibaba_instances import (
    NODE,
    bill,
    lock,
    preempt,
    reach,
    release,
    show,
    start,
    status,
    stop,
    sweep,
    take,
)
from gpuplan.emulators.alibaba_orders import new_instance, read_order
from gpuplan.emulators.alibaba_signing import VERSION_1, action_of, check, key_of, parameters
from gpuplan.emulators.http import Json, Request, Response, Routes
from gpuplan.emulators.site import EmulatorType, Site
from gpuplan.emulators.world import Thing

VERSION = "2014-05-26"
OTHER_PRODUCTS = {"DescribeVSwitches": "2016-04-28", "GetCallerIdentity": "2015-04-01"}
"""Actions of the products Vpc and Sts, with the versions of those."""
KNOBS: Mapping[str, JsonValue] = {
    "permitted": True,
    "pending_seconds": 5,
    "boot_seconds": 40,
    "stop_seconds": 20,
    "leave_seconds": 30,
    "reclaim_seconds": 300,
    "most_per_page": 100,
    "instance_limit": 20000,
    "key_limit": 500,
    "key_types": "ssh-rsa",
    "sold_out_zones": "",
    "currency": "USD",
    "clock_window_seconds": 900,
    "default_stopped_mode": "KeepCharging",
}
"""Without `permitted` the key may not look at instances, and is shown none. Zones of `sold_out_zones` are told to have
stock, and have none."""

ROUTES = Routes()


def acts(name: str) -> Callable[[Callable[[Site, Asked, Thing], None]], Callable[[Site, Asked, Thing], None]]:
    """Register what happens to a single instance under an action."""

    def register(act: Callable[[Site, Asked, Thing], None]) -> Callable[[Site, Asked, Thing], None]:
        def respond(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
            asked = asked_of(request)
            act(site, asked, instance(site, request, asked.text("InstanceId", required=True)))
            return answer(site)

        def respond_to_many(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
            asked = asked_of(request)
            region_of(asked)
            things = [instance(site, request, id) for id in asked.texts("InstanceId")]
            done: list[JsonValue] = []
            for thing in things:
                before = status(site, thing)
                act(site, asked, thing)
                done.append(
                    {
                        "InstanceId": thing.id,
                        "Code": "200",
                        "Message": "success",
                        "PreviousStatus": before,
                        "CurrentStatus": status(site, thing),
                    }
                )
            return answer(site, InstanceResponses={"InstanceResponse": done})

        action(ROUTES, name)(respond)
        action(ROUTES, f"{name}s")(respond_to_many)
        return act

    return register


@action(ROUTES, "RunInstances")
def run(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    asked = asked_of(request)
    token = asked.text("ClientToken")
    if (made := _made_before(site, request, asked, token)) is not None:
        return answer(site, InstanceIdSets={"InstanceIdSet": made})
    region, sold, zone = read_order(site, request, asked)
    body, hidden = new_instance(site, request, asked, region, zone)
    amount = max(1, asked.number("Amount", 1))
    if len(site.things(NODE, request.account)) + amount > site.count("instance_limit"):
        raise Refused(403, "QuotaExceed.ElasticQuota", "No additional quota is available for the specified ECS type.")
    if asked.flag("DryRun"):
        raise Refused(400, "DryRunOperation", "Request validation has been passed with DryRun flag set.")
    shelf = site.shelf(sold.shelf, region)
    if shelf.available is not None and 0 < shelf.available < amount:
        raise Refused(403, "OperationDenied.NoStock", "The requested resource is sold out in the specified zone.")
    ids_made: list[str] = []
    for _ in range(amount):
        take(site, sold, region, zone)
        id = f"i-{site.digits(20, 'abcdefghijklmnopqrstuvwxyz0123456789')}"
        is_spot = body["SpotStrategy"] != "NoSpot"
        hourly = catalog.spot_price(site, sold, region) if is_spot else catalog.price(site, sold, region)
        name = asked.text("InstanceName") or id
        thing = site.add(NODE, id, request.account, dict(body), name=name, price=hourly, hidden=dict(hidden))
        reach(site, thing)
        ids_made.append(id)
    if token:
        _tokens(site, request)[token] = (_said(asked), ids_made)
    return answer(site, InstanceIdSets={"InstanceIdSet": list[JsonValue](ids_made)})


@action(ROUTES, "DescribeInstances")
def describe(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    asked = asked_of(request)
    region = region_of(asked)
    if asked.flag("DryRun"):
        if site.knob("permitted") is not True:
            raise Refused(403, "Forbidden.RAM", "User not authorized to operate on the specified resource.")
        raise Refused(400, "DryRunOperation", "Request validation has been passed with DryRun flag set.")
    found = [
        thing
        for thing in _visible(site, request, asked.array("InstanceIds"))
        if thing.body["RegionId"] == region and _passes(site, asked, thing)
    ]
    if asked.text("PageNumber"):
        return pages_by_number(site, asked, found, "Instances", "Instance", lambda thing: show(site, thing), most=100)
    return pages_by_token(site, asked, found, "Instance", lambda thing: show(site, thing), TotalCount=len(found))


@action(ROUTES, "DescribeInstanceStatus")
def describe_status(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    asked = asked_of(request)
    region, wanted = region_of(asked), asked.texts("InstanceId")
    found = [thing for thing in _visible(site, request, wanted or None) if thing.body["RegionId"] == region]
    return pages_by_number(
        site,
        asked,
        found,
        "InstanceStatuses",
        "InstanceStatus",
        lambda thing: {"InstanceId": thing.id, "Status": status(site, thing)},
    )


@acts("StartInstance")
def start_instance(site: Site, asked: Asked, thing: Thing) -> None:
    _must_be(site, thing, "Stopped")
    start(site, thing)


@acts("StopInstance")
def stop_instance(site: Site, asked: Asked, thing: Thing) -> None:
    _must_be(site, thing, "Running")
    mode = asked.text("StoppedMode") or str(site.knob("default_stopped_mode"))
    if mode not in ("StopCharging", "KeepCharging"):
        raise unfit("StoppedMode")
    stop(site, thing, mode)


@acts("DeleteInstance")
def delete_instance(site: Site, asked: Asked, thing: Thing) -> None:
    if thing.hidden.get("is_protected"):
        raise Refused(403, "InvalidOperation.DeletionProtection", "The operation is not allowed: deletion protection.")
    state = status(site, thing)
    if state in ("Pending", "Starting", "Stopping") or (state == "Running" and not asked.flag("Force")):
        raise unready()
    thing.hidden["is_leaving"] = True
    release(site, thing)


@acts("RebootInstance")
def reboot_instance(site: Site, asked: Asked, thing: Thing) -> None:
    _must_be(site, thing, "Running")


@acts("ModifyInstanceAttribute")
def modify(site: Site, asked: Asked, thing: Thing) -> None:
    if name := asked.text("InstanceName"):
        site.rename(thing, name)
    thing.hidden["is_protected"] = asked.flag("DeletionProtection", thing.hidden.get("is_protected") is True)
    for field in ("Description", "HostName"):
        if text := asked.text(field):
            thing.body[field] = text


@action(ROUTES, "TagResources")
def tag(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    asked = asked_of(request)
    for thing in _resources(site, request, asked):
        tags = _tags(thing)
        tags.update(asked.tags())
        if len(tags) > 20:
            raise Refused(400, "NumberExceed.Tags", "The maximum number of tags is exceeded.")
    return answer(site)


@action(ROUTES, "UntagResources")
def untag(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    asked = asked_of(request)
    for thing in _resources(site, request, asked):
        tags = _tags(thing)
        for key in list(tags) if asked.flag("All") else asked.texts("TagKey"):
            tags.pop(key, None)
    return answer(site)


@action(ROUTES, "GetInstanceConsoleOutput")
def console(site: Site, request: Request, ids: Mapping[str, str]) -> Response:
    asked = asked_of(request)
    region_of(asked)
    thing = instance(site, request, asked.text("InstanceId", required=True))
    if status(site, thing) != "Running":
        raise unready(405)
    text = f"[    0.000000] Linux version 5.15.0\n[    2.100000] cloud-init: {thing.name}\nlogin:\n"
    output = base64.b64encode(text.encode()).decode()
    return answer(site, InstanceId=thing.id, ConsoleOutput=output, LastUpdateTime=f"{site.now:%Y-%m-%d %H:%M:%S}")


def instance(site: Site, request: Request, id: str) -> Thing:
    """Raises Refused for one that is not there, or just leaving."""
    sweep(site, request.account)
    if _leaving(site, request, id):
        raise unready()
    thing = site.thing(NODE, id, request.account)
    if thing is None:
        raise Refused(404, "InvalidInstanceId.NotFound", "The specified InstanceId does not exist.")
    return thing


def _made_before(site: Site, request: Request, asked: Asked, token: str) -> JsonValue:
    """What the same token made; None for a new one. Raises Refused where it came with something else."""
    known = _tokens(site, request).get(token) if token else None
    if known is None:
        return None
    parameters, made = known
    if parameters != _said(asked):
        raise Refused(
            400, "IdempotentParameterMismatch", "The request uses the same client token with other parameters."
        )
    return list[JsonValue](made)


def _said(asked: Asked) -> dict[str, str]:
    """The parameters without what differs from one signing to the next."""
    return {name: value for name, value in asked.all.items() if name not in VERSION_1}


def _tokens(site: Site, request: Request) -> dict[str, tuple[dict[str, str], list[str]]]:
    drawer = site.world.drawers.setdefault(("alibaba tokens", request.account), {})
    assert isinstance(drawer, dict)
    return drawer


def _visible(site: Site, request: Request, ids: list[str] | None) -> list[Thing]:
    """What may be seen: everything, or those of `ids`, and what is leaving for a while longer."""
    if site.knob("permitted") is not True:
        return []
    sweep(site, request.account)
    if ids is not None:
        found = [site.thing(NODE, id, request.account) or _leaving(site, request, id) for id in ids]
        return [thing for thing in found if thing is not None]
    leaving = (_leaving(site, request, id) for id in site.world.gone[site.type.name, NODE])
    return [*site.listed(NODE, request.account), *(thing for thing in leaving if thing is not None)]


def _leaving(site: Site, request: Request, id: str) -> Thing | None:
    """One that was deleted just now, and is shown as stopping for a while."""
    found = site.gone(NODE, id, request.account, site.seconds("leave_seconds"))
    return found if found is not None and found.hidden.get("is_leaving") else None


def _passes(site: Site, asked: Asked, thing: Thing) -> bool:
    pattern = re.escape(asked.text("InstanceName")).replace(r"\*", ".*")
    fields = ("ZoneId", "InstanceType", "KeyPairName", "SpotStrategy")
    tags = _tags(thing)
    return (
        (not pattern or re.fullmatch(pattern, thing.name) is not None)
        and asked.text("Status") in ("", status(site, thing))
        and all(asked.text(field) in ("", thing.body[field]) for field in fields)
        and all(key in tags and value in ("", tags[key]) for key, value in asked.tags().items())
    )


def _must_be(site: Site, thing: Thing, *states: str) -> None:
    if status(site, thing) not in states:
        raise unready()


def unready(status: int = 403) -> Refused:
    return Refused(status, "IncorrectInstanceStatus", "The current status of the resource does not support this.")


def _resources(site: Site, request: Request, asked: Asked) -> list[Thing]:
    region_of(asked)
    if asked.text("ResourceType", required=True) != "instance":
        raise unfit("ResourceType")
    return [instance(site, request, id) for id in asked.texts("ResourceId")]


def _tags(thing: Thing) -> Json:
    tags = thing.hidden["tags"]
    assert isinstance(tags, dict)
    return tags


def _gate(site: Site, request: Request) -> None:
    """Raises Refused for a wrong proof, and for an action that is asked of another product than its own."""
    check(site, request)
    version = request.headers.get("x-acs-version") or parameters(request).get("Version")
    if version != OTHER_PRODUCTS.get(action_of(request), VERSION):
        raise Refused(400, "InvalidVersion", "Specified parameter Version is not valid.")


EMULATOR = EmulatorType(
    name="alibaba",
    title="Alibaba Cloud ECS",
    routes=ROUTES.merged(COMPANIONS),
    error=error,
    key=key_of,
    asked=action_of,
    knobs=KNOBS,
    rate_limit=RateLimit(requests=100, per_seconds=1.0),
    status=lambda site, thing: status(site, thing) if thing.kind == NODE else "Available",
    bill=bill,
    is_up=lambda site, thing: thing.kind == NODE and status(site, thing) == "Running",
    stop=stop,
    break_down=lambda site, thing: lock(site, thing, "security"),
    preempt=preempt,
    gate=_gate,
)
