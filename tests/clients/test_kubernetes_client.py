"""kubectl and the official Python client take the emulator for a real API server."""

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes
import pytest
from kubernetes.client.rest import ApiException
from kubernetes.stream import stream

from gpuplan.testing.emulated import Emulated, emulated
from gpuplan.testing.hurried import HurriedClock
from tests.tls_front import tls_front

MANIFEST: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "StatefulSet",
    "metadata": {"name": "train"},
    "spec": {
        "serviceName": "train",
        "replicas": 2,
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": {"app": "train"}},
        "template": {
            "metadata": {"labels": {"app": "train"}},
            "spec": {
                "containers": [
                    {
                        "name": "main",
                        "image": "python:3.13",
                        "command": ["sleep", "infinity"],
                        "resources": {"limits": {"nvidia.com/gpu": "8"}},
                    }
                ],
                "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
            },
        },
    },
}
KUBECTLS = sorted(
    {str(path) for folder in (None, str(Path(sys.executable).parent)) if (path := shutil.which("kubectl", path=folder))}
)
Kubectl = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def emulator() -> Iterator[Emulated]:
    with emulated(HurriedClock(), ["kubernetes"]) as emulator:
        yield emulator


@pytest.fixture
def kubeconfig(emulator: Emulated, tmp_path: Path) -> Iterator[Path]:
    """Without TLS, kubectl keeps its token to itself."""
    with tls_front(emulator.url, tmp_path) as front:
        authority = base64.b64encode(front.ca.read_bytes()).decode()
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "emulated",
                    "cluster": {"server": f"{front.url}/kubernetes", "certificate-authority-data": authority},
                }
            ],
            "users": [{"name": "me", "user": {"token": "a-token"}}],
            "contexts": [{"name": "here", "context": {"cluster": "emulated", "user": "me", "namespace": "default"}}],
            "current-context": "here",
        }
        path = tmp_path / "config"
        path.write_text(json.dumps(config))
        yield path


@pytest.fixture(params=KUBECTLS)
def kubectl(request: pytest.FixtureRequest, kubeconfig: Path, tmp_path: Path) -> Kubectl:
    manifest = tmp_path / "train.json"
    manifest.write_text(json.dumps(MANIFEST))
    environ = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environ |= {"KUBECONFIG": str(kubeconfig), "HOME": str(tmp_path)}

    def run(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [request.param, *words], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, **options
        )

    return run


@pytest.fixture
def client(kubeconfig: Path) -> Iterator[kubernetes.client.ApiClient]:
    configuration = kubernetes.client.Configuration()
    configuration.proxy = None
    with kubernetes.config.new_client_from_config(str(kubeconfig), client_configuration=configuration) as client:
        yield client


def test_there_is_a_kubectl_to_try() -> None:
    assert KUBECTLS


def test_kubectl_applies_waits_lists_and_deletes(kubectl: Kubectl, emulator: Emulated) -> None:
    applied = kubectl("apply", "--server-side", "-f", "train.json")
    rolled = kubectl("rollout", "status", "statefulset/train", "--timeout=30s")
    listed = kubectl("get", "pods", "--selector", "app=train", "--no-headers")
    shown = kubectl("get", "statefulset", "train", "-o", "jsonpath={.status.readyReplicas}")
    deleted = kubectl("delete", "statefulset", "train", "--cascade=foreground", "--timeout=30s")

    assert "statefulset.apps/train serverside-applied" == applied.stdout.strip(), applied.stderr
    assert 0 == rolled.returncode, rolled.stderr
    assert [("train-0", "1/1", "Running"), ("train-1", "1/1", "Running")] == [
        tuple(line.split()[:3]) for line in listed.stdout.splitlines()
    ]
    assert "2" == shown.stdout
    assert 0 == deleted.returncode, deleted.stderr
    assert [] == emulator.living(kind="group")


def test_kubectl_is_told_who_owns_a_field_and_takes_it_over(kubectl: Kubectl) -> None:
    kubectl("apply", "--server-side", "-f", "train.json")
    kubectl("scale", "statefulset/train", "--replicas=3")
    refused = kubectl("apply", "--server-side", "-f", "train.json", "--field-manager=another")
    forced = kubectl("apply", "--server-side", "-f", "train.json", "--field-manager=another", "--force-conflicts")
    shown = kubectl("get", "statefulset", "train", "-o", "jsonpath={.spec.replicas}")

    assert 0 != refused.returncode
    assert 'conflict with "kubectl" with subresource "scale" using apps/v1: .spec.replicas' in refused.stderr
    assert 0 == forced.returncode, forced.stderr
    assert "2" == shown.stdout


def test_kubectl_reads_logs_and_runs_commands(kubectl: Kubectl) -> None:
    kubectl("apply", "--server-side", "-f", "train.json")
    kubectl("rollout", "status", "statefulset/train", "--timeout=30s")
    logs = kubectl("logs", "train-0", "--tail=1")
    first = kubectl("logs", "train-0")
    told = kubectl("exec", "train-0", "--", "sh", "-c", "echo hello >kept; exit 3")
    piped = kubectl("exec", "-i", "train-0", "--", "sh", "-c", "cat kept -", input="and more\n")

    assert 1 == len(logs.stdout.splitlines())
    assert "train-0 runs python:3.13" == first.stdout.splitlines()[0]
    assert 3 == told.returncode, told.stderr
    assert "hello\nand more\n" == piped.stdout, piped.stderr


def test_kubectl_creates_patches_and_describes(kubectl: Kubectl) -> None:
    created = kubectl("create", "-f", "train.json")
    again = kubectl("create", "-f", "train.json")
    labelled = kubectl("label", "statefulset/train", "team=research")
    patched = kubectl("patch", "statefulset", "train", "-p", '{"spec": {"replicas": 1}}')
    described = kubectl("describe", "statefulset", "train")

    assert "statefulset.apps/train created" == created.stdout.strip(), created.stderr
    assert "already exists" in again.stderr
    assert 0 == labelled.returncode, labelled.stderr
    assert 0 == patched.returncode, patched.stderr
    assert "team=research" in described.stdout
    assert "1 desired" in described.stdout


def test_the_python_client_creates_lists_and_deletes(client: kubernetes.client.ApiClient, emulator: Emulated) -> None:
    apps, core = kubernetes.client.AppsV1Api(client), kubernetes.client.CoreV1Api(client)
    made = apps.create_namespaced_stateful_set("default", MANIFEST)
    emulator.advance(60)
    listed = apps.list_namespaced_stateful_set("default", label_selector="")
    pods = core.list_namespaced_pod("default", label_selector="app=train", limit=1)
    options = kubernetes.client.V1DeleteOptions(propagation_policy="Foreground")
    apps.delete_namespaced_stateful_set("train", "default", body=options)
    emulator.advance(60)

    assert made.metadata.uid
    assert [("train", 2)] == [(each.metadata.name, each.status.ready_replicas) for each in listed.items]
    assert ["train-0"] == [pod.metadata.name for pod in pods.items]
    assert pods.metadata._continue
    with pytest.raises(ApiException) as caught:
        apps.read_namespaced_stateful_set("train", "default")
    assert 404 == caught.value.status


def test_the_python_client_watches_reads_logs_and_runs_commands(
    client: kubernetes.client.ApiClient, emulator: Emulated
) -> None:
    apps, core = kubernetes.client.AppsV1Api(client), kubernetes.client.CoreV1Api(client)
    emulator.knobs("kubernetes", {"pull_seconds": 300})
    apps.create_namespaced_stateful_set("default", MANIFEST)
    events = kubernetes.watch.Watch().stream(
        core.list_namespaced_pod, "default", field_selector="metadata.name=train-0", timeout_seconds=1000
    )
    phases = [event["object"].status.phase for event in events]
    log = core.read_namespaced_pod_log("train-0", "default", tail_lines=5)
    answer = stream(
        core.connect_get_namespaced_pod_exec,
        "train-0",
        "default",
        command=["sh", "-c", "echo hello"],
        stdin=False,
        stdout=True,
        stderr=True,
        tty=False,
        _preload_content=False,
    )
    answer.run_forever(timeout=30)
    said = answer.read_stdout()
    # Closing it does nothing once the server has.
    answer.sock.shutdown()

    assert ["Pending", "Running"] == list(dict.fromkeys(phases))
    assert log.splitlines()
    assert "hello" == said.strip()


def test_the_python_client_is_refused_as_by_a_real_server(client: kubernetes.client.ApiClient) -> None:
    apps, core = kubernetes.client.AppsV1Api(client), kubernetes.client.CoreV1Api(client)
    apps.create_namespaced_stateful_set("default", MANIFEST)
    refusals = [
        lambda: apps.create_namespaced_stateful_set("default", MANIFEST),
        lambda: apps.patch_namespaced_stateful_set("train", "default", {"spec": {"serviceName": "another"}}),
        lambda: core.list_namespaced_pod("default", field_selector="spec.foo=1"),
        lambda: core.read_namespaced_pod("nope", "default"),
    ]
    reasons = []
    for refusal in refusals:
        with pytest.raises(ApiException) as caught:
            refusal()
        reasons.append((caught.value.status, json.loads(caught.value.body)["reason"]))

    assert [(409, "AlreadyExists"), (422, "Invalid"), (400, "BadRequest"), (404, "NotFound")] == reasons
