"""Which GPUs the machines of a cluster have, by any of the labels that tell so, and how many are free. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from gpuplan.core.gpus import Vendor, canonical_gpu, gpu_by_memory, gpu_satisfies, known_gpus
from gpuplan.providers.kubernetes_wire import Machine, Pod, Taint, quantity

RESOURCES: Mapping[str, Vendor] = {
    "nvidia.com/gpu": Vendor.NVIDIA,
    "nvidia.com/gpu.shared": Vendor.NVIDIA,
    "amd.com/gpu": Vendor.AMD,
    "gpu.intel.com/i915": Vendor.INTEL,
    "gpu.intel.com/xe": Vendor.INTEL,
    "habana.ai/gaudi": Vendor.INTEL,
    "google.com/tpu": Vendor.GOOGLE,
    "tenstorrent.com/n150": Vendor.TENSTORRENT,
    "huawei.com/Ascend910": Vendor.HUAWEI,
}
"""Extended resources that are whole GPUs, by the vendors whose device plugins offer them."""
LABELS = (
    "nvidia.com/gpu.product",
    "cloud.google.com/gke-accelerator",
    "karpenter.k8s.aws/instance-gpu-name",
    "gpu.nvidia.com/class",
    "nebius.com/gpu-name",
    "skypilot.co/accelerator",
    "amd.com/gpu.product-name",
    "amd.com/gpu.device-id",
)
"""Where the model is told, the most precise first."""
SPOT: Mapping[str, str] = {
    "cloud.google.com/gke-spot": "true",
    "karpenter.sh/capacity-type": "spot",
    "eks.amazonaws.com/capacityType": "SPOT",
    "kubernetes.azure.com/scalesetpriority": "spot",
}
REGION, ZONE = "topology.kubernetes.io/region", "topology.kubernetes.io/zone"
INSTANCE_TYPE = "node.kubernetes.io/instance-type"
_DEVICES: Mapping[str, str] = {
    **dict.fromkeys(("74a1", "74b5", "74a0"), "MI300X"),
    **dict.fromkeys(("74a5", "74b9"), "MI325X"),
    **dict.fromkeys(("740c", "7408"), "MI250X"),
    "740f": "MI210",
    "738c": "MI100",
    "75a0": "MI350X",
    "75a3": "MI355X",
}
"""AMD's device ids, where the product name is missing."""
_SPELLINGS: Mapping[str, str] = {
    "nvidia-tesla-a100": "A100-40GB-SXM",
    "nvidia-a100-80gb": "A100-80GB-SXM",
    "nvidia-h100-mega-80gb": "H100-80GB-SXM",
}
"""Google's names that say less than they mean."""
_OLD_DEVICE = re.compile(r"beta\.amd\.com/gpu\.device-id\.([0-9a-f]{4})$")
_SUFFIX = re.compile(r"(-Generation|-Blackwell.*?)?(-MIG-.*)?(-SHARED)?$")
"""What stands behind a model and makes no other one of it."""


@dataclass(frozen=True, slots=True)
class Kit:
    """What one machine has: `gpu` is the canonical name, empty without one. `label` is what selects such machines."""

    gpu: str = ""
    count: int = 0
    resource: str = ""
    label: tuple[str, str] = ("", "")


@dataclass(frozen=True, slots=True)
class Room:
    """A machine that takes pods, and how many of its GPUs are free."""

    machine: Machine
    kit: Kit
    free: int

    @property
    def labels(self) -> Mapping[str, str]:
        return self.machine.metadata.labels

    @property
    def is_spot(self) -> bool:
        return is_spot(self.labels)


def kit_of(machine: Machine) -> Kit:
    """The GPUs of a machine, when one of its labels names a model that is known."""
    labels = machine.metadata.labels
    for resource, text in machine.status.allocatable.items():
        count = int(quantity(text))
        if resource not in RESOURCES or not count:
            continue
        for key in LABELS:
            if key in labels and (gpu := _canonical(key, labels[key], labels)):
                return Kit(gpu, count, resource, (key, labels[key]))
        for key in labels:
            if (match := _OLD_DEVICE.match(key)) and match[1] in _DEVICES:
                return Kit(_DEVICES[match[1]], count, resource, (key, labels[key]))
        return Kit("", count, resource)
    return Kit()


def rooms(machines: Iterable[Machine], pods: Iterable[Pod], tolerated: Sequence[Mapping[str, object]]) -> list[Room]:
    """The machines that take new pods, with what is free there. `tolerated` as in a pod; taints of GPUs and of spot
    machines are told apart by whoever asks for them."""
    used: dict[tuple[str, str], Decimal] = {}
    for pod in pods:
        for resource, amount in pod.requests.items() if pod.spec.node_name else ():
            place = (pod.spec.node_name, resource)
            used[place] = used.get(place, Decimal(0)) + amount
    found = []
    for machine in machines:
        kit = kit_of(machine)
        if machine.spec.unschedulable or not machine.is_ready or _is_barred(machine, kit, tolerated):
            continue
        taken = used.get((machine.metadata.name, kit.resource), Decimal(0))
        found.append(Room(machine, kit, max(0, kit.count - int(taken))))
    return found


def is_spot(labels: Mapping[str, str]) -> bool:
    return any(labels.get(key) == value for key, value in SPOT.items())


def fits(room: Room, gpu: str) -> bool:
    """Whether a machine has what is meant by the name of a GPU."""
    return bool(room.kit.gpu) and gpu_satisfies(room.kit.gpu, gpu)


def tolerates(tolerations: Iterable[Mapping[str, object]], taint: Taint) -> bool:
    return any(
        each.get("effect") in (None, "", taint.effect)
        and each.get("key") in (None, "", taint.key)
        and (each.get("operator") == "Exists" or str(each.get("value", "")) == taint.value)
        for each in tolerations
    )


def _is_barred(machine: Machine, kit: Kit, tolerated: Sequence[Mapping[str, object]]) -> bool:
    for taint in machine.spec.taints:
        is_own = (kit.resource and taint.key == kit.resource) or taint.key in SPOT
        if taint.effect in ("NoSchedule", "NoExecute") and not is_own and not tolerates(tolerated, taint):
            return True
    return False


def _canonical(key: str, text: str, labels: Mapping[str, str]) -> str | None:
    """The canonical name behind a label; None for a part of a GPU, and for what is not known."""
    if key == "amd.com/gpu.device-id":
        return _DEVICES.get(text)
    whole = _SUFFIX.sub("", text, count=1)
    if "-MIG-" in text:
        return None
    known = _SPELLINGS.get(whole.lower()) or canonical_gpu(whole) or canonical_gpu(whole.replace("_NVLINK", ""))
    memory = quantity(labels.get("nvidia.com/gpu.memory", "")) / 1000
    if known is None or not memory:
        return known
    told = known_gpus()[known]
    if abs(told.memory_gb - float(memory)) <= 0.12 * told.memory_gb:
        return known
    # Names such as `A100` leave open which: its memory does not.
    return gpu_by_memory(known.partition("-")[0], float(memory))
