"""The traps of Kubernetes, each by its name; in process, in virtual time."""

from typing import Any

import pytest

from gpuplan.core.desired import Kind
from gpuplan.core.errors import (
    Conflict,
    InvalidRequest,
    NoCapacity,
    Unavailable,
)
from gpuplan.core.observed import Status
from gpuplan.core.offers import OfferQuery
from gpuplan.emulators.faults import Fault, FaultKind
from tests.conformance.kubernetes_account import SETS, Cluster, template_of

PODS = "/api/v1/namespaces/default/pods"


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def test_a_node_that_never_starts_holds_up_neither_the_others_nor_its_own_mending(cluster: Cluster) -> None:
    """Trap 1: with ordered pods, or without taking the broken one away, the mend of an image is never rolled out."""

    async def story(provider: Any) -> None:
        seen = await cluster.create(provider)
        await cluster.update(provider, seen, image="does-not-exist:1")
        for _ in range(30):
            await cluster.clock.sleep(2)
            now = await provider.get(Kind.GROUP, seen.remote_id)
        assert "cannot start" in now.detail
        assert now.healthy is False
        mended = await cluster.update(provider, seen, image="python:3.14")
        mended = await cluster.settled(provider, mended, Status.RUNNING)

        assert "Parallel" == cluster.live(seen)["spec"]["podManagementPolicy"]
        assert "python:3.14" == mended.attrs["image"]

    cluster.run(story)


def test_options_of_a_delete_go_into_its_body(cluster: Cluster) -> None:
    """Trap 2: what stands in the URL is ignored where there is a body, a dry run too."""

    async def story(provider: Any) -> None:
        seen = await cluster.create(provider)
        await provider.delete(Kind.GROUP, seen.remote_id, {})
        (sent,) = [e.request for e in cluster.desk.exchanges if e.request.method == "DELETE"]

        assert {} == dict(sent.query)
        assert "Foreground" == sent.json()["propagationPolicy"]
        assert {"uid": seen.facts["uid"]} == sent.json()["preconditions"]

    cluster.run(story)


def test_what_was_made_anew_under_the_same_name_is_not_deleted(cluster: Cluster) -> None:
    async def story(provider: Any) -> None:
        seen = await cluster.create(provider)
        cluster.world.faults.append(Fault(FaultKind.STATUS, method="DELETE", status=409, times=1))
        with pytest.raises(Conflict):
            await provider.delete(Kind.GROUP, seen.remote_id, {})

        assert cluster.live(seen)

    cluster.run(story)


def test_half_a_cluster_is_not_begun(cluster: Cluster) -> None:
    """Trap 3: pods that found a machine would hold their GPUs for nothing."""

    async def story(provider: Any) -> None:
        cluster.world.shelf("kubernetes", "H100-80GB-SXM", "").available = None
        cluster.world.shelves["kubernetes", "H100-80GB", ""] = shelf = cluster.world.shelf("kubernetes", "none", "")
        shelf.available = 2
        with pytest.raises(NoCapacity) as caught:
            await cluster.create(provider, nodes=3)

        assert "3 nodes need H100-80GB:8 each, and there is room for 2" == caught.value.failure.message
        assert [] == cluster.world.ledger
        assert (await cluster.create(provider, nodes=2)).status is Status.RUNNING

    cluster.run(story)


def test_a_cluster_that_waits_too_long_for_machines_moves_on_to_the_next_place(cluster: Cluster) -> None:
    async def story(provider: Any) -> None:
        want, mark = cluster.ask(gpu=None, options={"node_selector": {"rack": "none"}})
        seen = await provider.advance(want, mark, await provider.create(want, mark, {}), {})
        seen = await provider.get(Kind.GROUP, seen.remote_id)
        assert Status.PENDING is seen.status
        await cluster.clock.sleep(15)
        seen = await provider.get(Kind.GROUP, seen.remote_id)

        assert Status.FAILED is seen.status
        assert isinstance(seen.failure, NoCapacity)
        assert "2 nodes: each waits for a machine: of 56 there are 56 not of the kind it asks for" == seen.detail

    cluster.run(story)


def test_a_lack_is_told_in_plain_words(cluster: Cluster) -> None:
    async def story(provider: Any) -> None:
        seen = await cluster.create(provider, gpu=None, nodes=1, cpu=20)
        for name in ("a", "b", "c", "d", "e", "f", "g", "h"):
            await cluster.create(provider, gpu=None, nodes=1, cpu=20, labels={"who": name})
        cluster.asked("PATCH", "/api/v1/nodes/mi300x-0", {"spec": {"unschedulable": True}})
        await provider.delete(Kind.GROUP, seen.remote_id, {})
        want, mark = cluster.ask(gpu=None, nodes=1, cpu=500)
        waiting = await provider.advance(want, mark, await provider.create(want, mark, {}), {})
        waiting = await provider.get(Kind.GROUP, waiting.remote_id)

        assert "with too little cpu free (it needs 500)" in waiting.detail
        assert "1 closed for new pods" in waiting.detail
        assert "with a taint it does not tolerate" in waiting.detail

    cluster.run(story)


def test_pods_that_their_machine_turned_away_are_lost_not_broken(cluster: Cluster) -> None:
    """Trap 4: after a restart of a machine its GPUs come later than its pods."""

    async def story(provider: Any) -> None:
        seen = await cluster.create(provider, nodes=1)
        (pod,) = cluster.pods(seen)
        why = "Allocate failed due to requested number of devices unavailable for nvidia.com/gpu"
        failed = {"status": {**pod["status"], "phase": "Failed", "reason": "UnexpectedAdmissionError", "message": why}}
        cluster.asked("PATCH", f"{PODS}/{pod['metadata']['name']}/status", failed)
        again = await cluster.settled(provider, await provider.get(Kind.GROUP, seen.remote_id), Status.RUNNING)

        assert pod["metadata"]["uid"] != again.facts["nodes"][0]["id"]

    cluster.run(story)


def test_a_pod_that_does_not_end_is_reported_and_not_forced(cluster: Cluster) -> None:
    """Trap 5: on a dead machine it blocks its place for ever."""

    async def story(provider: Any) -> None:
        seen = await cluster.create(provider, nodes=1)
        machine = seen.facts["nodes"][0]["machine"]
        node = cluster.asked("GET", f"/api/v1/nodes/{machine}")
        (ready,) = node["status"]["conditions"]
        unknown = {
            **ready,
            "status": "Unknown",
            "lastTransitionTime": cluster.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        cluster.asked(
            "PATCH", f"/api/v1/nodes/{machine}/status", {"status": {**node["status"], "conditions": [unknown]}}
        )
        await cluster.clock.sleep(310)
        leaving = await provider.get(Kind.GROUP, seen.remote_id)
        await cluster.clock.sleep(400)
        stuck = await provider.get(Kind.GROUP, seen.remote_id)

        assert leaving.status is not Status.RUNNING
        assert f"does not end: its machine {machine} may be dead" in stuck.detail
        assert not [e for e in cluster.desk.exchanges if e.request.method == "DELETE"]

    cluster.run(story)


def test_an_autoscaler_is_told_by_name_and_not_fought(cluster: Cluster) -> None:
    """Trap 6: somebody else scales the set."""

    async def story(provider: Any) -> None:
        seen = await cluster.create(provider)
        cluster.asked("PATCH", f"{SETS.format(namespace='default')}/{seen.remote_id.partition('/')[2]}/scale",
                      {"spec": {"replicas": 4}}, fieldManager="hpa-controller")  # fmt: skip
        drifted = await cluster.settled(provider, await provider.get(Kind.GROUP, seen.remote_id), Status.RUNNING)
        with pytest.raises(InvalidRequest) as caught:
            await cluster.update(provider, seen, image="python:3.14")
        forced = await cluster.update(provider, seen, image="python:3.14", options={"force": True})

        assert 4 == drifted.attrs["nodes"]
        assert "`nodes` is set by hpa-controller" in drifted.detail
        assert "hpa-controller" in caught.value.failure.message
        assert "`force: true`" in str(caught.value.failure.hint)
        assert 2 == forced.attrs["nodes"]

    cluster.run(story)


def test_what_others_add_to_a_pod_is_no_difference(cluster: Cluster) -> None:
    """Trap 7: webhooks and people add containers, tolerations and labels of their own."""

    async def story(provider: Any) -> None:
        seen = await cluster.create(provider)
        path = f"{SETS.format(namespace='default')}/{seen.remote_id.partition('/')[2]}"
        sidecar = {"name": "istio-proxy", "image": "istio:1"}
        body = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": seen.remote_id.partition("/")[2]},
                "spec": {"template": {"spec": {"containers": [sidecar]}}}}  # fmt: skip
        cluster.asked("PATCH", path, body, fieldManager="mesh", force="false")
        with_sidecar = await cluster.settled(provider, await provider.get(Kind.GROUP, seen.remote_id), Status.RUNNING)
        updated = await cluster.update(provider, seen, image="python:3.14")
        names = [container["name"] for container in template_of(cluster.live(seen))["containers"]]

        assert seen.attrs == with_sidecar.attrs
        assert "python:3.14" == updated.attrs["image"]
        assert ["main", "istio-proxy"] == names

    cluster.run(story)


def test_nodes_do_not_move_because_a_label_was_renamed(cluster: Cluster) -> None:
    """Trap 8: the name of a GPU in labels changes with drivers and modes; only who changes the GPU moves."""

    async def story(provider: Any) -> None:
        seen = await cluster.create(provider)
        before = template_of(cluster.live(seen))["affinity"]
        for index in range(8):
            renamed = {"metadata": {"labels": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3-SHARED"}}}
            cluster.asked("PATCH", f"/api/v1/nodes/h100-{index}", renamed)
        generation = cluster.live(seen)["metadata"]["generation"]
        await cluster.update(provider, seen, "nodes", nodes=3)

        assert before == template_of(cluster.live(seen))["affinity"]
        assert generation + 1 == cluster.live(seen)["metadata"]["generation"]

    cluster.run(story)


def test_one_gpu_is_found_under_all_its_names(cluster: Cluster) -> None:
    async def story(provider: Any) -> None:
        other = {"metadata": {"labels": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3-SHARED"}}}
        cluster.asked("PATCH", "/api/v1/nodes/h100-0", other)
        seen = await cluster.create(provider)
        (term,) = template_of(cluster.live(seen))["affinity"]["nodeAffinity"][
            "requiredDuringSchedulingIgnoredDuringExecution"
        ]["nodeSelectorTerms"]
        values = next(each["values"] for each in term["matchExpressions"] if "product" in each["key"])

        assert ["NVIDIA-H100-80GB-HBM3", "NVIDIA-H100-80GB-HBM3-SHARED"] == values

    cluster.run(story)


def test_a_request_for_80_gb_is_never_met_by_40(cluster: Cluster) -> None:
    async def story(provider: Any) -> None:
        # A label that leaves the memory open.
        for index in range(8):
            cluster.asked("PATCH", f"/api/v1/nodes/a100-small-{index}",
                          {"metadata": {"labels": {"nvidia.com/gpu.product": "A100"}}})  # fmt: skip
        offers = await provider.offers(OfferQuery(gpu="A100-80GB"))
        small = await provider.offers(OfferQuery(gpu="A100-40GB"))

        assert {"a100.8x"} == {offer.instance_type for offer in offers}
        assert {"a100-40.8x"} == {offer.instance_type for offer in small}

    cluster.run(story)


def test_shared_memory_is_more_than_the_64_mb_of_a_container(cluster: Cluster) -> None:
    """Trap 9."""

    async def story(provider: Any) -> None:
        spec = template_of(cluster.live(await cluster.create(provider, shm_gb=32)))
        (shm,) = [volume for volume in spec["volumes"] if volume["name"] == "shm"]
        (mount,) = [mount for mount in spec["containers"][0]["volumeMounts"] if mount["name"] == "shm"]

        assert {"medium": "Memory", "sizeLimit": "32G"} == shm["emptyDir"]
        assert "/dev/shm" == mount["mountPath"]

    cluster.run(story)


def test_the_runtime_class_can_be_said(cluster: Cluster) -> None:
    """Trap 10: on some clusters a container sees its GPUs only through it."""

    async def story(provider: Any) -> None:
        seen = await cluster.create(provider, options={"runtime_class": "nvidia"})

        assert "nvidia" == template_of(cluster.live(seen))["runtimeClassName"]

    cluster.run(story)


def test_gpus_are_always_limited(cluster: Cluster) -> None:
    """Trap 11: without a limit an image may see every GPU of its machine."""

    async def story(provider: Any) -> None:
        (container,) = template_of(cluster.live(await cluster.create(provider)))["containers"]

        assert "8" == container["resources"]["limits"]["nvidia.com/gpu"]
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()

    cluster.run(story)


def test_a_cluster_is_up_only_once_every_node_has_the_new_revision(cluster: Cluster) -> None:
    """Trap 12: pods that are going are counted, and old ones are ready too."""

    async def story(provider: Any) -> None:
        seen = await cluster.create(provider)
        await cluster.update(provider, seen, image="python:3.14")
        states = []
        for _ in range(60):
            now = await provider.get(Kind.GROUP, seen.remote_id)
            images = {pod["spec"]["containers"][0]["image"] for pod in cluster.pods(seen)}
            states.append((now.status, images))
            await cluster.clock.sleep(2)

        assert Status.STARTING in {status for status, _ in states}
        assert all(images == {"python:3.14"} for status, images in states if status is Status.RUNNING)
        assert Status.RUNNING is states[-1][0]

    cluster.run(story)


def test_pages_that_expired_are_read_again_from_the_first(cluster: Cluster) -> None:
    """Trap 13: whoever remembers where it was misses what happened meanwhile."""

    async def story(provider: Any) -> None:
        made = [await cluster.create(provider, nodes=1) for _ in range(3)]
        cluster.world.knobs["kubernetes"]["most_per_page"] = 1
        gone = Fault(FaultKind.STATUS, method="GET", route="*{plural}", status=410, times=1)
        cluster.world.faults.append(gone)
        listed = await provider.list(Kind.GROUP, frozenset())
        assert {each.remote_id for each in made} == {each.remote_id for each in listed.objects}
        cluster.world.faults.append(Fault(FaultKind.STATUS, method="GET", route="*{plural}", status=410, times=None))
        with pytest.raises(Unavailable):
            await provider.list(Kind.GROUP, frozenset())
        cluster.world.faults.clear()

    cluster.run(story)


def test_machines_that_are_not_ready_yet_have_no_room(cluster: Cluster) -> None:
    """Trap 14: a fresh machine has a taint until somebody has seen it ready."""

    async def story(provider: Any) -> None:
        fresh = {"spec": {"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]}}
        for index in range(8):
            cluster.asked("PATCH", f"/api/v1/nodes/h100-{index}", fresh)
        (offer,) = [o for o in await provider.offers(OfferQuery(gpu="H100-80GB", gpu_count=8)) if o.pricing == "spot"]
        on_demand = [o for o in await provider.offers(OfferQuery(gpu="H100-80GB", gpu_count=8)) if o.pricing != "spot"]
        with pytest.raises(NoCapacity):
            await cluster.create(provider)

        assert 8 == offer.max_count
        assert [] == on_demand

    cluster.run(story)


def test_fields_that_kubectl_applied_are_a_conflict_until_they_are_taken_over(cluster: Cluster) -> None:
    """Trap 15: `kubectl apply` of a user makes him an owner, too."""

    async def story(provider: Any) -> None:
        seen = await cluster.create(provider)
        path = f"{SETS.format(namespace='default')}/{seen.remote_id.partition('/')[2]}"
        image = [{**template_of(cluster.live(seen))["containers"][0], "image": "python:3.9"}]
        cluster.asked("PATCH", path, {"spec": {"template": {"spec": {"containers": image}}}},
                      fieldManager="kubectl-client-side-apply")  # fmt: skip
        drifted = await provider.get(Kind.GROUP, seen.remote_id)
        with pytest.raises(InvalidRequest):
            await cluster.update(provider, seen, "nodes", nodes=3)
        forced = await cluster.update(provider, seen, nodes=3, options={"force": True})

        assert "python:3.9" == drifted.attrs["image"]
        assert "`image` is set by kubectl-client-side-apply" in drifted.detail
        assert ("python:3.13", 3) == (forced.attrs["image"], forced.attrs["nodes"])

    cluster.run(story)


def test_tables_are_never_asked_for(cluster: Cluster) -> None:
    """Trap 16: kubectl is shown something else than everybody else."""

    async def story(provider: Any) -> None:
        await cluster.create(provider)
        await provider.list(Kind.GROUP, frozenset())

        assert {"application/json"} == {exchange.request.headers["accept"] for exchange in cluster.desk.exchanges}

    cluster.run(story)
