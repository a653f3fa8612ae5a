"""What gpuplan knows of Hetzner in tables: where things are, what errors mean, what can be done."""

from decimal import Decimal
from typing import Literal

from pydantic import Field

from gpuplan.core.capabilities import (
    Capabilities,
    Idempotency,
    KindCapabilities,
    Mutability,
    ProviderKind,
    RateLimit,
)
from gpuplan.core.desired import Kind
from gpuplan.core.errors import (
    AuthFailed,
    Conflict,
    InvalidRequest,
    NoCapacity,
    NotFound,
    ProtocolMismatch,
    QuotaExceeded,
    Unavailable,
    Unsupported,
)
from gpuplan.core.marks import MarkIn
from gpuplan.core.values import JsonValue
from gpuplan.net.auth import Bearer
from gpuplan.net.collection import Collection, Observable
from gpuplan.net.http_provider import HttpOptions
from gpuplan.net.payload import dig
from gpuplan.net.profile import ConfigFile, Credential, Effect, Host, HttpProfile, Numbered, Retries, Rule
from gpuplan.providers.hetzner_bodies import FIREWALL
from gpuplan.providers.hetzner_wire import NO_CAPACITY, Firewall, Key, Network, Server, Volume

SERVERS = Collection(Kind.NODE, "/servers", "server", "servers", Server)
KEYS = Collection(Kind.SSH_KEY, "/ssh_keys", "ssh_key", "ssh_keys", Key)
VOLUMES = Collection(Kind.VOLUME, "/volumes", "volume", "volumes", Volume)
NETWORKS = Collection(Kind.NETWORK, "/networks", "network", "networks", Network)
FIREWALLS = Collection(Kind.NETWORK, "/firewalls", "firewall", "firewalls", Firewall, prefix=FIREWALL)
COLLECTIONS: tuple[Collection[Observable], ...] = (SERVERS, KEYS, VOLUMES, NETWORKS, FIREWALLS)

TAKEN = "uniqueness_error"
BUSY = (
    "server_not_stopped|resource_in_use|server_already_attached|volume_already_attached|firewall_already_applied"
    "|firewall_resource_not_found"
)
"""What passes, or is seen to be done already by whoever looks again."""
CHANGES = (Effect.REPEATABLE,)
RULES = (
    Rule(AuthFailed, code="token_readonly", hint="the token may only read: make one with the permission Read & Write"),
    Rule(QuotaExceeded, code="resource_limit_exceeded", hint="limits are raised in the Hetzner console, under Limits"),
    Rule(Unavailable, code="maintenance"),
    Rule(NoCapacity, code="|".join(NO_CAPACITY)),
    Rule(InvalidRequest, code="protected", hint="lift its protection in the Hetzner console"),
    Rule(Unsupported, code="deprecated_api_endpoint"),
    Rule(Conflict, status=(404, 422), code=BUSY),
    Rule(Conflict, code="service_error|no_subnet_available", effects=CHANGES),
    # A 404 that is not theirs is a wrong address: nothing is absent for that.
    Rule(NotFound, status=404, code="not_found"),
    Rule(ProtocolMismatch, status=404),
)


def active_token(content: JsonValue) -> str | None:
    """The token of the context that is active in the configuration of Hetzner's own command line."""
    active, contexts = dig(content, "active_context"), dig(content, "contexts")
    for context in contexts if isinstance(contexts, list) else ():
        if dig(context, "name") == active and isinstance(token := dig(context, "token"), str):
            return token
    return None


PROFILE = HttpProfile(
    hosts={"": Host("https://api.hetzner.cloud/v1", env=("HCLOUD_ENDPOINT",))},
    auth=Bearer(),
    credentials={
        "key": Credential(
            env=("HCLOUD_TOKEN",),
            files=(ConfigFile("$XDG_CONFIG_HOME/hcloud/cli.toml", active_token),),
            get_one_at="https://console.hetzner.com, in a project under Security, API tokens",
        )
    },
    rules=RULES,
    error_code=("error.code",),
    error_message=("error.message",),
    pages=Numbered(at="meta.pagination.next_page", page_size=50),
    request_id=("x-correlation-id",),
    # One request comes back per second; `RateLimit-Reset` is when all of them have, up to an hour later.
    retries=Retries(attempts=6, base_seconds=1, most_seconds=60),
    secret_fields=frozenset({"root_password"}),
)
REPLACING = (
    *("cpu", "memory_gb", "disk_gb", "region", "image", "env", "ssh_keys", "volumes", "user_data", "setup", "options"),
)
CAPABILITIES = Capabilities(
    kind=ProviderKind.CLOUD,
    kinds={
        Kind.NODE: KindCapabilities(
            {
                **dict.fromkeys(REPLACING, Mutability.REPLACE),
                "instance_type": Mutability.NEEDS_STOP,
                "labels": Mutability.IN_PLACE,
                "networks": Mutability.IN_PLACE,
                "ports": Mutability.LOCAL,
            },
            mark=MarkIn.LABEL,
            idempotency=Idempotency.NAME,
            unique_names=True,
        ),
        Kind.SSH_KEY: KindCapabilities(
            {"public_key": Mutability.REPLACE},
            required=frozenset({"public_key"}),
            mark=MarkIn.LABEL,
            idempotency=Idempotency.NAME,
            unique_names=True,
        ),
        Kind.VOLUME: KindCapabilities(
            {"size_gb": Mutability.GROW_ONLY, "region": Mutability.REPLACE},
            required=frozenset({"size_gb", "region"}),
            mark=MarkIn.LABEL,
            idempotency=Idempotency.NAME,
            unique_names=True,
        ),
        Kind.NETWORK: KindCapabilities(
            {"region": Mutability.REPLACE, "cidr": Mutability.REPLACE, "rules": Mutability.IN_PLACE},
            mark=MarkIn.LABEL,
            idempotency=Idempotency.NAME,
            unique_names=True,
        ),
    },
    page_size=50,
    visibility_delay_seconds=5,
    ready_timeout_seconds=600,
    poll_interval_seconds=5,
    rate_limit=RateLimit(requests=3600, per_seconds=3600),
    stop_start=True,
    multi_gpu=False,
    ssh=True,
    raw_tcp=True,
    symmetric_ports=True,
    workspace_path="/root",
    notes=(
        "a node without GPUs, for everything around those that have them",
        "a stopped server costs as much as a running one",
        "a network with `rules` is a firewall, one without is a private network",
        "servers have no logs",
    ),
    lacks={
        "gpu": "Hetzner Cloud rents no GPUs; its GPU machines are dedicated servers, ordered by the month elsewhere",
        "spot": "Hetzner Cloud has one price for every server",
    },
)


class Options(HttpOptions):
    regions: tuple[str, ...] = Field((), description="locations to look for offers in (`fsn1`); empty: all")
    architectures: tuple[Literal["x86", "arm"], ...] = Field(
        ("x86",), description="of the server types to choose from; arm is the cheaper one, and runs other programs"
    )
    usd_per_eur: Decimal = Field(
        Decimal("1.15"), gt=0, description="what a euro costs, where the project is billed in euros"
    )
    project: str | None = Field(
        None, description="a lasting name of the project behind the token, so that a new token is no new account"
    )
