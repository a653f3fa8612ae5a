"""What gpuplan knows of Nosana in tables: where things are, what errors mean, what can be done, on both ways to it."""

from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum

from pydantic import Field, field_validator

from gpuplan.core.capabilities import Capabilities, KindCapabilities, Lease, Listing, Mutability, ProviderKind
from gpuplan.core.desired import Kind
from gpuplan.core.errors import AuthFailed, Conflict, NotFound, QuotaExceeded
from gpuplan.core.marks import MarkIn
from gpuplan.core.offers import Pricing
from gpuplan.core.values import JsonValue
from gpuplan.net.auth import Bearer, KeyHeaders
from gpuplan.net.http_provider import HttpOptions
from gpuplan.net.profile import Credential, Cursor, Host, HttpProfile, Rule, Timeouts
from gpuplan.providers.nosana_bodies import LEAST_MINUTES

DEPLOYMENTS, DEPLOYMENT, CREATE = "/deployments", "/deployments/{id}", "/deployments/create"
START, STOP = "/deployments/{id}/start", "/deployments/{id}/stop"
REVISE, JOBS, JOB = "/deployments/{id}/create-revision", "/deployments/{id}/jobs", "/deployments/{id}/jobs/{job}"
EVENTS, HEADER = "/deployments/{id}/events", "/deployments/{id}/header"
BALANCE, CHAIN_JOB, EXTEND = "/credits/balance", "/jobs/{address}", "/jobs/{address}/extend"
LAUNCH, SIDECAR_STOP = "/nosana/jobs/launch", "/nosana/jobs/stop"
SIDECAR_JOB, SIDECAR_LOGS, SIDECAR_BALANCE = "/nosana/jobs/{id}", "/nosana/jobs/{id}/logs", "/nosana/balance"

API_URL = "https://dashboard.k8s.prd.nos.ci/api"
DISCOVERY_URL = "https://dashboard.k8s.prd.nos.ci/api/markets"
HOSTS_URL, HOST_URL = "https://node.k8s.prd.nos.ci", "https://{node}.node.k8s.prd.nos.ci/"
SIDECAR_URL = "http://localhost:3000"
GET_A_KEY = "https://dashboard.nosana.com"
MARKETS, HOSTS = "markets", "node"
EXTEND_BEFORE_SECONDS = 1800
READY_SECONDS, POLL_SECONDS, IMAGE_SECONDS = 300, 20, 2400


class Flavour(StrEnum):
    API = "api"
    SIDECAR = "sidecar"


class MarketType(StrEnum):
    PREMIUM = "PREMIUM"
    COMMUNITY = "COMMUNITY"
    OTHER = "OTHER"


class Options(HttpOptions):
    flavour: Flavour = Field(Flavour.API, description="Nosana's own API, or a sidecar that stands before it")
    sidecar_url: str = Field(SIDECAR_URL, description="sidecar: its base URL, with or without the path /nosana")
    credential: str = Field("default", description="sidecar: which of the credentials it has")
    market_types: tuple[MarketType, ...] = Field(
        tuple(MarketType), description="markets to look for offers in: PREMIUM, COMMUNITY, OTHER"
    )
    account: str = Field("", description="a lasting name for the account behind the key, which Nosana does not tell")
    timeout_minutes: int = Field(
        LEAST_MINUTES, ge=LEAST_MINUTES, description="api: for how long credits are reserved at a time"
    )
    lease_hours: float | None = Field(
        None, ge=1, description="api: a node ends by itself after so long, unless an apply extends it"
    )
    ready_timeout: float = Field(READY_SECONDS, gt=0, description="seconds a node may wait for a host")
    image_timeout: float = Field(IMAGE_SECONDS, gt=0, description="seconds its image may then take to come up")
    poll_interval: float = Field(POLL_SECONDS, gt=0, description="seconds between looks at nodes that come up")
    ephemeral_failure_minutes: float = Field(10, ge=0, description="a node that dies sooner counts as a failed create")

    @field_validator("sidecar_url")
    @classmethod
    def _is_a_root(cls, url: str) -> str:
        return url.rstrip("/").removesuffix("/nosana")


NUMBERS: Mapping[str, str] = {
    "ready_timeout": "DEFAULT_READINESS_TIMEOUT",
    "poll_interval": "DEFAULT_POLLING_INTERVAL",
    "ephemeral_failure_minutes": "EPHEMERAL_FAILURE_THRESHOLD_MINUTES",
}


def defaults(environ: Mapping[str, str]) -> Mapping[str, JsonValue]:
    """Options that the environment gives. Where there is a sidecar and no key of Nosana's, it is the way to go. What
    should be a number and is none counts for nothing."""
    numbers = {option: environ.get(variable, "") for option, variable in NUMBERS.items()}
    told: dict[str, JsonValue] = {
        option: int(text) for option, text in numbers.items() if text.isdigit() and int(text) > 0
    }
    url, key = environ.get("NOSANA_SIDECAR_URL"), environ.get("NOSANA_INTERNAL_API_KEY")
    if url:
        told["sidecar_url"] = url
    if (url or key) and not environ.get("NOSANA_API_KEY"):
        told["flavour"] = Flavour.SIDECAR.value
    return told


MARKETS_HOST = Host(DISCOVERY_URL, env=("NOSANA_DISCOVERY_URL",), is_open=True)
STATE = "incorrect state|archived deployment"
API_PROFILE = HttpProfile(
    hosts={"": Host(API_URL, env=("NOSANA_API_URL",)), MARKETS: MARKETS_HOST, HOSTS: Host(HOSTS_URL, is_open=True)},
    auth=Bearer(),
    credentials={"key": Credential(env=("NOSANA_API_KEY",), get_one_at=GET_A_KEY)},
    # A wrong state is told as an error of the server, which would be asked again and again.
    rules=(Rule(Conflict, status=500, message=STATE),),
    error_message=("error", "message"),
    pages=Cursor(send="cursor", at="pagination.cursor_next", size="limit", page_size=100),
)
SIDECAR_RULES = (
    Rule(NotFound, status=500, message="could not find deployment or job"),
    Rule(QuotaExceeded, status=500, message="insufficient (funds|credits)"),
    Rule(Conflict, status=500, message=f"{STATE}|cannot stop job in state"),
    Rule(AuthFailed, status=503, message="not initialized", hint="the sidecar has no credentials of Nosana's yet"),
)


def profile(options: Options) -> HttpProfile:
    if options.flavour is Flavour.API:
        return API_PROFILE
    return HttpProfile(
        hosts={"": Host(options.sidecar_url), MARKETS: MARKETS_HOST},
        auth=KeyHeaders({"X-Internal-API-Key": "key"}),
        credentials={"key": Credential(env=("NOSANA_INTERNAL_API_KEY",))},
        rules=SIDECAR_RULES,
        error_message=("error", "message"),
        # A launch waits for the job to run, and who gives up earlier leaves one that nobody knows.
        timeouts=Timeouts(effect=360),
    )


IN_DEFINITION = ("image", "command", "env", "ports", "restart")
REPLACING = ("gpu", "instance_type", "options")
NOTES = (
    "hosts belong to others, and disappear now and then; nothing of a disk outlives a job",
    "a node is one container, reached over HTTPS; it ends when its main process does",
    "labels are kept by gpuplan alone",
)
API_CAPABILITIES = Capabilities(
    kind=ProviderKind.DEPIN,
    kinds={
        Kind.NODE: KindCapabilities(
            {
                **dict.fromkeys(REPLACING, Mutability.REPLACE),
                **dict.fromkeys(IN_DEFINITION, Mutability.RESTARTS),
                "labels": Mutability.LOCAL,
            },
            required=frozenset({"image"}),
            mark=MarkIn.NAME,
        )
    },
    ephemeral=True,
    visibility_delay_seconds=2,
    pricing=(Pricing.FIXED,),
    stop_start=True,
    bills_when_stopped=False,
    http_proxy=True,
    logs=True,
    log_streaming=True,
    restart_empties=True,
    notes=(
        *NOTES,
        "a stopped node starts on another host, with an empty disk and the same address",
        "names have room for a token alone: after a lost state, orphans cannot be told",
    ),
    lacks={
        "region": "a market has hosts all over the world",
        "cpu": "markets do not tell how many their hosts have",
        "memory_gb": "markets do not tell how much their hosts have",
        "disk_gb": "markets do not tell how much their hosts have",
        "ssh_keys": "Nosana leads HTTP to a node and nothing else",
        "setup": "there is no way into a node: put it into the image, or into `command`",
        "volumes": "nothing outlives a job: load and store data from the container",
        "networks": "hosts of different owners have no network of their own",
        "spot": "markets have one price",
        "confidential": "hosts can look into containers; definitions are kept from the public all the same",
        "user_data": "what runs at the start is `command`",
    },
)


def capabilities(options: Options) -> Capabilities:
    timed = replace(
        API_CAPABILITIES,
        ephemeral_failure_seconds=options.ephemeral_failure_minutes * 60,
        ready_timeout_seconds=options.ready_timeout + options.image_timeout,
        poll_interval_seconds=options.poll_interval,
    )
    if options.flavour is Flavour.API:
        seconds = (options.lease_hours or 24) * 3600
        return replace(timed, lease=Lease(True, seconds, extend_before_seconds=EXTEND_BEFORE_SECONDS))
    attributes = dict.fromkeys((*REPLACING, *IN_DEFINITION), Mutability.REPLACE)
    node = KindCapabilities({**attributes, "labels": Mutability.LOCAL}, required=frozenset({"image"}), mark=MarkIn.NONE)
    return replace(
        timed,
        kinds={Kind.NODE: node},
        listing=Listing.NONE,
        visibility_delay_seconds=0,
        stop_start=False,
        restart_empties=False,
        direct_provisioning=False,
        requires_sidecar=True,
        notes=(
            *NOTES,
            "a sidecar lists nothing: a launch without an answer cannot be looked for",
            "a sidecar launches anew what ended by itself, under another id",
        ),
        lacks={**API_CAPABILITIES.lacks, "stopped": "a sidecar stops a node for good"},
    )
