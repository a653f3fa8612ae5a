"""Make a plan: desired against prior and observed, decided, placed, checked and put in order.

Called by `workflow` for plan, apply, destroy and refresh-only. Pure: the same inputs give the same plan.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType

from gpuplan.core.address import Address
from gpuplan.core.capabilities import Capabilities
from gpuplan.core.desired import Candidate, Configuration, Desired
from gpuplan.core.diagnostics import Diagnostic, Severity, Sink
from gpuplan.core.errors import PlanError, SpecError
from gpuplan.core.observed import Observed, Status, Survey
from gpuplan.core.offers import FailedPlace, Offer
from gpuplan.core.plan import Action, Change, Drift, Mode, Plan, PlanOptions, Reason
from gpuplan.core.state import Recorded, State
from gpuplan.core.values import Value
from gpuplan.plan.adopt import adopt, check_imported
from gpuplan.plan.checks import check, refusals
from gpuplan.plan.cost import changes_size, hourly
from gpuplan.plan.dependencies import Dependencies, circles
from gpuplan.plan.diff import Decision, Differ, kept_attrs
from gpuplan.plan.drift import find_drift, loss
from gpuplan.plan.graph import arrange, closure
from gpuplan.plan.lifetimes import EXPIRED, has_expired, lifted, resting, rests
from gpuplan.plan.lower import lower
from gpuplan.plan.moves import apply_moves
from gpuplan.plan.offers import Market, Places
from gpuplan.plan.outputs import evaluate_outputs
from gpuplan.plan.policies import ask_policies
from gpuplan.plan.record import moved, refreshed
from gpuplan.plan.scope import PlanScope
from gpuplan.plan.select import select
from gpuplan.plan.sight import Lookout, Sight

_NEW = frozenset({Action.CREATE, Action.REPLACE})
_CHANGING = frozenset({Action.UPDATE, Action.REPLACE})
_RISING = frozenset({Action.READ, Action.START})
_UNTOUCHED = Sight(None, absent=False)
_NOBODY: Mapping[str, str] = MappingProxyType({})


def make_plan(
    configuration: Configuration,
    state: State,
    survey: Survey,
    *,
    capabilities: Mapping[str, Capabilities],
    offers: Mapping[str, Sequence[Offer]],
    options: PlanOptions,
    now: datetime,
) -> Plan:
    """What would change, in which order, why, and what it will cost.

    `capabilities` and `offers` are by provider block. Nothing is decided by the time of day but leases and lifetimes.
    Raises PlanError with every finding that forbids the plan.
    """
    return Draft(configuration, state, survey, capabilities=capabilities, options=options, now=now).plan(offers)


class Draft:
    """A plan that lacks only its places: what is to be done is decided, and so is whose offers are needed for it.

    Pure, in two steps, so that nobody is asked for offers in vain. Raises PlanError in each with what it finds.
    """

    def __init__(
        self,
        configuration: Configuration,
        state: State,
        survey: Survey,
        *,
        capabilities: Mapping[str, Capabilities],
        options: PlanOptions,
        now: datetime,
    ) -> None:
        self._sink = Sink()
        self._decisions: dict[Address, Decision] = {}
        self._configuration = configuration
        self._state = state
        self._key = state.key
        self._survey = survey
        self._capabilities = capabilities
        self._options = options
        self._desired = {} if options.mode is Mode.DESTROY else configuration.instances
        renamed = apply_moves(state.instances, configuration.moved, self._sink)
        self._recorded, self._origins = renamed.instances, renamed.origins
        self._imports = {entry.target: entry for entry in configuration.imports}
        self._dependencies = Dependencies(self._desired, self._recorded)
        self._selected = select(options, self._dependencies, self._desired, self._sink)
        self._lookout = Lookout(configuration, survey, capabilities, options)
        self._sights: dict[Address, Sight] = {}
        self._resting: list[Desired] = []
        self._refreshed: dict[Address, Recorded] = {}
        self._refused: Mapping[int, str] = {}
        self._scope = PlanScope(self._dependencies, self._desired, self._recorded)
        self._triggers: dict[Address, Address | None] = {}
        self._differ = Differ(
            configuration, capabilities, self._scope, state.key, now, self._is_asked_for, self._trigger
        )
        self._now = now
        self._decide_all()

    @property
    def sellers(self) -> set[str]:
        """The provider blocks whose offers are needed: something new may go there, or something changes its size."""
        new = {id(wanted.candidates): wanted.candidates for wanted in self._placed()}
        sellers = {candidate.provider for candidates in new.values() for candidate in candidates}
        return sellers | {candidate.provider for _, candidate in self._resized()}

    def strands(self, silent: Collection[str]) -> bool:
        """Whether something new could go nowhere but to providers that did not tell their offers."""
        return any(all(place.provider in silent for place in wanted.candidates) for wanted in self._placed())

    def plan(
        self,
        offers: Mapping[str, Sequence[Offer]],
        *,
        failed: Sequence[FailedPlace] = (),
        silent: Mapping[str, str] = _NOBODY,
    ) -> Plan:
        """The whole plan. `failed` are places where nodes could lately not be had; `silent` says of providers why they
        did not tell their offers."""
        options, survey = self._options, self._survey
        closed = {name: f"tells no offers: {why}" for name, why in silent.items()}
        try:
            places = self._places(offers, failed, closed)
        except SpecError as error:
            raise PlanError(diagnostics=error.diagnostics) from error
        changes = self._changes(places)
        before, after = hourly(changes.values(), self._capabilities)
        self._verify(changes, (before, after))
        woven = None
        if options.mode is not Mode.REFRESH_ONLY:
            woven = lower(changes, self._decisions, self._dependencies)
        return Plan(
            project=self._configuration.project,
            workspace=options.workspace,
            lineage=self._state.lineage,
            serial=self._state.serial,
            spec_digest=self._configuration.digest,
            mode=options.mode,
            made_at=self._now,
            changes=changes,
            operations=() if woven is None else woven.operations,
            drift=self._drift(),
            outputs=self._outputs(),
            hourly_before=before,
            hourly_after=after,
            warnings=(*self._configuration.warnings, *self._sink.warnings, *(() if woven is None else woven.warnings)),
            orphans=tuple(orphan for _, orphan in survey.orphans),
            partial=bool(options.targets or options.excludes),
            lifted=() if self._selected is not None else tuple(lifted(self._state.expired, self._desired)),
        )

    def _decide_all(self) -> None:
        """Decide about every selected instance, dependencies first."""
        dependencies = self._dependencies
        sequence = arrange(dependencies.needs)
        if len(sequence) < len(dependencies.needs):
            raise PlanError(diagnostics=tuple(circles(dependencies, self._desired)))
        if self._options.mode is not Mode.REFRESH_ONLY:
            chosen = (self._desired[a] for a in self._selected_addresses() if a in self._desired)
            self._refused = refusals(chosen, self._configuration, self._capabilities, self._sink)
        self._raise_errors()
        for number in sequence:
            if number < dependencies.count and (self._selected is None or number in self._selected):
                address = dependencies.addresses[number]
                try:
                    self._decide(address)
                except SpecError as error:
                    self._sink.extend(error.diagnostics)
        self._lookout.report(self._sink)
        self._sink.extend(resting(self._resting))
        self._raise_errors()

    def _raise_errors(self) -> None:
        if errors := self._sink.errors:
            raise PlanError(diagnostics=errors)

    def _selected_addresses(self) -> list[Address]:
        """In address order."""
        addresses = self._dependencies.addresses
        chosen = range(self._dependencies.count) if self._selected is None else sorted(self._selected)
        return [addresses[number] for number in chosen]

    def _decide(self, address: Address) -> None:
        desired, prior = self._desired.get(address), self._recorded.get(address)
        decision = self._decision(address, desired, prior)
        if decision is None:
            return
        self._decisions[address] = decision
        if prior is not None:
            self._refresh(address, prior, decision)
        if desired is None:
            return
        if prior is None or decision.action in _NEW:
            only = desired.candidates[0] if len(desired.candidates) == 1 else None
            imported = self._survey.imports.get(address) if decision.action is Action.ADOPT else None
            remote_id = None if imported is None else imported.remote_id
            facts = {} if imported is None else imported.facts
            self._scope.settle(address, remote_id, {} if only is None else self._scope.attrs_of(only), facts)
        else:
            record = self._refreshed.get(address, prior)
            attrs = kept_attrs(decision, record, self._scope)
            complete = _RISING.isdisjoint(decision.steps)
            self._scope.settle(address, record.remote_id, attrs, record.facts, complete=complete)

    def _decision(self, address: Address, desired: Desired | None, prior: Recorded | None) -> Decision | None:
        """None: something stands in the way, or there is nothing to say about it."""
        if prior is None:
            return None if desired is None else self._new(desired)
        if desired is None and self._is_forgotten(address):
            return Decision(Action.FORGET, (Reason("", text="is removed from the spec, and left running"),))
        sight = self._lookout.see(self._origins.get(address, address), prior)
        if sight is None:
            return None
        self._sights[address] = sight
        expired = desired is not None and sight.absent and has_expired(desired, prior, self._now)
        if expired:
            return Decision(Action.FORGET, (EXPIRED,))
        if self._options.mode is Mode.REFRESH_ONLY:
            return self._gone(prior, sight) if sight.absent else Decision(Action.NO_OP)
        if desired is None:
            return self._unwanted(prior, sight)
        if address in self._imports:
            check_imported(self._imports[address], prior, self._sink)
        if sight.absent:
            return Decision(Action.CREATE, self._gone(prior, sight).reasons)
        if sight.observed is not None and sight.observed.status is Status.UNKNOWN:
            self._sink.add(_strange(address, prior, sight.observed))
        return self._differ.decide(desired, prior, sight.observed)

    def _new(self, desired: Desired) -> Decision | None:
        if self._options.mode is Mode.REFRESH_ONLY:
            return None
        entry, expired = self._imports.get(desired.address), self._state.expired.get(desired.address)
        if entry is not None:
            return adopt(desired, entry, self._survey, self._differ, self._sink)
        if rests(desired, expired, self._scope, self._key) and not self._is_asked_for(desired.address):
            self._resting.append(desired)
            return None
        return Decision(Action.CREATE)

    def _gone(self, prior: Recorded, sight: Sight) -> Decision:
        ephemeral = self._capabilities[prior.provider].ephemeral
        text = loss(ephemeral, "" if sight.observed is None else sight.observed.detail)
        return Decision(Action.FORGET, (Reason("", text=text),))

    def _unwanted(self, prior: Recorded, sight: Sight) -> Decision:
        # An object that is still going away is deleted all the same: what it uses must wait for it.
        if sight.absent and (sight.observed is None or sight.observed.status is Status.TERMINATED):
            return self._gone(prior, sight)
        asked = self._options.mode is Mode.DESTROY
        return Decision(Action.DELETE, (Reason("", text="is to be destroyed" if asked else "is not in the spec"),))

    def _is_forgotten(self, address: Address) -> bool:
        if self._options.mode is Mode.REFRESH_ONLY:
            return False
        return any(not entry.destroy and entry.source.covers(address) for entry in self._configuration.removed)

    def _is_asked_for(self, address: Address) -> bool:
        return any(name.covers(address) for name in self._options.replace)

    def _trigger(self, desired: Desired) -> Address | None:
        for name in desired.settings.lifecycle.replace_triggered_by:
            if name not in self._triggers:
                members = self._dependencies.members(name)
                self._triggers[name] = next((member for member in members if self._is_changed(member)), None)
            if (member := self._triggers[name]) is not None:
                return member
        return None

    def _is_changed(self, address: Address) -> bool:
        decision = self._decisions.get(address)
        if decision is None:
            return False
        return decision.action in _CHANGING or (decision.action is Action.CREATE and address in self._recorded)

    def _refresh(self, address: Address, prior: Recorded, decision: Decision) -> None:
        """Keep the record that apply writes first, where it is not the one that is there."""
        sight = self._sights.get(address, _UNTOUCHED)
        observed = None if sight.absent else sight.observed
        settled = decision.action not in (*_CHANGING, Action.CREATE) and self._options.mode is Mode.NORMAL
        desired = self._desired.get(address) if settled else None
        record = refreshed(moved(prior, address), observed, desired, self._key)
        if record is not prior:
            self._refreshed[address] = record

    def _placed(self) -> Iterator[Desired]:
        """What is new, in address order."""
        for address in self._selected_addresses():
            decision = self._decisions.get(address)
            if decision is not None and decision.action in _NEW:
                yield self._desired[address]

    def _resized(self) -> Iterator[tuple[Address, Candidate]]:
        """What stays and becomes another machine, so that it will have another price."""
        for address, decision in self._decisions.items():
            if decision.candidate is not None and decision.action is Action.UPDATE and changes_size(decision.reasons):
                yield address, decision.candidate

    def _places(
        self, offers: Mapping[str, Sequence[Offer]], failed: Sequence[FailedPlace], closed: dict[str, str]
    ) -> Mapping[Address, Places]:
        """Where everything new goes, and what else gets another price."""
        closed |= {name: "is retired" for name, block in self._configuration.providers.items() if block.retired}
        closed |= {name: "could not be reached" for name in self._survey.unreachable}
        market = Market(offers, self._capabilities, self._scope, closed, failed, self._now)
        places = market.place(self._placed(), self._refused)
        for address, candidate in self._resized():
            places[address] = market.resized(candidate, self._refreshed.get(address, self._recorded[address]))
        return places

    def _changes(self, places: Mapping[Address, Places]) -> Mapping[Address, Change]:
        """Every change, in address order."""
        create_first = self._create_first()
        changes: dict[Address, Change] = {}
        for address in self._selected_addresses():
            decision = self._decisions.get(address)
            if decision is None:
                continue
            adopted = decision.action is Action.ADOPT
            sight = self._sights.get(address, _UNTOUCHED)
            changes[address] = Change(
                address=address,
                action=decision.action,
                desired=self._desired.get(address),
                prior=self._recorded.get(address),
                observed=self._survey.imports.get(address) if adopted else sight.observed,
                reasons=decision.reasons,
                places=places.get(address, ()),
                refreshed=self._refreshed.get(address),
                create_first=address in create_first,
                import_id=self._imports[address].remote_id if adopted else "",
                moved_from=self._origins.get(address),
            )
        return changes

    def _create_first(self) -> set[Address]:
        """Replacements that create before they delete: those that ask for it, and everything these depend on.

        Otherwise the old object of a dependency would have to go while the old object that uses it is still there.
        """
        replaced = {address for address, decision in self._decisions.items() if decision.action is Action.REPLACE}
        if not replaced:
            return set()
        position = self._dependencies.position
        starts = (
            position[address]
            for address, desired in self._desired.items()
            if desired.settings.lifecycle.create_before_destroy
        )
        found = closure(starts, self._dependencies.needs)
        return {address for address in replaced if position[address] in found}

    def _verify(self, changes: Mapping[Address, Change], costs: tuple[Decimal | None, Decimal | None]) -> None:
        """Raises PlanError with everything that forbids these changes."""
        check(changes, self._configuration, self._capabilities, self._options, costs, self._sink)
        if self._configuration.policies and self._options.mode is Mode.NORMAL:
            ask_policies(changes, self._configuration, self._capabilities, self._scope, self._sink)
        self._raise_errors()

    def _drift(self) -> tuple[Drift, ...]:
        if not self._options.refreshed:
            return ()
        return find_drift(self._configuration, self._state, self._survey, self._capabilities)

    def _outputs(self) -> Mapping[str, Value]:
        if self._options.mode is Mode.DESTROY:
            return {}
        values = evaluate_outputs(self._configuration.outputs, self._scope, self._sink)
        self._raise_errors()
        return values


def _strange(address: Address, prior: Recorded, observed: Observed) -> Diagnostic:
    word = f" (`{observed.detail}`)" if observed.detail else ""
    return Diagnostic(
        id="status-unknown",
        summary=f"`{prior.provider}` reports a status of `{address}` that gpuplan does not know{word}",
        facts=("nothing is changed there until the status is known",),
        severity=Severity.WARNING,
    )
