"""Lambda Cloud API besides instances: keys, filesystems, firewalls, and what there is to rent."""

import re
from collections.abc import Mapping, Sequence
from ipaddress import AddressValueError, IPv4Network, NetmaskValueError

from gpuplan.core.values import JsonValue
from gpuplan.emulators import lambdalabs_catalog as catalog
from gpuplan.emulators.http import Json, Request, Response, Routes
from gpuplan.emulators.lambdalabs_answers import Refused, found, missing, objects, text, texts, wrong
from gpuplan.emulators.site import Site
from gpuplan.emulators.world import Thing

NODE, KEY, FILESYSTEM, RULESET, GLOBAL = "node", "ssh_key", "volume", "network", "firewall"
FILESYSTEM_NAME, FILESYSTEM_LENGTH = r"^[a-zA-Z]+[0-9a-zA-Z-]*$", 60
MOUNT, MOUNT_LENGTH = r"^(/home|/lambda/nfs|/data)[//a-zA-Z0-9-]*$", 256
PROTOCOLS = ("tcp", "udp", "icmp", "all")
FILESYSTEMS_PER_ACCOUNT, RULESETS_PER_ACCOUNT = 24, 100
DEFAULT_RULES: tuple[Json, ...] = (
    {"protocol": "tcp", "port_range": [22, 22], "source_network": "0.0.0.0/0", "description": "Allow SSH"},
    {"protocol": "icmp", "source_network": "0.0.0.0/0", "description": "Allow ICMP"},
)
COMPANIONS = Routes()

Ids = Mapping[str, str]


def key_text(site: Site, account: str, name: str) -> str:
    """The public key of that name. Raises Refused."""
    key = site.named(KEY, name, account)
    if key is None:
        raise missing(f"SSH key {name}")
    return str(key.body["public_key"])


def filesystem_mounts(site: Site, account: str, body: Json, region: str) -> list[Json]:
    """What a launch mounts where: by name at the usual place, or by id at a place of its own. Raises Refused."""
    places: dict[str, str] = {}
    by_name = {thing.name: thing for thing in site.things(FILESYSTEM, account)}
    for name in texts(body, "file_system_names"):
        if name not in by_name:
            raise missing(f"Filesystem {name}")
        places[by_name[name].id] = str(by_name[name].body["mount_point"])
    for entry in objects(body, "file_system_mounts"):
        id = text(entry, "file_system_id", required=True)
        places[id] = text(entry, "mount_point", limit=MOUNT_LENGTH, pattern=MOUNT, required=True)
    mounts: list[Json] = []
    for id, place in places.items():
        thing = site.thing(FILESYSTEM, id, account)
        if thing is None:
            raise missing(f"Filesystem {id}")
        if thing.hidden["region"] != region:
            code = "instance-operations/launch/file-system-in-wrong-region"
            raise Refused(400, code, f"Filesystem {thing.name} is not in region {region}.")
        mounts.append({"file_system_id": id, "mount_point": place, "name": thing.name})
    return mounts


def rulesets_of(site: Site, account: str, body: Json, region: str) -> list[str]:
    """The firewall rulesets of a launch, all in its region. Raises Refused."""
    ids = [text(entry, "id", required=True) for entry in objects(body, "firewall_rulesets")]
    for id in ids:
        if _own(site, RULESET, id, account).hidden["region"] != region:
            raise wrong(f"Firewall ruleset {id} is not in region {region}.")
    return ids


@COMPANIONS.on("GET", "/api/v1/instance-types")
def instance_types(site: Site, request: Request, ids: Ids) -> Response:
    return found({type.name: catalog.show_offer(site, type) for type in catalog.TYPES.values()})


@COMPANIONS.on("GET", "/api/v1/regions")
def regions(site: Site, request: Request, ids: Ids) -> Response:
    return found([catalog.show_region(region) for region in catalog.REGIONS])


@COMPANIONS.on("GET", "/api/v1/images")
def images(site: Site, request: Request, ids: Ids) -> Response:
    return found(list[JsonValue](catalog.images()))


@COMPANIONS.on("GET", "/api/v1/ssh-keys")
def list_keys(site: Site, request: Request, ids: Ids) -> Response:
    return found([_shown(key) for key in site.listed(KEY, request.account)])


@COMPANIONS.on("POST", "/api/v1/ssh-keys")
def create_key(site: Site, request: Request, ids: Ids) -> Response:
    """Without a public key it makes a pair, and shows the private one this once."""
    body = request.json()
    name, public = text(body, "name", limit=64, required=True), text(body, "public_key", limit=4096).strip()
    if public and not public.startswith(("ssh-", "ecdsa-", "sk-")):
        raise wrong("public_key: not a valid public key")
    if site.knob("keys_are_unique") is True and site.named(KEY, name, request.account):
        raise Refused(400, "global/duplicate", f"An SSH key named {name} already exists.")
    made = public or f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA{site.digits(44)} {name}"
    thing = site.add(KEY, _id(site), request.account, {"name": name, "public_key": made}, name=name)
    pair: Json = {"private_key": f"-----BEGIN OPENSSH PRIVATE KEY-----\n{site.digits(64)}\n"}
    return found(_shown(thing) if public else {**_shown(thing), **pair})


@COMPANIONS.on("DELETE", "/api/v1/ssh-keys/{id}")
def delete_key(site: Site, request: Request, ids: Ids) -> Response:
    thing = site.thing(KEY, ids["id"], request.account)
    if thing is None:
        raise Refused(404, "global/not-found", "The requested resource was not found.")
    site.remove(thing)
    return found({})


@COMPANIONS.on("GET", "/api/v1/file-systems")
def list_filesystems(site: Site, request: Request, ids: Ids) -> Response:
    return found([show_filesystem(site, thing) for thing in site.listed(FILESYSTEM, request.account)])


@COMPANIONS.on("POST", "/api/v1/filesystems")
def create_filesystem(site: Site, request: Request, ids: Ids) -> Response:
    body = request.json()
    name = text(body, "name", limit=FILESYSTEM_LENGTH, pattern=FILESYSTEM_NAME, required=True)
    region = text(body, "region", required=True)
    if region not in catalog.REGIONS:
        raise wrong(f"region: {region} is not a region")
    if site.named(FILESYSTEM, name, request.account):
        raise Refused(400, "global/duplicate", f"A filesystem named {name} already exists.")
    if len(site.things(FILESYSTEM, request.account)) >= FILESYSTEMS_PER_ACCOUNT:
        raise Refused(400, "global/quota-exceeded", "Quota exceeded.")
    shown: Json = {"name": name, "mount_point": f"/lambda/nfs/{name}", "bytes_used": 0}
    thing = site.add(FILESYSTEM, _id(site), request.account, shown, name=name, hidden={"region": region})
    return found(show_filesystem(site, thing))


@COMPANIONS.on("DELETE", "/api/v1/filesystems/{id}")
def delete_filesystem(site: Site, request: Request, ids: Ids) -> Response:
    thing = _own(site, FILESYSTEM, ids["id"], request.account)
    if _users(site, thing, "mounts"):
        raise Refused(400, "filesystems/filesystem-in-use", f"Filesystem {thing.name} is in use.")
    site.remove(thing)
    return found({"deleted_ids": [thing.id]})


@COMPANIONS.on("GET", "/api/v1/firewall-rulesets")
def list_rulesets(site: Site, request: Request, ids: Ids) -> Response:
    return found([show_ruleset(site, thing) for thing in site.listed(RULESET, request.account)])


@COMPANIONS.on("POST", "/api/v1/firewall-rulesets")
def create_ruleset(site: Site, request: Request, ids: Ids) -> Response:
    body = request.json()
    name, region = text(body, "name", limit=64, required=True), text(body, "region", required=True)
    if region not in catalog.REGIONS:
        raise wrong(f"region: {region} is not a region")
    if len(site.things(RULESET, request.account)) >= RULESETS_PER_ACCOUNT:
        raise Refused(400, "global/quota-exceeded", "Quota exceeded.")
    shown: Json = {"name": name, "rules": _rules(body, "rules")}
    thing = site.add(RULESET, _id(site), request.account, shown, name=name, hidden={"region": region})
    return found(show_ruleset(site, thing))


@COMPANIONS.on("GET", "/api/v1/firewall-rulesets/global")
def get_global(site: Site, request: Request, ids: Ids) -> Response:
    return found(_global(site, request.account).body)


@COMPANIONS.on("PATCH", "/api/v1/firewall-rulesets/global")
def update_global(site: Site, request: Request, ids: Ids) -> Response:
    ruleset, body = _global(site, request.account), request.json()
    if body.get("rules") is not None:
        ruleset.body["rules"] = _rules(body, "rules")
    return found(ruleset.body)


@COMPANIONS.on("GET", "/api/v1/firewall-rulesets/{id}")
def get_ruleset(site: Site, request: Request, ids: Ids) -> Response:
    return found(show_ruleset(site, _own(site, RULESET, ids["id"], request.account)))


@COMPANIONS.on("PATCH", "/api/v1/firewall-rulesets/{id}")
def update_ruleset(site: Site, request: Request, ids: Ids) -> Response:
    thing, body = _own(site, RULESET, ids["id"], request.account), request.json()
    if name := text(body, "name", limit=64):
        thing.body["name"] = name
        site.rename(thing, name)
    if body.get("rules") is not None:
        thing.body["rules"] = _rules(body, "rules")
    return found(show_ruleset(site, thing))


@COMPANIONS.on("DELETE", "/api/v1/firewall-rulesets/{id}")
def delete_ruleset(site: Site, request: Request, ids: Ids) -> Response:
    thing = _own(site, RULESET, ids["id"], request.account)
    if _users(site, thing, "rulesets"):
        message = "Firewall ruleset is in use by one or more instances."
        raise Refused(400, "firewall-rulesets/firewall-ruleset-in-use", message)
    site.remove(thing)
    return found({})


@COMPANIONS.on("GET", "/api/v1/firewall-rules")
def list_rules(site: Site, request: Request, ids: Ids) -> Response:
    return found(_global(site, request.account).body["rules"])


@COMPANIONS.on("PUT", "/api/v1/firewall-rules")
def put_rules(site: Site, request: Request, ids: Ids) -> Response:
    """Replaces the rules of the whole account."""
    rules = _rules(request.json(), "data")
    _global(site, request.account).body["rules"] = rules
    return found(rules)


def show_filesystem(site: Site, thing: Thing) -> Json:
    email = f"{thing.account}@emulator.example"
    return {
        **_shown(thing),
        "created": thing.created_at.isoformat(timespec="seconds"),
        "created_by": {"id": "3da5a70a57a7422ea8a7203f98b2198c", "email": email, "status": "active"},
        "is_in_use": bool(_users(site, thing, "mounts")),
        "region": catalog.show_region(str(thing.hidden["region"])),
    }


def show_ruleset(site: Site, thing: Thing) -> Json:
    return {
        **_shown(thing),
        "created": thing.created_at.isoformat(timespec="seconds"),
        "region": catalog.show_region(str(thing.hidden["region"])),
        "instance_ids": list[JsonValue](_users(site, thing, "rulesets")),
    }


def _shown(thing: Thing) -> Json:
    return {"id": thing.id, **thing.body}


def _id(site: Site) -> str:
    return site.uuid().replace("-", "")


def _own(site: Site, kind: str, id: str, account: str) -> Thing:
    thing = site.thing(kind, id, account)
    if thing is None:
        raise missing("Filesystem" if kind == FILESYSTEM else "Firewall ruleset")
    return thing


def _users(site: Site, thing: Thing, held: str) -> Sequence[str]:
    """Ids of the instances that use a filesystem (`mounts`) or a ruleset (`rulesets`), those on their way out too."""
    leaving = [
        machine
        for machine in site.world.gone[site.type.name, NODE].values()
        if site.gone(NODE, machine.id, thing.account, site.seconds("terminate_seconds"))
    ]
    machines = [*site.things(NODE, thing.account), *leaving]
    return [machine.id for machine in machines if thing.id in _held(machine.hidden[held])]


def _held(value: JsonValue) -> list[JsonValue]:
    items = value if isinstance(value, list) else []
    return [item["file_system_id"] if isinstance(item, Mapping) else item for item in items]


def _global(site: Site, account: str) -> Thing:
    """The ruleset of the whole account; every account has one."""
    for thing in site.things(GLOBAL, account):
        return thing
    rules: JsonValue = [dict(rule) for rule in DEFAULT_RULES]
    shown: Json = {"id": "global", "name": "Global Firewall Rules", "rules": rules}
    return site.add(GLOBAL, f"global-{account}", account, shown, name="global")


def _rules(body: Json, name: str) -> list[JsonValue]:
    if body.get(name) is None:
        raise wrong(f"{name}: Field required")
    return [_rule(rule) for rule in objects(body, name)]


def _rule(rule: Json) -> Json:
    """A rule as it is kept. Raises Refused."""
    protocol, source = text(rule, "protocol", required=True), text(rule, "source_network", required=True)
    if protocol not in PROTOCOLS:
        raise wrong(f"protocol: Input should be {', '.join(PROTOCOLS)}")
    try:
        network = IPv4Network(source)
    except (AddressValueError, NetmaskValueError, ValueError) as exc:
        raise wrong(f"source_network: {source} is not an IPv4 network") from exc
    kept: Json = {
        "protocol": protocol,
        "source_network": str(network),
        "description": text(rule, "description", limit=128),
    }
    ports = rule.get("port_range")
    if (ports is None) is not (protocol == "icmp"):
        raise wrong("port_range: required for every protocol but icmp, and forbidden for that")
    if ports is not None:
        if not _is_range(ports):
            raise wrong("port_range: Input should be two ports from 1 to 65535")
        kept["port_range"] = ports
    return kept


def _is_range(ports: JsonValue) -> bool:
    return (
        isinstance(ports, list)
        and len(ports) == 2
        and all(re.fullmatch(r"\d{1,5}", str(port)) and 1 <= int(str(port)) <= 65535 for port in ports)
        and int(str(ports[0])) <= int(str(ports[1]))
    )
