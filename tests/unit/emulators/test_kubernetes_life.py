"""What happens in the emulated cluster by itself: sets, jobs, deployments, machines, pods, watches, logs."""

import json
from collections.abc import Sequence

import pytest

from gpuplan.core.values import JsonValue
from gpuplan.emulators.kubernetes_store import Cluster
from gpuplan.emulators.world import Shelf
from tests.unit.emulators.kubernetes_client import JOBS, MERGE, PODS, SETS, Server, Told, job, stateful_set


@pytest.fixture
def server() -> Server:
    return Server()


def events(server: Server, reason: str) -> list[str]:
    found = server.ask("GET", "/api/v1/namespaces/default/events", fieldSelector=f"reason={reason}").body["items"]
    return [event["message"] for event in found]


def phases(server: Server) -> dict[str, str]:
    return {pod["metadata"]["name"]: pod["status"]["phase"] for pod in server.ask("GET", PODS).body["items"]}


def flowing(told: Told, lines: Sequence[bytes] | None) -> list[tuple[str, JsonValue]]:
    found = [json.loads(line) for line in lines or ()]
    return [(each["type"], each["object"].get("metadata", {}).get("name")) for each in found]


def test_a_parallel_set_makes_all_its_pods_and_an_ordered_one_waits(server: Server) -> None:
    server.ask("POST", SETS, stateful_set("parallel"))
    server.ask("POST", SETS, stateful_set("ordered", podManagementPolicy="OrderedReady"))
    first = set(phases(server))
    server.wait(25)
    server.wait(1)

    assert {"parallel-0", "parallel-1", "ordered-0"} == first
    assert {"parallel-0", "parallel-1", "ordered-0", "ordered-1"} == set(phases(server))


def test_a_set_counts_itself_as_the_real_one(server: Server) -> None:
    server.ask("POST", SETS, stateful_set())
    begun = server.ask("GET", f"{SETS}/train").body["status"]
    server.wait(30)
    status = server.ask("GET", f"{SETS}/train").body["status"]

    assert "readyReplicas" not in begun
    assert (2, 2, 2, 2) == tuple(
        status[n] for n in ("replicas", "readyReplicas", "updatedReplicas", "availableReplicas")
    )
    assert status["currentRevision"] == status["updateRevision"]


def test_a_new_template_is_rolled_out_from_the_highest_pod_down(server: Server) -> None:
    server.ask("POST", SETS, stateful_set())
    server.wait(30)
    before = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in server.ask("GET", PODS).body["items"]}
    image = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "a:2"}]
    server.ask("PATCH", f"{SETS}/train", image, "application/json-patch+json")
    server.wait(10)
    halfway = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in server.ask("GET", PODS).body["items"]}
    server.wait(120, looks=20)
    images = {pod["spec"]["containers"][0]["image"] for pod in server.ask("GET", PODS).body["items"]}

    assert before["train-0"] == halfway["train-0"]
    assert before["train-1"] != halfway.get("train-1")
    assert {"a:2"} == images


def test_a_name_too_long_for_its_pods_is_taken_and_never_runs(server: Server) -> None:
    made = server.ask("POST", SETS, stateful_set("a" * 60))
    server.wait(5)

    assert 201 == made.status
    assert {} == phases(server)
    assert "must be no more than 63 bytes" in events(server, "FailedCreate")[0]


def test_why_nothing_takes_a_pod_is_told_word_for_word() -> None:
    server = Server(machines=3)
    server.ask("POST", SETS, stateful_set(replicas=4))
    full = events(server, "FailedScheduling")[0]
    server.ask("POST", SETS, stateful_set("huge", replicas=1, gpus=16))
    huge = next(text for text in events(server, "FailedScheduling") if text != full)

    head = "0/21 nodes are available: "
    assert full.startswith(
        f"{head}15 node(s) didn't match Pod's node affinity/selector, 3 Insufficient nvidia.com/gpu, "
    )
    assert full.endswith(
        "preemption: 0/21 nodes are available: 18 Preemption is not helpful for scheduling., 3 No preemption victims "
        "found for incoming pod."
    )
    assert huge.endswith("preemption: 0/21 nodes are available: 21 Preemption is not helpful for scheduling.")


def test_gates_hold_a_pod_back(server: Server) -> None:
    body = stateful_set(replicas=1)
    body["spec"]["template"]["spec"]["schedulingGates"] = [{"name": "kueue.x-k8s.io/admission"}]
    server.ask("POST", SETS, body)
    (condition,) = server.ask("GET", f"{PODS}/train-0").body["status"]["conditions"]

    assert ("PodScheduled", "False", "SchedulingGated") == tuple(condition[n] for n in ("type", "status", "reason"))


def test_a_quota_keeps_pods_from_being_made(server: Server) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "gpuq"},
             "spec": {"hard": {"requests.nvidia.com/gpu": "8"}}}  # fmt: skip
    server.ask("POST", "/api/v1/namespaces/default/resourcequotas", quota)
    server.ask("POST", SETS, stateful_set())
    server.wait(1)
    status = server.ask("GET", "/api/v1/namespaces/default/resourcequotas/gpuq").body["status"]

    assert ["train-0"] == list(phases(server))
    assert {"requests.nvidia.com/gpu": "8"} == status["used"]
    assert (
        'pods "train-1" is forbidden: exceeded quota: gpuq, requested: requests.nvidia.com/gpu=8, used: '
        "requests.nvidia.com/gpu=8, limited: requests.nvidia.com/gpu=8"
    ) in events(server, "FailedCreate")[0]


def test_images_that_are_nowhere_and_commands_that_end(server: Server) -> None:
    missing = stateful_set("missing", replicas=1)
    missing["spec"]["template"]["spec"]["containers"][0]["image"] = "does-not-exist:1"
    ending = stateful_set("ending", replicas=1)
    ending["spec"]["template"]["spec"]["containers"][0]["command"] = ["sh", "-c", "work; exit 3"]
    server.ask("POST", SETS, missing)
    server.ask("POST", SETS, ending)
    server.wait(120, looks=3)

    def state(name: str) -> str:
        told = server.ask("GET", f"{PODS}/{name}").body["status"]["containerStatuses"][0]["state"]
        return str(told["waiting"]["reason"])

    assert "ImagePullBackOff" == state("missing-0")
    assert "CrashLoopBackOff" == state("ending-0")


def test_an_indexed_job_runs_every_index_and_ends(server: Server) -> None:
    server.ask("POST", JOBS, job(completions=3, parallelism=2, completionMode="Indexed"))
    server.wait(1)
    running = server.ask("GET", f"{JOBS}/j").body["status"]
    server.wait(200, looks=10)
    status = server.ask("GET", f"{JOBS}/j").body["status"]

    assert 2 == running["active"]
    assert ("0,1,2", 3) == (status["completedIndexes"], status["succeeded"])
    assert ["SuccessCriteriaMet", "Complete"] == [condition["type"] for condition in status["conditions"]]


def test_a_job_that_fails_too_often_has_failed(server: Server) -> None:
    server.ask("POST", JOBS, job(command=["false"], backoffLimit=1))
    server.wait(300, looks=10)
    status = server.ask("GET", f"{JOBS}/j").body["status"]

    assert 2 == status["failed"]
    assert [("FailureTarget", "BackoffLimitExceeded"), ("Failed", "BackoffLimitExceeded")] == [
        (condition["type"], condition["reason"]) for condition in status["conditions"]
    ]


def test_a_job_is_suspended_ended_by_its_deadline_and_cleaned_up(server: Server) -> None:
    server.ask("POST", JOBS, job("waits", suspend=True))
    server.ask("POST", JOBS, job("late", activeDeadlineSeconds=10))
    server.ask("POST", JOBS, job("brief", ttlSecondsAfterFinished=60))
    server.wait(5)
    suspended = server.ask("GET", f"{JOBS}/waits").body["status"]["conditions"][0]["type"]
    server.wait(20)
    late = server.ask("GET", f"{JOBS}/late").body["status"]["conditions"][-1]["reason"]
    server.wait(300, looks=10)

    assert "Suspended" == suspended
    assert "DeadlineExceeded" == late
    assert ["late", "waits"] == server.names(JOBS)


def test_a_deployment_keeps_its_pods_and_replaces_them(server: Server) -> None:
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "w", "image": "w:1"}]},
            },
        },
    }
    path = SETS.replace("statefulsets", "deployments")
    server.ask("POST", path, body)
    server.wait(60, looks=3)
    ready = server.ask("GET", f"{path}/web").body["status"]["readyReplicas"]
    image = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "w:2"}]
    server.ask("PATCH", f"{path}/web", image, "application/json-patch+json")
    server.wait(120, looks=6)

    assert 2 == ready
    assert {"w:2"} == {pod["spec"]["containers"][0]["image"] for pod in server.ask("GET", PODS).body["items"]}


def test_a_set_scaled_down_loses_its_highest_pods(server: Server) -> None:
    server.ask("POST", SETS, stateful_set(replicas=3))
    server.wait(30)
    scaled = server.ask("PATCH", f"{SETS}/train/scale", {"spec": {"replicas": 1}}, MERGE)
    server.wait(10, looks=3)

    assert ("Scale", 1) == (scaled.body["kind"], scaled.body["spec"]["replicas"])
    assert {"train-0": "Running"} == phases(server)


def test_stock_is_how_many_machines_take_pods(server: Server) -> None:
    def machines() -> list[str]:
        found = server.ask("GET", "/api/v1/nodes", labelSelector="node.kubernetes.io/instance-type=h100.8x").body[
            "items"
        ]
        return [node["metadata"]["name"] for node in found if not node["spec"].get("unschedulable")]

    server.ask("POST", SETS, stateful_set(replicas=2))
    server.wait(30)
    server.world.shelves["kubernetes", "H100-80GB", ""] = Shelf(available=1)

    assert ["h100-0"] == machines()
    assert {"train-0": "Running", "train-1": "Running"} == phases(server)


def test_a_watch_begins_where_it_is_told_and_tells_what_follows(server: Server) -> None:
    version = server.ask("GET", PODS).body["metadata"]["resourceVersion"]
    response = server.respond("GET", PODS, watch="1", resourceVersion=version, allowWatchBookmarks="true")
    assert response.flow is not None
    told = Told(response.status, "", {})
    server.ask("POST", SETS, stateful_set(replicas=1))
    made = flowing(told, response.flow())
    server.wait(30)
    ran = flowing(told, response.flow())
    server.ask("DELETE", f"{SETS}/train", {"propagationPolicy": "Foreground"})
    server.wait(10, looks=3)
    gone = flowing(told, response.flow())
    server.clock.advance(61)

    assert ("ADDED", "train-0") == made[0]
    assert {("MODIFIED", "train-0")} == set(ran)
    assert ("DELETED", "train-0") == gone[-1]
    assert ["BOOKMARK"] == [type for type, _ in flowing(told, response.flow())]


def test_a_watch_of_the_past_has_expired_and_one_with_a_time_ends(server: Server) -> None:
    server.ask("POST", SETS, stateful_set(replicas=1))
    (cluster,) = (each for each in server.world.drawers.values() if isinstance(each, Cluster))
    cluster.forget_changes()
    old = server.respond("GET", PODS, watch="1", resourceVersion="1")
    brief = server.respond("GET", PODS, watch="1", timeoutSeconds="5")
    assert old.flow is not None
    assert brief.flow is not None
    (line,) = old.flow() or ()
    first = brief.flow()
    server.clock.advance(6)

    assert ("ERROR", 410, "Expired") == ((e := json.loads(line))["type"], e["object"]["code"], e["object"]["reason"])
    assert old.flow() is None
    assert first
    assert brief.flow() is None


def test_the_present_can_be_streamed_before_what_follows(server: Server) -> None:
    server.ask("POST", SETS, stateful_set(replicas=1))
    response = server.respond("GET", PODS, watch="true", sendInitialEvents="true", allowWatchBookmarks="true")
    assert response.flow is not None
    lines = [json.loads(line) for line in response.flow() or ()]

    assert ["ADDED", "BOOKMARK"] == [line["type"] for line in lines]
    assert {"k8s.io/initial-events-end": "true"} == lines[1]["object"]["metadata"]["annotations"]


def test_logs(server: Server) -> None:
    server.ask("POST", SETS, stateful_set(replicas=1))
    early = server.ask("GET", f"{PODS}/train-0/log")
    server.wait(60, looks=3)
    server.ask("POST", SETS, stateful_set("nowhere", replicas=1, gpus=16))

    assert (400, True) == (early.status, "is waiting to start: ContainerCreating" in early.message)
    assert 1 == len(server.ask("GET", f"{PODS}/train-0/log", tailLines="1").body.splitlines())
    assert server.ask("GET", f"{PODS}/train-0/log", timestamps="true").body.startswith("2026-01-01T00:")
    assert (
        "container nope is not valid for pod train-0"
        == server.ask("GET", f"{PODS}/train-0/log", container="nope").message
    )
    assert 204 == server.ask("GET", f"{PODS}/nowhere-0/log").status


def test_commands_need_an_upgrade_and_a_pod_that_runs(server: Server) -> None:
    server.ask("POST", SETS, stateful_set("nowhere", replicas=1, gpus=16))
    server.ask("POST", SETS, stateful_set(replicas=1))
    server.wait(30)
    plain = server.ask("GET", f"{PODS}/train-0/exec", command="true")
    homeless = server.ask("GET", f"{PODS}/nowhere-0/exec", command="true")

    assert (400, "Upgrade request required") == (plain.status, plain.message)
    assert (400, "pod nowhere-0 does not have a host assigned") == (homeless.status, homeless.message)


def test_a_claim_is_bound_by_its_first_pod_and_kept_while_it_is_used(server: Server) -> None:
    path = "/api/v1/namespaces/default/persistentvolumeclaims"
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
             "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10G"}}}}  # fmt: skip
    server.ask("POST", path, claim)
    waiting = server.ask("GET", f"{path}/data").body["status"]["phase"]
    body = stateful_set(replicas=1)
    body["spec"]["template"]["spec"]["volumes"] = [{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]
    server.ask("POST", SETS, body)
    bound = server.ask("GET", f"{path}/data").body["status"]
    smaller = server.ask("PATCH", f"{path}/data", {"spec": {"resources": {"requests": {"storage": "5G"}}}}, MERGE)
    larger = server.ask("PATCH", f"{path}/data", {"spec": {"resources": {"requests": {"storage": "20G"}}}}, MERGE)
    server.ask("DELETE", f"{path}/data")
    held = server.names(path)
    server.ask("DELETE", f"{SETS}/train", {"propagationPolicy": "Foreground"})
    server.wait(10, looks=3)

    assert "Pending" == waiting
    assert ("Bound", {"storage": "10G"}) == (bound["phase"], bound["capacity"])
    assert "field can not be less than status.capacity" in smaller.message
    assert 200 == larger.status
    assert ["data"] == held
    assert [] == server.names(path)


def test_a_machine_that_is_taken_away_takes_its_pods_along(server: Server) -> None:
    server.ask("POST", SETS, stateful_set(replicas=1))
    server.wait(30)
    machine = server.ask("GET", f"{PODS}/train-0").body["spec"]["nodeName"]
    server.ask("DELETE", f"/api/v1/nodes/{machine}")
    moved = server.ask("GET", f"{PODS}/train-0").body["spec"]["nodeName"]

    assert machine != moved
