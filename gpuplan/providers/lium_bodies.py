"""What is asked of Lium's own API: the bodies of requests. Pure; `lium_pods` sends them."""

import shlex
import uuid
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field

from gpuplan.core.kinds import Mount, NodeAttrs, SshKeyAttrs, plain
from gpuplan.core.marks import Mark
from gpuplan.core.ports import Links, Want
from gpuplan.core.values import Ref
from gpuplan.net.marks import to_name, to_text
from gpuplan.providers.lium_wire import Body, Image, Template

NAME_LENGTH, KEY_NAME_LENGTH = 63, 64
WORKSPACE = "/workspace"
_KEYS = uuid.uuid5(uuid.NAMESPACE_OID, "gpuplan: rents at Lium")


class Unfit(ValueError):
    """A want that Lium has no way to carry out; the message says why."""


class NodeOptions(BaseModel):
    """`options:` of a cluster at Lium."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    template: str | None = Field(None, description="pods: id of a template, instead of `image`")
    extra_ports: int = Field(0, ge=0, le=100, description="pods: ports to open besides `ports`, numbered by Lium")
    encrypt: bool = Field(False, description="pods: encrypt the disk; /root gets slower")
    lease_hours: int | None = Field(None, ge=1, le=720, description="pods: as in the provider block")
    duration_hours: int | None = Field(None, ge=1, description="rentals: as in the provider block")


def options_of(asked: NodeAttrs) -> NodeOptions:
    return NodeOptions.model_validate(asked.options)


def check(asked: NodeAttrs) -> None:
    """Raises Unfit for what can be told before anything is sent."""
    options = options_of(asked)
    if options.duration_hours is not None:
        raise Unfit("`duration_hours` is for rentals: a pod has `lease_hours`")
    if strange := [str(port) for port in asked.ports if port.protocol != "tcp"]:
        raise Unfit(f"Lium opens TCP ports alone, not {', '.join(strange)}")
    if len(asked.volumes) > 1:
        raise Unfit("a pod mounts one volume at most")
    if options.template and (asked.image or needs_template(asked)):
        raise Unfit("a template brings its image, command, env, ports and mount: name either it or those")


def needs_template(asked: NodeAttrs) -> bool:
    """Whether a template of Lium's will not do."""
    mounts_elsewhere = any(mount.mount != WORKSPACE for mount in asked.volumes)
    return bool(asked.image or asked.command or asked.env or asked.ports or mounts_elsewhere)


def to_template(name: str, asked: NodeAttrs, image: Image) -> Body:
    """A private template that goes with its pod: image, variables and ports are its, not the pod's."""
    return {
        "name": name,
        "description": "made by gpuplan",
        "readme": "",
        "docker_image": image.docker_image,
        "docker_image_tag": image.docker_image_tag,
        "docker_image_digest": "",
        "category": "UBUNTU",
        "internal_ports": [22, *dict.fromkeys(port.number for port in asked.ports if port.number != 22)],
        "startup_commands": to_command(asked.command),
        "entrypoint": "",
        "environment": {name: plain(text) for name, text in asked.env.items()},
        "volumes": [mount.mount for mount in asked.volumes] or [WORKSPACE],
        "container_start_immediately": True,
        "is_private": True,
        "one_time_template": True,
        "is_temporary": False,
    }


def to_rent(want: Want, mark: Mark, *, gpus: int, template: str, keys: Sequence[str], lease_hours: int | None) -> Body:
    """Raises Unfit."""
    if not keys:
        raise Unfit("nobody could log in: name `ssh_keys`, or the block's `ssh_public_key`")
    asked = NodeAttrs.of(want.attrs)
    options = options_of(asked)
    body: Body = {
        "pod_name": to_name(want.name, mark, limit=NAME_LENGTH),
        "template_id": template,
        "dockerfile_content": None,
        "volume_id": volume_of(asked.volumes),
        "user_public_key": list(keys),
        "initial_port_count": options.extra_ports or None,
        "enable_volume_encryption": options.encrypt,
        "backup_log_id": None,
        "restore_path": None,
        "gpu_count": gpus,
    }
    hours = options.lease_hours or lease_hours
    return {**body, "termination_hours": hours} if hours else body


def to_key(want: Want, mark: Mark) -> Body:
    name = to_name(want.name, mark, limit=KEY_NAME_LENGTH)
    return {"name": name, "public_key": SshKeyAttrs.of(want.attrs).public_key.strip()}


def to_volume(want: Want, mark: Mark) -> Body:
    return {"name": want.name, "description": to_text(want.name, mark)}


def key_of(mark: Mark) -> str:
    """The idempotency key of a rent: the same for every attempt to send it."""
    return str(uuid.uuid5(_KEYS, mark.token))


def image_of(reference: str) -> Image:
    """The whole reference: Lium takes it apart itself."""
    return Image(docker_image=reference, docker_image_tag="")


def to_command(command: str | Sequence[str] | None) -> str:
    return command if isinstance(command, str) else shlex.join(command or ())


def volume_of(mounts: Sequence[Mount]) -> str | None:
    for mount in mounts:
        return mount.volume.remote_id if isinstance(mount.volume, Ref) else mount.volume
    return None


def best_template(images: Sequence[Image], templates: Sequence[Template]) -> Template | None:
    """Of what Lium recommends for a host the first, one with PyTorch before others."""
    usable = {template.reference: template for template in templates if not template.is_broken}
    ranked = sorted(images, key=lambda image: "pytorch" not in image.docker_image.lower())
    return next((usable[image.reference] for image in ranked if image.reference in usable), None)


def texts_of(asked: NodeAttrs, links: Links, known: Mapping[str, str]) -> list[str]:
    """The public keys to let in; `known` are those of the account, by id and by name. Raises Unfit."""
    return [_text_of(key, links, known) for key in asked.ssh_keys]


def names_keys(asked: NodeAttrs, links: Links) -> bool:
    """Whether some of the keys are known to Lium alone."""
    return any(not _is_known(key, links) for key in asked.ssh_keys)


def _is_known(key: Ref | str, links: Links) -> bool:
    return key.address in links if isinstance(key, Ref) else " " in key


def _text_of(key: Ref | str, links: Links, known: Mapping[str, str]) -> str:
    if isinstance(key, Ref) and key.address in links:
        return str(links[key.address].attrs.get("public_key") or "")
    name = (key.remote_id or "") if isinstance(key, Ref) else key
    if " " in name:
        return name.strip()
    if name not in known:
        raise Unfit(f"the account has no SSH key `{name}`")
    return known[name]
