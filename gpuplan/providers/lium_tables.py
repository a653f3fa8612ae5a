"""What gpuplan knows of Lium's two APIs in tables: where things are, what errors mean, what can be done."""

from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from gpuplan.core.capabilities import (
    Capabilities,
    Idempotency,
    KindCapabilities,
    Lease,
    Listing,
    Mutability,
    ProviderKind,
    RateLimit,
)
from gpuplan.core.desired import Kind
from gpuplan.core.errors import InvalidRequest, NoCapacity, OutcomeUnknown, QuotaExceeded, RateLimited
from gpuplan.core.gpus import canonical_gpu
from gpuplan.core.marks import MarkIn
from gpuplan.core.offers import Pricing
from gpuplan.core.values import JsonValue
from gpuplan.net.auth import Bearer, KeyHeaders
from gpuplan.net.collection import Collection
from gpuplan.net.http_provider import HttpOptions
from gpuplan.net.profile import Bucket, ConfigFile, Credential, Effect, Host, HttpProfile, KeyHeader, Rule
from gpuplan.providers.lium_wire import Executor, Key, Pod, Volume

PODS = Collection(Kind.NODE, "/pods", "", "", Pod)
KEYS = Collection(Kind.SSH_KEY, "/ssh-keys", "", "", Key, is_only_listed=True)
VOLUMES = Collection(Kind.VOLUME, "/volumes", "", "", Volume)
COMPANIONS: Mapping[Kind, Collection[Key | Volume]] = {Kind.SSH_KEY: KEYS, Kind.VOLUME: VOLUMES}
COLLECTIONS: Mapping[Kind, Collection[Key | Volume | Pod]] = {**COMPANIONS, Kind.NODE: PODS}
TEMPLATES, TEMPLATE = "/templates", "/templates/{id}"
HOSTS, RENT = "/executors", "/executors/{id}/rent"
RENTALS, RENTAL = "/rentals", "/rentals/{id}"
PODS_URL, RENTALS_URL = "https://lium.io/api", "https://api.lium.ai/v1"

DEFAULT_HOURS = 24
VARIABLES: Mapping[str, str] = {
    "endpoint": "LIUM_BASE_URL",
    "workspace": "LIUM_WORKSPACE",
    "hotkey": "LIUM_WALLET_HOTKEY",
    "coldkey": "LIUM_WALLET_COLDKEY",
    "ssh_public_key": "LIUM_SSH_PUBKEY",
    "ssh_key_path": "LIUM_SSH_KEY_PATH",
}
"""Option to the variable that Lium's own tools, or those of the rentals, read it from."""


class Flavour(StrEnum):
    AUTO = "auto"
    PODS = "pods"
    RENTALS = "rentals"


class Options(HttpOptions):
    flavour: Flavour = Field(
        Flavour.AUTO, description="which API: pods of lium.io, rentals of api.lium.ai, or what the rest of it tells"
    )
    workspace: str | None = Field(None, description="pods: whose saved key to take, of those in ~/.lium/config.ini")
    regions: tuple[str, ...] = Field(
        (), description="pods: countries (US) or regions to look for offers in. rentals: how their region is called"
    )
    reliable_only: bool = Field(True, description="pods: no hosts whose rents often fail")
    min_reliability: float = Field(0, ge=0, le=1, description="pods: lowest reliability of a host")
    power_limited: bool = Field(False, description="pods: also hosts that hold their GPUs back")
    lease_hours: int | None = Field(
        None, ge=1, le=720, description="pods: a node ends by itself after so long, unless an apply renews it"
    )
    hotkey: SecretStr | None = Field(None, description="rentals: address of the wallet's hotkey")
    coldkey: SecretStr | None = Field(None, description="rentals: address of the wallet's coldkey")
    duration_hours: int = Field(DEFAULT_HOURS, ge=1, description="rentals: a node ends after so long, and for good")
    gpus: tuple[str, ...] = Field((), description="rentals: further GPUs to ask for, whose price nobody tells")
    ssh_public_key: str | None = Field(None, description="who may log in, where no `ssh_keys` are named")
    ssh_key_path: str | None = Field(None, description="private key to log in with")

    @field_validator("gpus")
    @classmethod
    def _are_known(cls, gpus: tuple[str, ...]) -> tuple[str, ...]:
        known = {gpu: canonical_gpu(gpu) for gpu in gpus}
        if strange := [gpu for gpu, name in known.items() if name is None]:
            raise ValueError(f"no GPU is called `{strange[0]}`")
        return tuple(name for name in known.values() if name)

    @model_validator(mode="after")
    def _is_one_api(self) -> Self:
        shown = _shown_by(self.endpoint or "")
        if shown not in (None, self.flavour) and self.flavour is not Flavour.AUTO:
            raise ValueError(f"`{self.endpoint}` is an endpoint of {shown}, and the flavour is {self.flavour}")
        return self

    @property
    def api(self) -> Flavour:
        """The API that is spoken: what is said, else what the base URL shows, else what a wallet is for."""
        if self.flavour is not Flavour.AUTO:
            return self.flavour
        return _shown_by(self.endpoint or "") or (Flavour.RENTALS if self.hotkey and self.coldkey else Flavour.PODS)

    def wants(self, host: Executor) -> bool:
        """Whether a host is good enough, and in the right place."""
        return (
            not (self.reliable_only and host.frequent_rent_failures)
            and (self.power_limited or not host.gpu_power_limited)
            and (host.reliability_score is None or host.reliability_score >= self.min_reliability)
            and (not self.regions or any(host.location.is_in(region) for region in self.regions))
        )


def defaults(environ: Mapping[str, str]) -> Mapping[str, JsonValue]:
    """Options that the environment gives. A duration that is no number is the default, a region `auto` is none."""
    told: dict[str, JsonValue] = {
        option: environ[variable] for option, variable in VARIABLES.items() if environ.get(variable)
    }
    if (region := environ.get("LIUM_REGION", "auto")) not in ("", "auto"):
        told["regions"] = [region]
    hours = environ.get("LIUM_DURATION_HOURS", "")
    if hours.isdigit() and int(hours):
        told["duration_hours"] = int(hours)
    return told


def _shown_by(url: str) -> Flavour | None:
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    if path.endswith("/v1") or parts.hostname == "api.lium.ai":
        return Flavour.RENTALS
    return Flavour.PODS if path.endswith("/api") else None


BUSY = r"not available|unavailable|already (rented|taken)|no .*ports|cannot be split|gpu.?count|no longer"
DEAR = "its price has changed since it was looked up: a new plan sees it"
POD_RULES = (
    Rule(OutcomeUnknown, code="idempotency_in_progress|idempotency_outcome_unknown"),
    Rule(QuotaExceeded, status=403, code="insufficient_balance"),
    Rule(QuotaExceeded, status=403, message="insufficient balance"),
    Rule(InvalidRequest, status=404, route=RENT, message="template|volume|ssh.?key"),
    Rule(NoCapacity, status=404, route=RENT),
    Rule(NoCapacity, status=409, route=RENT, message="price", hint=DEAR),
    Rule(NoCapacity, status=409, route=RENT),
    Rule(NoCapacity, status=400, route=RENT, message=BUSY),
)
RENTAL_RULES = (
    Rule(NoCapacity, status=(409, 503), method="POST", message="miner|capacity|no .*(gpu|machine|host)"),
    Rule(RateLimited, status=503, effects=(Effect.NONE, Effect.REPEATABLE), says_when=True),
)
GET_A_KEY = "https://lium.io/api-keys"


def profile(options: Options) -> HttpProfile:
    return RENTALS_PROFILE if options.api is Flavour.RENTALS else _pods_profile(options.workspace)


def _pods_profile(workspace: str | None) -> HttpProfile:
    """A workspace that is named has a key of its own: any other would act, and pay, for another team."""
    file = "~/.lium/config.ini"
    if workspace:
        key = Credential(env=(), files=(ConfigFile(file, lambda content: _saved_key(content, workspace)),))
    else:
        files = (ConfigFile(file, _active_key), ConfigFile(file, "api.api_key"))
        key = Credential(env=("LIUM_API_API_KEY", "LIUM_API_KEY"), files=files, get_one_at=GET_A_KEY)
    return HttpProfile(
        hosts={"": Host(PODS_URL)},
        auth=KeyHeaders({"X-API-KEY": "key"}),
        credentials={"key": key},
        rules=POD_RULES,
        error_code=("error.code", "code"),
        error_message=("error.message", "message", "detail"),
        is_error=lambda body: isinstance(body, Mapping) and body.get("success") is False,
        # Who looks more often is turned away, and everybody else of the account with him.
        buckets=(Bucket(RateLimit(requests=60, per_seconds=60.0), method="GET"),),
        idempotency=KeyHeader(),
    )


def _saved_key(content: JsonValue, workspace: str) -> str | None:
    section = content.get(f"workspace.{workspace.lower()}") if isinstance(content, Mapping) else None
    key = section.get("api_key") if isinstance(section, Mapping) else None
    return key if isinstance(key, str) else None


def _active_key(content: JsonValue) -> str | None:
    section = content.get("workspaces") if isinstance(content, Mapping) else None
    active = section.get("active") if isinstance(section, Mapping) else None
    return _saved_key(content, active) if isinstance(active, str) else None


RENTALS_PROFILE = HttpProfile(
    hosts={"": Host(RENTALS_URL)},
    auth=Bearer(),
    credentials={
        "key": Credential(env=("LIUM_API_KEY",), get_one_at=GET_A_KEY),
        "hotkey": Credential(env=("LIUM_WALLET_HOTKEY",)),
        "coldkey": Credential(env=("LIUM_WALLET_COLDKEY",)),
    },
    rules=RENTAL_RULES,
    error_code=("error.code", "code"),
    error_message=("error.message", "error", "message", "detail"),
)


def capabilities(options: Options) -> Capabilities:
    if options.api is Flavour.RENTALS:
        return _rentals_capabilities(options.duration_hours * 3600)
    return replace(PODS_CAPABILITIES, lease=Lease(True, (options.lease_hours or DEFAULT_HOURS) * 3600))


REPLACING = ("gpu", "cpu", "memory_gb", "disk_gb", "region", "ports", "ssh_keys", "volumes", "spot", "setup", "options")
PODS_CAPABILITIES = Capabilities(
    kind=ProviderKind.DEPIN,
    kinds={
        Kind.NODE: KindCapabilities(
            {
                **dict.fromkeys(REPLACING, Mutability.REPLACE),
                **dict.fromkeys(("image", "command", "env"), Mutability.RESTARTS),
                "labels": Mutability.LOCAL,
            },
            mark=MarkIn.NAME,
            idempotency=Idempotency.KEY,
        ),
        Kind.SSH_KEY: KindCapabilities(
            {"public_key": Mutability.REPLACE}, required=frozenset({"public_key"}), mark=MarkIn.NAME
        ),
        Kind.VOLUME: KindCapabilities({}, mark=MarkIn.TAG),
    },
    visibility_delay_seconds=20,
    ready_timeout_seconds=900,
    poll_interval_seconds=10,
    pricing=(Pricing.ON_DEMAND, Pricing.SPOT),
    spot=True,
    ssh=True,
    raw_tcp=True,
    logs=True,
    log_streaming=True,
    restart_empties=True,
    notes=(
        "hosts are miners': the owner of a host can look into a pod, and hosts disappear now and then",
        "a pod is a container: a change of image, command or env empties its disk, but for the volume",
        "names of pods have room for a token alone: after a lost state, orphans cannot be told",
        "labels are kept by gpuplan alone",
    ),
    lacks={
        "instance_type": "hosts are told apart by their GPUs",
        "networks": "hosts of different miners have no network of their own",
        "stopped": "Lium rents and ends pods, and cannot stop them",
        "user_data": "what runs at the start is `command`",
    },
)


def _rentals_capabilities(seconds: float) -> Capabilities:
    return Capabilities(
        kind=ProviderKind.DEPIN,
        kinds={
            Kind.NODE: KindCapabilities(
                {
                    **dict.fromkeys(("gpu", "ssh_keys", "setup", "options"), Mutability.REPLACE),
                    "labels": Mutability.LOCAL,
                },
                required=frozenset({"gpu"}),
                mark=MarkIn.NAME,
            )
        },
        listing=Listing.NONE,
        ready_timeout_seconds=900,
        poll_interval_seconds=10,
        multi_gpu=False,
        ssh=True,
        lease=Lease(extendable=False, default_seconds=seconds),
        workspace_path="/root",
        notes=(
            "a rental ends by itself after `duration_hours`, and nothing makes it longer: the next plan makes another",
            "rentals cannot be listed: one whose creation got no answer is not found again, and ends by itself",
            "prices are estimates",
        ),
        lacks={
            "region": "the market chooses, and tells afterwards",
            "image": "a rental has none: set it up over SSH",
            "env": "a rental has none: set it up over SSH",
            "ports": "which ones are open is up to the host",
            "volumes": "there are none in this API",
            "spot": "there is one price",
            "stopped": "a rental runs until it ends",
        },
    )
