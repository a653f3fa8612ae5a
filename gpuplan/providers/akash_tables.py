"""What gpuplan knows of Akash in tables: where things are, what errors mean, what can be done, on both ways to it."""

from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Self

from pydantic import Field, SecretStr, model_validator

from gpuplan.core.capabilities import Capabilities, KindCapabilities, Lease, Listing, Mutability, ProviderKind
from gpuplan.core.desired import Kind
from gpuplan.core.errors import (
    AuthFailed,
    Conflict,
    InvalidRequest,
    NoCapacity,
    NotFound,
    QuotaExceeded,
    RateLimited,
    Unavailable,
    Unsupported,
)
from gpuplan.core.marks import MarkIn
from gpuplan.core.offers import Pricing
from gpuplan.core.values import JsonValue
from gpuplan.net.api import Api
from gpuplan.net.auth import KeyHeaders
from gpuplan.net.http_provider import HttpOptions
from gpuplan.net.profile import Credential, Cursor, Effect, Host, HttpProfile, Offset, Rule, Timeouts
from gpuplan.providers.akash_sdl import Registry, Unfit

DEPLOYMENTS, DEPLOYMENT = "/v1/deployments", "/v1/deployments/{dseq}"
BIDS, LEASES, SCREENING, TOKENS = "/v1/bids", "/v1/leases", "/v1/bid-screening", "/v1/create-jwt-token"
DEPOSITS, PRICES, PROVIDERS, ME = "/v1/deposit-deployment", "/v1/gpu-prices", "/v1/providers", "/v1/user/me"
PUBLIC = "/v1/deployment/{owner}/{dseq}"
CREATE, CLOSE = "/deployments/create", "/deployments/close"
STATE, LOGS = "/deployments/status/{id}", "/deployments/{id}/logs"

CONSOLE_URL, PROXY_URL = "https://console-api.akash.network", "https://console-provider-proxy.akash.network"
SIDECAR_URL = "http://localhost:3000/akash"
NODE_URL, CHAIN_URL = "https://rpc.akash.forbole.com:443", "https://api.akashnet.net"
GET_A_KEY = "https://console.akash.network/user/api-keys"
PROXY, CHAIN = "proxy", "chain"
CHAIN_LIST = "/akash/deployment/v1beta4/deployments/list"
CHAIN_ONE = "/akash/deployment/v1beta4/deployments/info"
CHAIN_PAGES = Cursor(send="pagination.key", at="pagination.next_key", size="pagination.limit")


class Flavour(StrEnum):
    CONSOLE = "console"
    SIDECAR = "sidecar"


class Options(HttpOptions):
    flavour: Flavour = Field(Flavour.CONSOLE, description="the Console's API, or a sidecar that speaks to the chain")
    sidecar_url: str = Field(SIDECAR_URL, description="sidecar: its base URL, with the path /akash")
    node: str = Field(NODE_URL, description="sidecar: RPC of the chain, told to it")
    wallet: str | None = Field(
        None, pattern="^akash1", description="sidecar: address of its wallet, to look on the chain"
    )
    chain_url: str = Field(CHAIN_URL, description="sidecar: REST of the chain")
    deposit: float = Field(5, ge=0.5, description="console: USD that are put into escrow for a node at least")
    lease_hours: float = Field(24, gt=0, description="console: for how long the escrow of a node lasts, at its price")
    bid_seconds: float = Field(30, ge=0, description="console: how long bids are collected before one is taken")
    bid_timeout: float = Field(240, gt=0, le=540, description="console: no bid for so long means no capacity")
    audited: bool = Field(False, description="console: only bids of audited providers")
    auditors: tuple[str, ...] = Field((), description="addresses, one of whom must have signed for a provider")
    registry_host: str | None = Field(None, description="registry of private images: ghcr.io")
    registry_username: str | None = Field(None, description="who pulls from it")
    registry_password: SecretStr | None = Field(None, description="and how; better left to the environment")
    ready_timeout: float | None = Field(None, gt=0, description="seconds a node may take to come up")
    poll_interval: float | None = Field(None, gt=0, description="seconds between looks at nodes that come up")
    ephemeral_failure_minutes: float = Field(10, ge=0, description="a node that dies sooner counts as a failed create")

    @model_validator(mode="after")
    def _knows_who_pulls(self) -> Self:
        if self.registry_host and not self.registry_username:
            raise ValueError("`registry_host` needs a `registry_username`")
        return self

    def registry(self, api: Api) -> Registry | None:
        """Raises Unfit: somebody pulls from there, and has no password."""
        if not self.registry_host or not self.registry_username:
            return None
        try:
            password = api.key("registry_password")
        except KeyError:
            raise Unfit("the registry has no password: set `AKASH_REGISTRY_PASSWORD`") from None
        return Registry(host=self.registry_host, username=self.registry_username, password=password)


VARIABLES: Mapping[str, str] = {
    "sidecar_url": "AKASH_SIDECAR_URL",
    "node": "AKASH_NODE",
    "chain_url": "AKASH_API_URL",
}
NUMBERS: Mapping[str, str] = {
    "ready_timeout": "DEFAULT_READINESS_TIMEOUT",
    "poll_interval": "DEFAULT_POLLING_INTERVAL",
    "ephemeral_failure_minutes": "EPHEMERAL_FAILURE_THRESHOLD_MINUTES",
}
KEY_VARIABLES = ("AKASH_API_KEY", "AKT_CONSOLE_API_KEY")


def defaults(environ: Mapping[str, str]) -> Mapping[str, JsonValue]:
    """Options that the environment gives. Where there is a sidecar and no key of the Console's, it is the way to go. A
    number that is none counts for nothing."""
    told: dict[str, JsonValue] = {
        option: environ[variable] for option, variable in VARIABLES.items() if environ.get(variable)
    }
    for option, variable in NUMBERS.items():
        if environ.get(variable, "").isdigit() and int(environ[variable]):
            told[option] = int(environ[variable])
    if environ.get("AKASH_SIDECAR_URL") and not any(environ.get(variable) for variable in KEY_VARIABLES):
        told["flavour"] = Flavour.SIDECAR.value
    return told


STALE_BID = "no longer open|already been matched or closed|cannot be settled yet"
FUNDS = "insufficient funds|deposit too low|not enough balance|trial expired"
CONSOLE_RULES = (
    Rule(Conflict, status=400, message=STALE_BID),
    Rule(Conflict, status=400, message="provided dseq and owner already exists"),
    Rule(NotFound, status=400, message="deployment closed"),
    Rule(Conflict, status=422, message="manifest version validation"),
    Rule(Unavailable, status=400, message="invalid provider jwt credentials"),
    Rule(QuotaExceeded, status=(400, 402), message=FUNDS),
    Rule(QuotaExceeded, status=403, message="trial"),
    Rule(InvalidRequest, status=404, message="wallet", hint="set up the account in the Console first"),
    Rule(Unavailable, status=503, effects=(Effect.NONE, Effect.REPEATABLE)),
)
SIDECAR_RULES = (
    Rule(NoCapacity, status=500, message="no bids found"),
    Rule(AuthFailed, status=500, message="not initialized", hint="give the sidecar a wallet: its `AKASH_MNEMONIC`"),
    Rule(QuotaExceeded, status=500, message=FUNDS),
    Rule(Unsupported, status=404, message="cannot get"),
    Rule(RateLimited, status=503, says_when=True),
)


def profile(options: Options) -> HttpProfile:
    if options.flavour is Flavour.SIDECAR:
        return _sidecar_profile(options)
    return CONSOLE_PROFILE


REGISTRY = Credential(env=("AKASH_REGISTRY_PASSWORD",), required=False)
CONSOLE_PROFILE = HttpProfile(
    hosts={"": Host(CONSOLE_URL, env=("AKASH_CONSOLE_API_URL",)), PROXY: Host(PROXY_URL, is_open=True)},
    auth=KeyHeaders({"x-api-key": "key"}),
    credentials={"key": Credential(env=KEY_VARIABLES, get_one_at=GET_A_KEY), "registry_password": REGISTRY},
    rules=CONSOLE_RULES,
    error_code=("code",),
    error_message=("message", "error"),
    pages=Offset(send="skip", size="limit", page_size=100, total="data.pagination.total"),
    # A transaction takes its time, and a lease takes one and a manifest.
    timeouts=Timeouts(read=30, effect=120),
)


def _sidecar_profile(options: Options) -> HttpProfile:
    return HttpProfile(
        hosts={"": Host(options.sidecar_url), CHAIN: Host(options.chain_url, is_open=True)},
        auth=KeyHeaders({"X-Internal-API-Key": "key"}),
        credentials={"key": Credential(env=("INTERNAL_API_KEY",)), "registry_password": REGISTRY},
        rules=SIDECAR_RULES,
        error_message=("error", "message"),
        # It answers once there are bids and a lease: who gives up before leaves an orphan.
        timeouts=Timeouts(read=30, effect=180),
    )


def capabilities(options: Options) -> Capabilities:
    is_sidecar = options.flavour is Flavour.SIDECAR
    base = SIDECAR_CAPABILITIES if is_sidecar else CONSOLE_CAPABILITIES
    if options.wallet:
        base = replace(base, listing=Listing.ACTIVE_ONLY)
    return replace(
        base,
        ready_timeout_seconds=options.ready_timeout or base.ready_timeout_seconds,
        poll_interval_seconds=options.poll_interval or base.poll_interval_seconds,
        ephemeral_failure_seconds=options.ephemeral_failure_minutes * 60,
        lease=None if is_sidecar else Lease(True, options.lease_hours * 3600),
    )


NODE = KindCapabilities(
    {
        **dict.fromkeys(
            ("gpu", "cpu", "memory_gb", "disk_gb", "shm_gb", "region", "ports", "ssh_keys", "setup", "options"),
            Mutability.REPLACE,
        ),
        **dict.fromkeys(("image", "command", "env"), Mutability.RESTARTS),
        "labels": Mutability.LOCAL,
    },
    mark=MarkIn.NONE,
)
LACKS = {
    "instance_type": "a node is what its `gpu`, `cpu`, `memory_gb` and `disk_gb` say",
    "networks": "deployments share no network: they talk over public ports",
    "volumes": "a disk lives and ends with its lease: `options: {persistent_gb: 100}`",
    "spot": "there is one market, and every provider may leave",
    "stopped": "a deployment runs or is closed",
    "user_data": "what runs at the start is `command`",
}
CONSOLE_CAPABILITIES = Capabilities(
    kind=ProviderKind.DEPIN,
    kinds={Kind.NODE: NODE},
    ephemeral=True,
    listing=Listing.ACTIVE_ONLY,
    visibility_delay_seconds=30,
    ready_timeout_seconds=1800,
    poll_interval_seconds=20,
    max_concurrency=8,
    pricing=(Pricing.AUCTION,),
    ssh=True,
    http_proxy=True,
    raw_tcp=True,
    logs=True,
    log_streaming=True,
    restart_empties=True,
    notes=(
        "prices are estimates out of earlier bids; what is paid is the bid that was taken",
        "a node is a container at a stranger: providers may leave, and its disk ends with its lease",
        "whether a node runs is told one by one: a refresh takes a call for every node, besides the listing",
        "a deployment has no name: after a lost state, orphans cannot be told",
        "labels are kept by gpuplan alone",
    ),
    lacks=LACKS,
)
SIDECAR_CAPABILITIES = replace(
    CONSOLE_CAPABILITIES,
    kinds={
        Kind.NODE: replace(
            NODE,
            attributes={
                name: Mutability.LOCAL if name == "labels" else Mutability.REPLACE
                for name in NODE.attributes
                if name not in ("ssh_keys", "setup")
            },
        )
    },
    listing=Listing.NONE,
    ready_timeout_seconds=600,
    poll_interval_seconds=30,
    ssh=False,
    log_streaming=False,
    restart_empties=False,
    direct_provisioning=False,
    requires_sidecar=True,
    offers=False,
    notes=(
        "a sidecar takes the first bid, whatever it asks for",
        "a sidecar lists nothing: a deployment whose creation got no answer is found again only with its `wallet`",
        "labels are kept by gpuplan alone",
    ),
    lacks={**LACKS, "ssh_keys": "a sidecar tells no address for SSH", "setup": "a sidecar tells no address for SSH"},
)
