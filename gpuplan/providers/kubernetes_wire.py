"""What a Kubernetes API server answers, as far as gpuplan reads it: sets, pods, machines, claims, quotas, events."""

import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, TypeAlias

from pydantic import Field

from gpuplan.core.values import JsonValue
from gpuplan.net.payload import CamelPayload

Body: TypeAlias = dict[str, JsonValue]
Tree: TypeAlias = dict[str, Any]
"""A whole object, taken apart field by field: fields of others are in it that no payload names."""

_QUANTITY = re.compile(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)([A-Za-z]*)")
_UNITS: Mapping[str, Decimal] = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    **{unit: Decimal(1000) ** power for power, unit in enumerate(("k", "M", "G", "T", "P", "E"), 1)},
    **{unit: Decimal(1024) ** power for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)},
}
GB = Decimal(10) ** 9


def quantity(text: str) -> Decimal:
    """What `8`, `191500m`, `2040Gi` or `1e3` say; 0 for anything else."""
    match = _QUANTITY.fullmatch(text)
    if match is None or match[2] not in _UNITS:
        return Decimal(0)
    try:
        return Decimal(match[1]) * _UNITS[match[2]]
    except InvalidOperation:
        return Decimal(0)


class Owner(CamelPayload):
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False


class Managed(CamelPayload):
    """Who set which fields."""

    manager: str = ""
    operation: str = ""
    subresource: str = ""
    fields_v1: Mapping[str, Any] = {}


class Meta(CamelPayload):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    owner_references: tuple[Owner, ...] = ()
    managed_fields: tuple[Managed, ...] = ()

    @property
    def remote_id(self) -> str:
        return f"{self.namespace}/{self.name}"


class Resources(CamelPayload):
    limits: Mapping[str, str] = {}
    requests: Mapping[str, str] = {}


class EnvVar(CamelPayload):
    name: str
    value: str = ""
    value_from: Mapping[str, Any] = {}


class VolumeMount(CamelPayload):
    name: str = ""
    mount_path: str = ""


class ContainerPort(CamelPayload):
    container_port: int
    protocol: str = "TCP"


class Container(CamelPayload):
    name: str = ""
    image: str = ""
    command: tuple[str, ...] = ()
    env: tuple[EnvVar, ...] = ()
    ports: tuple[ContainerPort, ...] = ()
    resources: Resources = Resources()
    volume_mounts: tuple[VolumeMount, ...] = ()


class ClaimSource(CamelPayload):
    claim_name: str = ""


class Volume(CamelPayload):
    name: str = ""
    persistent_volume_claim: ClaimSource | None = None


class PodSpec(CamelPayload):
    node_name: str = ""
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    volumes: tuple[Volume, ...] = ()
    affinity: Mapping[str, Any] = {}
    tolerations: tuple[Mapping[str, Any], ...] = ()


class Condition(CamelPayload):
    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    last_transition_time: datetime | None = None


class ContainerStatus(CamelPayload):
    name: str = ""
    ready: bool = False
    restart_count: int = 0
    state: Mapping[str, Any] = {}
    last_state: Mapping[str, Any] = {}


class PodStatus(CamelPayload):
    phase: str = ""
    reason: str = ""
    message: str = ""
    pod_ip: str = Field("", alias="podIP")
    host_ip: str = Field("", alias="hostIP")
    conditions: tuple[Condition, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()

    def condition(self, type: str) -> Condition | None:
        return next((each for each in self.conditions if each.type == type), None)


class Pod(CamelPayload):
    metadata: Meta = Meta()
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def owner(self) -> str:
        """The uid of what made it."""
        return next((owner.uid for owner in self.metadata.owner_references if owner.controller), "")

    @property
    def requests(self) -> Mapping[str, Decimal]:
        """What it takes of a machine: its containers together, or its greediest init container."""
        total: dict[str, Decimal] = {}
        for container in self.spec.containers:
            for name, text in container.resources.requests.items():
                total[name] = total.get(name, Decimal(0)) + quantity(text)
        for container in self.spec.init_containers:
            for name, text in container.resources.requests.items():
                total[name] = max(total.get(name, Decimal(0)), quantity(text))
        return total


class Template(CamelPayload):
    metadata: Meta = Meta()
    spec: PodSpec = PodSpec()


class SetSpec(CamelPayload):
    replicas: int = 1
    template: Template = Template()


class SetStatus(CamelPayload):
    """Counters that are not there are zero."""

    observed_generation: int = 0
    replicas: int = 0
    ready_replicas: int = 0
    updated_replicas: int = 0
    current_revision: str = ""
    update_revision: str = ""


class StatefulSet(CamelPayload):
    metadata: Meta = Meta()
    spec: SetSpec = SetSpec()
    status: SetStatus = SetStatus()

    @property
    def main(self) -> Container:
        """The container the spec speaks of; others may have been added to it."""
        containers = self.spec.template.spec.containers
        return next((each for each in containers if each.name == MAIN), containers[0] if containers else Container())

    @property
    def is_rolled_out(self) -> bool:
        """Whether every pod is what the set asks for, and ready. `replicas` counts those that are going, too."""
        status, wanted = self.status, self.spec.replicas
        return (
            status.observed_generation >= self.metadata.generation
            and status.updated_replicas == wanted
            and status.ready_replicas == wanted
            and status.current_revision == status.update_revision
        )


MAIN = "main"


class Taint(CamelPayload):
    key: str = ""
    value: str = ""
    effect: str = ""


class MachineSpec(CamelPayload):
    unschedulable: bool = False
    taints: tuple[Taint, ...] = ()


class MachineStatus(CamelPayload):
    allocatable: Mapping[str, str] = {}
    conditions: tuple[Condition, ...] = ()


class Machine(CamelPayload):
    """A Node of the cluster; gpuplan's nodes are pods."""

    metadata: Meta = Meta()
    spec: MachineSpec = MachineSpec()
    status: MachineStatus = MachineStatus()

    @property
    def is_ready(self) -> bool:
        return any(each.type == "Ready" and each.status == "True" for each in self.status.conditions)


class ClaimResources(CamelPayload):
    requests: Mapping[str, str] = {}


class ClaimSpec(CamelPayload):
    storage_class_name: str = ""
    access_modes: tuple[str, ...] = ()
    resources: ClaimResources = ClaimResources()


class ClaimStatus(CamelPayload):
    phase: str = ""
    capacity: Mapping[str, str] = {}


class Claim(CamelPayload):
    """A PersistentVolumeClaim."""

    metadata: Meta = Meta()
    spec: ClaimSpec = ClaimSpec()
    status: ClaimStatus = ClaimStatus()


class QuotaStatus(CamelPayload):
    hard: Mapping[str, str] = {}
    used: Mapping[str, str] = {}


class Quota(CamelPayload):
    metadata: Meta = Meta()
    status: QuotaStatus = QuotaStatus()


class Regarding(CamelPayload):
    uid: str = ""


class Event(CamelPayload):
    """`first_timestamp` and `last_timestamp` are null in events of the new style."""

    metadata: Meta = Meta()
    involved_object: Regarding = Regarding()
    reason: str = ""
    message: str = ""
    type: str = ""
    event_time: datetime | None = None
    last_timestamp: datetime | None = None

    @property
    def at(self) -> datetime | None:
        return self.event_time or self.last_timestamp or self.metadata.creation_timestamp
