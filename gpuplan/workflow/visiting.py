"""Go onto the nodes of the state: which there are, how they are reached, and a channel to one of them.

Called by `ssh`, `cp`, `forward`, `ssh-config` and `hostfile`.
"""

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from gpuplan.core.address import Address
from gpuplan.core.desired import Configuration, Kind
from gpuplan.core.diagnostics import Diagnostic
from gpuplan.core.errors import GpuplanError
from gpuplan.core.observed import Observed, Status
from gpuplan.core.ports import Channel, Clock, HasSsh, Provider, SshTarget
from gpuplan.core.state import Recorded, State
from gpuplan.net.ssh import KEY_VARIABLE, known_hosts, node_alias
from gpuplan.net.ssh_config import Options, ssh_options
from gpuplan.state.edit import covered
from gpuplan.workflow.accounts import open_providers
from gpuplan.workflow.channels import open_channels
from gpuplan.workflow.ledger import look_at_state, unborn
from gpuplan.workflow.project import Project, load_spec

_NODES = frozenset({Kind.NODE, Kind.GROUP})


@dataclass(frozen=True, slots=True)
class Reached:
    """One node as the state knows it."""

    name: str
    """What it is called where there is no room for an address; no other node is called so."""
    address: Address
    provider: str
    gpu: str
    gpu_count: int
    is_ephemeral: bool
    private_ip: str
    target: SshTarget | None
    """None: SSH does not reach it."""
    key_file: str
    options: Options
    """What ssh has to be told; empty where it does not reach the node."""

    @property
    def cluster(self) -> str:
        return "_".join(str(part) for part in (self.address.name, self.address.key) if part is not None)

    @property
    def host(self) -> str:
        """Where its peers find it."""
        return self.private_ip or (self.target.host if self.target else "")


@dataclass(frozen=True, slots=True)
class Login:
    """How the system's `ssh` gets onto one node."""

    address: Address
    workspace: str
    target: SshTarget
    options: Options


async def reached_nodes(project: Project, addresses: Sequence[Address], clock: Clock) -> list[Reached]:
    """The nodes of the state in order, or those that the addresses name, as the last look saw them."""
    configuration = load_spec(project)
    state = await look_at_state(project, clock) or unborn(configuration.project)
    found = {each for address in addresses for each in covered(state, address)} if addresses else state.instances.keys()
    nodes = sorted((each for each in found if state.instances[each].kind in _NODES), key=lambda each: each.order)
    records = [state.instances[address] for address in nodes]
    async with open_providers({each.provider for each in records}, configuration, project, clock) as providers:
        return _distinct([node for each in records for node in _nodes_of(each, providers, project)])


def _nodes_of(recorded: Recorded, providers: Mapping[str, Provider], project: Project) -> Iterator[Reached]:
    provider = providers.get(recorded.provider)
    seen = Observed(recorded.kind, recorded.remote_id, Status.RUNNING, facts=recorded.facts)
    gpu, _, count = str(recorded.attrs.get("gpu") or "").partition(":")
    whole = recorded.kind is Kind.GROUP
    for index in range(_size(recorded)) if whole else [recorded.address.node or 0]:
        member = index if whole else None
        target = provider.ssh_target(seen, member) if isinstance(provider, HasSsh) else None
        key_file = (target.key_file if target else None) or project.environ.get(KEY_VARIABLE, "")
        yield Reached(
            name="-".join(
                str(part) for part in (recorded.address.name, recorded.address.key, index) if part is not None
            ),
            address=recorded.address._replace(node=index),
            provider=recorded.provider,
            gpu=gpu,
            gpu_count=int(count or 1) if gpu else 0,
            is_ephemeral=provider is not None and provider.capabilities.ephemeral,
            private_ip=str(recorded.facts.get("private_ip") or ""),
            target=target,
            key_file=key_file,
            options=_options(recorded, member, target, project) if target else (),
        )


def _options(recorded: Recorded, member: int | None, target: SshTarget, project: Project) -> Options:
    alias = node_alias(recorded.account, recorded.remote_id, member)
    key_file = project.environ.get(KEY_VARIABLE, "")
    return ssh_options(target, alias, known_hosts(project.environ).path, key_file)


def _distinct(nodes: Sequence[Reached]) -> list[Reached]:
    """Where two would have one name, both are called by their address."""
    names = Counter(node.name for node in nodes)
    return [node if names[node.name] == 1 else replace(node, name=str(node.address)) for node in nodes]


def _size(recorded: Recorded) -> int:
    nodes = recorded.attrs.get("nodes", 1)
    return nodes if isinstance(nodes, int) else 1


@dataclass(frozen=True, slots=True)
class Visit:
    """One node, looked at a moment ago."""

    recorded: Recorded
    member: int | None
    observed: Observed
    provider: Provider


@asynccontextmanager
async def visited(project: Project, address: Address, clock: Clock) -> AsyncIterator[Channel]:
    """A channel to the node of that address, as long as the block lasts."""
    configuration = load_spec(project)
    async with (
        _looked_at(project, configuration, address, clock) as visit,
        open_channels({visit.recorded.provider: visit.provider}, project, configuration) as channels,
        channels.open(visit.recorded, visit.observed, visit.member) as channel,
    ):
        yield channel


async def login(project: Project, address: Address, clock: Clock) -> Login | None:
    """How `ssh` reaches the node of that address; None where it does not."""
    configuration = load_spec(project)
    async with _looked_at(project, configuration, address, clock) as visit:
        if not isinstance(visit.provider, HasSsh):
            return None
        target = visit.provider.ssh_target(visit.observed, visit.member)
        if target is None:
            raise _refusal("no-way-in", f"`{address}` has no address that SSH reaches")
        options = _options(visit.recorded, visit.member, target, project)
        workspace = target.workspace or visit.provider.capabilities.workspace_path
        return Login(address, workspace, target, options)


@asynccontextmanager
async def _looked_at(
    project: Project, configuration: Configuration, address: Address, clock: Clock
) -> AsyncIterator[Visit]:
    """Raises GpuplanError for an address that names no node or several, and for a node that is not up."""
    state = await look_at_state(project, clock) or unborn(configuration.project)
    recorded, member = one_node(state, address)
    async with open_providers({recorded.provider}, configuration, project, clock) as providers:
        provider = providers.get(recorded.provider)
        if provider is None:
            raise _refusal("unknown-provider", f"the provider `{recorded.provider}` is not configured")
        observed = await provider.get(recorded.kind, recorded.remote_id)
        if observed is None or observed.status is not Status.RUNNING:
            status = "gone" if observed is None else str(observed.status)
            raise _refusal(
                "node-not-running", f"`{address}` is {status}", hint="make it run", commands=("gpuplan apply",)
            )
        yield Visit(recorded, member, observed, provider)


def one_node(state: State, address: Address) -> tuple[Recorded, int | None]:
    """The record that has the node, and which node of it where that is a group."""
    group = state.instances.get(address.block)
    if group is not None and group.kind is Kind.GROUP:
        if address.node is None and _size(group) > 1:
            raise _several(address, [address._replace(node=index) for index in range(_size(group))])
        if (address.node or 0) >= _size(group):
            raise _refusal("unknown-address", f"`{address.block}` has {_size(group)} nodes, and no `{address}`")
        return group, address.node or 0
    found = covered(state, address)
    if len(found) > 1:
        raise _several(address, found)
    recorded = state.instances[found[0]]
    if recorded.kind not in _NODES:
        raise _refusal("not-a-node", f"`{address}` is no node", hint="name one", commands=("gpuplan state list",))
    return recorded, None


def _several(address: Address, found: Sequence[Address]) -> GpuplanError:
    return _refusal(
        "several-instances",
        f"`{address}` names {len(found)} instances",
        hint=f"name one of them: {', '.join(f'`{each}`' for each in found[:3])}",
    )


def _refusal(id: str, summary: str, *, hint: str | None = None, commands: tuple[str, ...] = ()) -> GpuplanError:
    return GpuplanError(diagnostics=(Diagnostic(id=id, summary=summary, hint=hint, commands=commands),))
