"""What is asked of Vultr: the bodies of requests. Pure; `vultr` sends them."""

import base64
from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from typing import Literal

from pydantic import BaseModel, ConfigDict

from gpuplan.core.kinds import NodeAttrs, VolumeAttrs, plain
from gpuplan.core.marks import Mark
from gpuplan.core.ports import Want
from gpuplan.core.values import Ref
from gpuplan.net.cloud_init import first_boot
from gpuplan.net.marks import is_mark_tag, to_tags, to_text
from gpuplan.providers.vultr_wire import METAL_GPUS, WAITS, Block, Body, FirewallRule, System, is_metal

FIREWALL = "firewalls/"
"""In front of the remote id of a firewall group; that of a VPC has nothing there."""
TAG_LENGTH = 50
DEFAULT_SYSTEM = 2284
METAL_GPU_IMAGE = "docker"
"""The marketplace image that brings drivers to bare metal; on GPU instances the systems have them."""


class NodeOptions(BaseModel):
    """`options:` of a cluster at Vultr, in Vultr's words."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enable_ipv6: bool = False
    user_scheme: Literal["root", "limited"] = "root"
    backups: bool = False
    ddos_protection: bool = False
    script_id: str | None = None
    reserved_ipv4: str | None = None


def to_launch(
    want: Want, mark: Mark, plan: str, region: str, blocks: Sequence[Block], systems: Sequence[System]
) -> Body:
    """`blocks` are the volumes of the node, in the order it mounts them; `systems` names the image may be one of."""
    asked = NodeAttrs.of(want.attrs)
    options = NodeOptions.model_validate(asked.options)
    waits = [WAITS] if asked.volumes else []
    body: Body = {
        "region": region,
        "plan": plan,
        "label": want.name,
        "hostname": want.name,
        "tags": [*to_tags(mark, limit=TAG_LENGTH), *waits, *to_label_tags(asked.labels)],
        "enable_ipv6": options.enable_ipv6,
        "user_scheme": options.user_scheme,
        "sshkey_id": [key for key in ids_of(asked.ssh_keys) if not _is_public_key(key)],
        **to_boot_source(asked.image, plan, systems),
        **to_networks(ids_of(asked.networks)),
        **_user_data(asked, blocks),
    }
    if not is_metal(plan):
        body |= {"backups": "enabled" if options.backups else "disabled", "ddos_protection": options.ddos_protection}
    if options.script_id:
        body["script_id"] = options.script_id
    if options.reserved_ipv4:
        body["reserved_ipv4"] = options.reserved_ipv4
    return body


def to_boot_source(image: str | None, plan: str, systems: Sequence[System]) -> Body:
    """`image` is the number or the name of an operating system, `snapshot:ID`, `app:NUMBER`, or the name of a
    marketplace image."""
    if image is None:
        return {"image_id": METAL_GPU_IMAGE} if plan in METAL_GPUS else {"os_id": DEFAULT_SYSTEM}
    prefix, _, rest = image.partition(":")
    if image.isdigit():
        return {"os_id": int(image)}
    if prefix == "snapshot" and rest:
        return {"snapshot_id": rest}
    if prefix == "app" and rest.isdigit():
        return {"app_id": int(rest)}
    number = next((system.id for system in systems if system.name.lower() == image.lower()), None)
    return {"image_id": image} if number is None else {"os_id": number}


def to_block(want: Want, mark: Mark) -> Body:
    asked = VolumeAttrs.of(want.attrs)
    return {
        "region": asked.region,
        "size_gb": asked.size_gb,
        "block_type": asked.type or "high_perf",
        "label": to_text(want.name, mark),
    }


def to_vpc(want: Want, mark: Mark, cidr: str | None, region: str | None) -> Body:
    body: Body = {"region": region, "description": to_text(want.name, mark)}
    if cidr:
        network = ip_network(cidr, strict=False)
        body |= {"v4_subnet": str(network.network_address), "v4_subnet_mask": network.prefixlen}
    return body


def to_label_tags(labels: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in labels.items()]


def to_networks(ids: Sequence[str]) -> Body:
    """VPCs and firewall group of a machine, by remote id; of firewall groups there can be one."""
    vpcs = [id for id in ids if not id.startswith(FIREWALL)]
    groups = [id.removeprefix(FIREWALL) for id in ids if id.startswith(FIREWALL)]
    body: Body = {"attach_vpc": vpcs} if vpcs else {}
    return {**body, "firewall_group_id": groups[0]} if groups else body


def to_tag_list(tags: Sequence[str], labels: Mapping[str, str]) -> Body:
    """A machine's tags with other labels: the mark stays, and so do tags that are no labels."""
    kept = [tag for tag in tags if is_mark_tag(tag) or "=" not in tag]
    return {"tags": [*kept, *to_label_tags(labels)]}


def missing_rules(wanted: Sequence[Body], present: Sequence[FirewallRule]) -> tuple[list[Body], list[FirewallRule]]:
    """The rules to add, and those to take away."""
    rest, surplus = list(wanted), []
    for rule in present:
        same = next((body for body in rest if all(getattr(rule, name) == body[name] for name in body)), None)
        if same is None:
            surplus.append(rule)
        else:
            rest.remove(same)
    return rest, surplus


def ids_of(references: Sequence[Ref | str]) -> list[str]:
    """Remote ids of what is referred to; texts stand for themselves."""
    return [(item.remote_id or "") if isinstance(item, Ref) else item for item in references]


def _user_data(asked: NodeAttrs, blocks: Sequence[Block]) -> Body:
    boot = first_boot(
        env={name: plain(text) for name, text in asked.env.items()},
        mounts={block.device: mount.mount for block, mount in zip(blocks, asked.volumes, strict=True)},
        keys=[key for key in ids_of(asked.ssh_keys) if _is_public_key(key)],
        own=plain(asked.user_data) if asked.user_data else None,
    )
    return {"user_data": base64.b64encode(boot.encode()).decode()} if boot else {}


def _is_public_key(text: str) -> bool:
    return " " in text
