"""What is asked of RunPod: the bodies of requests. Pure; `runpod` sends them."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from pydantic import BaseModel, ConfigDict, Field

from gpuplan.core.kinds import NodeAttrs, Port, SshKeyAttrs, VolumeAttrs, plain
from gpuplan.core.marks import Mark
from gpuplan.core.ports import Want
from gpuplan.core.secret import Secret
from gpuplan.core.values import JsonValue
from gpuplan.net.marks import to_name, to_tags, to_text
from gpuplan.providers.runpod_wire import ASKED, KEYS, MARK, SHELL, SSH_PORT, SYMMETRIC_PORT, Asked, Body, Pod

NAME_LENGTH = 60
VOLUME_NAME_LENGTH = 191
"""The old API said so of names; the new one is silent."""
DEFAULT_IMAGE = "runpod/pytorch:1.0.2-cu1281-torch280-ubuntu2404"
DEFAULT_DISK_GB = 50
DEFAULT_CPU_DISK_GB = 20
CARRIED = frozenset({"env", "ssh_keys", "ports", "command"})
"""Attributes that are in the variables of a pod, or whose form is."""


class NodeOptions(BaseModel):
    """`options:` of a cluster at RunPod."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    start_ssh: bool = Field(False, description="let in the keys of the account too, where no `ssh_keys` are named")
    start_jupyter: bool = Field(False, description="start JupyterLab; expose 8888/http to reach it")
    global_networking: bool = Field(False, description="a private address that other pods reach")
    min_cuda: str | None = Field(None, pattern=r"^\d+\.\d+$", description="lowest CUDA version of the host")
    registry: str | None = Field(None, description="id of a stored credential for a private image")
    template: str | None = Field(None, description="id of a template to take what is not said here from")
    persistent_gb: int | None = Field(None, ge=10, description="disk of the host that survives a stop")
    persistent_path: str = Field("/workspace", description="where that disk is mounted")
    symmetric_ports: int = Field(0, ge=0, le=10, description="ports with the same number inside and outside")


class Unfit(Exception):
    """Something that RunPod cannot be asked for; the message says why."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a pod goes. `cloud` is `secure`, `community`, or `cpu`; `count` is of GPUs, or of virtual CPUs."""

    cloud: str
    id: str
    count: int
    region: str | None

    @property
    def is_cpu(self) -> bool:
        return self.cloud == "cpu"


@dataclass(frozen=True, slots=True)
class Disk:
    """A network volume, and the data centre that it ties its pods to."""

    id: str
    region: str
    mount: str


def place_of(want: Want, asked: NodeAttrs) -> Place:
    """The offer's place; without one, `instance_type` names a GPU or, with the number of CPUs behind it, a flavor.

    Raises Unfit.
    """
    if want.offer is not None:
        cloud, count, id = want.offer.ref.split("/", 2)
        return Place(cloud, id, int(count), want.offer.region or None)
    if asked.instance_type is None:
        raise Unfit("without an offer it needs an `instance_type`")
    if asked.region is not None:
        check_region(asked.region)
    if flavor := re.fullmatch(r"(cpu.+)-(\d+)", asked.instance_type):
        return Place("cpu", flavor[1], int(flavor[2]), asked.region)
    return Place("secure", asked.instance_type, asked.gpu.count if asked.gpu else 1, asked.region)


def check_region(region: str) -> None:
    # RunPod accepts lower case, and then never finds a place.
    if region != region.upper():
        raise Unfit(f"`{region}` is no data centre: they are written in capitals, `{region.upper()}`")


def to_launch(want: Want, mark: Mark, place: Place, disk: Disk | None, keys: Sequence[str]) -> Body:
    asked = NodeAttrs.of(want.attrs)
    options = NodeOptions.model_validate(asked.options)
    body: Body = {
        "name": to_name(want.name, mark, limit=NAME_LENGTH),
        "cloud": "COMMUNITY" if place.cloud == "community" else "SECURE",
        # Left out, RunPod finds no machine and says that there is none.
        "disk": asked.disk_gb or (DEFAULT_CPU_DISK_GB if place.is_cpu else DEFAULT_DISK_GB),
        "ports": list(to_ports(asked.ports, options.symmetric_ports)),
        "env": {**_env(asked, keys, 0 if place.is_cpu else place.count), MARK: " ".join(to_tags(mark))},
        **_compute(asked, options, place),
        **_settings(asked, options),
    }
    region = disk.region if disk else place.region
    if region:
        body["dataCenterIds"] = [region]
    if disk:
        body["mounts"] = {"network": [{"volumeId": disk.id, "path": disk.mount}]}
    elif options.persistent_gb and not place.is_cpu:
        body["mounts"] = {"persistent": {"size": options.persistent_gb, "path": options.persistent_path}}
    return body


def to_changes(want: Want, pod: Pod, keys: Sequence[str]) -> Body:
    """A change of what differs. Variables are replaced as a whole: what others put there is sent back."""
    asked, body = NodeAttrs.of(want.attrs), Body()
    before = pod.asked or Asked()
    if "image" in want.update:
        body["image"] = asked.image or DEFAULT_IMAGE
    if "disk_gb" in want.update:
        body["disk"] = asked.disk_gb or DEFAULT_DISK_GB
    if "command" in want.update:
        body["args"] = to_args(asked.command)
    if "ports" in want.update:
        symmetric = sum(int(port.partition("/")[0]) >= SYMMETRIC_PORT for port in pod.ports)
        body["ports"] = list(to_ports(asked.ports, symmetric))
    if CARRIED & want.update:
        dropped = {*before.env, *before.secret, *({KEYS} if "ssh_keys" in want.update else ())}
        kept = {name: value for name, value in pod.env.items() if name not in dropped}
        body["env"] = {**kept, **_env(asked, keys, before.gpus)}
    return body


def to_volume(want: Want, mark: Mark) -> Body:
    asked = VolumeAttrs.of(want.attrs)
    check_region(asked.region or "")
    body: Body = {
        "name": to_text(want.name, mark, limit=VOLUME_NAME_LENGTH),
        "size": asked.size_gb,
        "dataCenter": asked.region,
    }
    return {**body, "type": asked.type} if asked.type else body


def to_key_line(want: Want, mark: Mark) -> str:
    return " ".join([SshKeyAttrs.of(want.attrs).public_key, *to_tags(mark)])


def to_ports(ports: Sequence[Port], symmetric: int) -> tuple[str, ...]:
    """The ports asked for, that of SSH, and so many with a number of RunPod's choice."""
    if any(port.protocol == "udp" for port in ports):
        raise Unfit("RunPod forwards TCP and HTTP, no UDP")
    chosen = [str(port) for port in ports]
    return (
        *([] if SSH_PORT in chosen else [SSH_PORT]),
        *chosen,
        *(f"{SYMMETRIC_PORT + n}/tcp" for n in range(symmetric)),
    )


def to_args(command: str | Sequence[str] | None) -> str:
    if command is None:
        return ""
    return f"{SHELL}{shlex.quote(command)}" if isinstance(command, str) else shlex.join(command)


def _compute(asked: NodeAttrs, options: NodeOptions, place: Place) -> Body:
    if place.is_cpu:
        return {"cpu": {"id": place.id, "vcpuCount": place.count}}
    # Without the count RunPod has been seen to find no machine, although it says that 1 is the default.
    gpu: Body = {"id": place.id, "count": place.count}
    if options.min_cuda:
        gpu["minCudaVersion"] = options.min_cuda
    if asked.cpu:
        gpu["minVcpuCountPerGpu"] = ceil(asked.cpu.amount / place.count)
    if asked.memory_gb:
        gpu["minRamPerGpu"] = ceil(asked.memory_gb.amount / place.count)
    return {"gpu": gpu}


def _settings(asked: NodeAttrs, options: NodeOptions) -> Body:
    """What is said only where it differs from RunPod's default, so that a template keeps its say."""
    given: Mapping[str, JsonValue] = {
        "image": asked.image or (None if options.template else DEFAULT_IMAGE),
        "args": to_args(asked.command) or None,
        "templateId": options.template,
        "registry": options.registry,
        "startSsh": options.start_ssh or None,
        "startJupyter": options.start_jupyter or None,
        "globalNetworking": options.global_networking or None,
    }
    return {name: value for name, value in given.items() if value is not None}


def _env(asked: NodeAttrs, keys: Sequence[str], gpus: int) -> dict[str, str]:
    """The variables asked for, the keys to let in, and what the pod does not tell of itself."""
    secret = tuple(name for name, text in asked.env.items() if isinstance(text, Secret))
    carried = Asked(
        env=tuple(name for name in asked.env if name not in secret),
        secret=secret,
        ports=tuple(port.number if port.protocol == "tcp" else str(port) for port in asked.ports),
        gpus=gpus,
        text=isinstance(asked.command, str),
    )
    authorized = {KEYS: "\n".join(keys)} if keys else {}
    return {**authorized, **{name: plain(text) for name, text in asked.env.items()}, ASKED: carried.encode()}
