"""What gpuplan knows of Vast.ai in tables: where things are, what errors mean, what can be done."""

from collections.abc import Mapping

from pydantic import Field, SecretStr, field_validator

from gpuplan.core.capabilities import Capabilities, KindCapabilities, Mutability, ProviderKind, RateLimit
from gpuplan.core.desired import Kind
from gpuplan.core.errors import AuthFailed, Conflict, InvalidRequest, NoCapacity, NotFound, QuotaExceeded, Unavailable
from gpuplan.core.gpus import parse_gpu
from gpuplan.core.marks import MarkIn
from gpuplan.core.offers import Pricing
from gpuplan.net.auth import Bearer
from gpuplan.net.collection import Collection
from gpuplan.net.http_provider import HttpOptions
from gpuplan.net.profile import (
    AfterBody,
    AfterHeader,
    AfterText,
    Bucket,
    ConfigFile,
    Credential,
    Cursor,
    Host,
    HttpProfile,
    Retries,
    Rising,
    Rule,
)
from gpuplan.providers.vast_bodies import LABEL_LENGTH, VOLUME_NAME_LENGTH
from gpuplan.providers.vast_wire import Instance, Key, Volume

LIST, INSTANCE = "/api/v1/instances/", "/api/v0/instances/{id}/"
CREATE, SEARCH, LOGS = "/api/v0/asks/{id}/", "/api/v0/bundles/", "/api/v0/instances/request_logs/{id}/"
VOLUME, VOLUME_SEARCH, SSH = "/api/v0/volumes/", "/api/v0/volumes/search/", "/api/v0/ssh/"
INSTANCES = Collection(Kind.NODE, LIST, "instances", "instances", Instance, item_route=INSTANCE)
KEYS = Collection(Kind.SSH_KEY, SSH, "", "", Key, item_route="/api/v0/ssh/{id}/", is_only_listed=True)
VOLUMES = Collection(Kind.VOLUME, f"{VOLUME}?owner=me&type=all_volume", "", "volumes", Volume, is_only_listed=True)
INSTANCE_PAGES = Cursor("after_token", at="next_token", size="limit", page_size=25)
SEARCH_PAGES = Rising("dph_total", page_size=64)

RULES = (
    # The store of logs, which says so until a log is there.
    Rule(Unavailable, status=(403, 404), route="(download)"),
    Rule(AuthFailed, code="auth_error"),
    Rule(QuotaExceeded, code="search_quota_exceeded", hint="the searches of this day are used up, until midnight UTC"),
    Rule(QuotaExceeded, code="insufficient_credit"),
    Rule(QuotaExceeded, status=(200, 400), message=r"insufficient (funds|credit)|lacks credit|balance"),
    Rule(NoCapacity, message="no_such_ask"),
    Rule(NoCapacity, code="no_such_ask"),
    Rule(NoCapacity, status=(404, 410), route=CREATE),
    Rule(InvalidRequest, status=400, route=SSH, code="no_ssh_key"),
    Rule(NotFound, code="no_such_instance|not_found|invalid_id|no_such_volume|no_ssh_key"),
    Rule(Conflict, status=400, method="DELETE", message="in use|destroyed first|being used"),
)
PROFILE = HttpProfile(
    hosts={"": Host("https://console.vast.ai", env=("VAST_URL",))},
    auth=Bearer(),
    credentials={
        "key": Credential(
            env=("VAST_API_KEY",),
            files=(ConfigFile("$XDG_CONFIG_HOME/vastai/vast_api_key"), ConfigFile("~/.vast_api_key")),
            get_one_at="https://cloud.vast.ai/manage-keys/",
        )
    },
    rules=RULES,
    error_code=("error",),
    error_message=("msg", "message", "detail", "error"),
    leftover="new_contract",
    is_error=lambda body: isinstance(body, Mapping) and body.get("success") is False,
    # Each endpoint has a pace of its own, told in seconds between two calls.
    buckets=tuple(
        Bucket(RateLimit(requests=1, per_seconds=seconds), method=method, route=route)
        for method, route, seconds in (
            ("PUT", CREATE, 4.5),
            ("DELETE", INSTANCE, 3.0),
            ("PUT", INSTANCE, 1.0),
            ("GET", INSTANCE, 2.0),
            ("GET", LIST, 1.0),
            ("PUT", VOLUME, 5.5),
            ("DELETE", VOLUME, 5.5),
            ("", SSH, 1.0),
            ("DELETE", "/api/v0/ssh/{id}/", 1.0),
        )
    ),
    retry_after=(AfterHeader(), AfterBody("retry_after"), AfterText(r"threshold=([\d.]+)")),
    retries=Retries(attempts=6),
    secret_fields=frozenset({"jupyter_token", "instance_api_key"}),
)
REPLACING = (
    *("gpu", "cpu", "memory_gb", "disk_gb", "region", "zone", "image", "command", "env", "ports", "ssh_keys"),
    *("volumes", "spot", "user_data", "setup", "options"),
)
CAPABILITIES = Capabilities(
    kind=ProviderKind.MARKETPLACE,
    kinds={
        Kind.NODE: KindCapabilities(
            {**dict.fromkeys(REPLACING, Mutability.REPLACE), "labels": Mutability.IN_PLACE},
            mark=MarkIn.LABEL,
            mark_length=LABEL_LENGTH,
        ),
        Kind.SSH_KEY: KindCapabilities(
            {"public_key": Mutability.REPLACE}, required=frozenset({"public_key"}), mark=MarkIn.NAME
        ),
        Kind.VOLUME: KindCapabilities(
            dict.fromkeys(("size_gb", "zone", "region"), Mutability.REPLACE),
            required=frozenset({"size_gb", "zone"}),
            mark=MarkIn.NAME,
            mark_length=VOLUME_NAME_LENGTH,
        ),
    },
    page_size=25,
    visibility_delay_seconds=30,
    ready_timeout_seconds=900,
    poll_interval_seconds=10,
    pricing=(Pricing.ON_DEMAND, Pricing.SPOT),
    spot=True,
    stop_start=True,
    ssh=True,
    raw_tcp=True,
    logs=True,
    notes=(
        "machines belong to strangers: the provider block says how good they must be",
        "a stopped node goes on paying for its disk, and its GPUs may be somebody else's when it is started",
        "a volume is on one machine: `zone` is the number of the machine, on the volume and on the node",
        "the image's entrypoint does not run, but for `runtype: args`",
        "every contract has an end, told as `ends_at`",
    ),
    lacks={
        "networks": "machines of different hosts have no network of their own",
        "instance_type": "machines are told apart by their GPUs; `zone` is one machine",
        "shm_gb": "Vast sizes shared memory itself",
    },
)
GRACE_SECONDS = 60
"""For so long a new instance may not be shown yet, although it is there."""
RESTART_SECONDS = 600
"""For so long a container that was started again may go on saying that it has ended."""


class Options(HttpOptions):
    verified: bool = Field(True, description="only machines that Vast has verified")
    min_reliability: float = Field(0.97, ge=0, le=1, description="share of time a machine must have been up")
    min_ports: int = Field(2, ge=0, description="ports a machine must be able to open")
    min_inet_down: float = Field(200, ge=0, description="download speed in Mbit/s")
    min_cuda: float | None = Field(None, description="CUDA version the driver must support: 12.8")
    min_days: float = Field(1, ge=0, description="days the machine must stay on offer")
    disk_gb: int = Field(32, ge=8, description="disk of nodes that do not say `disk_gb`, and disk that prices include")
    regions: tuple[str, ...] = Field((), description="countries to look for offers in (US, SE); empty: all")
    gpus: tuple[str, ...] = Field((), description="GPUs to look for offers of, so that searches are few; empty: all")
    image_login: SecretStr | None = Field(None, description="for a private registry: -u USER -p PASSWORD HOST")

    @field_validator("gpus")
    @classmethod
    def _are_known(cls, gpus: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return tuple(parse_gpu(gpu).name for gpu in gpus)
        except KeyError as exc:
            raise ValueError(f"no GPU is called {exc}") from exc


NAMES_ROUTE = "/api/v0/gpu_names/unique/"
