"""What gpuplan knows of Lambda in tables: where things are, what errors mean, what can be done."""

import re
from collections.abc import Callable, Mapping

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
    OutcomeUnknown,
    ProtocolMismatch,
    QuotaExceeded,
    Unavailable,
)
from gpuplan.core.marks import Mark, MarkIn
from gpuplan.core.ports import Want
from gpuplan.core.values import JsonValue
from gpuplan.net.auth import Bearer
from gpuplan.net.collection import Collection, Observable
from gpuplan.net.http_provider import HttpOptions
from gpuplan.net.profile import Bucket, ConfigFile, Credential, Effect, Host, HttpProfile, Retries, Rule
from gpuplan.providers.lambdalabs_wire import (
    Body,
    Filesystem,
    Instance,
    Key,
    Ruleset,
    to_filesystem,
    to_key,
    to_ruleset,
)

LAUNCH = "/instance-operations/launch"
TERMINATE = "/instance-operations/terminate"
INSTANCES = Collection(Kind.NODE, "/instances", "", "", Instance)
KEYS = Collection(Kind.SSH_KEY, "/ssh-keys", "", "", Key, is_only_listed=True)
FILESYSTEMS = Collection(
    Kind.VOLUME, "/file-systems", "", "", Filesystem, item_route="/filesystems/{id}", is_only_listed=True
)
"""Listed under one spelling, made and deleted under another."""
RULESETS = Collection(Kind.NETWORK, "/firewall-rulesets", "", "", Ruleset)
COLLECTIONS: tuple[Collection[Observable], ...] = (INSTANCES, KEYS, FILESYSTEMS, RULESETS)
MAKERS: Mapping[Kind, tuple[Collection[Observable], str, Callable[[Want, Mark], Body]]] = {
    Kind.SSH_KEY: (KEYS, KEYS.route, to_key),
    Kind.VOLUME: (FILESYSTEMS, "/filesystems", to_filesystem),
    Kind.NETWORK: (RULESETS, RULESETS.route, to_ruleset),
}
"""How companions are made: what comes back, where to ask for it, and with which body."""


def key_in_file(content: JsonValue) -> str | None:
    """The key in a line `api_key = KEY`, which YAML takes for plain text."""
    found = re.search(r"\bapi_key\s*=\s*(\S+)", content) if isinstance(content, str) else None
    return found[1] if found else None


MISSING = "global/object-does-not-exist"
SHAKY = "global/(internal-error|unknown)|provider/.*"
LOOKS = (Effect.NONE, Effect.REPEATABLE)
RULES = (
    Rule(
        AuthFailed,
        code="global/account-inactive",
        hint="verify the e-mail address of the account, and give it a way to pay",
    ),
    Rule(AuthFailed, code="global/invalid-address", hint="correct the billing address of the account"),
    Rule(NoCapacity, code="instance-operations/launch/insufficient-capacity"),
    Rule(QuotaExceeded, code="global/quota-exceeded", hint="Lambda's support raises quotas"),
    # Terminating what is on its way out has been answered like this; whoever asked looks again in any case.
    Rule(NotFound, route=TERMINATE, code="global/unknown"),
    Rule(InvalidRequest, route=LAUNCH, code=MISSING),
    Rule(NotFound, code=f"{MISSING}|global/not-found"),
    # A 404 that is not theirs is a wrong address: nothing is absent for that.
    Rule(ProtocolMismatch, status=404, effects=LOOKS),
    Rule(
        Conflict,
        status=400,
        code="global/duplicate|ssh-keys/key-in-use|filesystems/filesystem-in-use"
        "|firewall-rulesets/firewall-ruleset-in-use",
    ),
    Rule(Unavailable, code=SHAKY, effects=(Effect.NONE,)),
    # With whatever status it comes.
    Rule(OutcomeUnknown, code=SHAKY),
)
PROFILE = HttpProfile(
    hosts={"": Host("https://cloud.lambda.ai/api/v1")},
    auth=Bearer(),
    credentials={
        "key": Credential(
            env=("LAMBDA_API_KEY",),
            files=(ConfigFile("~/.lambda_cloud/lambda_keys", key_in_file),),
            get_one_at="https://cloud.lambda.ai/api-keys",
        )
    },
    rules=RULES,
    error_code=("error.code",),
    error_message=("error.message",),
    envelope="data",
    buckets=(Bucket(RateLimit(requests=1, per_seconds=12.0), method="POST", route=LAUNCH),),
    # How long to wait is not told: others at the same account may be launching, too.
    retries=Retries(attempts=6, base_seconds=4, most_seconds=40),
    secret_fields=frozenset({"jupyter_token", "jupyter_url", "private_key"}),
)
REPLACING = (
    *("gpu", "cpu", "memory_gb", "disk_gb", "region", "instance_type", "image", "env", "ssh_keys", "volumes"),
    *("networks", "user_data", "setup", "labels"),
)
CAPABILITIES = Capabilities(
    kind=ProviderKind.CLOUD,
    kinds={
        Kind.NODE: KindCapabilities(
            dict.fromkeys(REPLACING, Mutability.REPLACE), required=frozenset({"ssh_keys"}), mark=MarkIn.TAG
        ),
        Kind.SSH_KEY: KindCapabilities(
            {"public_key": Mutability.REPLACE}, required=frozenset({"public_key"}), mark=MarkIn.NAME
        ),
        Kind.VOLUME: KindCapabilities(
            {"region": Mutability.REPLACE},
            required=frozenset({"region"}),
            mark=MarkIn.NAME,
            idempotency=Idempotency.NAME,
            unique_names=True,
        ),
        Kind.NETWORK: KindCapabilities(
            {"region": Mutability.REPLACE, "rules": Mutability.IN_PLACE},
            required=frozenset({"region", "rules"}),
            mark=MarkIn.NAME,
        ),
    },
    visibility_delay_seconds=60,
    ready_timeout_seconds=2400,
    poll_interval_seconds=15,
    rate_limit=RateLimit(requests=1, per_seconds=1.0),
    ssh=True,
    raw_tcp=True,
    symmetric_ports=True,
    shared_filesystem=True,
    workspace_path="/home/ubuntu/workspace",
    deprecated="some users have closed their account there, and with an open one this can be ignored",
    notes=(
        "one launch every 12 seconds: 16 nodes take more than 3 minutes to ask for",
        "a node cannot be stopped, and nothing of it but the rules of its networks can be changed",
        "only port 22 is open: others need a network with `rules`, and us-south-1 has none",
        "volumes are shared filesystems without a size, paid for by what is on them",
        "GH200 nodes are arm64",
        "nodes have no logs",
    ),
    lacks={
        "ports": "only port 22 is open: declare a network with `rules`, and name it in `networks`",
        "size_gb": "a filesystem at Lambda grows by itself, and what is on it is paid for",
        "spot": "Lambda has one price for every machine",
        "stopped": "a machine at Lambda runs, or is terminated",
    },
)
GRACE_SECONDS = 900
"""So long after its launch an instance that never was active may be unhealthy and still come up."""


class Options(HttpOptions):
    account: str | None = Field(
        None, description="a lasting name of the account: Lambda tells none, and without it another key is another one"
    )
    regions: tuple[str, ...] = Field((), description="regions to look for offers in; empty: all")
