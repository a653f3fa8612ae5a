"""What is asked of Hetzner: the bodies of requests. Pure; `hetzner` sends them."""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field

from gpuplan.core.kinds import NetworkAttrs, NodeAttrs, SshKeyAttrs, VolumeAttrs, plain
from gpuplan.core.marks import Mark
from gpuplan.core.ports import Want
from gpuplan.core.values import JsonValue, Ref
from gpuplan.net.cloud_init import first_boot
from gpuplan.net.marks import PREFIX, to_labels
from gpuplan.providers.hetzner_wire import Body, Server, to_rule

FIREWALL = "firewalls/"
"""In front of the remote id of a firewall; that of a private network has nothing there."""
DEFAULT_IMAGE = "ubuntu-24.04"
DEFAULT_CIDR = "10.0.0.0/16"
DEFAULT_ZONE = "eu-central"
DEVICE = "/dev/disk/by-id/scsi-0HC_Volume_{id}"
KEEP_PASSWORD: Mapping[str, JsonValue] = {"chpasswd": {"expire": False}}
"""A server without a registered key gets a password that has expired: it would ask for another at the first login,
with a key too, and keep every script waiting."""


class NodeOptions(BaseModel):
    """`options:` of a cluster at Hetzner, in Hetzner's words."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enable_ipv4: bool = True
    enable_ipv6: bool = True
    primary_ipv4: int | None = Field(None, description="id of a primary IP of the project")
    primary_ipv6: int | None = Field(None, description="id of a primary IP of the project")
    placement_group: int | None = Field(None, description="id of a placement group: its servers share no host")


def to_server(want: Want, mark: Mark) -> Body:
    """Raises ValueError for a reference that can be no id, and for a server that nothing could reach."""
    asked = NodeAttrs.of(want.attrs)
    server_type = want.offer.ref if want.offer else asked.instance_type
    location = want.offer.region if want.offer else asked.region
    if server_type is None:
        raise ValueError("without an offer it needs `instance_type`")
    options = NodeOptions.model_validate(asked.options)
    networks, firewalls = split_networks(asked.networks)
    if not (options.enable_ipv4 or options.enable_ipv6 or networks):
        raise ValueError("a server without a public address needs a private network")
    body: Body = {
        "name": want.name,
        "server_type": server_type,
        "image": asked.image or DEFAULT_IMAGE,
        "ssh_keys": _registered(asked),
        "labels": {**asked.labels, **to_labels(mark)},
        "volumes": [number(id) for id in ids_of(mount.volume for mount in asked.volumes)],
        "automount": False,
        "networks": list[JsonValue](networks),
        "firewalls": [{"firewall": id} for id in firewalls],
        "start_after_create": True,
        "public_net": {
            "enable_ipv4": options.enable_ipv4,
            "enable_ipv6": options.enable_ipv6,
            **({"ipv4": options.primary_ipv4} if options.primary_ipv4 else {}),
            **({"ipv6": options.primary_ipv6} if options.primary_ipv6 else {}),
        },
    }
    optional: Body = {
        "location": location,
        "placement_group": options.placement_group,
        "user_data": _user_data(asked),
    }
    return {**body, **{name: value for name, value in optional.items() if value is not None}}


def to_key(want: Want, mark: Mark) -> Body:
    return {"public_key": SshKeyAttrs.of(want.attrs).public_key, **_named(want, mark)}


def to_volume(want: Want, mark: Mark) -> Body:
    asked = VolumeAttrs.of(want.attrs)
    return {"size": asked.size_gb, "location": asked.region, **_named(want, mark)}


def to_network(want: Want, mark: Mark, zone: str) -> Body:
    """A private network whose one subnet takes all of it: servers attach only where their zone has one."""
    cidr = NetworkAttrs.of(want.attrs).cidr or DEFAULT_CIDR
    subnet: Body = {"type": "cloud", "ip_range": cidr, "network_zone": zone}
    return {"ip_range": cidr, "subnets": [subnet], **_named(want, mark)}


def to_firewall(want: Want, mark: Mark) -> Body:
    """Raises ValueError for a rule whose `from` is no network, and for what only private networks have."""
    asked = NetworkAttrs.of(want.attrs)
    if asked.cidr or asked.region:
        raise ValueError("`rules` make it a firewall, which has neither `cidr` nor `region`: declare two networks")
    return {**to_rules(want), **_named(want, mark)}


def to_rules(want: Want) -> Body:
    return {"rules": [to_rule(rule) for rule in NetworkAttrs.of(want.attrs).rules]}


def to_label_map(present: Mapping[str, str], labels: Mapping[str, str]) -> Body:
    """All labels an object is to have, since setting one sets all: the mark stays."""
    return {"labels": {**labels, **{name: value for name, value in present.items() if name.startswith(PREFIX)}}}


def network_steps(server: Server, wanted: Sequence[Ref | str]) -> list[tuple[str, str, Body]]:
    """Route, id and body of every call that gives a server the networks and firewalls it is to have.

    Among them is the removal of firewalls that may be there by a label selector.
    """
    networks, firewalls = split_networks(wanted)
    attached = {number(each.network) for each in server.private_net}
    applied = {number(each.id) for each in server.public_net.firewalls}
    target: JsonValue = [{"type": "server", "server": {"id": number(server.id)}}]
    on_server, on_firewall = "/servers/{id}/actions/", "/firewalls/{id}/actions/"
    steps: list[tuple[str, str, Body]] = []
    for id in sorted(attached.difference(networks)):
        steps.append((f"{on_server}detach_from_network", server.id, {"network": id}))
    for id in networks:
        if id not in attached:
            steps.append((f"{on_server}attach_to_network", server.id, {"network": id}))
    for id in sorted(applied.difference(firewalls)):
        steps.append((f"{on_firewall}remove_from_resources", str(id), {"remove_from": target}))
    for id in firewalls:
        if id not in applied:
            steps.append((f"{on_firewall}apply_to_resources", str(id), {"apply_to": target}))
    return steps


def split_networks(references: Sequence[Ref | str]) -> tuple[list[int], list[int]]:
    """Private networks and firewalls, by their numbers. Raises ValueError."""
    ids = ids_of(references)
    firewalls = [number(id.removeprefix(FIREWALL)) for id in ids if id.startswith(FIREWALL)]
    return [number(id) for id in ids if not id.startswith(FIREWALL)], firewalls


def ids_of(references: Iterable[Ref | str]) -> list[str]:
    """Remote ids of what is referred to; texts stand for themselves."""
    return [(item.remote_id or "") if isinstance(item, Ref) else item for item in references]


def number(id: str) -> int:
    """Raises ValueError for anything but the number of an object."""
    if not id.isdigit():
        raise ValueError(f"`{id}` is no id at Hetzner: these are numbers")
    return int(id)


def fingerprint(public_key: str) -> str:
    """As Hetzner tells it, MD5 with colons; empty for a text that is no key."""
    words = public_key.split()
    try:
        key = base64.b64decode(words[1], validate=True) if len(words) > 1 else b""
    except ValueError:
        return ""
    digest = hashlib.md5(key, usedforsecurity=False).hexdigest()
    return ":".join(digest[at : at + 2] for at in range(0, len(digest), 2)) if key else ""


def _named(want: Want, mark: Mark) -> Body:
    return {"name": want.name, "labels": dict[str, JsonValue](to_labels(mark))}


def _registered(asked: NodeAttrs) -> list[JsonValue]:
    """Keys of the project, by id or name; a text with a blank in it is a public key itself."""
    return [key for key in ids_of(asked.ssh_keys) if " " not in key]


def _user_data(asked: NodeAttrs) -> str | None:
    mounts = {DEVICE.format(id=ids_of([mount.volume])[0]): mount.mount for mount in asked.volumes}
    return first_boot(
        env={name: plain(text) for name, text in asked.env.items()},
        mounts=mounts,
        keys=[key for key in ids_of(asked.ssh_keys) if " " in key],
        config={} if _registered(asked) else KEEP_PASSWORD,
        own=plain(asked.user_data) if asked.user_data else None,
    )
