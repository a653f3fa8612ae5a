"""The spec document, as pydantic models: what may be written where, and what it means.

`schema` checks documents with them, `json_schema` makes `schemas/spec.v1.json` of them. Descriptions are what an
editor shows while the user types.
"""

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from gpuplan.core.desired import Objective, OnFailure
from gpuplan.spec.fields import (
    KEEPS,
    KEEPS_ALL,
    LATER,
    AddressText,
    Amount,
    Command,
    Count,
    Duration,
    Flag,
    Gpu,
    Maybe,
    Money,
    Name,
    Port,
    Ports,
    Reference,
    Scalar,
    Text,
    Whole,
)

Anything: TypeAlias = object
"""Checked by someone else: the user, or a provider's own model."""


class Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), defer_build=True)


class Variable(Block):
    type: Maybe[Literal["string", "integer", "number", "boolean", "list", "map"]] = Field(
        None, description="What it holds. Default: the type of `default`, else string."
    )
    default: Anything = Field(None, description="Its value when nothing else sets it. Without one it is required.")
    description: Maybe[str] = None
    sensitive: Annotated[bool, Field(strict=True)] = Field(False, description="Shown nowhere, kept only as a digest.")
    minimum: Maybe[Annotated[float, Field(strict=True)]] = None
    maximum: Maybe[Annotated[float, Field(strict=True)]] = None
    enum: Maybe[list[Anything]] = Field(None, description="The values it may have.")
    pattern: Maybe[str] = Field(None, description="A regular expression the whole text must match.")


class ProviderConfig(BaseModel):
    """An account. Fields that are not listed here belong to the provider's type."""

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=(), defer_build=True)

    type: Maybe[str] = Field(None, description="The provider's type. Default: the name of this block.")
    retired: Annotated[bool, Field(strict=True)] = Field(False, description="Manages what it has, gets nothing new.")
    max_concurrency: Maybe[Annotated[int, Field(strict=True, ge=1)]] = Field(
        None, description="Requests at the same time, at most."
    )


class StateConfig(BaseModel):
    """Where the state is kept. Fields that are not listed here belong to the backend's type."""

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=(), defer_build=True)

    type: Annotated[str, Field(strict=True)] = Field(
        "file", description="file, s3, postgres, http, kubernetes, or one that a package brings."
    )


class LifecycleBlock(Block):
    create_before_destroy: Flag = Field(False, description="Replace by creating the new one first.")
    prevent_destroy: Flag = Field(False, description="A plan that would delete it is refused.")
    ignore_changes: list[str] | Literal["all"] = Field(
        default_factory=list, description="Attributes whose changes are left alone: `env.DEBUG`, or `all`."
    )
    replace_triggered_by: list[Reference] = Field(
        default_factory=list, description="Resources whose replacement replaces this one."
    )


class TimeoutsBlock(Block):
    create: Maybe[Duration] = None
    update: Maybe[Duration] = None
    delete: Maybe[Duration] = None


class UpdateBlock(Block):
    max_unavailable: Maybe[Annotated[int, Field(strict=True, ge=1), LATER]] = Field(
        None, description="How many nodes a rolling replacement may take away at once."
    )


class SpotBlock(Block):
    max_price: Maybe[Money] = Field(None, description="USD per hour and node.")
    fallback: Flag = Field(False, description="Take an on-demand node where no spot node is to be had.")


class MountBlock(Block):
    volume: Reference = Field(description="A volume: `${volumes.data}`, or a provider's own id.")
    mount: Text = Field(description="The folder on the node.")


class Resource(Block):
    """What every resource may have."""

    count: Maybe[Count] = Field(None, description="So many of it; `count.index` tells them apart.")
    for_each: Maybe[Annotated[list[str] | dict[str, Anything], LATER]] = Field(
        None, description="One for each key; `each.key` and `each.value` tell them apart."
    )
    depends_on: list[Reference] = Field(default_factory=list, description="Waits for these, without using them.")
    lifecycle: Maybe[LifecycleBlock] = None
    timeouts: Maybe[TimeoutsBlock] = None


class NodeFields(Block):
    """What a node is made of. Everything left out is the provider's decision."""

    gpu: Maybe[Gpu] = Field(None, description="NAME[:COUNT] of one node, such as `H100-80GB:8`.")
    cpu: Maybe[Amount] = Field(None, description='Cores of one node: 32, or ">=32".')
    memory_gb: Maybe[Amount] = Field(None, description='Memory of one node in GB: 256, or ">=256".')
    disk_gb: Maybe[Whole] = Field(None, description="Disk of one node in GB.")
    region: Maybe[Text] = None
    zone: Maybe[Text] = None
    instance_type: Maybe[Text] = Field(None, description="The provider's own name of a machine.")
    image: Maybe[Text] = Field(None, description="A container image, or the provider's name of a machine image.")
    command: Maybe[Command] = None
    env: Maybe[Annotated[dict[str, Scalar], KEEPS]] = Field(None, description="Environment variables.")
    ports: Maybe[Annotated[list[Port], KEEPS]] = Field(None, description='8000, "53/udp" or "8000/http".')
    ssh_keys: Maybe[Annotated[list[Reference], KEEPS]] = None
    volumes: Maybe[Annotated[list[MountBlock], KEEPS]] = None
    networks: Maybe[Annotated[list[Reference], KEEPS]] = None
    spot: Maybe[Annotated[bool | SpotBlock, Field(union_mode="left_to_right"), KEEPS]] = Field(
        None, description="Take spot capacity: `{}`, or `{max_price: 2.10}`."
    )
    setup: Maybe[Text] = Field(None, description="A script that runs on a node once it is up.")
    user_data: Maybe[Text] = Field(None, description="Handed to the machine at its first boot.")
    confidential: Maybe[Flag] = Field(None, description="Confidential computing.")
    stopped: Maybe[Flag] = Field(None, description="Keep it, but switched off.")
    restart: Maybe[Annotated[Literal["always", "on-failure", "never"], KEEPS]] = None
    shm_gb: Maybe[Whole] = Field(None, description="Shared memory in GB.")
    labels: Maybe[Annotated[dict[str, Scalar], KEEPS]] = None
    options: Maybe[Annotated[dict[str, Anything], KEEPS]] = Field(None, description="Words of one provider alone.")


class CandidateBlock(NodeFields):
    provider: Text = Field(description="The name of a block under `providers`.")


class PlacementBlock(Block):
    any_of: Annotated[list[CandidateBlock], Field(min_length=1)] = Field(
        description="Places to choose from; what the cluster says holds for all of them."
    )
    objective: Maybe[Annotated[Objective, LATER]] = Field(None, description="cheapest, or in_order.")
    max_price: Maybe[Money] = Field(None, description="USD per hour and node that no offer may exceed.")


class Cluster(NodeFields, Resource):
    """Equal nodes at one provider."""

    provider: Maybe[Text] = Field(None, description="The name of a block under `providers`.")
    placement: Maybe[PlacementBlock] = Field(None, description="Instead of `provider`: the plan chooses.")
    nodes: Count = Field(1, description="How many nodes.")
    update: Maybe[UpdateBlock] = None
    ttl: Maybe[Duration] = Field(
        None, description="Its nodes are deleted after it, and stay gone until the spec asks for something else."
    )
    on_failure: Annotated[OnFailure, LATER] = Field(
        OnFailure.DESTROY, description="What happens to a node that does not become ready."
    )


class Volume(Resource):
    provider: Text
    size_gb: Maybe[Whole] = None
    region: Maybe[Text] = None
    zone: Maybe[Text] = None
    type: Maybe[Text] = None
    options: Maybe[Annotated[dict[str, Anything], KEEPS]] = None


class SshKey(Resource):
    public_key: Text = Field(description="The key itself: `ssh-ed25519 AAAA...`, or `${file('~/.ssh/id.pub')}`.")
    provider: Maybe[Text] = Field(None, description="Default: every provider whose clusters use it.")


class Rule(Block):
    port: Maybe[Ports] = Field(None, description='22 or "8000-8010". Default: all of them.')
    protocol: Maybe[Annotated[Literal["tcp", "udp", "icmp"], LATER]] = None
    source: Maybe[Text] = Field(None, alias="from", description="A network in CIDR notation. Default: anyone.")


class Network(Resource):
    provider: Text
    cidr: Maybe[Text] = None
    region: Maybe[Text] = None
    rules: Maybe[list[Rule]] = None
    options: Maybe[Annotated[dict[str, Anything], KEEPS]] = None


class HealthBlock(Block):
    http: Maybe[Text] = Field(None, description="A path that answers 2xx once the service is up.")
    command: Maybe[Text] = Field(None, description="A command on the node that ends with 0 once the service is up.")
    port: Maybe[Whole] = Field(None, description="Alone: a port that takes connections. Default: the first of `ports`.")
    interval: Maybe[Duration] = None
    timeout: Maybe[Duration] = None


class WorkloadFields(Resource):
    on: Reference = Field(description="The cluster it runs on: `${clusters.train}`.")
    image: Maybe[Text] = None
    command: Maybe[Command] = None
    env: Maybe[Annotated[dict[str, Scalar], KEEPS]] = None
    nodes: Maybe[Annotated[Whole | Literal["all"], Field(union_mode="left_to_right")]] = Field(
        None, description="On how many nodes of the cluster, from the first. Default: all for a service, 1 for a job."
    )


class Service(WorkloadFields):
    ports: Maybe[Annotated[list[Port], KEEPS]] = None
    health: Maybe[HealthBlock] = None
    restart: Maybe[Annotated[Literal["always", "on-failure", "never"], KEEPS]] = None


class Job(WorkloadFields):
    timeout: Maybe[Duration] = None
    retries: Maybe[Annotated[int, Field(strict=True, ge=0), LATER]] = None


class BudgetBlock(Block):
    max_hourly: Maybe[Money] = Field(None, description="USD per hour that a plan may not exceed.")


class PolicyBlock(Block):
    deny: Annotated[str, Field(strict=True, min_length=1)] = Field(
        description="CEL over `resource`; where it is true the plan is refused."
    )
    message: Annotated[str, Field(strict=True)] = Field(description="What the refusal says.")


class MovedBlock(Block):
    source: AddressText = Field(alias="from")
    to: AddressText


class ImportBlock(Block):
    to: AddressText
    id: Annotated[str | int, KEEPS_ALL] = Field(description="The provider's id of what exists.")


class RemovedBlock(Block):
    source: AddressText = Field(alias="from")
    destroy: Annotated[bool, Field(strict=True)] = Field(True, description="False: leave it running.")


class Document(Block):
    """A gpuplan spec."""

    version: Literal[1] = Field(description="The version of the language.")
    project: Annotated[str, Field(strict=True, pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")] = Field(
        description="The project's name, part of every ownership mark."
    )
    include: Maybe[Annotated[list[str] | str, Field(union_mode="left_to_right")]] = Field(
        None, description="Files this one is laid over; paths count from this file."
    )
    state: Maybe[StateConfig] = Field(None, description="Where the state is kept. Default: files under `state/`.")
    variables: dict[Name, Variable] = Field(default_factory=dict)
    locals: dict[Name, Anything] = Field(default_factory=dict, description="Names for values.")
    providers: dict[Name, ProviderConfig] = Field(default_factory=dict)
    ssh_keys: dict[Name, SshKey] = Field(default_factory=dict)
    volumes: dict[Name, Volume] = Field(default_factory=dict)
    networks: dict[Name, Network] = Field(default_factory=dict)
    clusters: dict[Name, Cluster] = Field(default_factory=dict)
    services: dict[Name, Service] = Field(default_factory=dict)
    jobs: dict[Name, Job] = Field(default_factory=dict)
    outputs: dict[Name, Anything] = Field(default_factory=dict)
    budget: Maybe[BudgetBlock] = None
    policies: list[PolicyBlock] = Field(default_factory=list)
    moved: list[MovedBlock] = Field(default_factory=list)
    imports: list[ImportBlock] = Field(default_factory=list)
    removed: list[RemovedBlock] = Field(default_factory=list)


MODELS: dict[str, type[Resource]] = {
    "clusters": Cluster,
    "volumes": Volume,
    "ssh_keys": SshKey,
    "networks": Network,
    "services": Service,
    "jobs": Job,
}
"""The model of one resource, by section."""
