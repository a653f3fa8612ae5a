"""What gpuplan knows of Vultr in tables: where things are, what errors mean, what can be done."""

from pydantic import Field

from gpuplan.core.capabilities import Capabilities, KindCapabilities, Mutability, ProviderKind, RateLimit
from gpuplan.core.desired import Kind
from gpuplan.core.errors import AuthFailed, Conflict, NoCapacity, NotFound, QuotaExceeded
from gpuplan.core.marks import MarkIn
from gpuplan.net.auth import Bearer
from gpuplan.net.collection import Collection, Observable
from gpuplan.net.http_provider import HttpOptions
from gpuplan.net.profile import ConfigFile, Credential, Cursor, Effect, Host, HttpProfile, Rule
from gpuplan.providers.vultr_bodies import FIREWALL
from gpuplan.providers.vultr_wire import BareMetal, Block, Firewall, Instance, Key, Vpc

INSTANCES = Collection(Kind.NODE, "/instances", "instance", "instances", Instance)
BARE_METALS = Collection(Kind.NODE, "/bare-metals", "bare_metal", "bare_metals", BareMetal, prefix="bare-metals/")
KEYS = Collection(Kind.SSH_KEY, "/ssh-keys", "ssh_key", "ssh_keys", Key)
BLOCKS = Collection(Kind.VOLUME, "/blocks", "block", "blocks", Block)
VPCS = Collection(Kind.NETWORK, "/vpcs", "vpc", "vpcs", Vpc)
FIREWALLS = Collection(Kind.NETWORK, "/firewalls", "firewall_group", "firewall_groups", Firewall, prefix=FIREWALL)
COLLECTIONS: tuple[Collection[Observable], ...] = (INSTANCES, BARE_METALS, KEYS, BLOCKS, VPCS, FIREWALLS)

ALLOW_LIST = (
    "the key may be right: Vultr answers only the addresses on its access control list, and a new list is empty"
)
LOOKS = (Effect.NONE, Effect.REPEATABLE)
RULES = (
    Rule(AuthFailed, status=(401, 403), hint=ALLOW_LIST),
    Rule(NotFound, message="pending destruction"),
    Rule(Conflict, status=(400, 500), message="currently locked"),
    Rule(Conflict, status=400, message=r"(is|already) attached to|attached to this VPC|in use by"),
    Rule(QuotaExceeded, status=400, message="reached the maximum|limit"),
    Rule(
        NoCapacity,
        status=(400, 404, 412, 503),
        message="(not |un)available|out of stock|sold out|capacity|no .*(servers|instances) available",
        effects=(Effect.ONCE,),
    ),
    Rule(NotFound, status=400, message=r"^invalid (\w+ )*(id|key|server|script|storage)\b", effects=LOOKS),
)
PROFILE = HttpProfile(
    hosts={"": Host("https://api.vultr.com/v2", env=("VULTR_API_ENDPOINT",))},
    auth=Bearer(),
    credentials={
        "key": Credential(
            env=("VULTR_API_KEY",),
            files=(
                ConfigFile("$XDG_CONFIG_HOME/vultr-cli.yaml", "api-key"),
                ConfigFile("~/.vultr-cli.yaml", "api-key"),
            ),
            get_one_at="https://my.vultr.com/settings/#settingsapi",
        )
    },
    rules=RULES,
    error_message=("error",),
    pages=Cursor("cursor", at="meta.links.next", size="per_page", page_size=500),
    secret_fields=frozenset({"default_password", "kvm"}),
)
REPLACING = (
    *("gpu", "cpu", "memory_gb", "disk_gb", "region", "instance_type", "image", "env", "ssh_keys", "volumes"),
    *("user_data", "setup", "options"),
)
CAPABILITIES = Capabilities(
    kind=ProviderKind.CLOUD,
    kinds={
        Kind.NODE: KindCapabilities(
            {
                **dict.fromkeys(REPLACING, Mutability.REPLACE),
                "labels": Mutability.IN_PLACE,
                "networks": Mutability.IN_PLACE,
                "ports": Mutability.LOCAL,
            }
        ),
        Kind.SSH_KEY: KindCapabilities(
            {"public_key": Mutability.REPLACE}, required=frozenset({"public_key"}), mark=MarkIn.NAME
        ),
        Kind.VOLUME: KindCapabilities(
            {"size_gb": Mutability.GROW_ONLY, "region": Mutability.REPLACE, "type": Mutability.REPLACE},
            required=frozenset({"size_gb", "region"}),
            mark=MarkIn.NAME,
        ),
        Kind.NETWORK: KindCapabilities(
            {"region": Mutability.REPLACE, "cidr": Mutability.REPLACE, "rules": Mutability.IN_PLACE}, mark=MarkIn.NAME
        ),
    },
    page_size=500,
    visibility_delay_seconds=10,
    ready_timeout_seconds=3600,
    poll_interval_seconds=10,
    rate_limit=RateLimit(requests=30, per_seconds=1.0),
    stop_start=True,
    ssh=True,
    raw_tcp=True,
    symmetric_ports=True,
    managed_kubernetes=True,
    workspace_path="/root/workspace",
    notes=(
        "a stopped machine costs as much as a running one",
        "a network with `rules` is a firewall group, one without is a VPC",
        "machines have no logs",
    ),
)
QUOTA_LAG_SECONDS = 120
"""For so long a deleted machine still counts against the limit."""


class Options(HttpOptions):
    regions: tuple[str, ...] = Field((), description="regions to look for offers in; empty: all")
