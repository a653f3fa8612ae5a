"""Ask every provider what there is: one listing per account and kind, and a direct question before an absence counts.

Called by `workflow` before every plan and by `drift`. Sends nothing that changes anything, writes nothing.

It costs the pages of the listings, one `health` per account, and one `get` for each recorded instance that its listing
does not show.
"""

import asyncio
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from gpuplan.core.address import Address
from gpuplan.core.capabilities import Listing
from gpuplan.core.desired import Configuration, Import, Kind
from gpuplan.core.errors import Failure, ProviderError, Unavailable
from gpuplan.core.events import RefreshFinished, RefreshStarted
from gpuplan.core.observed import GONE, Observed, Survey
from gpuplan.core.ports import Clock, Emit, Provider
from gpuplan.core.state import Recorded, State
from gpuplan.engine.look import Seen
from gpuplan.engine.reads import in_time
from gpuplan.engine.records import objects
from gpuplan.engine.together import together

T = TypeVar("T")


async def refresh(
    configuration: Configuration | None,
    state: State,
    providers: Mapping[str, Provider],
    *,
    clock: Clock,
    emit: Emit,
    workspace: str = "",
) -> Survey:
    """What every provider reports of the recorded instances, of the imports, and of what else carries our mark.

    A provider that cannot be asked is in `Survey.unreachable`; nothing is raised for it. `workspace` finds orphans of a
    lost state too, which had another lineage.
    """
    began = clock.monotonic()
    accounts = {name: _Account(name) for name in providers}
    for recorded in state.instances.values():
        _account(accounts, recorded.provider).add(recorded)
    if configuration is not None:
        _add_wanted(accounts, configuration, state)
    asked = [account for account in accounts.values() if account.kinds or account.imports]
    emit(RefreshStarted(len(asked), len(state.instances)))
    claims = _Claims(state, workspace)
    findings = _Findings()
    await together(_ask(account, providers.get(account.name), claims, findings, clock) for account in asked)
    survey = findings.survey(state)
    missing = sum(observed is None or observed.status in GONE for observed in survey.instances.values())
    emit(RefreshFinished(len(survey.instances) - missing, missing, clock.monotonic() - began))
    return survey


async def find_orphans(state: State, providers: Mapping[str, Provider], *, workspace: str, clock: Clock) -> Survey:
    """What carries our mark and is claimed by nobody, of every kind that each account has: the state may be lost, and
    the spec may speak of other kinds by now. Of the survey only orphans, accounts and unreachable ones are told."""
    accounts = {name: _Account(name) for name in providers}
    for name, provider in providers.items():
        for kind in provider.capabilities.kinds:
            accounts[name].kinds[kind] = set()
    for recorded in state.instances.values():
        if recorded.provider in accounts:
            accounts[recorded.provider].kinds.setdefault(recorded.kind, set()).add(recorded.remote_id)
    findings = _Findings()
    claims = _Claims(state, workspace)
    await together(_ask(account, providers[account.name], claims, findings, clock) for account in accounts.values())
    return findings.survey(state)


@dataclass(slots=True)
class _Account:
    """What is to be asked of one provider."""

    name: str
    records: dict[Kind, list[Recorded]] = field(default_factory=dict)
    kinds: dict[Kind, set[str]] = field(default_factory=dict)
    """The kinds to list, each with the ids that the state has of it."""
    imports: list[tuple[Kind, Import]] = field(default_factory=list)

    def add(self, recorded: Recorded) -> None:
        self.records.setdefault(recorded.kind, []).append(recorded)
        self.kinds.setdefault(recorded.kind, set()).add(recorded.remote_id)


@dataclass(slots=True)
class _Findings:
    """The survey while it grows."""

    instances: dict[Address, Observed | None] = field(default_factory=dict)
    unreachable: dict[str, ProviderError] = field(default_factory=dict)
    orphans: list[tuple[str, Observed]] = field(default_factory=list)
    imports: dict[Address, Observed | None] = field(default_factory=dict)
    accounts: dict[str, str] = field(default_factory=dict)
    unseen: dict[Address, str] = field(default_factory=dict)

    def survey(self, state: State) -> Survey:
        """In the order of the state and of names, whichever answer came first. Of an account that could not be asked
        for everything, nothing counts: it may not even be the right one."""
        return Survey(
            instances={
                address: self.instances[address]
                for address, recorded in state.instances.items()
                if address in self.instances and recorded.provider not in self.unreachable
            },
            unreachable=dict(sorted(self.unreachable.items())),
            orphans=tuple(sorted(self.orphans, key=_by_name)),
            imports=self.imports,
            accounts=dict(sorted(self.accounts.items())),
            unseen=self.unseen,
        )


def _by_name(orphan: tuple[str, Observed]) -> tuple[str, str, str]:
    provider, observed = orphan
    return (provider, observed.kind, observed.remote_id)


class _Claims:
    """What the state knows of, in whatever form: the rest of what carries our mark are orphans."""

    def __init__(self, state: State, workspace: str) -> None:
        self._lineage = state.lineage
        self._project = state.project
        self._workspace = workspace
        known = [thing for recorded in state.instances.values() for thing in objects(recorded)]
        intents = state.intents.values()
        self._ids = {(thing.provider, thing.remote_id) for thing in known}
        self._ids |= {(intent.provider, intent.remote_id) for intent in intents}
        self._tokens = {thing.token for thing in known} | {intent.token for intent in intents}

    def is_orphan(self, provider: str, observed: Observed) -> bool:
        mark = observed.mark
        if mark is None or observed.status in GONE:
            return False
        # A mark with little room carries a token alone, and says nothing of whose it is.
        ours = bool(mark.lineage) and mark.lineage == self._lineage
        if not ours and self._workspace:
            ours = (mark.project, mark.workspace) == (self._project, self._workspace)
        claimed = mark.token in self._tokens or (provider, observed.remote_id) in self._ids
        return ours and not claimed


def _account(accounts: dict[str, _Account], name: str) -> _Account:
    if name not in accounts:
        accounts[name] = _Account(name)
    return accounts[name]


def _add_wanted(accounts: dict[str, _Account], configuration: Configuration, state: State) -> None:
    """Kinds that the spec alone speaks of: what carries our mark there may be an orphan. And the imports."""
    for desired in {id(wanted.candidates): wanted for wanted in configuration.instances.values()}.values():
        for candidate in desired.candidates:
            _account(accounts, candidate.provider).kinds.setdefault(desired.kind, set())
    for entry in configuration.imports:
        wanted = configuration.instances.get(entry.target)
        if wanted is not None and entry.target not in state.instances:
            _account(accounts, wanted.candidates[0].provider).imports.append((wanted.kind, entry))


async def _ask(
    account: _Account, provider: Provider | None, claims: _Claims, findings: _Findings, clock: Clock
) -> None:
    if provider is None:
        failure = Failure(account.name, "list what it has", message="no provider of this name is configured")
        findings.unreachable[account.name] = Unavailable(failure)
        return
    inquiry = _Inquiry(account, provider, claims, findings, clock)
    try:
        await together(
            [
                inquiry.health(),
                *(inquiry.kind(kind, frozenset(ids)) for kind, ids in account.kinds.items()),
                *(inquiry.adoptable(kind, entry) for kind, entry in account.imports),
            ]
        )
    except ProviderError as error:
        findings.unreachable[account.name] = error


class _Inquiry:
    """The questions to one account."""

    def __init__(
        self, account: _Account, provider: Provider, claims: _Claims, findings: _Findings, clock: Clock
    ) -> None:
        self._account = account
        self._provider = provider
        self._claims = claims
        self._findings = findings
        self._clock = clock
        self._bound = asyncio.Semaphore(provider.capabilities.max_concurrency)

    async def health(self) -> None:
        account = await self._ask(self._provider.health(), "look at the account")
        self._findings.accounts[self._account.name] = account.id

    async def kind(self, kind: Kind, known: frozenset[str]) -> None:
        records = self._account.records.get(kind, [])
        if self._provider.capabilities.listing is Listing.NONE:
            await together(self._get(recorded) for recorded in records)
            return
        pages = len(known) // self._provider.capabilities.page_size
        seen = Seen(await self._ask(self._provider.list(kind, known), f"list {kind}s", pages=pages))
        await together(self._get(recorded) for recorded in self._not_found(records, seen))
        name = self._account.name
        self._findings.orphans += [(name, thing) for thing in seen.objects if self._claims.is_orphan(name, thing)]

    def _not_found(self, records: Iterable[Recorded], seen: Seen) -> Iterable[Recorded]:
        """Note what the listing shows; the rest has to be asked for."""
        for recorded in records:
            observed = seen.find(recorded.remote_id, recorded.token)
            if observed is not None:
                self._findings.instances[recorded.address] = observed
            elif seen.is_hidden(recorded.remote_id):
                self._findings.unseen[recorded.address] = seen.why
            else:
                yield recorded

    async def _get(self, recorded: Recorded) -> None:
        observed = await self._look(recorded.kind, recorded.remote_id)
        if observed is None and (seconds := self._hidden_seconds(recorded)) > 0:
            await self._clock.sleep(seconds)
            observed = await self._look(recorded.kind, recorded.remote_id)
        self._findings.instances[recorded.address] = observed

    def _hidden_seconds(self, recorded: Recorded) -> float:
        """How long listings and gets may still not know an object: until then its absence says nothing."""
        delay = self._provider.capabilities.visibility_delay_seconds
        return min(delay, delay - (self._clock.now() - recorded.created_at).total_seconds())

    async def adoptable(self, kind: Kind, entry: Import) -> None:
        self._findings.imports[entry.target] = await self._look(kind, entry.remote_id)

    async def _look(self, kind: Kind, remote_id: str) -> Observed | None:
        async with self._bound:
            return await self._ask(self._provider.get(kind, remote_id), f"look at {kind} {remote_id}")

    async def _ask(self, call: Awaitable[T], doing: str, *, pages: int = 0) -> T:
        return await in_time(call, provider=self._account.name, doing=doing, pages=pages)
