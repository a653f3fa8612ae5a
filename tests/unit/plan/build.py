"""Small worlds for planner tests: a spec, a state, what a refresh saw, and the plan made of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from gpuplan.core.address import Address
from gpuplan.core.capabilities import Capabilities, KindCapabilities, Mutability, ProviderKind
from gpuplan.core.desired import SECTIONS, Candidate, Configuration, Desired, Kind, ProviderBlock, Settings
from gpuplan.core.diagnostics import At, Diagnostic, Span
from gpuplan.core.observed import Observed, Status, Survey
from gpuplan.core.offers import Offer, Pricing
from gpuplan.core.plan import Action, Plan, PlanOptions
from gpuplan.core.state import Phase, Recorded, State
from gpuplan.core.values import Deferred, Ref, Value, leaves
from gpuplan.plan.planner import make_plan

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
KEY = b"k" * 32
PROVIDER = "here"

_NODE = {
    **dict.fromkeys(("gpu", "image", "region", "cpu", "memory_gb", "spot", "volumes", "setup"), Mutability.REPLACE),
    **dict.fromkeys(("labels", "ports", "notes"), Mutability.IN_PLACE),
    "env": Mutability.RESTARTS,
    "instance_type": Mutability.NEEDS_STOP,
    "disk_gb": Mutability.GROW_ONLY,
    "memo": Mutability.LOCAL,
}
_KINDS = {
    Kind.NODE: KindCapabilities(_NODE),
    Kind.VOLUME: KindCapabilities({"size_gb": Mutability.GROW_ONLY, "region": Mutability.REPLACE}),
    Kind.SSH_KEY: KindCapabilities({"public_key": Mutability.REPLACE}),
}
PLAIN = Capabilities(
    ProviderKind.CLOUD, _KINDS, spot=True, stop_start=True, bills_when_stopped=False, exec=True, offers=False
)
PLAIN_SETTINGS = Settings()
GROUPS = replace(PLAIN, kinds={Kind.GROUP: KindCapabilities({**_NODE, "nodes": Mutability.IN_PLACE})})


class Everywhere:
    """A locator for which every path is written somewhere."""

    def locate(self, at: At) -> Span | None:
        return Span("gpuplan.yaml", 1, 1)

    def line(self, file: str, line: int) -> str | None:
        return None


def address(text: str) -> Address:
    return Address.parse(text)


def want(
    name: str,
    attrs: Mapping[str, Value] | None = None,
    *,
    needs: Sequence[str] = (),
    provider: str = PROVIDER,
    candidates: tuple[Candidate, ...] = (),
    settings: Settings = PLAIN_SETTINGS,
    kind: Kind | None = None,
) -> Desired:
    """One desired instance; references inside the attributes are dependencies."""
    place = address(name)
    attrs = attrs or {}
    path = (place.kind, place.name)
    found = {leaf for value in attrs.values() for leaf in leaves(value)}
    refs = {leaf.address for leaf in found if isinstance(leaf, Ref)}
    refs |= {ref for leaf in found if isinstance(leaf, Deferred) for ref in leaf.refs}
    return Desired(
        place,
        kind or SECTIONS[place.kind],
        candidates or (Candidate(provider, attrs, path),),
        frozenset(refs | {address(need) for need in needs}),
        path,
        settings,
    )


def cluster(name: str, nodes: int, attrs: Mapping[str, Value] | None = None, **more: Any) -> list[Desired]:
    """The nodes of a cluster; they share candidates and settings as the spec room makes them share."""
    first = want(f"clusters.{name}.nodes[0]", attrs, **more)
    return [replace(first, address=Address("clusters", name, None, number)) for number in range(nodes)]


def spec(*instances: Desired, providers: Sequence[str] = (PROVIDER,), **more: Any) -> Configuration:
    blocks = {name: ProviderBlock(name, "memory", {}, ("providers", name)) for name in providers}
    return Configuration(
        project="test",
        instances={instance.address: instance for instance in instances},
        providers=more.pop("blocks", blocks),
        digest="digest",
        locator=Everywhere(),
        **more,
    )


def have(name: str, attrs: Mapping[str, Value] | None = None, *, needs: Sequence[str] = (), **more: Any) -> Recorded:
    """One recorded instance; its id is its address."""
    place = address(name)
    known: dict[str, Any] = {
        "kind": SECTIONS[place.kind],
        "provider": PROVIDER,
        "account": "acct",
        "remote_id": name,
        "token": "t",
        "facts": {},
        "created_at": NOW,
        "phase": Phase.READY,
    }
    return Recorded(place, attrs=attrs or {}, depends_on=frozenset(map(address, needs)), **{**known, **more})


def state(*instances: Recorded) -> State:
    return State("lineage", 7, KEY, "test", {instance.address: instance for instance in instances})


def seen(recorded: Recorded, status: Status = Status.RUNNING, **more: Any) -> Observed:
    return Observed(recorded.kind, recorded.remote_id, status, **more)


def survey(prior: State, *changes: tuple[str, Observed | None], **more: Any) -> Survey:
    """Everything recorded is there and running, but for `changes`."""
    sights: dict[Address, Observed | None] = {place: seen(known) for place, known in prior.instances.items()}
    sights |= {address(name): observed for name, observed in changes}
    return Survey(sights, accounts={PROVIDER: "acct"}, **more)


def plan(
    configuration: Configuration,
    prior: State | None = None,
    sights: Survey | None = None,
    *,
    capabilities: Mapping[str, Capabilities] | None = None,
    offers: Mapping[str, Sequence[Offer]] | None = None,
    now: datetime = NOW,
    **options: Any,
) -> Plan:
    prior = prior or state()
    return make_plan(
        configuration,
        prior,
        sights or survey(prior),
        capabilities=capabilities or dict.fromkeys(configuration.providers, PLAIN),
        offers=offers or {},
        options=PlanOptions(**options),
        now=now,
    )


def offer(ref: str, price: str | None = None, *, gpu: str = "L40S:1", provider: str = PROVIDER, **more: Any) -> Offer:
    name, _, count = gpu.partition(":")
    terms: dict[str, Any] = {"region": "EU", "pricing": Pricing.ON_DEMAND, "seen_at": NOW}
    cost = None if price is None else Decimal(price)
    return Offer(provider, ref, gpu=name, gpu_count=int(count or 0), price_per_hour=cost, **{**terms, **more})


def actions(made: Plan) -> dict[str, str]:
    """What happens to each instance that does not stay as it is."""
    return {
        str(place): change.action.value for place, change in made.changes.items() if change.action is not Action.NO_OP
    }


def ids(made: Plan) -> list[str]:
    return [operation.id for operation in made.operations]


def order(made: Plan, *wanted: str) -> list[str]:
    """The wanted operations in their order, after a check that each comes after all it needs."""
    done: set[str] = set()
    for operation in made.operations:
        assert done.issuperset(operation.needs), f"{operation.id} comes before {set(operation.needs) - done}"
        done.add(operation.id)
    return [name for name in ids(made) if name in wanted]


def findings(error: Any) -> dict[str, Diagnostic]:
    """The diagnostics of a refused plan by id."""
    return {diagnostic.id: diagnostic for diagnostic in error.value.diagnostics}
