"""What is asked of Fly.io: the bodies of requests. Pure; `fly` sends them."""

import base64
import re
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gpuplan.core.kinds import NodeAttrs, VolumeAttrs, plain
from gpuplan.core.marks import Mark
from gpuplan.core.ports import Links, Want
from gpuplan.core.secret import Secret
from gpuplan.core.values import JsonValue, Ref
from gpuplan.net.marks import to_name, to_tags
from gpuplan.providers.fly_config import ASKED, MARK, POLICIES, SHELL, SSH_PORT, Asked, Body, Config, is_label
from gpuplan.providers.fly_guests import Guest, Unfit
from gpuplan.providers.fly_wire import Machine

NAME_LENGTH = 63
VOLUME_NAME_LENGTH = 30
FIRST_PORT, PORTS = 10000, 50000
"""Of an app, those that lead to the ports of its machines, each to one machine."""
_LABEL = re.compile(r"[a-z][a-z0-9_]*")
_KEY_FILE = "/.ssh/authorized_keys"


class NodeOptions(BaseModel):
    """`options:` of a cluster at Fly.io."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ssh_user: str = Field("root", pattern="^[a-z_][a-z0-9_-]*$", description="the user whom `ssh_keys` let in")
    persist_disk: Literal["never", "restart", "always"] = Field(
        "never", description="when the root disk is kept: it is reset at every start otherwise"
    )
    swap_mb: int | None = Field(None, ge=1, description="swap space")
    app_secrets: bool = Field(True, description="set the secrets of the app as variables, as Fly.io does")
    secret_files: dict[str, str] = Field(
        default_factory=dict, description="path of a file to the secret of the app that has its content in base64"
    )


class VolumeOptions(BaseModel):
    """`options:` of a volume at Fly.io."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    snapshot: str | None = None
    """Id of a snapshot (`vs_...`) that it begins with."""


@dataclass(frozen=True, slots=True)
class Disk:
    """A volume to mount. It ties its node to its region, None where we do not know it."""

    remote_id: str
    mount: str
    region: str | None


def to_launch(
    want: Want,
    mark: Mark,
    guest: Guest,
    region: str,
    *,
    keys: Sequence[str],
    outer: Mapping[int, int],
    mount: tuple[str, str] | None,
) -> Body:
    """`outer` has the app's port for each port of the machine, `mount` the id of a volume and where it is mounted."""
    asked = NodeAttrs.of(want.attrs)
    options = NodeOptions.model_validate(asked.options)
    if not re.fullmatch("[a-z]{3}", region):
        raise Unfit(f"`region` is one region, such as `ord`, and not `{region}`: `placement` chooses among several")
    config: Body = {
        "image": asked.image,
        "guest": to_guest_body(guest),
        "env": to_env(asked),
        "init": _init(asked, options),
        "metadata": {MARK: " ".join(to_tags(mark)), ASKED: to_asked(asked).encode(), **to_labels(asked.labels)},
        "services": to_services(asked, outer),
        "files": [*_secret_files(options), *to_key_files(keys, options.ssh_user)],
        # A machine that removes itself takes its exit code along.
        "auto_destroy": False,
    }
    if asked.restart:
        config["restart"] = {"policy": POLICIES[asked.restart]}
    if mount:
        config["mounts"] = [{"volume": mount[0], "path": mount[1]}]
    if asked.disk_gb or options.persist_disk != "never":
        size: Body = {"size_gb": asked.disk_gb} if asked.disk_gb else {}
        config["rootfs"] = {"persist": options.persist_disk, **size}
    body: Body = {"name": to_name(want.name, mark, limit=NAME_LENGTH), "region": region, "config": config}
    return body if options.app_secrets else {**body, "skip_secrets": True}


def to_change(want: Want, machine: Machine, guest: Guest, *, keys: Sequence[str], outer: Mapping[int, int]) -> Body:
    """The whole configuration with what differs in it: what is not sent back is lost."""
    asked, before, config = NodeAttrs.of(want.attrs), machine.settings, Body(machine.config or {})
    changed = want.update
    if "image" in changed:
        config["image"] = asked.image
    if "command" in changed:
        config["init"] = {**_part(config, "init"), "cmd": to_command(asked)}
    if "env" in changed:
        dropped = {*before.asked.env, *before.asked.secret}
        config["env"] = {**{name: v for name, v in before.env.items() if name not in dropped}, **to_env(asked)}
    if changed & {"ports", "ssh_keys"}:
        config["services"] = to_services(asked, outer)
    if "ssh_keys" in changed:
        files = config.get("files")
        others = [file for file in files if not _is_key_file(file)] if isinstance(files, Sequence) else []
        config["files"] = [*others, *to_key_files(keys, NodeOptions.model_validate(asked.options).ssh_user)]
    if "restart" in changed:
        config["restart"] = {"policy": POLICIES[asked.restart or "on-failure"]}
    if changed & {"cpu", "memory_gb", "instance_type"}:
        config["guest"] = {**_part(config, "guest"), **to_guest_body(guest)}
    kept = {name: value for name, value in before.metadata.items() if "labels" not in changed or not is_label(name)}
    labels = to_labels(asked.labels) if "labels" in changed else {}
    config["metadata"] = {**kept, **labels, ASKED: to_asked(asked).encode()}
    is_idle = machine.state in ("created", "stopped", "suspended")
    body: Body = {"config": config, "current_version": machine.instance_id}
    return {**body, "skip_launch": True} if is_idle else body


def to_label_change(labels: Mapping[str, str], machine: Machine) -> Body:
    """An empty text takes a label away."""
    gone = {name: "" for name in machine.settings.metadata if is_label(name)}
    return {"metadata": {**gone, **to_labels(labels)}, "machine_version": machine.instance_id}


def to_volume(want: Want, mark: Mark) -> Body:
    asked = VolumeAttrs.of(want.attrs)
    try:
        options = VolumeOptions.model_validate(asked.options)
    except ValidationError as exc:
        raise Unfit(f"`options` of a volume has `snapshot` alone: {exc.errors()[0]['msg']}") from exc
    name = to_name(want.name, mark, limit=VOLUME_NAME_LENGTH, joint="_")
    body: Body = {"name": name, "region": asked.region, "size_gb": asked.size_gb}
    return {**body, "snapshot_id": options.snapshot} if options.snapshot else body


def to_guest_body(guest: Guest) -> Body:
    body: Body = {"cpu_kind": guest.cpu_kind, "cpus": guest.cpus, "memory_mb": guest.memory_mb}
    return {**body, "gpu_kind": guest.card, "gpus": 1} if guest.card else body


def to_env(asked: NodeAttrs) -> dict[str, str]:
    return {name: plain(text) for name, text in asked.env.items()}


def to_command(asked: NodeAttrs) -> list[str]:
    """In the place of the image's `CMD`."""
    return [*SHELL, asked.command] if isinstance(asked.command, str) else list(asked.command or ())


def to_asked(asked: NodeAttrs) -> Asked:
    secret = tuple(name for name, text in asked.env.items() if isinstance(text, Secret))
    return Asked(
        env=tuple(name for name in asked.env if name not in secret),
        secret=secret,
        ports=tuple(port.number if port.protocol == "tcp" else str(port) for port in asked.ports),
        image=asked.image or "",
        text=isinstance(asked.command, str),
    )


def to_labels(labels: Mapping[str, str]) -> dict[str, str]:
    for name in labels:
        if not _LABEL.fullmatch(name) or not is_label(name):
            raise Unfit(f"`{name}` is no label: lower-case letters, digits and `_`, not beginning with `fly_`")
    return dict(labels)


def inner_ports(asked: NodeAttrs) -> list[int]:
    """The ports of the machine that are reached from outside, that of SSH wherever keys are let in."""
    if any(port.protocol == "udp" for port in asked.ports):
        raise Unfit("ports of a node are TCP or HTTP: Fly.io wants of UDP the same port inside and outside")
    asks_for_ssh = [SSH_PORT] if asked.ssh_keys else []
    return list(dict.fromkeys([*asks_for_ssh, *(port.number for port in asked.ports)]))


def to_outer_ports(
    inner: Sequence[int], taken: Collection[int], present: Mapping[int, int], seed: str
) -> dict[int, int]:
    """A port of the app for each port of a machine: the one it has, else one that is free; `seed` spreads them."""
    outer: dict[int, int] = {}
    for number in inner:
        start = zlib.crc32(f"{seed} {number}".encode())
        free = (FIRST_PORT + (start + step) % PORTS for step in range(PORTS))
        mine = outer.values()
        port = present.get(number) or next((n for n in free if n not in taken and n not in mine), None)
        if port is None:
            raise Unfit("all ports of the app are taken")
        outer[number] = port
    return outer


def to_services(asked: NodeAttrs, outer: Mapping[int, int]) -> list[JsonValue]:
    """Never stopped for being idle, nor started by a caller: that would be drift."""
    web = {port.number for port in asked.ports if port.protocol == "http"}
    return [
        {
            "protocol": "tcp",
            "internal_port": number,
            "ports": [{"port": outer[number], "handlers": ["tls", "http"] if number in web else []}],
            "autostop": "off",
            "autostart": False,
        }
        for number in inner_ports(asked)
    ]


def keys_of(asked: NodeAttrs, links: Links) -> Sequence[str]:
    """The public keys to let in. Raises Unfit for anything else: Fly.io keeps no keys."""
    keys: list[str] = []
    for key in asked.ssh_keys:
        recorded = links.get(key.address) if isinstance(key, Ref) else None
        text = recorded.attrs.get("public_key") if recorded else key
        if not isinstance(text, str) or " " not in text.strip():
            raise Unfit(f"`{key}` is no public key, and Fly.io keeps none under a name")
        keys.append(text.strip())
    return keys


def to_key_files(keys: Sequence[str], user: str) -> list[JsonValue]:
    """What lets the public keys in, for an image that runs an SSH server."""
    if not keys:
        return []
    home = "/root" if user == "root" else f"/home/{user}"
    content = base64.b64encode("".join(f"{key}\n" for key in keys).encode()).decode()
    return [{"guest_path": f"{home}{_KEY_FILE}", "raw_value": content, "mode": 0o600}]


def volume_of(asked: NodeAttrs, links: Links) -> Disk | None:
    """The volume of a node. Raises Unfit for more than one."""
    if len(asked.volumes) > 1:
        raise Unfit("a machine mounts one volume at most")
    for mount in asked.volumes:
        recorded = links.get(mount.volume.address) if isinstance(mount.volume, Ref) else None
        region = recorded.attrs.get("region") if recorded else None
        id = str(mount.volume.remote_id if isinstance(mount.volume, Ref) else mount.volume)
        return Disk(id, mount.mount, region if isinstance(region, str) else None)
    return None


def ports_in(configs: Collection[Config]) -> set[int]:
    """The ports of the app that lead somewhere."""
    return {port for config in configs for port in config.outer_ports.values()}


def _init(asked: NodeAttrs, options: NodeOptions) -> Body:
    init: Body = {"cmd": to_command(asked)} if asked.command else {}
    return {**init, "swap_size_mb": options.swap_mb} if options.swap_mb else init


def _secret_files(options: NodeOptions) -> list[JsonValue]:
    return [{"guest_path": path, "secret_name": name} for path, name in options.secret_files.items()]


def _is_key_file(file: JsonValue) -> bool:
    return isinstance(file, Mapping) and str(file.get("guest_path")).endswith(_KEY_FILE)


def _part(config: Body, name: str) -> Mapping[str, JsonValue]:
    part = config.get(name)
    return part if isinstance(part, Mapping) else {}
