"""Create one object: at most one per attempt, at the best place that has room, and nothing lost on the way.

Called by the executor. The order, each step durable before the next: intent, request, record as soon as there is an
id, watch, record that it is ready, end.
"""

from collections.abc import Sequence
from dataclasses import replace

from gpuplan.core.capabilities import Idempotency
from gpuplan.core.errors import (
    NoCapacity,
    NotReady,
    OutcomeUnknown,
    ProtocolMismatch,
    ProviderError,
    QuotaExceeded,
    Refused,
    Retry,
)
from gpuplan.core.observed import Observed
from gpuplan.core.offers import Pricing
from gpuplan.core.plan import Action, Operation, Ranked
from gpuplan.core.ports import Want
from gpuplan.core.state import Ended, Intent, Noted, Outcome, Phase, Recorded
from gpuplan.engine.deletion import remove
from gpuplan.engine.provision import bring_up, give_up, is_usable, with_facts
from gpuplan.engine.records import beside, draft, found, kept_beside, objects, with_living, without
from gpuplan.engine.resolve import links_of, want_of
from gpuplan.engine.run import Run
from gpuplan.engine.setup import has_setup

LOST_ANSWERS = 3
"""How many answers to a create may be lost before the operation gives up."""


async def create(run: Run, operation: Operation) -> str:
    """Create the object at the first of the change's places that has room, and wait until it is usable."""
    desired = run.wanted(operation)
    places: Sequence[Ranked] = [place for place in run.change(operation).places if not place.rejected]
    places = places or [Ranked(desired.candidates[0], None)]
    for place, following in zip(places, [*places[1:], None], strict=True):
        before = run.record(operation.address)
        try:
            return await _Creation(run, operation, place, before).create()
        except NotReady as error:
            # A setup that fails says nothing about the place.
            if "setup" not in error.failure.operation:
                run.shun(place, error)
            raise
        except (NoCapacity, QuotaExceeded) as error:
            if isinstance(error, NoCapacity):
                run.shun(place, error)
            # What could not be cleaned up needs somebody to look at it before there is another.
            is_clean = set(objects(run.record(operation.address))) <= set(objects(before))
            if following is None or run.stop.requested or not is_clean:
                gpu = place.candidate.attrs.get("gpu")
                raise (error.about(gpu=gpu) if isinstance(gpu, str) else error) from error.__cause__
            run.progress(operation, f"{error}: trying {_described(following)}, after {_described(place)}")
    raise AssertionError("there is always a place to try")


class _Creation:
    """One create at one place."""

    def __init__(self, run: Run, operation: Operation, place: Ranked, before: Recorded | None) -> None:
        self._run = run
        self._operation = operation
        self._place = place
        self._before = before
        self._desired = run.wanted(operation)
        self._name = place.candidate.provider
        self._provider = run.providers[self._name]
        self._capabilities = self._provider.capabilities
        self._attrs = run.scope.resolve(place.candidate.attrs)
        self._patience = run.patience(self._name, self._desired.settings.timeouts.create)

    async def create(self) -> str:
        run, address = self._run, self._operation.address
        intent, want, observed = await self._send()
        assert intent.draft is not None
        # Since now at the latest: how long it may still be missing from listings is counted from here.
        planned = with_living(replace(intent.draft, created_at=run.clock.now()), run.record(address))
        if is_usable(observed, self._capabilities) and not has_setup(want):
            run.conclude(Noted(address, found(planned, observed, Phase.READY)), Ended(intent.seq, Outcome.DONE))
            return observed.remote_id
        # It exists now. Write that down before anything else can fail.
        await run.write(Noted(address, found(planned, observed, Phase.PENDING)))
        try:
            observed = await bring_up(run, self._operation, observed, want, self._patience, began=run.clock.monotonic())
        except OutcomeUnknown:
            # It exists, and whether it is ready the next run will see.
            await run.write(Ended(intent.seq, Outcome.DONE))
            raise
        except (NotReady, Refused) as error:
            raise await give_up(run, self._operation, error, intent=intent.seq, before=self._replaced) from error
        ready = found(run.existing(address), observed, Phase.READY)
        run.conclude(Noted(address, ready), Ended(intent.seq, Outcome.DONE))
        return ready.remote_id

    @property
    def _replaced(self) -> Recorded | None:
        """What was there before, unless it is gone."""
        is_there = self._before is not None and self._before.remote_id != self._gone_id
        return self._before if is_there else None

    @property
    def _gone_id(self) -> str:
        """The object that the plan found to be absent, and that this create makes anew."""
        change = self._run.change(self._operation)
        prior = change.refreshed or change.prior
        return prior.remote_id if change.action is Action.CREATE and prior is not None else ""

    async def _send(self) -> tuple[Intent, Want, Observed]:
        """Send creates, each with a token of its own, until one is answered."""
        lost = 0
        while True:
            intent, want = await self._announce()
            try:
                return intent, want, await self._request(intent, want)
            except Refused as error:
                refusal = await self._refused(intent, error)
                if refusal.retry is Retry.NEVER or self._run.stop.requested:
                    raise refusal from error
                await self._patience.pause(refusal)
            except (OutcomeUnknown, ProtocolMismatch) as error:
                # It may exist. Only a look can tell; as long as it cannot, the intent stays open.
                observed = await self._look_for(intent, error)
                if observed is not None:
                    return intent, want, observed
                await self._run.write(Ended(intent.seq, Outcome.NEVER))
                lost += 1
                if lost == LOST_ANSWERS or self._run.stop.requested:
                    raise with_facts(error, f"asked {lost} times; nothing was created") from error
                await self._patience.pause(error)

    async def _announce(self) -> tuple[Intent, Want]:
        run, offer = self._run, self._place.offer
        token = run.clock.token()
        want = want_of(self._desired, self._attrs, token=token, offer=offer)
        account = await run.account(self._name, self._patience)
        planned = draft(
            self._desired,
            self._place.candidate,
            self._attrs,
            account=account,
            token=token,
            offer=offer,
            now=run.clock.now(),
            key=run.key,
            kept=kept_beside(run.record(self._operation.address), gone_id=self._gone_id),
        )
        intent = await run.begin(
            self._operation,
            kind=want.kind,
            provider=self._name,
            account=account,
            token=token,
            draft=planned,
            witness=run.witness(self._name, want, run.mark(token, want.address)),
            action=Action.CREATE,
        )
        return intent, want

    async def _request(self, intent: Intent, want: Want) -> Observed:
        mark = self._run.mark(intent.token, want.address)
        links = links_of(want.attrs, self._run.record)
        known = self._capabilities.kinds.get(want.kind)
        doubt: ProviderError | None = None
        while True:
            try:
                return await self._patience.answer(
                    self._provider.create(want, mark, links), provider=self._name, doing=f"create {want.kind}"
                )
            except (OutcomeUnknown, ProtocolMismatch) as error:
                # With an idempotency key the same request can only have one effect.
                if known is None or known.idempotency is not Idempotency.KEY:
                    raise
                doubt = error
                await self._patience.pause(error)
            except Refused as error:
                if doubt is None:
                    raise
                # It says nothing about the request before, whose answer was lost: that one may have created it.
                raise doubt from error

    async def _refused(self, intent: Intent, error: Refused) -> Refused:
        """Close the intent. What exists although the call was refused is recorded first, then deleted."""
        run, address, leftover = self._run, self._operation.address, error.failure.leftover
        if not leftover:
            await run.write(Ended(intent.seq, Outcome.NEVER))
            return error
        assert intent.draft is not None
        recorded = beside(run.record(address), intent.draft, leftover)
        await run.write(Noted(address, recorded), Ended(intent.seq, Outcome.FAILED))
        target = next(other for other in objects(recorded) if other.remote_id == leftover)
        try:
            await remove(
                run,
                self._operation,
                target,
                run.patience(self._name, self._desired.settings.timeouts.delete),
                links=links_of(intent.draft.attrs, run.record),
                leaves=lambda: without(run.record(address), self._name, leftover),
            )
        except ProviderError as trouble:
            # Recorded, so the next apply deletes it; asking for another one now could leave a second behind.
            told = with_facts(error, f"{leftover} was left behind, and could not be deleted: {trouble}")
            raise told from error
        return error

    async def _look_for(self, intent: Intent, error: ProviderError) -> Observed | None:
        """The object of a request whose answer was lost; None when there certainly is none."""
        run = self._run
        run.progress(self._operation, f"{error}: looking for it")
        try:
            async with run.resting(self._operation):
                return await run.watch(self._name).find(
                    intent.kind,
                    intent.token,
                    intent.witness,
                    claimed=run.claimed() if intent.witness else frozenset(),
                    purpose=f"create {intent.kind}",
                    deadline=self._patience.deadline,
                )
        except OutcomeUnknown as unknown:
            fact = f"intent {intent.seq} stays open under token {intent.token}"
            raise with_facts(unknown, *error.failure.facts, fact) from error


def _described(place: Ranked) -> str:
    offer = place.offer
    if offer is None:
        return place.candidate.provider
    machine = f"{offer.gpu}:{offer.gpu_count}" if offer.gpu else offer.instance_type
    pricing = "spot" if offer.pricing is Pricing.SPOT else ""
    price = "" if offer.price_per_hour is None else f"at {offer.price_per_hour} USD per hour"
    return " ".join(filter(None, (place.candidate.provider, machine, offer.region, pricing, price)))
