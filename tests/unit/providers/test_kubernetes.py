"""What gpuplan makes of what Kubernetes says, and the other way round: pure functions, documented samples."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from gpuplan.core.kinds import NodeAttrs
from gpuplan.core.observed import Status
from gpuplan.providers.kubernetes_bodies import applied_by, taken_over, to_set
from gpuplan.providers.kubernetes_gpus import kit_of, rooms
from gpuplan.providers.kubernetes_health import Condition, health_of, look_at
from gpuplan.providers.kubernetes_options import NodeOptions, Options
from gpuplan.providers.kubernetes_placing import Placement, Terms, place
from gpuplan.providers.kubernetes_pods import IDLE
from gpuplan.providers.kubernetes_wire import Machine, Meta, Pod, StatefulSet, quantity

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
AGO = (NOW - timedelta(seconds=90)).isoformat()


def machine(name: str = "gpu-1", *, labels: dict[str, str], allocatable: dict[str, str], **spec: Any) -> Machine:
    ready = [{"type": "Ready", "status": "True"}]
    return Machine.model_validate(
        {
            "metadata": {"name": name, "labels": labels},
            "spec": spec,
            "status": {"allocatable": allocatable, "conditions": ready},
        }
    )


def h100(name: str = "gpu-1", **spec: Any) -> Machine:
    labels = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "nvidia.com/gpu.memory": "81559"}
    return machine(name, labels=labels, allocatable={"nvidia.com/gpu": "8"}, **spec)


def pod(phase: str, *, node: str = "gpu-1", **status: Any) -> Pod:
    return Pod.model_validate(
        {
            "metadata": {"name": "train-0", "uid": "p-0", "creationTimestamp": AGO},
            "spec": {
                "nodeName": node,
                "containers": [{"name": "main", "resources": {"requests": {"nvidia.com/gpu": "8"}}}],
            },
            "status": {"phase": phase, **status},
        }
    )


def condition(type: str, status: str, reason: str = "", message: str = "") -> dict[str, str]:
    return {"type": type, "status": status, "reason": reason, "message": message, "lastTransitionTime": AGO}


def waiting(reason: str, message: str = "", **last: Any) -> list[dict[str, Any]]:
    return [{"name": "main", "state": {"waiting": {"reason": reason, "message": message}}, "lastState": last}]


def a_set(**status: Any) -> StatefulSet:
    counted = {"observedGeneration": 1, "replicas": 2, "readyReplicas": 2, "updatedReplicas": 2}
    return StatefulSet.model_validate(
        {
            "metadata": {"name": "train", "namespace": "ml", "uid": "s", "generation": 1},
            "spec": {"replicas": 2},
            "status": {**counted, "currentRevision": "r1", "updateRevision": "r1", **status},
        }
    )


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("8", "8"),
        ("191500m", "191.5"),
        ("2040Gi", "2190433320960"),
        ("1e3", "1000"),
        ("256G", "256000000000"),
        ("nonsense", "0"),
    ],
)
def test_quantities(text: str, amount: str) -> None:
    assert Decimal(amount) == quantity(text)


@pytest.mark.parametrize(
    ("labels", "gpu"),
    [
        ({"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}, "H100-80GB-SXM"),
        ({"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB", "nvidia.com/gpu.memory": "40960"}, "A100-40GB-SXM"),
        ({"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB-SHARED"}, "A100-80GB-SXM"),
        ({"nvidia.com/gpu.product": "A100", "nvidia.com/gpu.memory": "40960"}, "A100-40GB"),
        ({"nvidia.com/gpu.product": "A100-SXM4-40GB-MIG-1g.5gb"}, ""),
        ({"nvidia.com/gpu.product": "Tesla-T4"}, "T4"),
        ({"nvidia.com/gpu.product": "NVIDIA-L40S"}, "L40S"),
        ({"nvidia.com/gpu.product": "NVIDIA-RTX-6000-Ada-Generation"}, "RTX6000Ada"),
        ({"nvidia.com/gpu.product": "NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition"}, "RTXPRO6000"),
        ({"cloud.google.com/gke-accelerator": "nvidia-tesla-a100"}, "A100-40GB-SXM"),
        ({"cloud.google.com/gke-accelerator": "nvidia-h100-mega-80gb"}, "H100-80GB-SXM"),
        ({"cloud.google.com/gke-accelerator": "nvidia-h200-141gb"}, "H200"),
        ({"cloud.google.com/gke-accelerator": "nvidia-l4"}, "L4"),
        ({"karpenter.k8s.aws/instance-gpu-name": "a10g"}, "A10G"),
        ({"gpu.nvidia.com/class": "H100_NVLINK_80GB"}, "H100-80GB"),
        ({"nebius.com/gpu-name": "H100"}, "H100-80GB"),
        ({"skypilot.co/accelerator": "h100"}, "H100-80GB"),
        ({"nvidia.com/gpu.product": "Brand-New-GPU"}, ""),
    ],
)
def test_a_model_is_found_behind_every_label_that_tells_it(labels: dict[str, str], gpu: str) -> None:
    assert gpu == kit_of(machine(labels=labels, allocatable={"nvidia.com/gpu": "8"})).gpu


@pytest.mark.parametrize(
    "labels",
    [
        {"amd.com/gpu.product-name": "AMD-Instinct-MI300X"},
        {"amd.com/gpu.device-id": "74a1"},
        {"beta.amd.com/gpu.device-id.74b5": "8"},
    ],
)
def test_gpus_of_amd_are_known_by_name_and_by_device(labels: dict[str, str]) -> None:
    kit = kit_of(machine(labels=labels, allocatable={"amd.com/gpu": "8", "cpu": "96"}))

    assert ("MI300X", 8, "amd.com/gpu") == (kit.gpu, kit.count, kit.resource)


def test_what_runs_on_a_machine_is_taken_and_what_is_closed_does_not_count() -> None:
    machines = [
        h100(),
        h100("gpu-2", unschedulable=True),
        h100("gpu-3", taints=[{"key": "team", "value": "a", "effect": "NoSchedule"}]),
        h100("gpu-4", taints=[{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]),
    ]
    running = pod("Running").model_copy(update={"spec": pod("Running").spec})
    tolerated = [{"key": "team", "operator": "Equal", "value": "a"}]

    assert [("gpu-1", 0), ("gpu-4", 8)] == [(r.machine.metadata.name, r.free) for r in rooms(machines, [running], [])]
    assert "gpu-3" in [room.machine.metadata.name for room in rooms(machines, [], tolerated)]


@pytest.mark.parametrize(
    ("seen", "expected", "why"),
    [
        (pod("Pending", node=""), Condition.STARTING, ""),
        (pod("Pending", containerStatuses=waiting("ContainerCreating")), Condition.STARTING, ""),
        (
            pod("Pending", containerStatuses=waiting("ImagePullBackOff", 'Back-off pulling image "x"')),
            Condition.BROKEN,
            'cannot start: ImagePullBackOff: Back-off pulling image "x"',
        ),
        (
            pod("Pending", containerStatuses=waiting("ErrImagePull", "429 toomanyrequests")),
            Condition.STARTING,
            "waits for its image: 429 toomanyrequests",
        ),
        (
            pod(
                "Running",
                containerStatuses=waiting(
                    "CrashLoopBackOff", "back-off", terminated={"exitCode": 137, "reason": "OOMKilled"}
                ),
            ),
            Condition.BROKEN,
            "cannot start: CrashLoopBackOff, it ended with 137: OOMKilled",
        ),
        (pod("Running", conditions=[condition("Ready", "True")]), Condition.READY, ""),
        (pod("Running", conditions=[condition("Ready", "False")]), Condition.STARTING, "runs, and is not ready yet"),
        (pod("Failed", reason="Evicted", message="low on memory"), Condition.LOST, "ended: low on memory"),
        (pod("Failed", reason="UnexpectedAdmissionError"), Condition.LOST, "ended: UnexpectedAdmissionError"),
        (
            pod("Running", conditions=[condition("DisruptionTarget", "True", "PreemptionByScheduler")]),
            Condition.LOST,
            "preempted by something more important",
        ),
        (
            pod("Pending", node="", conditions=[condition("PodScheduled", "False", "SchedulingGated", "blocked")]),
            Condition.STARTING,
            "waits in a queue",
        ),
        (pod("Quantum"), Condition.UNKNOWN, "Kubernetes says it is `Quantum`"),
    ],
)
def test_what_a_pod_is_doing(seen: Pod, expected: Condition, why: str) -> None:
    look = look_at(seen, NOW)

    assert (expected, why) == (look.condition, look.why)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. no new claims to deallocate, preemption: 0/3 "
            "nodes are available: 3 No preemption victims found for incoming pod.",
            "of 3 there are 3 with too little nvidia.com/gpu free (it needs 8)",
        ),
        (
            "0/4 nodes are available: 1 node(s) had untolerated taint {key: value}, 3 node(s) didn't match Pod's node "
            "affinity/selector. no new claims to deallocate, preemption: 0/4 nodes are available: 4 Preemption is not "
            "helpful for scheduling.",
            "of 4 there are 1 with a taint it does not tolerate, 3 not of the kind it asks for",
        ),
        ("0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims.", "its volume is not bound"),
        ("something nobody has heard of", "something nobody has heard of"),
    ],
)
def test_why_nothing_takes_a_pod_is_told_in_plain_words(message: str, words: str) -> None:
    seen = pod("Pending", node="", conditions=[condition("PodScheduled", "False", "Unschedulable", message)])

    assert f"waits for a machine: {words}" == look_at(seen, NOW).why


def test_a_part_that_is_broken_makes_a_cluster_unhealthy_and_not_failed() -> None:
    """Kubernetes goes on mending it, and seven of eight nodes are not thrown away for the eighth."""
    ready = pod("Running", conditions=[condition("Ready", "True")])
    broken = pod("Running", containerStatuses=waiting("CrashLoopBackOff"))

    part = health_of(a_set(readyReplicas=1), [ready, broken], (), NOW, provider="k", patience=10)
    whole = health_of(a_set(readyReplicas=0), [broken, broken], (), NOW, provider="k", patience=10)

    assert (Status.RUNNING, False) == (part.status, part.healthy)
    assert Status.FAILED is whole.status
    assert "2 nodes: each cannot start: CrashLoopBackOff" == whole.detail


def test_a_cluster_that_others_own_a_part_of_says_whom() -> None:
    fields = {
        "f:spec": {"f:replicas": {}, "f:template": {"f:spec": {"f:containers": {'k:{"name":"main"}': {"f:image": {}}}}}}
    }
    entries = [
        {"manager": "gpuplan", "operation": "Apply", "fieldsV1": fields},
        {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": fields},
        {"manager": "kube-controller-manager", "subresource": "status", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
    ]

    assert {"nodes": "kubectl-edit", "image": "kubectl-edit"} == taken_over(
        Meta.model_validate({"managedFields": entries}), "gpuplan"
    )


def test_what_was_applied_is_found_again_in_the_whole_object() -> None:
    body = to_set(
        "train", NodeAttrs.of({"nodes": 2, "image": "a:1", "env": {"A": "1"}, "ports": [80]}), Placement(), {}
    )
    fields = {
        "f:metadata": {"f:labels": {"f:gpuplan.io/cluster": {}}},
        "f:spec": {
            "f:replicas": {},
            "f:template": {"f:spec": {"f:containers": {'k:{"name":"main"}': {".": {}, "f:name": {}, "f:env": {
                'k:{"name":"A"}': {".": {}, "f:name": {}, "f:value": {}}}}}}},
        },
    }  # fmt: skip
    tree: dict[str, Any] = {**body, "status": {"replicas": 2}}
    tree["metadata"] = {
        **tree["metadata"],
        "uid": "x",
        "managedFields": [{"manager": "gpuplan", "operation": "Apply", "fieldsV1": fields}],
    }

    assert {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "train", "labels": {"gpuplan.io/cluster": "train"}},
        "spec": {
            "replicas": 2,
            "template": {"spec": {"containers": [{"name": "main", "env": [{"name": "A", "value": "1"}]}]}},
        },
    } == applied_by(tree, "gpuplan")
    assert applied_by(tree, "somebody-else") is None


def test_a_node_without_a_command_stays_and_a_text_is_for_the_shell() -> None:
    def command(given: Any) -> Any:
        attrs = {"image": "a:1", **({"command": given} if given else {})}
        body: Any = to_set("train", NodeAttrs.of(attrs), Placement(), {})
        return body["spec"]["template"]["spec"]["containers"][0]["command"]

    assert list(IDLE) == command(None)
    assert ["sh", "-c", "python train.py"] == command("python train.py")
    assert ["python", "train.py"] == command(["python", "train.py"])


def test_a_number_is_a_limit_too_and_at_least_is_none() -> None:
    def resources(**attrs: Any) -> Any:
        body: Any = to_set("train", NodeAttrs.of({"image": "a:1", **attrs}), Placement("nvidia.com/gpu"), {})
        return body["spec"]["template"]["spec"]["containers"][0]["resources"]

    assert {"requests": {"cpu": "4", "memory": "32G"}, "limits": {"cpu": "4", "memory": "32G"}} == resources(
        cpu=4, memory_gb=32
    )
    assert {"requests": {"cpu": "4", "memory": "32G"}} == resources(cpu=">=4", memory_gb=">=32")
    assert {"nvidia.com/gpu": "8"} == resources(gpu="H100-80GB:8")["limits"]


def test_ranks_and_the_first_node_are_told_to_every_node() -> None:
    body: Any = to_set("train", NodeAttrs.of({"image": "a:1", "nodes": 4}), Placement(), {})
    env = {each["name"]: each.get("value") or each["valueFrom"] for each in
           body["spec"]["template"]["spec"]["containers"][0]["env"]}  # fmt: skip

    assert "train-0.train" == env["MASTER_ADDR"]
    assert "4" == env["NNODES"]
    assert {"fieldRef": {"fieldPath": "metadata.labels['apps.kubernetes.io/pod-index']"}} == env["NODE_RANK"]


def test_a_gpu_that_no_machine_has_has_no_place() -> None:
    terms = Terms.of(NodeAttrs.of({"gpu": "B200:8", "image": "a:1"}), None)
    found = rooms([h100()], [], [])

    assert place(terms, NodeOptions(), Options(), found) is None
    with pytest.raises(ValueError, match="node_selector"):
        place(terms, NodeOptions(), Options(), None)


def test_a_region_and_a_gpu_are_asked_for_together() -> None:
    terms = Terms.of(NodeAttrs.of({"gpu": "H100-80GB:8", "image": "a:1", "zone": "a"}), None)
    labels = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "topology.kubernetes.io/zone": "a"}
    found = rooms([machine(labels=labels, allocatable={"nvidia.com/gpu": "8"}), h100("elsewhere")], [], [])
    placement = place(terms, NodeOptions(), Options(), found)

    assert placement is not None
    assert 1 == placement.free
    assert {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {
                        "matchExpressions": [
                            {"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["a"]},
                            {"key": "nvidia.com/gpu.product", "operator": "In", "values": ["NVIDIA-H100-80GB-HBM3"]},
                        ]
                    }
                ]
            }
        }
    } == placement.affinity
