"""What forbids a plan: capabilities, prevent_destroy, budget, policies, limits. All findings, with positions.

Called by `planner`: `refusals` before places are chosen, `check` once the changes are known.
"""

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal

from gpuplan.core.address import Address
from gpuplan.core.capabilities import Capabilities, KindCapabilities
from gpuplan.core.desired import Candidate, Configuration, Desired
from gpuplan.core.diagnostics import At, Diagnostic, Label, Severity, Sink
from gpuplan.core.errors import PlanError
from gpuplan.core.plan import Action, Change, Plan, PlanOptions, Ranked
from gpuplan.core.state import Intent, State
from gpuplan.core.values import Value
from gpuplan.plan.compare import STOPPED
from gpuplan.plan.mounts import Home, homes_in_spec
from gpuplan.plan.sight import counted

_WORDS = {
    "confidential": "confidential nodes",
    "gpu": "GPUs",
    "networks": "networks for nodes",
    "ports": "ports to open",
    "setup": "way to run a setup",
    "spot": "spot nodes",
    "ssh_keys": "SSH keys",
    STOPPED: "stopped nodes",
    "user_data": "user data",
    "volumes": "volumes for nodes",
}
_FLAGS = {
    "spot": ("spot",),
    "confidential": ("confidential",),
    "setup": ("ssh", "exec"),
    STOPPED: ("stop_start",),
}
"""Attributes that a capability of the whole provider must allow too: one of these."""

_DESTROYS = frozenset({Action.DELETE, Action.REPLACE})
_CREATES = frozenset({Action.CREATE, Action.REPLACE})


def refusals(
    instances: Iterable[Desired], configuration: Configuration, capabilities: Mapping[str, Capabilities], sink: Sink
) -> Mapping[int, str]:
    """By identity, the candidates whose provider cannot do what they ask. One without an alternative is an error."""
    refused: dict[int, str] = {}
    seen: set[int] = set()
    for desired in instances:
        for candidate in desired.candidates:
            if id(candidate) in seen:
                continue
            seen.add(id(candidate))
            findings = list(_unsupported(desired, candidate, configuration, capabilities))
            if findings:
                refused[id(candidate)] = findings[0].summary
                if len(desired.candidates) == 1:
                    sink.extend(findings)
    return refused


def _unsupported(
    desired: Desired, candidate: Candidate, configuration: Configuration, capabilities: Mapping[str, Capabilities]
) -> Iterator[Diagnostic]:
    provider = capabilities.get(candidate.provider)
    if provider is None or candidate.provider not in configuration.providers:
        yield Diagnostic(
            id="unknown-provider",
            summary=f"the provider `{candidate.provider}` is not configured",
            labels=(Label(configuration.at(desired, candidate, "provider"), "asked for here"),),
            hint="write it under `providers:`, or choose one that is there",
        )
        return
    kind = provider.kinds.get(desired.kind)
    if kind is None:
        words = f"{desired.kind.replace('_', ' ')}s"
        having = [other for other, able in capabilities.items() if desired.kind in able.kinds]
        yield _lacks(desired, candidate, configuration, None, words, having)
        return
    names = candidate.attrs.keys()
    for name in sorted((names - kind.attributes.keys()) | (names & _FLAGS.keys())):
        if _asks(candidate.attrs[name]) and not _honours(provider, kind, name):
            having = [
                other for other, able in capabilities.items() if _honours(able, able.kinds.get(desired.kind), name)
            ]
            words = _WORDS.get(name, f"`{name}`")
            yield _lacks(desired, candidate, configuration, name, words, having, why=provider.lacks.get(name, ""))
    gpu = candidate.attrs.get("gpu") if "gpu" in kind.attributes else None
    if not provider.multi_gpu and isinstance(gpu, str) and gpu.partition(":")[2] not in ("", "1"):
        having = [other for other, able in capabilities.items() if able.multi_gpu]
        yield _lacks(desired, candidate, configuration, "gpu", "nodes with several GPUs", having)
    for home in homes_in_spec(candidate.attrs, configuration):
        if apart := _apart(home, candidate, configuration):
            yield _elsewhere(desired, candidate, configuration, home.volume, apart)
    for name in sorted(kind.required - candidate.attrs.keys()):
        yield Diagnostic(
            id="missing-attribute",
            summary=f"`{desired.address.block}` needs `{name}` at `{candidate.provider}`",
            labels=(
                Label(At(desired.path, key=True), "it is missing here"),
                _source(desired, candidate, configuration),
            ),
            hint=f"add `{name}`",
        )


def _apart(home: Home, candidate: Candidate, configuration: Configuration) -> str:
    """In what a node would not be where its volume is, as far as the spec tells; empty when nothing speaks against."""
    # Two blocks of one type may be one account.
    types = {
        block.type for name, block in configuration.providers.items() if name in (home.provider, candidate.provider)
    }
    if len(types) > 1:
        return "provider"
    for name, place in (("region", home.region), ("zone", home.zone)):
        wanted = candidate.attrs.get(name)
        if place and isinstance(wanted, str) and wanted != place:
            return name
    return ""


def _elsewhere(
    desired: Desired, candidate: Candidate, configuration: Configuration, address: Address, name: str
) -> Diagnostic:
    volume = configuration.instances[address]
    return Diagnostic(
        id="volume-elsewhere",
        summary=f"`{desired.address.block}` cannot mount `{address}`: it is {'at' if name == 'provider' else 'in'} "
        f"another {name}",
        labels=(
            Label(configuration.at(desired, candidate, name), "the node would be here"),
            Label(configuration.at(volume, volume.candidates[0], name), "the volume is here"),
        ),
        hint=f"give both the same `{name}`",
    )


def _honours(provider: Capabilities, kind: KindCapabilities | None, name: str) -> bool:
    if kind is None or (name in _FLAGS and not any(getattr(provider, flag) for flag in _FLAGS[name])):
        return False
    return name in kind.attributes or name == STOPPED


def _asks(value: Value) -> bool:
    return value is not None and value is not False


def _lacks(
    desired: Desired,
    candidate: Candidate,
    configuration: Configuration,
    attribute: str | None,
    words: str,
    having: list[str],
    *,
    why: str = "",
) -> Diagnostic:
    if attribute is None:
        asked = At(desired.path, key=True)
    else:
        asked = At(configuration.at(desired, candidate, attribute).path, key=True)
    hint = f"these have {words}: {', '.join(sorted(having))}" if having else "remove it, or choose another provider"
    return Diagnostic(
        id="unsupported-by-provider",
        summary=f"`{candidate.provider}` has no {words}",
        labels=(Label(asked, "asked for here"), _source(desired, candidate, configuration)),
        facts=(why,) if why else (),
        hint=hint,
    )


def _source(desired: Desired, candidate: Candidate, configuration: Configuration) -> Label:
    return Label(configuration.at(desired, candidate, "provider"), "the provider comes from here")


def check(
    changes: Mapping[Address, Change],
    configuration: Configuration,
    capabilities: Mapping[str, Capabilities],
    options: PlanOptions,
    hourly: tuple[Decimal | None, Decimal | None],
    sink: Sink,
) -> None:
    """Everything that can only be said of the finished changes. `hourly` is what all costs before and after."""
    sink.extend(_nowhere(changes.values()))
    sink.extend(_protected(changes.values(), configuration))
    sink.extend(_too_many(changes.values(), options))
    sink.extend(_too_expensive(configuration, options, *hourly))
    sink.extend(_unpriced(changes.values(), configuration, options))
    sink.extend(_discouraged(changes.values(), configuration, capabilities))


def _nowhere(changes: Iterable[Change]) -> Iterator[Diagnostic]:
    """Creates without a place. Equal nodes share their places and are one finding."""
    homeless: dict[int, list[Change]] = {}
    for change in changes:
        if change.action in _CREATES and change.chosen is None:
            homeless.setdefault(id(change.places), []).append(change)
    for alike in homeless.values():
        first = alike[0]
        assert first.desired is not None
        addresses = [change.address for change in alike]
        yield Diagnostic(
            id="no-offer",
            summary=f"no provider has a place for `{first.address.block}`",
            labels=(Label(At(first.desired.path, key=True), "to be created"),),
            facts=(counted(addresses), *(_rejection(place) for place in first.places)),
            hint="ask for less, name more places, or look what there is",
            commands=("gpuplan offers --sort price",),
        )


def _rejection(place: Ranked) -> str:
    offer = place.offer
    if offer is None:
        return f"{place.candidate.provider}: {place.rejected}"
    price = "" if offer.price_per_hour is None else f" at {offer.price_per_hour} USD per hour"
    machine = f"{offer.gpu}:{offer.gpu_count}" if offer.gpu else offer.instance_type or offer.ref
    return f"{place.candidate.provider}: {place.rejected}, for one {machine} in {offer.region or 'any region'}{price}"


def _protected(changes: Iterable[Change], configuration: Configuration) -> Iterator[Diagnostic]:
    protected: dict[tuple[Address, Action], list[Change]] = {}
    for change in changes:
        if change.action in _DESTROYS:
            desired = configuration.instances.get(change.address)
            if desired is not None and desired.settings.lifecycle.prevent_destroy:
                protected.setdefault((change.address.block, change.action), []).append(change)
    for (block, action), alike in protected.items():
        desired = configuration.instances[alike[0].address]
        labels = [Label(At((*desired.path, "lifecycle", "prevent_destroy")), "forbidden here")]
        labels += [
            Label(reason.at, f"`{reason.path}` forces the replacement")
            for reason in alike[0].reasons
            if reason.forces_replace and reason.at is not None
        ]
        yield Diagnostic(
            id="prevent-destroy",
            summary=f"`{block}` must not be destroyed, but this plan would {action} it",
            labels=tuple(labels),
            facts=(
                counted([change.address for change in alike]),
                *(f"it {reason.text}" for reason in alike[0].reasons if reason.text and not reason.path),
            ),
            hint="take `prevent_destroy` away, or leave it out with --exclude",
        )


def check_settled(plan: Plan, state: State) -> None:
    """Refuse to create what an earlier run may have created already. Raises PlanError."""
    begun = {intent.address: intent for intent in state.intents.values() if intent.action == Action.CREATE}
    doubled = {o.address for o in plan.operations if o.action is Action.CREATE and o.address in begun}
    found = tuple(_may_exist(begun[address]) for address in sorted(doubled, key=lambda address: address.order))
    if found:
        raise PlanError(diagnostics=found)


def _may_exist(intent: Intent) -> Diagnostic:
    return Diagnostic(
        id="intent-open",
        summary=f"an earlier run may have created `{intent.address}` at `{intent.provider}`, and nobody could look",
        facts=(
            f"intent {intent.seq}, begun at {intent.begun_at:%Y-%m-%d %H:%M:%S} UTC, token {intent.token}",
            "nothing was sent to any provider",
        ),
        hint=f"plan again when `{intent.provider}` can be asked; if it never can, look yourself and say what is there",
        commands=(f"gpuplan state settle {intent.seq} created ID", f"gpuplan state settle {intent.seq} never"),
    )


def check_limits(plan: Plan, configuration: Configuration, options: PlanOptions) -> None:
    """Hold a plan that is made already against other limits. Raises PlanError."""
    dear = _too_expensive(configuration, options, plan.hourly_before, plan.hourly_after)
    found = (*_too_many(plan.changes.values(), options), *dear)
    if found:
        raise PlanError(diagnostics=found)


def _too_many(changes: Iterable[Change], options: PlanOptions) -> Iterator[Diagnostic]:
    if options.max_destroy is None:
        return
    doomed = [change.address for change in changes if change.action in _DESTROYS]
    if len(doomed) > options.max_destroy:
        yield Diagnostic(
            id="too-many-destroys",
            summary=f"this plan would destroy {len(doomed)}, and --max-destroy allows {options.max_destroy}",
            facts=(counted(doomed),),
            hint="read the plan without --max-destroy, then allow as many",
        )


def _too_expensive(
    configuration: Configuration, options: PlanOptions, before: Decimal | None, after: Decimal | None
) -> Iterator[Diagnostic]:
    """A plan that costs no more than what is there is let through: whoever is above the budget must be able to get
    back below it step by step."""
    if after is None or after <= (before or 0):
        return
    limits = (
        (configuration.max_hourly, (Label(At(("budget", "max_hourly")), "the budget"),), "the budget is"),
        (options.max_hourly, (), "--max-hourly is"),
    )
    for limit, labels, words in limits:
        if limit is not None and after > limit:
            yield Diagnostic(
                id="over-budget",
                summary=f"this plan comes to {after} USD per hour, and {words} {limit}",
                labels=labels,
                facts=(f"what is there now costs {before or 0} USD per hour",),
                hint="ask for less, or raise the limit",
            )


def _unpriced(changes: Iterable[Change], configuration: Configuration, options: PlanOptions) -> Iterator[Diagnostic]:
    """A limit says nothing of nodes whose price is not told."""
    if configuration.max_hourly is None and options.max_hourly is None:
        return
    unpriced = [change for change in changes if change.action in _CREATES and _tells_no_price(change)]
    if unpriced:
        first = unpriced[0]
        assert first.desired is not None
        yield Diagnostic(
            id="price-untold",
            summary="the limit of what may be spent leaves out nodes whose price nobody tells",
            labels=(Label(At(first.desired.path, key=True), "this costs something"),),
            facts=(counted([change.address for change in unpriced]),),
            severity=Severity.WARNING,
        )


def _tells_no_price(change: Change) -> bool:
    chosen = change.chosen
    return chosen is not None and chosen.offer is not None and chosen.offer.price_per_hour is None


def _discouraged(
    changes: Iterable[Change], configuration: Configuration, capabilities: Mapping[str, Capabilities]
) -> Iterator[Diagnostic]:
    """Warnings about providers that something new would be created at."""
    chosen = {
        place.candidate.provider
        for change in changes
        if change.action in _CREATES and (place := change.chosen) is not None
    }
    for provider in sorted(chosen):
        if why := capabilities[provider].deprecated:
            yield Diagnostic(
                id="deprecated-provider",
                summary=f"`{provider}` is discouraged for new nodes: {why}",
                labels=(Label(At(configuration.providers[provider].path, key=True), "configured here"),),
                severity=Severity.WARNING,
            )
