"""The emulated API server as a client sees it: objects, patches, applies, deletes, selectors, pages, rights."""

import pytest

from tests.unit.emulators.kubernetes_client import (
    APPLY,
    JOBS,
    JSON,
    MERGE,
    PODS,
    SETS,
    STRATEGIC,
    Server,
    job,
    stateful_set,
)


@pytest.fixture
def server() -> Server:
    return Server()


def test_it_tells_what_it_serves(server: Server) -> None:
    resources = server.ask("GET", "/apis/apps/v1").body["resources"]
    unknown = server.ask("GET", "/apis/unknown.io/v1")

    assert "v1.36.2" == server.ask("GET", "/version").body["gitVersion"]
    assert {"statefulsets", "statefulsets/scale", "deployments"} <= {each["name"] for each in resources}
    assert {"apps", "batch"} <= {group["name"] for group in server.ask("GET", "/apis").body["groups"]}
    assert (404, "404 page not found\n") == (unknown.status, unknown.body)
    assert "ok" == server.ask("GET", "/readyz").body


def test_objects_get_what_the_server_adds(server: Server) -> None:
    made = server.ask("POST", SETS, stateful_set())
    again = server.ask("POST", SETS, stateful_set())
    container = made.body["spec"]["template"]["spec"]["containers"][0]

    assert 201 == made.status
    assert {"uid", "resourceVersion", "creationTimestamp", "generation"} <= made.body["metadata"].keys()
    assert {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}} == made.body["spec"]["updateStrategy"]
    assert {"limits": {"nvidia.com/gpu": "8"}, "requests": {"nvidia.com/gpu": "8"}} == container["resources"]
    assert (409, "AlreadyExists", 'statefulsets.apps "train" already exists') == (
        again.status,
        again.body["reason"],
        again.message,
    )


def test_unknown_fields_are_a_warning_and_strictly_an_error(server: Server) -> None:
    loose = server.ask("POST", SETS, stateful_set("loose", bogus=1))
    strict = server.ask("POST", SETS, stateful_set("strict", bogus=1), fieldValidation="Strict")

    assert '299 - "unknown field \\"spec.bogus\\""' == loose.headers["Warning"]
    assert 400 == strict.status
    assert 'strict decoding error: unknown field "spec.bogus"' in strict.message


def test_a_stale_version_is_a_conflict(server: Server) -> None:
    made = server.ask("POST", SETS, stateful_set()).body
    server.ask("PATCH", f"{SETS}/train", {"metadata": {"labels": {"team": "b"}}}, MERGE)
    stale = server.ask("PUT", f"{SETS}/train", made)

    assert (409, "Conflict") == (stale.status, stale.body["reason"])
    assert "the object has been modified; please apply your changes to the latest version" in stale.message


def test_the_three_patches(server: Server) -> None:
    server.ask("POST", SETS, stateful_set())
    path = f"{SETS}/train"
    merged = server.ask("PATCH", path, {"metadata": {"labels": {"team": None, "tier": "gold"}}}, MERGE)
    image = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "a:2"}]}}}}
    strategic = server.ask("PATCH", path, image, STRATEGIC)
    steps = [
        {"op": "test", "path": "/spec/replicas", "value": 2},
        {"op": "replace", "path": "/spec/replicas", "value": 3},
    ]
    stepped = server.ask("PATCH", path, steps, JSON)
    untold = server.ask("PATCH", path, {}, "application/json")
    container = strategic.body["spec"]["template"]["spec"]["containers"][0]

    assert {"tier": "gold"} == merged.body["metadata"]["labels"]
    assert ("a:2", {"nvidia.com/gpu": "8"}) == (container["image"], container["resources"]["limits"])
    assert 3 == stepped.body["spec"]["replicas"]
    assert 422 == server.ask("PATCH", path, [{"op": "test", "path": "/spec/replicas", "value": 9}], JSON).status
    assert (415, "UnsupportedMediaType") == (untold.status, untold.body["reason"])


def test_what_is_applied_again_changes_nothing(server: Server) -> None:
    first = server.apply(stateful_set())
    server.wait(60)
    settled = server.ask("GET", f"{SETS}/train").body["metadata"]["resourceVersion"]
    second = server.apply(stateful_set())

    assert (201, 200) == (first.status, second.status)
    assert settled == second.body["metadata"]["resourceVersion"]
    assert 1 == second.body["metadata"]["generation"]


def test_what_an_apply_no_longer_says_is_taken_away_unless_others_own_it(server: Server) -> None:
    server.apply(stateful_set(minReadySeconds=5))
    server.apply({**stateful_set(), "metadata": {"name": "train", "labels": {"team": "a", "tier": "gold"}}}, "two")
    less = stateful_set()
    less["metadata"]["labels"] = {}
    left = server.apply(less).body

    assert "minReadySeconds" not in left["spec"]
    assert {"team": "a", "tier": "gold"} == left["metadata"]["labels"]


def test_fields_of_others_are_a_conflict_unless_they_agree_or_are_forced(server: Server) -> None:
    server.apply(stateful_set())
    agreed = server.apply(stateful_set(), "two")
    refused = server.apply(stateful_set(replicas=3), "two")
    forced = server.apply(stateful_set(replicas=3), "two", force="true")
    entries = forced.body["metadata"]["managedFields"]
    owners = {entry["manager"] for entry in entries if "f:replicas" in entry["fieldsV1"]["f:spec"]}
    cause = {"message": 'conflict with "one" using apps/v1', "field": ".spec.replicas"}

    assert 200 == agreed.status
    assert 'Apply failed with 1 conflict: conflict with "one" using apps/v1: .spec.replicas' == refused.message
    assert [{"reason": "FieldManagerConflict", **cause}] == refused.body["details"]["causes"]
    assert (200, {"two"}) == (forced.status, owners)


def test_an_apply_needs_a_manager_and_known_fields(server: Server) -> None:
    nobody = server.ask("PATCH", f"{SETS}/train", stateful_set(), APPLY)
    bogus = server.apply(stateful_set(bogus=1))

    assert 422 == nobody.status
    assert "fieldManager: Required value" in nobody.message
    assert (500, None) == (bogus.status, bogus.body.get("reason"))
    assert bogus.message.endswith(".spec.bogus: field not declared in schema")


def test_a_dry_run_checks_everything_and_keeps_nothing(server: Server) -> None:
    made = server.apply(stateful_set(), dryRun="All")
    refused = server.apply(stateful_set(gpus="0.5"), dryRun="All")

    assert 201 == made.status
    assert "uid" in made.body["metadata"]
    assert "resourceVersion" not in made.body["metadata"]
    assert 422 == refused.status
    assert [] == server.names(SETS)


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ({"requests": {"nvidia.com/gpu": "1"}}, "Limit must be set for non overcommitable resources"),
        ({"limits": {"nvidia.com/gpu": "0.5"}}, "must be an integer"),
        (
            {"limits": {"nvidia.com/gpu": "8"}, "requests": {"nvidia.com/gpu": "1"}},
            "must be equal to nvidia.com/gpu limit",
        ),
        ({"limits": {"cpu": "lots"}}, "quantities must match"),
    ],
)
def test_gpus_cannot_be_shared(server: Server, resources: object, message: str) -> None:
    body = stateful_set()
    body["spec"]["template"]["spec"]["containers"][0]["resources"] = resources
    refused = server.ask("POST", SETS, body)

    assert (422, "Invalid") == (refused.status, refused.body["reason"])
    assert message in refused.message


def test_what_cannot_change_is_said(server: Server) -> None:
    server.ask("POST", SETS, stateful_set())
    server.ask("POST", JOBS, job())
    service = {"kind": "Service", "apiVersion": "v1", "metadata": {"name": "s"}, "spec": {"clusterIP": "None"}}
    server.ask("POST", "/api/v1/namespaces/default/services", service)
    server.wait(1)
    (pod, *_) = server.names(PODS)
    changes = {
        f"{SETS}/train": {"spec": {"serviceName": "other"}},
        f"{PODS}/{pod}": {"spec": {"hostname": "other"}},
        f"{JOBS}/j": {"spec": {"template": {"spec": {"restartPolicy": "OnFailure"}}}},
        "/api/v1/namespaces/default/services/s": {"spec": {"clusterIP": "10.0.0.1"}},
    }
    messages = [server.ask("PATCH", path, change, MERGE).message for path, change in changes.items()]

    assert "updates to statefulset spec for fields other than 'replicas'" in messages[0]
    assert "pod updates may not change fields other than" in messages[1]
    assert "field is immutable" in messages[2]
    assert "may not change once set" in messages[3]


def test_selectors_of_labels_and_fields(server: Server) -> None:
    for name, team in (("a", "x"), ("b", "y")):
        body = stateful_set(name, replicas=1)
        body["metadata"]["labels"] = {"team": team}
        server.ask("POST", SETS, body)
    found = {
        text: server.names(SETS, labelSelector=text)
        for text in ("team=x", "team!=x", "team in (x, y)", "team notin (x)", "team", "!team", "team=x,team=y")
    }

    assert {
        "team=x": ["a"],
        "team!=x": ["b"],
        "team in (x, y)": ["a", "b"],
        "team notin (x)": ["b"],
        "team": ["a", "b"],
        "!team": [],
        "team=x,team=y": [],
    } == found
    assert ["b"] == server.names(SETS, fieldSelector="metadata.name=b")
    assert [] == server.names(PODS, fieldSelector="status.phase!=Pending")
    refused = server.ask("GET", PODS, fieldSelector="spec.foo=1")
    assert (400, "field label not supported: spec.foo") == (refused.status, refused.message)


def test_pages(server: Server) -> None:
    for name in "abc":
        server.ask("POST", SETS, stateful_set(name, replicas=0))
    first = server.ask("GET", SETS, limit="2").body
    token = first["metadata"]["continue"]
    last = server.ask("GET", SETS, limit="2", **{"continue": token}).body
    server.clock.advance(600)

    assert (["a", "b"], 1) == ([i["metadata"]["name"] for i in first["items"]], first["metadata"]["remainingItemCount"])
    assert ["c"] == [item["metadata"]["name"] for item in last["items"]]
    assert "continue" not in last["metadata"]
    assert "kind" not in last["items"][0]
    assert 400 == server.ask("GET", SETS, limit="2", **{"continue": "nonsense"}).status
    assert (410, "Expired") == ((old := server.ask("GET", SETS, **{"continue": token})).status, old.body["reason"])


def test_a_foreground_delete_waits_for_what_it_owns(server: Server) -> None:
    server.ask("POST", SETS, stateful_set())
    server.wait(60)
    answer = server.ask("DELETE", f"{SETS}/train", {"propagationPolicy": "Foreground"})
    again = server.ask("DELETE", f"{SETS}/train", {"propagationPolicy": "Foreground"})
    there = server.names(PODS)
    server.wait(10, looks=3)

    assert ["foregroundDeletion"] == answer.body["metadata"]["finalizers"]
    assert 200 == again.status
    assert ["train-0", "train-1"] == there
    assert 404 == server.ask("GET", f"{SETS}/train").status
    assert [] == server.names(PODS)


def test_a_background_delete_is_done_at_once_and_its_pods_follow(server: Server) -> None:
    server.ask("POST", SETS, stateful_set())
    server.wait(60)
    answer = server.ask("DELETE", f"{SETS}/train")
    server.wait(10, looks=3)

    assert ("Status", "Success") == (answer.body["kind"], answer.body["status"])
    assert [] == server.names(PODS)


def test_orphans_stay(server: Server) -> None:
    server.ask("POST", SETS, stateful_set())
    server.wait(60)
    server.ask("DELETE", f"{SETS}/train", {"propagationPolicy": "Orphan"})
    server.wait(60, looks=3)

    assert ["train-0", "train-1"] == server.names(PODS)


def test_a_job_leaves_its_pods_behind_unless_it_is_told_not_to(server: Server) -> None:
    server.ask("POST", JOBS, job())
    server.wait(1)
    answer = server.ask("DELETE", f"{JOBS}/j")
    server.wait(1)

    assert "child pods are preserved by default" in answer.headers["Warning"]
    assert 1 == len(server.names(PODS))


def test_another_uid_is_not_deleted_and_a_body_outweighs_the_url(server: Server) -> None:
    server.ask("POST", SETS, stateful_set())
    other = server.ask("DELETE", f"{SETS}/train", {"preconditions": {"uid": "another"}})
    dry = server.ask("DELETE", f"{SETS}/train", dryRun="All")
    there = server.names(SETS)
    server.ask("DELETE", f"{SETS}/train", {"propagationPolicy": "Background"}, dryRun="All")

    assert (409, "Conflict") == (other.status, other.body["reason"])
    assert "does not match the UID in record" in other.message
    assert (200, ["train"]) == (dry.status, there)
    assert [] == server.names(SETS)


def test_finalizers_hold_what_is_to_go(server: Server) -> None:
    body = stateful_set(replicas=0)
    body["metadata"]["finalizers"] = ["example.com/hold"]
    server.ask("POST", SETS, body)
    server.ask("DELETE", f"{SETS}/train")
    held = server.ask("GET", f"{SETS}/train").body["metadata"]
    server.ask("PATCH", f"{SETS}/train", {"metadata": {"finalizers": None}}, MERGE)

    assert "deletionTimestamp" in held
    assert [] == server.names(SETS)


def test_nothing_is_made_in_a_namespace_that_goes_or_is_not_there(server: Server) -> None:
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ml"}}
    server.ask("POST", "/api/v1/namespaces", space)
    path = SETS.replace("default", "ml")
    server.ask("POST", path, stateful_set())
    server.wait(60)
    server.ask("DELETE", "/api/v1/namespaces/ml")
    going = server.ask("POST", path, stateful_set("other"))
    server.wait(30, looks=5)
    gone = server.ask("POST", path, stateful_set("other"))

    assert (403, "NamespaceTerminating") == (going.status, going.body["details"]["causes"][0]["reason"])
    assert (404, 'namespaces "ml" not found') == (gone.status, gone.message)


def test_rights_can_be_taken_away(server: Server) -> None:
    server.world.knobs["kubernetes"]["forbidden"] = ["list nodes"]
    refused = server.ask("GET", "/api/v1/nodes")
    review = {"spec": {"resourceAttributes": {"verb": "list", "resource": "nodes"}}}
    allowed = server.ask("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review).body["status"]

    assert (403, "Forbidden") == (refused.status, refused.body["reason"])
    assert 'User "emulated" cannot list resource "nodes" in API group "" at the cluster scope' in refused.message
    assert {"allowed": False} == allowed


def test_every_token_is_for_a_cluster_of_its_own_and_none_is_nobodys(server: Server) -> None:
    server.ask("POST", SETS, stateful_set())
    other = Server()

    assert [] == other.names(SETS)
    assert ["train"] == server.names(SETS)
