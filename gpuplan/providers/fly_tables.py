"""What gpuplan knows of Fly.io in tables: where things are, what errors mean, what can be done."""

from typing import Literal

from pydantic import Field

from gpuplan.core.capabilities import Capabilities, Idempotency, KindCapabilities, Mutability, ProviderKind, RateLimit
from gpuplan.core.desired import Kind
from gpuplan.core.errors import AuthFailed, Conflict, NoCapacity, NotFound, QuotaExceeded
from gpuplan.core.marks import MarkIn
from gpuplan.net.auth import Bearer
from gpuplan.net.http_provider import HttpOptions
from gpuplan.net.profile import Bucket, ConfigFile, Credential, Host, HttpProfile, Rule
from gpuplan.providers.fly_guests import RETIRED

TOKEN = "/v1/tokens/current"
APPS, APP = "/v1/apps", "/v1/apps/{app}"
ADDRESSES = f"{APP}/ip_assignments"
MACHINES, MACHINE = f"{APP}/machines", f"{APP}/machines/{{id}}"
METADATA = f"{MACHINE}/metadata"
VOLUMES, VOLUME = f"{APP}/volumes", f"{APP}/volumes/{{id}}"
REGIONS, PLACEMENTS = "/v1/platform/regions", "/v1/platform/placements"
LOGS = "/api/v1/apps/{app}/logs"
LOG_HOST = "api"

ANOTHERS = "the name of the app may belong to another organisation: name one of yours with `app`"
NO_APP = "there may be no such app: make it with `fly apps create`, or leave `app` away and gpuplan makes one"
TIED = "its volume ties it to a host that is full: replace both, the volume by one that begins with a snapshot of it"
RULES = (
    Rule(NoCapacity, status=409, route=MACHINE, message="on the current host", hint=TIED),
    Rule(NoCapacity, code="insufficient_capacity|volume_placement_capacity"),
    Rule(Conflict, code="name_taken"),
    Rule(NoCapacity, status=409, message=r"could not reserve resource|insufficient \w+ available|no capacity"),
    Rule(NoCapacity, status=400, message="no capacity"),
    Rule(NoCapacity, status=(400, 422), message=r"gpus?\b.*(no longer|not) supported", hint=RETIRED),
    Rule(QuotaExceeded, status=403, message="quota"),
    Rule(AuthFailed, status=403, hint=ANOTHERS),
    Rule(NotFound, status=(400, 409, 412), method="DELETE", message="is destroy(ed|ing)"),
    Rule(Conflict, status=(400, 412, 422), message="bound to machine|attached to"),
    Rule(Conflict, status=412),
    Rule(NotFound, status=404, method="POST", route=MACHINES, hint=NO_APP),
    Rule(NotFound, status=404, method="POST", route=VOLUMES, hint=NO_APP),
)
PROFILE = HttpProfile(
    hosts={
        "": Host("https://api.machines.dev", env=("FLY_FLAPS_BASE_URL",)),
        LOG_HOST: Host("https://api.fly.io", env=("FLY_API_BASE_URL",)),
    },
    auth=Bearer(verbatim="FlyV1 "),
    credentials={
        "key": Credential(
            env=("FLY_API_TOKEN", "FLY_ACCESS_TOKEN"),
            files=(ConfigFile("~/.fly/config.yml", "access_token"),),
            get_one_at="https://fly.io/tokens",
        )
    },
    rules=RULES,
    error_code=("status",),
    error_message=("error", "message"),
    buckets=(Bucket(RateLimit(requests=3, per_seconds=3.0), method="POST", route=MACHINES),),
    request_id=("fly-request-id",),
)
RESTARTING = ("cpu", "memory_gb", "instance_type", "image", "command", "env", "ports", "ssh_keys", "restart")
REPLACING = ("gpu", "region", "disk_gb", "volumes", "setup", "options")
CAPABILITIES = Capabilities(
    kind=ProviderKind.CLOUD,
    kinds={
        Kind.NODE: KindCapabilities(
            {
                **dict.fromkeys(REPLACING, Mutability.REPLACE),
                **dict.fromkeys(RESTARTING, Mutability.RESTARTS),
                "labels": Mutability.IN_PLACE,
            },
            required=frozenset({"image"}),
            mark=MarkIn.TAG,
            # A name is given once, and ours end in the token: a create that is repeated finds the first one's machine.
            idempotency=Idempotency.KEY,
            unique_names=True,
        ),
        Kind.VOLUME: KindCapabilities(
            {"size_gb": Mutability.GROW_ONLY, "region": Mutability.REPLACE, "options": Mutability.REPLACE},
            required=frozenset({"size_gb", "region"}),
            mark=MarkIn.NAME,
        ),
    },
    page_size=1000,
    visibility_delay_seconds=3,
    ready_timeout_seconds=600,
    poll_interval_seconds=5,
    stop_start=True,
    bills_when_stopped=False,
    multi_gpu=False,
    restart_empties=True,
    ssh=True,
    http_proxy=True,
    raw_tcp=True,
    global_networking=True,
    logs=True,
    deprecated=RETIRED,
    notes=(
        "an app holds the nodes and volumes of a provider block; one that is not named is made, and goes with them",
        "nodes with `ports` or `ssh_keys` get the app an address of its own: an IPv4 address is 2 USD a month",
        "prices are estimates: the API tells none",
        "a change of a node but for its labels restarts it, and resets its root disk",
        "a stopped node pays for its root disk",
        "a volume is on one host, and its node with it",
    ),
    lacks={
        "networks": "all machines of an organisation are in one private network",
        "spot": "Fly.io has one price for every machine",
    },
)


class Options(HttpOptions):
    app: str = Field(
        "",
        pattern=r"^([a-z0-9][a-z0-9-]{0,62})?$",
        description="an app of yours to put everything into; without it, gpuplan makes one and removes it in the end",
    )
    org: str = Field("", description="slug of the organisation, where the token is for several; also `FLY_ORG`")
    regions: tuple[str, ...] = Field((), description="regions to look for offers in; empty: all")
    public_ip: Literal["v4", "v6"] = Field(
        "v4", description="the address that an app made by gpuplan gets; one of version 6 costs nothing"
    )
    retired_gpus: bool = Field(False, description="offer GPU machines, for an organisation that still gets them")
