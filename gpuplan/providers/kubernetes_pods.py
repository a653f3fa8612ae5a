"""The pod that runs what a spec asks for: the body of its template. Pure; for sets, and for whatever else runs pods."""

from collections.abc import Iterable, Mapping, Sequence

from gpuplan.core.kinds import NodeAttrs, Port, plain
from gpuplan.core.secret import Secret
from gpuplan.core.units import Constraint
from gpuplan.core.values import JsonValue, Ref
from gpuplan.providers.kubernetes_options import NodeOptions
from gpuplan.providers.kubernetes_placing import Placement
from gpuplan.providers.kubernetes_wire import MAIN, Body

WORKSPACE = "/workspace"
IDLE = ("sh", "-c", "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait $!; done")
"""What a node does that is given no command: stay, and end when it is told to."""
LEAST: Mapping[str, str] = {"cpu": "250m", "memory": "256M"}
"""A pod that asks for nothing but GPUs is the first to be evicted."""
POD_INDEX = "metadata.labels['apps.kubernetes.io/pod-index']"


def pod_spec(
    asked: NodeAttrs, options: NodeOptions, placement: Placement, *, secret: str, env: Mapping[str, JsonValue]
) -> Body:
    """`secret` is the name of the Secret that holds what is sensitive. `env` is what gpuplan adds itself, as values or
    as sources of values; what the spec says goes first."""
    spec: Body = {
        "automountServiceAccountToken": options.service_account is not None,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": options.grace_seconds,
        "containers": [_container(asked, options, placement, secret=secret, env=env)],
        "volumes": [*_scratch(asked), *_claims(asked)],
    }
    optional: Body = {
        "affinity": placement.affinity,
        "tolerations": list[JsonValue](placement.tolerations) or None,
        "nodeSelector": dict[str, JsonValue](options.node_selector) or None,
        "runtimeClassName": options.runtime_class,
        "priorityClassName": options.priority_class,
        "serviceAccountName": options.service_account,
        "imagePullSecrets": [{"name": name} for name in options.image_pull_secrets] or None,
        "hostNetwork": options.host_network or None,
    }
    return {**spec, **{name: value for name, value in optional.items() if value is not None}}


def secrets_of(asked: NodeAttrs) -> dict[str, str]:
    """The variables whose values nobody shall read in a pod's description."""
    return {name: value.reveal() for name, value in asked.env.items() if isinstance(value, Secret)}


def command_of(asked: NodeAttrs) -> Sequence[str]:
    if asked.command is None:
        return IDLE
    return ("sh", "-c", asked.command) if isinstance(asked.command, str) else asked.command


def service_ports(ports: Iterable[Port]) -> list[JsonValue]:
    return [{"name": port_name(each), "port": each.number, "protocol": _protocol(each)} for each in ports]


def port_name(port: Port) -> str:
    return f"{_protocol(port).lower()}-{port.number}"


def resources_of(asked: NodeAttrs, options: NodeOptions, placement: Placement) -> Body:
    """A number is what it gets, neither more nor less; `>=` is what it gets at least."""
    requests: dict[str, JsonValue] = {**LEAST}
    limits: dict[str, JsonValue] = {}
    for name, wanted, unit in (("cpu", asked.cpu, ""), ("memory", asked.memory_gb, "G")):
        if wanted is not None:
            requests[name] = _amount(wanted, unit)
            limits |= {} if wanted.at_least else {name: _amount(wanted, unit)}
    if asked.disk_gb is not None:
        requests["ephemeral-storage"] = limits["ephemeral-storage"] = f"{asked.disk_gb}G"
    if asked.gpu is not None and placement.resource:
        limits[placement.resource] = str(asked.gpu.count)
    limits |= options.resources
    return {"requests": requests, **({"limits": limits} if limits else {})}


def claim_name(volume: Ref | str) -> str:
    """The claim behind a reference; a text names it itself."""
    named = volume.remote_id or "" if isinstance(volume, Ref) else volume
    return named.rpartition("/")[2]


def _container(
    asked: NodeAttrs, options: NodeOptions, placement: Placement, *, secret: str, env: Mapping[str, JsonValue]
) -> Body:
    container: Body = {
        "name": MAIN,
        "image": asked.image,
        "command": list[JsonValue](command_of(asked)),
        "workingDir": options.working_dir,
        "env": _env(asked, secret, env),
        "resources": resources_of(asked, options, placement),
        "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}, *_mounts(asked)],
    }
    if asked.ports:
        container["ports"] = [
            {"name": port_name(each), "containerPort": each.number, "protocol": _protocol(each)} for each in asked.ports
        ]
    if options.capabilities:
        container["securityContext"] = {"capabilities": {"add": list[JsonValue](options.capabilities)}}
    return container


def _env(asked: NodeAttrs, secret: str, added: Mapping[str, JsonValue]) -> list[JsonValue]:
    own: list[JsonValue] = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": name}}}
        if isinstance(value, Secret)
        else {"name": name, "value": plain(value)}
        for name, value in asked.env.items()
    ]
    ours: list[JsonValue] = [
        {"name": name, "value": value} if isinstance(value, str) else {"name": name, "valueFrom": value}
        for name, value in added.items()
        if name not in asked.env
    ]
    return [*own, *ours]


def _scratch(asked: NodeAttrs) -> list[JsonValue]:
    """Shared memory, which is 64 MB otherwise and too little for every framework, and a workspace."""
    shm: Body = {"medium": "Memory", **({"sizeLimit": f"{asked.shm_gb}G"} if asked.shm_gb else {})}
    volumes: list[JsonValue] = [{"name": "shm", "emptyDir": shm}]
    return volumes if _has_workspace(asked) else [*volumes, {"name": "workspace", "emptyDir": {}}]


def _claims(asked: NodeAttrs) -> list[JsonValue]:
    return [
        {"name": f"volume-{index}", "persistentVolumeClaim": {"claimName": claim_name(mount.volume)}}
        for index, mount in enumerate(asked.volumes)
    ]


def _mounts(asked: NodeAttrs) -> list[JsonValue]:
    mounts: list[JsonValue] = [
        {"name": f"volume-{index}", "mountPath": mount.mount} for index, mount in enumerate(asked.volumes)
    ]
    return mounts if _has_workspace(asked) else [*mounts, {"name": "workspace", "mountPath": WORKSPACE}]


def _has_workspace(asked: NodeAttrs) -> bool:
    return any(mount.mount.rstrip("/") == WORKSPACE for mount in asked.volumes)


def _protocol(port: Port) -> str:
    return "UDP" if port.protocol == "udp" else "TCP"


def _amount(wanted: Constraint, unit: str) -> str:
    return f"{wanted.amount:g}{unit}"
