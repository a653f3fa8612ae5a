"""Services and jobs on nodes: made, seen, told of and ended over a channel. Called by `workloads`.

The id of a unit is that of its node, `#`, and our token. A node that is gone takes its units with it; one that cannot
be reached says nothing about them.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from gpuplan.core.address import Address
from gpuplan.core.capabilities import ProviderKind
from gpuplan.core.desired import Kind
from gpuplan.core.errors import Failure, InvalidRequest, NotFound, ProviderError, Unavailable
from gpuplan.core.kinds import NodeAttrs, plain
from gpuplan.core.marks import Mark
from gpuplan.core.observed import GONE, Observed, Status
from gpuplan.core.ports import Channel, Links, Listed, Provider, Want
from gpuplan.core.units import parse_duration
from gpuplan.core.values import Facts, JsonValue, Ref, Value
from gpuplan.providers import workloads_script as script
from gpuplan.providers.workloads_health import is_healthy

NO_CONTAINERS = 3
"""What the script of a create ends with where there is nothing to run an image."""
_HALTED = frozenset({Status.STOPPED, Status.FAILED, *GONE})
"""Nothing runs on such a node, and nothing begins to run again when it is started."""


@runtime_checkable
class LeavesRunning(Protocol):
    """Channels that end whatever a command leaves behind, and have another way to start what shall go on."""

    async def leave(self, command: str) -> None:
        """Run a command that is over at once; what it started in the background goes on."""
        ...


class Ways(Protocol):
    """Opens channels to nodes, and keeps them until it is closed."""

    def open(self, node: Observed) -> AbstractAsyncContextManager[Channel]: ...

    async def close(self) -> None: ...


class Units:
    """The units on the nodes of `nodes`."""

    def __init__(self, name: str, nodes: Provider, ways: Ways) -> None:
        self._name = name
        self._inner = nodes
        self._ways = ways
        self._is_local = nodes.capabilities.kind is ProviderKind.LOCAL

    async def list(self, kind: Kind, known: frozenset[str]) -> Listed:
        """The units on the nodes of the known ids."""
        homes = frozenset(_node_of(each) for each in known)
        if not homes:
            return Listed(())
        nodes = await self._inner.list(Kind.NODE, homes)
        near = [node for node in nodes.objects if node.remote_id in homes and self._is_up(node)]
        answers = await asyncio.gather(*(self._on_node(kind, node) for node in near))
        hidden = [(f"{node.remote_id}#", found) for node, found in zip(near, answers, strict=True) if _is_text(found)]
        seen = [unit for found in answers if not isinstance(found, str) for unit in found]
        why = nodes.why or next((text for _, text in hidden if isinstance(text, str)), "")
        return Listed(seen, (*nodes.unseen, *(prefix for prefix, _ in hidden)), why)

    async def get(self, kind: Kind, remote_id: str) -> Observed | None:
        node = await self._node(remote_id)
        if node is None:
            return None
        return next((unit for unit in await self._units(kind, node) if unit.remote_id == remote_id), None)

    async def create(self, want: Want, mark: Mark, links: Links) -> Observed:
        operation = f"create {want.address}"
        home = _home(want, links)
        node = await self._node(home)
        if node is None:
            raise NotFound(Failure(self._name, operation, message=f"node {home} is gone"))
        unit = self._unit(want, mark, node, links)
        async with self._ways.open(node) as channel:
            made = await channel.run(script.create_script(unit), env={})
            if made.status == NO_CONTAINERS:
                raise InvalidRequest(Failure(self._name, operation, message="the node has neither docker nor podman"))
            if made.status:
                raise Unavailable(Failure(self._name, operation, message=made.tail or "its folder cannot be written"))
            with suppress(ProviderError):
                # It exists by now, which must not look as if nothing had happened; `start` comes again.
                await _start(channel, unit.token)
        return Observed(want.kind, f"{home}#{mark.token}", Status.STARTING, mark=mark)

    async def start(self, observed: Observed) -> Observed:
        """See that the supervisor of a unit runs: a crash may have left it unstarted. A second one leaves by itself."""
        node = await self._node(observed.remote_id)
        if node is not None and observed.status is Status.STARTING:
            async with self._ways.open(node) as channel:
                await _start(channel, _token_of(observed.remote_id))
        return observed

    async def logs(self, remote_id: str, *, follow: bool, tail: int | None) -> AsyncIterator[str]:
        node = await self._node(remote_id)
        if node is None:
            raise NotFound(Failure(self._name, f"read the log of {remote_id}"))
        async with self._ways.open(node) as channel:
            command = script.log_command(_token_of(remote_id), follow=follow, tail=tail)
            async for line in channel.stream(command, env={}):
                yield line

    async def end(self, kind: Kind, remote_id: str, *, remove: bool) -> None:
        """Without `remove` what is known of it is kept."""
        node = await self._node(remote_id)
        if node is None:
            return
        async with self._ways.open(node) as channel:
            done = await channel.run(script.stop_script(_token_of(remote_id), remove=remove), env={})
        if done.status:
            raise Unavailable(Failure(self._name, f"end {kind} {remote_id}", message=done.tail or "it still runs"))

    async def _node(self, remote_id: str) -> Observed | None:
        """The node a unit is on; None: it is gone, and the unit with it."""
        node = await self._inner.get(Kind.NODE, _node_of(remote_id))
        return node if node is not None and self._is_up(node) else None

    async def _on_node(self, kind: Kind, node: Observed) -> "Sequence[Observed] | str":
        """The units of a node, or why they cannot be seen."""
        try:
            return await self._units(kind, node)
        except ProviderError as error:
            return str(error)

    async def _units(self, kind: Kind, node: Observed) -> Sequence[Observed]:
        if node.status is not Status.RUNNING and not self._is_local:
            raise Unavailable(Failure(self._name, f"look at {kind}s of node {node.remote_id}", f"it is {node.status}"))
        lines: list[str] = []
        async with self._ways.open(node) as channel:
            told = await channel.run(script.list_script(), env={}, each_line=lines.append)
            if told.status:
                raise Unavailable(Failure(self._name, f"look at {kind}s of node {node.remote_id}", told.tail))
            units = [unit for unit in script.parse_units(lines) if unit.mark["kind"] == kind.value]
            return [await self._seen(kind, node, unit, channel) for unit in units]

    async def _seen(self, kind: Kind, node: Observed, unit: script.Seen, channel: Channel) -> Observed:
        definition, remote_id = _Definition.of(unit.mark), f"{node.remote_id}#{unit.token}"
        word = unit.words[0] if unit.words else "pending"
        if word in ("running", "waiting", "pending") and not unit.is_up and unit.words:
            word = "lost"
        facts: dict[str, JsonValue] = {"node": node.remote_id, "state": _WORDS[word], **definition.facts}
        if word in ("ended", "late", "cancelled"):
            facts["exit_code"] = int(unit.words[1])
        if kind is Kind.JOB:
            if word == "ended":
                facts["state"] = "succeeded" if facts["exit_code"] == 0 else "failed"
            # As an object it is simply there: how it ended is no drift, and nothing to do again.
            status = Status.STARTING if word == "pending" else Status.RUNNING
            return Observed(kind, remote_id, status, facts=facts, mark=definition.mark(unit.token))
        healthy, detail = None, ""
        status = {"pending": Status.STARTING, "running": Status.RUNNING, "waiting": Status.RUNNING}.get(
            word, Status.FAILED
        )
        if word == "waiting":
            healthy, detail = False, f"it ended with status {unit.words[1]} and is started again"
        elif status is Status.FAILED:
            detail = "its supervisor is gone" if word == "lost" else f"it ended with status {unit.words[1]}"
        elif word == "running" and definition.health:
            healthy, detail = await is_healthy(definition.health, definition.ports, channel)
        return Observed(
            kind,
            remote_id,
            status,
            facts=facts,
            mark=definition.mark(unit.token),
            healthy=healthy,
            detail=detail,
        )

    def _unit(self, want: Want, mark: Mark, node: Observed, links: Links) -> script.Unit:
        asked = NodeAttrs.of(want.attrs)
        peers = [item for item in _sequence(want.attrs.get("peers")) if isinstance(item, Ref)]
        ports = [port.number for port in asked.ports]
        address = want.address
        hosts = [self._host(links[peer.address].facts) for peer in peers]
        own = {
            "GPUPLAN_ADDRESS": str(address),
            "GPUPLAN_NODE_INDEX": str(address.node or 0),
            "GPUPLAN_NODES": str(len(peers) or 1),
            "GPUPLAN_PEERS": ",".join(hosts),
        }
        definition = _Definition(mark, want.kind, ports, want.attrs.get("health"), self._endpoint(node, ports))
        timeout, retries = want.attrs.get("timeout"), want.attrs.get("retries")
        return script.Unit(
            token=mark.token,
            command=asked.command,
            image=asked.image,
            env={**{name: plain(text) for name, text in asked.env.items()}, **own},
            ports=ports,
            restart=str(retries or 0) if want.kind is Kind.JOB else asked.restart or "always",
            timeout_seconds=int(parse_duration(timeout)) if isinstance(timeout, str) else 0,
            mark=definition.document(),
        )

    def _endpoint(self, node: Observed, ports: Sequence[int]) -> str:
        """Where others find the first port, as far as the node tells: its provider may map it."""
        if not ports:
            return ""
        public = node.facts.get("public_ip")
        host = str(public) if public and not self._is_local else self._host(node.facts)
        return mapped(node.facts, ports[0], host)

    def _host(self, facts: Facts) -> str:
        told = facts.get("private_ip") or facts.get("public_ip") or facts.get("ssh_host") or ""
        return "127.0.0.1" if self._is_local else str(told)

    def _is_up(self, node: Observed) -> bool:
        # A node of this machine is a folder: what runs in it does not end with the node's own command.
        return (self._is_local and node.status not in GONE) or node.status not in _HALTED


_WORDS = {
    "pending": "pending",
    "running": "running",
    "waiting": "restarting",
    "ended": "ended",
    "late": "timed out",
    "cancelled": "cancelled",
    "lost": "lost",
}


@dataclass(frozen=True, slots=True)
class _Definition:
    """What a unit's folder says of it besides what it runs."""

    owner: Mark
    kind: Kind
    ports: Sequence[int]
    health: Value
    endpoint: str

    @classmethod
    def of(cls, told: Mapping[str, object]) -> "_Definition":
        address = Address.parse(str(told["address"]))
        owner = Mark("", str(told["project"]), str(told["workspace"]), str(told["lineage"]), address)
        ports = told["ports"]
        health = json.loads(str(told["health"]))
        assert isinstance(ports, list)
        return cls(owner, Kind(str(told["kind"])), [int(port) for port in ports], health, str(told["endpoint"]))

    def document(self) -> dict[str, object]:
        owner = self.owner
        return {
            "kind": self.kind.value,
            "project": owner.project,
            "workspace": owner.workspace,
            "lineage": owner.lineage,
            "address": str(owner.address),
            "ports": list(self.ports),
            "health": json.dumps(self.health),
            "endpoint": self.endpoint,
        }

    def mark(self, token: str) -> Mark:
        return replace(self.owner, token=token)

    @property
    def facts(self) -> dict[str, JsonValue]:
        return {"endpoint": self.endpoint} if self.endpoint else {}


async def _start(channel: Channel, token: str) -> None:
    if isinstance(channel, LeavesRunning):
        await channel.leave(script.start_script(token))
    else:
        await channel.run(script.start_script(token), env={})


def mapped(facts: Facts, port: int, host: str) -> str:
    """The URL of a port of a node: through the provider's proxy or another port, where its facts have either."""
    outer: object = port
    for name, key in (("ports", f"{port}/tcp"), ("endpoints", str(port))):
        known = facts.get(name)
        outer = known.get(key, outer) if isinstance(known, Mapping) else outer
    if isinstance(outer, str):
        return outer if "://" in outer else f"http://{outer}"
    return f"http://{host}:{outer}"


def _home(want: Want, links: Links) -> str:
    on = want.attrs["on"]
    assert isinstance(on, Ref)
    return links[on.address].remote_id


def _node_of(remote_id: str) -> str:
    return remote_id.rpartition("#")[0] or remote_id


def _token_of(remote_id: str) -> str:
    return remote_id.rpartition("#")[2]


def _sequence(value: Value) -> Sequence[Value]:
    return value if isinstance(value, Sequence) and not isinstance(value, str) else ()


def _is_text(found: object) -> bool:
    return isinstance(found, str)
