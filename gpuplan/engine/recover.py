"""Close the intents that an earlier run left open, by looking instead of guessing.

Called by `workflow` before the refresh. Needs the state lock. What cannot be seen stays open.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta

from gpuplan.core.capabilities import Capabilities, Listing
from gpuplan.core.desired import Kind
from gpuplan.core.errors import ProviderError
from gpuplan.core.events import IntentSettled
from gpuplan.core.observed import Observed, Status
from gpuplan.core.plan import Action
from gpuplan.core.ports import Clock, Emit, Ledger, Provider
from gpuplan.core.state import Ended, Entry, Intent, Noted, Outcome, Phase, Recorded
from gpuplan.engine.look import Seen
from gpuplan.engine.reads import in_time
from gpuplan.engine.records import found, objects, with_living, with_more, without
from gpuplan.engine.together import together

LONGEST_JOURNEY_SECONDS = 600.0
"""A request may leave this long after its intent: limits and retries hold it back."""


async def recover(ledger: Ledger, providers: Mapping[str, Provider], *, clock: Clock, emit: Emit) -> tuple[int, ...]:
    """Settle every open intent that can be settled; the numbers of those that stay open."""
    by_provider: dict[str, list[Intent]] = {}
    for intent in ledger.state.intents.values():
        by_provider.setdefault(intent.provider, []).append(intent)
    await together(
        _Settlement(ledger, providers.get(name), clock, emit).settle(intents) for name, intents in by_provider.items()
    )
    return tuple(sorted(ledger.state.intents))


class _Settlement:
    """The open intents of one provider."""

    def __init__(self, ledger: Ledger, provider: Provider | None, clock: Clock, emit: Emit) -> None:
        self._ledger = ledger
        self._provider = provider
        self._clock = clock
        self._emit = emit

    async def settle(self, intents: Sequence[Intent]) -> None:
        strange = await self._strange(intents)
        creates: list[Intent] = []
        for intent in intents:
            if intent.account in strange:
                self._stays_open(intent, strange[intent.account])
                continue
            if intent.action == Action.CREATE:
                if not await self._is_recorded(intent):
                    creates.append(intent)
            elif intent.action == Action.DELETE:
                await self._deleted(intent)
            else:
                # Whatever the object is like now, the refresh sees it and the next plan does the rest.
                await self._close(intent, Outcome.NEVER, "is planned again if it did not happen")
        if creates:
            await self._created(creates)

    async def _strange(self, intents: Sequence[Intent]) -> Mapping[str, str]:
        """Accounts that these credentials cannot look into, each with the reason."""
        accounts = {intent.account for intent in intents}
        if self._provider is None:
            return dict.fromkeys(accounts, f"there is no provider `{intents[0].provider}` to ask")
        name = intents[0].provider
        try:
            account = (await in_time(self._provider.health(), provider=name, doing="look at the account")).id
        except ProviderError as error:
            return dict.fromkeys(accounts, str(error))
        return {
            other: f"it was begun in account {other}, the credentials are of account {account}"
            for other in accounts
            if other and other != account
        }

    async def _is_recorded(self, intent: Intent) -> bool:
        """Whether the run lived to write down what it created; then nothing is left to find out."""
        recorded = self._ledger.state.instances.get(intent.address)
        if all(thing.token != intent.token for thing in objects(recorded)):
            return False
        await self._close(intent, Outcome.DONE, "was created, and is recorded")
        return True

    async def _deleted(self, intent: Intent) -> None:
        assert self._provider is not None
        try:
            look = self._provider.get(intent.kind, intent.remote_id)
            observed = await in_time(look, provider=intent.provider, doing=f"look at {intent.kind} {intent.remote_id}")
        except ProviderError as error:
            self._stays_open(intent, str(error))
            return
        if observed is not None and observed.status is not Status.TERMINATED:
            await self._close(intent, Outcome.NEVER, "was not deleted")
            return
        recorded = self._ledger.state.instances.get(intent.address)
        rest = without(recorded, intent.provider, intent.remote_id)
        await self._close(intent, Outcome.DONE, "was deleted", Noted(intent.address, rest))

    async def _created(self, intents: Sequence[Intent]) -> None:
        """Look for the tokens, and once more when all that exists must be visible."""
        assert self._provider is not None
        if self._provider.capabilities.listing is Listing.NONE:
            self._all_stay_open(intents, "this provider has no listing to look for the object in")
            return
        try:
            missing = await self._adopt(intents, self._provider)
            if missing:
                await self._clock.sleep(self._until_visible(missing, self._provider.capabilities))
                missing = await self._adopt(missing, self._provider, is_last=True)
        except ProviderError as error:
            still = [intent for intent in intents if intent.seq in self._ledger.state.intents]
            self._all_stay_open(still, str(error))

    def _until_visible(self, intents: Iterable[Intent], capabilities: Capabilities) -> float:
        """Seconds until listings show whatever these intents may have created."""
        # A request leaves some time after its intent, but not later than now: that run is dead.
        latest = max(intent.begun_at for intent in intents) + timedelta(seconds=LONGEST_JOURNEY_SECONDS)
        sent = min(latest, self._clock.now())
        visible = sent + timedelta(seconds=capabilities.visibility_delay_seconds)
        return max(0.0, (visible - self._clock.now()).total_seconds())

    async def _adopt(self, intents: Sequence[Intent], provider: Provider, *, is_last: bool = False) -> Sequence[Intent]:
        """Record every object that carries one of the tokens; the intents that have none.

        With `is_last` an intent without an object is closed, unless part of the account could not be seen.
        """
        recorded = self._ledger.state.instances.values()
        known = frozenset(thing.remote_id for each in recorded for thing in objects(each))
        pages = len(known) // provider.capabilities.page_size
        kinds: dict[Kind, Seen] = {}
        for kind in {intent.kind: None for intent in intents}:
            listing = provider.list(kind, known)
            kinds[kind] = Seen(await in_time(listing, provider=intents[0].provider, doing=f"list {kind}s", pages=pages))
        missing = []
        for intent in intents:
            seen = kinds[intent.kind]
            twins = seen.carrying(intent.token, intent.witness, known)
            if twins:
                await self._record(intent, twins)
            elif is_last and seen.unseen:
                self._stays_open(intent, seen.why)
            elif is_last:
                await self._close(intent, Outcome.NEVER, "was not created")
            else:
                missing.append(intent)
        return missing

    async def _record(self, intent: Intent, twins: Sequence[Observed]) -> None:
        """Take over what was created. Several objects of one attempt: one stays, the others are to be deleted."""
        assert intent.draft is not None
        observed, *others = twins
        draft = with_living(intent.draft, self._ledger.state.instances.get(intent.address))
        phase = Phase.TAINTED if observed.status is Status.FAILED else Phase.PENDING
        recorded: Recorded = found(draft, observed, phase)
        for other in others:
            recorded = with_more(recorded, found(draft, other, Phase.TAINTED))
        entry = Noted(intent.address, recorded)
        await self._close(intent, Outcome.DONE, f"was created as {observed.remote_id}, and is recorded now", entry)

    async def _close(self, intent: Intent, outcome: Outcome, text: str, *entries: Entry) -> None:
        await self._ledger.write(*entries, Ended(intent.seq, outcome))
        self._emit(IntentSettled(intent.seq, intent.address, outcome, text))

    def _stays_open(self, intent: Intent, why: str) -> None:
        self._emit(IntentSettled(intent.seq, intent.address, "open", f"stays open: {why}"))

    def _all_stay_open(self, intents: Iterable[Intent], why: str) -> None:
        for intent in intents:
            self._stays_open(intent, why)
