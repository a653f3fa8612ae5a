"""The machines of an emulated cluster: what GPUs they have, and how their labels and taints tell so.

How many there are of each is the knob `machines`, or the stock of their GPU.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from gpuplan.core.gpus import known_gpus
from gpuplan.emulators.kubernetes_fields import Tree
from gpuplan.emulators.kubernetes_store import stamp
from gpuplan.emulators.site import Site

REGION = "eu-west"


@dataclass(frozen=True, slots=True)
class Machine:
    """A type of machine. `gpu` is the canonical name, by which stock is set; empty: it has none."""

    name: str
    gpu: str
    resource: str
    count: int
    labels: Mapping[str, str]
    cpu: int = 192
    memory: str = "2040Gi"
    instance_type: str = ""
    taints: tuple[tuple[str, str], ...] = ()
    zone: str = "a"

    @property
    def shelves(self) -> tuple[str, ...]:
        """The names its stock may be set by."""
        gpu = known_gpus().get(self.gpu)
        return tuple(dict.fromkeys(name for name in (self.gpu, gpu.base if gpu else "", self.instance_type) if name))


def _nvidia(product: str, count: int, memory_mib: int, family: str) -> dict[str, str]:
    """Labels of GPU feature discovery."""
    return {
        "nvidia.com/gpu.present": "true",
        "nvidia.com/gpu.product": product,
        "nvidia.com/gpu.count": str(count),
        "nvidia.com/gpu.memory": str(memory_mib),
        "nvidia.com/gpu.family": family,
        "nvidia.com/gpu.replicas": "1",
        "nvidia.com/mig.capable": "true",
        "nvidia.com/mig.strategy": "single",
        "nvidia.com/cuda.driver-version.full": "580.95.05",
        "nvidia.com/cuda.runtime-version.full": "13.0",
    }


_NVIDIA, _GPU_TAINT = "nvidia.com/gpu", (("nvidia.com/gpu", "present"),)
_H100 = _nvidia("NVIDIA-H100-80GB-HBM3", 8, 81559, "hopper")
MACHINES = (
    Machine("h100", "H100-80GB-SXM", _NVIDIA, 8, _H100, instance_type="h100.8x", taints=_GPU_TAINT),
    Machine(
        "h100-spot",
        "H100-80GB-SXM",
        _NVIDIA,
        8,
        {**_H100, "karpenter.sh/capacity-type": "spot"},
        instance_type="h100.8x-spot",
        taints=(*_GPU_TAINT, ("karpenter.sh/capacity-type", "spot")),
        zone="b",
    ),
    Machine(
        "a100",
        "A100-80GB-SXM",
        _NVIDIA,
        8,
        _nvidia("NVIDIA-A100-SXM4-80GB", 8, 81920, "ampere"),
        cpu=96,
        memory="1020Gi",
        instance_type="a100.8x",
        taints=_GPU_TAINT,
    ),
    Machine(
        "a100-small",
        "A100-40GB-SXM",
        _NVIDIA,
        8,
        _nvidia("NVIDIA-A100-SXM4-40GB", 8, 40960, "ampere"),
        cpu=96,
        memory="1020Gi",
        instance_type="a100-40.8x",
        taints=_GPU_TAINT,
    ),
    Machine(
        "l4",
        "L4",
        _NVIDIA,
        1,
        {"cloud.google.com/gke-accelerator": "nvidia-l4", "cloud.google.com/gke-accelerator-count": "1"},
        cpu=16,
        memory="62Gi",
        instance_type="g2-standard-16",
        taints=_GPU_TAINT,
        zone="b",
    ),
    Machine(
        "mi300x",
        "MI300X",
        "amd.com/gpu",
        8,
        {"beta.amd.com/gpu.device-id.74b5": "8", "amd.com/gpu.device-id": "74b5", "amd.com/gpu.vram": "192G"},
        memory="2296Gi",
        instance_type="mi300x.8x",
        zone="b",
    ),
    Machine("cpu", "", "", 0, {}, cpu=32, memory="125Gi", instance_type="cpu.32x"),
)


def wanted_machines(site: Site) -> dict[str, tuple[Machine, bool]]:
    """By name, every machine there shall be; False where new pods are kept off it."""
    found: dict[str, tuple[Machine, bool]] = {}
    for machine in MACHINES:
        stock = _stock(site, machine)
        whole = site.count("machines")
        for index in range(whole):
            found[f"{machine.name}-{index}"] = machine, stock is None or index < stock
    return found


def node_tree(name: str, machine: Machine, now: datetime, *, address: str) -> Tree:
    """The Node object of a machine."""
    resources = {"cpu": str(machine.cpu), "memory": machine.memory, "pods": "110", "ephemeral-storage": "900G"}
    if machine.gpu:
        resources[machine.resource] = str(machine.count)
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "node.kubernetes.io/instance-type": machine.instance_type,
        "topology.kubernetes.io/region": REGION,
        "topology.kubernetes.io/zone": f"{REGION}-{machine.zone}",
        **machine.labels,
    }
    taints = [{"key": key, "value": value, "effect": "NoSchedule"} for key, value in machine.taints]
    return {
        "kind": "Node",
        "apiVersion": "v1",
        "metadata": {"name": name, "labels": labels},
        "spec": {"providerID": f"emulator://{name}", **({"taints": taints} if taints else {})},
        "status": {
            "capacity": dict(resources),
            "allocatable": {**resources, "cpu": f"{machine.cpu * 1000 - 500}m"},
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True",
                    "reason": "KubeletReady",
                    "message": "kubelet is posting ready status",
                    "lastHeartbeatTime": stamp(now),
                    "lastTransitionTime": stamp(now),
                }
            ],
            "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
            "nodeInfo": {
                "machineID": "",
                "systemUUID": "",
                "bootID": "",
                "kernelVersion": "6.8.0",
                "osImage": "Ubuntu 24.04.3 LTS",
                "containerRuntimeVersion": "containerd://2.1.4",
                "kubeletVersion": "v1.36.2",
                "kubeProxyVersion": "",
                "operatingSystem": "linux",
                "architecture": "amd64",
            },
        },
    }


def _stock(site: Site, machine: Machine) -> int | None:
    for name in machine.shelves:
        available = site.shelf(name, REGION).available
        if available is not None:
            return available
    return None
