"""What a node is to Akash: an SDL, and the manifest that follows from it, whose hash tells whose deployment it is.

https://akash.network/docs/developers/deployment/akash-sdl. Pure; `akash_console` and `akash_sidecar` send it.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from gpuplan.core.gpus import Vendor, canonical_gpu, gpu_by_memory, known_gpus
from gpuplan.core.kinds import NodeAttrs, Port, plain
from gpuplan.core.marks import Mark
from gpuplan.core.offers import Offer
from gpuplan.core.ports import Want
from gpuplan.core.units import Constraint
from gpuplan.core.values import JsonValue
from gpuplan.net.marks import to_name

Body: TypeAlias = dict[str, JsonValue]

SERVICE = "node"
SSH_IMAGE, SSH_IMAGES = "ghcr.io/akash-network/ubuntu-2404-ssh:2", "ghcr.io/akash-network/"
WORKSPACE = "/workspace"
GROUP_LENGTH = 63
CPUS, MEMORY_GB, DISK_GB = 4, 16, 50
"""What a node has that does not say it."""
BLOCKS_PER_HOUR, MICRO = 600, 1_000_000
MOST_PER_HOUR, TOLERANCE = 60.0, 1.25
"""The most that is paid for a node of which no price is known, in USD, and how much more than a known one."""
CORE_PER_HOUR, GB_PER_HOUR = 0.005, 0.0025
"""USD that a core and a GB of memory may cost besides: known prices are those of GPUs."""
TWO_SIZES = frozenset({"A100", "V100"})
SDL_NAMES: Mapping[str, str] = {
    "A6000": "rtxa6000",
    "RTXPRO6000": "pro6000se",
    "RTX2000Ada": "rtx2000ada",
    "RTX4000Ada": "rtx4000ada",
    "RTX6000Ada": "rtx6000ada",
}
"""GPU family to its name in an SDL, where that is not the same in lower case."""
FAMILIES: Mapping[str, str] = {
    **{sdl: family for family, sdl in SDL_NAMES.items()},
    **dict.fromkeys(("pro6000we", "pro6000mq"), "RTXPRO6000"),
}
START_SSHD = """set -e
mkdir -p ~/.ssh /run/sshd
chmod 700 ~/.ssh
printf '%s\\n' "$SSH_PUBKEY" >> ~/.ssh/authorized_keys
chmod 600 ~/.ssh/authorized_keys
if [ ! -x /usr/sbin/sshd ]; then apt-get update -q && apt-get install -yq --no-install-recommends openssh-server; fi
ssh-keygen -A
/usr/sbin/sshd
"""
"""In front of the command of an image that has no SSH server of its own."""


class Unfit(ValueError):
    """A want that Akash has no way to carry out; the message says why."""


class NodeOptions(BaseModel):
    """`options:` of a cluster at Akash."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_price: float | None = Field(None, gt=0, description="USD per hour that no accepted bid exceeds")
    attributes: Mapping[str, str] = Field({}, description="attributes a provider must have: {tier: community}")
    auditors: tuple[str, ...] | None = Field(None, description="addresses, one of whom must have signed for a provider")
    persistent_gb: int | None = Field(None, ge=1, description="a disk that outlives restarts, though not the lease")
    persistent_class: Literal["beta1", "beta2", "beta3"] = Field("beta3", description="HDD, SSD or NVMe")
    persistent_mount: str = Field(WORKSPACE, pattern="^/", description="where that disk is")


class Registry(BaseModel):
    """Who may pull private images."""

    model_config = ConfigDict(frozen=True)

    host: str
    username: str
    password: str = Field(repr=False)


def options_of(asked: NodeAttrs) -> NodeOptions:
    return NodeOptions.model_validate(asked.options)


def group_of(want: Want, mark: Mark) -> str:
    """The name of the placement: the one text of ours that Akash keeps, and that its hash covers."""
    return to_name(f"gpuplan-{want.name}", mark, limit=GROUP_LENGTH)


def ceiling_of(asked: NodeAttrs, offer: Offer | None) -> float:
    """USD per hour that a bid may ask for. What was planned is an estimate out of earlier bids."""
    if limit := options_of(asked).max_price:
        return limit
    price = offer.price_per_hour if offer else None
    if not price:
        return MOST_PER_HOUR
    machine = _least(asked.cpu, CPUS) * CORE_PER_HOUR + _least(asked.memory_gb, MEMORY_GB) * GB_PER_HOUR
    return float(price) * TOLERANCE + machine


def to_sdl(
    asked: NodeAttrs,
    group: str,
    *,
    hourly: float,
    auditors: Sequence[str] = (),
    registry: Registry | None = None,
) -> Body:
    """The SDL of a node. `hourly` is the most it may cost, in USD. Raises Unfit."""
    options, keys = options_of(asked), keys_of(asked)
    amount = int(hourly * MICRO / BLOCKS_PER_HOUR)
    signers = list(auditors if options.auditors is None else options.auditors)
    attributes = {**({"region": asked.region} if asked.region else {}), **options.attributes}
    placement: Body = {"pricing": {SERVICE: {"denom": "uact", "amount": max(1, amount)}}}
    if attributes:
        placement["attributes"] = attributes
    if signers:
        placement["signedBy"] = {"anyOf": signers}
    return {
        "version": "2.0",
        "services": {SERVICE: _service(asked, options, keys, registry)},
        "profiles": {
            "compute": {SERVICE: {"resources": _resources(asked, options)}},
            "placement": {group: placement},
        },
        "deployment": {SERVICE: {group: {"profile": SERVICE, "count": 1}}},
    }


def text_of(sdl: Body) -> str:
    """JSON is YAML too, and has one way to write things."""
    return json.dumps(sdl, ensure_ascii=False)


def keys_of(asked: NodeAttrs) -> list[str]:
    """The public keys to let in. Raises Unfit."""
    keys = [str(key).strip() for key in asked.ssh_keys]
    if strange := [key for key in keys if " " not in key]:
        raise Unfit(f"Akash keeps no SSH keys: `{strange[0]}` must be the text of a public key")
    return keys


def to_model(gpu: str) -> Body:
    """A GPU as an SDL asks for it. Every word more has fewer providers bid: memory where a model has two sizes, the
    form where it is asked for."""
    known = known_gpus()[gpu]
    base = known.base or gpu
    family, _, size = base.partition("-")
    model: Body = {"model": SDL_NAMES.get(family, family.lower())}
    if size and (family in TWO_SIZES or canonical_gpu(family) != base):
        model["ram"] = f"{known.memory_gb:.0f}Gi"
    if form := gpu[len(base) + 1 :]:
        model["interface"] = form.lower()
    return model


def gpu_of(model: str, ram: str, interface: str) -> str:
    """The canonical name of a GPU as Akash tells it; empty for one that gpuplan does not know."""
    family, digits = FAMILIES.get(model, model), ram.rstrip("GiB")
    base = (gpu_by_memory(family, float(digits)) if digits.isdigit() else None) or canonical_gpu(family)
    if base is None:
        return ""
    return (canonical_gpu(f"{base}-{interface}") if interface else None) or base


def _service(asked: NodeAttrs, options: NodeOptions, keys: Sequence[str], registry: Registry | None) -> Body:
    image = asked.image or SSH_IMAGE
    service: Body = {"image": image, **_run(asked, image, keys), "expose": [_opened(port) for port in _ports(asked)]}
    env = [f"{name}={plain(value)}" for name, value in sorted(asked.env.items())]
    if keys:
        env.append("SSH_PUBKEY=" + "\n".join(keys))
    if env:
        service["env"] = env
    if registry is not None and image.startswith(f"{registry.host}/"):
        service["credentials"] = registry.model_dump()
    mounts: Body = {}
    if options.persistent_gb:
        mounts["data"] = {"mount": options.persistent_mount, "readOnly": False}
    if asked.shm_gb:
        mounts["shm"] = {"mount": "/dev/shm", "readOnly": False}
    if mounts:
        service["params"] = {"storage": mounts}
    return service


def _run(asked: NodeAttrs, image: str, keys: Sequence[str]) -> Body:
    """Command and arguments. Who may log in needs a server to log in to."""
    command = asked.command
    if keys and not image.startswith(SSH_IMAGES):
        script = command if isinstance(command, str) else 'exec "$@"' if command else "exec sleep infinity"
        words = list(command) if command and not isinstance(command, str) else []
        return {"command": ["sh", "-c"], "args": [START_SSHD + script, *(["sh", *words] if words else [])]}
    if not command:
        return {}
    return {"command": ["sh", "-c"], "args": [command]} if isinstance(command, str) else {"command": list(command)}


def _ports(asked: NodeAttrs) -> list[Port]:
    """That of SSH is open in any case: an SDL without an endpoint is refused. Raises Unfit."""
    if any(port.number == 80 and port.protocol == "tcp" for port in asked.ports):
        raise Unfit('port 80 is served as HTTP by every provider: write "80/http"')
    return [Port(22), *(port for port in dict.fromkeys(asked.ports) if port != Port(22))]


def _opened(port: Port) -> Body:
    to: list[JsonValue] = [{"global": True}]
    if port.protocol == "http":
        return {"port": port.number, "as": 80, "to": to}
    opened: Body = {"port": port.number, "as": port.number, "to": to}
    return {**opened, "proto": "udp"} if port.protocol == "udp" else opened


def _resources(asked: NodeAttrs, options: NodeOptions) -> Body:
    storage: list[JsonValue] = [{"size": f"{asked.disk_gb or DISK_GB}G"}]
    if options.persistent_gb:
        kept: Body = {"persistent": True, "class": options.persistent_class}
        storage.append({"name": "data", "size": f"{options.persistent_gb}G", "attributes": kept})
    if asked.shm_gb:
        shared: Body = {"persistent": False, "class": "ram"}
        storage.append({"name": "shm", "size": f"{asked.shm_gb}G", "attributes": shared})
    resources: Body = {
        "cpu": {"units": _least(asked.cpu, CPUS)},
        "memory": {"size": f"{_least(asked.memory_gb, MEMORY_GB):g}G"},
        "storage": storage,
    }
    if asked.gpu:
        if known_gpus()[asked.gpu.name].vendor is not Vendor.NVIDIA:
            raise Unfit(f"providers have GPUs of NVIDIA alone, not {asked.gpu.name}")
        attributes: Body = {"vendor": {"nvidia": [to_model(asked.gpu.name)]}}
        resources["gpu"] = {"units": asked.gpu.count, "attributes": attributes}
    return resources


def _least(asked: Constraint | None, default: float) -> float:
    return default if asked is None else asked.amount
