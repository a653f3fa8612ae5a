"""Make a node that runs fit for use: wait for a way onto it, then run its setup there.

Called by `provision` for a new node, and by `alteration` once a change has emptied an old one.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from gpuplan.core.desired import Kind
from gpuplan.core.errors import (
    AuthFailed,
    Conflict,
    Failure,
    NoCredentials,
    NotReady,
    ProviderError,
    Refused,
    Retry,
)
from gpuplan.core.kinds import NodeAttrs, plain
from gpuplan.core.observed import Observed, Status
from gpuplan.core.plan import Operation
from gpuplan.core.ports import Channel, ExecResult, KeptLog, Want
from gpuplan.core.secret import Redactor, Secret
from gpuplan.core.state import Recorded
from gpuplan.core.values import Facts
from gpuplan.engine.patience import Patience
from gpuplan.engine.run import Run
from gpuplan.engine.together import together

TOPIC = "setup"
KEY_SECONDS = 60.0
"""So long a node may refuse our key after it has begun to answer: what puts the key there may run after what asks for
it. Longer would be taken for an attack."""
MEMBERS_AT_ONCE = 16
PEERS = 1000
"""Up to so many nodes of a cluster are told each other's addresses: an environment has no room for more."""


def has_setup(want: Want) -> bool:
    return bool(want.attrs.get("setup"))


async def set_up(run: Run, operation: Operation, want: Want, observed: Observed, patience: Patience) -> None:
    """Run the setup, once on each node of a group. Raises NotReady when it failed or nobody answered in time, a Refused
    when there is no way onto the node."""
    command = NodeAttrs.of(want.attrs).setup
    if command is None:
        return
    if want.kind is not Kind.GROUP:
        await _Setup(run, operation, want, observed, patience, plain(command), None).run()
        return
    bound = asyncio.Semaphore(MEMBERS_AT_ONCE)

    async def member(index: int) -> None:
        async with bound:
            await _Setup(run, operation, want, observed, patience, plain(command), index).run()

    await together(member(index) for index in range(NodeAttrs.of(want.attrs).nodes))


class _Setup:
    """The setup of one node."""

    def __init__(
        self,
        run: Run,
        operation: Operation,
        want: Want,
        observed: Observed,
        patience: Patience,
        command: str,
        member: int | None,
    ) -> None:
        self._run = run
        self._operation = operation
        self._want = want
        self._observed = observed
        self._patience = patience
        self._command = command
        self._member = member
        self._refused_since: float | None = None

    @property
    def _recorded(self) -> Recorded:
        return self._run.existing(self._operation.address)

    async def run(self) -> None:
        node = "" if self._member is None else f", node {self._member}"
        name = f"run the setup of {self._want.address}{node}"
        topic = TOPIC if self._member is None else f"{TOPIC}-{self._member}"
        with self._run.channels.log(self._recorded, topic) as log:
            result = await self._result(name, log)
            where = log.where
        if result.status != 0:
            facts = (f"the setup ended with status {result.status}", f"all it printed is in {where}")
            raise NotReady(Failure(self._recorded.provider, name, message=result.tail, facts=facts))

    async def _result(self, name: str, log: KeptLog) -> ExecResult:
        while True:
            try:
                async with self._run.channels.open(self._recorded, self._observed, self._member) as channel:
                    self._run.progress(self._operation, "runs its setup")
                    return await self._printed(channel, name, log)
            except Refused as error:
                if not self._may_pass(error):
                    raise
                async with self._run.resting(self._operation):
                    await self._in_time(error, name)
                    if isinstance(error, Conflict):
                        await self._look_again()
            except ProviderError as error:
                # Nobody knows how far it came: the node cannot be trusted.
                raise NotReady(replace(error.failure, operation=name)) from error

    async def _printed(self, channel: Channel, name: str, log: KeptLog) -> ExecResult:
        env = setting(self._run, self._want, self._member, self._observed)
        # Also what was made of a secret, and is therefore known to nobody else as one.
        hide = Redactor(_secrets(self._want))
        running = channel.run(self._command, env=env, each_line=lambda line: log.add(hide(line)))
        result = await self._patience.answer(running, provider=self._recorded.provider, doing=name)
        return replace(result, tail=hide(result.tail))

    def _may_pass(self, error: Refused) -> bool:
        """Whether trying again may help."""
        if isinstance(error, AuthFailed) and not isinstance(error, NoCredentials):
            now = self._run.clock.monotonic()
            self._refused_since = now if self._refused_since is None else self._refused_since
            return now - self._refused_since < KEY_SECONDS
        return error.retry is Retry.LATER

    async def _in_time(self, error: Refused, name: str) -> None:
        self._run.progress(self._operation, f"waits for a way onto it: {_reason(error)}")
        try:
            await self._patience.pause(error)
        except Refused as late:
            if isinstance(late, AuthFailed):
                raise
            raise NotReady(replace(late.failure, operation=name)) from late

    async def _look_again(self) -> None:
        """The node has told no address yet."""
        recorded = self._recorded
        try:
            seen = await self._run.providers[recorded.provider].get(recorded.kind, recorded.remote_id)
        except ProviderError:
            # What cannot be seen now is looked for again after the next pause.
            return
        if seen is not None and seen.status is Status.RUNNING:
            self._observed = seen


def setting(run: Run, want: Want, member: int | None, observed: Observed) -> dict[str, str]:
    """What the setup of a node finds in its environment: the node's own, and who and where it is."""
    asked = NodeAttrs.of(want.attrs)
    if member is None:
        beside = run.nodes_beside(want.address)
        index, nodes = want.address.node or 0, len(beside)
        peers = [_facts_of(run.record(node)) for node in beside] if nodes <= PEERS else []
    else:
        index, nodes, peers = member, asked.nodes, _members(observed.facts)[:PEERS]
    return {
        **{name: plain(text) for name, text in asked.env.items()},
        "GPUPLAN_NODE_INDEX": str(index),
        "GPUPLAN_NODES": str(nodes),
        "GPUPLAN_ADDRESS": str(want.address),
        "GPUPLAN_PEERS": ",".join(str(facts.get("private_ip") or facts.get("public_ip") or "") for facts in peers),
    }


def _facts_of(recorded: Recorded | None) -> Facts:
    return {} if recorded is None else recorded.facts


def _members(facts: Facts) -> list[Facts]:
    """What is known of the nodes of a group."""
    nodes = facts.get("nodes")
    return [node for node in nodes if isinstance(node, Mapping)] if isinstance(nodes, Sequence) else []


def _secrets(want: Want) -> list[str]:
    asked = NodeAttrs.of(want.attrs)
    return [text.reveal() for text in (asked.setup, *asked.env.values()) if isinstance(text, Secret)]


def _reason(error: Refused) -> str:
    facts = error.failure.facts
    return facts[-1] if facts else str(error)
