"""Ways into a cluster: kubeconfig files, credential plugins, certificates, the service account of a pod."""

import asyncio
import base64
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gpuplan.core.desired import Kind, ProviderBlock
from gpuplan.core.errors import AuthFailed, InvalidRequest, NoCredentials, Unavailable
from gpuplan.core.ports import OpenContext, Provider
from gpuplan.core.secret import Redactor
from gpuplan.core.values import JsonValue
from gpuplan.providers import kubernetes_config
from gpuplan.providers.kubernetes import PROVIDER
from gpuplan.testing.emulated import Emulated, emulated
from gpuplan.testing.hurried import HurriedClock
from tests.tls_front import Front, tls_front

PLUGIN = """\
import json, pathlib, sys
count = pathlib.Path(sys.argv[1])
count.write_text(str(int(count.read_text() or 0) + 1) if count.exists() else "1")
token = pathlib.Path(sys.argv[2]).read_text().strip()
kind = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"}
print(json.dumps({**kind, "status": {"token": token}}))
"""

WITHOUT = """\
import sys
sys.modules["kubernetes"] = None
from gpuplan.core.desired import ProviderBlock
from gpuplan.core.errors import GpuplanError
from gpuplan.core.ports import OpenContext
from gpuplan.core.secret import Redactor
from gpuplan.net.clock import SystemClock
from gpuplan.providers.kubernetes import PROVIDER
block = ProviderBlock("kube", "kubernetes", {}, ())
try:
    PROVIDER.open(PROVIDER.options(), OpenContext(block, SystemClock(), {"KUBECONFIG": sys.argv[1]}, Redactor()))
except GpuplanError as exc:
    print(exc.diagnostics[0].id, *exc.diagnostics[0].commands)
"""
"""A program on a machine that has no such package."""


@pytest.fixture
def emulator() -> Iterator[Emulated]:
    with emulated(HurriedClock(), ["kubernetes"]) as emulator:
        yield emulator


@pytest.fixture
def front(emulator: Emulated, tmp_path: Path) -> Iterator[Front]:
    with tls_front(emulator.url, tmp_path) as front:
        yield front


def config(front: Front, user: Mapping[str, Any], *, name: str = "here", **cluster: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": name,
                "cluster": {"server": f"{front.url}/kubernetes", "certificate-authority": str(front.ca), **cluster},
            }
        ],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": "kube-public"}}],
        "current-context": name,
    }


def written(folder: Path, content: Mapping[str, Any], name: str = "config") -> Path:
    path = folder / name
    path.write_text(json.dumps(content))
    return path


def opened(environ: Mapping[str, str], **options: JsonValue) -> Provider:
    block = ProviderBlock("kube", "kubernetes", options, ())
    context = OpenContext(block, HurriedClock(), environ, Redactor())
    return PROVIDER.open(PROVIDER.options.model_validate(options), context)


def asked(environ: Mapping[str, str], **options: JsonValue) -> str:
    """The account behind a configuration."""

    async def story() -> str:
        provider = opened(environ, **options)
        try:
            return (await provider.health()).id
        finally:
            await provider.close()

    return asyncio.run(story())


def test_a_token_of_a_kubeconfig_is_sent_under_its_own_authority(front: Front, tmp_path: Path) -> None:
    path = written(tmp_path, config(front, {"token": "a-token"}))

    assert asked({"KUBECONFIG": str(path)}) == asked({}, kubeconfig=str(path))


def test_a_server_that_the_authority_does_not_know_is_not_trusted(front: Front, tmp_path: Path) -> None:
    stranger = config(front, {"token": "a-token"})
    del stranger["clusters"][0]["cluster"]["certificate-authority"]
    with pytest.raises(Unavailable):
        asked({"KUBECONFIG": str(written(tmp_path, stranger))})

    blind = config(front, {"token": "a-token"}, **{"insecure-skip-tls-verify": True})
    del blind["clusters"][0]["cluster"]["certificate-authority"]
    assert asked({"KUBECONFIG": str(written(tmp_path, blind))})


def test_a_server_is_checked_by_the_name_that_was_said(emulator: Emulated, tmp_path: Path) -> None:
    with tls_front(emulator.url, tmp_path, host="kubernetes.example") as front:
        with pytest.raises(Unavailable):
            asked({"KUBECONFIG": str(written(tmp_path, config(front, {"token": "a-token"})))})
        named = config(front, {"token": "a-token"}, **{"tls-server-name": "kubernetes.example"})

        assert asked({"KUBECONFIG": str(written(tmp_path, named))})


def test_a_client_certificate_is_presented(front: Front, tmp_path: Path) -> None:
    certificate, key = (base64.b64encode(path.read_bytes()).decode() for path in front.client)
    user = {"client-certificate-data": certificate, "client-key-data": key, "token": "a-token"}
    asked({"KUBECONFIG": str(written(tmp_path, config(front, user)))})

    assert "visitor" in front.visitors


def test_files_are_merged_and_a_context_is_chosen(front: Front, tmp_path: Path) -> None:
    first = written(tmp_path, config(front, {"token": "token-of-one"}, name="one"), "one")
    second = written(tmp_path, config(front, {"token": "token-of-two"}, name="two"), "two")
    both = {"KUBECONFIG": f"{first}:{second}"}

    assert asked({"KUBECONFIG": str(first)}) == asked(both, context="one")
    assert asked({"KUBECONFIG": str(second)}) == asked(both, context="two")


def test_the_namespace_is_that_of_the_context_unless_the_block_names_one(front: Front, tmp_path: Path) -> None:
    path = str(written(tmp_path, config(front, {"token": "a-token"})))

    async def namespaces(**options: JsonValue) -> str:
        provider: Any = opened({}, kubeconfig=path, **options)
        try:
            await provider.list(Kind.VOLUME, frozenset())
            namespace: str = provider._api.namespace
        finally:
            await provider.close()
        return namespace

    assert "kube-public" == asyncio.run(namespaces())
    assert "default" == asyncio.run(namespaces(namespace="default"))


def test_a_plugin_is_run_and_once_more_when_its_token_is_refused(
    front: Front, emulator: Emulated, tmp_path: Path
) -> None:
    script, count, token = tmp_path / "plugin.py", tmp_path / "count", tmp_path / "token"
    script.write_text(PLUGIN)
    token.write_text("token-of-one")
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": [str(script), str(count), str(token)],
        "interactiveMode": "Never",
    }
    path = written(tmp_path, config(front, {"exec": plugin}))

    async def story() -> None:
        provider = opened({"KUBECONFIG": str(path)})
        try:
            first = await provider.health()
            token.write_text("token-of-two")
            assert first == await provider.health()
            emulator.fault("status", provider="kubernetes", status=401, times=1)
            second = await provider.health()
        finally:
            await provider.close()
        assert first != second

    asyncio.run(story())

    assert "2" == count.read_text()


def test_a_token_that_stays_refused_is_an_error_and_not_asked_for_ever(front: Front, tmp_path: Path) -> None:
    path = written(tmp_path, config(front, {"token": "wrong-token"}))
    with pytest.raises(AuthFailed) as caught:
        asked({"KUBECONFIG": str(path)})

    assert "wrong-token" not in repr(caught.value.diagnostics)


def test_a_configuration_that_cannot_be_used_says_what_the_package_says(front: Front, tmp_path: Path) -> None:
    path = written(tmp_path, config(front, {"token": "a-token"}))
    with pytest.raises(InvalidRequest) as caught:
        asked({"KUBECONFIG": str(path)}, context="elsewhere")

    assert "elsewhere" in caught.value.failure.message


def test_without_any_configuration_it_says_where_it_looked() -> None:
    with pytest.raises(NoCredentials) as caught:
        opened({"HOME": "/nonexistent"})

    (found,) = caught.value.diagnostics
    assert "/nonexistent/.kube/config" in found.facts[0]
    assert "KUBECONFIG" in str(found.hint)


def test_a_pod_uses_its_own_account_and_reads_its_token_again(
    front: Front, emulator: Emulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = tmp_path / "account"
    account.mkdir()
    (account / "token").write_text("token-of-one")
    (account / "ca.crt").write_bytes(front.ca.read_bytes())
    (account / "namespace").write_text("kube-system\n")
    # Where the system mounts it is not ours to write to.
    monkeypatch.setattr(kubernetes_config, "SERVICE_ACCOUNT", account)
    host, port = front.url.removeprefix("https://").split(":")
    environ = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port, "HOME": str(tmp_path)}

    async def story() -> None:
        provider: Any = opened(environ)
        try:
            assert "kube-system" == provider._api.namespace
            assert front.url == provider._http.endpoint
        finally:
            await provider.close()

    asyncio.run(story())


def test_nothing_of_the_package_is_loaded_before_an_account_is_opened() -> None:
    code = "import sys, gpuplan.providers.kubernetes; print('kubernetes' in sys.modules, 'websockets' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

    assert "False False" == told.stdout.strip()


def test_a_missing_package_is_named_with_the_extra_that_brings_it(tmp_path: Path) -> None:
    script = tmp_path / "without.py"
    script.write_text(WITHOUT)
    path = str(written(tmp_path, {}))
    told = subprocess.run([sys.executable, str(script), path], capture_output=True, text=True, timeout=60)

    assert "provider-extra-missing pip install 'gpuplan[kubernetes]'" == told.stdout.strip(), told.stderr
