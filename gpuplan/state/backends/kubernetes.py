"""The state in a namespace of Kubernetes: a Lease for the lock and what counts, Secrets for everything that is kept.

The rules are those of `objects`. The head is an annotation of the Lease, and its `resourceVersion` the compare-and-set;
the fields of the Lease say the same to whoever looks with kubectl. The client is the official one, because it knows
every way into a cluster; it blocks a thread.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import SplitResult

from pydantic import BaseModel, Field

from gpuplan.core.ports import Clock
from gpuplan.net.threads import run_blocking
from gpuplan.state.backends.head import decode_head
from gpuplan.state.backends.kubernetes_objects import (
    Naming,
    Tree,
    content_of,
    head_of,
    name_of,
    pieces_of,
    version_of,
)
from gpuplan.state.backends.objects import Changed, ObjectBackend
from gpuplan.state.backends.options import BackendOptions, Seconds, query_in, query_of
from gpuplan.state.registry import BackendType, Opening
from gpuplan.state.stored import StateUnreachable, refused, unreachable

Result = TypeVar("Result")

_ATTEMPTS = 4
_PAUSE_SECONDS = 0.1
_AT_ONCE = 40
"""How many objects one request deletes: their names are in its URL."""
_IN_CLUSTER = "KUBERNETES_SERVICE_HOST"
_DNS = r"^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$"
_RIGHTS = "the account needs get, create and update on leases; get, create, list and deletecollection on secrets"


class Options(BackendOptions):
    namespace: str = Field(pattern=_DNS)
    name: str = Field(pattern=_DNS, description="one for each project")
    context: str | None = Field(None, description="of the kubeconfig; its current one when absent")
    timeout: Seconds = 30.0


class Cluster:
    """The way into a cluster, made when it is first needed: plugins may have to run for it."""

    def __init__(self, options: Options, environ: Mapping[str, str], location: str) -> None:
        self._options = options
        self._environ = environ
        self._location = location
        self._core: Any = None
        self._leases: Any = None

    @property
    def core(self) -> Any:  # the package brings no types
        self._connect()
        return self._core

    @property
    def leases(self) -> Any:  # the package brings no types
        self._connect()
        return self._leases

    def asked(self, verb: Callable[..., Any], *arguments: object, **named: object) -> Tree:
        """What the server answers, unparsed by the package."""
        seconds = self._options.timeout
        answer = verb(*arguments, **named, _preload_content=False, _request_timeout=(min(seconds, 10.0), seconds))
        found: Tree = json.loads(answer.data)
        return found

    def close(self) -> None:
        if self._core is not None:
            self._core.api_client.rest_client.pool_manager.clear()

    def _connect(self) -> None:
        if self._core is not None:
            return
        client, config = import_module("kubernetes.client"), import_module("kubernetes.config")
        configuration = client.Configuration()
        # Repeating is decided here, where it is known what may be repeated.
        configuration.retries = False
        files = self._environ.get("KUBECONFIG") or "~/.kube/config"
        known = any(Path(file).expanduser().is_file() for file in files.split(":") if file)
        try:
            if not known and self._environ.get(_IN_CLUSTER):
                config.load_incluster_config(client_configuration=configuration)
            else:
                config.load_kube_config(files, self._options.context, configuration, persist_config=False)
        except (config.ConfigException, OSError, ValueError, KeyError) as exc:
            raise refused(self._location, str(exc), "set KUBECONFIG to a kubeconfig, or name its context") from exc
        api = client.ApiClient(configuration)
        self._core, self._leases = client.CoreV1Api(api), client.CoordinationV1Api(api)


class KubernetesObjects:
    """One workspace's Lease and Secrets."""

    def __init__(self, options: Options, opening: Opening) -> None:
        self.location = f"kubernetes://{options.namespace}/{options.name}/{opening.workspace}"
        self._namespace = options.namespace
        self._clock = opening.clock
        self._naming = Naming(options.name, opening.workspace)
        self._cluster = Cluster(options, opening.environ, self.location)

    async def look(self) -> tuple[bytes, str] | None:
        def work() -> tuple[bytes, str] | None:
            cluster = self._cluster
            lease = _found(
                lambda: cluster.asked(cluster.leases.read_namespaced_lease, self._naming.lease, self._namespace)
            )
            return None if lease is None else (head_of(lease), version_of(lease))

        return await self._repeated(work)

    async def swap(self, content: bytes, expect: str | None) -> str:
        lease = self._naming.lease_of(decode_head(content, self.location), content, expect, self._clock.now())

        def work() -> str:
            cluster = self._cluster
            try:
                if expect is None:
                    made = cluster.asked(cluster.leases.create_namespaced_lease, self._namespace, lease)
                else:
                    name = self._naming.lease
                    made = cluster.asked(cluster.leases.replace_namespaced_lease, name, self._namespace, lease)
            except Exception as exc:  # told apart by status: the package's error is known once it is imported
                if getattr(exc, "status", None) == 409 or (expect is not None and _is_missing(exc)):
                    raise Changed from exc
                raise
            return version_of(made)

        return await _asked(work, self.location)

    async def read(self, name: str) -> bytes | None:
        def work() -> bytes | None:
            first = self._piece(name, 0)
            if first is None:
                return None
            rest = [self._piece(name, number) for number in range(1, pieces_of(first))]
            pieces = [first, *(piece for piece in rest if piece is not None)]
            return content_of(pieces, self.location) if len(pieces) == len(rest) + 1 else None

        return await self._repeated(work)

    async def write(self, name: str, content: bytes) -> None:
        def work() -> None:
            cluster = self._cluster
            for secret in self._naming.secrets(name, content):
                try:
                    cluster.asked(cluster.core.create_namespaced_secret, self._namespace, secret)
                except Exception as exc:  # told apart by status: the package's error is known once it is imported
                    # An earlier attempt of ours: nobody else writes under this name.
                    if getattr(exc, "status", None) != 409:
                        raise

        await self._repeated(work)

    async def remove(self, names: Sequence[str]) -> None:
        def work() -> None:
            cluster = self._cluster
            for start in range(0, len(names), _AT_ONCE):
                selected = self._naming.selector(names[start : start + _AT_ONCE])
                cluster.asked(
                    cluster.core.delete_collection_namespaced_secret, self._namespace, label_selector=selected
                )

        await self._repeated(work)

    async def names(self) -> Sequence[str]:
        def work() -> list[str]:
            listed = self._cluster.asked(
                self._cluster.core.list_namespaced_secret, self._namespace, label_selector=self._naming.everything
            )
            return sorted({name_of(secret) for secret in listed["items"]})

        return await self._repeated(work)

    async def close(self) -> None:
        self._cluster.close()

    def _piece(self, name: str, number: int) -> Tree | None:
        cluster, secret = self._cluster, self._naming.secret(name, number)
        return _found(lambda: cluster.asked(cluster.core.read_namespaced_secret, secret, self._namespace))

    async def _repeated(self, work: Callable[[], Result]) -> Result:
        """For what leaves the same when it is done twice."""
        return await _repeated(work, self.location, self._clock)


async def _repeated(work: Callable[[], Result], location: str, clock: Clock) -> Result:
    for attempt in range(_ATTEMPTS):
        try:
            return await _asked(work, location)
        except StateUnreachable:
            if attempt == _ATTEMPTS - 1:
                raise
            await clock.sleep(_PAUSE_SECONDS * 2**attempt)
    raise AssertionError("the last attempt returns or raises")


async def _asked(work: Callable[[], Result], location: str) -> Result:
    """Run it in a thread; its errors in our words."""
    from urllib3.exceptions import HTTPError

    try:
        return await run_blocking(work)
    except (HTTPError, OSError, json.JSONDecodeError) as exc:
        raise unreachable(location, type(exc).__name__ if isinstance(exc, HTTPError) else str(exc)) from exc
    except Exception as exc:
        status = getattr(exc, "status", None)
        if status is None:
            # No answer of the server's: ours, or a bug.
            raise
        said = f"status {status} {getattr(exc, 'reason', '')}".strip()
        if status == 429 or status >= 500:
            raise unreachable(location, said) from exc
        raise refused(location, said, _RIGHTS) from exc


def _found(ask: Callable[[], Tree]) -> Tree | None:
    """None for what is not there."""
    try:
        return ask()
    except Exception as exc:
        if _is_missing(exc):
            return None
        raise


def _is_missing(exc: Exception) -> bool:
    return getattr(exc, "status", None) == 404


def _open(options: BaseModel, opening: Opening) -> ObjectBackend:
    assert isinstance(options, Options)
    # So that its absence is told before anything begins.
    import_module("kubernetes")
    return ObjectBackend(KubernetesObjects(options, opening), opening.clock)


async def _workspaces(options: BaseModel, opening: Opening) -> tuple[str, ...]:
    assert isinstance(options, Options)
    location = f"kubernetes://{options.namespace}/{options.name}"
    cluster = Cluster(options, opening.environ, location)

    def work() -> list[str]:
        selected = f"gpuplan.dev/state={options.name}"
        leases = cluster.asked(cluster.leases.list_namespaced_lease, options.namespace, label_selector=selected)
        return [name_of(lease) for lease in leases["items"] if decode_head(head_of(lease), location).snapshot]

    try:
        return tuple(sorted(await _repeated(work, location, opening.clock)))
    finally:
        cluster.close()


def _from_url(url: SplitResult) -> Mapping[str, str]:
    return {"namespace": url.netloc, "name": url.path.strip("/"), **query_in(url)}


def _to_url(options: BaseModel) -> str:
    assert isinstance(options, Options)
    return f"kubernetes://{options.namespace}/{options.name}{query_of(options, 'namespace', 'name')}"


BACKEND = BackendType("kubernetes", Options, _open, _workspaces, _from_url, _to_url)
