"""`ssh`: machines one already has. A node is a claim on one of them, which no two workspaces can take at once.

`ssh_inventory` says which machines there are, `ssh_targets` how they are logged in to, `ssh_reach` runs scripts there,
`ssh_scripts` are those scripts, `ssh_seen` reads what they tell.
"""

import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from hashlib import sha256

from pydantic import BaseModel

from gpuplan.core.capabilities import Capabilities
from gpuplan.core.desired import Kind
from gpuplan.core.encoding import encode_value
from gpuplan.core.errors import (
    Failure,
    InvalidRequest,
    NoCapacity,
    NotFound,
    OutcomeUnknown,
    ProviderError,
)
from gpuplan.core.kinds import NodeAttrs, plain
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Observed, Status
from gpuplan.core.offers import Offer, OfferQuery, Pricing
from gpuplan.core.ports import Account, Links, Listed, OpenContext, ProviderType, SshTarget, Want
from gpuplan.core.secret import Secret
from gpuplan.core.values import Attrs, JsonValue, leaves
from gpuplan.net.threads import run_blocking
from gpuplan.providers import ssh_scripts as scripts
from gpuplan.providers.local_gpus import CannotTell
from gpuplan.providers.ssh_inventory import Host, Mistaken, Options, hosts_of
from gpuplan.providers.ssh_reach import Reach, distinct, reason
from gpuplan.providers.ssh_seen import Claim, Seen, to_observed
from gpuplan.providers.ssh_tables import CAPABILITIES, RESTART, RESTARTING, TOLD

_ID = re.compile(r"([^/]+)/([a-z0-9][a-z0-9-]{0,63})")


class Ssh:
    """The machines of one provider block."""

    def __init__(self, options: Options, context: OpenContext) -> None:
        self._options = options
        self._name = context.block.name
        self._clock = context.clock
        self._environ = context.environ
        self._folder = context.folder
        self._reach = Reach(options, context)

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    async def health(self) -> Account:
        """That there is an inventory. Whether its machines answer is told by looking at each."""
        await self._all("read its inventory")
        return Account(sha256(f"ssh\0{self._name}".encode()).hexdigest()[:16], endpoint="ssh")

    async def offers(self, query: OfferQuery) -> Sequence[Offer]:
        """What the machines that answer have. One that is behind two names is offered once."""
        now = self._clock.now()
        hosts = (await self._all("tell what it has")).values()
        found: list[Offer] = []
        for seen in distinct(await self._reach.look_at(hosts, machine=True)):
            try:
                found += seen.offers(self._name, now, shared=self._options.shared)
            except CannotTell:
                # Its driver does not answer: nothing could run there.
                continue
        return [
            offer
            for offer in found
            if query.wants(offer.gpu, offer.gpu_count)
            and (not query.regions or offer.region in query.regions)
            and query.spot in (None, offer.pricing is Pricing.SPOT)
        ]

    async def list(self, kind: Kind, known: frozenset[str]) -> Listed:
        """Machines that do not answer, and those that are not in the inventory any more, count as unseen."""
        hosts = await self._all(f"list its {kind}s")
        looks = await self._reach.look_at(hosts.values(), machine=False)
        # The name that the state knows comes first, where a machine has two.
        names = {remote_id.partition("/")[0] for remote_id in known}
        ranked = sorted(looks, key=lambda pair: pair[0].called not in names)
        nodes = [seen for each in distinct(ranked) if (seen := self._observed(each)) is not None]
        strange = {name: "it is not in the inventory" for name in sorted(names - hosts.keys())}
        dark = {host.called: reason(seen) for host, seen in looks if isinstance(seen, ProviderError)} | strange
        why = "; ".join(f"{name}: {reason}" for name, reason in dark.items())
        return Listed(nodes, unseen=tuple(f"{name}/" for name in dark), why=why)

    async def get(self, kind: Kind, remote_id: str) -> Observed | None:
        name, token = _parts(remote_id)
        if not token:
            return None
        to = f"look at {kind} {remote_id}"
        seen = await self._reach.look(await self._host(name, to), to)
        observed = self._observed(seen) if seen.token in (token, "") else None
        return None if observed is None else replace(observed, remote_id=remote_id)

    async def create(self, want: Want, mark: Mark, links: Links) -> Observed:
        to, asked = f"create {want.address}", NodeAttrs.of(want.attrs)
        self._check(asked, to)
        host = await self._chosen(want, asked, mark.token, to)
        files = {**_files(asked), scripts.STOPPED: ""} if asked.stopped else _files(asked)
        script = scripts.claim(marker := self._reach.marker(), mark.token, self._document(want, mark), files)
        try:
            seen = await self._reach.run(host, script, marker, to, effect=True)
        except NoCapacity as exc:
            raise exc.about(gpu=str(asked.gpu or "")) from exc
        return self._made(seen, mark.token, to)

    async def advance(self, want: Want, mark: Mark, observed: Observed, links: Links) -> Observed:
        """Start what a crash left unstarted."""
        if observed.status is not Status.STARTING:
            return observed
        return await self._do(observed.remote_id, f"start {want.address}", scripts.bring_up)

    async def delete(self, kind: Kind, remote_id: str, links: Links) -> None:
        """Everything that runs for the node is ended, its folder removed, and the machine given back last."""
        name, token = _parts(remote_id)
        if not token:
            return
        to, marker, grace = f"delete {kind} {remote_id}", self._reach.marker(), self._options.grace
        host = await self._host(name, to)
        script = scripts.release(marker, token, grace_seconds=grace)
        await self._reach.run(host, script, marker, to, effect=True, seconds=grace)

    async def update(self, want: Want, remote_id: str, links: Links) -> Observed:
        to, asked = f"update {want.address}", NodeAttrs.of(want.attrs)
        self._check(asked, to)
        before = await self.get(Kind.NODE, remote_id)
        if before is None or before.mark is None:
            raise NotFound(Failure(self._name, to))
        document, restarts = self._document(want, before.mark), bool(want.update & RESTARTING)
        grace = self._options.grace

        def change(marker: str, token: str) -> str:
            return scripts.change(marker, token, document, _files(asked), restarts=restarts, grace_seconds=grace)

        return await self._do(remote_id, to, change, seconds=grace)

    async def stop(self, kind: Kind, remote_id: str) -> Observed:
        grace = self._options.grace

        def stop(marker: str, token: str) -> str:
            return scripts.stop(marker, token, grace_seconds=grace)

        return await self._do(remote_id, f"stop {kind} {remote_id}", stop, seconds=grace)

    async def start(self, kind: Kind, remote_id: str) -> Observed:
        return await self._do(remote_id, f"start {kind} {remote_id}", scripts.start)

    async def logs(self, kind: Kind, remote_id: str, *, follow: bool, tail: int | None) -> AsyncIterator[str]:
        """What the node's command printed; with `follow` until it runs no more."""
        to = f"read the log of {kind} {remote_id}"
        name, token = _parts(remote_id)
        if not token:
            raise NotFound(Failure(self._name, to))
        script = scripts.follow(token, tail=tail, until_end=follow)
        async for line in self._reach.stream(await self._host(name, to), script, to):
            yield line

    def ssh_target(self, observed: Observed, member: int | None = None) -> SshTarget | None:
        name, token = _parts(observed.remote_id)
        host, to = self._inventory.get(name), f"reach {observed.remote_id}"
        if host is None or not token:
            return None
        folder = observed.facts.get("folder") or f"{self._reach.directory(host)}/node-{token}"
        return replace(self._reach.target(host, to), workspace=f"{folder}/workspace")

    async def close(self) -> None:
        await self._reach.close()

    @cached_property
    def _inventory(self) -> Mapping[str, Host]:
        """Raises InvalidRequest."""
        try:
            return hosts_of(self._options, self._environ, self._folder)
        except Mistaken as exc:
            raise InvalidRequest(Failure(self._name, "read its inventory", facts=(str(exc),))) from exc

    async def _all(self, to: str) -> Mapping[str, Host]:
        return await run_blocking(lambda: self._inventory)

    async def _host(self, name: str, to: str) -> Host:
        host = (await self._all(to)).get(name)
        if host is None:
            hint = "put it back, or take what is there out of the state"
            raise InvalidRequest(Failure(self._name, to, facts=(f"the inventory has no host `{name}`",), hint=hint))
        return host

    async def _chosen(self, want: Want, asked: NodeAttrs, token: str, to: str) -> Host:
        """The machine that was planned with, else any that is free and fits, else the one that has the claim already.
        Raises NoCapacity."""
        known = await self._all(to)
        hosts = known.values() if want.offer is None else [await self._host(want.offer.host, to)]
        looks = await self._reach.look_at(hosts, machine=True)
        for error in (seen for _, seen in looks if isinstance(seen, ProviderError)):
            # It may have this very claim: another machine must not get it too.
            raise error
        seen = [each for each in distinct(looks) if each.token == token]
        seen = seen or [each for each in distinct(looks) if self._is_free(each, asked)]
        if not seen:
            facts = ("no machine that fits is free",) if want.offer is None else (f"`{want.offer.host}` is not free",)
            raise NoCapacity(Failure(self._name, to, gpu=str(asked.gpu or ""), facts=facts))
        return seen[0].host

    def _is_free(self, seen: Seen, asked: NodeAttrs) -> bool:
        try:
            return not seen.is_held and (self._options.shared or not seen.others) and seen.fits(asked)
        except CannotTell:
            return False

    async def _do(self, remote_id: str, to: str, script: Callable[[str, str], str], *, seconds: float = 0) -> Observed:
        """Something that is done to a node there is. Raises NotFound."""
        name, token = _parts(remote_id)
        if not token:
            raise NotFound(Failure(self._name, to))
        host, marker = await self._host(name, to), self._reach.marker()
        seen = await self._reach.run(host, script(marker, token), marker, to, effect=True, seconds=seconds)
        return self._made(seen, token, to)

    def _observed(self, seen: Seen) -> Observed | None:
        return to_observed(seen, self._reach.place(seen.host))

    def _made(self, seen: Seen, token: str, to: str) -> Observed:
        observed = self._observed(seen)
        if observed is None or seen.token != token:
            raise OutcomeUnknown(Failure(self._name, to, facts=(f"`{seen.host.called}` does not tell what it did",)))
        return observed

    def _check(self, asked: NodeAttrs, to: str) -> None:
        if asked.restart not in (None, *RESTART):
            raise InvalidRequest(Failure(self._name, to, f"`restart` is one of {', '.join(RESTART)}"))
        if asked.command is not None and not asked.command:
            raise InvalidRequest(Failure(self._name, to, "`command` is empty"))

    def _document(self, want: Want, mark: Mark) -> str:
        user, machine = self._environ.get("USER", ""), self._environ.get("HOSTNAME", "")
        claim = Claim(
            name=want.name,
            project=mark.project,
            workspace=mark.workspace,
            lineage=mark.lineage,
            address=None if mark.address is None else str(mark.address),
            owner=f"{user}@{machine}" if user and machine else user,
            created_at=self._clock.now(),
            attrs=_told(want.attrs),
        )
        return claim.model_dump_json()


def _parts(remote_id: str) -> tuple[str, str]:
    """The name of the host and the token; both empty for what is no id of ours."""
    match = _ID.fullmatch(remote_id)
    return (match[1], match[2]) if match else ("", "")


def _files(asked: NodeAttrs) -> Mapping[str, str]:
    env = {name: plain(text) for name, text in asked.env.items()}
    return {**scripts.command_file(asked.command, env), "restart": f"{asked.restart or 'never'}\n"}


def _told(attrs: Attrs) -> dict[str, JsonValue]:
    """What is told back of `attrs`: as it was asked, and nothing in which there is a secret."""
    return {
        name: encode_value(attrs[name])
        for name in TOLD
        if name in attrs and not any(isinstance(leaf, Secret) for leaf in leaves(attrs[name]))
    }


def _open(options: BaseModel, context: OpenContext) -> Ssh:
    assert isinstance(options, Options)
    return Ssh(options, context)


PROVIDER = ProviderType(
    name="ssh",
    title="machines you already have",
    options=Options,
    capabilities=lambda _: CAPABILITIES,
    open=_open,
)
