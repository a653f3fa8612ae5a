"""Find a cluster and the way into it: kubeconfig files, or the pod this runs in.

All of it is the work of the `kubernetes` package: merging files, running credential plugins, reading tokens that are
replaced. It is imported when an account is opened by such a configuration, and not before.
"""

import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpuplan.core.diagnostics import Diagnostic
from gpuplan.core.errors import Failure, GpuplanError, InvalidRequest, NoCredentials
from gpuplan.core.ports import OpenContext
from gpuplan.core.values import JsonValue
from gpuplan.net.auth import Rotating
from gpuplan.net.http_provider import Located
from gpuplan.net.tls import Line, tls_of
from gpuplan.providers.kubernetes_options import Options

if TYPE_CHECKING:
    from types import ModuleType

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_HOST = "KUBERNETES_SERVICE_HOST"
_TOKEN = "BearerToken"
_OLD_TOKEN = "authorization"
"""What the package called it before its version 36."""


def locate(options: Options, context: OpenContext) -> Located:
    """Raises NoCredentials, and InvalidRequest for a configuration that cannot be used."""
    environ = context.environ
    files = options.kubeconfig or environ.get("KUBECONFIG") or "~/.kube/config"
    paths = [_expanded(path, environ) for path in files.split(":") if path]
    has_config = any(path.is_file() for path in paths)
    inside = options.in_cluster
    if inside is None:
        inside = options.kubeconfig is None and not has_config and bool(environ.get(_HOST))
    if inside:
        return _from_pod(options, context)
    if not has_config:
        looked = ", ".join(f"`{path}`" for path in paths)
        hint = "set `KUBECONFIG` to a kubeconfig, or name one by `kubeconfig` in the provider block"
        raise NoCredentials(
            Failure(context.block.name, "use this cluster", facts=(f"there is no {looked}",), hint=hint)
        )
    return _from_files(options, context, ":".join(map(str, paths)))


def _from_files(options: Options, context: OpenContext, files: str) -> Located:
    config = _package("kubernetes.config.kube_config")

    def load() -> Any:
        found = _configuration()
        config.load_kube_config(files, options.context, found, persist_config=False)
        return found

    with_proxy = _configuration().proxy
    loaded = _loaded(load, context)
    contexts, current = config.list_kube_config_contexts(files)
    name = options.context or current["name"]
    chosen = next((each for each in contexts if each["name"] == name), current)
    namespace = chosen["context"].get("namespace")
    proxy = loaded.proxy if loaded.proxy != with_proxy else None
    return _located(options, context, loaded, load, namespace, proxy)


def _from_pod(options: Options, context: OpenContext) -> Located:
    config = _package("kubernetes.config.incluster_config")
    token, authority = SERVICE_ACCOUNT / "token", SERVICE_ACCOUNT / "ca.crt"

    def load() -> Any:
        found = _configuration()
        config.InClusterConfigLoader(str(token), str(authority), environ=context.environ).load_and_set(found)
        return found

    loaded = _loaded(load, context)
    told = SERVICE_ACCOUNT / "namespace"
    namespace = told.read_text().strip() if told.is_file() else None
    return _located(options, context, loaded, load, namespace, None)


def _located(
    options: Options,
    context: OpenContext,
    loaded: Any,
    load: Callable[[], Any],
    namespace: str | None,
    proxy: str | None,
) -> Located:
    """From what the package found to what the transport takes."""
    current = [loaded]

    def renew() -> bool:
        """The token was not accepted: everything is read, and every plugin run, once more."""
        before = _read(current[0])
        current[0] = _loaded(load, context)
        return _read(current[0]) != before

    try:
        tls = tls_of(
            ca_file=loaded.ssl_ca_cert,
            certificate_file=loaded.cert_file,
            key_file=loaded.key_file,
            verify=loaded.verify_ssl,
        )
    except (OSError, ssl.SSLError) as exc:
        raise InvalidRequest(Failure(context.block.name, "use this cluster", f"its certificates: {exc}")) from exc
    line = Line(tls, loaded.tls_server_name or "", proxy)
    auth = Rotating(lambda: _read(current[0]), renew, context.redactor)
    known: dict[str, JsonValue] = {}
    if options.namespace is None and namespace:
        known["namespace"] = namespace
    return Located(str(loaded.host), auth, line, options=known)


def _read(found: Any) -> str | None:
    """The value of `Authorization` now: the package replaces it when its time is over."""
    value: str | None = found.get_api_key_with_prefix(_TOKEN, _OLD_TOKEN)
    return value


def _loaded(load: Callable[[], Any], context: OpenContext) -> Any:
    """What the package makes of a configuration, its complaints in our words."""
    wrong = _package("kubernetes.config.config_exception").ConfigException
    try:
        return load()
    except (wrong, OSError, ValueError, KeyError) as exc:
        facts = ("this is what the `kubernetes` package says of the configuration",)
        raise InvalidRequest(Failure(context.block.name, "use this cluster", str(exc), facts=facts)) from exc


def _configuration() -> Any:
    return _package("kubernetes.client").Configuration()


def _package(name: str) -> "ModuleType":
    from importlib import import_module

    try:
        return import_module(name)
    except ModuleNotFoundError as exc:
        found = Diagnostic(
            id="provider-extra-missing",
            summary="reading a kubeconfig needs a package that is not installed",
            facts=(f"there is no module `{exc.name}`",),
            hint="install it, or name `endpoint` and `key` in the provider block",
            commands=("pip install 'gpuplan[kubernetes]'",),
        )
        raise GpuplanError(diagnostics=(found,)) from exc


def _expanded(path: str, environ: Mapping[str, str]) -> Path:
    home = environ.get("HOME", "/nonexistent")
    return Path(path.replace("~", home, 1) if path.startswith("~") else path)
