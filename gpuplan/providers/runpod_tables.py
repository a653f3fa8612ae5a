"""What gpuplan knows of RunPod in tables: where things are, what errors mean, what can be done."""

from typing import Literal

from pydantic import Field

from gpuplan.core.capabilities import Capabilities, KindCapabilities, Mutability, ProviderKind, RateLimit
from gpuplan.core.desired import Kind
from gpuplan.core.errors import AuthFailed, Conflict, InvalidRequest, NoCapacity, NotFound, QuotaExceeded, Unsupported
from gpuplan.core.marks import MarkIn
from gpuplan.net.auth import Bearer
from gpuplan.net.collection import Collection
from gpuplan.net.http_provider import HttpOptions
from gpuplan.net.profile import Bucket, ConfigFile, Credential, Cursor, Host, HttpProfile, Rule
from gpuplan.providers.runpod_wire import NetworkVolume, Pod

PODS = Collection(Kind.NODE, "/v2/pods", "", "pods", Pod)
VOLUMES = Collection(Kind.VOLUME, "/v2/network-volumes", "", "networkVolumes", NetworkVolume)
ACTION_ROUTE = "/v2/pods/{id}/action"

FULL = (
    r"no (longer any )?(instances|gpus?) |no capacity|out of stock|insufficient resources|not enough free gpus"
    r"|does not have the resources"
)
EITHER = "RunPod says the same of a pod it has no room for and of one it cannot make: the text tells which"
POOL = "this account may not use these GPUs, or the key may only read"
RULES = (
    Rule(NoCapacity, status=400, method="POST", message=FULL),
    Rule(NoCapacity, status=400, route=ACTION_ROUTE),
    Rule(NotFound, status=400, route=PODS.route, message="not found|does not exist|no such"),
    Rule(
        InvalidRequest,
        status=400,
        route=PODS.route,
        message="invalid|required|must|mutually exclusive|not allowed|unknown|exactly one",
    ),
    Rule(NoCapacity, status=400, route=PODS.route, hint=EITHER),
    Rule(AuthFailed, status=403, route=PODS.route, message="access denied|scope|read.?only"),
    Rule(QuotaExceeded, status=403, method="POST", route=PODS.route, hint=POOL),
    Rule(Conflict, status=400, method="DELETE", route=f"{VOLUMES.route}/{{id}}"),
    Rule(Unsupported, status=409, message="cluster"),
)
PROFILE = HttpProfile(
    hosts={"": Host("https://api.runpod.io", env=("RUNPOD_API_BASE_URL",))},
    auth=Bearer(),
    credentials={
        "key": Credential(
            env=("RUNPOD_API_KEY",),
            files=(
                ConfigFile("~/.runpod/config.toml", "default.api_key"),
                ConfigFile("~/.runpod/config.toml", "apikey"),
            ),
            get_one_at="https://console.runpod.io/user/settings",
        )
    },
    rules=RULES,
    error_message=("errors", "detail", "title", "error"),
    pages=Cursor("cursor", at="pagination.nextCursor", more="pagination.hasNextPage"),
    buckets=(Bucket(RateLimit(requests=3000, per_seconds=3600)),),
)
RESTARTING = ("image", "command", "env", "ports", "disk_gb", "ssh_keys")
REPLACING = ("gpu", "cpu", "memory_gb", "region", "instance_type", "volumes", "setup", "options")
CAPABILITIES = Capabilities(
    kind=ProviderKind.CLOUD,
    kinds={
        Kind.NODE: KindCapabilities(
            {
                **dict.fromkeys(REPLACING, Mutability.REPLACE),
                **dict.fromkeys(RESTARTING, Mutability.RESTARTS),
                "labels": Mutability.LOCAL,
            },
            mark=MarkIn.ENV,
        ),
        Kind.VOLUME: KindCapabilities(
            {"size_gb": Mutability.GROW_ONLY, "region": Mutability.REPLACE, "type": Mutability.REPLACE},
            required=frozenset({"size_gb", "region"}),
            mark=MarkIn.NAME,
        ),
        Kind.SSH_KEY: KindCapabilities(
            {"public_key": Mutability.REPLACE}, required=frozenset({"public_key"}), mark=MarkIn.NAME
        ),
    },
    visibility_delay_seconds=15,
    ready_timeout_seconds=1200,
    poll_interval_seconds=10,
    rate_limit=RateLimit(requests=60, per_seconds=60.0),
    stop_start=True,
    ssh=True,
    http_proxy=True,
    raw_tcp=True,
    symmetric_ports=True,
    global_networking=True,
    logs=True,
    log_streaming=True,
    shared_filesystem=True,
    restart_empties=True,
    notes=(
        "a pod is a container: a change of image, command, env, ports, disk or keys empties its disk",
        "a stopped pod keeps its host and may find its GPUs taken: a network volume on a new pod does not",
        "a stopped pod pays for its disk at twice the price",
        "labels are kept by gpuplan alone",
    ),
)


class Options(HttpOptions):
    cloud: Literal["secure", "community", "any"] = Field(
        "secure", description="whose machines: those of RunPod's data centres, those of strangers, or both"
    )
    regions: tuple[str, ...] = Field((), description="data centres to look for offers in; empty: all")
    account: str = Field("", description="a lasting name for the account behind the key, which RunPod does not tell")
