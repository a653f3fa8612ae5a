"""Vultr API v2 besides machines: keys, scripts, block storage, VPCs, firewalls, and what there is to buy."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal

from gpuplan.core.values import JsonValue
from gpuplan.emulators import vultr_catalog as catalog
from gpuplan.emulators.http import Json, Request, Response, Routes
from gpuplan.emulators.site import Site
from gpuplan.emulators.vultr_answers import Refused, body_of, flag, number, page, text
from gpuplan.emulators.world import Thing

KEY, SCRIPT, BLOCK, VPC, FIREWALL = "ssh_key", "startup_script", "volume", "network", "firewall"
SIZES = {"high_perf": (10, 10000), "storage_opt": (40, 40000)}
GB_MONTH = {"high_perf": Decimal("0.10"), "storage_opt": Decimal("0.025")}
VPCS_PER_REGION = 5
RULES_PER_GROUP = 50
COMPANIONS = Routes()

Ids = Mapping[str, str]


def key_texts(site: Site, account: str, ids: Sequence[str]) -> list[str]:
    """The public keys with these ids. Raises Refused."""
    return [str(_own(site, KEY, id, account, 400, "Invalid ssh key").body["ssh_key"]) for id in ids]


def vpcs_of(site: Site, account: str, ids: Sequence[str], region: str) -> list[str]:
    """The same ids, if all are VPCs of the region. Raises Refused."""
    for id in ids:
        if _own(site, VPC, id, account, 400, "Invalid VPC ID").body["region"] != region:
            raise Refused(400, "Invalid VPC ID")
    return list(ids)


def firewall_group(site: Site, account: str, id: str) -> str:
    """The same id, if there is such a group. Raises Refused."""
    return _own(site, FIREWALL, id, account, 400, "Invalid firewall group ID").id if id else ""


def detach_blocks(site: Site, machine: Thing) -> None:
    """Block storage comes off by itself when its machine is destroyed."""
    for block in site.things(BLOCK, machine.account):
        if block.body["attached_to_instance"] == machine.id:
            block.body["attached_to_instance"] = ""


@COMPANIONS.on("GET", "/v2/account")
def account(site: Site, request: Request, ids: Ids) -> Response:
    return Response(200, {"account": {"name": "Emulated Account", "email": f"{request.account}@emulator.example",
                                      "acls": ["manage_users", "subscriptions_view", "subscriptions", "provisioning"],
                                      "balance": -100.5, "pending_charges": 60.25,
                                      "last_payment_date": "2026-10-01T06:00:00+00:00",
                                      "last_payment_amount": -1.25}})  # fmt: skip


@COMPANIONS.on("GET", "/v2/plans", is_open=True)
def plans(site: Site, request: Request, ids: Ids) -> Response:
    wanted = request.one("type")
    sold = [p for p in catalog.PLANS.values() if not p.is_metal and wanted in ("", "all", p.type)]
    return page(site, request, "plans", sold, lambda plan: catalog.show_plan(site, plan), lambda plan: plan.id)


@COMPANIONS.on("GET", "/v2/plans-metal", is_open=True)
def metal_plans(site: Site, request: Request, ids: Ids) -> Response:
    sold = [p for p in catalog.PLANS.values() if p.is_metal]
    return page(site, request, "plans_metal", sold, lambda plan: catalog.show_plan(site, plan), lambda plan: plan.id)


@COMPANIONS.on("GET", "/v2/regions", is_open=True)
def regions(site: Site, request: Request, ids: Ids) -> Response:
    return page(site, request, "regions", list(catalog.REGIONS), catalog.show_region, str)


@COMPANIONS.on("GET", "/v2/regions/{id}/availability", is_open=True)
def availability(site: Site, request: Request, ids: Ids) -> Response:
    region, wanted = ids["id"], request.one("type")
    if region not in catalog.REGIONS:
        raise Refused(404, "Invalid region.")
    available = [
        plan.id
        for plan in catalog.PLANS.values()
        if catalog.is_available(site, plan, region) and wanted in ("", "all", plan.type)
    ]
    return Response(200, {"available_plans": list[JsonValue](available)})


@COMPANIONS.on("GET", "/v2/os", is_open=True)
def systems(site: Site, request: Request, ids: Ids) -> Response:
    return page(site, request, "os", list(catalog.SYSTEMS), catalog.show_system, str)


@COMPANIONS.on("GET", "/v2/applications", is_open=True)
def applications(site: Site, request: Request, ids: Ids) -> Response:
    wanted = request.one("type")
    found = [app for app in catalog.APPLICATIONS if wanted in ("", "all", app["type"])]
    return page(site, request, "applications", found, dict, lambda app: str(app["id"]))


@COMPANIONS.on("POST", "/v2/ssh-keys")
def create_key(site: Site, request: Request, ids: Ids) -> Response:
    body = body_of(request)
    name, key = text(body, "name"), text(body, "ssh_key").strip()
    if not name or not key.startswith(("ssh-", "ecdsa-", "sk-")):
        raise Refused(400, "Invalid ssh key")
    return _created(site, request, KEY, "ssh_key", 201, {"name": name, "ssh_key": key}, name=name)


@COMPANIONS.on("POST", "/v2/startup-scripts")
def create_script(site: Site, request: Request, ids: Ids) -> Response:
    body = body_of(request)
    kind = text(body, "type") or "boot"
    if kind not in ("boot", "pxe") or not text(body, "name") or not text(body, "script"):
        raise Refused(400, "Invalid startup script")
    fields: Json = {
        "name": text(body, "name"),
        "type": kind,
        "script": text(body, "script"),
        "date_modified": _date(site),
    }
    return _created(site, request, SCRIPT, "startup_script", 201, fields, name=text(body, "name"))


@COMPANIONS.on("POST", "/v2/blocks")
def create_block(site: Site, request: Request, ids: Ids) -> Response:
    body = body_of(request)
    region, kind, size = text(body, "region"), text(body, "block_type") or "high_perf", number(body, "size_gb")
    if region not in catalog.REGIONS:
        raise Refused(400, "Invalid region.")
    if kind not in SIZES or not SIZES[kind][0] <= size <= SIZES[kind][1]:
        raise Refused(400, "Invalid size_gb.")
    monthly = GB_MONTH[kind] * size
    fields: Json = {
        "cost": round(monthly),
        "size_gb": size,
        "region": region,
        "attached_to_instance": "",
        "label": text(body, "label"),
        "mount_id": f"{region}-{site.digits(14)}",
        "block_type": kind,
    }
    return _created(
        site, request, BLOCK, "block", 202, fields, name=text(body, "label"), price=monthly / 672, show=show_block
    )


@COMPANIONS.on("PATCH", "/v2/blocks/{id}")
def update_block(site: Site, request: Request, ids: Ids) -> Response:
    block, body = _own(site, BLOCK, ids["id"], request.account, 404, "Invalid block storage ID"), body_of(request)
    if label := text(body, "label"):
        block.body["label"] = label
        site.rename(block, label)
    if size := number(body, "size_gb"):
        if size < int(str(block.body["size_gb"])):
            raise Refused(400, "Block storage can only be increased in size")
        monthly = GB_MONTH[str(block.body["block_type"])] * size
        block.body |= {"size_gb": size, "cost": round(monthly)}
        block.prices.append((site.now, monthly / 672))
    return Response(204)


@COMPANIONS.on("POST", "/v2/blocks/{id}/attach")
def attach_block(site: Site, request: Request, ids: Ids) -> Response:
    block, body = _own(site, BLOCK, ids["id"], request.account, 404, "Invalid block storage ID"), body_of(request)
    flag(body, "live")
    machine = site.thing("node", text(body, "instance_id"), request.account)
    if machine is None or machine.body["region"] != block.body["region"]:
        raise Refused(400, "Invalid instance ID")
    if machine.age(site.now) < site.seconds("boot_seconds") or show_block(site, block)["status"] != "active":
        raise Refused(400, "Server is currently locked")
    if block.body["attached_to_instance"]:
        raise Refused(400, "Block storage is already attached to another server")
    block.body["attached_to_instance"] = machine.id
    return Response(204)


@COMPANIONS.on("POST", "/v2/blocks/{id}/detach")
def detach_block(site: Site, request: Request, ids: Ids) -> Response:
    block = _own(site, BLOCK, ids["id"], request.account, 404, "Invalid block storage ID")
    if not block.body["attached_to_instance"]:
        raise Refused(400, "Block storage is not currently attached to a server")
    block.body["attached_to_instance"] = ""
    return Response(204)


@COMPANIONS.on("POST", "/v2/vpcs")
def create_vpc(site: Site, request: Request, ids: Ids) -> Response:
    body = body_of(request)
    region = text(body, "region")
    if region not in catalog.REGIONS:
        raise Refused(400, "Invalid region.")
    if sum(vpc.body["region"] == region for vpc in site.things(VPC, request.account)) >= VPCS_PER_REGION:
        raise Refused(400, f"You have reached the maximum number of VPCs in this region: {VPCS_PER_REGION}")
    fields: Json = {
        "region": region,
        "description": text(body, "description"),
        "v4_subnet": text(body, "v4_subnet") or "10.1.96.0",
        "v4_subnet_mask": number(body, "v4_subnet_mask") or 20,
    }
    return _created(site, request, VPC, "vpc", 201, fields, name=text(body, "description"))


@COMPANIONS.on("DELETE", "/v2/vpcs/{id}")
def delete_vpc(site: Site, request: Request, ids: Ids) -> Response:
    vpc = _own(site, VPC, ids["id"], request.account, 404, "Invalid VPC ID")
    lag = timedelta(seconds=site.seconds("vpc_detach_seconds"))
    leaving = [
        m for m in site.world.gone[site.type.name, "node"].values() if m.deleted_at and site.now - m.deleted_at < lag
    ]
    users = [m for m in [*site.things("node", request.account), *leaving] if vpc.id in _vpcs(m)]
    if users:
        raise Refused(400, f"VPC is attached to {', '.join(str(m.hidden['address']) for m in users)}")
    site.remove(vpc)
    return Response(204)


@COMPANIONS.on("POST", "/v2/firewalls")
def create_group(site: Site, request: Request, ids: Ids) -> Response:
    description = text(body_of(request), "description")
    fields: Json = {"description": description, "date_modified": _date(site), "max_rule_count": RULES_PER_GROUP}
    return _created(
        site, request, FIREWALL, "firewall_group", 201, fields, name=description, hidden={"rules": []}, show=show_group
    )


@COMPANIONS.on("DELETE", "/v2/firewalls/{id}")
def delete_group(site: Site, request: Request, ids: Ids) -> Response:
    group = _own(site, FIREWALL, ids["id"], request.account, 404, "Invalid firewall group ID")
    if show_group(site, group)["instance_count"]:
        raise Refused(400, "This firewall group is in use by one or more servers")
    site.remove(group)
    return Response(204)


@COMPANIONS.on("GET", "/v2/firewalls/{id}/rules")
def list_rules(site: Site, request: Request, ids: Ids) -> Response:
    group = _own(site, FIREWALL, ids["id"], request.account, 404, "Invalid firewall group ID")
    return page(site, request, "firewall_rules", _rules(group), dict, lambda rule: str(rule["id"]))


@COMPANIONS.on("POST", "/v2/firewalls/{id}/rules")
def create_rule(site: Site, request: Request, ids: Ids) -> Response:
    group, body = _own(site, FIREWALL, ids["id"], request.account, 404, "Invalid firewall group ID"), body_of(request)
    rules = _rules(group)
    if text(body, "ip_type") not in ("v4", "v6") or not text(body, "subnet"):
        raise Refused(400, "Invalid subnet.")
    if text(body, "protocol").lower() not in ("tcp", "udp", "icmp", "gre", "esp", "ah"):
        raise Refused(400, "Invalid protocol.")
    if len(rules) >= RULES_PER_GROUP:
        raise Refused(400, f"This firewall group has reached the maximum number of rules: {RULES_PER_GROUP}")
    number_ = max((int(str(rule["id"])) for rule in rules), default=0) + 1
    rule: Json = {
        "id": number_,
        "type": text(body, "ip_type"),
        "ip_type": text(body, "ip_type"),
        "action": "accept",
        "protocol": text(body, "protocol").lower(),
        "port": text(body, "port"),
        "subnet": text(body, "subnet"),
        "subnet_size": number(body, "subnet_size"),
        "source": text(body, "source"),
        "notes": text(body, "notes"),
    }
    group.hidden["rules"] = [*rules, rule]
    return Response(201, {"firewall_rule": rule})


@COMPANIONS.on("DELETE", "/v2/firewalls/{id}/rules/{rule}")
def delete_rule(site: Site, request: Request, ids: Ids) -> Response:
    group = _own(site, FIREWALL, ids["id"], request.account, 404, "Invalid firewall group ID")
    rules = _rules(group)
    left = [rule for rule in rules if str(rule["id"]) != ids["rule"]]
    if len(left) == len(rules):
        raise Refused(404, "Invalid firewall rule ID")
    group.hidden["rules"] = list[JsonValue](left)
    return Response(204)


def show_plainly(site: Site, thing: Thing) -> Json:
    return {"id": thing.id, "date_created": thing.created_at.isoformat(timespec="seconds"), **thing.body}


def show_block(site: Site, block: Thing) -> Json:
    status = "active" if block.age(site.now) >= site.seconds("block_seconds") else "pending"
    return {**show_plainly(site, block), "status": status}


def show_group(site: Site, group: Thing) -> Json:
    users = [m for m in site.things("node", group.account) if m.body.get("firewall_group_id") == group.id]
    return {**show_plainly(site, group), "instance_count": len(users), "rule_count": len(_rules(group))}


def show_without_script(site: Site, script: Thing) -> Json:
    return {name: value for name, value in show_plainly(site, script).items() if name != "script"}


Show = Callable[[Site, Thing], Json]


def _offer_collection(
    path: str,
    kind: str,
    one: str,
    many: str,
    missing: str,
    *,
    show: Show = show_plainly,
    show_in_list: Show | None = None,
    change: tuple[str, tuple[str, ...]] | None = None,
    deletable: bool = True,
) -> None:
    """The calls that are alike for every companion: list, get, delete, and a change of texts."""
    shown = show_in_list or show

    @COMPANIONS.on("GET", path)
    def list_all(site: Site, request: Request, ids: Ids) -> Response:
        things = site.listed(kind, request.account)
        return page(site, request, many, things, lambda thing: shown(site, thing), lambda thing: thing.id)

    @COMPANIONS.on("GET", f"{path}/{{id}}")
    def get(site: Site, request: Request, ids: Ids) -> Response:
        return Response(200, {one: show(site, _own(site, kind, ids["id"], request.account, 404, missing))})

    if deletable:

        @COMPANIONS.on("DELETE", f"{path}/{{id}}")
        def delete(site: Site, request: Request, ids: Ids) -> Response:
            thing = _own(site, kind, ids["id"], request.account, 404, missing)
            if thing.body.get("attached_to_instance"):
                raise Refused(400, "Block storage is attached to a server")
            site.remove(thing)
            return Response(204)

    if change:

        @COMPANIONS.on(change[0], f"{path}/{{id}}")
        def update(site: Site, request: Request, ids: Ids) -> Response:
            thing, body = _own(site, kind, ids["id"], request.account, 404, missing), body_of(request)
            for name in change[1]:
                if value := text(body, name):
                    thing.body[name] = value
            return Response(204)


_offer_collection("/v2/ssh-keys", KEY, "ssh_key", "ssh_keys", "Invalid SSH Key", change=("PATCH", ("name", "ssh_key")))
_offer_collection(
    "/v2/startup-scripts", SCRIPT, "startup_script", "startup_scripts", "Invalid startup script ID",
    show_in_list=show_without_script, change=("PATCH", ("name", "script", "type")),
)  # fmt: skip
_offer_collection("/v2/blocks", BLOCK, "block", "blocks", "Invalid block storage ID", show=show_block)
_offer_collection(
    "/v2/vpcs", VPC, "vpc", "vpcs", "Invalid VPC ID", change=("PUT", ("description",)), deletable=False
)  # fmt: skip
_offer_collection(
    "/v2/firewalls", FIREWALL, "firewall_group", "firewall_groups", "Invalid firewall group ID",
    show=show_group, change=("PUT", ("description",)), deletable=False,
)  # fmt: skip


def _created(
    site: Site,
    request: Request,
    kind: str,
    envelope: str,
    status: int,
    fields: Json,
    *,
    name: str,
    price: Decimal | None = None,
    hidden: Json | None = None,
    show: Show = show_plainly,
) -> Response:
    thing = site.add(kind, site.uuid(), request.account, fields, name=name, price=price, hidden=hidden)
    return Response(status, {envelope: show(site, thing)})


def _own(site: Site, kind: str, id: str, account: str, status: int, missing: str) -> Thing:
    thing = site.thing(kind, id, account)
    if thing is None:
        raise Refused(status, missing)
    return thing


def _rules(group: Thing) -> list[Json]:
    rules = group.hidden["rules"]
    return [dict(rule) for rule in rules if isinstance(rule, Mapping)] if isinstance(rules, list) else []


def _vpcs(machine: Thing) -> Sequence[JsonValue]:
    attached = machine.hidden["vpcs"]
    return attached if isinstance(attached, list) else []


def _date(site: Site) -> str:
    return site.now.isoformat(timespec="seconds")
